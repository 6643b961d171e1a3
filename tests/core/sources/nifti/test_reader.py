"""NIfTI, Analyze and MGH: samples as stored, placement as nibabel and ITK have it."""

import gzip
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.build.api import build_pyramid
from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_source
from ngff_core.sources.detect import open_images
from ngff_core.sources.gzip_tape import GzipTape
from tests.support.drawn import slices
from tests.support.samples import sample

nib = pytest.importorskip("nibabel")
from tests.support.nifti_files import volume, write  # noqa: E402

SAMPLES = (
    "anatomical.nii",
    "example4d.nii.gz",
    "example_nifti2.nii.gz",
    "functional.nii",
    "reoriented_anat_moved.nii",
    "standard.nii.gz",
)


def notes(source) -> str:
    return "; ".join(map(str, source.about.notes))


# --- real files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_real_files_are_those_that_nibabel_finds_stored(name, pixels):
    """Bit for bit, byte order included, slowest axis first."""
    expected = np.asarray(nib.load(sample(f"nifti/{name}")).dataobj.get_unscaled())
    with open_source(sample(f"nifti/{name}")) as source:
        assert source.kind == "nifti"
        assert source.image.dims == ("t", "z", "y", "x")[4 - expected.ndim :]
        assert source.image.data.dtype == expected.dtype
        np.testing.assert_array_equal(pixels(source), expected.T)


@pytest.mark.parametrize("name", ["anatomical.nii", "reoriented_anat_moved.nii", "functional.nii"])
def test_placement_of_real_files_is_that_of_itk(name):
    """ITK gives the first voxel and the directions in LPS."""
    sitk = pytest.importorskip("SimpleITK")
    itk = sitk.ReadImage(str(sample(f"nifti/{name}")))
    image = open_source(sample(f"nifti/{name}")).image
    direction = np.array(itk.GetDirection()).reshape(itk.GetDimension(), -1)
    toward = (
        ("right-to-left", "left-to-right"),
        ("anterior-to-posterior", "posterior-to-anterior"),
        ("inferior-to-superior", "superior-to-inferior"),
    )
    for axis, dim in enumerate("xyz"):
        assert image.scale[dim] == pytest.approx(itk.GetSpacing()[axis], rel=1e-6)
        sign = direction[axis, axis]
        assert image.axes_orientations[dim].value == toward[axis][int(sign < 0)]
        assert image.translation[dim] == pytest.approx(sign * itk.GetOrigin()[axis], rel=1e-5)


def test_an_oblique_file_says_so_and_its_time_is_doubted():
    """example4d has 2000 seconds between two volumes."""
    source = open_source(sample("nifti/example4d.nii.gz"))
    assert source.image.scale["t"] == 2000
    assert source.image.axes_units["t"] == "second"
    assert "probably milliseconds" in notes(source)
    assert "oblique" in notes(source)
    np.testing.assert_allclose(
        source.about.metadata["affine"], nib.load(sample("nifti/example4d.nii.gz")).affine
    )


def test_a_scale_of_samples_is_kept_beside_them():
    """functional.nii stores int16 that stand for slope * sample + intercept."""
    source = open_source(sample("nifti/functional.nii"))
    proxy = nib.load(sample("nifti/functional.nii")).dataobj
    assert source.about.metadata["rescale"] == {"slope": proxy.slope, "intercept": proxy.inter}
    assert "samples are as stored" in notes(source)


# --- what headers say ------------------------------------------------------------------


def test_without_units_none_is_written():
    """standard.nii.gz names no unit."""
    source = open_source(sample("nifti/standard.nii.gz"))
    assert source.image.scale == {"z": 2, "y": 3, "x": 1}
    assert source.image.axes_units is None
    assert "the file names none" in notes(source)


@pytest.mark.parametrize(("code", "unit"), [(1, "meter"), (2, "millimeter"), (3, "micrometer")])
def test_units_are_those_of_the_file(tmp_path, code, unit):
    """Nothing is converted."""
    path = write(tmp_path / "a.nii", volume(), xyzt_units=code)
    assert open_source(path).image.axes_units == dict.fromkeys("xyz", unit)


def test_a_file_with_sizes_only_has_no_position(tmp_path):
    """Neither sform nor qform: nibabel would make a position up."""
    image = nib.Nifti1Image(volume(), None)
    image.header["pixdim"][1:4] = 2, 3, 4
    image.to_filename(tmp_path / "a.nii")
    source = open_source(tmp_path / "a.nii")
    assert source.image.scale == {"z": 4, "y": 3, "x": 2}
    assert source.image.axes_orientations is None
    assert "sizes only" in notes(source)


