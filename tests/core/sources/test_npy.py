"""Files of numpy.save: mapped or fetched in ranges, equal to what was saved."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_source
from tests.support.drawn import slices

DTYPES = ("u1", ">u2", "<i4", "u8", "f2", "f4", ">f8", "c8", "c16", "?")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_dtype_and_order_reads_back(tmp_path, stored, pixels, dtype, order):
    """Samples, dtype and byte order are what was saved, mapped or fetched."""
    array = np.asarray(np.arange(5 * 6 * 7).reshape(5, 6, 7), dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    source = open_source(stored(tmp_path / "a.npy"))
    assert source.kind == "npy"
    assert source.image.dims == ("z", "y", "x")
    assert source.image.data.dtype == array.dtype
    np.testing.assert_array_equal(pixels(source), array)
    assert pixels(source).dtype == array.dtype


@pytest.mark.parametrize(("ndim", "dims"), [(1, "x"), (2, "yx"), (3, "zyx")])
def test_few_axes_get_the_documented_names(tmp_path, stored, pixels, ndim, dims):
    """And a note says that they were assumed."""
    array = np.random.default_rng(0).integers(0, 99, (5, 6, 2)[-ndim:], "i2")
    np.save(tmp_path / "a.npy", array)
    source = open_source(stored(tmp_path / "a.npy"))
    assert source.image.dims == tuple(dims)
    np.testing.assert_array_equal(pixels(source), array)
    assert [note.kind for note in source.about.notes] == ["assumed", "unknown"]


@pytest.mark.parametrize(("ndim", "dims"), [(4, "zyxc"), (5, "tzyxc")])
def test_more_axes_are_refused_until_they_are_named(tmp_path, stored, pixels, ndim, dims):
    """Which of them is the channel nobody can tell."""
    array = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 6, 2)[-ndim:], "i2")
    np.save(tmp_path / "a.npy", array)
    where = stored(tmp_path / "a.npy")
    with pytest.raises(SourceFormatError, match=r"does not name its axes .* --dims"):
        open_source(where)
    source = open_source(where, selection=Selection(dims=tuple(dims)))
    assert source.image.dims == tuple(sorted(dims, key="tczyx".index))
    np.testing.assert_array_equal(pixels(source), np.moveaxis(array, -1, ndim - 4))


def test_a_mapped_file_is_read_by_the_sample_and_a_remote_one_by_the_row(tmp_path, memory):
    """The read unit says what the least read costs."""
    for order, remote in (("C", (1, 1, 7)), ("F", (5, 1, 1))):
        np.save(tmp_path / "a.npy", np.zeros((5, 6, 7), order=order))
        fsspec.filesystem("memory").pipe_file(f"{memory}/a.npy", (tmp_path / "a.npy").read_bytes())
        assert open_source(tmp_path / "a.npy").read_unit == (1, 1, 1)
        assert open_source(f"{memory}/a.npy").read_unit == remote


@given(key=st.tuples(slices(5), slices(6), slices(7)), index=st.integers(0, 3))
def test_any_box_is_what_numpy_gives(sources, key, index):
    """Slicing follows numpy's rules for bounds, in either order, near or far."""
    array, opened = sources
    np.testing.assert_array_equal(opened[index].image.data[key], array[key])


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The array, and what opens it: C and Fortran order, near and far."""
    folder = tmp_path_factory.mktemp("npy")
    array = np.arange(5 * 6 * 7, dtype="u2").reshape(5, 6, 7)
    opened = []
    for order, far in itertools.product("CF", (False, True)):
        path = folder / f"{order}.npy"
        np.save(path, np.asarray(array, order=order))
        uri = f"memory://sources-npy/{order}.npy"
        fsspec.filesystem("memory").pipe_file(uri, path.read_bytes())
        opened.append(open_source(uri if far else path))
    return array, opened


def test_a_truncated_file_is_refused_with_both_numbers(tmp_path, stored):
    """A truncated file is refused when it is opened, with both sizes."""
    np.save(tmp_path / "a.npy", np.zeros((10, 10), "u1"))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-1])
    with pytest.raises(SourceFormatError, match=r"truncated: 227 bytes.*228"):
        open_source(stored(tmp_path / "a.npy"))


@pytest.mark.parametrize("length", [6, 9, 40])
def test_a_header_cut_short_is_refused(tmp_path, stored, length):
    """What ends inside its header is no .npy file."""
    np.save(tmp_path / "a.npy", np.zeros((10, 10), "u1"))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:length])
    with pytest.raises(SourceFormatError, match="not a readable"):
        open_source(stored(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([{}, 1], object), "not numbers"),
        (np.array(["a", "b"]), "not numbers"),
        (np.zeros(3, [("a", "i4"), ("b", "f4")]), "not numbers"),
        (np.zeros(3, "M8[s]"), "not numbers"),
        (np.float32(1), "without dimensions"),
        (np.zeros((3, 0, 2)), "no samples"),
        (np.zeros((1,) * 6), "does not name its axes"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, stored, array, words):
    """Objects, text, records, times, scalars, emptiness and six axes."""
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(SourceFormatError, match=words):
        open_source(stored(tmp_path / "a.npy"))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_each_version_of_the_header_is_read(tmp_path, stored, pixels, version):
    """numpy's three header versions."""
    array = np.arange(12).reshape(3, 4)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    np.testing.assert_array_equal(pixels(open_source(stored(tmp_path / "a.npy"))), array)


def test_the_identity_changes_with_the_file_and_only_then(tmp_path, stored):
    """Reopening gives the same identity, writing something else another one."""
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    uri = stored(tmp_path / "a.npy")
    first = open_source(uri).identity
    assert open_source(uri).identity == first
    assert first.uri == uri
    np.save(tmp_path / "b.npy", np.zeros((3, 5)))
    other = (tmp_path / "b.npy").read_bytes()
    if uri.startswith("memory"):
        fsspec.filesystem("memory").pipe_file(uri, other)
    else:
        (tmp_path / "a.npy").write_bytes(other)
    assert open_source(uri).identity != first


def test_threads_read_the_same_samples(tmp_path, stored):
    """Four threads over one remote or mapped file."""
    array = np.random.default_rng(0).integers(0, 255, (16, 20, 20), "u1")
    np.save(tmp_path / "a.npy", array)
    data = open_source(stored(tmp_path / "a.npy")).image.data
    boxes = [(slice(z, z + 1), slice(2, 19), slice(1, 20)) for z in range(16)]
    with ThreadPoolExecutor(4) as threads:
        for box, block in zip(boxes, threads.map(lambda b: data[b], boxes), strict=True):
            np.testing.assert_array_equal(block, array[box])
