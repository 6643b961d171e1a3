"""The itkwasm kernels against definitions written out in numpy and plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.itkwasm import (
    ItkwasmBinShrink,
    ItkwasmGaussian,
    ItkwasmLabelImage,
    volumes,
    wasm,
)
from ngff_core.kernels.itkwasm.gaussian import _runs
from tests.support.drawn import cases, check_region, pixels
from tests.support.oracles import (
    Shape,
    assert_only_read,
    assert_same_bytes,
    assert_threads_agree,
    by_bin,
    gaussian,
    gaussian_weights,
    mean,
    vote,
    whole,
)

GAUSSIAN, BIN_SHRINK, LABEL = ItkwasmGaussian(), ItkwasmBinShrink(), ItkwasmLabelImage()
KERNELS: list[Kernel] = [GAUSSIAN, BIN_SHRINK, LABEL]


DEFINITION: dict[Kernel, Callable[[Any, Shape], Any]] = {
    GAUSSIAN: gaussian,
    BIN_SHRINK: by_bin(mean),
    LABEL: by_bin(vote),
}
DTYPES: dict[Kernel, tuple[str, ...]] = {
    GAUSSIAN: ("?", "i1", "u1", "<i2", ">u2", "f2", "<f4", ">f4", "c8"),
    BIN_SHRINK: ("?", "i1", "u1", "i2", ">u2", ">i4", "u4", "f2", "<f4", ">f4", "c8"),
    LABEL: ("?", "i1", "u2", ">i4", "u4", "i8", "<u8", ">u8", "f2", ">f4", "f8"),
}


def drawn(kernel: Kernel) -> st.SearchStrategy[tuple[Any, Shape]]:
    """Images of the dtypes that ``kernel`` takes; the module is slow, so they are small."""
    styles = ("few", "range", "extreme")
    return cases(DTYPES[kernel], styles, longest=(40, 40, 18, 7), largest=5)


by_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)


# ---------------------------------------------------------------- one definition, one answer


@by_kernel
def test_samples_follow_the_definition(kernel: Kernel) -> None:
    """Every dtype, number of axes and mix of steps gives the samples of the definition."""

    @given(drawn(kernel))
    @settings(max_examples=60, deadline=None)
    def check(case: tuple[Any, Shape]) -> None:
        image, step = case
        found = whole(kernel, image, step)
        assert found.dtype == image.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, DEFINITION[kernel](image, step))

    check()


@by_kernel
def test_a_region_has_the_samples_of_the_whole(kernel: Kernel) -> None:
    """Any region from its window, in tiles of any size, has the bytes of the whole level."""

    @given(drawn(kernel), st.data())
    @settings(max_examples=40, deadline=None)
    def check(case: tuple[Any, Shape], data: st.DataObject) -> None:
        image, step = case
        check_region(
            kernel, image, step, data, (volumes, "TILE_SAMPLES", [1, 500, volumes.TILE_SAMPLES])
        )

    check()


@by_kernel
@pytest.mark.parametrize("width", [45, 99, 100, 140, 300])
def test_the_width_of_an_image_does_not_matter(kernel: Kernel, width: int) -> None:
    """Widths at which ITK's scan line positions are an ulp off give exact samples too."""
    image = np.random.default_rng(width).integers(0, 3, (4, 6, 2 * width)).astype(np.float32)
    np.testing.assert_array_equal(
        whole(kernel, image, (2, 2, 2)), DEFINITION[kernel](image, (2, 2, 2))
    )


@by_kernel
def test_c_goes_through_as_if_it_were_z(kernel: Kernel) -> None:
    """The channels of a cyx window come out as each does alone."""
    image = pixels(np.random.default_rng(0), "u2", (3, 21, 34), "range")
    alone = np.stack([whole(kernel, channel, (3, 2)) for channel in image])
    assert_same_bytes(whole(kernel, image, (1, 3, 2)), alone)


