"""How the regions of a level flow into those of the level computed from it.

A *tile* is what one region of the parent adds to the child: every sample whose window
ends inside that region. Its window reaches back over the regions before it by the halo,
and never forward, so a tile can be computed as soon as its region and those before it are
there; and tiles cover each sample of the child once. Against the child's own regions they
are shifted back by the halo, so a region is filled by several tiles.

Everything here is a product of tables, one per axis.
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
    """Samples ``out`` of the child, computed from ``window`` of the parent."""

    out: Region
    window: Window


PART_BYTES = 2 * 2**20
"""Of a window that is copied together: kernels read it from the processor's cache then."""

_LEAST_PART = 32
"""Samples of a part along an axis with a halo, which is copied for each part anew."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]
"""A flag for each cell of a grid, by its position."""

_Table = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Axis:
    """The tiles along one axis; each table has an entry per region of the parent."""

    out: tuple[tuple[int, int], ...]
    parents: _Table
    """Positions of the parent's regions that a tile's window meets."""
    users: _Table
    """Positions of the tiles whose windows meet a region of the parent."""
    children: _Table
    """Positions of the child's regions that a tile adds to."""

    @cached_property
    def fillers(self) -> tuple[tuple[int, int], ...]:
        """The first and the last tile that add to each region of the child."""
        found: dict[int, tuple[int, int]] = {}
        for tile, met in enumerate(self.children):
            for region in met:
                found[region] = (found.get(region, (tile, tile))[0], tile)
        return tuple(found[region] for region in sorted(found))


@dataclass(frozen=True)
class LevelLink:
    """The way from a parent level to a child computed from it, ``halo`` being the kernel's.

    Regions and tiles go by the number of their region in C order; a tile has the number
    of the region that completes it.
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
        """The tile that the parent's region ``index`` completes; it may be empty."""
        spans = [
            axis.out[i]
            for axis, i in zip(self._axes, position(index, self.parent_grid), strict=True)
        ]
        out = Region(tuple(a for a, _ in spans), tuple(b for _, b in spans))
        return Tile(out, self.window(out))

    def window(self, out: Region) -> Window:
        """What a box of the child is computed from."""
        return window_of(out, self.child.step, self.halo, self.parent.shape)

    def part(self, itemsize: int) -> Shape:
        """How tiles are cut so that windows of samples of that size are some `PART_BYTES`.

        Of the axes with a halo one is cut: along z kernels compute nothing twice for it,
        along y too they would.
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
        """Bytes at most of the window of a part."""
        return self._window_samples(self.part(itemsize)) * itemsize

    def _window_samples(self, shape: Sequence[int]) -> int:
        """Samples of a box's window at most."""
        axes = zip(shape, self.child.step, self.halo, self.parent.shape, strict=True)
        return prod(min(parent, (n + ceil_div(h, k)) * k + h) for n, k, h, parent in axes)

    def parents_of(self, tile: int) -> list[int]:
        """Regions of the parent that the tile's window meets; none where it is empty."""
        return self._crossed(tile, self._parents)

    def tiles_reading(self, region: int) -> list[int]:
        """Tiles whose windows meet a region of the parent, in C order."""
        return self._crossed(region, self._users)

    def children_of(self, tile: int) -> list[int]:
        """Regions of the child that the tile adds to."""
        return self._crossed(tile, self._children)

    def tiles_into(self, wanted: Flags) -> Flags:
        """Which tiles add to a region of the child that is ``wanted``; both by position."""
        return _any_met(wanted, [axis.children for axis in self._axes])

    def regions_under(self, tiles: Flags) -> Flags:
        """Which regions of the parent the windows of some tiles meet; both by position."""
        return _any_met(tiles, [axis.users for axis in self._axes])

    def last_tile_of(self, region: int) -> int:
        """The tile after which a region of the child is whole, those before it being done."""
        at = position(region, self.child_grid)
        tile = [axis.fillers[i][1] for axis, i in zip(self._axes, at, strict=True)]
        return number(tile, self.parent_grid)

    def fillers(self, axis: int) -> tuple[tuple[int, int], ...]:
        """The first and the last tile that add to the child's regions, along one axis."""
        return self._axes[axis].fillers

    def reach(self, axis: int) -> int:
        """Samples at most that a tile's window reaches back before its own region."""
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
    def _users(self) -> tuple[_Table, ...]:
        return _numbered([axis.users for axis in self._axes], self.parent_grid)

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
    def complete(there: int) -> int:
        """Samples of the child whose windows lie within the parent's first ``there``."""
        return out_n if there == n else min(out_n, max(0, (there - halo) // step))

    ends = [complete(min(n, a)) for a in (*range(0, n, block), n)]
    out = tuple(pairwise(ends))
    parents: list[tuple[int, ...]] = []
    for i, (a, b) in enumerate(out):
        window = window_of(Region((a,), (b,)), (step,), (halo,), (n,)).box
        parents.append(tuple(range(window.start[0] // block, i + 1)) if a < b else ())
    users: list[list[int]] = [[] for _ in out]
    for tile, met in enumerate(parents):
        for region in met:
            users[region].append(tile)
    children = (
        tuple(range(a // out_block, ceil_div(b, out_block))) if a < b else () for a, b in out
    )
    return _Axis(out, tuple(parents), tuple(map(tuple, users)), tuple(children))


def _any_met(flags: Flags, tables: Sequence[_Table]) -> Flags:
    """For each cell whether any flag of the box is set that it meets, by one table an axis."""
    for axis, table in enumerate(tables):
        along = np.moveaxis(flags, axis, 0)
        found = np.zeros((len(table), *along.shape[1:]), bool)
        for i, met in enumerate(table):
            if met:
                along[met[0] : met[-1] + 1].any(axis=0, out=found[i])
        flags = np.moveaxis(found, 0, axis)
    return flags


def _numbered(tables: Sequence[_Table], grid: Shape) -> tuple[_Table, ...]:
    """Each axis's positions as what they add to the number of a cell of ``grid``."""
    strides = [prod(grid[axis + 1 :]) for axis in range(len(grid))]
    return tuple(
        tuple(tuple(i * stride for i in met) for met in table)
        for table, stride in zip(tables, strides, strict=True)
    )
