"""Halos: what regions of a level need beyond their interiors, planned without pixels.

A level may be computed from its parent as it is stored. Each region then reads its *interior*:
the parent's samples that the region stands for, its own samples times the step. If the regions
read no more than their interiors, each chunk of the parent is decoded once. A kernel with a halo
reads further, and would have the layer of chunks around the interior decoded too: for an interior
of 512³ in chunks of 128³ that is 2.4 times as much again, for a layer two samples thick.

So writing a region of the parent also saves its *halo strips* in the build folder: for each
region of the child that reads into it from outside, the samples that it will read.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from ngff_core.geometry import (
    Region,
    Shape,
    ceil_div,
    contains,
    grid_shape,
    intersection,
    is_box,
    number,
    position,
    window_of,
)
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan

_MOST_DECODED = 1.05
"""Halo strips are saved where more than this many times the parent would be decoded."""


@dataclass(frozen=True)
class HaloStrip:
    """What one region of the parent saves for one region of the child.

    ``child`` is the number of that region, ``boxes`` tile the samples.
    """

    child: int
    boxes: tuple[Region, ...]
    strips_before: int
    """Number of the halo strips that the region of the parent saves before this one."""
    samples_before: int
    """Number of samples of these halo strips."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(box.size for box in self.boxes)


@dataclass(frozen=True)
class _Axis:
    """One axis of a `LevelHalos`. All spans are of the parent's samples."""

    interior: tuple[tuple[int, int], ...]
    """Span of the interior of each of the child's regions."""
    windows: tuple[tuple[int, int], ...]
    """Span of the window of each of the child's regions."""
    readers: tuple[tuple[int, ...], ...]
    """For each of the parent's regions the child's regions whose windows reach into it."""
    within: tuple[tuple[bool, ...], ...]
    """For each of these whether its window reaches no further into it than its interior does."""


