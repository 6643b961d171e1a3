"""What TIFF files of OME, ImageJ, tifffile and others mean: sizes, units, positions, channels."""

from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngff_core.model.channels import Channel
from ngff_core.sources import open_source
from ngff_core.sources.tiff.imagej import ramp_color
from ngff_core.sources.tiff.meaning import filled
from ngff_core.sources.tiff.ome import ome_meaning
from ngff_core.sources.tiff.ome_xml import parse_ome
from ngff_core.sources.tiff.sizes import Meaning, first_ome_image, read_meaning
from ngff_core.sources.units import convert
from tests.support.samples import sample

PLANE = np.zeros((16, 24), "u2")
MICROMETERS = {"y": "micrometer", "x": "micrometer"}


@contextmanager
def opened(path):
    """The file, and the meaning of its first series."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        number = first_ome_image(tif) if series.kind == "ome" else None
        yield tif, read_meaning(tif, series, number)


def meaning_of(path) -> Meaning:
    with opened(path) as (_, meaning):
        return meaning


def notes_of(meaning, kind=None):
    return " | ".join(note.text for note in meaning.notes if kind in (None, note.kind))


# --- ImageJ ----------------------------------------------------------------------------


@pytest.fixture
def imagej(tmp_path):
    """Writes an ImageJ file with a text of its own, and gives its meaning."""

    def write(text, data=PLANE, resolution=(4.0, 2.0), resolutionunit=1, **more):
        path = tmp_path / "a.tif"
        tifffile.imwrite(
            path,
            data,
            metadata=None,
            photometric="minisblack",
            resolution=resolution,
            resolutionunit=resolutionunit,
            description="ImageJ=1.54p\n" + text,
            **more,
        )
        return meaning_of(path)

    return write


STACK = np.zeros((6, 16, 24), "u2")
SLICES = "images=6\nslices=6\n"
FRAMES = "images=6\nframes=6\n"

# What ImageJ itself shows for each: its TiffDecoder reads the tags, then FileOpener the text.
# Text, resolution, tag ResolutionUnit; sizes along x and y, and their unit.
CALIBRATIONS = {
    "micrometers": ("unit=um\n", (4, 2), 1, (0.25, 0.5), "micrometer"),
    "the unit is the text's, not the tag's": ("unit=nm\n", (4, 2), 3, (0.25, 0.5), "nanometer"),
    "inch": ("unit=inch\n", (4, 2), 2, (0.25, 0.5), "inch"),
    "cm": ("unit=cm\n", (4, 2), 3, (0.25, 0.5), "centimeter"),
    "um by a tag of cm": ("unit=um\n", (20_000, 40_000), 3, (0.5, 0.25), "micrometer"),
    "screen": ("", (72, 72), 2, None, None),
    "screen although a unit is given": ("unit=um\n", (72, 72), 2, None, None),
    "pixel": ("unit=pixel\n", (10_000, 10_000), 3, None, None),
    "pixels": ("unit=pixels\n", (4, 4), 1, None, None),
    "blank": ("unit= \n", (4, 4), 1, None, None),
    "no unit but the tag's": ("", (20_000, 40_000), 3, (0.5, 0.25), "micrometer"),
    "no unit at all": ("", (4, 2), 1, (0.25, 0.5), None),
    "no unit and no number": ("", (1, 1), 1, None, None),
    "unknown unit": ("unit=furlong\n", (4, 2), 1, (0.25, 0.5), None),
}


@pytest.mark.parametrize("case", CALIBRATIONS)
def test_calibrations_as_imagej_reads_them(imagej, case):
    """A table of text and tags."""
    text, resolution, tag, sizes, unit = CALIBRATIONS[case]
    found = imagej(text, resolution=resolution, resolutionunit=tag).placement
    assert found.scale == ({} if sizes is None else dict(zip("xy", sizes, strict=True)))
    assert found.units == ({} if unit is None else dict.fromkeys("xy", unit))


def test_units_that_are_unknown_are_noted(imagej):
    """The number is kept, and the unit's spelling is in the note."""
    found = imagej("unit=furlong\n")
    assert notes_of(found, "unknown").startswith("the unit of the sizes along y, x: the file has")
    assert "'furlong'" in notes_of(found)


