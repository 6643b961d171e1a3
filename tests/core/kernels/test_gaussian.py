"""The native Gaussians against numpy, scipy, and the itkwasm module where that is right."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.kernels import gaussian, gaussian_passes, rows
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.gaussian import NativeGaussian, SampledGaussian
from ngff_core.kernels.itkwasm import ItkwasmGaussian
from tests.support import oracles
from tests.support.drawn import NUMBERS, SINGLE, cases, check_region, pixels
from tests.support.oracles import (
    Shape,
    assert_only_read,
    assert_same_bytes,
    assert_threads_agree,
    gaussian_weights,
    whole,
)

NATIVE, SAMPLED, ITKWASM = NativeGaussian(), SampledGaussian(), ItkwasmGaussian()
LONGEST = (900, 90, 24, 9)
drawn = partial(cases, longest=LONGEST)
by_kernel = pytest.mark.parametrize("kernel", [NATIVE, SAMPLED], ids=lambda k: type(k).__name__)


# ---------------------------------------------------------------- the definitions


def by_scipy(samples: Any, step: int, axis: int) -> Any:
    """One pass of ``scipy.ndimage.gaussian_filter``."""
    sigma = [0.0] * samples.ndim
    sigma[axis] = math.sqrt((step * step - 1) / (8 * math.log(2)))
    return scipy.ndimage.gaussian_filter(samples, sigma, mode="nearest", truncate=4)


DEFINITION = {NATIVE: oracles.gaussian, SAMPLED: partial(oracles.gaussian, smooth=by_scipy)}


# ---------------------------------------------------------------- one definition, one answer


@by_kernel
@given(drawn(NUMBERS))
@settings(max_examples=150)
def test_samples_follow_the_definition(kernel: Kernel, case: tuple[Any, Shape]) -> None:
    """Every dtype, number of axes and mix of steps gives the samples of the definition."""
    image, step = case
    found = whole(kernel, image, step)
    assert found.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, DEFINITION[kernel](image, step))


@given(drawn(SINGLE))
@settings(max_examples=60)
def test_the_module_gives_the_same_bytes(case: tuple[Any, Shape]) -> None:
    """What the itkwasm back end takes, both compute alike."""
    image, step = case
    assert_same_bytes(whole(NATIVE, image, step), whole(ITKWASM, image, step))


@by_kernel
@given(drawn(NUMBERS), st.data())
@settings(max_examples=100)
def test_a_region_has_the_samples_of_the_whole(
    kernel: Kernel, case: tuple[Any, Shape], data: st.DataObject
) -> None:
    """Any region from its window, in pieces and strips of any size, has the bytes of the whole."""
    image, step = case
    check_region(
        kernel,
        image,
        step,
        data,
        (rows, "_PIECE_SAMPLES", [1, 500, 2**20]),
        (gaussian, "_STRIP_SAMPLES", [1, 10, 100]),
    )


@pytest.mark.parametrize(
    ("shape", "step"), [((70, 131, 257), (2, 2, 2)), ((3, 400, 1999), (1, 2, 2))]
)
def test_images_of_many_strips_and_chunks(shape: Shape, step: Shape) -> None:
    """Sizes that cross several chunks, with odd ends, in the module's bytes."""
    image = pixels(np.random.default_rng(0), "u2", shape, "range")
    found = whole(NATIVE, image, step)
    assert_same_bytes(found, whole(ITKWASM, image, step))
    assert_same_bytes(found, whole(NATIVE, image.astype(">u2"), step))


