"""NRRD files: samples and geometry as SimpleITK reads them, and what it does not tell."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images, open_source
from tests.support.drawn import slices
from tests.support.nrrd_files import ARRAY, LPS, header, write
from tests.support.readers import check_described, hammer, notes, read_all
from tests.support.samples import sample


def placed(path, fields):
    """The description of a file with the fields of LPS, or others like them."""
    return describe(
        write(path, **{name.replace(" ", "_"): value for name, value in fields.items()})
    )


def describe(path):
    with open_images(path) as source:
        return source.images[0]


@pytest.mark.parametrize("name", ["BallBinary30x30x30.nrrd", "BallBinary30x30x30_gz.nrrd"])
def test_samples_are_what_simpleitk_reads(name):
    """Of real files, plain and gzipped."""
    itk = pytest.importorskip("SimpleITK")
    path = sample(f"nrrd/{name}")
    with open_images(path) as source:
        image = source.images[0]
        check_described(image, source.open_image(0), itk.GetArrayFromImage(itk.ReadImage(path)))
        hammer(source.open_image(0), read_all(source.open_image(0)))
    assert image.axes == ("z", "y", "x")
    assert {o.value for o in image.placement.orientations.values()} == {
        "right-to-left",
        "anterior-to-posterior",
        "inferior-to-superior",
    }


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("uchar", "u1"),
        ("int8", "i1"),
        ("unsigned short", "u2"),
        ("short", "i2"),
        ("unsigned int", "u4"),
        ("int", "i4"),
        ("longlong", "i8"),
        ("unsigned long long int", "u8"),
        ("float", "f4"),
        ("double", "f8"),
    ],
)
@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_type_and_byte_order(tmp_path, stored, text, dtype, endian):
    """In the byte order that the header says."""
    array = ARRAY.astype(np.dtype(dtype).newbyteorder("<" if endian == "little" else ">"))
    path = write(tmp_path / "a.nrrd", array.tobytes(), type=text, endian=endian)
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), array)


def test_geometry_is_what_simpleitk_has(tmp_path):
    """Sizes, and where the first sample lies in ITK's world."""
    itk = pytest.importorskip("SimpleITK")
    path = write(tmp_path / "a.nrrd", **{k.replace(" ", "_"): v for k, v in LPS.items()})
    image = describe(path)
    oracle = itk.ReadImage(path)
    scale = image.placement.scale
    assert tuple(scale[axis] for axis in "xyz") == oracle.GetSpacing()
    assert tuple(image.placement.translation[axis] for axis in "xyz") == oracle.GetOrigin()
    assert image.placement.units == dict.fromkeys("xyz", "millimeter")
    assert "assumed: sizes are in millimeters" in notes(image)


@pytest.mark.parametrize(
    ("space", "x", "y", "at"),
    [
        ("LPS", "right-to-left", "anterior-to-posterior", 10),
        ("right-anterior-superior", "left-to-right", "posterior-to-anterior", 10),
        ("left-anterior-superior", "right-to-left", "posterior-to-anterior", 10),
    ],
)
def test_the_space_says_where_axes_lead(tmp_path, space, x, y, at):
    """Letters of the space are the sides to which its axes lead."""
    fields = {**LPS, "space": space, "space units": '"mm" "mm" "mm"'}
    image = placed(tmp_path / "a.nrrd", fields)
    assert image.placement.orientations["x"].value == x
    assert image.placement.orientations["y"].value == y
    assert image.placement.translation["x"] == at
    assert "assumed" not in notes(image)


def test_an_axis_against_the_world_is_counted_in_its_own_direction(tmp_path):
    """Its index grows to the right, so its first sample is at -10 to the right."""
    fields = {**LPS, "space directions": "(-0.5,0,0) (0,0,2) (0,0.5,0)"}
    image = placed(tmp_path / "a.nrrd", fields)
    assert image.placement.orientations["x"].value == "left-to-right"
    assert image.placement.orientations["y"].value == "inferior-to-superior"
    assert image.placement.translation == {"x": -10.0, "y": 30.0, "z": -20.0}
    assert image.placement.scale == {"x": 0.5, "y": 2.0, "z": 0.5}


def test_oblique_axes_keep_the_affine_and_say_so(tmp_path):
    """Only its sizes fit into a pyramid."""
    fields = {**LPS, "space directions": "(0.8,0.6,0) (-0.6,0.8,0) (0,0,2)"}
    image = placed(tmp_path / "a.nrrd", fields)
    assert image.placement.scale == pytest.approx({"x": 1.0, "y": 1.0, "z": 2.0})
    assert "oblique" in notes(image)
    assert "affine" in image.metadata