@pytest.mark.parametrize("spacing", ["2.5", "-2.5"])
def test_the_distance_of_slices_has_no_sign(imagej, spacing):
    """ImageJ takes its magnitude."""
    found = imagej(f"{SLICES}unit=um\nspacing={spacing}\n", STACK)
    assert found.placement.scale == {"z": 2.5, "y": 0.5, "x": 0.25}
    assert found.origins["scale"] == "ImageJ"


def test_a_distance_of_zero_is_unknown(imagej):
    """No size is written for it."""
    found = imagej(f"{SLICES}unit=um\nspacing=0\n", STACK)
    assert "z" not in found.placement.scale


def test_each_axis_may_have_its_own_unit(imagej):
    """yunit and zunit beside unit, as ImageJ 1.54 writes them, escapes included."""
    text = f"{SLICES}unit=\\u00B5m\nyunit=nm\nzunit=\\u03BCm\nspacing=3\n"
    found = imagej(text, STACK).placement
    assert found.units == {"z": "micrometer", "y": "nanometer", "x": "micrometer"}
    assert found.scale == {"z": 3.0, "y": 0.5, "x": 0.25}


def test_a_distance_in_pixels_is_left_out_aloud(imagej):
    """An image without a unit has no sizes."""
    found = imagej(f"{SLICES}unit=pixel\nspacing=4\n", STACK)
    assert found.placement.scale == {}
    assert "distance between slices, 4 pixels" in notes_of(found, "left out")


@pytest.mark.parametrize(
    ("text", "size", "unit"),
    [
        ("finterval=0.5\n", 0.5, "second"),
        ("finterval=20\ntunit=ms\n", 20.0, "millisecond"),
        ("finterval=2\ntunit=hr\n", 2.0, "hour"),
        ("finterval=2\ntunit=sec.\nfps=7\n", 2.0, "second"),
        ("fps=4\n", 0.25, "second"),
        ("finterval=0\nfps=8\n", 0.125, "second"),
        ("finterval=-1\n", None, None),
    ],
)
def test_times_of_imagej(imagej, text, size, unit):
    """finterval in tunit; else one of fps frames."""
    found = imagej(FRAMES + text, STACK)
    assert found.placement.scale.get("t") == size
    assert found.placement.units.get("t") == unit
    assert ("speed of playback" in notes_of(found, "assumed")) == (
        "fps" in found.origins["scale"] or size in (0.25, 0.125)
    )


def test_frames_per_second_of_slices_are_no_size(imagej):
    """The speed at which a stack is shown."""
    found = imagej(f"{SLICES}unit=um\nfps=7\n", STACK)
    assert "t" not in found.placement.scale
    assert found.notes == ()


def test_the_origin_is_a_position_with_imagej_s_sign(imagej):
    """ImageJ's coordinate of sample p is (p - origin) * size."""
    text = f"{SLICES}unit=um\nspacing=2\nxorigin=10\nyorigin=-4\nzorigin=3\n"
    found = imagej(text, STACK)
    assert found.placement.translation == {"x": -2.5, "y": 2.0, "z": -6.0}
    assert found.origins["translation"] == "ImageJ (origin)"


def test_an_origin_without_sizes_is_left_out_aloud(imagej):
    """A position in pixels is none."""
    found = imagej("unit=pixel\nxorigin=10\n")
    assert found.placement.translation == {}
    assert "the position of the image (x -10)" in notes_of(found, "left out")


def test_an_axis_that_grows_upwards_is_noted(imagej):
    """Rows run down all the same."""
    found = imagej("unit=um\nxorigin=1\nyorigin=1\ninverty=true\n")
    assert found.placement.translation == {"x": -0.25}
    assert "grows upwards" in notes_of(found, "left out")


def test_a_calibration_of_values_is_noted(imagej):
    """Signed samples that ImageJ stored as unsigned."""
    found = imagej("cf=0\nc0=-32768.0\nc1=1.0\nvunit=gray value\n")
    assert "(function 0: -32768.0, 1.0, gray value)" in notes_of(found, "left out")


