"""Which regions of a level depend on which regions of the level that it is computed from.

A *tile* is what one region of the parent adds to the child: every sample whose window ends
inside that region. The window of a tile reaches back into the regions before it by the halo, and
never forward, so a tile can be computed as soon as its region and the regions before it have
been read. Tiles cover each sample of the child once. They are shifted back by the halo against
the child's own regions, so several tiles fill a region.

Everything here is a product of tables, one for each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np

from ngff_core.geometry import (
    Region,
    Shape,
    Window,
    ceil_div,
    grid_shape,
    number,
    position,
    window_of,
)
from ngff_core.plan.pyramid_plan import LevelPlan


@dataclass(frozen=True)
class Tile:
    """The samples ``out`` of the child, which are computed from ``window`` of the parent."""

    out: Region
    window: Window


PART_BYTES = 2 * 2**20
"""Bytes of a window that are copied together: kernels then read them from the processor's cache."""

_LEAST_PART = 32
"""Samples at least of a part along an axis with a halo: the halo is copied again for each part."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
"""A flag for each cell of a grid, by its position."""

_Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Axis:
    """The tiles along one axis; each table has an entry for each region of the parent."""

    out: tuple[tuple[int, int], ...]
    """Span of the child's samples that a tile has."""
    parents: _Table
    """Positions of the parent's regions that the window of a tile overlaps."""
    readers: _Table
    """Positions of the tiles whose windows overlap a region of the parent."""
    children: _Table
    """Positions of the child's regions that a tile adds to."""

    @cached_property
    def fillers(self) -> tuple[tuple[int, int], ...]:
        """The first and the last tile that add to each region of the child."""
        fillers: dict[int, tuple[int, int]] = {}
        for tile, regions in enumerate(self.children):
            for region in regions:
                fillers[region] = (fillers.get(region, (tile, tile))[0], tile)
        return tuple(fillers[region] for region in sorted(fillers))


@dataclass(frozen=True)
class LevelLink:
    """The link from a parent level to a child that is computed from it.

    ``halo`` is that of the kernel, in samples of the parent, by axis. Regions are numbered in C
    order; a tile has the number of the parent's region that completes it.
    """

    parent: LevelPlan
    child: LevelPlan
    halo: Shape

    @cached_property
    def parent_grid(self) -> Shape:
        return grid_shape(self.parent.shape, self.parent.block)

    @cached_property
    def child_grid(self) -> Shape:
        return grid_shape(self.child.shape, self.child.block)

    def tile(self, index: int) -> Tile:
        """The tile that region ``index`` of the parent completes; it may be empty."""
        spans = [
            axis.out[i]
            for axis, i in zip(self._axes, position(index, self.parent_grid), strict=True)
        ]
        out = Region(tuple(a for a, _ in spans), tuple(b for _, b in spans))
        return Tile(out, self.window(out))

    def window(self, out: Region) -> Window:
        """The window of the parent that a box of the child is computed from."""
        return window_of(out, self.child.step, self.halo, self.parent.shape)

    def part(self, itemsize: int) -> Shape:
        """The shape of the parts into which tiles are cut, whose windows have some `PART_BYTES`.

        ``itemsize`` is the bytes of a sample. Only one of the axes with a halo is cut: along z
        kernels compute nothing twice for it, along y too they would.
        """
        part = [max(b - a for a, b in axis.out) for axis in self._axes]
        for axis, n in enumerate(part):
            least = min(n, _LEAST_PART if self.halo[axis] else 1)
            while part[axis] > least and self._window_samples(part) * itemsize > PART_BYTES:
                part[axis] = max(least, ceil_div(part[axis], 2))
            if self.halo[axis] and part[axis] < n:
                break
        return tuple(part)

    def part_bytes(self, itemsize: int) -> int:
        """Bytes of the window of a part, at most."""
        return self._window_samples(self.part(itemsize)) * itemsize

    def _window_samples(self, shape: Sequence[int]) -> int:
        """Samples of the window of a box of this shape, at most."""
        axes = zip(shape, self.child.step, self.halo, self.parent.shape, strict=True)
        return prod(min(parent, (n + ceil_div(h, k)) * k + h) for n, k, h, parent in axes)

    def parents_of(self, tile: int) -> list[int]:
        """Regions of the parent that the window of a tile overlaps; none where it is empty."""
        return self._crossed(tile, self._parents)

    def tiles_reading(self, region: int) -> list[int]:
        """Tiles whose windows overlap a region of the parent, in C order."""
        return self._crossed(region, self._readers)

    def children_of(self, tile: int) -> list[int]:
        """Regions of the child that a tile adds to."""
        return self._crossed(tile, self._children)

    def tiles_into(self, wanted: Flags) -> Flags:
        """A flag for each tile that adds to a ``wanted`` region of the child; both by position."""
        return _any_overlapped(wanted, [axis.children for axis in self._axes])

    def regions_under(self, tiles: Flags) -> Flags:
        """A flag for each region of the parent that a window of ``tiles`` overlaps; by position."""
        return _any_overlapped(tiles, [axis.readers for axis in self._axes])

    def last_tile_of(self, region: int) -> int:
        """The last tile that adds to a region of the child."""
        at = position(region, self.child_grid)
        tile = [axis.fillers[i][1] for axis, i in zip(self._axes, at, strict=True)]
        return number(tile, self.parent_grid)

    def fillers(self, axis: int) -> tuple[tuple[int, int], ...]:
        """The first and the last tile that add to each of the child's regions, along one axis."""
        return self._axes[axis].fillers

    def reach(self, axis: int) -> int:
        """Samples that the window of a tile reaches back before its own region, at most."""
        return self._reach[axis]

    @cached_property
    def _reach(self) -> tuple[int, ...]:
        return tuple(self._reach_along(axis) for axis in range(len(self._axes)))

    def _reach_along(self, axis: int) -> int:
        block = self.parent.block[axis]
        starts = (
            window_of(
                Region((a,), (b,)),
                (self.child.step[axis],),
                (self.halo[axis],),
                (self.parent.shape[axis],),
            ).box.start[0]
            for a, b in self._axes[axis].out
        )
        return max(0, *(i * block - start for i, start in enumerate(starts)))

    def _crossed(self, index: int, tables: Sequence[_Table]) -> list[int]:
        at = position(index, self.parent_grid)
        return list(map(sum, product(*(table[i] for table, i in zip(tables, at, strict=True)))))

    @cached_property
    def _parents(self) -> tuple[_Table, ...]:
        return _numbered([axis.parents for axis in self._axes], self.parent_grid)

    @cached_property
    def _readers(self) -> tuple[_Table, ...]:
        return _numbered([axis.readers for axis in self._axes], self.parent_grid)

    @cached_property
    def _children(self) -> tuple[_Table, ...]:
        return _numbered([axis.children for axis in self._axes], self.child_grid)

    @cached_property
    def _axes(self) -> tuple[_Axis, ...]:
        return tuple(
            _axis(n, block, out_n, out_block, step, halo)
            for n, block, out_n, out_block, step, halo in zip(
                self.parent.shape,
                self.parent.block,
                self.child.shape,
                self.child.block,
                self.child.step,
                self.halo,
                strict=True,
            )
        )