def test_a_world_that_is_no_body(tmp_path):
    """Sizes, units and positions, without anatomical directions."""
    fields = {
        "space_dimension": 3,
        "space_directions": "(0.1,0,0) (0,-0.1,0) (0,0,0.3)",
        "space_units": '"um" "um" "um"',
        "space_origin": "(1,2,3)",
    }
    image = describe(write(tmp_path / "a.nrrd", **fields))
    assert image.placement.scale == pytest.approx({"x": 0.1, "y": 0.1, "z": 0.3})
    assert image.placement.units == dict.fromkeys("xyz", "micrometer")
    assert image.placement.translation == {"x": 1.0, "y": -2.0, "z": 3.0}
    assert not image.placement.orientations
    assert "converted: positions along y" in notes(image)
    oblique = {**fields, "space_directions": "(0.08,0.06,0) (-0.06,0.08,0) (0,0,0.3)"}
    image = describe(write(tmp_path / "a.nrrd", **oblique))
    assert image.placement.scale == pytest.approx({"x": 0.1, "y": 0.1, "z": 0.3})
    assert not image.placement.translation
    assert "oblique" in notes(image)


def test_spacings_and_units_of_axes_without_a_kind(tmp_path):
    """As Fiji writes them: x is the fastest axis, which is noted."""
    path = write(tmp_path / "a.nrrd", spacings="0.2 0.3 nan", units='"um" "µm" "um"')
    image = describe(path)
    assert image.axes == ("z", "y", "x")
    assert image.placement.scale == {"x": 0.2, "y": 0.3}
    assert image.placement.units == {"x": "micrometer", "y": "micrometer"}
    assert "assumed: the axes are x, y, z, fastest first" in notes(image)


@pytest.mark.parametrize(
    ("kinds", "directions", "axes"),
    [
        ("RGB-color domain domain", "none (1,0) (0,1)", ("y", "x", "c")),
        ("domain domain RGB-color", "(1,0) (0,1) none", ("c", "y", "x")),
        ("domain domain time", "(1,0) (0,1) none", ("t", "y", "x")),
        ("domain domain list", "(1,0) (0,1) none", ("list", "y", "x")),
        ("domain domain ???", "(1,0) (0,1) none", ("?", "y", "x")),
        ("vector domain domain", None, ("y", "x", "c")),
    ],
)
def test_kinds_name_axes(tmp_path, kinds, directions, axes):
    """Axes in space by their order, others by what they are."""
    path = write(tmp_path / "a.nrrd", kinds=kinds, space_directions=directions, space_dimension=2)
    assert describe(path).axes == axes


def test_colors_have_names_where_their_number_is_right(tmp_path):
    """Three for red, green and blue."""
    data = np.zeros((5, 6, 3), "<i2").tobytes()
    path = write(tmp_path / "a.nrrd", data, sizes="3 6 5", kinds="RGB-color domain domain")
    assert [channel.name for channel in describe(path).channels] == ["red", "green", "blue"]
    assert (
        describe(write(path, data, sizes="6 5 3", kinds="RGB-color domain domain")).channels == ()
    )


def test_a_list_of_volumes_is_refused_until_it_is_named(tmp_path):
    """Four axes, one of which is in no space: diffusion gradients, say."""
    path = write(
        tmp_path / "a.nrrd",
        dimension=4,
        sizes="2 3 5 4",
        kinds="list domain domain domain",
        space="LPS",
        space_directions="none (1,0,0) (0,1,0) (0,0,1)",
    )
    with pytest.raises(SourceFormatError, match="'list' of length 2"):
        open_source(path)


def test_a_segmentation_of_slicer_has_labels(tmp_path):
    """Its numbers must not be averaged, and its own fields are kept."""
    path = tmp_path / "a.seg.nrrd"
    text = header(kinds="domain domain domain").rstrip() + b"\nSegment0_ID:=Segment_1\n\n"
    path.write_bytes(text + ARRAY.tobytes())
    image = describe(path)
    assert image.labels
    assert image.metadata["nrrd"] == {"Segment0_ID": "Segment_1"}


