"""Tiles: each sample of a child once, as soon as the region of its parent has been read."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ngff_core.geometry import blocks, contains, number, position
from ngff_core.plan import dependencies
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.pyramid_plan import LevelPlan

Box = list[range]


def level(index: int, shape: tuple[int, ...], block: tuple[int, ...], step: tuple[int, ...]):
    """A level of which only the cut matters."""
    return LevelPlan(index, str(index), shape, block, None, block, step, index - 1, step)


@dataclass(frozen=True)
class Cut:
    """A link, and the boxes of the regions of both levels as plain ranges, in C order."""

    link: LevelLink
    parents: list[Box]
    children: list[Box]


def cells(shape: tuple[int, ...], block: tuple[int, ...]) -> list[Box]:
    axes = [
        [range(a, min(a + b, n)) for a in range(0, n, b)] for n, b in zip(shape, block, strict=True)
    ]
    return [list(box) for box in product(*axes)]


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    """Any blocks and steps, steps beyond the block and halos beyond both among them."""
    dims = draw(st.integers(1, 3))
    most = {1: 60, 2: 24, 3: 11}[dims]
    several = st.tuples(*[st.integers(1, most)] * dims)
    shape = draw(several)
    step = draw(st.tuples(*[st.integers(1, 6)] * dims))
    assume(all(k <= n for k, n in zip(step, shape, strict=True)))
    child = tuple(n // k for n, k in zip(shape, step, strict=True))
    halo = draw(st.tuples(*[st.integers(0, 8)] * dims))
    one, two = draw(several), draw(several)
    link = LevelLink(level(0, shape, one, (1,) * dims), level(1, child, two, step), halo)
    return Cut(link, cells(shape, one), cells(child, two))


def window(link: LevelLink, out: Box) -> Box:
    """Samples of the parent that some samples of the child need, axis by axis, one by one.

    Those of the interior and ``halo`` more on either side, from a whole number of steps on.
    """
    found = []
    for span, k, h, n in zip(out, link.child.step, link.halo, link.parent.shape, strict=True):
        first = span.start * k
        while first > 0 and first > span.start * k - h:
            first -= k
        found.append(range(max(first, 0), min(n, span.stop * k + h)))
    return found


def boxes(link: LevelLink, tile: int) -> Box:
    out = link.tile(tile).out
    return [range(a, b) for a, b in zip(out.start, out.stop, strict=True)]


def meet(a: Box, b: Box) -> bool:
    return all(max(p.start, q.start) < min(p.stop, q.stop) for p, q in zip(a, b, strict=True))


def empty(box: Box) -> bool:
    return not all(box)


@given(cuts())
def test_tiles_cover_each_sample_of_the_child_once(cut: Cut) -> None:
    """Counted in an array of the child's shape."""
    seen = np.zeros(cut.link.child.shape, int)
    for tile in range(len(cut.parents)):
        out = cut.link.tile(tile).out
        assert all(a <= b for a, b in zip(out.start, out.stop, strict=True))
        seen[out.slices] += 1
    assert (seen == 1).all()


@given(cuts())
def test_a_window_holds_what_its_tile_needs_and_never_reaches_forward(cut: Cut) -> None:
    """Nothing beyond the tile's own region, on any axis; and no sample more than needed."""
    for tile, own in enumerate(cut.parents):
        out = boxes(cut.link, tile)
        if empty(out):
            continue
        found = cut.link.tile(tile).window
        needed = window(cut.link, out)
        assert found.box.start == tuple(r.start for r in needed)
        assert found.box.stop == tuple(r.stop for r in needed)
        assert all(b <= r.stop for b, r in zip(found.box.stop, own, strict=True))
        offset = zip(found.offset, needed, out, cut.link.child.step, strict=True)
        assert all(n == o.start * k - r.start for n, r, o, k in offset)


