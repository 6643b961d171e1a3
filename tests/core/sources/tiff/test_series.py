"""Which images a TIFF file that is no OME-TIFF holds, and which of them is meant."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from ngff_core.errors import SourceFormatError
from ngff_core.model.selection import Selection
from ngff_core.sources import open_images, open_source
from ngff_core.sources.tiff.series import format_name
from tests.support.samples import sample
from tests.support.slides import (
    DATA,
    RGB,
    SCAN,
    SLIDES,
    SMALL,
    TILES,
    scn,
    tag,
    text,
    write,
)


@pytest.mark.parametrize("kind", SLIDES)
def test_of_a_slide_the_scan_is_meant(tmp_path, stored, pixels, kind):
    """What lies beside it has its role, and levels are no images."""
    name, roles, pages = SLIDES[kind]
    write(tmp_path / "a.tif", *pages)
    where = stored(tmp_path / "a.tif")
    with open_images(where) as images:
        assert images.format == name
        assert [image.role for image in images.images] == roles
        assert images.main == 0
    with open_source(where) as source:
        expected = np.stack([DATA, DATA + 1]) if kind == "qpi" else np.moveaxis(SCAN, -1, 0)
        np.testing.assert_array_equal(pixels(source), expected)
        notes = [str(note) for note in source.about.notes]
        assert any(f"left out: the other {'image' if kind == 'qpi' else ''}" in n for n in notes)
        assert any("overlap on the slide" in note for note in notes) is (kind == "bif")


@pytest.mark.parametrize("scans", [1, 2])
def test_the_image_of_the_whole_slide_is_leicas_macro(tmp_path, stored, scans):
    """One scan is meant; of several none is guessed."""
    views = [(900, 500), (200, 100), (100, 200)][: scans + 1]
    pages = [(SMALL, text(scn(*views), **RGB)), *[(SCAN, TILES)] * scans]
    write(tmp_path / "a.scn", *pages)
    where = stored(tmp_path / "a.scn")
    with open_images(where) as images:
        assert [image.role for image in images.images] == ["macro", *["image"] * scans]
        assert images.main == (1 if scans == 1 else None)
        assert images.images[1].shape == SCAN.shape
        assert images.images[1].name == "image_1"


def test_the_real_slide_is_read_as_openslide_reads_it():
    """CMU-1-Small-Region of OpenSlide's test data."""
    openslide = pytest.importorskip("openslide")
    path = sample("wsi/CMU-1-Small-Region.svs")
    with openslide.OpenSlide(path) as slide, open_source(path) as source:
        assert source.image.data.shape[1:] == slide.dimensions[::-1]
        region = np.asarray(slide.read_region((500, 700), 0, (300, 200)))[..., :3]
        found = source.image.data[0:3, 700:900, 500:800]
        np.testing.assert_array_equal(np.moveaxis(found, 0, -1), region)


def test_the_images_of_the_real_slide():
    """Scan, thumbnail, label, macro."""
    with open_images(str(sample("wsi/CMU-1-Small-Region.svs"))) as images:
        assert images.main == 0
        roles = [image.role for image in images.images]
        assert roles == ["image", "thumbnail", "slide label", "macro"]
        assert images.images[0].name is None


@pytest.mark.parametrize("code", [33560, 33471])
def test_the_page_with_the_tag_of_olympus_is_the_data(tmp_path, stored, pixels, code):
    """The first page is a preview for other programs."""
    write(tmp_path / "a.tif", (SMALL, RGB), (DATA, {"photometric": "minisblack", **tag(code)}))
    with open_source(stored(tmp_path / "a.tif")) as source:
        np.testing.assert_array_equal(pixels(source), DATA)
        notes = "; ".join(str(note) for note in source.about.notes)
        assert "0 (y 50, x 60, c 3, a preview)" in notes


def test_vsi_is_refused_by_name(tmp_path):
    """It holds the overview; the slide is in files elsewhere."""
    write(tmp_path / "a.vsi", (SMALL, RGB))
    with pytest.raises(SourceFormatError, match=r"an Olympus VSI file, which is not read.*\.ets"):
        open_source(tmp_path / "a.vsi")


def test_a_reduced_page_is_no_image(tmp_path, stored, pixels):
    """Whatever its size and kind; it may be the first page."""
    write(
        tmp_path / "a.tif",
        (SMALL, {"subfiletype": 1, **RGB}),
        (DATA, {"photometric": "minisblack"}),
    )
    with open_source(stored(tmp_path / "a.tif")) as source:
        np.testing.assert_array_equal(pixels(source), DATA)
        assert source.about.series == (0, 1)


