"""MetaImage files: written by SimpleITK, whose samples and geometry are found again."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from tests.support.drawn import slices
from tests.support.readers import check_described, hammer, notes, to_memory

itk = pytest.importorskip("SimpleITK")
from tests.support.metaimage_files import ARRAY, SWAPPED, by_hand, written  # noqa: E402


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_samples_are_what_simpleitk_wrote(tmp_path, memory, dtype, compressed, suffix):
    """Each type, plain and deflated, in one file and in two, near and far."""
    array = ARRAY.astype(dtype)
    folder = tmp_path / "files"
    folder.mkdir()
    path = written(folder / f"a{suffix}", array, useCompression=compressed)
    for uri in (path, f"{to_memory(folder, memory)}/a{suffix}"):
        with open_images(uri) as source:
            check_described(source.images[0], source.open_image(0), array)
            companions = [name for name, _ in source.identity.pins if "companion" in name]
            assert len(companions) == (suffix == ".mhd")


@pytest.mark.parametrize(
    "direction", [None, SWAPPED, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)]
)
def test_geometry_leads_where_itk_says(tmp_path, direction):
    """Scale, direction and position of each axis give ITK's positions in LPS again."""
    path = written(tmp_path / "a.mha", direction=direction)
    oracle = itk.ReadImage(path)
    with open_images(path) as source:
        image = source.images[0]
    sides = {"right-to-left": (0, 1), "left-to-right": (0, -1)}
    sides |= {"anterior-to-posterior": (1, 1), "posterior-to-anterior": (1, -1)}
    sides |= {"inferior-to-superior": (2, 1), "superior-to-inferior": (2, -1)}
    for index in ((0, 0, 0), (3, 2, 1)):
        world = [0.0, 0.0, 0.0]
        for axis, position in zip("xyz", index, strict=True):
            number, sign = sides[image.placement.orientations[axis].value]
            place = image.placement
            world[number] = sign * (place.translation[axis] + position * place.scale[axis])
        assert world == pytest.approx(oracle.TransformIndexToPhysicalPoint(index))


def test_millimeters_are_itks_convention(tmp_path):
    """The file has no units; that they are assumed is noted."""
    with open_images(written(tmp_path / "a.mha")) as source:
        image = source.images[0]
    assert image.placement.units == dict.fromkeys("xyz", "millimeter")
    assert "assumed: sizes are in millimeters, as ITK takes them to be" in notes(image)
    with open_images(by_hand(tmp_path / "b.mha", DistanceUnits="um")) as source:
        assert source.images[0].placement.units == dict.fromkeys("xyz", "micrometer")
        assert "assumed" not in notes(source.images[0])


def test_oblique_axes_keep_the_affine_and_say_so(tmp_path):
    """Only sizes and the nearest directions fit into a pyramid."""
    direction = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    with open_images(written(tmp_path / "a.mha", direction=direction)) as source:
        image = source.images[0]
    assert image.placement.scale == pytest.approx({"x": 0.5, "y": 0.25, "z": 2.0})
    assert "oblique" in notes(image)
    affine = np.array(image.metadata["affine"])
    np.testing.assert_allclose(affine[:3, 0], [-0.4, -0.3, 0.0], atol=1e-7)


@pytest.mark.parametrize(
    ("letters", "known", "noted"),
    [("RAI", True, False), ("LPS", True, False), ("???", False, False), ("SPL", False, True)],
)
def test_letters_of_directions_are_only_compared(tmp_path, letters, known, noted):
    """MetaIO's text has them mean one thing, ITK another; the matrix counts."""
    path = by_hand(
        tmp_path / "a.mha", AnatomicalOrientation=letters, TransformMatrix="1 0 0 0 1 0 0 0 1"
    )
    with open_images(path) as source:
        image = source.images[0]
    assert bool(image.placement.orientations) == known
    assert ("contradicts the TransformMatrix" in notes(image)) == noted


def test_channels_are_the_fastest_axis(tmp_path):
    """Several values of one sample."""
    array = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), dtype="u1")
    with open_images(written(tmp_path / "a.mha", array)) as source:
        assert source.images[0].axes == ("z", "y", "x", "c")
        check_described(source.images[0], source.open_image(0), array)


