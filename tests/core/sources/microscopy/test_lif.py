"""Leica files: every axis by its name, lengths in micrometers, one thread at a time in the file."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.decoded import DecodedCache
from tests.support.drawn import slices
from tests.support.lif_files import (
    LifDimension,
    LifPicture,
    colors,
    lof_bytes,
    plain,
    write,
    write_project,
)
from tests.support.reading import described, identity, whole, wrong_reads
from tests.support.samples import sample

STACK = np.arange(2 * 3 * 4 * 5, dtype="<u2").reshape(2, 3, 4, 5)
SIZES = {"x": 1e-7, "y": 2e-7, "z": 1e-6, "t": 2.5}


def test_lengths_are_micrometers_between_centres(tmp_path, stored):
    """Leica's length is the distance of the first and the last sample."""
    path = write(tmp_path / "a.lif", plain("a", "tzyx", STACK, SIZES))
    with open_images(stored(path)) as images:
        (image,) = images.images
        assert (images.kind, image.name, image.axes) == ("lif", "a", ("t", "z", "y", "x"))
        assert image.placement.scale == {"t": 2.5, "z": 1.0, "y": 0.2, "x": 0.1}
        assert image.placement.units["t"] == "second"
        assert image.placement.units["x"] == "micrometer"
        assert image.placement.translation == {}
        assert [c.color for c in image.channels] == ["00FF00"]
        np.testing.assert_array_equal(whole(images), STACK)
        assert images.open_image(0).read_unit == (1, 1, 4, 5)


def test_z_begins_where_the_file_says_and_a_falling_z_is_said(tmp_path):
    """Steps are positive; the direction is not lost in silence."""
    up = LifPicture(
        "up", [LifDimension("x", 5, 1), LifDimension("z", 3, 5, -2e-6, 4e-6)], bytes(15)
    )
    down = LifPicture(
        "down", [LifDimension("x", 5, 1), LifDimension("z", 3, 5, 2e-6, -4e-6)], bytes(15)
    )
    first, second = described(write(tmp_path / "a.lif", up, down))
    assert first.placement.translation == {"z": -2.0}
    assert second.placement.scale["z"] == 2.0
    assert [str(n) for n in second.notes] == [
        "left out: the direction of z: its positions fall from sample to sample"
    ]


def test_images_are_chosen_by_name(tmp_path, pixels):
    """Several images in one file."""
    other = STACK + 1000
    path = write(tmp_path / "a.lif", plain("a", "tzyx", STACK), plain("b", "tzyx", other))
    with pytest.raises(SourceFormatError, match="holds 2 images"):
        open_source(path)
    with open_source(path, selection=Selection(series="b")) as source:
        np.testing.assert_array_equal(pixels(source), other.reshape(2, 3, 4, 5))


@given(key=st.tuples(slices(2), slices(3), slices(4), slices(5)))
def test_any_box_is_what_numpy_gives(opened, key):
    """However it is cut."""
    np.testing.assert_array_equal(opened[key], STACK[key])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    path = tmp_path_factory.mktemp("lif") / "a.lif"
    with open_images(write(path, plain("a", "tzyx", STACK))) as images:
        yield images.open_image(0).data


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("tags", [(1, 2, 3), (3, 2, 1)])
def test_colors_are_channels_also_where_rows_have_gaps(tmp_path, pixels, gap, tags):
    """liffile's own frames are skewed where rows are padded."""
    picture, samples = colors(gap, tags)
    with open_source(write(tmp_path / "a.lif", picture)) as source:
        assert source.image.dims == ("c", "z", "y", "x")
        assert [c.name for c in source.about.channels] == ["red", "green", "blue"]
        np.testing.assert_array_equal(pixels(source), samples.transpose(3, 0, 1, 2))


def test_the_place_of_the_stage_is_kept_in_the_metadata(tmp_path):
    """Where Leica does not say how the stage lies to the image."""
    tiles = (
        '<Attachment Name="TileScanInfo"><Tile PosX="0.001" PosY="0.002" PosZ="0"/></Attachment>'
    )
    picture = plain("a", "tzyx", STACK)
    picture = LifPicture("a", picture.dimensions, picture.data, 2, extra=tiles)
    (image,) = described(write(tmp_path / "a.lif", picture))
    assert image.metadata == {"stage_position": {"x": 1000.0, "y": 2000.0, "z": 0.0}}
    assert "x 1000 µm, y 2000 µm" in str(image.notes[0])


def test_tiles_are_an_axis_of_their_own(tmp_path):
    """They are not stitched, and never called z."""
    dimensions = [LifDimension("x", 5, 1), LifDimension("y", 4, 5), LifDimension("tile", 3, 20)]
    path = write(tmp_path / "a.lif", LifPicture("a", dimensions, bytes(60)))
    with pytest.raises(SourceFormatError, match="axis 'tile' of length 3"):
        open_source(path)