def ramp(*color, dtype="u1"):
    return (np.outer(color, np.arange(256)) // 255).astype(dtype)


@pytest.mark.parametrize(
    ("table", "color"),
    [
        (ramp(255, 0, 0), "FF0000"),
        (ramp(0, 255, 255), "00FFFF"),
        (ramp(255, 128, 0), "FF8000"),
        (ramp(255, 255, 255), None),
        (ramp(0, 0, 0), None),
        (ramp(255, 0, 0)[:, ::-1], None),
        (np.random.default_rng(0).integers(0, 255, (3, 256)).astype("u1"), None),
        (np.stack([np.arange(256) * 257] + [np.zeros(256)] * 2).astype("u2"), "FF0000"),
        (np.zeros((3, 1), "u1"), None),
    ],
)
def test_color_of_a_table(table, color):
    """A ramp from black is one color; grey, an inverted ramp and many colors are none."""
    assert ramp_color(table) == color


def test_channels_of_imagej(tmp_path):
    """Names from labels, colors from tables, windows from ranges."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.zeros((2, 16, 24), "u2"),
        imagej=True,
        metadata={
            "axes": "CYX",
            "Labels": ["DAPI", " GFP "],
            "LUTs": [ramp(0, 0, 255), ramp(255, 255, 255)],
            "Ranges": (0.0, 500.0, 10.0, 2000.0),
        },
    )
    found = meaning_of(path)
    assert found.channels == (
        Channel("DAPI", "0000FF", (0.0, 500.0)),
        Channel("GFP", None, (10.0, 2000.0)),
    )
    assert found.origins["channels"] == "ImageJ"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["c:1/2 - a.tif", "c:2/2 - a.tif"], [None, None]),
        (["c:1/2 - DAPI", "c:2/2 - GFP"], ["DAPI", "GFP"]),
        (["c:1/2", "c:2/2"], [None, None]),
        (["c:1/2 - DAPI", "GFP"], ["c:1/2 - DAPI", "GFP"]),
    ],
)
def test_numbers_that_imagej_puts_in_labels_are_no_names(tmp_path, labels, names):
    """Nor is the title of the image, which is the same for each."""
    path = tmp_path / "a.tif"
    about = {"axes": "CYX", "Labels": labels, "Ranges": (0.0, 1.0, 0.0, 1.0)}
    tifffile.imwrite(path, np.zeros((2, 16, 24), "u2"), imagej=True, metadata=about)
    assert [channel.name for channel in meaning_of(path).channels] == names


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], ["a", "b"]])
def test_labels_of_slices_name_no_channels(tmp_path, labels):
    """There is one for each plane, and the number of channels may be the same by chance."""
    path = tmp_path / "a.tif"
    data = np.zeros((2, 2, 16, 24), "u2")
    about = {"axes": "ZCYX", "Labels": labels}
    tifffile.imwrite(path, data, imagej=True, metadata=about)
    assert meaning_of(path).channels == ()


def test_one_channel_has_the_window_of_the_text(imagej):
    """min and max, where they span something."""
    assert imagej("min=5\nmax=70\n").channels == (Channel(window=(5.0, 70.0)),)
    assert imagej("min=5\nmax=5\n").channels == ()


SPELLINGS = ["um", r"\u00B5m", r"\u03BCm", "micron", "microns", "micrometer", "micrometre"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unit=st.sampled_from(SPELLINGS), size=st.integers(1, 10**6), spacing=st.floats(1e-3, 1e3))
def test_micrometers_of_imagej_however_spelled(imagej, unit, size, spacing):
    """The unit has one name, and the numbers are those of the file."""
    text = f"{SLICES}unit={unit}\nspacing={spacing!r}\n"
    found = imagej(text, STACK, resolution=((10**6, size), (10**6, size)))
    assert found.placement.scale["x"] == pytest.approx(size / 10**6, rel=1e-12)
    assert found.placement.scale["z"] == spacing
    assert set(found.placement.units.values()) == {"micrometer"}
    assert found.notes == ()


# --- real files ------------------------------------------------------------------------


def test_a_scifio_file_in_pixels_has_no_size():
    """Its tags say 10000 per centimeter, which is SCIFIO's way to say nothing."""
    assert meaning_of(sample("tiff/input1_zyx.tiff")).placement.scale == {}


def test_a_hyperstack_of_imagej():
    """Sizes, and windows of two channels."""
    found = meaning_of(sample("tiff/zcyx.tiff"))
    assert found.placement.scale == pytest.approx({"z": 0.054455, "y": 0.43564, "x": 0.43564}, 1e-5)
    assert set(found.placement.units.values()) == {"micrometer"}
    assert [channel.window for channel in found.channels] == [(0.0, 230.0), (0.0, 208.0)]


def test_a_blank_unit_of_imagej():
    """ImageJ writes a space where it knows none."""
    assert meaning_of(sample("tiff/sdt_ij.tif")).placement.scale == {}


@pytest.mark.parametrize("number", range(6))
def test_each_image_of_a_scan_has_its_own_metadata(number):
    """Names, channels named by wavelength, and a position in no unit of length."""
    with tifffile.TiffFile(sample("tiff/multiseries.ome.tiff")) as tif:
        found = read_meaning(tif, tif.series[number], number)
        name = tif.series[number].name
    assert found.name == name
    assert [c.name for c in found.channels] == ["431 nm", "525 nm", "590 nm", "690 nm"]
    assert found.placement.scale["x"] == pytest.approx(0.65)
    assert found.placement.translation == {}
    assert "its unit 'reference frame' is no length" in notes_of(found, "left out")


def test_an_ome_file_without_sizes():
    """Nothing but a name."""
    found = meaning_of(sample("tiff/multi-channel-z-series.ome.tif"))
    assert found == Meaning(name="multi-channel-z-series.ome.tif", origins={"name": "OME-XML"})


@pytest.mark.parametrize(
    "name", ["tiff/zcyx.tiff", "tiff/multiseries.ome.tiff", "wsi/CMU-1-Small-Region.svs"]
)
def test_the_same_sizes_as_another_reader(name):
    """openreadout, which gives micrometers."""
    openreadout = pytest.importorskip("openreadout")
    path = sample(name)
    other = openreadout.open(str(path)).images[0]["physical_size"]
    found = meaning_of(path).placement
    for axis in "yx":
        size = convert(found.scale[axis], found.units[axis], "micrometer")
        assert size == pytest.approx(other[axis], rel=1e-6)


# --- OME -------------------------------------------------------------------------------


def ome(pixels="", inside="", name="cells", shape="XYZCT", lengths=(24, 16, 1, 1, 1)):
    sizes = " ".join(f'Size{a}="{n}"' for a, n in zip("XYZCT", lengths, strict=True))
    return parse_ome(
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" '
        f'Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="{shape}" Type="uint16" {sizes} '
        f"{pixels}>{inside}</Pixels></Image></OME>"
    ).images[0]


def plane(t=0, c=0, z=0, **attributes):
    given_ = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<Plane TheT="{t}" TheC="{c}" TheZ="{z}" {given_}/>'


def square(size="0.5", unit="µm"):
    return " ".join(f'PhysicalSize{a}="{size}" PhysicalSize{a}Unit="{unit}"' for a in "XY")


def test_sizes_of_ome_keep_their_own_units():
    """Each axis has its own."""
    found = ome_meaning(
        ome(
            'PhysicalSizeX="0.3" PhysicalSizeY="325.1" PhysicalSizeYUnit="nm" PhysicalSizeZ="2" '
            'PhysicalSizeZUnit="Å" TimeIncrement="30" TimeIncrementUnit="ms"'
        )
    )
    assert found.placement.scale == {"x": 0.3, "y": 325.1, "z": 2.0, "t": 30.0}
    assert found.placement.units == {
        "x": "micrometer",
        "y": "nanometer",
        "z": "angstrom",
        "t": "millisecond",
    }
    assert (found.name, found.notes) == ("cells", ())


def test_units_that_ome_ngff_lacks_are_converted_aloud():
    """With a note for all axes together."""
    found = ome_meaning(ome(square("2", "thou")))
    assert found.placement.scale == {"x": 50.8, "y": 50.8}
    assert notes_of(found, "converted") == (
        "the size of a sample along y, x from thou to micrometer"
    )


@pytest.mark.parametrize("unit", ["pixel", "reference frame"])
def test_sizes_in_no_unit_of_length_are_unknown(unit):
    """A size of 0.5 pixels is none."""
    found = ome_meaning(ome(square("0.5", unit)))
    assert found.placement.scale == {}
    assert f"x 0.5 '{unit}'" in notes_of(found, "unknown")


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "abc"])
def test_sizes_that_are_none_are_left_out(size):
    """Never 1."""
    assert ome_meaning(ome(square(size))).placement.scale == {}