def cancelling(step: int, dtype: str, weights: Any) -> tuple[Any, int]:
    """Rows of noise whose weighted sums around one bin's centre are nearly zero.

    What is left of a sum is rounding, and another order of additions leaves something else.
    Returns the rows, and that bin.
    """
    radius = len(weights) // 2
    bin_ = -(-radius // step)
    first = bin_ * step + (step - 1) // 2
    image = np.random.default_rng(step).normal(size=(2000, (2 * bin_ + 2) * step)).astype(dtype)
    for centre in range(first, first + 2 - step % 2):
        taps = image[:, centre - radius : centre + radius + 1].astype(np.float64)
        image[:, centre + radius] = -(taps[:, :-1] @ weights[:-1]) / weights[-1]
    return image, bin_


@by_kernel
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("step", [2, 3, 4, 5, 7, 8, 11, 16, 40])
def test_taps_are_added_in_their_order(kernel: Kernel, dtype: str, step: int) -> None:
    """Along x and y, where nothing but the rounding of each addition is left of a sum."""
    image, bin_ = cancelling(step, dtype, np.array(kernel._filter.weights(step)))  # type: ignore[attr-defined]
    expected = DEFINITION[kernel](image, (1, step))
    assert np.abs(expected[:, bin_]).max() < 1e-3
    np.testing.assert_array_equal(whole(kernel, image, (1, step)), expected)
    np.testing.assert_array_equal(whole(kernel, image.T, (step, 1)), expected.T)
    if kernel is NATIVE and dtype == "f4":
        np.testing.assert_array_equal(whole(ITKWASM, image, (1, step)), expected)


@by_kernel
@pytest.mark.parametrize("step", [17, 20, 33, 62])
def test_large_steps_follow_the_definition(kernel: Kernel, step: int) -> None:
    """Steps beyond those of the property tests, up to the largest, are exact as well."""
    image = pixels(np.random.default_rng(step), "f4", (3, 5 * step + 1), "range")
    np.testing.assert_array_equal(
        whole(kernel, image, (1, step)), DEFINITION[kernel](image, (1, step))
    )


@by_kernel
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 2, 2), (1, 9), (9, 2), (3,), (2, 1, 1)])
def test_windows_smaller_than_the_weights(kernel: Kernel, shape: Shape) -> None:
    """Axes of one or two samples are legal, whatever the radius."""
    image = pixels(np.random.default_rng(1), "u1", shape, "range")
    step = tuple(min(2, n) for n in shape)
    np.testing.assert_array_equal(whole(kernel, image, step), DEFINITION[kernel](image, step))


@by_kernel
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "f4"])
def test_the_window_is_only_read(kernel: Kernel, dtype: str) -> None:
    """A window that is read-only and not contiguous works, and keeps its samples."""
    base = pixels(np.random.default_rng(2), dtype, (24, 10, 12), "range")
    assert_only_read(kernel, DEFINITION[kernel], base, (2, 2, 2))


def test_unaligned_samples_are_read_rightly() -> None:
    """Samples at odd addresses, as in a packed record."""
    record = np.zeros(30 * 40, [("skip", "u1"), ("value", "<u2")])
    record["value"] = np.arange(1200)
    view = record["value"].reshape(30, 40)
    assert not view.flags.aligned
    assert_same_bytes(whole(NATIVE, view, (2, 2)), whole(NATIVE, view.copy(), (2, 2)))


@by_kernel
def test_threads_get_the_samples_of_one_thread(kernel: Kernel) -> None:
    """The buffers of one thread are not another's."""
    images = [pixels(np.random.default_rng(i), "u2", (30, 60, 70), "range") for i in range(12)]
    assert_threads_agree(kernel, images, (2, 2, 2))


# ---------------------------------------------------------------- values


@by_kernel
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_a_uniform_image_keeps_the_ends_of_its_dtype(kernel: Kernel, dtype: str) -> None:
    """The largest and the smallest value stay: the module makes 0 of uint32 4294967295."""
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max):
        found = whole(kernel, np.full((9, 20), value, dtype), (2, 3))
        if dtype == "i8" or (dtype == "u8" and value):
            # one float64 below the end is 2**10 (int64) or 2**11 away
            off = [abs(int(v) - int(value)) for v in found.ravel()]
            assert max(off) <= 2**13
        else:
            assert (found == value).all()


@pytest.mark.parametrize("dtype", ["i8", "u8", "u4"])
def test_integers_stay_exact_up_to_2_to_the_53(dtype: str) -> None:
    """Without a filter in the way every bit up to there is kept."""
    value = min(2**53, np.iinfo(dtype).max)
    image = np.arange(value - 99, value + 1, dtype=dtype).reshape(1, -1)
    assert_same_bytes(whole(NATIVE, image, (1, 1)), image)


