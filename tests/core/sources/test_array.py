"""Arrays in memory and lazy arrays: what identifies them, and that they are left alone."""

import dask.array
import numpy as np
import pytest
import zarr

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.model.image import NgffImage
from ngff_core.sources import open_source

ARRAY = np.arange(2 * 3 * 4).reshape(2, 3, 4)


def test_a_numpy_array_is_known_by_its_content():
    """Equal samples are the same source; one other sample makes another."""
    first = open_source(ARRAY)
    assert (first.kind, first.read_unit) == ("array", (1, 1, 1))
    assert first.identity.uri == "array:image"
    assert open_source(ARRAY.copy()).identity == first.identity
    changed = ARRAY.copy()
    changed[1, 2, 3] = -1
    assert open_source(changed).identity != first.identity


def test_a_dask_array_is_known_by_its_name_and_read_by_its_chunks(pixels):
    """The largest chunk of each axis is the read unit."""
    lazy = dask.array.from_array(ARRAY, chunks=((1, 1), (1, 2), 4))
    source = open_source(lazy)
    assert source.read_unit == (1, 2, 4)
    assert source.identity.pins == (("dask", lazy.name),)
    np.testing.assert_array_equal(pixels(source), ARRAY)


def test_a_dask_array_of_unknown_shape_is_refused():
    """Nothing can be planned for an array whose size is not known."""
    lazy = dask.array.from_array(np.arange(9), chunks=3)
    with pytest.raises(SourceFormatError, match="not fully known"):
        open_source(lazy[lazy > 4])


def test_the_callers_image_is_not_touched(pixels):
    """Axes are reordered in another object; meaning travels with them."""
    image = NgffImage(
        ARRAY, ("y", "x", "c"), {"y": 2.0}, {"x": 3.0}, name="cells", axes_units={"y": "meter"}
    )
    source = open_source(image)
    assert image.data is ARRAY
    assert image.dims == ("y", "x", "c")
    assert source.image.dims == ("c", "y", "x")
    assert source.image.scale == {"c": 1.0, "y": 2.0, "x": 1.0}
    assert source.image.translation["x"] == 3.0
    assert source.image.axes_units == {"y": "meter"}
    assert source.identity.uri == "array:cells"
    np.testing.assert_array_equal(pixels(source), np.moveaxis(ARRAY, -1, 0))
    source.image.name = "other"
    assert image.name == "cells"


def test_the_read_unit_follows_the_order_of_the_axes():
    """Chunks of y, x, c become a unit of c, y, x."""
    lazy = dask.array.from_array(ARRAY, chunks=(1, 2, 4))
    assert open_source(NgffImage(lazy, ("y", "x", "c"))).read_unit == (4, 1, 2)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_zarr_array_is_known_by_what_is_stored(tmp_path, pixels, kind):
    """A chunk that changes changes the identity; opening again does not."""
    store = tmp_path / "a.zarr" if kind == "local" else zarr.storage.MemoryStore()
    array = zarr.create_array(
        store, shape=(4, 6), chunks=(2, 5), dtype="u2", dimension_names=("y", "x")
    )
    array[:] = 7
    source = open_source(array)
    assert source.kind == "array"
    assert source.read_unit == (2, 5)
    assert (pixels(source) == 7).all()
    assert open_source(zarr.open_array(store)).identity == source.identity
    array[0, 0] = 60000
    assert open_source(array).identity != source.identity
    if kind == "local":
        assert source.identity.uri == str(tmp_path / "a.zarr")


def test_a_zarr_array_in_a_bucket_is_known_by_its_uri(memory):
    """An fsspec store gives the same identity as the URI, listing included."""
    array = zarr.create_array(f"{memory}/a.zarr", shape=(4,), chunks=(2,), dtype="u2")
    array[:] = 1
    identity = open_source(array).identity
    by_uri = open_source(f"{memory}/a.zarr").identity
    assert dict(identity.pins)["listing"] == dict(by_uri.pins)["listing"]
    array[:] = 2
    assert open_source(array).identity != identity


def test_zarr_names_of_axes_are_kept():
    """dimension_names decide, not the default for four axes."""
    array = zarr.create_array(
        {}, shape=(2, 3, 4, 5), dtype="u1", dimension_names=("c", "z", "y", "x")
    )
    assert open_source(array).image.dims == ("c", "z", "y", "x")


class Odd:
    """Shape, dtype and slicing, and nothing else."""

    shape = (2, 3)
    dtype = np.dtype("u1")

    def __getitem__(self, key):
        return np.ones((2, 3), "u1")[key]

    def __reduce__(self):
        raise TypeError("not to be pickled")


def test_anything_with_shape_dtype_and_slicing_is_an_array(pixels):
    """An array that cannot be identified is never taken for an earlier one."""
    source = open_source(Odd())
    assert pixels(source).sum() == 6
    assert source.identity != open_source(Odd()).identity


@pytest.mark.parametrize("value", [None, 3, [[1, 2]]])
def test_what_is_no_array_is_the_callers_mistake(value):
    """The message says what can be given."""
    with pytest.raises(InvalidOptionError, match="give a path"):
        open_source(value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(()), "without dimensions"),
        (np.zeros((2, 0)), "no samples"),
        (np.array(["a"]), "not numbers"),
        (np.array([None]), "not numbers"),
        (np.zeros(2, [("a", "u1")]), "not numbers"),
    ],
)
def test_what_is_no_image_is_refused(array, words):
    """Scalars, emptiness, text, objects and records."""
    with pytest.raises(SourceFormatError, match=words):
        open_source(array)


def test_six_axes_need_names():
    """Without names there is no default; the message asks for dims."""
    with pytest.raises(InvalidOptionError, match="dims"):
        open_source(np.zeros((1,) * 6))
