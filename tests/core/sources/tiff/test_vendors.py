"""Sizes, channels and positions in the tags of slide scanners, microscopes and others.

Files have the vendors' tags as tifffile reads them; few real ones are small enough to keep.
"""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from ngff_core.model.channels import Channel
from ngff_core.sources.tiff import microscopes as tiff_microscopes
from ngff_core.sources.tiff.meaning import Meaning, TaggedImage
from ngff_core.sources.tiff.microscopes import lsm, stk
from ngff_core.sources.tiff.sizes import read_meaning
from tests.support.samples import sample
from tests.support.slides import write_qptiff

PLANE = np.zeros((32, 48), "u2")
RGB = np.zeros((64, 96, 3), "u1")
TEXT, BYTES, DOUBLE, SHORT, LONG = "s", "B", "d", "H", "I"


def meaning_of(path, number=0) -> Meaning:
    with tifffile.TiffFile(path) as tif:
        return read_meaning(tif, tif.series[number], None)


@pytest.fixture
def written(tmp_path):
    """Writes one page with tags, and gives its meaning."""

    def write(data=PLANE, tags=(), **options):
        options = {"metadata": None, "software": False, **options}
        if data.ndim == 2:
            options.setdefault("photometric", "minisblack")
        tifffile.imwrite(tmp_path / "a.tif", data, extratags=list(tags), **options)
        return meaning_of(tmp_path / "a.tif")

    return write


def text_tag(code, text):
    return (code, TEXT, 0, text, True)


def bytes_tag(code, data):
    return (code, BYTES, len(data), data, True)


def square(size, unit="micrometer"):
    return {"y": size, "x": size}, {"y": unit, "x": unit}


def sizes(meaning):
    return dict(meaning.placement.scale), dict(meaning.placement.units)


def notes_of(meaning):
    return " | ".join(map(str, meaning.notes))


# --- slides ----------------------------------------------------------------------------

APERIO = "Aperio Image Library v11.2.1\r\n96x64 [0,0 96x64] (32x32) JPEG/RGB Q=70|AppMag = 20"


def slide(path, *descriptions):
    with tifffile.TiffWriter(path) as tif:
        for description in descriptions:
            tif.write(
                RGB,
                tile=(32, 32),
                photometric="rgb",
                metadata=None,
                software=False,
                description=description,
            )


def test_aperio(tmp_path):
    """MPP of the scan; thumbnails repeat it, and are smaller."""
    slide(tmp_path / "a.svs", f"{APERIO}|MPP = 0.4990", f"{APERIO}|MPP = 0.4990")
    assert sizes(meaning_of(tmp_path / "a.svs")) == square(0.499)
    assert meaning_of(tmp_path / "a.svs", 1).placement.scale == {}


def test_aperio_without_a_size(tmp_path):
    """Unknown, and nothing else is said."""
    slide(tmp_path / "a.svs", APERIO)
    assert meaning_of(tmp_path / "a.svs") == Meaning()


def test_a_real_slide():
    """The scan has a size, the thumbnail and the macro have none."""
    path = sample("wsi/CMU-1-Small-Region.svs")
    assert sizes(meaning_of(path)) == square(0.499)
    assert all(meaning_of(path, number).placement.scale == {} for number in (1, 2, 3))


NDPI = [(65420, LONG, 1, 1, True), text_tag(271, "Hamamatsu"), (65421, "f", 1, 20.0, True)]


@pytest.mark.parametrize("per_centimeter", [43_826, 118])
def test_hamamatsu(written, per_centimeter):
    """The resolution tags are true, a printer's value too."""
    found = written(RGB, NDPI, resolution=(per_centimeter,) * 2, resolutionunit="CENTIMETER")
    assert sizes(found) == square(10_000 / per_centimeter)
    assert found.origins["scale"] == "XResolution tag (NDPI)"


