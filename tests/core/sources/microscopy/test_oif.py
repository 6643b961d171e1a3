"""Olympus OIF: one TIFF file for each plane, settings in a text beside them."""

import shutil

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from ngff_core.sources.decoded import DecodedCache
from tests.support.drawn import slices
from tests.support.oif_files import oib_of, write_oif
from tests.support.reading import described, identity, whole, wrong_reads

STACK = np.arange(2 * 3 * 2 * 4 * 5, dtype="u2").reshape(2, 3, 2, 4, 5)


def test_planes_sizes_names_and_colors(tmp_path):
    """A lookup table has blue first; an interval in nanometers becomes micrometers."""
    path = write_oif(tmp_path, "TZCYX", STACK)
    with open_images(path) as images:
        (image,) = images.images
        assert (images.kind, image.name, image.axes) == ("oif", "cells", ("t", "z", "c", "y", "x"))
        assert image.placement.scale == {"t": 0.5, "z": 0.84, "y": 0.2, "x": 0.2}
        assert image.placement.units["t"] == "second"
        assert image.placement.units["z"] == "micrometer"
        assert [(c.name, c.color) for c in image.channels] == [
            ("CH1", "00FF00"),
            ("Alexa", "FF0000"),
        ]
        assert images.open_image(0).read_unit == (1, 1, 1, 4, 5)
        np.testing.assert_array_equal(whole(images), STACK)


def test_a_single_plane_is_an_image(tmp_path, pixels):
    """Its file has no number on any axis of the settings."""
    path = write_oif(tmp_path, "CYX", STACK[0, 0, :1])
    with open_source(path) as source:
        np.testing.assert_array_equal(pixels(source)[0], STACK[0, 0, 0])


def test_other_axes_have_their_own_names(tmp_path):
    """A spectrum is never z or c."""
    path = write_oif(tmp_path, "LYX", STACK[0, 0])
    assert described(path)[0].axes == ("lambda", "y", "x")
    with pytest.raises(SourceFormatError, match="axis 'lambda' of length 2"):
        open_source(path)


def test_planes_that_are_missing_are_said(tmp_path):
    """An interrupted acquisition; they read as 0."""
    path = write_oif(tmp_path, "TZCYX", STACK, skip=3)
    with open_images(path) as images:
        assert [str(n) for n in images.images[0].notes] == [
            "assumed: 3 of 12 planes are not there, and are written as 0"
        ]
        found = whole(images).reshape(12, 4, 5)
        np.testing.assert_array_equal(found[:9], STACK.reshape(12, 4, 5)[:9])
        assert not found[9:].any()


@given(key=st.tuples(slices(2), slices(3), slices(2), slices(4), slices(5)))
def test_any_box_is_what_numpy_gives(opened, key):
    """However it is cut."""
    np.testing.assert_array_equal(opened[key], STACK[key])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with open_images(write_oif(tmp_path_factory.mktemp("oif"), "TZCYX", STACK)) as images:
        yield images.open_image(0).data


def test_sixteen_threads_read_what_one_reads(tmp_path, monkeypatch):
    """Each plane is a file that is opened by itself."""
    monkeypatch.setattr("ngff_core.sources.microscopy.oif.DecodedCache", lambda: DecodedCache(0))
    with open_images(write_oif(tmp_path, "TZCYX", STACK)) as images:
        assert wrong_reads(images) == 0


def test_what_is_not_on_a_local_disk_is_refused_by_name(tmp_path, stored):
    """oiffile opens paths only."""
    uri = stored(write_oif(tmp_path, "CYX", STACK[0, 0]))
    if uri.startswith("memory:"):
        with pytest.raises(SourceFormatError, match="from a local disk only"):
            open_images(uri)


def test_a_file_without_its_folder_is_refused(tmp_path):
    """And the folder is named."""
    path = write_oif(tmp_path, "CYX", STACK[0, 0])
    shutil.rmtree(tmp_path / "a.oif.files")
    with pytest.raises(SourceFormatError, match=r"without its folder a\.oif\.files"):
        open_images(path)


def test_damaged_settings_and_planes_are_refused_in_one_line(tmp_path):
    """A cut text, and a plane of another size than the settings say."""
    path = write_oif(tmp_path, "CYX", STACK[0, 0])
    settings = path.read_bytes()
    path.write_bytes(settings[:60])
    with pytest.raises(SourceFormatError, match="not a readable OIB or OIF") as error:
        open_images(path)
    assert "\n" not in str(error.value)
    path.write_bytes(settings)
    tifffile.imwrite(tmp_path / "a.oif.files" / "s_C002.tif", np.zeros((9, 9), "u2"))
    with open_images(path) as images, pytest.raises(SourceFormatError, match=r"shape \(9, 9\)"):
        whole(images)


def test_the_identity_changes_with_any_file(tmp_path):
    """The text itself need not change."""
    path = write_oif(tmp_path, "CYX", STACK[0, 0])
    first = identity(path)
    assert dict(first.pins)["reader"].startswith("oiffile 20")
    assert "tifffile" in dict(first.pins)["decoder"]
    tifffile.imwrite(tmp_path / "a.oif.files" / "s_C002.tif", STACK[1, 1, 1], description="x" * 9)
    assert identity(path) != first


def test_an_oib_is_an_oif_in_one_file(tmp_path, stored):
    """Settings, planes and lookup tables are streams of a compound document."""
    path = write_oif(tmp_path, "TZCYX", STACK)
    (tmp_path / "b.oib").write_bytes(oib_of(path))
    with open_images(tmp_path / "b.oib") as images, open_images(path) as other:
        assert (images.kind, images.format) == ("oib", "an Olympus OIB file")
        assert images.images == other.images
        np.testing.assert_array_equal(whole(images), STACK)
        assert wrong_reads(images) == 0
        assert "files" not in dict(images.identity.pins)
    uri = stored(tmp_path / "b.oib")
    if uri.startswith("memory:"):
        with pytest.raises(SourceFormatError, match="from a local disk only"):
            open_images(uri)


@pytest.mark.parametrize("kept", [0.05, 0.6])
def test_a_truncated_oib_is_refused_in_one_line(tmp_path, kept):
    """Its table of sectors is at its end."""
    data = oib_of(write_oif(tmp_path, "TZCYX", STACK))
    (tmp_path / "b.oib").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceFormatError, match="not a readable OIB or OIF") as error:
        open_images(tmp_path / "b.oib")
    assert "\n" not in str(error.value)
