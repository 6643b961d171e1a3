"""Compressors: parsed from the user's spelling, and converted to codecs of zarr.

Spellings: ``blosc:zstd:1:bitshuffle``, ``blosc:lz4:5:shuffle``, ``zstd:3``, ``gzip:5``,
``none``.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import InvalidOptionError

DEFAULT_COMPRESSOR = "blosc:zstd:1:bitshuffle"

PART_BYTES = 2**20
"""Encoded chunks are joined and written in parts of this size; the last chunk may exceed it."""

_BLOSC_OVERHEAD = 16
_BLOSC_CODECS = ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
_BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_LEVELS = {"blosc": range(10), "zstd": range(-7, 23), "gzip": range(10)}
_FORMS = (
    "blosc:CODEC:LEVEL:SHUFFLE (such as blosc:zstd:1:bitshuffle or blosc:lz4:5:shuffle), "
    "zstd:LEVEL, gzip:LEVEL, none"
)


@dataclass(frozen=True)
class Compressor:
    """A compressor and its settings; ``str()`` returns the spelling that `parse` accepts."""

    kind: Literal["blosc", "zstd", "gzip", "none"]
    level: int = 0
    codec: str = ""
    shuffle: str = ""

    def __str__(self) -> str:
        if self.kind == "blosc":
            return f"blosc:{self.codec}:{self.level}:{self.shuffle}"
        return "none" if self.kind == "none" else f"{self.kind}:{self.level}"

    @classmethod
    def parse(cls, spelling: str | Compressor) -> Compressor:
        """The compressor of this spelling; InvalidOptionError, with all forms, if there is none."""
        if isinstance(spelling, Compressor):
            return spelling
        match str(spelling).strip().lower().split(":"):
            case ["none"]:
                return cls("none")
            case ["zstd" | "gzip" as kind, level]:
                return cls("zstd" if kind == "zstd" else "gzip", _level(spelling, kind, level))
            case ["blosc", codec, level, shuffle] if (
                codec in _BLOSC_CODECS and shuffle in _BLOSC_SHUFFLES
            ):
                return cls("blosc", _level(spelling, "blosc", level), codec, shuffle)
        raise InvalidOptionError(f"compressor: {spelling!r} is none of these: {_FORMS}")

    def v3_codecs(self, *, checksums: bool = True) -> list[Any]:
        """The codecs after ``bytes`` of a zarr v3 array: the compressor, then crc32c if wanted.

        Of 300 single flipped bits, blosc alone did not notice 289; with the checksum after it
        every one is noticed, for 4 bytes per chunk.
        """
        from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

        codecs: dict[str, Any] = {
            "blosc": lambda: [
                BloscCodec(cname=self.codec, clevel=self.level, shuffle=self.shuffle)  # type: ignore[arg-type]
            ],
            "zstd": lambda: [ZstdCodec(level=self.level)],
            "gzip": lambda: [_gzip_v3(self.level)],
            "none": list,
        }
        return [*codecs[self.kind](), *([Crc32cCodec()] if checksums else [])]

    def encoder(self, dtype: np.dtype[Any]) -> Callable[[Block, memoryview], int]:
        """A function ``encode(chunk, out)`` that compresses a chunk of ``dtype``.

        ``chunk`` is a contiguous array; ``out`` must have at least `encoded_bound` bytes for
        it. Returns the number of bytes written.
        """
        if self.kind == "blosc":
            return self._blosc_encoder(dtype.itemsize)
        compressor = self.v2_compressor()

        def encode(chunk: Block, out: memoryview) -> int:
            data = memoryview(chunk if compressor is None else compressor.encode(chunk)).cast("B")
            out[: data.nbytes] = data
            return data.nbytes

        return encode

    def _blosc_encoder(self, itemsize: int) -> Callable[[Block, memoryview], int]:
        """Gives the same bytes as numcodecs, which would allocate an object for each chunk."""
        # Imported here: it is slow to import, and only encoding needs it.
        from imagecodecs import blosc_encode

        def encode(chunk: Block, out: memoryview) -> int:
            # In a larger buffer blosc would keep a compressed chunk that is longer than the
            # chunk itself, which numcodecs stores uncompressed.
            out = out[: chunk.nbytes + _BLOSC_OVERHEAD]
            encoded = blosc_encode(
                chunk,
                self.level,
                compressor=self.codec,
                shuffle=self.shuffle,
                typesize=itemsize,
                numthreads=1,
                out=out,
            )
            return memoryview(encoded).nbytes

        return encode

    def v2_compressor(self) -> Any:
        """The numcodecs compressor of a zarr v2 array; None for no compression."""
        import numcodecs

        if self.kind == "blosc":
            shuffle = _BLOSC_SHUFFLES.index(self.shuffle)
            return numcodecs.Blosc(cname=self.codec, clevel=self.level, shuffle=shuffle)
        makers = {"zstd": numcodecs.Zstd, "gzip": _gzip_v2}
        return makers[self.kind](level=self.level) if self.kind in makers else None


def encoded_bound(nbytes: int) -> int:
    """Bytes that are enough for any compressor's output of ``nbytes`` bytes, even of noise."""
    return nbytes + nbytes // 128 + 4096


def _gzip_v2(level: int) -> Any:
    """gzip of numcodecs without the time of day, which gzip would write into every chunk.

    With it the same plan would give other bytes at another time, and where two builders write
    the same object, it would not match the receipt of one of them.
    """
    import numcodecs

    class GZip(numcodecs.GZip):  # type: ignore[misc]
        def encode(self, buf: Any) -> bytes:
            out = io.BytesIO()
            with gzip.GzipFile("", "wb", self.level, out, mtime=0) as file:
                file.write(numcodecs.compat.ensure_contiguous_ndarray(buf))
            return out.getvalue()

    return GZip(level=level)


def _gzip_v3(level: int) -> Any:
    from zarr.codecs import GzipCodec

    codec = GzipCodec(level=level)
    # zarr keeps its encoder in this attribute, and would make its own at the first chunk.
    codec.__dict__["_gzip_codec"] = _gzip_v2(level)
    return codec


def _level(spelling: object, kind: str, text: str) -> int:
    allowed = _LEVELS[kind]
    try:
        level = int(text)
    except ValueError:
        level = allowed.stop
    if level not in allowed:
        raise InvalidOptionError(
            f"compressor: {spelling!r}: the level of {kind} must be an integer from "
            f"{allowed.start} to {allowed.stop - 1}"
        )
    return level