@given(st.floats(1e-9, 1e9), st.sampled_from(["µm", "nm", "mm", "Å", "in"]))
def test_sizes_of_ome_are_the_document_s_to_the_last_digit(size, unit):
    """Whatever the number."""
    found = ome_meaning(ome(square(repr(size), unit)))
    assert found.placement.scale == {"x": size, "y": size}
    assert found.notes == ()


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_regular_times_of_planes_are_a_time_step(unit):
    """To one per cent, as clocks are."""
    times = (0, 5.001, 10.0, 14.999)
    planes = "".join(plane(t, DeltaT=v, DeltaTUnit=unit) for t, v in enumerate(times))
    found = ome_meaning(ome(inside=planes, lengths=(24, 16, 1, 1, 4)))
    factor = 1 if unit == "s" else 1e-3
    assert found.placement.scale["t"] == pytest.approx(14.999 / 3 * factor)
    assert found.placement.units["t"] == "second"
    assert found.notes == ()


def test_irregular_times_are_noted():
    """And no number is written for them."""
    planes = "".join(plane(t, DeltaT=v) for t, v in enumerate((0, 5, 11)))
    found = ome_meaning(ome(inside=planes, lengths=(24, 16, 1, 1, 3)))
    assert "t" not in found.placement.scale
    assert "not regular: 5 to 6 second" in notes_of(found, "unknown")