def test_qptiff(tmp_path):
    """True resolution tags, and each page's channel."""
    write_qptiff(tmp_path / "a.qptiff", [PLANE, PLANE])
    found = meaning_of(tmp_path / "a.qptiff")
    assert sizes(found)[0] == pytest.approx({"y": 0.49652, "x": 0.49652}, rel=1e-4)
    assert found.channels == (Channel("DAPI", "0000FF"), Channel("Opal 520"))


def test_leica(written):
    """The view in nanometers over its pixels."""
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        '<collection sizeX="1" sizeY="1"><image name="i"><pixels sizeX="96" sizeY="64">'
        '<dimension sizeX="96" sizeY="64" r="0" ifd="0"/></pixels>'
        '<view sizeX="48000" sizeY="32000" offsetX="1" offsetY="2"/></image></collection></scn>'
    )
    found = written(RGB, tile=(32, 32), photometric="rgb", description=xml)
    assert sizes(found) == square(500.0, "nanometer")


def test_ventana(written):
    """ScanRes in the iScan element, at the root of the XMP or inside it."""
    for xml in (
        '<iScan ScanRes="0.25" Magnification="40"/>',
        '<Metadata><iScan ScanRes="0.25"/></Metadata>',
    ):
        found = written(
            RGB,
            [bytes_tag(700, xml.encode())],
            tile=(32, 32),
            photometric="rgb",
            software="ScanOutputManager 1.1",
            description="level=0 mag=40 quality=95",
        )
        assert sizes(found) == square(0.25)


def test_philips(written):
    """Rows first, in millimeters; each level has its own."""
    attribute = '<Attribute Name="DICOM_PIXEL_SPACING">"{}" "{}"</Attribute>'
    levels = attribute.format(0.001, 0.002) + attribute.format(0.0005, 0.00025)
    xml = f'<DataObject ObjectType="DPUfsImport">{levels}</DataObject>'
    found = written(
        RGB, tile=(32, 32), photometric="rgb", software="Philips DP v1", description=xml
    )
    assert sizes(found) == ({"y": 0.5, "x": 0.25}, {"y": "micrometer", "x": "micrometer"})


def test_huron(written):
    """A number with its unit."""
    found = written(
        RGB,
        [text_tag(271, "Huron Digital Pathology")],
        tile=(32, 32),
        photometric="rgb",
        description="ImageID = {A}\nResolution = 0.40 um\n",
    )
    assert sizes(found) == square(0.4)


# --- electron microscopes --------------------------------------------------------------


NUMBERS = "0\r\n0\r\n0\r\n{}\r\n"
NAMED = "{}\r\nPixel Size = {}\r\n"


@pytest.mark.parametrize(
    ("width", "text", "size", "unit"),
    [
        (48, NAMED.format("AP_IMAGE_PIXEL_SIZE", "2.615 \xb5m"), 2.615, "micrometer"),
        (48, NAMED.format("AP_IMAGE_PIXEL_SIZE", "2.5e-06 m"), 2.5, "micrometer"),
        # The display's pixel of 24.65 nm is two of this image.
        (
            2048,
            NUMBERS.format("2.465245e-08")
            + NAMED.format("AP_PIXEL_SIZE", "24.65 nm")
            + NAMED.format("AP_IMAGE_PIXEL_SIZE", "12.33 nm"),
            12.32623,
            "nanometer",
        ),
        (
            512,
            NUMBERS.format("5.824988e-09") + NAMED.format("AP_PIXEL_SIZE", "5.825 nm"),
            11.64998,
            "nanometer",
        ),
        (512, NAMED.format("AP_PIXEL_SIZE", "5.825 nm"), 11.65, "nanometer"),
        (2048, NUMBERS.format("2.465245e-08"), 0.01232623, "micrometer"),
        # A number that does not fit is not believed.
        (1024, NUMBERS.format("7e-08") + NAMED.format("AP_PIXEL_SIZE", "5 nm"), 5.0, "nanometer"),
    ],
)
def test_zeiss_sem(written, width, text, size, unit):
    """The pixel of the stored image: some of the file's numbers are for 1024 columns."""
    found = written(np.zeros((4, width), "u1"), [bytes_tag(34118, text.encode("cp1252"))])
    scale, units = sizes(found)
    assert scale == pytest.approx({"y": size, "x": size}, rel=1e-6)
    assert units == {"y": unit, "x": unit}