def _axis(n: int, block: int, out_n: int, out_block: int, step: int, halo: int) -> _Axis:
    """One axis, from the lengths and blocks of the parent and of the child along it."""

    def complete(stop: int) -> int:
        """Samples of the child whose windows lie within the parent's first ``stop`` samples."""
        return out_n if stop == n else min(out_n, max(0, (stop - halo) // step))

    ends = [complete(min(n, a)) for a in (*range(0, n, block), n)]
    out = tuple(pairwise(ends))
    parents: list[tuple[int, ...]] = []
    for i, (a, b) in enumerate(out):
        window = window_of(Region((a,), (b,)), (step,), (halo,), (n,)).box
        parents.append(tuple(range(window.start[0] // block, i + 1)) if a < b else ())
    readers: list[list[int]] = [[] for _ in out]
    for tile, regions in enumerate(parents):
        for region in regions:
            readers[region].append(tile)
    children = (
        tuple(range(a // out_block, ceil_div(b, out_block))) if a < b else () for a, b in out
    )
    return _Axis(out, tuple(parents), tuple(map(tuple, readers)), tuple(children))


def _any_overlapped(flags: Flags, tables: Sequence[_Table]) -> Flags:
    """For each cell whether any flag is set in the box that it overlaps.

    ``tables`` has the positions along each axis that a cell overlaps, without gaps.
    """
    for axis, table in enumerate(tables):
        along = np.moveaxis(flags, axis, 0)
        reduced = np.zeros((len(table), *along.shape[1:]), bool)
        for i, positions in enumerate(table):
            if positions:
                along[positions[0] : positions[-1] + 1].any(axis=0, out=reduced[i])
        flags = np.moveaxis(reduced, 0, axis)
    return flags


def _numbered(tables: Sequence[_Table], grid: Shape) -> tuple[_Table, ...]:
    """The positions along each axis, times the stride of that axis in ``grid``.

    The sum over the axes is the number of a cell in C order.
    """
    strides = [prod(grid[axis + 1 :]) for axis in range(len(grid))]
    return tuple(
        tuple(tuple(i * stride for i in positions) for positions in table)
        for table, stride in zip(tables, strides, strict=True)
    )