@by_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_what_is_not_finite_spreads_as_far_as_the_weights(
    kernel: Kernel, value: float, dtype: str
) -> None:
    """To the samples within the radius and to no others; at borders too."""
    for place in (0, 16, 31):
        image = np.ones((2, 32), dtype)
        image[0, place] = value
        found = whole(kernel, image, (1, 2))
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(found, DEFINITION[kernel](image, (1, 2)))
        assert np.isfinite(found[1]).all()


def test_a_ramp_reads_its_bin_centres() -> None:
    """Away from the border, sample i of a ramp is its position i k + (k - 1) / 2."""
    ramp = np.arange(96, dtype=np.float32)
    for kernel in (NATIVE, SAMPLED):
        found = whole(kernel, ramp, (4,))
        np.testing.assert_allclose(found[3:-3], np.arange(24)[3:-3] * 4 + 1.5, rtol=1e-6)


def test_a_step_without_weights_is_refused() -> None:
    """From step 63 on ITK's weights are NaN: the error says what to change."""
    with pytest.raises(InvalidOptionError, match=r"step of 63 .* levels in between"):
        NATIVE.halo((1, 63))


@by_kernel
def test_the_halo_is_the_radius(kernel: Kernel) -> None:
    """The radius of ITK's weights, and four standard deviations of scipy's."""
    for step in range(2, 63):
        sigma = math.sqrt((step * step - 1) / (8 * math.log(2)))
        radius = len(gaussian_weights(step)) - 1 if kernel is NATIVE else int(4 * sigma + 0.5)
        assert kernel.halo((step, 1)) == (radius, 0)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("step", [(1, 1, 2), (1, 2, 1), (2, 1, 1), (2, 2, 2), (3, 1, 1), (3, 3, 3)])
def test_negative_zeros_come_out_as_zeros(step: tuple[int, ...], dtype: str) -> None:
    """ITK's sums begin with zero, whatever is added to it."""
    assert not np.signbit(whole(NATIVE, np.full((9, 9, 9), -0.0, dtype), step)).any()


@by_kernel
def test_every_numeric_dtype_is_taken(kernel: Kernel) -> None:
    """And no other."""
    assert [d for d in NUMBERS if kernel.refusal(np.dtype(d))] == []
    assert [d for d in ("g", "G", "O", "U3", "M8[s]") if not kernel.refusal(np.dtype(d))] == []


# ---------------------------------------------------------------- machine code and memory


def test_no_multiplication_is_fused_with_an_addition() -> None:
    """A fused multiply-add rounds once where the definition rounds twice."""
    fresh = rows.Compiled(gaussian_passes._weigh, gaussian_passes._to_single).uncached()
    row, table = np.zeros(8), np.zeros((8, 8))
    fresh(table, np.arange(8), 0, np.ones(7), row, 8, True, None)
    (code,) = fresh.inspect_asm().values()
    assert re.search(r"\b(v?mulpd|fmul)\b", code)
    assert not re.search(r"\b(vfn?m(add|sub)\w*|fn?m(add|sub|la|ls))\b", code)


@by_kernel
def test_workspace_does_not_grow_with_the_image(kernel: Kernel) -> None:
    """Rows and one piece: a window of a terabyte needs no more than 64 MB."""
    for dtype in ("u1", "f4", "u8"):
        for step in ((1, 2, 2, 2), (1, 1, 5, 5), (1, 16, 16, 16)):
            window = (3, 2**13, 2**13, 2**14)
            assert kernel.workspace(window, np.dtype(dtype), step) <= 2**26
    assert kernel.workspace((64, 64), np.dtype("u2"), (2, 2)) <= 2**17


@pytest.mark.parametrize(("dtype", "limit"), [("<u2", 200_000), (">u2", None), ("u8", None)])
def test_no_more_memory_is_taken_than_promised(dtype: str, limit: int | None) -> None:
    """Beside window and result: rows for what is read in place, one piece otherwise."""
    import tracemalloc

    image, step = np.ones((128, 128, 256), dtype), (2, 2, 2)
    whole(NATIVE, image[:4], step)
    tracemalloc.start()
    try:
        found = whole(NATIVE, image, step)
        peak = tracemalloc.get_traced_memory()[1] - found.nbytes
    finally:
        tracemalloc.stop()
    assert peak <= (limit or NATIVE.workspace(image.shape, image.dtype, step))