def test_fei(written):
    """Meters of the scan, or of a camera's field."""
    scan = b"[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=3.3724e-006\r\nPixelHeight=3.3725e-006\r\n"
    found = written(tags=[bytes_tag(34682, scan)])
    assert sizes(found)[0] == {"y": 3.3725, "x": 3.3724}
    camera = (
        b"[IRBeam]\r\nHFW=0.00048\r\nVFW=0.00032\r\n[Image]\r\nResolutionX=48\r\nResolutionY=32"
    )
    assert sizes(written(tags=[bytes_tag(34680, camera)])) == square(10.0)


def test_thermo_xml(written):
    """The newer text."""
    xml = (
        "<Metadata><BinaryResult><PixelSize><X unit='m'>2e-9</X><Y unit='m'>3e-9</Y></PixelSize>"
        "</BinaryResult></Metadata>"
    )
    found = written(tags=[text_tag(34683, xml)])
    assert sizes(found)[0] == {"y": 0.003, "x": 0.002}


def tvips_header(version, **values):
    first = np.zeros(1, np.dtype(tifffile.TIFF.TVIPS_HEADER_V1))
    second = np.zeros(1, np.dtype(tifffile.TIFF.TVIPS_HEADER_V2))
    first["Version"], second["Magic"] = version, 0xAAAAAAAA
    for name, value in values.items():
        second[name] = value
    return first.tobytes() + second.tobytes()


def test_tvips(written):
    """Nanometers; the first version has the camera's pixel only."""
    header = tvips_header(2, PixelSizeX=1.4208, PixelSizeY=1.4208)
    found = written(tags=[bytes_tag(37706, header)])
    assert sizes(found) == square(1.4208, "nanometer")
    assert written(tags=[bytes_tag(37706, tvips_header(1))]) == Meaning()


def test_olympus_sis(tmp_path):
    """A structure elsewhere in the file, with a power of ten of meters."""
    path = tmp_path / "a.tif"
    tags = [bytes_tag(33560, bytes(200))]
    tifffile.imwrite(path, PLANE, metadata=None, software=False, extratags=tags)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.tags[33560].valueoffset
    data = struct.pack("<10xhdd8xd2x34s32s", -6, 0.5, 0.25, 100.0, b"camera", b"TEM")
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 1, 2, 3, 4, 105, b"name", 1)
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(head + struct.pack("<hhI", 1, 1, start + 70) + bytes(2) + data)
    found = meaning_of(path)
    assert sizes(found)[0] == pytest.approx({"x": 0.5, "y": 0.25})
    assert set(found.placement.units.values()) == {"micrometer"}


JEOL = (
    "<TemReporter><Eos><EosMode>{}</EosMode></Eos><ImageFormingSystem><ModeString>{}</ModeString>"
    "<SelectorValue>{}</SelectorValue></ImageFormingSystem></TemReporter>"
)


def test_jeol(written):
    """The camera's pixel by the magnification, in the mode where that is one."""
    options = {
        "tags": [text_tag(271, "JEOL Ltd.")],
        "resolution": (1000, 1000),
        "resolutionunit": "CENTIMETER",
    }
    found = written(description=JEOL.format("eosTEM", "MAG", 5000), **options)
    assert sizes(found) == square(2.0, "nanometer")
    found = written(description=JEOL.format("eosTEM", "DIFF", 5000), **options)
    assert found.placement.scale == {}
    assert "JEOL's mode DIFF" in notes_of(found)


