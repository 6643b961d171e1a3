"""Chunks of a zarr array on the local disk, decoded straight into the arrays that keep them.

zarr decodes a chunk into memory of its own and copies it into the array that was asked for.
Decoding chunk by chunk into memory of earlier regions instead, reading two thirds of a
1 GiB image took 1.3 s of processor time instead of 2.2 in chunks of 1024², and 1.5 instead
of 1.9 in chunks of 128³. Only simple cases are read this way: boxes of complete chunks, and
the codecs listed here. zarr reads everything else, and judges chunks that are damaged.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import zarr

from ngff_core.blocks import Block, BlockedArray, carve
from ngff_core.geometry import Region, Shape, grid_shape
from ngff_core.memory import ScratchBuffer, region_memory

_CRC_BYTES = 4
_MOST_CHUNKS = 1024
"""Chunks of one box at most: with more, small ones, the work for each outweighs the gain."""
_files, _chunks = ScratchBuffer(), ScratchBuffer()

Decode = Callable[[Block, Block], int]
"""``decode(data, out)``: decodes bytes into ``out``; both are flat uint8 arrays. Returns the
number of bytes that it decoded."""


@dataclass(frozen=True, eq=False)
class ChunkFiles:
    """A zarr array whose chunks are files that can be decoded one by one, without zarr."""

    folder: Path
    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    key: Callable[[Shape], str]
    """Path of a chunk's file below the folder, by the chunk's position in the grid."""
    decode: Decode
    fill: Any
    """Value of the samples of an absent chunk; None where only zarr knows it."""

    @classmethod
    def of(cls, array: zarr.Array[Any], folder: Path) -> ChunkFiles | None:
        """The chunk files of an array stored in ``folder``; None where only zarr can read them."""
        dtype, metadata = np.dtype(array.dtype), array.metadata
        try:
            chunks = array.chunks
        except NotImplementedError:  # a grid of unequal chunks
            return None
        decode = _decoder(array)
        if decode is None or not dtype.isnative or dtype.kind not in "biufc":
            return None
        key, fill = metadata.encode_chunk_key, metadata.fill_value
        return cls(folder, array.shape, chunks, dtype, key, decode, fill)

    def read(self, box: Region) -> BlockedArray | None:
        """The samples of ``box``, one array per chunk.

        None where zarr must read it: the box cuts a chunk, has more than 1024 chunks, or one
        of its chunks cannot be decoded here.
        """
        cells = math.prod(grid_shape(box.shape, self.chunks))
        if not self._is_of_complete_chunks(box) or cells > _MOST_CHUNKS:
            return None
        memory = region_memory.array((box.size,), self.dtype)
        blocks = []
        for region, block in carve(box, self.chunks, memory):
            if not self._read_chunk(region, block):
                return None
            blocks.append(block)
        return BlockedArray(box, self.chunks, tuple(blocks))

    def _is_of_complete_chunks(self, box: Region) -> bool:
        return all(
            a % c == 0 and (b % c == 0 or b == n)
            for a, b, c, n in zip(box.start, box.stop, self.chunks, self.shape, strict=True)
        )

    def _read_chunk(self, region: Region, block: Block) -> bool:
        """Fill ``block`` with the chunk's samples; False where that failed."""
        at = tuple(a // c for a, c in zip(region.start, self.chunks, strict=True))
        data = read_file(self.folder / self.key(at))
        if data is None:
            if self.fill is not None:
                block[...] = self.fill
            return self.fill is not None
        if region.shape == self.chunks:
            return self._decode_chunk(data, block)
        # A stored chunk at the array's end is padded beyond it.
        padded = _chunks.array(self.chunks, self.dtype)
        done = self._decode_chunk(data, padded)
        block[...] = padded[tuple(map(slice, region.shape))]
        return done

    def _decode_chunk(self, data: Block, out: Block) -> bool:
        try:
            return self.decode(data, out.reshape(-1).view(np.uint8)) == out.nbytes
        except (RuntimeError, ValueError):
            return False


def read_file(path: Path) -> Block | None:
    """The bytes of a file, as a flat uint8 array; None if there is no such file.

    The array is valid until this thread's next call. Where the file is being cut it may
    have fewer bytes than expected, which the decoder refuses.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    try:
        nbytes = os.fstat(file).st_size
        data = _files.array((nbytes,), np.dtype(np.uint8))
        done = 0
        # One call reads at most 2 GiB.
        while done < nbytes and (more := os.readv(file, [data[done:].data])):
            done += more
        return data[:done]
    finally:
        os.close(file)


def _decoder(array: zarr.Array[Any]) -> Decode | None:
    """The array's codecs as one function; None where one of them is not supported here."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        plain = metadata.order == "C" and not metadata.filters
        names = [metadata.compressor.codec_id] if metadata.compressor is not None else []
    else:
        codecs: list[Any] = [codec.to_dict() for codec in metadata.codecs]
        first = codecs[0] if codecs else {}
        endian = first.get("configuration", {}).get("endian", sys.byteorder)
        plain = first.get("name") == "bytes" and endian == sys.byteorder
        names = [str(codec["name"]) for codec in codecs[1:]]
    return _chain(names) if plain else None


def _chain(names: list[str]) -> Decode | None:
    """The function that undoes the codecs of these names, given in the order of encoding."""
    match names:
        case []:
            return _copy
        case ["blosc"]:
            return _decode_blosc
        case ["zstd"]:
            return _decode_zstd
        case [*before, "crc32c"] if "crc32c" not in before:
            decode = _chain(before)
            return None if decode is None else partial(_decode_checked, decode)
    return None


def _copy(data: Block, out: Block) -> int:
    out[...] = data
    return data.nbytes


def _decode_blosc(data: Block, out: Block) -> int:
    from numcodecs import blosc

    # c-blosc trusts the lengths in a chunk's header, and would read beyond the end of a chunk
    # that is cut. By its README_CHUNK_FORMAT the header is 16 bytes; bytes 4 to 16 are three
    # little-endian uint32: the length of the decoded data, of a block and of the chunk itself.
    lengths = data[4:16].view("<u4").tolist() if data.nbytes >= 16 else []
    if lengths[::2] != [out.nbytes, data.nbytes]:
        return 0
    blosc.decompress(data, out)
    return out.nbytes


def _decode_zstd(data: Block, out: Block) -> int:
    from imagecodecs import zstd_decode

    return memoryview(zstd_decode(data, out=out.data)).nbytes


def _decode_checked(decode: Decode, data: Block, out: Block) -> int:
    """Check the CRC-32C at the end of ``data`` and decode the rest; 0 if it does not match."""
    before = data[:-_CRC_BYTES]
    matches = crc32c.crc32c(before) == int.from_bytes(data[-_CRC_BYTES:].tobytes(), "little")
    return decode(before, out) if matches else 0
