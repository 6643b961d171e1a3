"""HDF5 files: plain datasets, BigDataViewer's and Imaris', equal to what h5py wrote."""

import json
import os

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError, SourceFormatError, TransientError
from ngff_core.sources import open_images, open_source
from ngff_core.storage import Bucket
from tests.support.drawn import slices
from tests.support.hdf5_files import AFFINE, FLUOR, VIEWS, bdv, imaris, write, xml
from tests.support.readers import check_described, hammer, notes, read_all, to_memory

ARRAY = np.random.default_rng(0).integers(0, 60000, (6, 7, 8), dtype="u2")


def describe(path, number=0):
    with open_images(path) as source:
        return source.images[number]


# --- plain datasets ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">u2", "<i4", "u8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("chunks", [None, (2, 3, 4)])
def test_samples_and_dtypes(tmp_path, stored, dtype, chunks):
    """Contiguous and in chunks, from a disk and from elsewhere."""
    array = (ARRAY % 100).astype(dtype)
    path = write(tmp_path / "a.h5", data={"data": array, "chunks": chunks})
    uri = stored(path)
    with open_images(uri) as source:
        image, samples = source.images[0], source.open_image(0)
        check_described(image, samples, array)
        assert np.dtype(image.dtype) == array.dtype
        row = (1, 1, 8) if uri.startswith("memory") else (1, 1, 1)
        assert samples.read_unit == (chunks or row)
        assert "h5py" in dict(source.identity.pins)["reader"]


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True},
        {"compression": "lzf"},
        hdf5plugin.Blosc(),
        hdf5plugin.LZ4(),
        hdf5plugin.Zstd(),
    ],
)
def test_compressions(tmp_path, stored, options):
    """HDF5's own, and those of BigDataViewer and Imaris."""
    path = write(tmp_path / "a.h5", data={"data": ARRAY, "chunks": (2, 3, 4), **options})
    with open_images(stored(path)) as source:
        check_described(source.images[0], source.open_image(0), ARRAY)
        hammer(source.open_image(0), ARRAY, reads=64)


def test_datasets_are_named_by_their_paths(tmp_path):
    """None of several is meant; one is chosen by its path behind ``::`` or as a series."""
    path = write(tmp_path / "a.h5", **{"exported/data": ARRAY, "raw": ARRAY[:2]})
    with open_images(path) as source:
        assert [image.name for image in source.images] == ["/exported/data", "/raw"]
        assert source.main is None
    with pytest.raises(SourceFormatError, match=r"holds 2 images.*0 '/exported/data'"):
        open_source(path)
    for chosen, expected in (("/exported/data", ARRAY), ("/raw", ARRAY[:2])):
        with open_source(f"{path}::{chosen}") as source:
            np.testing.assert_array_equal(source.image.data[:, :, :], expected)
            assert source.image.dims == ("z", "y", "x")
    with pytest.raises(InvalidOptionError, match="there is no '/other'"):
        open_source(f"{path}::/other")


def test_what_is_no_image_is_left_out_by_name(tmp_path):
    """Tables, texts, complex numbers and empty arrays; lists and numbers need no word."""
    path = write(
        tmp_path / "a.h5",
        image=ARRAY,
        table=np.zeros((2, 2), [("a", "i4")]),
        text={"data": [["a", "b"]], "dtype": h5py.string_dtype()},
        waves=np.zeros((2, 2), "c8"),
        empty=np.zeros((3, 0)),
        numbers=np.arange(3),
        number=1.5,
    )
    image = describe(path)
    assert image.name == "/image"
    assert "left out: samples that are not numbers: /table, /text" in notes(image)
    assert "complex numbers: /waves" in notes(image)
    assert "without samples: /empty" in notes(image)
    assert "number:" not in notes(image)


def test_a_file_without_images_is_refused(tmp_path, stored):
    """The line says what is there instead."""
    path = write(tmp_path / "a.h5", waves=np.zeros((2, 2), "c8"))
    with pytest.raises(SourceFormatError, match=r"without a dataset of numbers.*complex.*/waves"):
        open_images(stored(path))


