"""The samples of a box of a level, in one array or in several that lie side by side.

A chunk that is decoded to a place of its own, and encoded from there, is copied once less
on either way than one that goes into an array of the whole region.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from ngff_core.geometry import (
    Region,
    Shape,
    blocks,
    ceil_div,
    contains,
    grid_shape,
    intersection,
    is_box,
    within,
)
from ngff_core.memory import ScratchBuffer

Block = npt.NDArray[Any]


@runtime_checkable
class ArrayLike(Protocol):
    """What the core asks of an array: numpy, dask, zarr and opened files have it.

    ``array[slices]`` with one step-less slice per axis gives a numpy array, or
    something that ``numpy.asarray`` turns into one.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


Piece = tuple[Region, Block]


@dataclass(frozen=True, eq=False)
class BlockedArray:
    """``blocks`` tile ``box``: the cells of a grid of ``cell`` from its start, in C order."""

    box: Region
    cell: Shape
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, box: Region, block: Block) -> Self:
        """A box in one array."""
        return cls(box, box.shape, (block,))

    @property
    def shape(self) -> Shape:
        """Lengths of the box; those of the one array are what they are."""
        return self.blocks[0].shape if len(self.blocks) == 1 else self.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.blocks[0].dtype

    @cached_property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self.blocks)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Each array with the box that it holds."""
        return tuple(zip(blocks(self.box, self.cell), self.blocks, strict=True))

    def astype(self, dtype: np.dtype[Any]) -> BlockedArray:
        """The same as ``dtype``; no copy where it is."""
        if self.dtype == dtype:
            return self
        blocks = tuple(block.astype(dtype, copy=False) for block in self.blocks)
        return BlockedArray(self.box, self.cell, blocks)

    def part(self, box: Region) -> Block:
        """A view of a box inside, or a copy where it lies in several arrays."""
        index, inner = 0, []
        axes = zip(box.start, box.stop, self.box.start, self.cell, self._grid, strict=True)
        for start, stop, origin, cell, cells in axes:
            at = (start - origin) // cell
            first = origin + at * cell
            if stop > first + cell:
                return assemble(box, self._crossed(box))
            index = index * cells + at
            inner.append(slice(start - first, stop - first))
        return self.blocks[index][tuple(inner)]

    def _crossed(self, box: Region) -> list[Piece]:
        """The pieces that a box inside meets."""
        axes = zip(box.start, box.stop, self.box.start, self.cell, strict=True)
        spans = (range((a - o) // c, ceil_div(b - o, c)) for a, b, o, c in axes)
        strides = [math.prod(self._grid[axis + 1 :]) for axis in range(len(self._grid))]
        return [
            self.pieces[sum(map(operator.mul, at, strides))] for at in itertools.product(*spans)
        ]

    @cached_property
    def _grid(self) -> Shape:
        return grid_shape(self.box.shape, self.cell)


def carve(box: Region, cell: Shape, memory: Block) -> list[Piece]:
    """Places in flat ``memory`` for the cells of a box, one after another, in C order."""
    found, end = [], 0
    for region in blocks(box, cell):
        found.append((region, memory[end : end + region.size].reshape(region.shape)))
        end += region.size
    return found


def assemble(box: Region, pieces: Sequence[Piece], room: ScratchBuffer | None = None) -> Block:
    """The samples of ``box``, which ``pieces`` cover; no copy where one piece does.

    A copy lies in ``room``, if that is given, until it is used again.
    """
    for region, block in pieces:
        if contains(region, box):
            return block[within(box, region)]
    dtype = pieces[0][1].dtype
    found = np.empty(box.shape, dtype) if room is None else room.array(box.shape, dtype)
    for region, block in pieces:
        common = intersection(region, box)
        if is_box(common):
            found[within(common, box)] = block[within(common, region)]
    return found
