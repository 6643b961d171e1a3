"""The native Gaussians against numpy, scipy, and the itkwasm module where that is right."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Region
from ngff_core.kernels import gaussian, rows
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.gaussian import NativeGaussian, SampledGaussian
from ngff_core.kernels.itkwasm import ItkwasmGaussian
from tests.ngff_core.kernels.test_itkwasm import (
    Shape,
    assert_same_bytes,
    bessel_i0,
    bessel_i1,
    bessel_in,
    bins,
    piece,
    whole,
)

NATIVE, SAMPLED, ITKWASM = NativeGaussian(), SampledGaussian(), ItkwasmGaussian()
SINGLE = ("?", "i1", "u1", "<i2", ">u2", "<u2", "f2", "<f4", ">f4", "c8")
DOUBLE = (">i4", "u4", "i8", ">u8", "u8", "f8", ">f8", "c16")
by_kernel = pytest.mark.parametrize("kernel", [NATIVE, SAMPLED], ids=lambda k: type(k).__name__)


# ---------------------------------------------------------------- the definitions


def gaussian_weights(step: int) -> Any:
    """Weights 0 … radius of the discrete Gaussian; its variance is a rounded root, squared."""
    sigma = math.sqrt((step * step - 1) / (8 * math.log(2)))
    t = sigma * sigma
    weights = [math.exp(-t) * bessel_i0(t), math.exp(-t) * bessel_i1(t)]
    total = weights[0] + 2 * weights[1]
    while total < 0.99 and len(weights) <= 32:
        weights.append(math.exp(-t) * bessel_in(len(weights), t))
        total += 2 * weights[-1]
    return np.array([w / total for w in weights])


def ascending(samples: Any, step: int, axis: int) -> Any:
    """One pass in the samples' precision: float64 sums, taps in ascending order."""
    if step == 1:
        return samples
    weights = gaussian_weights(step)
    radius, n = len(weights) - 1, samples.shape[axis]
    around = [(radius, radius) if i == axis else (0, 0) for i in range(samples.ndim)]
    padded = np.pad(samples, around, mode="edge").astype(np.float64)
    total = np.zeros(samples.shape)
    for j in range(2 * radius + 1):
        total = total + weights[abs(j - radius)] * np.take(padded, range(j, j + n), axis)
    return total.astype(samples.dtype)


def by_scipy(samples: Any, step: int, axis: int) -> Any:
    """One pass of ``scipy.ndimage.gaussian_filter``."""
    sigma = [0.0] * samples.ndim
    sigma[axis] = math.sqrt((step * step - 1) / (8 * math.log(2)))
    return scipy.ndimage.gaussian_filter(samples, sigma, mode="nearest", truncate=4)


def rounded(samples: Any, dtype: np.dtype[Any]) -> Any:
    """Half to even and clipped, in Python's own integers."""
    if dtype.kind == "f":
        return samples.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    values = [min(max(int(v), low), high) for v in np.rint(samples).ravel().tolist()]
    return np.array(values, dtype).reshape(samples.shape)


