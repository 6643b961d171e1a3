"""The native means against plain Python, and the itkwasm module where that is right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.kernels import bin_shrink, rows
from ngff_core.kernels.bin_shrink import NativeBinShrink
from ngff_core.kernels.itkwasm import ItkwasmBinShrink
from tests.support.drawn import cases, check_region, pixels
from tests.support.oracles import (
    Shape,
    assert_only_read,
    assert_same_bytes,
    assert_threads_agree,
    bins,
    by_bin,
    mean,
    whole,
)

NATIVE, ITKWASM = NativeBinShrink(), ItkwasmBinShrink()
INTEGERS = ("?", "i1", "u1", "i2", "<u2", ">u2", ">i4", "u4", "i8", ">i8", "u8", ">u8")
FLOATS = ("f2", ">f2", "<f4", ">f4", "f8", ">f8", "c8", "c16")
definition = by_bin(mean)


@given(cases(INTEGERS + FLOATS))
@settings(max_examples=250)
def test_samples_follow_the_definition(case: tuple[Any, Shape]) -> None:
    """Every dtype, number of axes and mix of steps gives the samples of the definition."""
    image, step = case
    found = whole(NATIVE, image, step)
    assert found.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, definition(image, step))


@given(cases(tuple(d for d in INTEGERS + FLOATS if not ITKWASM.refusal(np.dtype(d)))))
@settings(max_examples=60)
def test_the_module_gives_the_same_bytes(case: tuple[Any, Shape]) -> None:
    """What the itkwasm back end takes, both compute alike, down to the sign of zero."""
    image, step = case
    assert_same_bytes(whole(NATIVE, image, step), whole(ITKWASM, image, step))


@given(cases(INTEGERS + FLOATS), st.data())
@settings(max_examples=100)
def test_a_region_has_the_samples_of_the_whole(
    case: tuple[Any, Shape], data: st.DataObject
) -> None:
    """Any region from its window, in pieces and strips of any size, has the bytes of the whole."""
    image, step = case
    check_region(
        NATIVE,
        image,
        step,
        data,
        (rows, "_PIECE_SAMPLES", [1, 500, 2**20]),
        (bin_shrink, "_STRIP", [1, 10, 1024]),
    )


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f4"])
def test_images_of_many_strips_and_chunks(dtype: str) -> None:
    """Sizes that cross several chunks, with odd ends, in the module's bytes."""
    for shape, step in (((70, 131, 257), (2, 2, 2)), ((3, 301, 4999), (1, 3, 2))):
        image = pixels(np.random.default_rng(0), dtype, shape, "range")
        assert_same_bytes(whole(NATIVE, image, step), whole(ITKWASM, image, step))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("step", [(2, 2, 2), (3, 2, 1), (2, 7, 7), (5, 6, 5)])
def test_means_half_way_go_up(dtype: str, step: Shape) -> None:
    """A mean of m + 1/2 becomes m + 1, below zero and at the ends of the dtype too."""
    info, n = np.iinfo(dtype), math.prod(step)
    span = int(info.max) - int(info.min) - 1
    lower = [int(info.min) + span * i // 63 for i in range(64)]
    samples = np.array([[m + 1] * (n // 2) + [m] * (n - n // 2) for m in lower], dtype)
    image = np.concatenate(list(samples.reshape(64, *step)), axis=2)
    expected = [m + (2 * (n // 2) >= n) for m in lower]
    assert whole(NATIVE, image, step).ravel().tolist() == expected


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "u8", "i8"])
@pytest.mark.parametrize("step", [(2, 2, 2), (64, 64, 64), (41, 41, 40)])
def test_the_largest_sums_do_not_overflow(dtype: str, step: Shape) -> None:
    """A bin full of the extreme, with 2**18 samples or with eight, has it for its mean."""
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        assert whole(NATIVE, np.full(step, value, dtype), step).item() == value


def test_floats_are_summed_in_raster_order() -> None:
    """Another order would lose another part of 1e16 + 1 - 1e16."""
    image = np.array([[[1e16, 1.0], [-1e16, 1.0]]])
    assert whole(NATIVE, image, (1, 2, 2)).item() == ((1e16 + 1.0) - 1e16 + 1.0) / 4


def test_float16_means_are_rounded_once() -> None:
    """A mean just over half way goes up, though float32 would make it exactly half way."""
    image = np.array([[2.0**-24, 2 + 2.0**-9], [1, 1]], np.float16)
    assert whole(NATIVE, image, (2, 2)).item() == 1 + 2.0**-10


@pytest.mark.parametrize("step", [(1, 2), (1, 3), (3, 3)])
def test_the_mean_of_negative_zeros_is_negative(step: Shape) -> None:
    """Sums begin with what changes none, the sign of zero included."""
    assert np.signbit(whole(NATIVE, np.full(step, -0.0, np.float32), step)).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_infinities_and_nan_stay_in_their_bin(dtype: str) -> None:
    """A bin with an infinity or a NaN has it for its mean; its neighbours do not."""
    for step in ((1, 2), (1, 3)):
        image = np.ones((1, 5 * step[1]), dtype)
        image[0, [0, step[1], 3 * step[1]]] = np.inf, -np.inf, np.nan
        np.testing.assert_array_equal(whole(NATIVE, image, step), [[np.inf, -np.inf, 1, np.nan, 1]])


def test_the_window_is_only_read() -> None:
    """A window that is read-only and not contiguous works, and keeps its samples."""
    base = pixels(np.random.default_rng(2), ">u2", (24, 10, 12), "range")
    assert_only_read(NATIVE, definition, base, (2, 2, 2))


def test_threads_get_the_samples_of_one_thread() -> None:
    """The buffers of one thread are not another's."""
    images = [pixels(np.random.default_rng(i), "u2", (30, 60, 70), "range") for i in range(12)]
    assert_threads_agree(NATIVE, images, (2, 2, 2))


def test_every_numeric_dtype_is_taken() -> None:
    """And no other."""
    assert [d for d in INTEGERS + FLOATS if NATIVE.refusal(np.dtype(d))] == []
    assert [d for d in ("g", "G", "O", "U3", "M8[s]") if not NATIVE.refusal(np.dtype(d))] == []


def test_workspace_does_not_grow_with_the_image() -> None:
    """A line and one piece: a window of a terabyte needs no more than 32 MB."""
    for dtype in ("u1", "f4", "u8"):
        for step in ((1, 2, 2, 2), (1, 1, 5, 5), (1, 16, 16, 16)):
            window = (3, 2**13, 2**13, 2**14)
            assert NATIVE.workspace(window, np.dtype(dtype), step) <= 2**25


def test_a_wide_window_of_one_bin_is_no_larger_than_itself() -> None:
    """Shapes of no bin at all give no sample, and no error."""
    found = NATIVE.reduce(np.zeros((4, 4), "u1"), (0, 0), (2, 2), (0, 2))
    assert bins(found, (1, 1)) == (0, 2)