def test_pages_below_others_are_no_images(tmp_path, stored, pixels):
    """SubIFDs of any size."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(DATA, subifds=2, metadata=None)
        file.write(DATA[::2, ::2], subfiletype=1, metadata=None)
        file.write(DATA[:17, :19], metadata=None)
    with open_source(stored(tmp_path / "a.tif")) as source:
        np.testing.assert_array_equal(pixels(source), DATA)
        assert source.about.series == (0, 1)


def test_a_transparency_mask_is_left_out_and_noted(tmp_path, pixels):
    """As GDAL writes them."""
    mask = np.ones(DATA.shape, bool)
    write(
        tmp_path / "a.tif",
        (DATA, {"photometric": "minisblack"}),
        (mask, {"subfiletype": 4, "photometric": "minisblack"}),
    )
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels(source), DATA)
        assert "left out: 1 transparency mask of the image" in map(str, source.about.notes)


def test_smaller_images_that_are_not_marked_as_levels_are_noted(tmp_path, pixels):
    """They have the sizes of levels; that they are none cannot be excluded."""
    options = {"photometric": "minisblack", "tile": (16, 16)}
    write(tmp_path / "a.tif", *[(DATA[:64:n, :64:n], options) for n in (1, 2, 4)])
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(pixels(source), DATA[:64, :64])
        assert any(str(n).startswith("assumed: 2 smaller images") for n in source.about.notes)


def test_images_of_different_kinds_are_refused_and_listed(tmp_path, stored, pixels):
    """A plane of data and a colored picture: the file does not say which is meant."""
    write(tmp_path / "a.tif", (DATA, {"photometric": "minisblack"}), (SMALL, RGB))
    where = stored(tmp_path / "a.tif")
    with pytest.raises(
        SourceFormatError, match=r"2 images.*0 \(y 70, x 90\); 1 \(y 50, x 60, c 3\)"
    ):
        open_source(where)
    with open_source(where, selection=Selection(series=1)) as source:
        np.testing.assert_array_equal(pixels(source), np.moveaxis(SMALL, -1, 0))


def test_two_detectors_of_a_microscope_are_no_depth(tmp_path, stored):
    """Pages of a Zeiss SEM."""
    options = {"photometric": "minisblack", **tag(34118)}
    write(tmp_path / "a.tif", (DATA, options), (DATA + 1, options))
    where = stored(tmp_path / "a.tif")
    with pytest.raises(SourceFormatError, match="the axis 'detector' of length 2 is none of"):
        open_source(where)
    with open_source(where, selection=Selection(dims=tuple("cyx"))) as source:
        assert source.image.data.shape == (2, 70, 90)
    with open_source(where, selection=Selection(pick={"detector": 1})) as source:
        np.testing.assert_array_equal(source.image.data[0:70, 0:90], DATA + 1)


def test_pages_of_colors_are_not_named(tmp_path, stored):
    """They may be times, slices or pictures of different things."""
    write(tmp_path / "a.tif", *[(SMALL + i, RGB) for i in range(3)])
    where = stored(tmp_path / "a.tif")
    with open_images(where) as images:
        assert images.images[0].axes == ("?", "y", "x", "c")
    with pytest.raises(SourceFormatError, match="does not name its axes"):
        open_source(where)


def test_plain_pages_are_depth_with_a_note(tmp_path, stored):
    """The documented default, which is said."""
    write(tmp_path / "a.tif", *[(DATA + i, {"photometric": "minisblack"}) for i in range(3)])
    with open_source(stored(tmp_path / "a.tif")) as source:
        assert source.image.dims == ("z", "y", "x")
        assert any("? 3, y 70, x 90 is read as z, y, x" in str(n) for n in source.about.notes)


def test_a_dicom_that_begins_as_a_tiff_is_a_dicom():
    """Its preamble is a TIFF header."""
    path = sample("dicom/CT_small.dcm")
    assert path.read_bytes()[:4] == b"II*\0"
    try:
        with open_source(path) as source:
            assert source.kind == "dicom"
    except SourceFormatError as error:
        assert "a DICOM file" in str(error)  # noqa: PT017 - it may be read, or refused by name


def test_the_decoder_is_part_of_the_identity(tmp_path):
    """Another version may give other samples."""
    write(tmp_path / "a.tif", (DATA, {}))
    with open_source(tmp_path / "a.tif") as source:
        assert dict(source.identity.pins)["reader"].startswith(f"tifffile {tifffile.__version__}, ")


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ({"Compression": 34661}, r"compression JBIG \(34661\)"),
        ({"Compression": 33333}, "compression 33333, which has no name"),
        ({"Compression": 8, "Predictor": 77}, "predictor 77, which has no name"),
    ],
)
def test_what_cannot_be_decoded_is_named(tmp_path, codes, words):
    """Before anything is read."""
    tifffile.imwrite(tmp_path / "a.tif", DATA, compression="zlib", predictor=True)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        for name, code in codes.items():
            tif.pages.first.tags[name].overwrite(code)
    with pytest.raises(SourceFormatError, match=words):
        open_source(tmp_path / "a.tif")


def test_a_format_without_a_name_of_its_own():
    """It is a TIFF file."""
    assert format_name("anything") == "a TIFF file"
