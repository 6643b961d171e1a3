"""What a pass touches, in which order, and how much of it is in memory at once."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngff_core.geometry import grid_shape, position, window_of
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.schedule import (
    PassPlan,
    PassRequirements,
    in_order,
    open_regions,
    passes,
    slow_to_fast,
)
from tests.support.passes import ORDERS, computed, held_limit, plans, run_scripted, shelves
from tests.support.plans import plan_of

Done = Mapping[int, Collection[int]]


@st.composite
def receipts(draw: st.DrawFn, plan: PyramidPlan) -> dict[int, frozenset[int]]:
    """Any regions of any levels, done before; whole levels and none among them."""
    rng = random.Random(draw(st.integers(0, 999)))
    done = {}
    for level in plan.levels:
        share = draw(st.sampled_from([0, 0.1, 0.5, 0.9, 1]))
        done[level.index] = frozenset(r for r in range(level.regions) if rng.random() < share)
    return done


@st.composite
def begun(draw: st.DrawFn) -> tuple[PassPlan, dict[int, frozenset[int]]]:
    """A pass over all levels of a plan, and what earlier runs did."""
    plan = draw(plans(30))
    (pass_plan,) = passes(plan, range(1, len(plan.levels)))
    return pass_plan, draw(receipts(plan))


def wanted(pass_plan: PassPlan, done: Done) -> dict[int, set[int]]:
    """Regions whose samples the missing ones are made of, the missing ones included.

    By masks of samples: from the coarsest level down, each missing sample marks its window.
    """
    plan = pass_plan.plan
    marks = {level.index: np.zeros(level.shape, bool) for level in plan.levels}
    kernel = kernel_for(plan.method)
    found = {}
    for level in reversed(plan.levels):
        found[level.index] = {
            r
            for r in range(level.regions)
            if r not in done[level.index] or marks[level.index][level.region(r).slices].any()
        }
        if level.parent is None:
            continue
        parent = plan.levels[level.parent]
        link = next(e for e in pass_plan.links if e.child.index == level.index)
        # A region's samples come by tiles, each with the window of all its samples.
        for tile in range(parent.regions):
            out = link.tile(tile).out
            missing = np.ones(level.shape, bool)
            for r in done[level.index]:
                missing[level.region(r).slices] = False
            if missing[out.slices].any():
                halo = kernel.halo(level.step)
                box = window_of(out, level.step, halo, parent.shape).box
                marks[parent.index][box.slices] = True
    return found


@settings(max_examples=40)
@given(begun())
def test_every_missing_region_is_made_and_nothing_is_read_in_vain(
    case: tuple[PassPlan, dict[int, frozenset[int]]],
) -> None:
    """In the order of the loads, by a pass without pixels that knows only the regions."""
    pass_plan, done = case
    needs, needed = PassRequirements(pass_plan, done), wanted(pass_plan, done)
    loads = list(needs.loads())
    assert len(set(loads)) == len(loads)
    present: dict[int, set[int]] = {level.index: set() for level in pass_plan.levels}
    left = {
        (link.child.index, r): sum(r in link.children_of(t) for t in range(link.parent.regions))
        for link in pass_plan.links
        for r in range(link.child.regions)
    }

    def have(level: int, region: int) -> None:
        assert region in needed[level]
        assert region not in present[level]
        present[level].add(region)
        for link in pass_plan.links_from(level):
            child = link.child.index
            for tile in link.tiles_reading(region):
                if not needs.wants_tile(link, tile) or not present[level] >= {
                    *link.parents_of(tile)
                }:
                    continue
                for filled in link.children_of(tile):
                    left[child, filled] -= 1
                    if not left[child, filled] and filled not in done[child]:
                        have(child, filled)

    for level, region in loads:
        assert needs.wants(level, region)
        assert level == pass_plan.root or region in done[level]
        have(level, region)
    assert present == needed
    assert all(r in present[lv.index] or r in done[lv.index] for lv in pass_plan.levels
               for r in range(lv.regions))  # fmt: skip


@pytest.mark.parametrize(
    ("factors", "parents"),
    [([2, 4, 8], [0, 1, 2]), ([2, 3, 6], [0, 0, 2]), ([2, 3, 4], [0, 0, 1]), ([3, 5], [0, 0])],
)
def test_levels_that_skip_their_neighbour_are_streamed_from_their_parent(
    factors: list[int], parents: list[int]
) -> None:
    """Two children of one parent, and children of children, in one pass."""
    plan = plan_of("yx", (300, 300), scale_factors=factors, chunks=16, shards=16)
    (pass_plan,) = passes(plan, range(1, len(plan.levels)))
    assert [link.parent.index for link in pass_plan.links] == parents
    assert [link.child.index for link in pass_plan.links] == [1, 2, 3][: len(factors)]
    assert pass_plan.levels == plan.levels
    for level in plan.levels:
        children = [i + 1 for i, p in enumerate(parents) if p == level.index]
        assert [link.child.index for link in pass_plan.links_from(level.index)] == children


@given(st.sets(st.integers(1, 4)), st.sampled_from([[2, 4, 8, 16], [2, 3, 6, 12]]))
def test_each_level_is_in_one_pass_after_its_parents(
    streamed: set[int], factors: list[int]
) -> None:
    """A level that is not streamed is the root of a pass of its own."""
    plan = plan_of("yx", (300, 300), scale_factors=factors, chunks=16, shards=16)
    found = passes(plan, streamed)
    assert sorted(lv.index for pass_plan in found for lv in pass_plan.levels) == list(range(5))
    assert {pass_plan.root for pass_plan in found} == set(range(5)) - streamed
    order = [pass_plan.root for pass_plan in found]
    for place, pass_plan in enumerate(found):
        parent = plan.levels[pass_plan.root].parent
        if parent is not None:
            assert any(parent in [lv.index for lv in w.levels] for w in found[:place])
    assert order == sorted(order)


@given(plans(60))
def test_the_slowest_axis_is_the_one_with_most_regions(plan: PyramidPlan) -> None:
    """After time and channel, which are images of their own."""
    order, dims = slow_to_fast(plan), plan.image.dims
    grid = grid_shape(plan.levels[0].shape, plan.levels[0].block)
    assert sorted(order) == list(range(len(dims)))
    others = [axis for axis in order if dims[axis] in "tc"]
    assert list(order[: len(others)]) == others
    counts = [grid[axis] for axis in order[len(others) :]]
    assert counts == sorted(counts, reverse=True)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4).flatmap(
    lambda grid: st.tuples(st.just(grid), st.permutations(range(len(grid))))
))  # fmt: skip
def test_the_order_is_that_of_transposed_axes(case: tuple[list[int], list[int]]) -> None:
    """numpy's C order over the axes in the order of the pass."""
    grid, order = case
    numbers = np.arange(int(np.prod(grid))).reshape(grid).transpose(order)
    assert list(in_order(tuple(grid), order)) == numbers.ravel().tolist()


