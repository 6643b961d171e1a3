"""Summaries of samples do not depend on how an image is cut; windows are their percentiles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ngff_core.model.display import Summary, Window, is_measurable

EXACT = ("u1", "i1", "u2", "i2")
WIDE = ("u4", "i4", "u8", "i8", "f2", "f4", "f8")


def content(summary: Summary) -> Any:
    return summary.low, summary.high, summary.bins.tolist(), summary.counts.tolist()


@given(st.data(), st.sampled_from(EXACT + WIDE))
def test_a_merge_in_any_order_is_the_summary_of_the_whole(data: Any, dtype: str) -> None:
    """Of any cut, with merges of merges, and with what is not finite."""
    samples = data.draw(arrays(np.dtype(dtype), st.integers(0, 60)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=4)))
    parts = [Summary.of(part) for part in np.split(samples, cuts)]
    ordered = data.draw(st.permutations(parts))
    at = data.draw(st.integers(0, len(ordered)))
    halves = [Summary.merged(samples.dtype, some) for some in (ordered[:at], ordered[at:])]
    merged = Summary.merged(samples.dtype, halves)
    assert content(merged) == content(Summary.of(samples))
    assert merged.window() == Summary.of(samples).window()


@given(st.data(), st.sampled_from(EXACT + WIDE))
def test_bins_keep_the_order_of_numbers(data: Any, dtype: str) -> None:
    """Of two finite numbers the smaller one is never in a later bin; integers of up to 16 bits
    have bins of their own."""
    elements = {"allow_nan": False, "allow_infinity": False} if dtype[0] == "f" else None
    pair = np.sort(data.draw(arrays(np.dtype(dtype), 2, elements=elements)))
    (low,), (high,) = (Summary.of(pair[i : i + 1]).bins.tolist() for i in (0, 1))
    assert low <= high
    if dtype in EXACT:
        assert (low == high) == (pair[0] == pair[1])


@given(st.data(), st.sampled_from(EXACT))
def test_windows_of_exact_bins_are_numpys_percentiles(data: Any, dtype: str) -> None:
    """Of the method that gives one of the samples."""
    # For round numbers of samples, numpy's answer depends on how 99.9 is rounded.
    sizes = st.integers(1, 4000).filter(lambda n: n % 100)
    samples = data.draw(arrays(np.dtype(dtype), sizes))
    window = Summary.of(samples).window()
    low, high = np.percentile(samples, [1, 99.9], method="inverted_cdf")
    assert window is not None
    if low < high:
        assert (window.start, window.end) == (low, high)
        assert (window.low, window.high) == (samples.min(), samples.max())


@pytest.mark.parametrize("dtype", WIDE)
def test_windows_of_other_dtypes_are_within_a_bin(dtype: str) -> None:
    """Less than 0.8 % beside numpy's, on the wide side."""
    samples = np.random.default_rng(1).gamma(3, 90, 50_001).astype(dtype)
    if dtype[0] in "if":
        samples = samples - np.dtype(dtype).type(100)
    low, high = np.percentile(samples.astype("f8"), [1, 99.9], method="inverted_cdf")
    window = Summary.of(samples).window()
    assert window is not None
    assert low - abs(low) / 100 <= window.start <= low
    assert high <= window.end <= high + abs(high) / 100
    assert (window.low, window.high) == (float(samples.min()), float(samples.max()))


@given(st.data(), st.sampled_from(EXACT + WIDE))
def test_every_window_has_a_width(data: Any, dtype: str) -> None:
    """Finite numbers in order; none only where no sample is finite."""
    samples = data.draw(arrays(np.dtype(dtype), array_shapes(max_dims=3, max_side=5)))
    window = Summary.of(samples).window()
    finite = samples[np.isfinite(samples)]
    assert (window is None) == (finite.size == 0)
    if window is not None:
        assert window.low <= window.start < window.end <= window.high
        assert all(math.isfinite(each) for each in (window.low, window.high))
        assert window.low <= float(finite.min())
        assert float(finite.max()) <= window.high


def test_what_is_not_finite_is_left_out() -> None:
    samples = np.array([np.nan, 1, np.inf, 2, -np.inf, np.nan], "f4")
    assert content(Summary.of(samples)) == content(Summary.of(np.array([1, 2], "f4")))
    assert Summary.of(np.array([np.nan], "f8")).window() is None


def test_few_bright_spots_are_shown() -> None:
    """Where more than 99.9 % are background, the window reaches up to the brightest sample."""
    samples = np.zeros(100_000, "u2")
    samples[:20] = 900
    assert Summary.of(samples).window() == Window(0.0, 900.0, 0.0, 900.0)


@pytest.mark.parametrize(
    ("dtype", "value", "window"),
    [
        ("u1", 0, (0, 1)),
        ("u1", 255, (253.0078125, 255)),
        ("i2", -7, (-7, -6)),
        ("f4", 0.5, (0.5, 1.5)),
        ("f4", 1280, (1280, 1290)),
    ],
)
def test_an_image_of_one_value_gets_a_window(dtype: str, value: float, window: Any) -> None:
    """Of whole numbers inside the dtype; relative to a large number."""
    found = Summary.of(np.full(10, value, dtype)).window()
    assert found == Window(*window, *window)


def test_complex_numbers_and_booleans_are_not_measured() -> None:
    measured = {d: is_measurable(np.dtype(d)) for d in ("?", "c8", "c16", "u1", "i8", "f2")}
    assert [d for d, yes in measured.items() if not yes] == ["?", "c8", "c16"]
