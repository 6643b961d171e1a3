"""The native votes against plain Python and the itkwasm back end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.kernels import label, rows
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.itkwasm import ItkwasmLabelImage
from ngff_core.kernels.label import NativeLabelImage
from ngff_core.kernels.mode import NativeMode
from tests.support.drawn import cases, check_region, pixels
from tests.support.oracles import (
    Shape,
    assert_only_read,
    assert_same_bytes,
    assert_threads_agree,
    bins,
    by_bin,
    mode,
    vote,
    whole,
)

LABEL, MODE, ITKWASM = NativeLabelImage(), NativeMode(), ItkwasmLabelImage()
INTEGERS = ("?", "i1", "u1", "i2", ">u2", "u2", ">i4", "u4", "i8", "<u8", ">u8")
DTYPES = (*INTEGERS, "f2", ">f4", "f4", "f8", ">f8")
STYLES = ("few", "few", "range", "extreme")
by_kernel = pytest.mark.parametrize("kernel", [LABEL, MODE], ids=lambda k: type(k).__name__)


DEFINITION = {LABEL: by_bin(vote), MODE: by_bin(mode)}


@by_kernel
@given(cases(DTYPES, STYLES))
@settings(max_examples=150)
def test_labels_follow_the_definition(kernel: Kernel, case: tuple[Any, Shape]) -> None:
    """Every dtype, number of axes and mix of steps gives the labels of the definition."""
    image, step = case
    found = whole(kernel, image, step)
    assert found.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, DEFINITION[kernel](image, step))


@given(cases(DTYPES, STYLES))
@settings(max_examples=100)
def test_the_module_gives_the_same_bytes(case: tuple[Any, Shape]) -> None:
    """The itkwasm back end elects the same labels."""
    image, step = case
    assert_same_bytes(whole(LABEL, image, step), whole(ITKWASM, image, step))


@given(cases(DTYPES, STYLES, largest=2))
@settings(max_examples=80)
def test_at_step_two_the_bin_is_its_voters(case: tuple[Any, Shape]) -> None:
    """Vote and mode are then one."""
    image, step = case
    assert_same_bytes(whole(LABEL, image, step), whole(MODE, image, step))


@by_kernel
@given(cases(DTYPES, STYLES), st.data())
@settings(max_examples=80)
def test_a_region_has_the_labels_of_the_whole(
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
        (label, "_STRIP", [1, 10, 256]),
    )


@pytest.mark.parametrize("labels", range(1, 9))
def test_every_pattern_of_votes(labels: int) -> None:
    """Eight voters drawn from 1 to 8 labels, 40 000 times, elect as counting does."""
    rng = np.random.default_rng(labels)
    image = rng.integers(0, labels, (2, 2, 80_000), dtype=np.uint16)
    found = whole(LABEL, image, (2, 2, 2)).ravel()
    columns = image.reshape(2, 2, 40_000, 2).transpose(2, 0, 1, 3).reshape(40_000, 8)
    counts = (columns[:, :, np.newaxis] == np.arange(8)).sum(axis=1)
    np.testing.assert_array_equal(found, counts.argmax(axis=1))


@by_kernel
def test_images_of_many_strips_and_chunks(kernel: Kernel) -> None:
    """Sizes that cross several chunks, with odd ends, in either byte order."""
    image = pixels(np.random.default_rng(0), "u2", (6, 131, 1999), "few")
    found = whole(kernel, image, (2, 2, 2))
    assert_same_bytes(found, whole(ITKWASM, image, (2, 2, 2)))
    assert_same_bytes(found, whole(kernel, image.astype(">u2"), (2, 2, 2)))


@by_kernel
@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("step", [(2, 2, 2), (3, 4, 5)])
def test_neighbouring_64_bit_labels_stay_apart(kernel: Kernel, dtype: str, step: Shape) -> None:
    """Labels that float64 cannot tell apart are counted, ordered and returned exactly."""
    labels = np.array(
        [2**60, 2**60 + 1, 2**60 + 2, np.iinfo(dtype).max, np.iinfo(dtype).min], dtype
    )
    image = np.random.default_rng(4).choice(labels, (6, 8, 10))
    np.testing.assert_array_equal(whole(kernel, image, step), DEFINITION[kernel](image, step))


@by_kernel
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_float_labels_that_are_equal_are_one_label(kernel: Kernel, dtype: str) -> None:
    """-0.0 votes with 0.0 and comes out as 0.0; NaN is one label, the largest."""
    nan = np.nan
    image = np.array([[-0.0, 0.0, nan, nan, nan, 7.0], [1.0, 2.0, -nan, 1.0, nan, 7.0]], dtype)
    found = whole(kernel, image, (2, 2))
    np.testing.assert_array_equal(found, np.array([[0.0, nan, 7.0]], found.dtype))
    assert not np.signbit(found[0, 0])
    infinite = np.array([[np.inf, nan, -np.inf, np.inf]], dtype)
    np.testing.assert_array_equal(whole(kernel, infinite, (1, 2)), infinite[:, [0, 2]])


def test_a_bin_of_many_labels_is_counted() -> None:
    """4096 labels in one bin, one of them twice; and numbers that differ in high bits only."""
    image = np.arange(16**3, dtype=np.uint64)
    for shift in (0, 20, 52):
        labels = (image << np.uint64(shift)).copy()
        labels[77] = labels[4000]
        assert whole(MODE, labels.reshape(16, 16, 16), (16, 16, 16)).item() == labels[77]


@by_kernel
def test_the_window_is_only_read(kernel: Kernel) -> None:
    """A window that is read-only and not contiguous works, and keeps its samples."""
    base = pixels(np.random.default_rng(2), ">u2", (24, 10, 12), "few")
    assert_only_read(kernel, DEFINITION[kernel], base, (2, 3, 2))


@by_kernel
def test_threads_get_the_labels_of_one_thread(kernel: Kernel) -> None:
    """The buffers of one thread are not another's."""
    images = [pixels(np.random.default_rng(i), "u2", (30, 60, 70), "few") for i in range(12)]
    assert_threads_agree(kernel, images, (2, 2, 4))


@by_kernel
def test_labels_need_an_order(kernel: Kernel) -> None:
    """Integers and floats have one; complex numbers and text are refused."""
    assert [d for d in DTYPES if kernel.refusal(np.dtype(d))] == []
    assert [d for d in ("c8", "g", "O", "U3", "M8[s]") if not kernel.refusal(np.dtype(d))] == []


@by_kernel
def test_workspace_does_not_grow_with_the_image(kernel: Kernel) -> None:
    """A strip, a table and one piece: a window of a terabyte needs no more than 128 MB."""
    for dtype in ("u1", "f4", "u8"):
        for step in ((1, 2, 2, 2), (1, 1, 5, 5), (1, 16, 16, 16)):
            window = (3, 2**13, 2**13, 2**14)
            assert kernel.workspace(window, np.dtype(dtype), step) <= 2**27


def test_no_bins_give_no_labels() -> None:
    """An empty output is legal."""
    found = LABEL.reduce(np.zeros((4, 4), "u1"), (0, 0), (2, 2), (0, 2))
    assert bins(found, (1, 1)) == (0, 2)