def test_the_image_s_time_step_goes_before_those_of_planes():
    """TimeIncrement is what the writer meant."""
    planes = "".join(plane(t, DeltaT=v) for t, v in enumerate((0, 5, 11)))
    found = ome_meaning(ome('TimeIncrement="3"', planes, lengths=(24, 16, 1, 1, 3)))
    assert found.placement.scale["t"] == 3.0
    assert found.notes == ()


def test_positions_of_the_stage():
    """In the unit of the sizes, and said to be the stage's."""
    position = {"PositionX": 1.5, "PositionXUnit": "mm", "PositionY": -20, "PositionYUnit": "µm"}
    found = ome_meaning(ome(square(), plane(**position)))
    assert found.placement.translation == {"x": 1500.0, "y": -20.0}
    assert found.origins["translation"] == "OME-XML (stage)"
    assert "stage's position (x, y)" in notes_of(found, "assumed")


def test_positions_without_a_size_are_left_out_aloud():
    """Their unit would be written for a size that nobody knows."""
    found = ome_meaning(ome("", plane(PositionX=3, PositionXUnit="µm")))
    assert found.placement.translation == {}
    assert "the position of the image (x 3)" in notes_of(found, "left out")


def depth(step="2"):
    return square() + f' PhysicalSizeZ="{step}"'


def stack(*heights, x=(1,)):
    units = {"PositionZUnit": "µm", "PositionXUnit": "µm"}
    return "".join(
        plane(z=z, PositionZ=h, PositionX=x[z % len(x)], **units) for z, h in enumerate(heights)
    )