def test_digital_micrograph(written):
    """A scale and a unit for each axis, 1/nm of a diffraction pattern among them."""
    tags = [
        text_tag(65003, "nm"),
        text_tag(65004, "nm"),
        (65009, DOUBLE, 1, 0.16867, True),
        (65010, DOUBLE, 1, 0.2, True),
    ]
    found = written(tags=tags)
    assert sizes(found) == ({"x": 0.16867, "y": 0.2}, {"x": "nanometer", "y": "nanometer"})
    tags[:2] = text_tag(65003, "1/nm"), text_tag(65004, "1/nm")
    found = written(tags=tags)
    assert found.placement.scale == {}
    assert "unknown: sizes in no unit of length: x 0.16867 1/nm, y 0.2 1/nm" in notes_of(found)


def test_a_streak_camera_s_image_has_no_sizes_of_space(written):
    """x is wavelength, y is time."""
    text = '[Application],Date="1/1/2020",Software="HPD-TA"'
    more = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    artist = [text_tag(315, "Copyright Hamamatsu GmbH, 2018")]
    found = written(tags=artist, description=text, **more)
    assert found.placement.scale == {}
    assert "x is the wavelength and y the time" in notes_of(found)
    # Brackets of another writer.
    assert sizes(written(description="[[0, 1], [2, 3]]", **more)) == square(0.25)


# --- light microscopes -----------------------------------------------------------------


def micromanager(path, plane, summary=None, axes="YX"):
    """The summary lies behind the file's header, where tifffile writes none."""
    tag = (51123, TEXT, 0, json.dumps(plane), True)
    tifffile.imwrite(path, PLANE, photometric="minisblack", metadata=None, extratags=[tag])
    if summary is None:
        return meaning_of(path)
    with tifffile.TiffFile(path) as tif:
        found = SimpleNamespace(micromanager_metadata={"Summary": summary})
        series = SimpleNamespace(axes=axes, shape=(2, 32, 48)[-len(axes) :])
        return tiff_microscopes.micromanager(TaggedImage(found, series, tif.pages.first))


def test_micromanager_page(tmp_path):
    """The page's pixel, and the stage's position."""
    plane = {"PixelSizeUm": 0.325, "XPositionUm": 100.5, "YPositionUm": -3, "ZPositionUm": 7}
    found = micromanager(tmp_path / "a.tif", plane)
    assert sizes(found) == square(0.325)
    assert found.placement.translation == {"x": 100.5, "y": -3.0}
    assert "assumed: the first sample lies at the stage's position (x, y)" in notes_of(found)
    assert "the position of the image (z 7)" in notes_of(found)


def test_micromanager_summary(tmp_path):
    """Steps of z and t, and channels with Java's colors."""
    summary = {
        "PixelSize_um": 0.65,
        "z-step_um": -2,
        "Interval_ms": 1500,
        "ChNames": ["DAPI", "BF"],
        "ChColors": [-16776961, -1],
    }
    found = micromanager(tmp_path / "a.tif", {}, summary, "CYX")
    assert found.channels == (Channel("DAPI", "0000FF"), Channel("BF"))
    assert found.placement.scale == {"t": 1500.0, "z": 2.0, "y": 0.65, "x": 0.65}
    assert found.placement.units["t"] == "millisecond"


@pytest.mark.parametrize(("size", "scale"), [(1.0, {"y": 1.0, "x": 1.0}), (0, {})])
def test_micromanager_without_configuration(tmp_path, size, scale):
    """Exactly 1 is its default, and is noted; 0 is none."""
    found = micromanager(tmp_path / "a.tif", {"PixelSizeUm": size})
    assert found.placement.scale == scale
    assert ("where no size was configured" in notes_of(found)) == bool(scale)


def test_a_real_ndtiff():
    """Its pages say exactly 1 micrometer."""
    folder = "ndtiff/12_bit_pycromanager_mda/12_bit_pycromanager_mda_NDTiffStack.tif"
    found = meaning_of(sample(folder))
    assert sizes(found) == square(1.0)
    assert "where no size was configured" in notes_of(found)


