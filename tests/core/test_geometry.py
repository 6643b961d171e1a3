"""Box algebra, grids of cells, windows with a halo, and where a level's samples lie."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.geometry import (
    Region,
    Shape,
    block_at,
    blocks,
    blocks_touched,
    ceil_div,
    contains,
    grid_shape,
    intersection,
    is_box,
    level_scale,
    level_shape,
    level_translation,
    number,
    position,
    shifted,
    window_of,
    within,
)


def shapes(ndim: int, low: int = 1, high: int = 9) -> st.SearchStrategy[Shape]:
    return st.tuples(*[st.integers(low, high)] * ndim)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Shape, Shape]:
    """A shape, and the shape of the cells that cut it."""
    ndim = draw(st.integers(1, 4))
    return draw(shapes(ndim)), draw(shapes(ndim))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Region, Shape]:
    """A box that is not empty, and the shape of a cell."""
    ndim = draw(st.integers(1, 4))
    start, shape, block = draw(shapes(ndim, 0)), draw(shapes(ndim)), draw(shapes(ndim))
    return Region(start, tuple(a + n for a, n in zip(start, shape, strict=True))), block


@given(grids())
def test_every_voxel_is_in_exactly_one_region(grid: tuple[Shape, Shape]) -> None:
    """Counted voxel by voxel; regions come in C order."""
    shape, block = grid
    count = math.prod(grid_shape(shape, block))
    seen = np.zeros(shape, int)
    order = []
    for index in range(count):
        region = block_at(index, shape, block)
        assert all(a % b == 0 for a, b in zip(region.start, block, strict=True))
        assert region.size == seen[region.slices].size > 0
        seen[region.slices] += 1
        order.append(region.start)
    assert (seen == 1).all()
    assert order == sorted(order)


@given(boxes())
def test_blocks_cover_a_box_once(case: tuple[Region, Shape]) -> None:
    """From its own corner, none larger than asked, in C order."""
    box, block = case
    seen = np.zeros(box.stop, int)
    found = list(blocks(box, block))
    for part in found:
        assert all(n <= b for n, b in zip(part.shape, block, strict=True))
        seen[part.slices] += 1
    assert (seen[box.slices] == 1).all()
    assert seen.sum() == box.size
    assert [part.start for part in found] == sorted(part.start for part in found)


@given(boxes())
def test_cells_that_a_box_overlaps_are_counted_exactly(case: tuple[Region, Shape]) -> None:
    """Compared with an array in which each cell is painted with its own number."""
    box, cell = case
    numbers = np.zeros(box.stop, int)
    for i, part in enumerate(blocks(Region.full(box.stop), cell)):
        numbers[part.slices] = i
    assert blocks_touched(box, cell) == len(np.unique(numbers[box.slices]))


@given(
    st.integers(1, 60), st.integers(1, 7), st.integers(0, 12), st.integers(0, 60), st.integers(1, 9)
)
def test_a_window_holds_every_sample_that_a_region_is_computed_from(
    bins: int, step: int, halo: int, first: int, length: int
) -> None:
    """Each bin with its halo, as far as the image reaches, and in phase with the bins."""
    start = first % bins
    stop = min(bins, start + length)
    remainder = (first + length) % step
    n = bins * step + remainder
    window = window_of(Region((start,), (stop,)), (step,), (halo,), (n,))
    (low,), (high,), (offset,) = window.box.start, window.box.stop, window.offset
    needed = {
        p
        for i in range(start, stop)
        for p in range(i * step - halo, (i + 1) * step + halo)
        if 0 <= p < n
    }
    assert needed <= set(range(low, high))
    assert low % step == offset % step == 0
    assert low + offset == start * step
    # In front the halo is rounded up to whole bins; behind there is not one sample more.
    assert min(needed) - low < step
    assert high == max(needed) + 1


@given(grids())
def test_a_level_has_a_sample_for_each_complete_bin(grid: tuple[Shape, Shape]) -> None:
    """The samples after the last complete bin make no sample of the level."""
    shape, factor = grid
    found = level_shape(shape, factor)
    for n, f, m in zip(shape, factor, found, strict=True):
        assert m * f <= n < (m + 1) * f


@given(st.floats(1e-3, 1e3), st.floats(-1e6, 1e6), st.integers(1, 64), st.integers(0, 50))
def test_samples_of_a_level_lie_at_the_centres_of_their_bins(
    scale: float, translation: float, factor: int, i: int
) -> None:
    """The position of sample i is the mean position of the samples of its bin."""
    bin_ = np.arange(i * factor, (i + 1) * factor)
    centre = float(np.mean(translation + scale * bin_))
    (s,) = level_scale((scale,), (factor,))
    (t,) = level_translation((scale,), (translation,), (factor,))
    assert t + s * i == pytest.approx(centre, rel=1e-9, abs=1e-9)


def test_translation_is_the_documented_formula() -> None:
    """translation + (factor - 1) / 2 * scale, with the true factor, exactly."""
    assert level_translation((0.5, 2.0, 1.0), (10.0, 0.0, -1.0), (4, 1, 3)) == (10.75, 0.0, 0.0)
    assert level_scale((0.5, 2.0, 1.0), (4, 1, 3)) == (2.0, 2.0, 3.0)


@given(st.integers(0, 10**30), st.integers(1, 10**15))
def test_ceil_div_is_exact_at_any_size(a: int, b: int) -> None:
    """No float is involved."""
    assert (ceil_div(a, b) - 1) * b < a <= ceil_div(a, b) * b


def test_a_region_knows_its_shape_size_and_slices() -> None:
    """Half-open, as numpy slices are."""
    region = Region((1, 2), (4, 4))
    assert (region.shape, region.size) == ((3, 2), 6)
    assert np.zeros((5, 5))[region.slices].shape == (3, 2)


def test_regions_tile_an_axis_without_gaps() -> None:
    """The last one is cut short."""
    regions = [block_at(i, (10,), (4,)) for i in range(3)]
    assert [r.shape for r in regions] == [(4,), (4,), (2,)]
    assert all(a.stop == b.start for a, b in pairwise(regions))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Region, Region]:
    """Two boxes of at least one sample, of the same number of axes, anywhere near each other."""
    ndim = draw(st.integers(1, 3))

    def box() -> Region:
        start, shape = draw(shapes(ndim, 0, 6)), draw(shapes(ndim, 1, 6))
        return Region(start, tuple(a + n for a, n in zip(start, shape, strict=True)))

    return box(), box()


def painted(box: Region) -> np.ndarray:
    """An array of booleans, true inside the box."""
    found = np.zeros((12,) * len(box.start), bool)
    found[box.slices] = True
    return found


@given(pairs())
def test_two_boxes_share_what_lies_in_both(case: tuple[Region, Region]) -> None:
    """Compared sample by sample; where they share none, the intersection is no box."""
    a, b = case
    common, shared = intersection(a, b), painted(a) & painted(b)
    assert intersection(b, a) == common
    assert is_box(common) == shared.any()
    if is_box(common):
        np.testing.assert_array_equal(painted(common), shared)


@given(pairs())
def test_a_box_contains_another_if_all_of_it_lies_inside(case: tuple[Region, Region]) -> None:
    """Itself included."""
    a, b = case
    assert contains(a, b) == bool((painted(a) >= painted(b)).all())
    assert contains(a, a)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        ((0, 0), (1, 1), True),
        ((2, 2), (2, 5), False),
        ((2, 2), (5, 2), False),
        # Of two boxes that are apart on both axes, lengths are negative, and their product is not.
        ((5, 5), (2, 2), False),
    ],
)
def test_a_box_without_samples_is_none(start: Shape, stop: Shape, expected: bool) -> None:
    """One axis of no length, or of a negative one, is enough."""
    assert is_box(Region(start, stop)) is expected


@given(boxes(), st.data())
def test_within_selects_a_box_from_an_array_of_a_larger_one(
    case: tuple[Region, Shape], data: st.DataObject
) -> None:
    """The same samples as in an array that begins at the origin."""
    outer, _ = case
    array = np.arange(math.prod(outer.stop)).reshape(outer.stop)
    start = tuple(
        data.draw(st.integers(a, b - 1)) for a, b in zip(outer.start, outer.stop, strict=True)
    )
    stop = tuple(data.draw(st.integers(a + 1, b)) for a, b in zip(start, outer.stop, strict=True))
    box = Region(start, stop)
    held = array[outer.slices]
    np.testing.assert_array_equal(held[within(box, outer)], array[box.slices])


@given(st.integers(1, 4).flatmap(shapes))
def test_cells_are_numbered_in_c_order(grid: Shape) -> None:
    """As numpy counts; position and number are each other's inverse."""
    for index, expected in enumerate(np.ndindex(grid)):
        assert position(index, grid) == expected
        assert number(expected, grid) == index


def test_a_full_box_covers_an_array() -> None:
    """From the origin to the array's shape."""
    assert Region.full((3, 4)) == Region((0, 0), (3, 4))


def test_a_box_is_shifted_on_every_axis() -> None:
    """Its shape stays."""
    assert shifted(Region((1, 2), (4, 8)), (10, 0)) == Region((11, 2), (14, 8))