@pytest.mark.parametrize("heights", [(10, 12, 14), (10, 10, 10)])
def test_positions_of_a_regular_stack(heights):
    """Each plane a step further, or all planes that of the first."""
    found = ome_meaning(ome(depth(), stack(*heights), lengths=(24, 16, 3, 1, 1)))
    assert found.placement.translation == {"x": 1.0, "z": 10.0}
    assert notes_of(found, "left out") == ""


def test_planes_that_lie_elsewhere_are_noted():
    """The first counts."""
    found = ome_meaning(ome(depth(), stack(10, 12, 17, x=(1, 9)), lengths=(24, 16, 3, 1, 1)))
    assert found.placement.translation == {"x": 1.0, "z": 10.0}
    text = notes_of(found, "left out")
    assert "x by 8 micrometer" in text
    assert "z by 3 micrometer" in text


def test_a_stack_from_the_top_has_no_position_along_z():
    """Coordinates of a pyramid grow."""
    found = ome_meaning(ome(depth(), stack(14, 12, 10), lengths=(24, 16, 3, 1, 1)))
    assert found.placement.translation == {"x": 1.0}
    assert "they decrease" in notes_of(found, "left out")


def test_positions_of_zero_say_nothing():
    """Writers that know none put them."""
    zeros = {"PositionX": 0, "PositionXUnit": "µm", "PositionY": 0, "PositionYUnit": "µm"}
    found = ome_meaning(ome(square(), plane(**zeros)))
    assert (found.placement.translation, found.notes) == ({}, ())


def test_channels_of_ome():
    """Names, colors without the default's white, and wavelengths for names."""
    inside = (
        '<Channel ID="Channel:0:0" Name="DAPI" Color="65535"/>'
        '<Channel ID="Channel:0:1" EmissionWavelength="525.0" Color="-16776961"/>'
        '<Channel ID="Channel:0:2" Name=" " Color="-1"/>'
        '<Channel ID="Channel:0:3" Color="1"/>'
    )
    found = ome_meaning(ome(inside=inside, lengths=(24, 16, 1, 4, 1)))
    assert found.channels == (
        Channel("DAPI", "0000FF"),
        Channel("525 nm", "FF0000"),
        Channel(),
        Channel(),
    )


def test_samples_of_color_channels_are_channels():
    """Red, green and blue; with the channel's name where there are several."""
    one = '<Channel ID="Channel:0:0" Name="stain" SamplesPerPixel="3"/>'
    found = ome_meaning(ome(inside=one, lengths=(24, 16, 1, 3, 1)))
    assert [c.name for c in found.channels] == ["red", "green", "blue"]
    several = one + '<Channel ID="Channel:0:1" SamplesPerPixel="4"/>'
    found = ome_meaning(ome(inside=several, lengths=(24, 16, 1, 7, 1)))
    assert [c.name for c in found.channels] == (
        ["stain red", "stain green", "stain blue"]
        + [f"channel 1 {color}" for color in ("red", "green", "blue", "alpha")]
    )
    assert found.channels[0].color == "FF0000"


def test_names_for_another_number_of_channels_are_left_out_aloud():
    """Rather than given to the wrong ones."""
    inside = '<Channel ID="Channel:0:0" Name="DAPI"/><Channel ID="Channel:0:1" Name="GFP"/>'
    found = ome_meaning(ome(inside=inside, lengths=(24, 16, 1, 3, 1)))
    assert found.channels == ()
    assert "(DAPI, GFP): 2 for 3 channels" in notes_of(found, "left out")


def test_metadata_are_those_of_the_image_with_samples(tmp_path):
    """An Image that is only described comes first."""
    label = '<Image ID="Image:9" Name="label"><Pixels ID="Pixels:9" DimensionOrder="XYCZT" '
    label += 'Type="uint16" SizeX="1" SizeY="1" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="7">'
    label += "<MetadataOnly/></Pixels></Image>"
    path = tmp_path / "a.ome.tif"
    about = {"axes": "CYX", "Name": "scan", "PhysicalSizeX": 0.65, "Channel": {"Name": ["a", "b"]}}
    tifffile.imwrite(path, np.zeros((2, 16, 24), "u2"), photometric="minisblack", metadata=about)
    text = tifffile.tiffcomment(path).replace("<Image ", label + "<Image ", 1)
    tifffile.tiffcomment(path, text.encode())
    with opened(path) as (tif, meaning):
        assert first_ome_image(tif) == 1
    assert meaning.name == "scan"
    assert meaning.placement.scale == {"x": 0.65}
    assert [c.name for c in meaning.channels] == ["a", "b"]
    assert meaning.placement.units == {"x": "micrometer"}