def test_fluoview(written):
    """Each dimension's resolution and unit."""
    header = np.zeros(1, np.dtype(tifffile.TIFF.MM_HEADER))
    dimensions = [
        (b"X", 48, 0, 0.5, b"um"),
        (b"Y", 32, 0, 0.25, b"um"),
        (b"Z", 1, 0, 2, b"um"),
        (b"Time", 1, 0, 3, b"s"),
        (b"Ch", 1, 0, 1, b"Ch"),
    ]
    for number, dimension in enumerate(dimensions):
        header["Dimensions"][0][number] = dimension
    stamp = bytes_tag(34362, bytes(64))
    found = written(tags=[bytes_tag(34361, header.tobytes()), stamp])
    assert found.placement.scale == {"x": 0.5, "y": 0.25, "z": 2.0, "t": 3.0}
    assert found.placement.units["t"] == "second"
    assert found.placement.units["x"] == "micrometer"


def test_metaseries(written):
    """A calibration that may be off, and the light's name."""
    xml = (
        '<MetaData><PlaneInfo><prop id="spatial-calibration-state" type="bool" value="{}"/>'
        '<prop id="spatial-calibration-x" type="float" value="1.29"/>'
        '<prop id="spatial-calibration-y" type="float" value="1.3"/>'
        '<prop id="spatial-calibration-units" type="string" value="um"/>'
        '<prop id="_IllumSetting_" type="string" value="FITC"/></PlaneInfo></MetaData>'
    )
    found = written(software="MetaSeries", description=xml.format("on"))
    assert sizes(found)[0] == {"x": 1.29, "y": 1.3}
    assert found.channels == (Channel("FITC"),)
    assert written(software="MetaSeries", description=xml.format("off")) == Meaning()


def double(axes, shape, **metadata):
    """An image whose tags tifffile has parsed: these structures are spread over a file."""
    series = SimpleNamespace(axes=axes, shape=shape)
    return TaggedImage(SimpleNamespace(**metadata), series, SimpleNamespace())


def test_lsm():
    """Meters and seconds; names and colors of channels."""
    found = lsm(
        double(
            "TCYX",
            (3, 2, 8, 8),
            lsm_metadata={
                "VoxelSizeX": 1.24e-07,
                "VoxelSizeY": 1.24e-07,
                "VoxelSizeZ": 0.0,
                "TimeIntervall": 2.5,
                "ChannelColors": {
                    "Colors": [[255, 0, 0, 0], [255, 255, 255, 0]],
                    "ColorNames": ["Ch1-T1", "ChD"],
                },
            },
        )
    )
    assert found.placement.scale == {"t": 2.5, "y": 0.124, "x": 0.124}
    assert found.placement.units == {"t": "second", "y": "micrometer", "x": "micrometer"}
    assert found.channels == (Channel("Ch1-T1", "FF0000"), Channel("ChD"))


@pytest.mark.parametrize(
    ("distances", "z"), [([0, 2, 2, 2], 2.0), ([2, 2], 2.0), ([0, 0], None), ([1, 2, 3], None)]
)
def test_stk(distances, z):
    """A calibration with a unit, and the planes' distances where they are one."""
    about = {"XCalibration": 0.5, "YCalibration": 0.25, "CalibrationUnits": "um"}
    about |= {"SpatialCalibration": 1, "ZDistance": np.array(distances, float)}
    found = stk(double("ZYX", (2, 8, 8), stk_metadata=about))
    assert found.placement.scale == {"y": 0.25, "x": 0.5} | ({} if z is None else {"z": z})
    for unit in ({"CalibrationUnits": "pixel"}, {"SpatialCalibration": 0}):
        assert stk(double("ZYX", (2, 8, 8), stk_metadata=about | unit)) == Meaning()


