"""The nearest sample: which it is, and that no bit of it changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.kernels.nearest import NativeNearest
from tests.support.drawn import NUMBERS, cases, check_region
from tests.support.oracles import Shape, assert_same_bytes, by_bin, lower_centre, whole

NEAREST = NativeNearest()
definition = by_bin(lower_centre)


@given(cases(NUMBERS))
def test_samples_follow_the_definition(case: tuple[Any, Shape]) -> None:
    """The sample at (k - 1) // 2 of each bin: its centre, or the lower of the two beside it."""
    image, step = case
    expected = definition(image, step)
    assert_same_bytes(
        whole(NEAREST, image, step), expected.astype(expected.dtype.newbyteorder("="))
    )


@given(cases(NUMBERS), st.data())
def test_a_region_has_the_samples_of_the_whole(
    case: tuple[Any, Shape], data: st.DataObject
) -> None:
    """Any region from its window has the bytes of the whole level."""
    image, step = case
    check_region(NEAREST, image, step, data)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, 16])
def test_a_sample_lies_at_most_half_a_bin_from_the_centre(step: int) -> None:
    """On a ramp: the centre itself for odd steps, half a sample below it for even ones."""
    found = whole(NEAREST, np.arange(5.0 * step), (step,))
    centres = np.arange(5) * step + (step - 1) / 2
    np.testing.assert_array_equal(centres - found, [0.0 if step % 2 else 0.5] * 5)


def test_the_result_is_a_copy() -> None:
    """At step 1 too: writing to it leaves the window alone."""
    image = np.zeros((4, 4), np.uint8)
    found = whole(NEAREST, image, (1, 1))
    found[:] = 1
    assert not image.any()


def test_what_holds_no_numbers_is_refused() -> None:
    """Text, objects and dates; and numbers wider than OME-Zarr has."""
    assert [d for d in NUMBERS if NEAREST.refusal(np.dtype(d))] == []
    assert [d for d in ("g", "G", "O", "U3", "M8[s]") if not NEAREST.refusal(np.dtype(d))] == []