@by_kernel
def test_samples_before_the_first_bin_are_skipped(kernel: Kernel) -> None:
    """``offset`` counts on every axis, t and c included."""
    image = pixels(np.random.default_rng(3), "u1", (2, 3, 12, 14, 16), "range")
    step, offset = (1, 1, 2, 2, 2), (1, 2, 4, 2, 6)
    region = tuple(slice(a // k, None) for a, k in zip(offset, step, strict=True))
    expected = whole(kernel, image, step)[region]
    found = kernel.reduce(image, offset, step, expected.shape)
    assert_same_bytes(found, np.ascontiguousarray(expected))


@by_kernel
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 2, 2), (1, 9), (9, 2), (3,), (2, 1, 1)])
def test_windows_smaller_than_the_weights(kernel: Kernel, shape: Shape) -> None:
    """Axes of one or two samples are legal, whatever the radius."""
    image = pixels(np.random.default_rng(1), "u1", shape, "range")
    step = tuple(min(2, n) for n in shape)
    np.testing.assert_array_equal(whole(kernel, image, step), DEFINITION[kernel](image, step))


@by_kernel
def test_the_window_is_only_read(kernel: Kernel) -> None:
    """A window that is read-only and not contiguous works, and keeps its samples."""
    base = pixels(np.random.default_rng(2), ">u2", (24, 10, 12), "range")
    assert_only_read(kernel, DEFINITION[kernel], base, (2, 2, 2))


@by_kernel
def test_threads_get_the_samples_of_one_thread(kernel: Kernel) -> None:
    """Several threads at once, the first calls included, get what one thread gets."""
    images = [pixels(np.random.default_rng(i), "u2", (12, 40, 50), "few") for i in range(8)]
    wasm._compiled.cache_clear()
    assert_threads_agree(kernel, images, (2, 2, 2))


def test_the_module_is_made_ready_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight first calls at once compile the module once."""
    made = []
    real = wasm.import_module
    monkeypatch.setattr(wasm, "import_module", lambda name: made.append(name) or real(name))
    wasm._compiled.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: whole(BIN_SHRINK, np.zeros((4, 4), "u1"), (2, 2)), range(8)))
    assert made == ["itkwasm", "itkwasm_downsample_wasi"]


# ---------------------------------------------------------------- Gaussian


def test_radius_is_that_of_the_weights() -> None:
    """The halo is the radius of ITK's weights, for every step the module can do."""
    for step in range(2, 63):
        assert GAUSSIAN.halo((step, 1)) == (len(gaussian_weights(step)) - 1, 0)


@pytest.mark.parametrize("step", [6, 7, 8, 10, 16, 33, 62])
def test_large_steps_follow_the_definition(step: int) -> None:
    """Steps beyond those of the property tests, up to the largest, are exact as well."""
    image = pixels(np.random.default_rng(step), "f4", (3, 5 * step + 1), "range")
    np.testing.assert_array_equal(whole(GAUSSIAN, image, (1, step)), gaussian(image, (1, step)))


def test_a_step_the_module_cannot_do_is_refused() -> None:
    """From step 63 on the module's weights are NaN: the error says what to change."""
    with pytest.raises(InvalidOptionError, match=r"step of 63 .* levels in between"):
        GAUSSIAN.halo((1, 63))


def test_a_ramp_reads_its_bin_centres() -> None:
    """Away from the border, sample i of a ramp is its position i k + (k - 1) / 2."""
    ramp = np.arange(96, dtype=np.float32)
    found = whole(GAUSSIAN, ramp, (4,))
    np.testing.assert_allclose(found[2:-2], np.arange(24)[2:-2] * 4 + 1.5, rtol=1e-6)


def test_nan_spreads_as_far_as_the_weights() -> None:
    """One NaN makes NaN of the samples within its radius, and of no others."""
    image = np.zeros((1, 32), np.float32)
    image[0, 16] = np.nan
    assert np.flatnonzero(np.isnan(whole(GAUSSIAN, image, (1, 2)))[0]).tolist() == [7, 8, 9]