@given(cuts(), st.integers(1, 400), st.integers(1, 5))
def test_the_windows_of_a_tile_s_parts_are_as_small_as_may_be(
    cut: Cut, nbytes: int, least: int
) -> None:
    """Parts of all tiles: no window beyond the memory that is projected, nor beyond the tile's.

    Where a window is larger than wanted, no axis is left that could be cut.
    """
    link = cut.link
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependencies, "PART_BYTES", nbytes)
        patch.setattr(dependencies, "_LEAST_PART", least)
        part, most = link.part(itemsize=2), link.part_bytes(itemsize=2)
    for tile in range(len(cut.parents)):
        whole = link.tile(tile)
        for out in blocks(whole.out, part):
            found = link.window(out).box
            assert found.size * 2 <= most
            assert contains(whole.window.box, found)
    longest = [
        max(len(b) for b in boxes_along) for boxes_along in zip(*tiles_of(link), strict=True)
    ]
    halved = [p < n for p, n in zip(part, longest, strict=True)]
    assert sum(cut and h > 0 for cut, h in zip(halved, link.halo, strict=True)) <= 1
    if most > nbytes and not any(cut and h for cut, h in zip(halved, link.halo, strict=True)):
        assert all(p <= (least if h else 1) for p, h in zip(part, link.halo, strict=True))


def tiles_of(link: LevelLink) -> list[Box]:
    return [boxes(link, tile) for tile in range(link.parent.regions)]


@given(cuts())
def test_a_tile_takes_all_that_its_region_completes(cut: Cut) -> None:
    """Every sample that could be computed by then belongs to this tile or one before it."""
    link = cut.link
    for axis in range(len(link.halo)):
        n, block = link.parent.shape[axis], link.parent.block[axis]
        stride = math.prod(link.parent_grid[axis + 1 :])
        for i in range(link.parent_grid[axis]):
            there = min(n, (i + 1) * block)
            k, h = link.child.step[axis], link.halo[axis]
            ready = [j for j in range(link.child.shape[axis]) if min(n, j * k + k + h) <= there]
            assert link.tile(i * stride).out.stop[axis] == len(ready)


@given(cuts())
def test_who_meets_whom_is_what_the_boxes_say(cut: Cut) -> None:
    """Parents, users, children and the completing tile, by looking at every pair of boxes."""
    link = cut.link
    users = defaultdict(list)
    last = {}
    for tile in range(len(cut.parents)):
        out = boxes(link, tile)
        needed = [] if empty(out) else window(link, out)
        met = [r for r, box in enumerate(cut.parents) if needed and meet(box, needed)]
        assert link.parents_of(tile) == met
        for region in met:
            users[region].append(tile)
        filled = [r for r, box in enumerate(cut.children) if meet(box, out)]
        assert link.children_of(tile) == filled
        last |= dict.fromkeys(filled, tile)
    for region in range(len(cut.parents)):
        assert link.tiles_reading(region) == users[region]
    for region in range(len(cut.children)):
        assert link.last_tile_of(region) == last[region]


@given(cuts())
def test_the_reach_is_the_farthest_that_a_window_goes_back(cut: Cut) -> None:
    """Before the region that completes its tile; along each axis at least the tiles' own."""
    link = cut.link
    for axis in range(len(link.halo)):
        back = [0]
        for tile, own in enumerate(cut.parents):
            out = boxes(link, tile)
            if not empty(out):
                back.append(own[axis].start - window(link, out)[axis].start)
        assert link.reach(axis) >= max(back)
        assert link.reach(axis) <= link.halo[axis] * 2 + 2 * link.child.step[axis]


@given(cuts())
def test_the_fillers_of_a_region_are_its_first_and_its_last_tile(cut: Cut) -> None:
    """Along each axis, where the other axes are at their start."""
    link = cut.link
    for axis, n in enumerate(link.child_grid):
        met = defaultdict(set)
        for tile in range(len(cut.parents)):
            for region in link.children_of(tile):
                met[position(region, link.child_grid)[axis]].add(
                    position(tile, link.parent_grid)[axis]
                )
        assert link.fillers(axis) == tuple((min(met[i]), max(met[i])) for i in range(n))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_numbers_are_those_of_numpy(grid: list[int]) -> None:
    """C order, both ways."""
    for index, at in enumerate(np.ndindex(*grid)):
        assert position(index, grid) == at
        assert number(at, grid) == index