# --- maps ------------------------------------------------------------------------------


def geo(model=1, unit=9001, raster=1):
    keys = (1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, raster, 3076, 0, 1, unit)
    return [
        (33550, DOUBLE, 3, (900.0, 919.0, 0.0), True),
        (33922, DOUBLE, 6, (0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0), True),
        (34735, SHORT, len(keys), keys, True),
    ]


@pytest.mark.parametrize(("raster", "x", "y"), [(1, 1450.0, -4540.5), (2, 1000.0, -5000.0)])
def test_a_map_in_meters(written, raster, x, y):
    """From the corner of an area to its centre; a point is one already."""
    found = written(tags=geo(raster=raster))
    assert sizes(found) == ({"y": 919.0, "x": 900.0}, {"y": "meter", "x": "meter"})
    assert found.placement.translation == {"x": x, "y": y}
    assert "converted: positions along y are southings" in notes_of(found)
    assert found.metadata["geotiff"]["ModelTiepoint"][3] == 1000.0


@pytest.mark.parametrize(("model", "unit", "words"), [(2, 9001, "degrees"), (1, 9003, "not known")])
def test_maps_in_other_units(written, model, unit, words):
    """Degrees are no length."""
    found = written(tags=geo(model, unit))
    assert found.placement.scale == {}
    assert words in notes_of(found)


MATRIX = (900.0, 0.0, 0.0, 1000.0, 0.0, -919.0, 0.0, 5000.0, *(0.0,) * 7, 1.0)


def test_a_map_by_a_matrix(written):
    """As by a corner, where it does not turn the image."""
    tags = [(34264, DOUBLE, 16, MATRIX, True), geo()[2]]
    found = written(tags=tags)
    assert sizes(found)[0] == {"y": 919.0, "x": 900.0}
    assert found.placement.translation == {"x": 1450.0, "y": -4540.5}
    turned = (900.0, 5.0, *MATRIX[2:])
    found = written(tags=[(34264, DOUBLE, 16, turned, True), geo()[2]])
    assert found.placement.scale == {}
    assert "by control points, or turned" in notes_of(found)


def test_a_map_by_control_points(written):
    """No one size."""
    points = (0.0, 0.0, 0.0, 1.0, 2.0, 0.0) * 3
    found = written(tags=[(33922, DOUBLE, 18, points, True), geo()[2]])
    assert found.placement.scale == {}
    assert "by control points, or turned" in notes_of(found)


# --- what cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"tags": [text_tag(34683, "<Metadata><PixelSize></Metadata>")]},
        {"tags": [text_tag(34683, "<Metadata><PixelSize/></Metadata>")]},
        {"software": "MetaSeries", "description": "<MetaData><PlaneInfo></MetaData>"},
        {"tags": [text_tag(271, "JEOL Ltd.")], "description": "<TemReporter>"},
    ],
)
def test_text_that_is_broken_refuses_no_file(written, options):
    """Its sizes are unknown, and the note says whose text it is."""
    found = written(**options)
    assert found.placement.scale == {}
    assert "they cannot be read" in notes_of(found)


def test_a_vendor_without_sizes_leaves_the_resolution_tags(written):
    """What any TIFF has."""
    found = written(
        tags=[bytes_tag(34118, b"DP_X\r\nX = 1\r\n")],
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    assert sizes(found) == square(0.25)


def test_names_of_a_vendor_go_with_sizes_of_the_resolution_tags(written):
    """Each from where it is."""
    found = written(
        software="MetaSeries",
        description='<MetaData><PlaneInfo><prop id="_IllumSetting_" value="FITC"/></PlaneInfo>'
        "</MetaData>",
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
    )
    assert sizes(found) == square(0.25)
    assert found.channels == (Channel("FITC"),)
    assert found.origins == {
        "scale": "XResolution tag",
        "units": "XResolution tag",
        "channels": "MetaSeries' illumination",
    }
