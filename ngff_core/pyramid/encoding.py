"""Encoding regions as zarr stores them: chunks, and shards of chunks.

zarr's own pipeline gives the same bytes and takes a third longer: for a 256³ shard of uint16 on
one core it takes 105 ms, this module 80 ms, and the compressor alone 75 ms. zarr's work is also
done by threads of its own, so two regions at once slow each other down.

Chunks are compressed into a buffer that is written whenever it has some bytes. So encoded bytes
are written while they are in the processor's cache, and a local disk needs no memory for an
object. With a bytes object for each chunk, chunks of 256² took a fifth longer: the system clears
memory each time it is allocated.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Buffer, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np

from ngff_core.blocks import Block, BlockedArray
from ngff_core.geometry import Region, Shape
from ngff_core.memory import ScratchBuffer
from ngff_core.plan.compressors import PART_BYTES, Compressor, encoded_bound
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.storage.zarr_compat import shard_order

_CRC_BYTES = 4
_INDEX_BYTES = 16
_ABSENT = 2**64 - 1
_padded_chunks, _part_buffers = ScratchBuffer(), ScratchBuffer()


@dataclass(frozen=True)
class Encoded:
    """One encoded object: its size in bytes and the CRC-32C of its bytes.

    ``samples_crc32c`` is the checksum of the region's samples up to the last one of this object.
    """

    size: int
    crc32c: int
    samples_crc32c: int


class LevelEncoder:
    """Encodes regions of one level. Threads may share an instance."""

    def __init__(self, plan: PyramidPlan, level: LevelPlan) -> None:
        self._plan = plan
        self._level = level
        self._dtype = plan.dtype
        self._compress = Compressor.parse(plan.compressor).encoder(self._dtype)
        unit = level.write_unit
        self._grid = tuple(u // c for u, c in zip(unit, level.chunks, strict=True))
        chunk = encoded_bound(math.prod(level.chunks) * self._dtype.itemsize)
        self._most = max(chunk, _INDEX_BYTES * math.prod(self._grid)) + _CRC_BYTES
        # The order in which zarr writes the chunks of a shard.
        self._order = shard_order(self._grid)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which samples are encoded."""
        return self._dtype

    def key(self, position: Shape) -> str:
        """Key of an object, below the array."""
        return self._plan.object_key(position)

    def encode(
        self,
        position: Shape,
        samples: BlockedArray,
        put: Callable[[Buffer], object],
        before: int = 0,
    ) -> Encoded:
        """Encode one object of a region, by its position in the grid of objects.

        ``samples`` are those of the region, ``before`` is their checksum up to this object.
        ``put`` is called with one part of the object after another; a part is valid during the
        call only.

        A shard is its chunks and then their index, by the sharding codec of zarr v3: an offset
        and a length for each chunk in C order, as little-endian uint64, and the CRC-32C of these.
        """
        samples, crc = samples.astype(self._dtype), before
        index = np.full((*self._grid, 2), _ABSENT, "<u8")
        parts = _Parts(put, self._most)
        for cell, box in self._chunks_in(position):
            chunk = self._padded(box, samples)
            crc = _crc(chunk, crc)
            free = parts.free()
            size = self._compress(chunk, free)
            if self._plan.zarr_format == 3 and self._plan.checksums:
                size += _append_crc(free, size)
            index[cell] = parts.size, size
            parts.add(size)
        if self._level.shards is not None:
            free = parts.free()
            free[: index.nbytes] = index.reshape(-1).view(np.uint8).data
            parts.add(index.nbytes + _append_crc(free, index.nbytes))
        parts.flush()
        return Encoded(parts.size, parts.crc, crc)

    def checksum(self, region: Region, samples: BlockedArray) -> int:
        """CRC-32C of the samples of a region: of its chunks before compression, one after another.

        A chunk is little-endian, in C order, and padded with zeros where the level ends inside
        it. Objects are in C order, the chunks of a shard in the order in which zarr writes them.
        So `encode` computes the same checksum without a pass of its own.
        """
        samples, crc = samples.astype(self._dtype), 0
        for at in self._level.object_positions(region):
            for _, box in self._chunks_in(at):
                crc = _crc(self._padded(box, samples), crc)
        return crc

    def _chunks_in(self, position: Shape) -> Iterator[tuple[Shape, Region]]:
        """Each chunk of an object that begins inside the level: its cell in the object, its box."""
        shape, chunks = self._level.shape, self._level.chunks
        origin = tuple(map(operator.mul, position, self._level.write_unit))
        for cell in self._order:
            start = tuple(o + i * c for o, i, c in zip(origin, cell, chunks, strict=True))
            if all(map(operator.lt, start, shape)):
                stop = tuple(map(min, map(operator.add, start, chunks), shape))
                yield cell, Region(start, stop)

    def _padded(self, box: Region, samples: BlockedArray) -> Block:
        """The samples of a chunk as they are encoded: in full chunk shape, in C order.

        No copy is made where the samples are stored like that.
        """
        part = samples.part(box)
        if part.shape == self._level.chunks and part.flags.c_contiguous:
            return part
        padded = _padded_chunks.array(self._level.chunks, self._dtype)
        if part.shape != padded.shape:
            padded[...] = 0
        padded[tuple(map(slice, part.shape))] = part
        return padded


class _Parts:
    """Puts an object in parts, and counts its size and its checksum.

    ``most`` is the most bytes that are added at once.
    """

    def __init__(self, put: Callable[[Buffer], object], most: int) -> None:
        self._put = put
        self._most = most
        self._buffer = _part_buffers.array((PART_BYTES + most,), np.dtype(np.uint8)).data
        self._used = 0
        self.size = 0
        self.crc = 0

    def free(self) -> memoryview:
        """Memory for the next bytes: as many as are ever added at once."""
        if self._used > PART_BYTES:
            self.flush()
        return self._buffer[self._used : self._used + self._most]

    def add(self, size: int) -> None:
        """Add the first ``size`` bytes of the free memory to the object."""
        self._used += size
        self.size += size

    def flush(self) -> None:
        """Put the bytes that were added since the last part."""
        part = self._buffer[: self._used]
        self.crc = _crc(part, self.crc)
        self._put(part)
        self._used = 0


def _append_crc(memory: memoryview, size: int) -> int:
    """Write the checksum of the first ``size`` bytes after them; return its own size."""
    memory[size : size + _CRC_BYTES] = _crc(memory[:size]).to_bytes(_CRC_BYTES, "little")
    return _CRC_BYTES


def _crc(data: Buffer, before: int = 0) -> int:
    return int(crc32c.crc32c(data, before))
