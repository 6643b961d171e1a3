"""MRC files: equal to what mrcfile reads, with axes and sizes where the header has them."""

import gzip

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from tests.support.drawn import slices
from tests.support.mrc_files import volume, write
from tests.support.readers import check_described, hammer, notes
from tests.support.samples import sample

# mrcfile 1.5.4 sets the dtype of an array in place, which numpy 2.5 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Setting the dtype on:DeprecationWarning")


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4", "c8"])
def test_samples_are_what_mrcfile_reads(tmp_path, stored, dtype):
    """Each mode, from a disk and from elsewhere."""
    array = volume(dtype)
    with open_images(stored(write(tmp_path / "a.mrc", array))) as source:
        check_described(source.images[0], source.open_image(0), array)


def test_big_endian_samples(tmp_path):
    """The machine stamp says the byte order of header and samples."""
    path = write(tmp_path / "a.mrc", volume())
    data = path.read_bytes()
    words = np.frombuffer(data[:1024], "<i4").astype(">i4").tobytes()
    swapped = bytearray(words)
    swapped[208:216] = b"MAP \x11\x11\0\0"
    path.write_bytes(swapped + np.frombuffer(data[1024:], "<i2").astype(">i2").tobytes())
    with open_images(path) as source:
        assert source.images[0].dtype == ">i2"
        assert source.images[0].placement.scale == {"x": 1.0, "y": 2.0, "z": 3.0}
        check_described(source.images[0], source.open_image(0), volume())


def test_axes_and_sizes_follow_the_map_fields():
    """EMDB's map has z as its fastest axis; its cell's axes are x, y, z all the same."""
    path = sample("em/EMD-3001.map")
    with open_images(path) as source:
        image = source.images[0]
        check_described(image, source.open_image(0), mrcfile.read(path))
    assert image.axes == ("y", "x", "z")
    sizes = {"x": 17.93 / 40, "y": 4.71 / 12, "z": 33.03 / 72}
    assert image.placement.scale == pytest.approx(sizes, rel=1e-6)
    assert set(image.placement.units.values()) == {"angstrom"}
    # NXSTART 0, NYSTART -21, NZSTART -12 are along columns, rows and sections: z, x, y.
    starts = {"x": -21 * sizes["x"], "y": -12 * sizes["y"]}
    assert image.placement.translation == pytest.approx(starts, rel=1e-6)
    assert "angles of the unit cell (90, 94.326, 90 degrees)" in notes(image)


def test_the_map_is_brought_into_the_order_of_a_pyramid():
    """Opened as a source, its samples are transposed to z, y, x."""
    path = sample("em/EMD-3001.map")
    with open_source(path) as source:
        assert tuple(source.image.dims) == ("z", "y", "x")
        found = source.image.data[:, :, :]
    np.testing.assert_array_equal(found, mrcfile.read(path).transpose(2, 0, 1))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1), (3, 2, 1), (1, 3, 2)])
def test_every_order_of_axes(tmp_path, order):
    """Columns, rows and sections may run along any axis; sizes stay with the axis."""
    path = write(tmp_path / "a.mrc", volume("f4"), mapc=order[0], mapr=order[1], maps=order[2])
    with open_images(path) as source:
        image = source.images[0]
    assert image.axes == tuple("_xyz"[n] for n in reversed(order))
    assert image.placement.scale == pytest.approx({"x": 1.0, "y": 2.0, "z": 3.0})


def test_an_image_stack_has_sections_without_a_meaning(tmp_path):
    """Space group 0: movies, tilt series, particles."""
    path = write(tmp_path / "a.mrcs", volume(), ispg=0)
    with open_images(path) as source:
        assert source.images[0].axes == ("?", "y", "x")
        assert "z" not in source.images[0].placement.scale


def test_a_single_section_is_a_plane(tmp_path):
    """Whatever the space group says, one section is no depth."""
    path = write(tmp_path / "a.mrc", volume(shape=(1, 5, 6)), ispg=1)
    with open_source(path) as source:
        assert source.image.dims == ("y", "x")


def test_a_volume_is_said_to_be_assumed(tmp_path):
    """Space group 1 stands in files of movies too."""
    path = write(tmp_path / "a.mrc", volume(), ispg=1)
    with open_images(path) as source:
        assert source.images[0].axes == ("z", "y", "x")
        assert "assumed: the 4 sections are z" in notes(source.images[0])


def test_a_stack_of_volumes_has_an_axis_of_its_own(tmp_path):
    """Space group 401: MZ sections in each volume."""
    array = volume(shape=(6, 5, 4))
    path = write(tmp_path / "a.mrc", array, ispg=401, mz=3)
    with open_images(path) as source:
        image = source.images[0]
        assert image.axes == ("volume", "z", "y", "x")
        check_described(image, source.open_image(0), array.reshape(2, 3, 5, 4))
    write(path, array, ispg=401, mz=4)
    with pytest.raises(SourceFormatError, match="6 sections, but 4 in each volume"):
        open_images(path)