@dataclass(frozen=True)
class LevelHalos:
    """The halo strips between a parent level and a child computed from it.

    ``halo`` is that of the kernel, in samples of the parent, by axis. Regions are numbered in
    C order.
    """

    parent: LevelPlan
    child: LevelPlan
    halo: Shape

    def interior(self, region: int) -> Region:
        """The parent's samples that a region of the child stands for; no other region has them.

        It extends to the end of the image where the window ends there.
        """
        return self._box(region, [axis.interior for axis in self._axes])

    def window(self, region: int) -> Region:
        """The parent's samples that a region of the child is computed from."""
        return self._box(region, [axis.windows for axis in self._axes])

    def strips(self, region: int) -> tuple[HaloStrip, ...]:
        """The halo strips that a region of the parent saves, in the order they are stored."""
        box, samples_before = self.parent.region(region), 0
        strips: list[HaloStrip] = []
        at = position(region, self._parent_grid)
        readers = (axis.readers[i] for axis, i in zip(self._axes, at, strict=True))
        for child in (number(cell, self._child_grid) for cell in product(*readers)):
            shared = intersection(self.window(child), box)
            boxes = tuple(_beyond(shared, intersection(self.interior(child), shared)))
            if boxes:
                strips.append(HaloStrip(child, boxes, len(strips), samples_before))
                samples_before += strips[-1].size
        return tuple(strips)

    def strips_for(self, region: int) -> Iterator[tuple[int, HaloStrip]]:
        """The halo strips for a region of the child, each after the parent's region that has it."""
        window, interior = self.window(region), self.interior(region)
        spans = (
            range(a // b, ceil_div(z, b))
            for a, z, b in zip(window.start, window.stop, self.parent.block, strict=True)
        )
        for at in product(*spans):
            parent_region = number(at, self._parent_grid)
            if not contains(interior, intersection(window, self.parent.region(parent_region))):
                strips = self.strips(parent_region)
                yield parent_region, next(strip for strip in strips if strip.child == region)

    @property
    def objects(self) -> int:
        """Number of objects: the regions of the parent that save halo strips."""
        read = (sum(map(bool, axis.readers)) for axis in self._axes)
        # Counted with `bool`, since `all` holds as well where no window reaches into a region.
        without = (sum(map(bool, filter(all, axis.within))) for axis in self._axes)
        return math.prod(read) - math.prod(without)

    @property
    def parts(self) -> int:
        """Number of halo strips."""
        readers = (sum(map(len, axis.within)) for axis in self._axes)
        within = (sum(map(sum, axis.within)) for axis in self._axes)
        return math.prod(readers) - math.prod(within)

    @property
    def size(self) -> int:
        """Number of samples of all halo strips."""
        windows, interior = (
            math.prod(sum(b - a for a, b in spans) for spans in tables)
            for tables in ([x.windows for x in self._axes], [x.interior for x in self._axes])
        )
        return windows - interior

    @property
    def decoded(self) -> int:
        """Number of the parent's samples that are decoded for the interiors of all regions."""
        axes = zip(self._axes, self.parent.shape, self.parent.chunks, strict=True)
        return math.prod(
            sum(min(n, ceil_div(b, c) * c) - a // c * c for a, b in axis.interior)
            for axis, n, c in axes
        )

    @property
    def readings(self) -> int:
        """Number of the parent's objects that are read for interiors, summed over all regions."""
        axes = zip(self._axes, self.parent.write_unit, strict=True)
        return math.prod(sum(ceil_div(b, u) - a // u for a, b in axis.interior) for axis, u in axes)

    @property
    def worthwhile(self) -> bool:
        """Whether too much of the parent would be decoded more than once without halo strips.

        They would not help where interiors are not made of whole chunks.
        """
        decoded = 1.0
        for axis, n, c in zip(self._axes, self.parent.shape, self.parent.chunks, strict=True):
            if any(a % c or (b % c and b != axis.windows[-1][1]) for a, b in axis.interior):
                return False
            decoded *= sum(min(n, ceil_div(b, c) * c) - a // c * c for a, b in axis.windows) / n
        return decoded > _MOST_DECODED

    def _box(self, region: int, tables: Sequence[tuple[tuple[int, int], ...]]) -> Region:
        at = position(region, self._child_grid)
        spans = [table[i] for table, i in zip(tables, at, strict=True)]
        return Region(tuple(a for a, _ in spans), tuple(b for _, b in spans))

    @cached_property
    def _parent_grid(self) -> Shape:
        return grid_shape(self.parent.shape, self.parent.block)

    @cached_property
    def _child_grid(self) -> Shape:
        return grid_shape(self.child.shape, self.child.block)

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


def level_halos(plan: PyramidPlan, streamed: Collection[int]) -> dict[int, LevelHalos]:
    """The halos of which strips are saved, by the number of the child level.

    ``streamed`` are the levels computed together with their parent, which need none.
    """
    candidates = {
        level.index: LevelHalos(
            plan.levels[level.parent], level, kernel_for(plan.method).halo(level.step)
        )
        for level in plan.levels
        if level.parent is not None and level.index not in streamed
    }
    return {index: halos for index, halos in candidates.items() if halos.worthwhile}


def _axis(n: int, block: int, out_n: int, out_block: int, step: int, halo: int) -> _Axis:
    """One axis, from the lengths and blocks of the parent and of the child along it."""
    windows, interior = [], []
    for a in range(0, out_n, out_block):
        b = min(a + out_block, out_n)
        box = window_of(Region((a,), (b,)), (step,), (halo,), (n,)).box
        windows.append((box.start[0], box.stop[0]))
        interior.append((a * step, box.stop[0] if b == out_n else b * step))
    starts, stops = zip(*windows, strict=True)
    readers: list[tuple[int, ...]] = []
    within: list[tuple[bool, ...]] = []
    for a in range(0, n, block):
        b = min(a + block, n)
        here = range(bisect_right(stops, a), bisect_left(starts, b))
        readers.append(tuple(here))
        within.append(
            tuple(
                interior[i][0] <= max(a, windows[i][0]) and min(b, windows[i][1]) <= interior[i][1]
                for i in here
            )
        )
    return _Axis(tuple(interior), tuple(windows), tuple(readers), tuple(within))


def _beyond(box: Region, inner: Region) -> Iterator[Region]:
    """Boxes that tile what ``box`` has beyond ``inner``, which lies inside it or is empty."""
    if not is_box(inner):
        yield box
        return
    start, stop = list(box.start), list(box.stop)
    for axis, (first, last) in enumerate(zip(inner.start, inner.stop, strict=True)):
        if start[axis] < first:
            yield Region(tuple(start), (*stop[:axis], first, *stop[axis + 1 :]))
        if last < stop[axis]:
            yield Region((*start[:axis], last, *start[axis + 1 :]), tuple(stop))
        start[axis], stop[axis] = first, last
