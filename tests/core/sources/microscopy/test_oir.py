"""Olympus OIR, written by hand: no real file of this format is at hand."""

import struct

import numpy as np
import oirfile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images
from ngff_core.sources.decoded import DecodedCache
from ngff_core.sources.microscopy.oirfile_compat import planes
from tests.support.drawn import slices
from tests.support.oir_files import oir_bytes
from tests.support.reading import described, identity, whole, wrong_reads

STACK = np.arange(2 * 3 * 2 * 7 * 8, dtype="<u2").reshape(2, 3, 2, 7, 8)


def write(path, *args, **options):
    path.write_bytes(oir_bytes(*args, **options))
    return path


@pytest.mark.parametrize("parts", [1, 3])
def test_planes_sizes_and_names(tmp_path, stored, parts):
    """A plane may lie in several blocks."""
    with open_images(stored(write(tmp_path / "a.oir", STACK, parts=parts))) as images:
        (image,) = images.images
        assert (images.kind, image.axes) == ("oir", ("t", "z", "c", "y", "x"))
        assert image.placement.scale == {"t": 2.5, "z": 1.5, "y": 0.5, "x": 0.5}
        assert image.placement.units["t"] == "second"
        assert [c.name for c in image.channels] == ["CH1", "CH2"]
        assert images.open_image(0).read_unit == (1, 1, 1, 7, 8)
        np.testing.assert_array_equal(whole(images), STACK)


def test_the_private_parts_of_oirfile_are_what_they_were(tmp_path):
    """Planes by their places equal the image that oirfile reads whole."""
    path = write(tmp_path / "a.oir", STACK, parts=2)
    data = path.read_bytes()
    with oirfile.OirFile(path, squeeze=False) as file:
        expected = file.asarray()
        found = planes(file)
    assert len(found) == 12
    for plane in found:
        joined = b"".join(data[start : start + count] for start, count in plane.parts)
        np.testing.assert_array_equal(
            np.frombuffer(joined, "<u2").reshape(7, 8), expected[plane.position]
        )


@given(key=st.tuples(slices(2), slices(3), slices(2), slices(7), slices(8)))
def test_any_box_is_what_numpy_gives(opened, key):
    """However it is cut."""
    np.testing.assert_array_equal(opened[key], STACK[key])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with open_images(write(tmp_path_factory.mktemp("oir") / "a.oir", STACK)) as images:
        yield images.open_image(0).data


def test_sixteen_threads_read_what_one_reads(tmp_path, stored, monkeypatch):
    """oirfile sets no lock, and closes none of its own either."""
    monkeypatch.setattr("ngff_core.sources.microscopy.oir.DecodedCache", lambda: DecodedCache(0))
    array = np.random.default_rng(0).integers(0, 4096, (3, 4, 2, 40, 50)).astype("<u2")
    with open_images(stored(write(tmp_path / "a.oir", array))) as images:
        assert wrong_reads(images) == 0


def test_planes_that_are_missing_are_said(tmp_path, monkeypatch):
    """They read as 0."""
    monkeypatch.setattr("ngff_core.sources.microscopy.oir.planes", lambda file: planes(file)[:-2])
    path = write(tmp_path / "a.oir", STACK)
    assert [str(n) for n in described(path)[0].notes] == [
        "assumed: 2 of 12 planes are not there, and are written as 0"
    ]
    with open_images(path) as images:
        assert not whole(images)[-1, -1].any()


def test_an_acquisition_in_several_files_is_refused_by_name(tmp_path, stored):
    """Its planes go on in a file beside it."""
    uri = stored(write(tmp_path / "a.oir", STACK))
    with open_images(uri):
        pass
    from ngff_core.storage import open_store

    open_store(uri).parent().write("a_00001", b"x")
    with pytest.raises(SourceFormatError, match="go on in a_00001"):
        open_images(uri)


@pytest.mark.parametrize("kept", [0.2, 0.8])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, stored, kept):
    """oirfile fills what is cut off with zeros."""
    path = write(tmp_path / "a.oir", STACK)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceFormatError, match="OIR file") as error:
        open_images(stored(path))
    assert "\n" not in str(error.value)


def test_a_plane_that_is_too_short_is_refused(tmp_path):
    """Its block says fewer bytes than a plane has."""
    path = write(tmp_path / "a.oir", STACK)
    data = path.read_bytes()
    at = data.index(struct.pack("<II", 112, 4))
    path.write_bytes(data[:at] + struct.pack("<II", 100, 4) + data[at + 8 :])
    with pytest.raises(SourceFormatError, match="has 100 bytes, and not 112"):
        open_images(path)


def test_the_identity_changes_with_the_file(tmp_path):
    """And names the reader with its version."""
    first = identity(write(tmp_path / "a.oir", STACK))
    assert dict(first.pins)["reader"].startswith("oirfile 20")
    assert identity(write(tmp_path / "a.oir", STACK, parts=2)) != first