@pytest.mark.parametrize(
    ("attributes", "axes", "scale"),
    [
        ({"DIMENSION_LABELS": ["z", "Y", "x"]}, ("z", "y", "x"), {}),
        ({"DIMENSION_LABELS": ["time", "", "energy"]}, ("t", "?", "energy"), {}),
        ({"DIMENSION_LABELS": ["", "", ""]}, ("?", "?", "?"), {}),
        ({"element_size_um": [2.0, 0.5, 0.25]}, ("z", "y", "x"), {"z": 2.0, "y": 0.5, "x": 0.25}),
        ({"element_size_um": [0.0, 0.5, -1]}, ("z", "y", "x"), {"y": 0.5}),
        (
            {"DIMENSION_LABELS": ["t", "y", "x"], "element_size_um": [2.0, 0.5, 0.25]},
            ("t", "y", "x"),
            {"y": 0.5, "x": 0.25},
        ),
        ({"axistags": '{"axes": "none"}'}, ("?", "?", "?"), {}),
        (
            {"DIMENSION_LABELS": 5, "element_size_um": "abc", "axistags": [1, 2]},
            ("?", "?", "?"),
            {},
        ),
        ({"axistags": "not JSON"}, ("?", "?", "?"), {}),
        ({}, ("?", "?", "?"), {}),
    ],
)
def test_attributes_name_axes_and_sizes(tmp_path, attributes, axes, scale):
    """HDF5's own labels, and sizes as elf, PlantSeg and Fiji write them."""
    path = write(tmp_path / "a.h5", data=ARRAY)
    with h5py.File(path, "r+") as file:
        file["data"].attrs.update(attributes)
    image = describe(path)
    assert image.axes == axes
    assert image.placement.scale == scale
    assert image.placement.units == dict.fromkeys(scale, "micrometer")


@pytest.mark.parametrize("kind", [str, bytes])
def test_axistags_of_ilastik(tmp_path, pixels, kind):
    """Axes in any order, channels last, sizes where they are not 0."""
    tags = [
        {"key": key, "typeFlags": 2, "resolution": size, "description": ""}
        for key, size in (("t", 0), ("z", 2.5), ("y", 0.5), ("x", 0.5), ("c", 0))
    ]
    array = np.arange(5 * 3 * 4 * 2 * 2).reshape(2, 5, 3, 4, 2).astype("u2")
    path = write(tmp_path / "a.h5", exported_data=array)
    with h5py.File(path, "r+") as file:
        text = json.dumps({"axes": tags})
        file["exported_data"].attrs["axistags"] = text if kind is str else text.encode()
    image = describe(path)
    assert image.axes == ("t", "z", "y", "x", "c")
    assert image.placement.scale == {"z": 2.5, "y": 0.5, "x": 0.5}
    with open_source(path) as source:
        assert source.image.dims == ("t", "c", "z", "y", "x")
        np.testing.assert_array_equal(pixels(source), np.moveaxis(array, -1, 1))


# --- what lies in other files ------------------------------------------------------------


def pointing(tmp_path):
    """A file with an image of its own, and four ways to lead to another one."""
    write(tmp_path / "other.h5", secret=ARRAY)
    (tmp_path / "other.raw").write_bytes(ARRAY.tobytes())
    path = write(tmp_path / "a.h5", own=ARRAY)
    with h5py.File(path, "r+") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/secret")
        file["soft"] = h5py.SoftLink("/link")
        layout = h5py.VirtualLayout(ARRAY.shape, "u2")
        layout[:] = h5py.VirtualSource("other.h5", "secret", ARRAY.shape)
        file.create_virtual_dataset("virtual", layout)
        inside = h5py.VirtualLayout(ARRAY.shape, "u2")
        inside[:] = h5py.VirtualSource(".", "link", ARRAY.shape)
        file.create_virtual_dataset("detour", inside)
        file.create_dataset(
            "external", ARRAY.shape, "u2", external=[("other.raw", 0, ARRAY.nbytes)]
        )
    return path


def test_nothing_in_another_file_is_read(tmp_path):
    """By a link, a virtual dataset, also through a link, or external storage."""
    with open_images(pointing(tmp_path)) as source:
        assert [image.name for image in source.images] == ["/own"]
        text = notes(source.images[0])
    assert "links to other files, which are not followed: /link in other.h5" in text
    assert "a virtual dataset of other.h5, which is not read: /virtual" in text
    assert "a virtual dataset of ., which is not read: /detour" in text
    assert "stored in other.raw, which is not read: /external" in text


