"""Scale factors: made from an int, or checked when given as a list."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.plan.scale_factors import (
    check_factors,
    factors_from_min_length,
    factors_with_equal_yx,
    parent_of,
    resolve_factors,
)


def by_dim(dims: str, *rows: tuple[int, ...]) -> tuple[dict[str, int], ...]:
    return tuple(dict(zip(dims, row, strict=True)) for row in rows)


@pytest.mark.parametrize(
    ("dims", "shape", "chunks", "min_length", "expected"),
    [
        ("yx", (1024, 1024), (256, 256), 1, [(2, 2), (4, 4)]),
        ("yx", (1024, 1024), (256, 256), 64, [(2, 2), (4, 4)]),
        ("yx", (1024, 1024), (256, 256), 128, [(2, 2), (4, 4)]),
        ("yx", (1024, 1024), (256, 256), 100_000, [(2, 2)]),
        ("zyx", (64, 1024, 1024), (64, 128, 128), 128, [(1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        ("zyx", (64, 1024, 1024), (128, 128, 128), 128, [(1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        ("yx", (256, 256), (256, 256), 128, []),
        (
            "zyx",
            (125, 1024, 1024),
            (50, 51, 50),
            128,
            [(1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16)],
        ),
        ("zyx", (256, 1024, 1024), (128, 128, 128), 128, [(1, 2, 2), (1, 4, 4), (2, 8, 8)]),
    ],
)
def test_an_int_gives_the_documented_factors(
    dims: str, shape: tuple[int, ...], chunks: tuple[int, ...], min_length: int, expected: Any
) -> None:
    """The table of vectors, absolute factors, one mapping per level."""
    sizes, cut = dict(zip(dims, shape, strict=True)), dict(zip(dims, chunks, strict=True))
    assert factors_from_min_length(sizes, cut, min_length) == by_dim(dims, *expected)


axis = st.tuples(st.integers(1, 5000), st.integers(1, 600))


@given(st.lists(axis, min_size=1, max_size=3), st.integers(1, 10**6))
def test_levels_double_while_the_image_is_large_beside_its_chunks(
    axes: list[tuple[int, int]], min_length: int
) -> None:
    """Each level follows from the one before by the written rule, and none is missing."""
    dims = "zyx"[-len(axes) :]
    sizes = {d: n for d, (n, _) in zip(dims, axes, strict=True)}
    chunks = {d: c for d, (_, c) in zip(dims, axes, strict=True)}
    found = factors_from_min_length(sizes, chunks, min_length)
    before = dict.fromkeys(dims, 1)
    for factor in (*found, None):
        now = {d: sizes[d] // before[d] for d in dims}
        # "at most half of the largest", "whose halved size would fall below its chunk"
        kept = {d for d in dims if now[d] <= max(now.values()) / 2 or now[d] // 2 < chunks[d]}
        expected = {d: before[d] * (1 if d in kept else 2) for d in dims}
        new = math.prod(sizes[d] // expected[d] for d in dims)
        large = any(now[d] >= 2 * chunks[d] for d in dims)
        goes_on = large and expected != before and new / min_length >= 2
        assert (factor == expected) if goes_on else (factor is None)
        before = expected


@pytest.mark.parametrize(
    ("dims", "shape", "chunks", "expected"),
    [
        ("yx", (500, 640), (128, 128), [(2, 2), (4, 4)]),
        ("yx", (700, 1700), (256, 256), [(2, 2), (4, 4)]),
        ("yx", (2048, 1536), (256, 256), [(2, 2), (4, 4), (8, 8)]),
        ("yx", (1024, 1024), (256, 256), [(2, 2), (4, 4)]),
        ("yx", (511, 511), (256, 256), []),
        # The shorter axis goes below its chunk, and stays where one sample is left.
        ("yx", (300, 3000), (256, 256), [(2, 2), (4, 4), (8, 8)]),
        ("yx", (3, 5000), (3, 256), [(2, 2), (2, 4), (2, 8), (2, 16)]),
        # z rests while it is at most half as long as the longest, then goes along, or alone.
        ("zyx", (64, 1024, 900), (64, 128, 128), [(1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        ("zyx", (256, 1024, 700), (128, 128, 128), [(1, 2, 2), (1, 4, 4), (2, 8, 8)]),
        ("zyx", (900, 300, 200), (64, 256, 256), [(2, 1, 1), (4, 1, 1), (8, 1, 1)]),
        ("zx", (300, 1200), (128, 128), [(1, 2), (1, 4), (2, 8)]),
    ],
)
def test_y_and_x_are_halved_together(
    dims: str, shape: tuple[int, ...], chunks: tuple[int, ...], expected: Any
) -> None:
    sizes, cut = dict(zip(dims, shape, strict=True)), dict(zip(dims, chunks, strict=True))
    assert factors_with_equal_yx(sizes, cut, 128) == by_dim(dims, *expected)


@given(st.lists(axis, min_size=2, max_size=3), st.integers(1, 10**5))
def test_y_and_x_have_equal_factors_unless_one_is_down_to_a_sample(
    axes: list[tuple[int, int]], min_length: int
) -> None:
    """Each level halves something, nothing falls to zero, and the last level is a small one."""
    dims = "zyx"[-len(axes) :]
    sizes = {d: n for d, (n, _) in zip(dims, axes, strict=True)}
    chunks = {d: min(c, n) for d, (n, c) in zip(dims, axes, strict=True)}
    before = dict.fromkeys(dims, 1)
    for factor in factors_with_equal_yx(sizes, chunks, min_length):
        now = {d: sizes[d] // f for d, f in factor.items()}
        assert factor["y"] == factor["x"] or 1 in (now["y"], now["x"])
        assert {factor[d] // before[d] for d in dims} <= {1, 2}
        assert factor != before
        assert min(now.values()) >= 1
        assert math.prod(now.values()) >= 2 * min_length
        if "z" in dims:
            assert factor["z"] == before["z"] or now["z"] >= chunks["z"]
        before = factor
    last = {d: sizes[d] // f for d, f in before.items()}
    longest = max(last.values())
    if math.prod(last.values()) >= 2**4 * min_length and longest == max(last["y"], last["x"]):
        assert all(last[d] // 2 < chunks[d] for d in "yx")


@given(st.integers(1, 3000), st.integers(1, 600), st.integers(1, 10**5))
def test_a_square_has_the_levels_it_always_had(n: int, chunk: int, min_length: int) -> None:
    sizes, chunks = {"y": n, "x": n}, {"y": chunk, "x": chunk}
    assert factors_with_equal_yx(sizes, chunks, min_length) == factors_from_min_length(
        sizes, chunks, min_length
    )


@st.composite
def given_lists(draw: st.DrawFn) -> tuple[dict[str, int], list[Any], list[dict[str, int]]]:
    """Sizes, a valid list as a caller may write it, and what it means."""
    dims = draw(st.sampled_from(["yx", "zyx", "zx"]))
    entries: list[Any] = []
    meant: list[dict[str, int]] = []
    before = dict.fromkeys(dims, 1)
    for _ in range(draw(st.integers(0, 4))):
        grow = {d: draw(st.integers(0, 3)) for d in dims}
        if not any(grow.values()):
            continue
        factor = {d: before[d] + grow[d] for d in dims}
        named = {d: f for d, f in factor.items() if grow[d] or draw(st.booleans())}
        kind = draw(st.sampled_from([int, np.int64, np.uint8]))
        same = len(set(factor.values())) == 1 and draw(st.booleans())
        entries.append(kind(factor[dims[0]]) if same else {d: kind(f) for d, f in named.items()})
        meant.append(factor)
        before = factor
    sizes = {d: draw(st.integers(before[d], before[d] + 50)) for d in dims}
    return sizes, entries, meant


@given(given_lists())
def test_a_list_means_what_it_says(
    case: tuple[dict[str, int], list[Any], list[dict[str, int]]],
) -> None:
    """Ints for all axes, mappings by name, a missing axis keeps its factor; numpy ints too."""
    sizes, entries, meant = case
    found = check_factors(entries, sizes)
    assert list(found) == meant
    assert all(type(f) is int for factor in found for f in factor.values())
    assert check_factors(tuple(entries), sizes) == found


SIZES = {"z": 8, "y": 64, "x": 64}


@pytest.mark.parametrize(
    ("factors", "offender"),
    [
        ([2.0], "level 1: 2.0 is not a whole number"),
        ([2, 4.5], "level 2: 4.5 is not a whole number"),
        ([True], "True is not a whole number"),
        (["2"], "'2' is not a whole number"),
        ([None], "None is not a whole number"),
        ([{"z": np.float64(2.0)}], "axis z.*2.0.* is not a whole number"),
        ([0], "level 1: 0 is not positive"),
        ([{"y": 2}, {"y": -4}], "level 2, axis y: -4 is not positive"),
        ([4, 2], "level 2: factor 2 on z is below the 4"),
        ([{"x": 4}, {"y": 2, "x": 2}], "level 2: factor 2 on x is below the 4"),
        ([2, 2], "level 2: .* is no coarser"),
        ([1], "level 1: .* is no coarser"),
        ([{}], "level 1: .* is no coarser"),
        ([{"y": 2}, {"y": 2}], "level 2: .* is no coarser"),
        ([2, 16], "level 2: factor 16 on z leaves nothing of its 8 samples"),
        ([{"c": 2}], "'c' is not a spatial axis"),
        ([{"t": 2, "x": 2}], "'t' is not a spatial axis"),
        ("24", "'24' is neither an int nor a list"),
        (2.0, "2.0 is neither an int nor a list"),
        (None, "None is neither an int nor a list"),
        (True, "True is neither an int nor a list"),
        ({"x": 2}, "neither an int nor a list"),
        (0, "0 is not positive"),
        (-3, "-3 is not positive"),
    ],
)
def test_a_factor_that_makes_no_sense_is_named(factors: Any, offender: str) -> None:
    """The message says at which level and axis, and what was given."""
    with pytest.raises(InvalidOptionError, match=offender):
        resolve_factors(factors, SIZES, SIZES)


@pytest.mark.parametrize("kind", [int, np.int32, np.uint64])
def test_an_int_of_numpy_is_an_int(kind: Any) -> None:
    """As ``scale_factors``, and as an entry of the list."""
    sizes, chunks = {"y": 1024, "x": 1024}, {"y": 256, "x": 256}
    assert resolve_factors(kind(128), sizes, chunks) == by_dim("yx", (2, 2), (4, 4))
    assert resolve_factors([kind(3)], sizes, chunks) == by_dim("yx", (3, 3))


def test_no_levels_are_a_valid_wish() -> None:
    """An empty list writes the full image alone."""
    assert resolve_factors([], SIZES, SIZES) == ()


factor_lists = st.lists(st.tuples(*[st.integers(1, 12)] * 2), min_size=1, max_size=6).map(
    lambda rows: [(1, 1), *rows]
)


@given(factor_lists)
def test_a_levels_parent_is_the_nearest_level_whose_factor_divides_its_own(
    factors: list[tuple[int, int]],
) -> None:
    """Checked with fractions; level 0 always does."""
    for level in range(1, len(factors)):
        whole = [
            i
            for i in range(level)
            if all((np.array(factors[level]) / np.array(factors[i])) % 1 == 0)
        ]
        assert parent_of(factors, level) == max(whole)


def test_two_three_four_takes_four_from_two() -> None:
    """3 is not a multiple of 2, nor 4 of 3."""
    factors = [(1,), (2,), (3,), (4,)]
    assert [parent_of(factors, level) for level in (1, 2, 3)] == [0, 0, 1]