def test_what_only_one_source_says_of_a_channel_is_filled_in():
    """Unless they speak of different numbers of channels."""
    known = (Channel("a", None, (0.0, 1.0)), Channel())
    more = (Channel("b", "FF0000"), Channel("c"))
    assert filled(known, more) == (Channel("a", "FF0000", (0.0, 1.0)), Channel("c"))
    assert filled((), more) == more
    assert filled(known, more[:1]) == known


# --- resolution tags of other files ----------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [
        ((40_000, 40_000), "CENTIMETER", 0.25),
        ((10_000, 5_000), "CENTIMETER", (1.0, 2.0)),
        ((50_800, 50_800), "INCH", 0.5),
        ((43_826, 43_826), "CENTIMETER", 10_000 / 43_826),
        ((101, 101), "CENTIMETER", 10_000 / 101),
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((300, 300), "INCH", None),
        ((600, 600), "INCH", None),
        ((300, 310), "INCH", None),
        ((118.11, 118.11), "CENTIMETER", None),
        ((118, 118), "CENTIMETER", None),
        ((28, 28), "CENTIMETER", None),
        ((142, 142), "CENTIMETER", None),
        ((90, 90), "CENTIMETER", None),
        ((10, 10), "INCH", None),
        ((40_000, 40_000), "NONE", None),
    ],
)
def test_resolution_tags_of_a_plain_file(tmp_path, resolution, unit, size):
    """A size where they are no printer's and of pixels below a tenth of a millimeter."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, metadata=None, resolution=resolution, resolutionunit=unit)
    found = meaning_of(path)
    if size is None:
        assert found.placement.scale == {}
        assert (unit == "NONE") == (found.notes == ())
    else:
        x, y = size if isinstance(size, tuple) else (size, size)
        assert found.placement.scale == pytest.approx({"x": x, "y": y}, rel=1e-6)
        assert found.placement.units == MICROMETERS
        assert found.origins == {"scale": "XResolution tag", "units": "XResolution tag"}


def test_the_printer_s_value_is_in_the_note(tmp_path):
    """With the unit, and the option that gives the size."""
    tifffile.imwrite(
        tmp_path / "a.tif", PLANE, metadata=None, resolution=(300, 300), resolutionunit="INCH"
    )
    text = notes_of(meaning_of(tmp_path / "a.tif"), "unknown")
    assert "300 dots per inch, which is for printing" in text
    assert "--scale" in text


def test_tags_that_nobody_set_are_not_noted(tmp_path):
    """One pixel per inch is tifffile's and others' default."""
    tifffile.imwrite(
        tmp_path / "a.tif", PLANE, metadata=None, resolution=(1, 1), resolutionunit="INCH"
    )
    assert meaning_of(tmp_path / "a.tif") == Meaning()


def test_one_resolution_is_none(tmp_path):
    """Both or neither."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, metadata=None, resolution=(40_000, 40_000), resolutionunit=3)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[283].overwrite((0, 1))
    assert meaning_of(path).placement.scale == {}


# --- tifffile's own --------------------------------------------------------------------


def test_sizes_given_to_tifffile(tmp_path):
    """spacing and unit, as for ImageJ; resolution tags without a unit count per that unit."""
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK,
        photometric="minisblack",
        resolution=(4, 2),
        resolutionunit="NONE",
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": "um"},
    )
    found = meaning_of(tmp_path / "a.tif")
    assert found.placement.scale == {"z": 3.0, "y": 0.5, "x": 0.25}
    assert set(found.placement.units.values()) == {"micrometer"}