def test_a_file_that_only_points_elsewhere_is_refused(tmp_path):
    """The line names the other file."""
    path = pointing(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["own"]
    with pytest.raises(SourceFormatError, match=r"virtual dataset of other.h5.*/virtual"):
        open_images(path)


def test_a_virtual_dataset_of_its_own_file_is_read(tmp_path, stored):
    """It leads nowhere else."""
    path = write(tmp_path / "a.h5", part=ARRAY)
    with h5py.File(path, "r+") as file:
        layout = h5py.VirtualLayout((2, *ARRAY.shape), "u2")
        layout[0] = h5py.VirtualSource(".", "part", ARRAY.shape)
        file.create_virtual_dataset("whole", layout)
    with open_images(stored(path)) as source:
        assert [image.name for image in source.images] == ["/part", "/whole"]
        expected = np.stack([ARRAY, np.zeros_like(ARRAY)])
        check_described(source.images[1], source.open_image(1), expected)


# --- damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, stored, share):
    """In one line, with the sizes that HDF5 says."""
    path = write(tmp_path / "a.h5", data=ARRAY)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceFormatError, match=r"not a readable HDF5 file.*truncated") as caught:
        open_images(stored(path))
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_refused_when_it_is_read(tmp_path, stored):
    """The line names the dataset."""
    path = write(tmp_path / "a.h5", data={"data": ARRAY, "chunks": ARRAY.shape, "compression": 9})
    with h5py.File(path) as file:
        where = file["data"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[where.byte_offset + 10 : where.byte_offset + 200] = b"\xff" * 190
    path.write_bytes(data)
    with open_images(stored(path)) as source:
        samples = source.open_image(0)
        with pytest.raises(SourceFormatError, match="cannot decode /data"):
            samples.data[:, :, :]


def test_a_compression_that_is_not_there_is_refused_by_name(tmp_path):
    """A filter that hdf5plugin does not have."""
    path = write(tmp_path / "a.h5", data={"data": ARRAY, "chunks": (2, 3, 4), **hdf5plugin.LZ4()})
    data = path.read_bytes()
    code = (32004).to_bytes(2, "little")
    assert data.count(code) == 1
    path.write_bytes(data.replace(code, (32999).to_bytes(2, "little")))
    with open_images(path) as source, pytest.raises(SourceFormatError, match="filter 32999"):
        source.open_image(0)


def test_a_failure_of_the_network_stays_one(tmp_path, memory, monkeypatch):
    """A build tries a transient error again, so it keeps its type inside HDF5's reads."""

    class Failing:
        fails = False

        def __init__(self, file):
            self._file = file

        def readinto(self, buffer):
            if Failing.fails:
                raise TransientError("connection reset")
            return self._file.readinto(buffer)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.close()

        def __getattr__(self, name):
            return getattr(self._file, name)

    opened = Bucket.open
    monkeypatch.setattr(Bucket, "open", lambda self, key: Failing(opened(self, key)))
    path = write(tmp_path / "a.h5", data={"data": ARRAY, "chunks": (2, 3, 4)})
    with open_images(to_memory(path, memory)) as source:
        samples = source.open_image(0)
        Failing.fails = True
        with pytest.raises(TransientError, match="connection reset"):
            samples.data[:, :, :]
        Failing.fails = False
        np.testing.assert_array_equal(read_all(samples), ARRAY)


def test_another_file_is_another_source(tmp_path):
    """Size and time of the file are part of the identity."""
    path = write(tmp_path / "a.h5", data=ARRAY)
    with open_images(path) as source:
        before = source.identity
    os.utime(path, ns=(1, 1))
    with open_images(path) as source:
        assert source.identity != before


# --- EMD ---------------------------------------------------------------------------------

RECORDING = "Data/Image/" + "0" * 32


def velox(path, frames=1, unit="m", dtype="i2"):
    """One recording as Velox writes it, with a JSON text in a column for each frame."""
    result = {
        "Detector": "HAADF",
        "PixelSize": {"width": "2e-10", "height": "3e-10"},
        "PixelUnitX": unit,
        "PixelUnitY": unit,
    }
    text = np.frombuffer(json.dumps({"BinaryResult": result}).encode().ljust(600, b"\0"), "u1")
    with h5py.File(path, "w") as file:
        file[f"{RECORDING}/Data"] = np.arange(12 * frames).reshape(3, 4, frames).astype(dtype)
        file[f"{RECORDING}/Metadata"] = np.tile(text[:, None], frames)
        file["Data/SpectrumStream/" + "1" * 32 + "/Data"] = np.zeros((50, 1), "u2")
    return path


@pytest.mark.parametrize(("frames", "dims"), [(1, ("y", "x")), (2, ("t", "y", "x"))])
def test_a_recording_of_velox_is_one_image(tmp_path, stored, frames, dims):
    """Its metadata are none, and its axes are y, x, frame."""
    source = open_source(stored(velox(tmp_path / "a.emd", frames)))
    assert source.image.dims == dims
    sizes = {dim: source.image.scale[dim] for dim in "yx"}
    assert sizes == {"y": 3e-10, "x": 2e-10}
    assert source.image.axes_units == {"y": "meter", "x": "meter"}
    assert [channel.name for channel in source.about.channels] == ["HAADF"]
    assert "spectra and other recordings" in notes(source.about.described)


def test_a_size_in_reciprocal_space_is_none(tmp_path):
    """A diffraction pattern has no length along its axes."""
    image = describe(velox(tmp_path / "a.emd", unit="1/m"))
    assert not image.placement.scale
    assert "left out: the size along y, 3e-10 1/m" in notes(image)


def test_metadata_of_velox_are_not_built_where_the_samples_cannot_be(tmp_path):
    """Complex numbers leave nothing."""
    path = velox(tmp_path / "a.emd", dtype="c8")
    with pytest.raises(SourceFormatError, match="complex numbers"):
        open_images(path)


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("R_x", "R_y", "Q_x", "Q_y"), ("x", "y", "q_x", "q_y")),
        (("z", "y", "x"), ("z", "y", "x")),
        (("dim1", "dim2", "dim3"), ("?", "?", "?")),
        (("x", "x", "y"), ("?", "?", "?")),
        (("", "y", "x"), ("?", "y", "x")),
    ],
)
def test_axes_of_ncem_and_prismatic(tmp_path, names, axes):
    """From the datasets beside the samples; sizes in a unit of length only."""
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("a/b")
        group.attrs["emd_group_type"] = 1
        group["samples"] = np.zeros((4, 3, 5, 2)[: len(names)], "f4")
        for number, name in enumerate(names, 1):
            dim = group.create_dataset(f"dim{number}", data=np.arange(4) * 0.5)
            dim.attrs["name"] = name
            dim.attrs["units"] = "[n_m^-1]" if name.startswith("Q") else "[n_m]"
    image = describe(tmp_path / "a.emd")
    assert image.axes == axes
    named = [axis for axis in axes if axis in "xyz"]
    assert dict(image.placement.scale) == dict.fromkeys(named, 0.5)
    assert dict(image.placement.units) == dict.fromkeys(named, "nanometer")


