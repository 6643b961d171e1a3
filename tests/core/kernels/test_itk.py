"""The kernels of the ``itk`` package against the native ones, where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.kernels import itk, rows
from ngff_core.kernels.bin_shrink import NativeBinShrink
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.gaussian import NativeGaussian
from ngff_core.kernels.itk import ItkBinShrink, ItkGaussian
from tests.support.drawn import NUMBERS, SINGLE, cases
from tests.support.oracles import Shape, assert_same_bytes, whole

PAIRS: list[tuple[Kernel, Kernel]] = [
    (ItkGaussian(), NativeGaussian()),
    (ItkBinShrink(), NativeBinShrink()),
]


@pytest.mark.parametrize(("kernel", "native"), PAIRS, ids=["Gaussian", "BinShrink"])
def test_the_samples_are_those_of_the_native_code(kernel: Kernel, native: Kernel) -> None:
    """To the byte, for every dtype that is taken, in pieces of any size."""
    pytest.importorskip("itk")
    dtypes = tuple(d for d in NUMBERS if not kernel.refusal(np.dtype(d)))

    @given(cases(dtypes), st.sampled_from([500, 2**20]))
    @settings(max_examples=60)
    def check(case: tuple[Any, Shape], size: int) -> None:
        image, step = case
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "_PIECE_SAMPLES", size)
            found = whole(kernel, image, step)
        assert_same_bytes(found, whole(native, image, step))

    check()


@pytest.mark.parametrize("kernel", [kernel for kernel, _ in PAIRS], ids=["Gaussian", "BinShrink"])
def test_a_missing_package_is_named_with_its_extra(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install, and which methods need no extra package."""
    monkeypatch.setattr(itk, "find_spec", lambda name: None)
    with pytest.raises(InvalidOptionError, match=r"ngff-flows\[itk\].* itkwasm_gaussian"):
        whole(kernel, np.zeros((4, 4), "u1"), (2, 2))


def test_interpolation_is_at_the_centres() -> None:
    """On a ramp: i k + (k - 1) / 2, from the sample at ``offset`` on."""
    ramp = np.arange(60.0).reshape(1, 1, 60)
    found = itk._at_centres(ramp, (0, 0, 10), (1, 1, 5), (1, 1, 4))
    np.testing.assert_array_equal(found.ravel(), [12, 17, 22, 27])
    found = itk._at_centres(ramp, (0, 0, 4), (1, 1, 4), (1, 1, 3))
    np.testing.assert_array_equal(found.ravel(), [5.5, 9.5, 13.5])


def test_what_itk_cannot_do_exactly_is_refused() -> None:
    """Means of 64-bit samples; the Gaussian takes what the native one takes."""
    gaussian, shrink = ItkGaussian(), ItkBinShrink()
    assert [d for d in ("i8", "u8", "f8", "c16", "O") if not shrink.refusal(np.dtype(d))] == []
    assert [d for d in (*SINGLE, "u4", ">i4") if shrink.refusal(np.dtype(d))] == []
    assert [d for d in NUMBERS if gaussian.refusal(np.dtype(d))] == []
