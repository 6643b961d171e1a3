"""DICOM: files, series and slides, compared with ITK, pydicom's own decoders and numpy."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_source
from ngff_core.sources.detect import open_images
from tests.support.drawn import slices
from tests.support.samples import sample

pydicom = pytest.importorskip("pydicom")
imagecodecs = pytest.importorskip("imagecodecs")

from tests.support.dicom import (  # noqa: E402 - needs pydicom
    PATIENT,
    at_position,
    dataset,
    enhanced,
    item,
    save,
    save_compressed,
    save_series,
    slide,
)

JPEG, JPEG_2000, RLE = (f"1.2.840.10008.1.2.{n}" for n in ("4.50", "4.90", "5"))
GRAY = (
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEG-lossy.dcm",
    "emri_small.dcm",
)
COLOR = ("ExplVR_BigEnd.dcm", "examples_ybr_color.dcm", "sm_image.dcm")


def volume(*shape: int, dtype: str = "<i2") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def notes(source) -> str:
    return "; ".join(map(str, source.about.notes))


def axial(count: int, step: float = 2.5) -> list[tuple[float, float, float]]:
    return [(-10.0, -20.0, 30.0 + step * i) for i in range(count)]


# --- real files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAY)
def test_gray_samples_are_those_of_itk_before_its_scale(name, pixels):
    """ITK decodes with other libraries; it applies slope and intercept."""
    sitk = pytest.importorskip("SimpleITK")
    with open_source(sample(f"dicom/{name}")) as source:
        found = pixels(source)
        expected = sitk.GetArrayFromImage(sitk.ReadImage(str(sample(f"dicom/{name}"))))
        scale = source.about.metadata.get("rescale", {"slope": 1, "intercept": 0})
        scaled = found * scale["slope"] + scale["intercept"]
        np.testing.assert_array_equal(scaled, expected.reshape(found.shape))


@pytest.mark.parametrize("name", COLOR[:2])
def test_color_samples_are_those_of_itk(name, pixels):
    """Big-endian with separate planes, and JPEG in YBR."""
    sitk = pytest.importorskip("SimpleITK")
    found = np.moveaxis(pixels(open_source(sample(f"dicom/{name}"))), -3, -1)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(sample(f"dicom/{name}"))))
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_geometry_is_that_of_itk(name):
    """Both give positions in LPS."""
    sitk = pytest.importorskip("SimpleITK")
    itk = sitk.ReadImage(str(sample(f"dicom/{name}")))
    image = open_source(sample(f"dicom/{name}")).image
    for axis, dim in enumerate("xy"):
        assert image.scale[dim] == pytest.approx(itk.GetSpacing()[axis])
        assert image.translation[dim] == pytest.approx(itk.GetOrigin()[axis])
    assert image.axes_units == {"x": "millimeter", "y": "millimeter"}
    assert image.axes_orientations["x"].value == "right-to-left"
    assert image.axes_orientations["y"].value == "anterior-to-posterior"


def test_twelve_bit_jpeg_is_decoded(pixels):
    """Some libraries refuse it."""
    assert pixels(open_source(sample("dicom/JPEG-lossy.dcm"))).max() == 264


def test_frames_that_nothing_is_said_of_have_no_name_and_no_size():
    """emri_small is enhanced MR without functional groups."""
    (image,) = open_images(sample("dicom/emri_small.dcm")).images
    assert image.axes == ("?", "y", "x")
    assert image.placement.scale == {}


def test_a_palette_is_expanded_and_noted(pixels):
    """To what pydicom makes of it."""
    source = open_source(sample("dicom/examples_palette.dcm"))
    header = pydicom.dcmread(sample("dicom/examples_palette.dcm"))
    expected = pydicom.pixels.apply_color_lut(header.pixel_array, header)
    np.testing.assert_array_equal(np.moveaxis(pixels(source), 0, -1), expected)
    assert "converted: colors of a palette" in notes(source)


def test_a_movie_is_in_time_with_the_time_of_a_frame():
    """In milliseconds; its JPEG is read as RGB, which is noted."""
    source = open_source(sample("dicom/examples_ybr_color.dcm"))
    assert source.image.dims == ("t", "c", "y", "x")
    assert (source.image.scale["t"], source.image.axes_units["t"]) == (33.333, "millisecond")
    assert "YBR_FULL_422 samples are read as red, green and blue" in notes(source)


def test_a_binary_segmentation_is_unpacked_and_labels(pixels):
    """One bit for each sample."""
    source = open_source(sample("dicom/liver_1frame.dcm"))
    expected = pydicom.dcmread(sample("dicom/liver_1frame.dcm")).pixel_array
    assert source.about.labels
    np.testing.assert_array_equal(pixels(source), expected)


def test_a_slide_is_its_tiles_side_by_side(pixels):
    """25 tiles of 10 x 10."""
    source = open_source(sample("dicom/sm_image.dcm"))
    tiles = pydicom.dcmread(sample("dicom/sm_image.dcm")).pixel_array
    expected = tiles.reshape(5, 5, 10, 10, 3).transpose(0, 2, 1, 3, 4).reshape(50, 50, 3)
    np.testing.assert_array_equal(np.moveaxis(pixels(source), 0, -1), expected)
    assert source.image.scale["y"] == 0.000499
    assert source.image.axes_units["y"] == "millimeter"
    assert source.read_unit == (3, 10, 10)


@pytest.mark.parametrize("name", [*GRAY, *COLOR, "examples_palette.dcm", "liver_1frame.dcm"])
def test_any_store_gives_the_same_samples(name, memory, pixels):
    """Through fsspec, and with no personal data in what is known of the image."""
    fsspec.filesystem("memory").pipe_file(f"{memory}/{name}", sample(f"dicom/{name}").read_bytes())
    near, far = open_source(sample(f"dicom/{name}")), open_source(f"{memory}/{name}")
    np.testing.assert_array_equal(pixels(near), pixels(far))
    header = pydicom.dcmread(sample(f"dicom/{name}"), stop_before_pixels=True)
    for person in (header.get("PatientName"), header.get("PatientID")):
        assert not person or str(person) not in repr(far.about) + repr(far.identity)


# --- samples ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<i2", "<u2", "u1", "i1", "<u4", "<i4"])
def test_samples_are_as_stored(tmp_path, pixels, dtype):
    """Every type of plain samples."""
    array = (volume(9, 7) - 100).astype(dtype)
    save(dataset(array), tmp_path / "a.dcm")
    source = open_source(tmp_path / "a.dcm")
    assert source.image.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(pixels(source), array)


def test_bits_that_are_not_stored_are_left_out_and_signs_are_extended(tmp_path, pixels):
    """Old files keep overlays in the upper bits."""
    array = np.array([[0x0FFF, 0xF801], [0x17FF, 0x0000]], "<u2")
    for signed, expected in ((0, [[4095, 2049], [2047, 0]]), (1, [[-1, -2047], [2047, 0]])):
        found = dataset(array, BitsStored=12, HighBit=11, PixelRepresentation=signed)
        save(found, tmp_path / "a.dcm")
        np.testing.assert_array_equal(pixels(open_source(tmp_path / "a.dcm")), expected)


def test_frames_of_single_bits_begin_within_a_byte(tmp_path, pixels):
    """Frames of 15 bits follow each other without a gap."""
    array = volume(4, 3, 5, dtype="u1") % 2
    bits = np.packbits(array.ravel(), bitorder="little").tobytes()
    depth = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    save(dataset(array, 4, PixelData=bits, **depth), tmp_path / "a.dcm")
    np.testing.assert_array_equal(pixels(open_source(tmp_path / "a.dcm")), array)


def test_bytes_in_words_of_a_big_endian_file_are_swapped(tmp_path, pixels):
    """A frame of 15 bytes begins in the middle of a word of 2."""
    array = volume(4, 3, 5, dtype="u1")
    found = dataset(array, 4, PixelData=array.ravel().view("u2").byteswap().tobytes())
    found["PixelData"].VR = "OW"
    save(found, tmp_path / "a.dcm", "1.2.840.10008.1.2.2")
    np.testing.assert_array_equal(pixels(open_source(tmp_path / "a.dcm")), array)


def test_a_jfif_file_is_not_rgb_whatever_the_header_says(tmp_path, pixels):
    """As libjpeg and pydicom have it."""
    array = np.full((32, 32, 3), (200, 60, 20), "u1")
    frame = imagecodecs.jpeg_encode(array, 100, subsampling="444")
    assert b"JFIF" in frame[:20]
    path = save_compressed(dataset(array), [frame], tmp_path / "a.dcm", JPEG)
    found = pixels(open_source(path))
    found = np.moveaxis(found, 0, -1) if found.shape[0] == 3 else found
    assert np.abs(found.astype(int) - array).max() <= 3


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_a_jpeg_that_says_it_holds_rgb_is_believed(tmp_path, pixels, kind):
    """Its Adobe marker knows better than the header."""
    array = volume(1, 16, 16, 3, dtype="u1")
    frame = imagecodecs.jpeg_encode(array[0], 100, colorspace="RGB", outcolorspace="RGB")
    assert b"Adobe" in frame
    found = dataset(array, PhotometricInterpretation=kind)
    save_compressed(found, [frame], tmp_path / "a.dcm", JPEG)
    decoded = np.moveaxis(pixels(open_source(tmp_path / "a.dcm")), 0, -1)
    np.testing.assert_allclose(decoded, array[0], atol=2)


def test_inverted_gray_is_kept_and_said(tmp_path, pixels):
    """MONOCHROME1."""
    array = volume(9, 7)
    save(dataset(array, PhotometricInterpretation="MONOCHROME1"), tmp_path / "a.dcm")
    source = open_source(tmp_path / "a.dcm")
    np.testing.assert_array_equal(pixels(source), array)
    assert "MONOCHROME1" in notes(source)


def test_planes_of_colors_are_channels(tmp_path, pixels):
    """Planar configuration 1."""
    array = volume(9, 8, 3, dtype="u1")
    found = dataset(array, PlanarConfiguration=1, PixelData=np.moveaxis(array, -1, 0).tobytes())
    save(found, tmp_path / "a.dcm")
    np.testing.assert_array_equal(
        pixels(open_source(tmp_path / "a.dcm")), np.moveaxis(array, -1, 0)
    )


@pytest.mark.parametrize("table", [True, False])
def test_compressed_frames_are_found_with_and_without_a_table(tmp_path, pixels, table):
    """Lossless JPEG 2000."""
    array = volume(4, 9, 7)
    frames = [imagecodecs.jpeg2k_encode(each, level=0, reversible=True) for each in array]
    path = save_compressed(dataset(array, 4), frames, tmp_path / "a.dcm", JPEG_2000, has_bot=table)
    np.testing.assert_array_equal(pixels(open_source(path)), array)


def test_a_scale_of_samples_is_kept_and_the_window_is_in_stored_numbers(tmp_path):
    """Slope 2 and intercept -1000: the window from 0 to 400 is 500 to 700 as stored."""
    elements = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    found = dataset(volume(9, 7), **elements, WindowCenter=200, WindowWidth=400)
    source = open_source(save(found, tmp_path / "a.dcm"))
    assert source.about.metadata["rescale"] == {"slope": 2, "intercept": -1000}
    assert source.about.channels[0].window == (500, 700)
    assert "2 * sample -1000" in notes(source)


def test_a_table_of_what_samples_stand_for_is_left_out_aloud(tmp_path):
    """Then a window is not in stored numbers either."""
    table = item(LUTDescriptor=[4, 0, 16], LUTData=bytes(8), ModalityLUTType="US")
    found = dataset(volume(9, 7, dtype="<u2"), ModalityLUTSequence=[table])
    found.WindowCenter, found.WindowWidth = 500, 1000
    source = open_source(save(found, tmp_path / "a.dcm"))
    assert "left out: samples are as stored; the table" in notes(source)
    assert not any(channel.window for channel in source.about.channels)


def test_a_movie_codec_is_refused_by_its_name(tmp_path):
    """MPEG2 is not a sequence of frames."""
    mpeg = "1.2.840.10008.1.2.4.100"
    found = dataset(volume(2, 9, 7, dtype="u1"), 2)
    save_compressed(found, [b"ab", b"cd"], tmp_path / "a.dcm", mpeg)
    with pytest.raises(SourceFormatError, match="MPEG2"):
        open_source(tmp_path / "a.dcm")


def test_a_file_without_an_image_is_refused_by_its_kind(tmp_path):
    """Such as a report."""
    found = dataset(volume(2, 2), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    del found.PixelData
    save(found, tmp_path / "a.dcm")
    with pytest.raises(SourceFormatError, match=r"without an image \(Comprehensive SR"):
        open_source(tmp_path / "a.dcm")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, part, compressed):
    """Wherever it ends, when it is opened."""
    array = volume(4, 60, 50)
    found = dataset(array, 4)
    if compressed:
        frames = [imagecodecs.jpeg2k_encode(each, level=0, reversible=True) for each in array]
        path = save_compressed(found, frames, tmp_path / "a.dcm", JPEG_2000)
    else:
        path = save(found, tmp_path / "a.dcm")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(SourceFormatError, match="truncated") as error:
        open_source(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", JPEG_2000])
def test_more_frames_than_a_file_can_hold_are_refused(tmp_path, syntax):
    """Before memory is taken for a table of them."""
    found = dataset(volume(2, 9, 7), 2_000_000_000)
    path = tmp_path / "a.dcm"
    if syntax == JPEG_2000:
        save_compressed(found, [b"ab", b"cd"], path, syntax)
    else:
        save(found, path, syntax)
    with pytest.raises(SourceFormatError, match=r"truncated: .* cannot hold the 2000000000"):
        open_source(path)


@pytest.mark.parametrize("per_frame", [2, 5])
@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments_are_found(tmp_path, pixels, table, per_frame):
    """By a table, or because a fragment begins with the marker of an image."""
    array = volume(3, 40, 30)
    frames = [imagecodecs.jpeg2k_encode(each, level=0, reversible=True) for each in array]
    how = {"fragments_per_frame": per_frame, "has_bot": table}
    path = save_compressed(dataset(array, 3), frames, tmp_path / "a.dcm", JPEG_2000, **how)
    np.testing.assert_array_equal(pixels(open_source(path)), array)


def test_fragments_that_nothing_assigns_to_frames_are_refused(tmp_path):
    """RLE has no marker at the start of a frame."""
    found = dataset(volume(2, 9, 7), 2)
    how = {"fragments_per_frame": 2, "has_bot": False}
    path = save_compressed(found, [b"ab" * 9] * 2, tmp_path / "a.dcm", RLE, **how)
    with pytest.raises(SourceFormatError, match="4 fragments of 2 frames"):
        open_source(path)


@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("table", [True, False])
def test_a_frame_that_lacks_its_last_fragment_is_refused(tmp_path, frames, table):
    """A decoder would make up the samples of what is not there."""
    array = volume(frames, 60, 50)
    encoded = [imagecodecs.jpeg2k_encode(each, level=0, reversible=True) for each in array]
    how = {"fragments_per_frame": 4, "has_bot": table}
    found = dataset(array if frames > 1 else array[0], frames)
    path = save_compressed(found, encoded, tmp_path / "a.dcm", JPEG_2000, **how)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    with pytest.raises(SourceFormatError, match=f"truncated: {frames - 1} of {frames} frames"):
        open_source(path)


# --- series ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, -1)]
)
def test_a_series_is_the_volume_that_itk_makes_of_it(tmp_path, pixels, orientation):
    """Sorted along the normal, spacing by position, rows before columns."""
    sitk = pytest.importorskip("SimpleITK")
    normal = np.cross(orientation[:3], orientation[3:])
    positions = [tuple(float(n) for n in (-10, -20, 30) + normal * 2.5 * i) for i in range(5)]
    array = volume(5, 9, 7)
    save_series(tmp_path / "s", array, positions, orientation, SliceThickness=9)
    source = open_source(tmp_path / "s")
    reader = sitk.ImageSeriesReader()
    # In the order of positions: ITK's own order differs from one call to the next.
    names = sorted(map(str, (tmp_path / "s").iterdir()), key=lambda name: name[-5])
    reader.SetFileNames(names)
    itk = reader.Execute()
    np.testing.assert_array_equal(pixels(source), sitk.GetArrayFromImage(itk))
    np.testing.assert_array_equal(pixels(source), array)
    assert source.image.scale == pytest.approx(dict(zip("xyz", itk.GetSpacing(), strict=True)))
    affine = np.eye(4)
    affine[:3, :3] = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    affine[:3, 3] = itk.GetOrigin()
    expected = np.diag([-1, -1, 1, 1]) @ affine
    np.testing.assert_allclose(source.about.metadata["affine"], expected, atol=1e-6)


def test_a_series_has_the_affine_that_highdicom_finds(tmp_path):
    """Another reader of the same geometry."""
    highdicom = pytest.importorskip("highdicom")
    save_series(tmp_path / "s", volume(4, 9, 7), axial(4), FrameOfReferenceUID="1.2.3")
    headers = [pydicom.dcmread(path) for path in (tmp_path / "s").iterdir()]
    expected = highdicom.get_volume_from_series(headers).affine
    found = np.diag([-1, -1, 1, 1]) @ open_source(tmp_path / "s").about.metadata["affine"]
    # Its indices are slice, row, column.
    swapped = expected[:, [2, 1, 0, 3]]
    np.testing.assert_allclose(abs(found[:, :3]), abs(swapped[:, :3]), atol=1e-9)


def test_personal_data_is_nowhere(tmp_path):
    """Neither in descriptions nor in refusals."""
    save_series(tmp_path / "s", volume(3, 9, 7), axial(3), SeriesDescription="T1")
    images = open_images(tmp_path / "s")
    assert images.images[0].name == "T1"
    assert PATIENT not in repr(images.images) + repr(images.identity)


@pytest.mark.parametrize(
    ("depths", "words"),
    [
        ((0, 2, 4, 8, 10), r"slices are missing between 4 and 8 mm"),
        ((0, 2, 4, 4, 6), r"5 slices lie at 4 positions: several at 4 mm"),
        ((0, 2, 4.5, 6, 8), r"uneven"),
    ],
)
def test_slices_that_are_no_array_are_refused_by_their_positions(tmp_path, depths, words):
    """Gaps, two at one position, uneven distances."""
    positions = [(0.0, 0.0, float(depth)) for depth in depths]
    save_series(tmp_path / "s", volume(5, 9, 7), positions)
    with pytest.raises(SourceFormatError, match=words) as error:
        open_source(tmp_path / "s")
    assert "\n" not in str(error.value)


def test_slices_beside_a_line_are_refused(tmp_path):
    """A slice that is shifted within its plane."""
    positions = [(3.0 * (i == 2), 0.0, 2.0 * i) for i in range(5)]
    save_series(tmp_path / "s", volume(5, 9, 7), positions)
    with pytest.raises(SourceFormatError, match="do not lie on a line"):
        open_source(tmp_path / "s")


def test_a_localizer_in_a_series_is_not_a_slice(tmp_path, pixels):
    """Another direction, or said to be one."""
    array = volume(4, 9, 7)
    folder = save_series(tmp_path / "s", array, axial(4))
    found = dataset(
        volume(9, 7),
        PixelSpacing=[0.7, 0.5],
        ImagePositionPatient=[0, 0, 0],
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    save(found, folder / "scout.dcm")
    images = open_images(folder)
    assert sorted(image.role for image in images.images) == ["image", "overview"]
    np.testing.assert_array_equal(pixels(open_source(folder)), array)


def test_several_series_are_images_to_choose_from(tmp_path, pixels):
    """By number or by description."""
    for number, name in enumerate(("T1", "T2")):
        uid = f"1.2.3.{number}"
        array = volume(3, 9, 7) + number
        elements = {"SeriesDescription": name, "SeriesNumber": number, "SeriesInstanceUID": uid}
        save_series(tmp_path / "s", array, axial(3), **elements)
    assert [image.name for image in open_images(tmp_path / "s").images] == ["T1", "T2"]
    with pytest.raises(SourceFormatError, match="holds 2 images"):
        open_source(tmp_path / "s")
    np.testing.assert_array_equal(pixels(open_source(f"{tmp_path / 's'}::T2")), volume(3, 9, 7) + 1)


def test_times_of_a_series_are_an_axis(tmp_path, pixels):
    """Where positions repeat, and the files say which time they are."""
    array = volume(2, 3, 9, 7)
    for time in range(2):
        elements = {"TemporalPositionIdentifier": time + 1, "TemporalResolution": 1500}
        save_series(tmp_path / f"{time}", array[time], axial(3), **elements)
        for path in list((tmp_path / f"{time}").iterdir()):
            (tmp_path / "s").mkdir(exist_ok=True)
            path.rename(tmp_path / "s" / f"{time}{path.name}")
    source = open_source(tmp_path / "s")
    assert source.image.dims == ("t", "z", "y", "x")
    assert (source.image.scale["t"], source.image.axes_units["t"]) == (1500, "millisecond")
    np.testing.assert_array_equal(pixels(source), array)


def test_slices_with_scales_of_their_own_are_said_not_to_compare(tmp_path):
    """As in PET."""
    for number, position in enumerate(axial(3)):
        save_series(tmp_path / "s", volume(1, 9, 7), [position], RescaleSlope=number + 1)
        (tmp_path / "s" / "1-0000-0.dcm").rename(tmp_path / "s" / f"{number}.dcm")
    source = open_source(tmp_path / "s")
    assert source.about.metadata["rescale"] == {"slope": [1, 2, 3], "intercept": [0, 0, 0]}
    assert "cannot be compared" in notes(source)


def test_files_without_an_image_in_a_folder_are_said(tmp_path):
    """A report beside the slices."""
    folder = save_series(tmp_path / "s", volume(3, 9, 7), axial(3))
    report = item(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SOPInstanceUID="1.2.3")
    save(report, folder / "report.dcm")
    assert "1 DICOM files of the folder" in notes(open_source(folder))


@pytest.mark.parametrize("size", [100, 350, 600])
def test_a_slice_that_ends_before_its_samples_is_refused(tmp_path, size):
    """Without it the volume would lack a slice, and its neighbours seem farther apart."""
    folder = save_series(tmp_path / "s", volume(3, 9, 7), axial(3))
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SourceFormatError, match=rf"{path.name}: .*truncated"):
        open_source(folder)


def test_files_named_by_numbers_are_told_by_their_content(tmp_path, pixels):
    """As archives and discs have them."""
    folder = save_series(tmp_path / "s", volume(3, 9, 7), axial(3))
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{number:04}")
    (folder / "IM9999").write_bytes(b"no DICOM")
    np.testing.assert_array_equal(pixels(open_source(folder)), volume(3, 9, 7))


def test_the_index_of_a_disc_names_the_files(tmp_path, pixels):
    """In folders of folders, in upper case; what it does not name is no part of it."""
    folder = save_series(tmp_path / "disc", volume(3, 9, 7), axial(3))
    records = [item(DirectoryRecordType="PATIENT", PatientName=PATIENT)]
    (folder / "se1").mkdir()
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        path.rename(folder / "se1" / f"im{number}")
        parts = ["SE1", f"IM{number}"]
        records.append(item(DirectoryRecordType="IMAGE", ReferencedFileID=parts))
    save(dataset(volume(2, 2)), folder / "other.dcm")
    index = item(DirectoryRecordSequence=records)
    index.SOPClassUID, index.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    save(index, folder / "DICOMDIR")
    np.testing.assert_array_equal(pixels(open_source(tmp_path / "disc")), volume(3, 9, 7))
    with pytest.raises(SourceFormatError, match="give the folder"):
        open_source(tmp_path / "disc" / "DICOMDIR")
    (folder / "se1" / "im1").unlink()
    with pytest.raises(SourceFormatError, match="1 files that DICOMDIR names are not there"):
        open_source(folder)


def test_the_identity_covers_every_file_and_the_decoders(tmp_path):
    """One slice replaced is another source."""
    folder = save_series(tmp_path / "s", volume(3, 9, 7), axial(3))
    first = open_source(folder).identity
    assert open_source(folder).identity == first
    assert "imagecodecs" in dict(first.pins)["reader"]
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes() + bytes(2))
    assert open_source(folder).identity != first


def test_each_header_is_read_once_and_no_samples(tmp_path, monkeypatch):
    """However many series there are."""
    folder = save_series(tmp_path / "s", volume(5, 300, 300), axial(5))
    reads = []
    from ngff_core.storage import LocalFiles

    read_part = LocalFiles.read_part
    monkeypatch.setattr(
        LocalFiles, "read_part", lambda *a: reads.append((a[0].uri, a[2:])) or read_part(*a)
    )
    open_source(folder)
    assert sorted(uri for uri, _ in reads) == sorted(map(str, folder.iterdir()))
    assert all(part == (0, 64 << 10) for _, part in reads)


# --- frames with functional groups -----------------------------------------------------


def test_enhanced_frames_are_sorted_by_their_positions(tmp_path, pixels):
    """Spacing by position; the thickness is another thing."""
    array = volume(4, 9, 7)
    order = (2, 0, 3, 1)
    groups = [at_position(-10, -20, 2.0 * order[i]) for i in range(4)]
    source = open_source(save(enhanced(array, groups), tmp_path / "a.dcm"))
    assert source.image.scale == {"z": 2, "y": 0.7, "x": 0.5}
    np.testing.assert_array_equal(pixels(source)[list(order)], array)


def test_enhanced_frames_at_several_times_are_an_axis(tmp_path, pixels):
    """By the index of time in the functional groups."""
    array = volume(6, 9, 7)
    groups = [
        at_position(0, 0, 2.0 * z, TemporalPositionIndex=t + 1) for z in range(3) for t in range(2)
    ]
    source = open_source(save(enhanced(array, groups), tmp_path / "a.dcm"))
    assert source.image.dims == ("t", "z", "y", "x")
    np.testing.assert_array_equal(pixels(source), array.reshape(3, 2, 9, 7).swapaxes(0, 1))


def test_frames_that_repeat_for_no_known_reason_have_no_name(tmp_path):
    """Nothing is taken for depth."""
    groups = [at_position(0, 0, 2.0 * z) for z in (0, 1, 0, 1)]
    path = save(enhanced(volume(4, 9, 7), groups), tmp_path / "a.dcm")
    (image,) = open_images(path).images
    assert image.axes == ("?", "y", "x")
    assert image.placement.scale == {"y": 0.7, "x": 0.5}
    assert "several lie at one position" in str(image.notes[0])


def test_segments_are_an_axis_and_frames_left_out_are_empty(tmp_path):
    """As highdicom writes them: frames of a segment without samples are not stored."""
    highdicom = pytest.importorskip("highdicom")
    patient = {"FrameOfReferenceUID": "1.2.3", "StudyInstanceUID": "1.2.4", "PatientSex": "O"}
    patient |= {"PatientBirthDate": "", "StudyDate": "", "StudyTime": "", "AccessionNumber": ""}
    patient |= {"StudyID": "", "ReferringPhysicianName": "", "SliceThickness": 2}
    folder = save_series(tmp_path / "s", volume(4, 16, 12), axial(4), **patient)
    headers = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    headers.sort(key=lambda header: header.ImagePositionPatient[2])
    mask = np.zeros((4, 16, 12, 2), bool)
    mask[1:3, 3:6, 2:9, 0] = mask[3, 1:2, 4:8, 1] = True
    code = pydicom.sr.coding.Code("23451007", "SCT", "Adrenal gland")
    segments = [
        highdicom.seg.SegmentDescription(
            number, f"segment {number}", code, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for number in (1, 2)
    ]
    written = highdicom.seg.Segmentation(
        headers, mask, "BINARY", segments, "1.2.5", 1, "1.2.6", 1, "a", "b", "1", "c"
    )
    written.save_as(tmp_path / "seg.dcm")
    images = open_images(tmp_path / "seg.dcm")
    (image,) = images.images
    assert image.axes == ("segment", "z", "y", "x")
    assert image.labels
    assert "being empty, are read as 0" in "; ".join(map(str, image.notes))
    data = images.open_image(0).data
    found = data[tuple(slice(0, n) for n in data.shape)]
    depths = np.array([h.ImagePositionPatient[2] for h in headers])
    first = image.placement.translation["z"]
    start = int(np.abs(depths - first).argmin())
    expected = np.moveaxis(mask, -1, 0)[:, start : start + found.shape[1]]
    np.testing.assert_array_equal(found, expected)


# --- slides ----------------------------------------------------------------------------


def cut(image: np.ndarray, size: int) -> np.ndarray:
    """The tiles of an image, row by row; those at the edge filled up."""
    rows, columns = image.shape[0], image.shape[1]
    full = np.pad(image, [(0, -rows % size), (0, -columns % size), (0, 0)])
    tiles = full.reshape(-(-rows // size), size, -(-columns // size), size, 3)
    return tiles.swapaxes(1, 2).reshape(-1, size, size, 3)


@pytest.fixture(scope="module", params=["plain", "jpeg", "sparse"])
def opened_slide(request, tmp_path_factory):
    """A slide of 50 x 37 in tiles of 16, and what is in it."""
    image = np.random.default_rng(0).integers(0, 255, (50, 37, 3), "u1")
    path = tmp_path_factory.mktemp("slide") / "a.dcm"
    tiles = cut(image, 16)
    if request.param == "plain":
        save(slide(tiles, 50, 37), path)
    elif request.param == "jpeg":
        frames = [imagecodecs.jpeg_encode(tile, level=90) for tile in tiles]
        tiles = np.array([imagecodecs.jpeg_decode(frame) for frame in frames])
        found = slide(tiles, 50, 37, PhotometricInterpretation="YBR_FULL_422")
        save_compressed(found, frames, path, JPEG)
        image = join(tiles)
    else:
        order = np.random.default_rng(1).permutation(len(tiles))[:-2]
        groups = [tile_at(int(n) // 3, int(n) % 3) for n in order]
        elements = {
            "DimensionOrganizationType": "TILED_SPARSE",
            "PerFrameFunctionalGroupsSequence": groups,
        }
        save(slide(tiles[order], 50, 37, **elements), path)
        kept = np.full_like(tiles, 255)
        kept[order] = tiles[order]
        image = join(kept)
    return np.moveaxis(image, -1, 0), open_source(path)


def join(tiles: np.ndarray) -> np.ndarray:
    return tiles.reshape(4, 3, 16, 16, 3).swapaxes(1, 2).reshape(64, 48, 3)[:50, :37]


def tile_at(row: int, column: int):
    return item(
        PlanePositionSlideSequence=[
            item(
                RowPositionInTotalImagePixelMatrix=1 + 16 * row,
                ColumnPositionInTotalImagePixelMatrix=1 + 16 * column,
                ZOffsetInSlideCoordinateSystem=0,
            )
        ]
    )


@given(key=st.tuples(slices(3), slices(50), slices(37)))
def test_any_box_of_a_slide_is_what_numpy_gives(opened_slide, key):
    """Across the borders of tiles."""
    array, source = opened_slide
    np.testing.assert_array_equal(source.image.data[key], array[key])


def test_threads_read_the_same_slide(opened_slide):
    """16 threads, one file."""
    array, source = opened_slide
    rng = np.random.default_rng(0)
    keys = [
        tuple(slice(*sorted(rng.integers(0, n + 1, 2))) for n in array.shape) for _ in range(200)
    ]
    with ThreadPoolExecutor(16) as threads:
        found = threads.map(lambda key: source.image.data[key], keys)
        for key, block in zip(keys, found, strict=True):
            np.testing.assert_array_equal(block, array[key])


def test_a_folder_of_a_slide_builds_the_slide_and_not_its_label(tmp_path, pixels):
    """Levels, label, overview and thumbnail have roles."""
    folder = tmp_path / "s"
    folder.mkdir()
    image = volume(50, 37, 3, dtype="u1")
    tiles = cut(image, 16)
    save(slide(tiles, 50, 37), folder / "volume.dcm")
    kind = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    save(slide(tiles[:1], 16, 16, ImageType=kind), folder / "a-level.dcm")
    for flavor in ("LABEL", "OVERVIEW", "THUMBNAIL"):
        save(slide(tiles[:1], 16, 16, flavor), folder / f"{flavor}.dcm")
    roles = {image.role for image in open_images(folder).images}
    assert roles == {"image", "preview", "slide label", "overview", "thumbnail"}
    np.testing.assert_array_equal(pixels(open_source(folder)), np.moveaxis(image, -1, 0))


def test_the_size_of_a_slide_has_rows_first(tmp_path):
    """In millimeters, as the file has it."""
    source = open_source(
        save(slide(cut(volume(50, 37, 3, dtype="u1"), 16), 50, 37), tmp_path / "a")
    )
    assert (source.image.scale["y"], source.image.scale["x"]) == (0.0005, 0.0004)


@pytest.mark.parametrize(("count", "words"), [(11, "do not fill 4 x 3"), (13, "do not fill")])
def test_tiles_that_do_not_fill_the_slide_are_refused(tmp_path, count, words):
    """Too few, or too many."""
    tiles = volume(count, 16, 16, 3, dtype="u1")
    with pytest.raises(SourceFormatError, match=words):
        open_source(save(slide(tiles, 50, 37), tmp_path / "a.dcm"))


# --- volumes read at random ------------------------------------------------------------


@pytest.fixture(scope="module")
def opened_series(tmp_path_factory):
    """A series, and what is in it."""
    array = volume(11, 13, 17)
    folder = save_series(tmp_path_factory.mktemp("dicom") / "s", array, axial(11))
    yield array, open_source(folder)
    shutil.rmtree(folder)


@given(key=st.tuples(slices(11), slices(13), slices(17)))
def test_any_box_of_a_series_is_what_numpy_gives(opened_series, key):
    """Across the files."""
    array, source = opened_series
    np.testing.assert_array_equal(source.image.data[key], array[key])


def test_a_series_in_memory_is_the_same(tmp_path, stored, pixels):
    """On a disk and in a bucket."""
    save_series(tmp_path / "s", volume(3, 9, 7), axial(3))
    np.testing.assert_array_equal(pixels(open_source(stored(tmp_path / "s"))), volume(3, 9, 7))