def test_sizes_given_to_tifffile_in_ome_s_words(tmp_path):
    """PhysicalSizeX and TimeIncrement."""
    about = {"axes": "TYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 200, "PhysicalSizeYUnit": "nm"}
    about |= {"TimeIncrement": 5}
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", metadata=about)
    found = meaning_of(tmp_path / "a.tif").placement
    assert found.scale == {"t": 5.0, "y": 200.0, "x": 0.1}
    assert found.units == {"t": "second", "y": "nanometer", "x": "micrometer"}


def test_a_depth_given_to_tifffile_beside_true_resolution_tags(tmp_path):
    """Each from where it is."""
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK,
        photometric="minisblack",
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
        metadata={"axes": "ZYX", "spacing": 300, "unit": "nm", "finterval": 2},
    )
    found = meaning_of(tmp_path / "a.tif").placement
    assert found.scale == {"z": 300.0, "y": 0.25, "x": 0.25, "t": 2.0}
    assert found.units["z"] == "nanometer"
    assert found.units["x"] == "micrometer"


def test_tifffile_s_own_files_without_sizes_have_none(tmp_path):
    """The usual array."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    assert meaning_of(tmp_path / "a.tif") == Meaning()


# --- as a source -----------------------------------------------------------------------


def test_a_source_has_all_that_its_file_means(tmp_path, stored):
    """Sizes, position, channels, origins and notes, from any store."""
    about = {
        "axes": "CYX",
        "Name": "cells",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
        "Channel": {"Name": ["DAPI", "GFP"], "Color": [65535, 16711935]},
        "Plane": {
            "PositionX": [3.0, 3.0],
            "PositionXUnit": ["µm", "µm"],
            "PositionY": [4.0, 4.0],
            "PositionYUnit": ["µm", "µm"],
        },
    }
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((2, 16, 24), "u2"), photometric="minisblack", metadata=about)
    with open_source(stored(path)) as source:
        image, found = source.image, source.about
        assert image.name == "cells"
        assert (image.scale["x"], image.axes_units["x"]) == (0.5, "micrometer")
        assert (image.translation["x"], image.translation["y"]) == (3.0, 4.0)
        assert found.channels == (Channel("DAPI", "0000FF"), Channel("GFP", "00FF00"))
        assert found.origins["scale"] == "OME-XML"
        assert any("stage's position" in str(note) for note in found.notes)


def test_a_source_says_that_its_resolution_is_a_printer_s(tmp_path):
    """And that its size is unknown."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, metadata=None, resolution=(300, 300), resolutionunit="INCH")
    with open_source(path) as source:
        assert source.image.scale == {"y": 1.0, "x": 1.0}
        assert any("300 dots per inch" in str(note) for note in source.about.notes)


@pytest.mark.parametrize(("unit", "size"), [("um", 0.5), ("inch", None), ("cm", None)])
def test_dots_per_inch_that_a_program_meant_per_unit_of_its_own(tmp_path, unit, size):
    """tifffile writes inch beside a resolution unless it is told otherwise."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "YX", "unit": unit}
    tifffile.imwrite(path, np.zeros((9, 8), "u2"), resolution=(2, 2), metadata=metadata)
    meaning = meaning_of(path)
    assert meaning.placement.scale.get("x") == size
    if size is not None:
        assert meaning.placement.units == {"y": "micrometer", "x": "micrometer"}
        assert "samples per micrometer" in notes_of(meaning, "assumed")
    else:
        assert "scale and units" in notes_of(meaning, "unknown")


@pytest.mark.parametrize("dots", [72, 50800])
def test_dots_per_inch_that_may_be_true_stay_so(tmp_path, dots):
    """72 is a printer's; 50800 are pixels of half a micrometer."""
    path = tmp_path / "a.tif"
    metadata = {"axes": "YX", "unit": "um"}
    tifffile.imwrite(path, np.zeros((9, 8), "u2"), resolution=(dots, dots), metadata=metadata)
    found = meaning_of(path)
    assert dict(found.placement.scale) == pytest.approx({} if dots == 72 else {"y": 0.5, "x": 0.5})
    assert not notes_of(found, "assumed")
