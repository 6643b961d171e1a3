"""The samples of a box of a level, in one array or in several arrays side by side.

A chunk that is decoded into an array of its own, and encoded from there, is copied once
less on reading and once less on writing than a chunk of one array of the whole region.
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
"""A numpy array of samples."""


@runtime_checkable
class ArrayLike(Protocol):
    """What the core needs of an array: numpy, dask, zarr and opened files have it.

    ``array[slices]``, with one slice without a step per axis, gives a numpy array, or
    something that ``numpy.asarray`` turns into one.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


PlacedBlock = tuple[Region, Block]
"""A box of a level, and an array of the box's shape with its samples."""


@dataclass(frozen=True, eq=False)
class BlockedArray:
    """The samples of ``box``, in one array for each cell of a grid from the box's start."""

    box: Region
    cell: Shape
    """Shape of a cell; the last cell on each axis is cut at the end of the box."""
    blocks: tuple[Block, ...]
    """The arrays of the cells, in C order, all of one dtype."""

    @classmethod
    def of(cls, box: Region, block: Block) -> Self:
        """The samples of ``box`` in the one array ``block``."""
        return cls(box, box.shape, (block,))

    @property
    def shape(self) -> Shape:
        """Shape of the one array as it is (a caller may check it); else that of the box."""
        return self.blocks[0].shape if len(self.blocks) == 1 else self.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of every array."""
        return self.blocks[0].dtype

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(block.nbytes for block in self.blocks)

    @cached_property
    def placed_blocks(self) -> tuple[PlacedBlock, ...]:
        """Each array with the box whose samples it holds, in C order."""
        return tuple(zip(blocks(self.box, self.cell), self.blocks, strict=True))

    def astype(self, dtype: np.dtype[Any]) -> BlockedArray:
        """The samples as ``dtype``; ``self`` if they have that dtype already."""
        if self.dtype == dtype:
            return self
        blocks = tuple(block.astype(dtype, copy=False) for block in self.blocks)
        return BlockedArray(self.box, self.cell, blocks)

    def part(self, box: Region) -> Block:
        """The samples of a box inside: a view if one array holds them all, else a copy."""
        index, inner = 0, []
        axes = zip(box.start, box.stop, self.box.start, self.cell, self._grid, strict=True)
        for start, stop, origin, cell, cells in axes:
            at = (start - origin) // cell
            first = origin + at * cell
            if stop > first + cell:
                return assemble(box, self._overlapping(box))
            index = index * cells + at
            inner.append(slice(start - first, stop - first))
        return self.blocks[index][tuple(inner)]

    def _overlapping(self, box: Region) -> list[PlacedBlock]:
        """The arrays, with their boxes, that hold any sample of a box inside."""
        axes = zip(box.start, box.stop, self.box.start, self.cell, strict=True)
        spans = (range((a - o) // c, ceil_div(b - o, c)) for a, b, o, c in axes)
        strides = [math.prod(self._grid[axis + 1 :]) for axis in range(len(self._grid))]
        return [
            self.placed_blocks[sum(map(operator.mul, at, strides))]
            for at in itertools.product(*spans)
        ]

    @cached_property
    def _grid(self) -> Shape:
        return grid_shape(self.box.shape, self.cell)


def carve(box: Region, cell: Shape, memory: Block) -> list[PlacedBlock]:
    """Cut flat ``memory`` into an array for each cell of ``box``, one after another.

    ``memory`` is 1-D, with at least ``box.size`` samples. The cells are those of a grid of
    ``cell`` from the box's start, in C order; each array is a C-contiguous view.
    """
    placed, end = [], 0
    for region in blocks(box, cell):
        placed.append((region, memory[end : end + region.size].reshape(region.shape)))
        end += region.size
    return placed


def assemble(
    box: Region, placed_blocks: Sequence[PlacedBlock], scratch: ScratchBuffer | None = None
) -> Block:
    """The samples of ``box``, which ``placed_blocks`` cover together.

    Where one array holds all of the box, the result is a view of it. Else it is a copy: in
    ``scratch`` if given, where it is valid until this thread uses that buffer again.
    """
    for region, block in placed_blocks:
        if contains(region, box):
            return block[within(box, region)]
    dtype = placed_blocks[0][1].dtype
    out = np.empty(box.shape, dtype) if scratch is None else scratch.array(box.shape, dtype)
    for region, block in placed_blocks:
        common = intersection(region, box)
        if is_box(common):
            out[within(common, box)] = block[within(common, region)]
    return out