@given(st.integers(1, 5000), st.integers(0, 2), st.sampled_from([32, 64, 512]))
@settings(deadline=None)
def test_runs_cover_x_and_waste_little(bins: int, halo: int, widest: int) -> None:
    """Runs cover all bins; padding to powers of two costs less than half again, and 32."""
    runs = list(_runs(bins, halo, widest))
    padded = [volumes.power_of_two(run + 2 * halo) for run in runs]
    assert sum(runs) == bins
    assert min(runs) > 0
    assert max(padded) <= widest
    assert sum(padded) <= 1.5 * bins + 64


@pytest.mark.parametrize("width", [45, 51, 100, 127])
def test_scan_line_positions_are_exact(width: int) -> None:
    """The last bit of the samples is right at widths whose positions ITK gets an ulp off."""
    image = pixels(np.random.default_rng(width), "f4", (20, 20, 2 * width), "range")
    np.testing.assert_array_equal(whole(GAUSSIAN, image, (2, 2, 2)), gaussian(image, (2, 2, 2)))


# ---------------------------------------------------------------- bin shrink


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4"])
@pytest.mark.parametrize("step", [(2, 2, 2), (3, 2, 1), (2, 7, 7), (5, 6, 5)])
def test_means_half_way_go_up(dtype: str, step: Shape) -> None:
    """A mean of m + 1/2 becomes m + 1, below zero and at the ends of the dtype too.

    A product of steps such as 98 is one at which multiplying by 1/N fails.
    """
    info, n = np.iinfo(dtype), math.prod(step)
    lower = np.linspace(info.min, info.max - 1, 64, dtype=np.int64)
    samples = np.repeat(lower[:, np.newaxis], n, axis=1)
    samples[:, : n // 2] += 1
    tile = samples.reshape(64, *step).astype(dtype)
    image = np.concatenate(list(tile), axis=2)
    expected = lower + (2 * (n // 2) >= n)
    np.testing.assert_array_equal(whole(BIN_SHRINK, image, step).ravel(), expected)


def test_float32_means_are_divided_not_multiplied() -> None:
    """A mean half way between two float32 is rounded to even, as division gives it."""
    odd = np.arange(2**24 + 1, 2**24 + 4001, 2, dtype=np.int64)
    image = np.stack([odd - 1, odd, odd + 1]).T.reshape(1, -1)
    image = np.concatenate([image - image % 2, image - image % 2 + 2])[:, : 3 * len(odd)]
    image = image.astype(np.float32)
    np.testing.assert_array_equal(
        whole(BIN_SHRINK, image, (2, 3)), DEFINITION[BIN_SHRINK](image, (2, 3))
    )


def test_float16_means_are_rounded_once() -> None:
    """A mean just over half way goes up, though float32 would make it exactly half way."""
    image = np.array([[2.0**-24, 2 + 2.0**-9], [1, 1]], np.float16)
    assert whole(BIN_SHRINK, image, (2, 2)).item() == 1 + 2.0**-10


@pytest.mark.parametrize("step", [(1, 2), (1, 3), (3, 3)])
def test_the_mean_of_negative_zeros_is_negative(step: Shape) -> None:
    """Filling bins up changes no sum, not even the sign of zero."""
    assert np.signbit(whole(BIN_SHRINK, np.full(step, -0.0, np.float32), step)).all()


def test_infinities_and_nan_stay_in_their_bin() -> None:
    """A bin with an infinity or a NaN has it for its mean; its neighbours do not."""
    for step in ((1, 2), (1, 3)):
        image = np.ones((1, 5 * step[1]), np.float32)
        image[0, [0, step[1], 3 * step[1]]] = np.inf, -np.inf, np.nan
        found = whole(BIN_SHRINK, image, step)
        np.testing.assert_array_equal(found, [[np.inf, -np.inf, 1, np.nan, 1]])


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_neighbouring_64_bit_labels_stay_apart(dtype: str) -> None:
    """Labels that float64 cannot tell apart are counted, ordered and returned exactly."""
    labels = np.array([2**60, 2**60 + 1, 2**60 + 2, np.iinfo(dtype).max, 0], dtype)
    image = np.random.default_rng(4).choice(labels, (6, 8, 10))
    np.testing.assert_array_equal(
        whole(LABEL, image, (2, 2, 2)), DEFINITION[LABEL](image, (2, 2, 2))
    )


def test_float_labels_that_are_equal_are_one_label() -> None:
    """-0.0 votes with 0.0 and comes out as 0.0; NaN is one label, the largest."""
    nan = np.nan
    image = np.array([[-0.0, 0.0, nan, nan, nan, 7.0], [1.0, 2.0, nan, 1.0, nan, 7.0]])
    found = whole(LABEL, image, (2, 2))
    np.testing.assert_array_equal(found, [[0.0, nan, 7.0]])
    assert not np.signbit(found[0, 0])


def test_a_thousand_labels_cost_no_more_than_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module never meets more than eight labels at once, and never a uniform bin."""
    seen: list[Any] = []
    real = wasm.run
    monkeypatch.setattr(wasm, "run", lambda n, a, k: seen.append(a) or real(n, a, k))
    image = np.arange(20 * 10 * 10, dtype=np.uint16).reshape(20, 10, 10)
    image[:10] = 5
    whole(LABEL, image, (2, 2, 2))
    assert [(a.max(), a.size) for a in seen] == [(7, 128 * 8)]


def test_odd_steps_copy_centres_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """With odd steps on all axes there is one voter: the centre voxel."""
    monkeypatch.delattr(wasm, "run")
    image = np.arange(81).reshape(9, 9)
    np.testing.assert_array_equal(whole(LABEL, image, (3, 3)), image[1::3, 1::3])


# ---------------------------------------------------------------- dtypes and memory


@pytest.mark.parametrize(
    ("kernel", "refused"),
    [
        (GAUSSIAN, ("i4", "u4", "i8", "u8", "f8", "c16", "O", "U3", "M8[s]")),
        (BIN_SHRINK, ("i8", "u8", "f8", "c16", "g", "O", "U3", "M8[s]")),
        (LABEL, ("c8", "c16", "g", "O", "U3", "M8[s]")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_exact_is_refused(kernel: Kernel, refused: tuple[str, ...]) -> None:
    """Dtypes with wrong samples are refused with a reason; the others, in any order, not."""
    assert [d for d in refused if not kernel.refusal(np.dtype(d))] == []
    assert [d for d in DTYPES[kernel] if kernel.refusal(np.dtype(d))] == []


@by_kernel
def test_workspace_does_not_grow_with_the_image(kernel: Kernel) -> None:
    """Temporaries belong to one tile: a window of a terabyte needs no more than 256 MB."""
    for dtype in ("u1", "f4", "u8"):
        for step in ((1, 2, 2, 2), (1, 1, 5, 5), (1, 16, 16, 16)):
            window = (3, 2**13, 2**13, 2**14)
            small = kernel.workspace((1, 64, 64, 64), np.dtype(dtype), step)
            assert small <= kernel.workspace(window, np.dtype(dtype), step) <= 2**28


@by_kernel
def test_the_module_gets_no_more_than_the_workspace_counts(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No module call is larger than the tile from which the workspace is computed."""
    sizes: list[int] = []
    real = wasm.run
    monkeypatch.setattr(wasm, "run", lambda n, a, k: sizes.append(a.size) or real(n, a, k))
    monkeypatch.setattr(volumes, "TILE_SAMPLES", 20_000)
    image = pixels(np.random.default_rng(5), "u1", (40, 50, 130), "few")
    whole(kernel, image, (2, 2, 2))
    assert len(sizes) > 1
    assert max(sizes) <= 32_768
