"""The content decides the format; an error says why something is not readable."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from ngff_core.errors import InvalidOptionError, SourceFormatError, SourceNotFoundError
from ngff_core.sources import base, open_source


@pytest.mark.parametrize("name", ["image.dat", "image.npy", "image"])
def test_the_content_decides_and_not_the_name(tmp_path, stored, pixels, name):
    """A TIFF under any name is a TIFF."""
    array = np.arange(20, dtype="u2").reshape(4, 5)
    tifffile.imwrite(tmp_path / name, array)
    with open_source(stored(tmp_path / name)) as source:
        assert source.kind == "tiff"
        np.testing.assert_array_equal(pixels(source), array)


def test_paths_strings_and_file_uris_name_the_same_source(tmp_path, monkeypatch):
    """The identity has the absolute path, however it was written."""
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    monkeypatch.chdir(tmp_path)
    opened = [
        open_source(s)
        for s in (tmp_path / "a.npy", str(tmp_path / "a.npy"), f"file://{tmp_path}/a.npy", "a.npy")
    ]
    assert len({s.identity for s in opened}) == 1
    assert opened[0].identity.uri == str(tmp_path / "a.npy")


def test_a_missing_source_names_its_path(tmp_path, memory):
    """A FileNotFoundError that says where nothing is."""
    for uri in (str(tmp_path / "no.tif"), f"{memory}/no.tif"):
        with pytest.raises(SourceNotFoundError, match=r"no\.tif") as caught:
            open_source(uri)
        assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("content", [b"", b"II", b"8BPS\0\1 a painting"])
def test_an_unknown_file_lists_what_is_accepted(tmp_path, stored, content):
    """The message helps on."""
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SourceFormatError, match=r"TIFF.*\.npy"):
        open_source(stored(tmp_path / "a.tif"))


def test_a_folder_without_zarr_metadata_is_refused(tmp_path, stored):
    """A folder of something else is not missing."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "readme.txt").write_text("hello")
    with pytest.raises(SourceFormatError, match="without zarr metadata"):
        open_source(stored(tmp_path / "folder"))


def test_an_unknown_scheme_is_the_callers_mistake():
    """No filesystem, no source."""
    with pytest.raises(InvalidOptionError, match="gopher"):
        open_source("gopher://host/a.tif")


def test_importing_the_room_is_cheap():
    """Readers of formats are imported when such a file is opened."""
    code = (
        "import sys, ngff_core.sources;"
        "heavy = {'tifffile', 'dask', 'ome_zarr_models', 'gcsfs', 's3fs', 'imagecodecs'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "key",
    [
        (slice(0, 1),),
        (slice(0, 1), 0),
        (slice(0, 4, 2), slice(None)),
        (slice(0, 1), slice(0, 1), slice(0, 1)),
        ...,
    ],
)
def test_a_reader_takes_one_slice_without_step_per_axis(tmp_path, key):
    """Anything else is an IndexError, not a wrong block."""
    np.save(tmp_path / "a.npy", np.zeros((4, 5)))
    with pytest.raises(IndexError):
        open_source(tmp_path / "a.npy").image.data[key]


class Failing:
    """An array whose reading meets an error."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, key):
        raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("blosc"), ValueError("crc32c"), EOFError("short"), IndexError()]
)
def test_an_error_of_decoding_names_the_source_and_the_box(error):
    """A decoder's error becomes ours, with the place."""
    reader = base.Reader(Failing(error), "gs://b/a", (4, 5), np.dtype("u1"))
    with pytest.raises(SourceFormatError, match=r"gs://b/a: cannot decode the box \[1:3, 0:5\]"):
        reader[1:3, :]


@pytest.mark.parametrize(
    "error", [TimeoutError("late"), ConnectionResetError(), PermissionError("no"), MemoryError()]
)
def test_errors_that_are_not_about_the_data_are_not_changed(error):
    """Retries go by an error's type: transient errors and refusals keep theirs."""
    reader = base.Reader(Failing(error), "gs://b/a", (4, 5), np.dtype("u1"))
    with pytest.raises(type(error)):
        reader[1:3, :]