# --- BigDataViewer -----------------------------------------------------------------------


def test_setups_are_images_of_uint16(tmp_path, memory):
    """Times along t, level 0 only; samples typed int16 are meant unsigned."""
    folder = tmp_path / "files"
    folder.mkdir()
    bdv(folder / "a.h5")
    xml(folder / "a.xml")
    root = to_memory(folder, memory)
    for uri in (folder / "a.h5", f"{root}/a.h5", folder / "a.xml", f"{root}/a.xml"):
        with open_images(uri) as source:
            assert source.kind == "bdv"
            assert source.main is None
            assert [image.name for image in source.images] == ["left", "right"]
            for number, image in enumerate(source.images):
                assert image.axes == ("t", "z", "y", "x")
                check_described(image, source.open_image(number), VIEWS[number])
                assert source.open_image(number).read_unit == (1, 2, 3, 4)
                assert image.placement.scale == {"x": 0.5, "y": 0.25, "z": 2.0}
                assert image.placement.units == dict.fromkeys("xyz", "micrometer")
                assert image.placement.translation == {"x": 10.0, "y": -20.0, "z": 30.0}
                assert "converted: samples typed int16 are read as uint16" in notes(image)


def test_without_the_xml_sizes_are_unknown(tmp_path):
    """The note names the file that lacks, which is part of the identity once it is there."""
    path = bdv(tmp_path / "a.h5", stored_as="u2")
    with open_images(path) as source:
        image, before = source.images[1], source.identity
        assert image.name == "setup 1"
        assert not image.placement.scale
        assert "unknown: sizes, names and transformations: a.xml, which has them" in notes(image)
        assert "converted" not in notes(image)
    xml(tmp_path / "a.xml")
    with open_images(path) as source:
        assert source.identity != before
        assert source.images[1].placement.scale