def test_a_detached_header_finds_its_samples(tmp_path, memory):
    """Beside it, on a disk and elsewhere; both are part of the identity."""
    import fsspec

    fs = fsspec.filesystem("memory")
    text = header(data_file="deep/a.raw", line_skip=1, byte_skip=3)
    data = b"one line\n\1\2\3" + ARRAY.tobytes()
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.nhdr").write_bytes(text)
    (tmp_path / "deep/a.raw").write_bytes(data)
    fs.pipe_file(f"{memory}/a.nhdr", text)
    fs.pipe_file(f"{memory}/deep/a.raw", data)
    for path in (tmp_path / "a.nhdr", f"{memory}/a.nhdr"):
        with open_images(path) as source:
            check_described(source.images[0], source.open_image(0), ARRAY)
            before = source.identity
            assert "companion a.raw" in dict(before.pins)
    fs.pipe_file(f"{memory}/deep/a.raw", data + b"\0")
    with open_images(f"{memory}/a.nhdr") as source:
        assert source.identity != before


def test_samples_at_the_end_of_a_file(tmp_path):
    """A byte skip of -1."""
    path = write(tmp_path / "a.nrrd", b"anything" + ARRAY.tobytes(), byte_skip=-1)
    with open_images(path) as source:
        check_described(source.images[0], source.open_image(0), ARRAY)


def test_gzip_with_bytes_to_skip(tmp_path, stored):
    """They are skipped after inflating."""
    data = gzip.compress(b"abc" + ARRAY.tobytes())
    path = write(tmp_path / "a.nrrd", data, encoding="gzip", byte_skip=3)
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), ARRAY)


def test_a_missing_byte_order_is_assumed_and_noted(tmp_path):
    """The format asks for it; some writers forget it."""
    path = write(tmp_path / "a.nrrd", endian=None)
    assert "assumed: samples are little-endian" in notes(describe(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "ascii"}, "in the encoding ascii"),
        ({"encoding": "bzip2"}, "in the encoding bzip2"),
        ({"encoding": "hex"}, "in the encoding hex"),
        ({"data_file": "LIST"}, "in several files"),
        ({"data_file": "a%03d.raw 1 4 1"}, "in several files"),
        ({"data_file": "../a.raw"}, "not below its folder"),
        ({"data_file": "/etc/hostname"}, "not below its folder"),
        ({"data_file": "b.raw"}, "the file b.raw, which has its samples, is not there"),
        ({"type": "block"}, "samples of type block are not numbers"),
        ({"sizes": "6 5"}, "dimension '3', sizes '6 5'"),
        ({"sizes": "6 5 x"}, "not a readable NRRD header"),
        ({"sizes": "6 0 4"}, "has no samples"),
        ({"sizes": "60000 50000 40000"}, "truncated: .* but its array ends at 2400000000"),
        ({"line_skip": 999}, "line skip 999"),
        ({"byte_skip": -2}, "byte skip -2"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, stored, changes, words):
    """Encodings, files elsewhere, and headers that contradict themselves."""
    with pytest.raises(SourceFormatError, match=words) as caught:
        open_images(stored(write(tmp_path / "a.nrrd", **changes)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_truncated_file_is_refused(tmp_path, stored, encoding):
    """Whatever is missing: the end of the samples, or of the header."""
    data = ARRAY.tobytes() if encoding == "raw" else gzip.compress(ARRAY.tobytes())
    path = write(tmp_path / "a.nrrd", data[:-9], encoding=encoding)
    with pytest.raises(SourceFormatError, match="truncated"):
        open_images(stored(path))


def test_a_header_without_an_end_is_refused(tmp_path, stored):
    """Nothing tells where samples would begin."""
    (tmp_path / "a.nrrd").write_bytes(header().rstrip())
    with pytest.raises(SourceFormatError, match="truncated: it has no end"):
        open_images(stored(tmp_path / "a.nrrd"))


def test_gzip_that_cannot_hold_what_the_header_says(tmp_path):
    """Nothing is inflated to find that out."""
    data = gzip.compress(ARRAY.tobytes())
    path = write(tmp_path / "a.nrrd", data, encoding="gzip", sizes="60000 50000 40000")
    with pytest.raises(SourceFormatError, match="cannot hold the 240000000000000"):
        open_images(path)


@pytest.fixture(scope="module", params=["raw", "gzip"])
def opened(tmp_path_factory, request):
    """The samples of a file, opened once."""
    data = ARRAY.tobytes() if request.param == "raw" else gzip.compress(ARRAY.tobytes())
    path = tmp_path_factory.mktemp("nrrd") / "a.nrrd"
    with open_images(write(path, data, encoding=request.param)) as source:
        yield source.open_image(0)


@given(key=st.tuples(slices(4), slices(5), slices(6)))
def test_any_box_is_what_numpy_gives(opened, key):
    """Slicing follows numpy's rules for bounds."""
    np.testing.assert_array_equal(opened.data[key], ARRAY[key])


def test_sixteen_threads_read_at_once(opened):
    """Whatever they read, samples are right."""
    hammer(opened, ARRAY)
