"""Codecs of zarr arrays that stop where a chunk unpacks to more than its samples.

A few kilobytes may unpack to gigabytes, and zarr's codecs unpack whatever they are given before
anyone looks at the length. An array of `with_bounds` refuses such a chunk; it takes no
more memory for it than for an honest one. The codecs' ``_decode_sync`` and ``_encode_sync``, which
zarr's pipelines call, are names of zarr's own; a test sees that they are there.
"""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec

from ngff_core.storage.zarr_compat import as_numpy_array_wrapper


def with_bounds(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, whose chunks unpack to their samples at most."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        nbytes = math.prod(metadata.chunks) * np.dtype(array.dtype).itemsize
        filters = [_BoundedV2(each, nbytes) for each in metadata.filters or ()] or None
        compressor = metadata.compressor and _BoundedV2(metadata.compressor, nbytes)
        bounded = replace(metadata, compressor=compressor, filters=filters)
    else:
        bounded = replace(metadata, codecs=_bounded_codecs(metadata.codecs))
    inner = array.async_array
    return zarr.Array(type(inner)(bounded, inner.store_path, inner.config))


def _bounded_codecs(codecs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(_bounded(codec) for codec in codecs)


def _bounded(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=_bounded_codecs(codec.codecs))
    return _BoundedV3(codec) if _kind_v3(codec) in _UNPACK else codec


def _kind_v3(codec: Any) -> str:
    name = codec.to_dict().get("name") if isinstance(codec, BytesBytesCodec) else ""
    return str(name).removeprefix("numcodecs.")


@dataclass(frozen=True)
class _BoundedV3(BytesBytesCodec):
    """A compressor of zarr v3 with a limit, which is known from the chunk that it is given."""

    codec: Any
    is_fixed_size = False

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        nbytes = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        unpack = _unpacker(_kind_v3(self.codec), nbytes)
        return as_numpy_array_wrapper(unpack, chunk_bytes, chunk_spec.prototype)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return self._decode_sync(chunk_bytes, chunk_spec)

    def _encode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return self.codec._encode_sync(chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await self.codec._encode_single(chunk_bytes, chunk_spec)

    def evolve_from_array_spec(self, array_spec: Any) -> Any:
        return _BoundedV3(self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        size: int = self.codec.compute_encoded_size(input_byte_length, chunk_spec)
        return size

    def to_dict(self) -> Any:
        return self.codec.to_dict()


class _BoundedV2(Codec):  # type: ignore[misc]
    """A compressor or filter of zarr v2, for chunks of ``nbytes``."""

    codec_id = ""
    """Of the codec inside; zarr asks for one of the class too."""

    def __init__(self, codec: Any, nbytes: int) -> None:
        self.codec_id = codec.codec_id
        self._codec, self._nbytes = codec, nbytes

    def decode(self, data: Any, out: Any = None) -> Any:
        if self.codec_id not in _UNPACK:
            return self._codec.decode(data, out)
        return _unpacker(self.codec_id, self._nbytes)(data)

    def encode(self, data: Any) -> Any:
        return self._codec.encode(data)

    def get_config(self) -> Any:
        return self._codec.get_config()

    @classmethod
    def from_config(cls, config: Any) -> Any:
        raise NotImplementedError("made from a codec, not from its configuration")


def _unpacker(kind: str, nbytes: int) -> Callable[[Any], Any]:
    """Unpacks the bytes of a chunk; raises ``ValueError`` for more than it may have."""
    # Some codecs before this one add to the samples: checksums, headers of other compressors.
    most = nbytes + nbytes // 8 + 4096

    def unpack(data: Any) -> Any:
        packed = memoryview(np.ascontiguousarray(data)).cast("B")
        found = _UNPACK[kind](packed, most)
        if found is None:
            raise ValueError(
                f"a chunk of {packed.nbytes} bytes unpacks to more than the {nbytes} of its "
                f"samples ({kind})"
            )
        return found

    return unpack


def _inflate(data: memoryview, most: int, window: int) -> bytes | None:
    parts: list[bytes] = []
    left: bytes | memoryview = data
    room = most + 1
    # A gzip file may have several members.
    while len(left) and room > 0:
        inflate = zlib.decompressobj(window)
        part = inflate.decompress(left, room)
        room -= len(part)
        parts.append(part)
        if not inflate.eof:
            if room > 0:
                raise ValueError("truncated: its compressed stream has no end")
            return None
        left = inflate.unused_data if window == _GZIP else b""
    return b"".join(parts) if room > 0 else None


def _read_stream(data: memoryview, most: int, stream: Any) -> bytes | None:
    found: bytes = stream.decompress(data, most + 1)
    if len(found) > most:
        return None
    if not stream.eof:
        raise ValueError("truncated: its compressed stream has no end")
    return found


def _unpack_zstd(data: memoryview, most: int) -> Any:
    from imagecodecs import ZstdError, zstd_decode

    try:
        return np.frombuffer(zstd_decode(data, out=bytearray(most)), np.uint8)
    except ZstdError as error:
        if "too small" in str(error):
            return None
        raise


def _unpack_blosc(data: memoryview, most: int) -> Any:
    from numcodecs import blosc

    # By c-blosc's README_CHUNK_FORMAT: the lengths of what is decoded, of a block, and of all.
    if data.nbytes < 16:
        raise ValueError(f"truncated: {data.nbytes} bytes are no chunk of blosc")
    decoded, _, encoded = (int.from_bytes(data[i : i + 4], "little") for i in (4, 8, 12))
    if encoded != data.nbytes:
        raise ValueError(f"truncated: {data.nbytes} of the {encoded} bytes of a chunk of blosc")
    return None if decoded > most else blosc.decompress(data)


def _unpack_lz4(data: memoryview, most: int) -> Any:
    from numcodecs import lz4

    claimed = int.from_bytes(data[:4], "little", signed=True)
    return None if claimed > most else lz4.decompress(data)


_GZIP, _ZLIB = 31, 15

_UNPACK: dict[str, Callable[[memoryview, int], Any]] = {
    "gzip": lambda data, most: _inflate(data, most, _GZIP),
    "zlib": lambda data, most: _inflate(data, most, _ZLIB),
    "bz2": lambda data, most: _read_stream(data, most, bz2.BZ2Decompressor()),
    "lzma": lambda data, most: _read_stream(data, most, lzma.LZMADecompressor()),
    "zstd": _unpack_zstd,
    "blosc": _unpack_blosc,
    "lz4": _unpack_lz4,
}
"""By name of the codec; each gives None for more bytes than it may."""