def test_an_xml_about_another_file_does_not_count(tmp_path):
    """Its name alone says too little."""
    path = bdv(tmp_path / "a.h5")
    xml(tmp_path / "a.xml", place="b.h5")
    assert not describe(path).placement.scale


@pytest.mark.parametrize(
    ("options", "words", "shift"),
    [
        ({"affines": ["0.5 0.1 0 1 0 0.25 0 2 0 0 2 3"]}, "which is kept as metadata", {}),
        ({"affines": ["1 0 0 9 0 1 0 9 0 0 1 9"]}, "which is kept as metadata", {}),
        ({"affines": ["1 0 0 0 0 1 0 0 0 0 1 0"]}, "", {}),
        ({"affines": [AFFINE, "0.5 0 0 0 0 0.25 0 0 0 0 2 0"]}, "from time to time", {"x": 10.0}),
        ({"sizes": "0 -1 2.0"}, "which is kept as metadata", {}),
    ],
)
def test_a_transformation_that_does_not_fit_is_said(tmp_path, options, words, shift):
    """Sizes and a shift fit; all else stays in the metadata."""
    path = bdv(tmp_path / "a.h5")
    xml(tmp_path / "a.xml", **options)
    image = describe(path)
    assert words in notes(image)
    assert shift.items() <= image.placement.translation.items()
    assert bool(shift) == bool(image.placement.translation)
    assert len(image.metadata["affine"]) == 3


def test_transformations_follow_each_other(tmp_path):
    """The first one in the file is applied last."""
    path = bdv(tmp_path / "a.h5")
    two = f"1 0 0 1 0 1 0 1 0 0 1 1</affine></ViewTransform><ViewTransform><affine>{AFFINE}"
    xml(tmp_path / "a.xml", affines=[two])
    assert describe(path).placement.translation == {"x": 11.0, "y": -19.0, "z": 31.0}


def test_a_missing_view_reads_as_zero_and_is_said(tmp_path):
    """BigDataViewer leaves such views out."""
    path = bdv(tmp_path / "a.h5", skip={(1, 0)})
    with open_images(path) as source:
        expected = VIEWS[1].copy()
        expected[0] = 0
        check_described(source.images[1], source.open_image(1), expected)
        assert "unknown: samples at time 0: not in the file, read as 0" in notes(source.images[1])
        assert "read as 0" not in notes(source.images[0])


def test_views_in_other_files_are_refused_by_name(tmp_path):
    """As BigDataViewer splits large exports."""
    path = bdv(tmp_path / "a.h5", skip={(0, 0)})
    with h5py.File(path, "r+") as file:
        file["t00000/s00"] = h5py.ExternalLink("a-00.h5", "t00000/s00")
    with pytest.raises(
        SourceFormatError, match=r"t00000/s00/0/cells lies in another file, a-00.h5"
    ):
        open_images(path)


def test_views_of_another_shape_are_refused_when_they_are_read(tmp_path):
    """They cannot lie along one axis."""
    path = bdv(tmp_path / "a.h5", skip={(0, 1)})
    with h5py.File(path, "r+") as file:
        file["t00001/s00/0/cells"] = np.zeros((2, 2, 2), "i2")
    with open_images(path) as source:
        samples = source.open_image(0)
        with pytest.raises(SourceFormatError, match=r"t00001/s00/0/cells .* is not like the first"):
            read_all(samples)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"place": "../a.h5"}, "not below its folder"),
        ({"place": "/etc/a.h5"}, "not below its folder"),
        ({"place": "missing.h5"}, "missing.h5 that it is about is not there"),
        ({"loader": "imagej"}, "images are in the format bdv.imagej, which is not read"),
    ],
)
def test_an_xml_that_leads_nowhere_is_refused(tmp_path, options, words):
    """By the name of what it leads to."""
    with pytest.raises(SourceFormatError, match=words):
        open_images(xml(tmp_path / "a.xml", **options))


