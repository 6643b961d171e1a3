"""Names of axes, their order, and which of them are spatial."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.model.axes import (
    AXIS_ORDER,
    axis_type,
    canonical_order,
    check_dims,
    default_dims,
    spatial_dims,
)

some_dims = st.lists(st.sampled_from("tczyx"), min_size=1, max_size=5, unique=True).map(tuple)


@pytest.mark.parametrize(
    ("ndim", "dims"), [(1, "x"), (2, "yx"), (3, "zyx"), (4, "zyxc"), (5, "tzyxc")]
)
def test_an_array_without_names_gets_the_usual_ones(ndim: int, dims: str) -> None:
    """One to five dimensions need no ``dims``."""
    assert default_dims(ndim) == tuple(dims)


@pytest.mark.parametrize("ndim", [0, 6, 7])
def test_other_numbers_of_dimensions_need_explicit_dims(ndim: int) -> None:
    """The error says that ``dims`` is what is missing."""
    with pytest.raises(InvalidOptionError, match=f"{ndim} dimensions.*give dims"):
        default_dims(ndim)


@pytest.mark.parametrize(
    ("dims", "ndim", "offender"),
    [
        ("zyq", 3, "'q'"),
        (("y", "lambda"), 2, "'lambda'"),
        ("yy", 2, "twice"),
        ("zyx", 2, "3 axis names"),
        ("yx", 3, "2 axis names"),
        ("tc", 2, "no spatial axis"),
        ((), 0, "no spatial axis"),
    ],
)
def test_wrong_names_are_told(dims: object, ndim: int, offender: str) -> None:
    """The message names the axis, or the two counts that do not match."""
    with pytest.raises(InvalidOptionError, match=offender):
        check_dims(dims, ndim)  # type: ignore[arg-type]


def test_names_may_come_as_string_or_list() -> None:
    """``"zyx"`` and ``["z", "y", "x"]`` mean the same."""
    assert check_dims("zyx", 3) == check_dims(["z", "y", "x"], 3) == ("z", "y", "x")


@given(some_dims)
def test_the_canonical_order_is_t_c_z_y_x(dims: tuple[str, ...]) -> None:
    """Whatever order axes come in, the permutation sorts them, and numpy agrees."""
    order = canonical_order(dims)
    assert [dims[i] for i in order] == [d for d in AXIS_ORDER if d in dims]
    shape = tuple(AXIS_ORDER.index(d) + 2 for d in dims)
    assert list(np.zeros(shape, np.uint8).transpose(order).shape) == sorted(shape)


@given(some_dims)
def test_spatial_axes_keep_the_order_they_stand_in(dims: tuple[str, ...]) -> None:
    """Of any axes, z, y and x are the spatial ones."""
    assert "".join(spatial_dims(dims)) == "".join(dims).replace("t", "").replace("c", "")


def test_types_are_the_words_of_ome_zarr() -> None:
    """``time``, ``channel`` and ``space``."""
    types = [axis_type(d) for d in AXIS_ORDER]
    assert types == ["time", "channel", "space", "space", "space"]
