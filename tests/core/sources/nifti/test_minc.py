"""MINC 2: stored samples, and the geometry that nibabel finds."""

import fsspec
import numpy as np
import pytest

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_source

h5py = pytest.importorskip("h5py")
from tests.support.minc_files import write  # noqa: E402


def test_samples_and_geometry_are_those_of_the_file(tmp_path, pixels):
    """x falls: its index grows to the left."""
    nib = pytest.importorskip("nibabel")
    array = write(tmp_path / "a.mnc", xspace=-1.0)
    with open_source(tmp_path / "a.mnc") as source:
        np.testing.assert_array_equal(pixels(source), array)
        assert source.image.scale == {"z": 3, "y": 2, "x": 1}
        assert source.image.translation == {"z": 30, "y": 20, "x": -10}
        assert source.image.axes_orientations["x"].value == "right-to-left"
        assert source.about.metadata["image_max"] == 10
        assert "samples are as stored" in "; ".join(map(str, source.about.notes))
        affine = np.array(source.about.metadata["affine"])
    # nibabel's indices are those of the file: z, y, x here.
    expected = nib.load(tmp_path / "a.mnc").affine[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(affine, expected)


def test_axes_in_any_order_have_their_names(tmp_path, pixels):
    """x slowest, and time."""
    array = write(tmp_path / "a.mnc", "xspace,time,zspace,yspace")
    with open_source(tmp_path / "a.mnc") as source:
        assert source.image.dims == ("t", "z", "y", "x")
        assert (source.image.scale["t"], source.image.axes_units["t"]) == (1.5, "second")
        np.testing.assert_array_equal(pixels(source), array.transpose(1, 2, 3, 0))


def test_a_file_in_memory_is_the_same(tmp_path, memory, pixels):
    """h5py reads it in ranges."""
    array = write(tmp_path / "a.mnc")
    content = (tmp_path / "a.mnc").read_bytes()
    fsspec.filesystem("memory").pipe_file(f"{memory}/a.mnc", content)
    with open_source(f"{memory}/a.mnc") as source:
        np.testing.assert_array_equal(pixels(source), array)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, part):
    """By h5py, which knows how long the file was."""
    write(tmp_path / "a.mnc")
    data = (tmp_path / "a.mnc").read_bytes()
    (tmp_path / "a.mnc").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(SourceFormatError, match="truncated") as error:
        open_source(tmp_path / "a.mnc")
    assert "\n" not in str(error.value)