def open_at_most(link: LevelLink, order: tuple[int, ...]) -> int:
    """Counted tile by tile in a pass: regions begun by then and not completed before."""
    span: dict[int, list[int]] = {}
    for step, tile in enumerate(in_order(link.parent_grid, order)):
        for region in link.children_of(tile):
            span.setdefault(region, [step, step])[1] = step
    events = np.zeros(link.parent.regions + 1, int)
    for first, last in span.values():
        events[first] += 1
        events[last + 1] -= 1
    return int(events.cumsum().max())


@settings(max_examples=40)
@given(plans())
def test_no_more_regions_are_open_than_projected(plan: PyramidPlan) -> None:
    """And not many less: they are never more than twice those that are."""
    (pass_plan,) = passes(plan, range(1, len(plan.levels)))
    for link in pass_plan.links:
        most = open_at_most(link, slow_to_fast(plan))
        assert most <= open_regions(link, slow_to_fast(plan)) <= max(2 * most, most + 2)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans(),
    in_flight=st.integers(1, 4),
    order=st.sampled_from(list(ORDERS)),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_no_more_is_held_than_projected(
    plan: PyramidPlan,
    in_flight: int,
    order: str,
    seed: int,
    data: st.DataObject,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a real pass, whichever of its jobs end first, with exactly the projected limit."""
    (pass_plan,) = passes(plan, range(1, len(plan.levels)))
    limit = held_limit(plan, pass_plan, in_flight)
    done = data.draw(receipts(plan)) if data.draw(st.booleans()) else {}
    held = run_scripted(
        pass_plan,
        shelves(plan, computed(plan), done),
        in_flight=in_flight,
        limit=limit,
        order=order,
        seed=seed,
        monkeypatch=monkeypatch,
    )
    assert held <= limit


def test_done_regions_are_read_where_the_pass_needs_them() -> None:
    """Not a section before, where they would wait in memory for their neighbours."""
    plan = plan_of("yx", (96, 96), chunks=16, shards=16, scale_factors=[2, 4])
    (pass_plan,) = passes(plan, [1, 2])
    done: dict[int, frozenset[int]] = {0: frozenset(), 1: frozenset(range(9)), 2: frozenset()}
    loads = list(PassRequirements(pass_plan, done).loads())
    order = slow_to_fast(plan)
    for place, (level, region) in enumerate(loads):
        if level == 1:
            before = [r for lv, r in loads[:place] if lv == 0]
            tile = pass_plan.links[0].last_tile_of(region)
            assert before[-1] == tile
            assert position(tile, (6, 6))[order[0]] <= 5
