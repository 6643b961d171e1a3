"""Compressors, spelled as users spell them, as zarr wants them.

``blosc:zstd:1:bitshuffle``, ``blosc:lz4:5:shuffle``, ``zstd:3``, ``gzip:5``, ``none``.
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
"""Of encoded chunks that wait to be put together; the last one goes beyond."""

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
    """A compressor and its settings; ``str()`` gives the spelling that `parse` reads."""

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
        """The compressor that ``spelling`` names, or an error that shows the forms."""
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
        raise InvalidOptionError(f"compressor {spelling!r} is none of these: {_FORMS}")

    def v3_codecs(self) -> list[Any]:
        """The codecs after ``bytes`` in a zarr v3 array: the compressor, then crc32c.

        Of 300 single flipped bits blosc alone let 289 through in silence; with the
        checksum after it none passes, for 4 bytes a chunk.
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
        return [*codecs[self.kind](), Crc32cCodec()]

    def encoder(self, dtype: np.dtype[Any]) -> Callable[[Block, memoryview], int]:
        """What compresses one chunk, a contiguous array, into room for it; the bytes it took.

        There must be `room_for` the chunk.
        """
        if self.kind == "blosc":
            return self._blosc_encoder(dtype.itemsize)
        compressor = self.v2_compressor()

        def encode(chunk: Block, room: memoryview) -> int:
            data = memoryview(chunk if compressor is None else compressor.encode(chunk)).cast("B")
            room[: data.nbytes] = data
            return data.nbytes

        return encode

    def _blosc_encoder(self, itemsize: int) -> Callable[[Block, memoryview], int]:
        """The same bytes as by numcodecs, which allots an object for each chunk."""
        # Slow to import, and only what encodes needs it.
        from imagecodecs import blosc_encode

        def encode(chunk: Block, room: memoryview) -> int:
            # With more room blosc would keep what compressing makes longer.
            room = room[: chunk.nbytes + _BLOSC_OVERHEAD]
            encoded = blosc_encode(
                chunk,
                self.level,
                compressor=self.codec,
                shuffle=self.shuffle,
                typesize=itemsize,
                numthreads=1,
                out=room,
            )
            return memoryview(encoded).nbytes

        return encode

    def v2_compressor(self) -> Any:
        """The numcodecs compressor of a zarr v2 array, or None."""
        import numcodecs

        if self.kind == "blosc":
            shuffle = _BLOSC_SHUFFLES.index(self.shuffle)
            return numcodecs.Blosc(cname=self.codec, clevel=self.level, shuffle=shuffle)
        makers = {"zstd": numcodecs.Zstd, "gzip": _gzip_v2}
        return makers[self.kind](level=self.level) if self.kind in makers else None


def room_for(nbytes: int) -> int:
    """Bytes enough for what any compressor makes of so many, incompressible ones too."""
    return nbytes + nbytes // 128 + 4096


def _gzip_v2(level: int) -> Any:
    """numcodecs's gzip without the time of day, which it writes into every chunk.

    The same plan gives the same bytes whenever it is built; two builders that meet on one
    object would otherwise leave one that the other's receipt contradicts.
    """
    import numcodecs

    class GZip(numcodecs.GZip):  # type: ignore[misc]
        def encode(self, buf: Any) -> bytes:
            found = io.BytesIO()
            with gzip.GzipFile("", "wb", self.level, found, mtime=0) as file:
                file.write(numcodecs.compat.ensure_contiguous_ndarray(buf))
            return found.getvalue()

    return GZip(level=level)


def _gzip_v3(level: int) -> Any:
    from zarr.codecs import GzipCodec

    codec = GzipCodec(level=level)
    # Where zarr keeps the encoder that it would make at the first chunk.
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
            f"compressor {spelling!r}: the level of {kind} is a whole number from "
            f"{allowed.start} to {allowed.stop - 1}"
        )
    return level