def test_planes_and_four_axes(tmp_path):
    """Two axes are y and x; what the fourth one is the file does not say."""
    with open_source(written(tmp_path / "a.mha", ARRAY[0])) as source:
        assert source.image.dims == ("y", "x")
        assert source.image.scale == {"y": 0.25, "x": 0.5}
    path = by_hand(tmp_path / "b.mha", NDims=4, DimSize="6 5 2 2", ElementSpacing="1 1 3 9")
    with pytest.raises(SourceFormatError, match=r"\? 2, z 2, y 5, x 6"):
        open_source(path)


def test_big_endian_and_bytes_to_skip(tmp_path):
    """As the header says; -1 stands for samples at the end."""
    data = ARRAY.astype(">i2").tobytes()
    for skip, before in ((3, b"abc"), (-1, b"anything")):
        path = by_hand(
            tmp_path / "a.mha", before + data, BinaryDataByteOrderMSB="True", HeaderSize=skip
        )
        with open_images(path) as source:
            check_described(source.images[0], source.open_image(0), ARRAY.astype(">i2"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"BinaryData": "False"}, "samples as text"),
        ({"ElementDataFile": "LIST"}, "in several files"),
        ({"ElementDataFile": "a%03d.raw 1 4 1"}, "in several files"),
        ({"ElementDataFile": "../a.raw"}, "not below its folder"),
        ({"ElementDataFile": "b.raw"}, "the file b.raw, which has its samples, is not there"),
        ({"ElementType": "MET_OTHER"}, "samples of type MET_OTHER are not numbers"),
        ({"DimSize": "6 5"}, "NDims '3', DimSize '6 5'"),
        ({"DimSize": "6 5 x"}, "not a readable MetaImage header"),
        ({"DimSize": "60000 50000 40000"}, "truncated: .* but its array ends at 2400000000"),
        ({"HeaderSize": "-7"}, "HeaderSize -7"),
        ({"CompressedData": "True", "DimSize": "60000 50000 40000"}, "cannot hold the 24000000"),
        ({"CompressedData": "True", "CompressedDataSize": "9999"}, "truncated: .* ends at"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, stored, changes, words):
    """Text, files elsewhere, and headers that contradict themselves."""
    with pytest.raises(SourceFormatError, match=words) as caught:
        open_images(stored(by_hand(tmp_path / "a.mha", **changes)))
    assert "\n" not in str(caught.value)


def test_a_deflated_stream_cut_short_is_refused_when_it_is_read(tmp_path):
    """A zlib stream does not say how long it is, so this comes out at the missing samples."""
    data = zlib.compress(ARRAY.tobytes())
    path = by_hand(tmp_path / "a.mha", data[:-30], CompressedData="True")
    with open_images(path) as source:
        samples = source.open_image(0)
        with pytest.raises(SourceFormatError, match="truncated"):
            samples.data[:, :, :]


def test_a_header_without_an_end_is_refused(tmp_path, stored):
    """It ends with ElementDataFile."""
    (tmp_path / "a.mha").write_bytes(b"ObjectType = Image\nNDims = 3\n")
    with pytest.raises(SourceFormatError, match="truncated: no ElementDataFile"):
        open_images(stored(tmp_path / "a.mha"))


@pytest.fixture(scope="module", params=[False, True])
def opened(tmp_path_factory, request):
    """The samples of a file, opened once."""
    path = tmp_path_factory.mktemp("mha") / "a.mha"
    with open_images(written(path, useCompression=request.param)) as source:
        yield source.open_image(0)


@given(key=st.tuples(slices(4), slices(5), slices(6)))
def test_any_box_is_what_numpy_gives(opened, key):
    """Slicing follows numpy's rules for bounds."""
    np.testing.assert_array_equal(opened.data[key], ARRAY[key])


def test_sixteen_threads_read_at_once(opened):
    """Whatever they read, samples are right."""
    hammer(opened, ARRAY)