# --- projects, LOF -----------------------------------------------------------------------


def test_a_lof_file_has_one_image(tmp_path, stored):
    """Its XML is behind its samples."""
    (tmp_path / "a.lof").write_bytes(lof_bytes(plain("a", "tzyx", STACK)))
    with open_images(stored(tmp_path / "a.lof")) as images:
        assert images.format == "a Leica LOF file"
        np.testing.assert_array_equal(whole(images), STACK)


def test_a_project_in_xml_names_its_files_as_pins(tmp_path):
    """A change in any of them is a change of the source."""
    path = write_project(tmp_path, plain("a", "tzyx", STACK, SIZES))
    with open_images(path) as images:
        np.testing.assert_array_equal(whole(images), STACK)
        assert wrong_reads(images) == 0
        before = images.identity
    assert {"file a.lof", "file a.xlif"} <= dict(before.pins).keys()
    (tmp_path / "a.lof").write_bytes(lof_bytes(plain("a", "tzyx", STACK + 1)) + b"\0")
    assert identity(path) != before


def test_a_remote_project_is_refused_by_name(tmp_path, stored, memory):
    """Its files are opened by their paths."""
    path = write_project(tmp_path, plain("a", "tzyx", STACK))
    uri = stored(path)
    if uri.startswith("memory:"):
        with pytest.raises(SourceFormatError, match="read from a local disk only"):
            open_images(uri)


# --- damaged files, threads, identity ----------------------------------------------------


@pytest.mark.parametrize("kept", [0.4, 0.95])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, stored, kept):
    """Whether its XML or its samples are cut."""
    path = write(tmp_path / "a.lif", plain("a", "tzyx", np.zeros((9, 9, 9, 9), "u2")))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceFormatError, match="Leica") as error:
        open_images(stored(path))
    assert "\n" not in str(error.value)


def test_an_image_that_claims_more_than_its_bytes_is_refused(tmp_path):
    """Before memory is taken for it."""
    dimensions = [LifDimension("x", 10**5, 1), LifDimension("y", 10**5, 10**5)]
    path = write(tmp_path / "a.lif", LifPicture("a", dimensions, bytes(60)))
    with pytest.raises(SourceFormatError, match="its samples are 10000000000 bytes, but 60"):
        open_source(path)


def test_sixteen_threads_read_what_one_reads(tmp_path, stored, monkeypatch):
    """liffile gives wrong planes in silence where no lock is set."""
    monkeypatch.setattr("ngff_core.sources.microscopy.lif.DecodedCache", lambda: DecodedCache(0))
    array = np.random.default_rng(0).integers(0, 65535, (4, 5, 40, 50), "u2")
    with open_images(stored(write(tmp_path / "a.lif", plain("a", "tzyx", array)))) as images:
        assert wrong_reads(images) == 0


def test_the_identity_changes_with_the_file(tmp_path):
    """And names the reader with its version."""
    path = write(tmp_path / "a.lif", plain("a", "tzyx", STACK))
    first = identity(path)
    assert dict(first.pins)["reader"].startswith("liffile 20")
    assert identity(write(path, plain("a", "tzyx", STACK), plain("b", "tzyx", STACK))) != first


# --- real files --------------------------------------------------------------------------


def test_wavelengths_are_axes_of_their_own():
    """Emission and excitation; no wavelength is lost, and none is called z or c."""
    path = sample("gpl/wavelength-sweep.lif")
    with open_images(path) as images:
        assert [(i.name, i.axes, i.shape) for i in images.images] == [
            ("x_y_lambdaEmi", ("lambda", "y", "x"), (20, 64, 64)),
            ("x_y_lambdaExc", ("lambda_excitation", "y", "x"), (15, 64, 64)),
            ("x_y_z_t_lambdaEmi", ("t", "lambda", "z", "y", "x"), (2, 10, 11, 64, 64)),
        ]
        last = images.images[2]
        assert last.placement.scale["t"] == 80.91
        assert last.placement.scale["z"] == 0.5002027
        assert last.placement.translation == {"z": -2.5}
        assert last.metadata["lambda"] == {"first": 550.0, "step": 5.0, "unit": "nanometer"}
        assert wrong_reads(images, 2) == 0
    with pytest.raises(SourceFormatError, match="axis 'lambda' of length 20"):
        open_source(path, selection=Selection(series=0))


def test_real_samples_equal_an_independent_reader():
    """openreadout folds emission into channels."""
    openreadout = pytest.importorskip("openreadout")
    path = sample("gpl/wavelength-sweep.lif")
    with open_images(path) as images, openreadout.open(str(path)) as other:
        np.testing.assert_array_equal(
            whole(images), np.asarray(other.read_image(0)).reshape(20, 64, 64)
        )
