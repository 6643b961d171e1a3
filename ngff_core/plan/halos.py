"""What regions of a level are computed from beyond their own bins: planning, no pixels.

A level that is computed from what its parent has stored reads each chunk of the parent
once if its regions read no more than their own bins. A kernel that looks further would
have the layer of chunks around them decoded too: of 512³ bins in chunks of 128³ that is
2.4 times as much again for a layer two samples thick. So whoever stores a region of the
parent keeps its *strips* beside the target: for each region of the child that looks into
it from outside the samples it will look at, as they are.
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

_BEARABLE = 1.05
"""So many times as much as the parent has may be decoded before strips are kept."""


@dataclass(frozen=True)
class HaloStrip:
    """What a region of the parent keeps for one of the child."""

    child: int
    boxes: tuple[Region, ...]
    place: int
    """How many strips it keeps before this one."""
    before: int
    """How many samples these have."""

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(box.size for box in self.boxes)


@dataclass(frozen=True)
class _Axis:
    """One axis of a border: by position of the child's regions, then of the parent's."""

    interior: tuple[tuple[int, int], ...]
    windows: tuple[tuple[int, int], ...]
    met: tuple[tuple[int, ...], ...]
    """The child's regions whose windows reach into each of the parent's."""
    within: tuple[tuple[bool, ...], ...]
    """For each of those whether it reaches no further here than its bins do."""


@dataclass(frozen=True)
class LevelHalos:
    """The strips between a parent level and a child computed from it by a kernel of ``halo``.

    Regions go by their number in C order.
    """

    parent: LevelPlan
    child: LevelPlan
    halo: Shape

    def interior(self, region: int) -> Region:
        """The parent's samples that a region of the child stands for, and is alone to read.

        Up to the image's end where its window ends there.
        """
        return self._box(region, [axis.interior for axis in self._axes])

    def window(self, region: int) -> Region:
        """All that a region of the child is computed from."""
        return self._box(region, [axis.windows for axis in self._axes])

    def strips(self, region: int) -> tuple[HaloStrip, ...]:
        """What a region of the parent keeps, in the order in which it is kept."""
        box, before = self.parent.region(region), 0
        found: list[HaloStrip] = []
        at = position(region, self._parent_grid)
        met = (axis.met[i] for axis, i in zip(self._axes, at, strict=True))
        for child in (number(there, self._child_grid) for there in product(*met)):
            shared = intersection(self.window(child), box)
            boxes = tuple(_beyond(shared, intersection(self.interior(child), shared)))
            if boxes:
                found.append(HaloStrip(child, boxes, len(found), before))
                before += found[-1].size
        return tuple(found)

    def givers(self, region: int) -> Iterator[tuple[int, HaloStrip]]:
        """The regions of the parent that keep strips for one of the child, and these."""
        window, interior = self.window(region), self.interior(region)
        spans = (
            range(a // b, ceil_div(z, b))
            for a, z, b in zip(window.start, window.stop, self.parent.block, strict=True)
        )
        for at in product(*spans):
            giver = number(at, self._parent_grid)
            if not contains(interior, intersection(window, self.parent.region(giver))):
                yield giver, next(s for s in self.strips(giver) if s.child == region)

    @property
    def objects(self) -> int:
        """How many regions of the parent keep strips."""
        used = (sum(map(bool, axis.met)) for axis in self._axes)
        # Of an axis on which no window reaches into a region, `all` would say the same.
        bare = (sum(map(bool, filter(all, axis.within))) for axis in self._axes)
        return math.prod(used) - math.prod(bare)

    @property
    def parts(self) -> int:
        """How many strips there are."""
        met = (sum(map(len, axis.within)) for axis in self._axes)
        within = (sum(map(sum, axis.within)) for axis in self._axes)
        return math.prod(met) - math.prod(within)

    @property
    def size(self) -> int:
        """Number of samples of all strips."""
        windows, interior = (
            math.prod(sum(b - a for a, b in spans) for spans in tables)
            for tables in ([x.windows for x in self._axes], [x.interior for x in self._axes])
        )
        return windows - interior

    @property
    def decoded(self) -> int:
        """Number of the parent's samples that are decoded for all regions' bins."""
        axes = zip(self._axes, self.parent.shape, self.parent.chunks, strict=True)
        return math.prod(
            sum(min(n, ceil_div(b, c) * c) - a // c * c for a, b in axis.interior)
            for axis, n, c in axes
        )

    @property
    def readings(self) -> int:
        """How many of the parent's objects all regions' bins lie in, each counted for itself."""
        axes = zip(self._axes, self.parent.write_unit, strict=True)
        return math.prod(sum(ceil_div(b, u) - a // u for a, b in axis.interior) for axis, u in axes)

    @property
    def worthwhile(self) -> bool:
        """Whether without strips too much of the parent would be decoded more than once.

        Where bins are no whole chunks they would not help.
        """
        decoded = 1.0
        for axis, n, c in zip(self._axes, self.parent.shape, self.parent.chunks, strict=True):
            if any(a % c or (b % c and b != axis.windows[-1][1]) for a, b in axis.interior):
                return False
            decoded *= sum(min(n, ceil_div(b, c) * c) - a // c * c for a, b in axis.windows) / n
        return decoded > _BEARABLE

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
    """The borders that are kept, by the child's number, where ``streamed`` levels need none."""
    found = {
        level.index: LevelHalos(
            plan.levels[level.parent], level, kernel_for(plan.method).halo(level.step)
        )
        for level in plan.levels
        if level.parent is not None and level.index not in streamed
    }
    return {index: halos for index, halos in found.items() if halos.worthwhile}


def _axis(n: int, block: int, out_n: int, out_block: int, step: int, halo: int) -> _Axis:
    windows, interior = [], []
    for a in range(0, out_n, out_block):
        b = min(a + out_block, out_n)
        box = window_of(Region((a,), (b,)), (step,), (halo,), (n,)).box
        windows.append((box.start[0], box.stop[0]))
        interior.append((a * step, box.stop[0] if b == out_n else b * step))
    starts, stops = zip(*windows, strict=True)
    met: list[tuple[int, ...]] = []
    within: list[tuple[bool, ...]] = []
    for a in range(0, n, block):
        b = min(a + block, n)
        here = range(bisect_right(stops, a), bisect_left(starts, b))
        met.append(tuple(here))
        within.append(
            tuple(
                interior[i][0] <= max(a, windows[i][0]) and min(b, windows[i][1]) <= interior[i][1]
                for i in here
            )
        )
    return _Axis(tuple(interior), tuple(windows), tuple(met), tuple(within))


def _beyond(box: Region, inner: Region) -> Iterator[Region]:
    """Boxes that tile what ``box`` has beyond ``inner``, which lies inside or is none."""
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