def test_qform_is_taken_where_there_is_no_sform(tmp_path):
    """The order of the standard's own recommendation."""
    image = nib.Nifti1Image(volume(), None)
    image.set_qform(np.diag([-2.0, 3, 4, 1]), code=1)
    image.to_filename(tmp_path / "a.nii")
    source = open_source(tmp_path / "a.nii")
    assert source.about.origins["scale"] == "qform"
    assert source.image.axes_orientations["x"].value == "right-to-left"


@pytest.mark.parametrize(("slope", "inter"), [(0, 5), (1, 0), (np.nan, 0)])
def test_no_scale_of_samples_is_none(tmp_path, slope, inter):
    """0 means that there is none, by the standard."""
    source = open_source(write(tmp_path / "a.nii", volume(), scl_slope=slope, scl_inter=inter))
    assert "rescale" not in source.about.metadata


def test_colors_are_channels(tmp_path, pixels):
    """RGB24, pixel by pixel."""
    array = np.zeros((4, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    array["R"], array["B"] = 9, volume("u1", (4, 3, 2))
    source = open_source(write(tmp_path / "a.nii", array))
    assert source.image.dims == ("c", "z", "y", "x")
    assert [channel.name for channel in source.about.channels] == ["red", "green", "blue"]
    np.testing.assert_array_equal(pixels(source)[2], array["B"].T)


def test_vectors_are_not_taken_for_time_or_channels(tmp_path):
    """The fifth axis is what the intent says, so the caller must choose."""
    path = write(tmp_path / "a.nii", volume(shape=(4, 3, 2, 1, 3)), intent_code=1007)
    assert open_images(path).images[0].axes == ("vector", "z", "y", "x")
    with pytest.raises(SourceFormatError, match="'vector' of length 3"):
        open_source(path)


def test_a_spectrum_is_not_time(tmp_path):
    """Parts per million along the fourth axis."""
    path = write(tmp_path / "a.nii", volume(shape=(4, 3, 2, 6)), xyzt_units=2 + 40)
    assert open_images(path).images[0].axes == ("frequency", "z", "y", "x")


def test_numbers_of_objects_are_known_by_the_intent(tmp_path):
    """They must not be averaged."""
    assert open_source(write(tmp_path / "a.nii", volume(), intent_code=1002)).about.labels


def test_the_range_to_show_is_in_stored_numbers(tmp_path):
    """The header has it in scaled ones."""
    fields = {"scl_slope": 2, "scl_inter": 10, "cal_min": 10, "cal_max": 110}
    (channel,) = open_source(write(tmp_path / "a.nii", volume(), **fields)).about.channels
    assert channel.window == (0, 50)


# --- other kinds of files --------------------------------------------------------------


def test_either_file_of_a_pair_opens_both(tmp_path, pixels):
    """A header and its samples, and both are pinned."""
    nib.Nifti1Pair(volume(), np.diag([-2, 2, 2, 1])).to_filename(tmp_path / "a.hdr")
    first, second = open_source(tmp_path / "a.hdr"), open_source(tmp_path / "a.img")
    np.testing.assert_array_equal(pixels(first), volume().T)
    np.testing.assert_array_equal(pixels(second), volume().T)
    assert "file a.img" in dict(first.identity.pins)
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes() + b"\0")
    assert open_source(tmp_path / "a.hdr").identity != first.identity


def test_a_pair_is_found_in_any_store(tmp_path, stored, pixels):
    """The other file is looked for beside it, through the store."""
    folder = tmp_path / "pair"
    folder.mkdir()
    nib.Nifti1Pair(volume(), np.eye(4)).to_filename(folder / "a.hdr")
    np.testing.assert_array_equal(pixels(open_source(f"{stored(folder)}/a.hdr")), volume().T)


def test_half_a_pair_is_refused_by_the_name_of_the_other(tmp_path):
    """It cannot be read."""
    nib.Nifti1Pair(volume(), np.eye(4)).to_filename(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(SourceFormatError, match=r"a\.img is not beside it"):
        open_source(tmp_path / "a.hdr")


def test_analyze_has_sizes_and_no_direction(tmp_path, pixels):
    """Programs disagree on left and right there."""
    image = nib.AnalyzeImage(volume("<i2"), np.diag([-2.0, 3, 4, 1]))
    image.to_filename(tmp_path / "a.hdr")
    source = open_source(tmp_path / "a.hdr")
    assert source.about.format == "an Analyze file"
    assert source.image.scale == {"z": 4, "y": 3, "x": 2}
    assert source.image.axes_orientations is None
    np.testing.assert_array_equal(pixels(source), volume().T)


@pytest.mark.parametrize("ending", ["mgh", "mgz"])
def test_mgh_is_big_endian_with_an_affine(tmp_path, pixels, ending):
    """FreeSurfer's, compressed or not."""
    affine = np.array([[-1, 0, 0, 10], [0, 0, 2, -20], [0, -3, 0, 30], [0, 0, 0, 1.0]])
    nib.MGHImage(volume(">i4"), affine).to_filename(tmp_path / f"a.{ending}")
    source = open_source(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(pixels(source), volume().T)
    assert source.image.data.dtype == np.dtype(">i4")
    assert source.image.scale == {"x": 1, "y": 3, "z": 2}
    assert source.image.axes_orientations["y"].value == "superior-to-inferior"
    assert source.image.translation["y"] == -30


def test_mgh_frames_are_time_by_their_repetition_time_only(tmp_path):
    """The footer, behind the samples, has it."""
    for tr, axis in ((0, "?"), (1500, "t")):
        image = nib.MGHImage(volume("<f4", (4, 3, 2, 5)), np.eye(4))
        image.header["tr"] = tr
        image.to_filename(tmp_path / "a.mgh")
        (found,) = open_images(tmp_path / "a.mgh").images
        assert found.axes == (axis, "z", "y", "x")
        assert found.placement.scale.get("t") == (tr or None)


@pytest.mark.parametrize("name", ["a.par", "a.rec", "a.brik", "a.mnc"])
def test_what_is_not_read_is_named_with_the_way_to_nifti(tmp_path, name):
    """In one line."""
    (tmp_path / name).write_bytes(b"CDF\x01" + bytes(2000))
    with pytest.raises(SourceFormatError, match="NIfTI"):
        open_source(tmp_path / name)


# --- reading ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["a.nii", "a.nii.gz"])
def opened(request, tmp_path_factory):
    """An opened file and what is in it."""
    array = volume("<u2", (23, 19, 17))
    path = write(tmp_path_factory.mktemp("nifti") / request.param, array)
    return array.T, open_source(path)


@given(key=st.tuples(slices(17), slices(19), slices(23)))
def test_any_box_is_what_numpy_gives(opened, key):
    """Slicing follows numpy's rules."""
    array, source = opened
    np.testing.assert_array_equal(source.image.data[key], array[key])


def test_threads_read_the_same_samples(opened):
    """16 threads, one file."""
    array, source = opened
    rng = np.random.default_rng(0)
    keys = [
        tuple(slice(*sorted(rng.integers(0, n + 1, 2))) for n in array.shape) for _ in range(300)
    ]
    with ThreadPoolExecutor(16) as threads:
        found = threads.map(lambda key: source.image.data[key], keys)
        for key, block in zip(keys, found, strict=True):
            np.testing.assert_array_equal(block, array[key])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_any_store_gives_the_same(tmp_path, stored, pixels, name):
    """On a disk and in memory."""
    write(tmp_path / name, volume())
    np.testing.assert_array_equal(pixels(open_source(stored(tmp_path / name))), volume().T)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgh", "a.mgz"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.99])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, name, part):
    """When it is opened, whatever is missing."""
    array = np.random.default_rng(0).integers(0, 99, (40, 30, 20)).astype("i4")
    kind = nib.MGHImage if "mg" in name else nib.Nifti1Image
    kind(array, np.eye(4)).to_filename(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(part * len(data))])
    with pytest.raises(SourceFormatError, match="truncated") as error:
        open_source(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    """Before any memory is taken for it."""
    path = write(tmp_path / "a.nii", volume())
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([32767] * 3, "<i2").tobytes()
    for name, content in (("a.nii", bytes(data)), ("a.nii.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceFormatError, match="truncated"):
            open_source(tmp_path / name)


def test_the_identity_changes_with_the_file(tmp_path):
    """And names the decoder."""
    path = write(tmp_path / "a.nii", volume())
    first = open_source(path).identity
    assert dict(first.pins)["reader"].startswith("nibabel ")
    assert open_source(path).identity == first
    write(path, volume(shape=(8, 8, 8)))
    assert open_source(path).identity != first


@pytest.mark.parametrize("cache", ["auto", "always"])
def test_a_build_inflates_each_byte_once(tmp_path, monkeypatch, cache):
    """200 planes that are larger than a region of level 0, so that each is needed twice."""
    tapes: list[GzipTape] = []
    create = GzipTape.__init__

    def remember(tape, *arguments):
        create(tape, *arguments)
        tapes.append(tape)

    monkeypatch.setattr(GzipTape, "__init__", remember)
    monkeypatch.setattr("ngff_core.plan.source_cache._REGION_BYTES", 1 << 20)
    array = np.random.default_rng(0).integers(0, 9, (320, 300, 200), "u1")
    path = write(tmp_path / "a.nii.gz", array)
    build_pyramid(
        path, tmp_path / "a.ome.zarr", cache=cache, method="itkwasm_bin_shrink", chunks=64
    )
    assert sum(tape.inflated for tape in tapes) <= 1.1 * array.nbytes
    shutil.rmtree(tmp_path / "a.ome.zarr")
