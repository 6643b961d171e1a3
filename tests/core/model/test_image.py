"""``NgffImage``: what its axes mean, and bringing them in order without reading."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.blocks import ArrayLike
from ngff_core.errors import InvalidOptionError
from ngff_core.model.image import NgffImage, TransposedArray, in_canonical_order, spatial_shape


class Unreadable:
    """An array that must not be read."""

    shape = (2, 3, 4)
    dtype = np.dtype("uint8")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("the array was read")


@st.composite
def slicings(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...], tuple[slice, ...]]:
    """An array, a permutation of its axes, and slices of the permuted view."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    order = tuple(draw(st.permutations(range(len(shape)))))
    bounds = st.none() | st.integers(-6, 6)
    key = tuple(slice(draw(bounds), draw(bounds)) for _ in shape)
    return np.arange(np.prod(shape)).reshape(shape), order, key


@given(slicings())
def test_a_transposed_view_reads_what_numpy_would(
    case: tuple[np.ndarray, tuple[int, ...], tuple[slice, ...]],
) -> None:
    """Any box, of any permutation, of one to five dimensions."""
    array, order, key = case
    view = TransposedArray(array, order)
    expected = array.transpose(order)
    assert (view.shape, view.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(view[key], expected[key])


@pytest.mark.parametrize("wrap", [np.asarray, da.asarray, zarr.array])
def test_any_array_with_shape_dtype_and_slicing_will_do(wrap: Any) -> None:
    """numpy, dask and zarr arrays, and views of them, have the same interface."""
    array = np.arange(24, dtype="uint16").reshape(2, 3, 4)
    image = NgffImage(wrap(array), dims="xyz")
    assert isinstance(image.data, ArrayLike)
    ordered = in_canonical_order(image)
    assert isinstance(ordered.data, ArrayLike)
    key = (slice(1, 3), slice(None), slice(0, 2))
    np.testing.assert_array_equal(ordered.data[key], array.transpose(2, 1, 0)[key])


@given(st.permutations("tczyx"), st.integers(2, 5))
def test_the_callers_image_is_never_changed(dims: list[str], ndim: int) -> None:
    """Bringing axes in order makes another image, and reads nothing."""
    dims = [d for d in dims if d in "tczyx"[-ndim:]]
    array = Unreadable()
    array.shape = tuple(range(2, 2 + ndim))  # type: ignore[assignment]
    image = NgffImage(array, dims, {"x": 0.5}, {"y": 3.0}, "cell", {"x": "micrometer"})
    before = copy.deepcopy({k: v for k, v in vars(image).items() if k != "data"})
    ordered = in_canonical_order(image)
    assert {k: v for k, v in vars(image).items() if k != "data"} == before
    assert image.data is array
    assert ordered.dims == tuple("tczyx"[-ndim:])
    assert dict(zip(ordered.dims, ordered.data.shape, strict=True)) == dict(
        zip(dims, array.shape, strict=True)
    )
    assert (ordered.scale, ordered.translation) == (image.scale, image.translation)
    assert (ordered.name, ordered.axes_units) == ("cell", {"x": "micrometer"})


def test_an_image_in_order_is_returned_as_it_is() -> None:
    """Nothing is wrapped that needs no wrapping."""
    image = NgffImage(np.zeros((2, 3, 4)))
    assert in_canonical_order(image) is image


def test_defaults_need_no_thought() -> None:
    """Scale 1, translation 0, the name ``image``, names of axes by their number."""
    image = NgffImage(np.zeros((2, 3)))
    fields = {k: v for k, v in asdict(image).items() if k != "data"}
    assert fields == {
        "dims": ("y", "x"),
        "scale": {"y": 1.0, "x": 1.0},
        "translation": {"y": 0.0, "x": 0.0},
        "name": "image",
        "axes_units": None,
        "axes_orientations": None,
    }


def test_mappings_of_the_caller_are_copied() -> None:
    """What the caller does to his dict later does not reach the image."""
    scale = {"x": 0.5}
    image = NgffImage(np.zeros((2, 3)), scale=scale)
    scale["x"] = 7.0
    assert image.scale == {"y": 1.0, "x": 0.5}


def test_wrong_dims_are_refused_at_once() -> None:
    """Not when the build is under way."""
    with pytest.raises(InvalidOptionError, match="3 axis names"):
        NgffImage(np.zeros((2, 3)), dims="zyx")


def test_spatial_shape_goes_by_name() -> None:
    """Channels and times are no part of it."""
    assert spatial_shape(NgffImage(np.zeros((7, 5, 3)), dims="yxc")) == {"y": 7, "x": 5}