@pytest.mark.parametrize(("flags", "dtype"), [(0, "u1"), (1, "i1")])
def test_imod_says_whether_bytes_are_signed(tmp_path, flags, dtype):
    """Behind its stamp, a flag; without the stamp bytes are signed."""
    path = write(tmp_path / "a.mrc", volume("i1"))
    data = bytearray(path.read_bytes())
    data[152:160] = np.array([1146047817, flags], "<i4").tobytes()
    path.write_bytes(data)
    with open_images(path) as source:
        assert np.dtype(source.images[0].dtype) == dtype


def test_colors_of_imod(tmp_path):
    """Mode 16 has red, green and blue in turn."""
    array = volume("u1", (2, 3, 4, 3))
    path = write(tmp_path / "a.mrc", volume(shape=(2, 3, 4)), mode=16)
    path.write_bytes(path.read_bytes()[:1024] + array.tobytes())
    with open_images(path) as source:
        assert source.images[0].axes == ("z", "y", "x", "c")
        assert [channel.name for channel in source.images[0].channels] == ["red", "green", "blue"]
        check_described(source.images[0], source.open_image(0), array)


@pytest.mark.parametrize("voxel", [(0, 0, 0), (-10, -10, -10), (float("nan"),) * 3])
def test_sizes_that_are_none_are_unknown(tmp_path, voxel):
    """Cells of 0, below it or no number at all say nothing."""
    path = write(tmp_path / "a.mrc", volume())
    data = bytearray(path.read_bytes())
    data[40:52] = np.array(voxel, "<f4").tobytes()
    path.write_bytes(data)
    with open_source(path) as source:
        assert any("the size of a sample along z, y, x" in note.text for note in source.about.notes)


def test_the_origin_is_the_position_of_the_first_sample(tmp_path):
    """In angstrom; IMOD gives it the other sign unless its flag says otherwise."""
    path = write(tmp_path / "a.mrc", volume(), ispg=1)
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.origin = (5.0, -6.0, 7.0)
    with open_images(path) as source:
        assert source.images[0].placement.translation == {"x": 5.0, "y": -6.0, "z": 7.0}
    for flags, sign in ((1, -1), (5, 1)):
        data = bytearray(path.read_bytes())
        data[152:160] = np.array([1146047817, flags], "<i4").tobytes()
        path.write_bytes(data)
        with open_images(path) as source:
            assert source.images[0].placement.translation["x"] == sign * 5.0


def test_the_extended_header_is_skipped(tmp_path):
    """NSYMBT bytes stand between the header and the samples."""
    path = tmp_path / "a.mrc"
    with mrcfile.new(path, volume()) as mrc:
        mrc.set_extended_header(np.arange(400, dtype="u1"))
    with open_images(path) as source:
        check_described(source.images[0], source.open_image(0), volume())


def test_gzip_is_inflated(tmp_path, stored):
    """EMDB gives out maps as .map.gz."""
    path = write(tmp_path / "a.mrc", volume())
    packed = tmp_path / "a.map.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with open_images(stored(packed)) as source:
        check_described(source.images[0], source.open_image(0), volume())
        hammer(source.open_image(0), volume())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mode": 101}, "mode 101, 4 bits"),
        ({"mode": 3}, "mode 3, complex numbers of two int16"),
        ({"mode": 77}, "mode 77, which MRC2014 does not know"),
        ({"mapc": 2}, "MAPC, MAPR, MAPS are"),
        ({"nx": 2_000_000_000, "ny": 2_000_000_000}, "truncated: 1264 bytes, but its array ends"),
        ({"nx": -1}, "not a readable MRC header"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, stored, fields, words):
    """Modes, orders of axes and sizes that are none, with the numbers."""
    path = write(tmp_path / "a.mrc", volume(), **fields)
    with pytest.raises(SourceFormatError, match=words) as caught:
        open_images(stored(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [300, 1023, 1025, 1263])
def test_a_truncated_file_is_refused_with_both_numbers(tmp_path, stored, size):
    """Inside its header, and one byte before its end."""
    path = write(tmp_path / "a.mrc", volume())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SourceFormatError, match=f"truncated: {size} bytes, but"):
        open_images(stored(path))


def test_a_truncated_gzip_file_is_refused(tmp_path):
    """Whether the header is whole or not."""
    data = gzip.compress(write(tmp_path / "a.mrc", volume()).read_bytes())
    for size in (60, len(data) - 20):
        (tmp_path / "a.mrc.gz").write_bytes(data[:size])
        with pytest.raises(SourceFormatError, match="truncated"):
            open_images(tmp_path / "a.mrc.gz")


def test_another_file_is_another_source(tmp_path):
    """Size and modification are part of the identity."""
    path = write(tmp_path / "a.mrc", volume())
    with open_images(path) as source:
        before = source.identity
    write(path, volume(shape=(4, 5, 7)))
    with open_images(path) as source:
        assert source.identity != before


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The samples of a file, opened once."""
    with open_images(write(tmp_path_factory.mktemp("mrc") / "a.mrc", volume())) as source:
        yield source.open_image(0)


@given(key=st.tuples(slices(4), slices(5), slices(6)))
def test_any_box_is_what_numpy_gives(opened, key):
    """Slicing follows numpy's rules for bounds."""
    np.testing.assert_array_equal(opened.data[key], volume()[key])


def test_sixteen_threads_read_at_once(opened):
    """Whatever they read, samples are right."""
    hammer(opened, volume())