def definition(smooth: Any, image: Any, step: Shape) -> Any:
    """Passes along slow axes first, interpolation along x first, in float64."""
    if image.dtype.kind == "c":
        out = np.empty(bins(image, step), image.dtype)
        out.real, out.imag = (
            definition(smooth, image.real, step),
            definition(smooth, image.imag, step),
        )
        return out
    small = image.dtype.itemsize <= (4 if image.dtype.kind == "f" else 2)
    work = np.float32 if small else np.float64
    samples = image.astype(work)
    for axis, k in enumerate(step):
        samples = smooth(samples, k, axis)
    samples = samples.astype(np.float64)
    for axis, k in reversed(list(enumerate(step))):
        lower = np.arange(image.shape[axis] // k) * k + (k - 1) // 2
        a = np.take(samples, lower, axis)
        samples = a if k % 2 else a + (np.take(samples, lower + 1, axis) - a) * 0.5
    return rounded(samples.astype(work), image.dtype.newbyteorder("="))


DEFINITION = {NATIVE: partial(definition, ascending), SAMPLED: partial(definition, by_scipy)}


# ---------------------------------------------------------------- images


def pixels(rng: np.random.Generator, dtype: Any, shape: Shape, style: str) -> Any:
    """An image of ``dtype``: over its whole range, of its extremes, or, for floats, of values
    that cancel, so that another order of additions gives another sum.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        part = "f4" if dtype.itemsize == 8 else "f8"
        image = np.empty(shape, dtype)
        image.real, image.imag = pixels(rng, part, shape, style), pixels(rng, part, shape, style)
        return image
    if dtype.kind == "f":
        values = rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, shape)
        if style == "extreme":
            values = rng.choice([float(np.finfo(dtype).tiny), 0.0, -2.5, 1e4], shape)
        if style == "cancelling" and dtype.itemsize > 2:
            values = rng.choice([1e30, -1e30, 1.0, 3.0], shape)
        return values.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    native = dtype.newbyteorder("=") if dtype.kind != "b" else np.dtype(np.uint8)
    if style == "extreme":
        return rng.choice(np.array([low, low, high, high], native), shape).astype(dtype)
    return rng.integers(low, high, shape, native, endpoint=True).astype(dtype)


@st.composite
def cases(draw: st.DrawFn, dtypes: tuple[str, ...]) -> tuple[Any, Shape]:
    """An image of 1 to 5 axes, a step of up to 16 per axis, and whole bins on each."""
    ndim = draw(st.integers(1, 5))
    spatial = draw(st.integers(max(1, ndim - 2), min(3, ndim)))
    most = {1: 900, 2: 90, 3: 24}[spatial] if ndim < 4 else 9
    step = draw(st.tuples(*[st.integers(1, min(16, most))] * spatial))
    sizes = [draw(st.integers(k, max(k, most))) for k in step]
    outer = ndim - spatial
    shape = (*draw(st.tuples(*[st.integers(1, 3)] * outer)), *sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from(dtypes))
    image = pixels(rng, dtype, shape, draw(st.sampled_from(["range", "extreme", "cancelling"])))
    return image, (1,) * outer + step


# ---------------------------------------------------------------- one definition, one answer


@by_kernel
@given(cases(SINGLE + DOUBLE))
@settings(max_examples=150)
def test_samples_follow_the_definition(kernel: Kernel, case: tuple[Any, Shape]) -> None:
    """Every dtype, number of axes and mix of steps gives the samples of the definition."""
    image, step = case
    found = whole(kernel, image, step)
    assert found.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, DEFINITION[kernel](image, step))


@given(cases(SINGLE))
@settings(max_examples=60)
def test_the_module_gives_the_same_bytes(case: tuple[Any, Shape]) -> None:
    """What the itkwasm back end takes, both compute alike."""
    image, step = case
    assert_same_bytes(whole(NATIVE, image, step), whole(ITKWASM, image, step))


@by_kernel
@given(cases(SINGLE + DOUBLE), st.data())
@settings(max_examples=100)
def test_a_region_has_the_samples_of_the_whole(
    kernel: Kernel, case: tuple[Any, Shape], data: st.DataObject
) -> None:
    """Any region from its window, in pieces and strips of any size, has the bytes of the whole."""
    image, step = case
    expected = whole(kernel, image, step)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in expected.shape)
    stop = tuple(
        data.draw(st.integers(a + 1, n)) for a, n in zip(start, expected.shape, strict=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_PIECE_SAMPLES", data.draw(st.sampled_from([1, 500, 2**20])))
        patch.setattr(gaussian, "_STRIP_SAMPLES", data.draw(st.sampled_from([1, 10, 100])))
        found = piece(kernel, image, step, Region(start, stop))
    assert_same_bytes(found, np.ascontiguousarray(expected[Region(start, stop).slices]))


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
    before = base.copy()
    views = [
        base[::2, ::-1].transpose(2, 0, 1),
        base[1::2, :, 1:],
        base[:, ::3],
        base[..., ::2],
        np.broadcast_to(base[:1], (6, 10, 12)),
    ]
    for view in views:
        view.setflags(write=False)
        found = whole(kernel, view, (2, 2, 2))
        np.testing.assert_array_equal(found, DEFINITION[kernel](view.copy(), (2, 2, 2)))
    np.testing.assert_array_equal(base, before)


def test_unaligned_samples_are_read_rightly() -> None:
    """Samples at odd addresses, as in a packed record."""
    record = np.zeros(30 * 40, [("skip", "u1"), ("value", "<u2")])
    record["value"] = np.arange(1200)
    view = record["value"].reshape(30, 40)
    assert not view.flags.aligned
    assert_same_bytes(whole(NATIVE, view, (2, 2)), whole(NATIVE, view.copy(), (2, 2)))


@by_kernel
def test_threads_get_the_samples_of_one_thread(kernel: Kernel) -> None:
    """Four threads at once get what one thread gets."""
    images = [pixels(np.random.default_rng(i), "u2", (30, 60, 70), "range") for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: whole(kernel, image, (2, 2, 2)), images))
    for image, found in zip(images, together, strict=True):
        assert_same_bytes(found, whole(kernel, image, (2, 2, 2)))


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
    """From step 63 on ITK's weights are NaN: the caller is told what to change."""
    with pytest.raises(InvalidOptionError, match=r"step of 63 .* levels in between"):
        NATIVE.halo((1, 63))


@by_kernel
def test_the_halo_is_the_radius(kernel: Kernel) -> None:
    """The radius of ITK's weights, and four standard deviations of scipy's."""
    for step in range(2, 63):
        sigma = math.sqrt((step * step - 1) / (8 * math.log(2)))
        radius = len(gaussian_weights(step)) - 1 if kernel is NATIVE else int(4 * sigma + 0.5)
        assert kernel.halo((step, 1)) == (radius, 0)


@by_kernel
def test_every_numeric_dtype_is_taken(kernel: Kernel) -> None:
    """And no other."""
    assert [d for d in SINGLE + DOUBLE if kernel.refusal(np.dtype(d))] == []
    assert [d for d in ("g", "G", "O", "U3", "M8[s]") if not kernel.refusal(np.dtype(d))] == []


# ---------------------------------------------------------------- machine code and memory


def test_no_multiplication_is_fused_with_an_addition() -> None:
    """A fused multiply-add rounds once where the definition rounds twice."""
    fresh = rows.Compiled(gaussian._weigh, gaussian._to_single).uncached()
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