def test_an_xml_bomb_is_refused(tmp_path):
    """Entities are not expanded."""
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><SpimData>&c;</SpimData>'
    (tmp_path / "a.xml").write_text(bomb)
    with pytest.raises(SourceFormatError, match="not a readable XML of BigDataViewer"):
        open_images(tmp_path / "a.xml")


# --- Imaris ------------------------------------------------------------------------------


def test_an_imaris_file_is_one_image_without_padding(tmp_path, stored):
    """Times, channels, sizes, names, colors and windows."""
    with open_images(stored(imaris(tmp_path / "a.ims"))) as source:
        image, samples = source.images[0], source.open_image(0)
        check_described(image, samples, FLUOR)
        hammer(samples, FLUOR, reads=64)
        assert samples.read_unit == (1, 1, 4, 4, 4)
    assert image.name == "embryo"
    assert image.axes == ("t", "c", "z", "y", "x")
    assert image.placement.scale == {"x": 0.5, "y": 0.5, "z": 2.0, "t": 30.0}
    assert image.placement.units == {
        **dict.fromkeys("xyz", "micrometer"),
        "t": "second",
    }
    # Extents are corners; the first sample's centre lies half a voxel inside.
    assert image.placement.translation == {"x": 1.25, "y": -2.75, "z": 1.0}
    assert [channel.name for channel in image.channels] == ["DAPI", "GFP", None]
    assert [channel.color for channel in image.channels] == ["0000FF", "00FF00", None]
    assert image.channels[0].window == (10.0, 200.5)


def test_the_name_that_imaris_gives_to_what_has_none(tmp_path):
    """Is no name."""
    path = imaris(tmp_path / "a.ims")
    with h5py.File(path, "r+") as file:
        text = np.array(list("(name not specified)"), "S1")
        file["DataSetInfo/Image"].attrs["Name"] = text
        file["DataSetInfo/Channel 0"].attrs["Name"] = text
    image = describe(path)
    assert (image.name, image.channels[0].name) == (None, None)


def test_missing_views_extents_and_times(tmp_path):
    """What is not there is said, or unknown."""
    path = imaris(
        tmp_path / "a.ims", skip={(1, 2)}, extents=((0, 0), (5, 1), (0, 1)), seconds=(0, 0)
    )
    image = describe(path)
    assert image.placement.scale == {"z": 0.2}
    assert "samples of 1 of 6 times and channels: not in the file" in notes(image)


def test_more_samples_than_stored_are_refused(tmp_path):
    """The size of the image lies within that of the dataset."""
    path = imaris(tmp_path / "a.ims")
    with h5py.File(path, "r+") as file:
        group = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
        group.attrs["ImageSizeX"] = np.array([b"9", b"9"], "S1")
    with pytest.raises(SourceFormatError, match="99 samples along x are more than the 8 stored"):
        open_images(path)


# --- any cut -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["plain", "bdv", "imaris", "memory"])
def opened(tmp_path_factory, request):
    """An array and the samples of a file with it, opened once."""
    folder = tmp_path_factory.mktemp("hdf5")
    if request.param == "bdv":
        path, array = bdv(folder / "a.h5"), VIEWS[0]
    elif request.param == "imaris":
        path, array = imaris(folder / "a.ims"), FLUOR
    else:
        path = write(folder / "a.h5", data={"data": ARRAY, "chunks": (4, 3, 2)})
        array = ARRAY
    uri = to_memory(path, "memory://sources-hdf5") if request.param == "memory" else path
    with open_images(uri) as source:
        yield array, source.open_image(0)


@given(data=st.data())
def test_any_box_is_what_numpy_gives(opened, data):
    """Slicing follows numpy's rules for bounds."""
    array, samples = opened
    key = data.draw(st.tuples(*(slices(n) for n in array.shape)))
    np.testing.assert_array_equal(samples.data[key], array[key])


def test_sixteen_threads_read_at_once(opened):
    """Whatever they read, samples are right."""
    array, samples = opened
    hammer(samples, array)
