"""OME-XML of every schema: what is read of it, against ome-types and by hand."""

from xml.etree.ElementTree import ParseError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.sources.tiff.ome_xml import Measure, OmeChannel, OmeTiffData, parse_ome

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/{}"
DATES = [f"20{d}" for d in ("09-09", "10-04", "10-06", "11-06", "12-06", "13-06", "15-01", "16-06")]

BODY = """<Image ID="Image:0" Name="a &lt;b&gt;"><Pixels ID="Pixels:0" DimensionOrder="XYZCT"
 Type="uint16" SizeX="5" SizeY="4" SizeZ="3" SizeC="4" SizeT="2" PhysicalSizeX="0.1"
 PhysicalSizeY="0.2" PhysicalSizeZ="0.3" TimeIncrement="7"><Channel ID="Channel:0:0" Name="DAPI"
 Color="65535" SamplesPerPixel="1"/><Channel ID="Channel:0:1" SamplesPerPixel="3"
 EmissionWavelength="525" Color="-16776961"/><TiffData IFD="2" FirstZ="1" FirstC="0" FirstT="1"
 PlaneCount="2"><UUID FileName="b.tif">urn:uuid:00000000-0000-4000-8000-000000000000</UUID>
 </TiffData><Plane TheZ="0" TheC="1" TheT="1" DeltaT="0.5" PositionX="10" PositionY="-2.5"/>
 </Pixels></Image>"""


def document(body, date="2016-06", attributes=""):
    namespace = f'xmlns="{SCHEMA.format(date)}"' if date else ""
    head = '<?xml version="1.0" encoding="UTF-8"?><!-- c -->'
    return f"{head}<OME {namespace} {attributes}>{body}</OME>"


@pytest.mark.parametrize("date", [*DATES, ""])
def test_everything_of_each_schema(date):
    """The namespace's date, and its absence, change nothing."""
    (image,) = parse_ome(document(BODY, date)).images
    assert (image.id, image.name) == ("Image:0", "a <b>")
    assert (image.pixels.order, image.pixels.type) == ("XYZCT", "uint16")
    assert image.pixels.shape == {"t": 2, "c": 4, "z": 3, "y": 4, "x": 5}
    assert image.pixels.sizes == {
        "t": Measure(7.0, "s"),
        "z": Measure(0.3, "µm"),
        "y": Measure(0.2, "µm"),
        "x": Measure(0.1, "µm"),
    }
    assert image.channels == (
        OmeChannel("DAPI", 0x0000FFFF),
        OmeChannel(None, 0xFF0000FF, 3, Measure(525.0, "nm")),
    )
    (plane,) = image.pixels.planes
    assert (plane.z, plane.c, plane.t) == (0, 1, 1)
    assert plane.delta_t == Measure(0.5, "s")
    assert plane.position == {
        "x": Measure(10.0, "reference frame"),
        "y": Measure(-2.5, "reference frame"),
    }
    uuid = "urn:uuid:00000000-0000-4000-8000-000000000000"
    assert image.pixels.tiff_data == (OmeTiffData(2, 1, 0, 1, 2, "b.tif", uuid),)
    assert not image.pixels.metadata_only


@pytest.mark.parametrize("date", ["2007-06", "2008-02", "2008-09"])
def test_channels_times_and_positions_of_old_schemas(date):
    """Channels are the image's, times and positions have elements of their own."""
    body = """<Image ID="Image:0" Name="old"><LogicalChannel ID="LogicalChannel:0" Name="GFP"
 EmWave="509" SamplesPerPixel="1"><ChannelComponent Pixels="Pixels:0" Index="0"
 ColorDomain="Green"/></LogicalChannel><LogicalChannel ID="LogicalChannel:1"><ChannelComponent
 Pixels="Pixels:0" Index="1" ColorDomain="R"/><ChannelComponent Pixels="Pixels:0" Index="2"
 ColorDomain="G"/><ChannelComponent Pixels="Pixels:0" Index="3" ColorDomain="B"/></LogicalChannel>
 <Pixels ID="Pixels:0" DimensionOrder="XYZCT" PixelType="uint8" SizeX="5" SizeY="4" SizeZ="1"
 SizeC="4" SizeT="1" PhysicalSizeX="0.5"><TiffData IFD="0" NumPlanes="4"/><Plane TheZ="0" TheC="0"
 TheT="0"><PlaneTiming DeltaT="1.5" ExposureTime="0.1"/><StagePosition PositionX="3"/></Plane>
 </Pixels></Image>"""
    (image,) = parse_ome(document(body, date)).images
    assert image.pixels.type == "uint8"
    assert image.pixels.sizes == {"x": Measure(0.5, "µm")}
    assert image.channels == (
        OmeChannel("GFP", 0x00FF00FF, 1, Measure(509.0, "nm")),
        OmeChannel(None, None, 3),
    )
    assert image.pixels.tiff_data == (OmeTiffData(ifd=0, plane_count=4),)
    (plane,) = image.pixels.planes
    assert plane.delta_t == Measure(1.5, "s")
    assert plane.position == {"x": Measure(3.0, "reference frame")}


def test_metadata_only_and_binary_only():
    """Images without samples, and files that refer to another for their metadata."""
    body = '<Image ID="Image:0"><Pixels SizeX="1"><MetadataOnly/></Pixels></Image><Image/>'
    first, second = parse_ome(document(body)).images
    assert first.pixels.metadata_only
    assert second.pixels.shape == {}
    reference = '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:1"/>'
    found = parse_ome(document(reference, attributes='UUID="urn:uuid:2"'))
    assert (found.uuid, found.binary_only, found.images) == ("urn:uuid:2", "a.companion.ome", ())


@pytest.mark.parametrize("text", ["nan", "inf", "", "1,5", "x"])
def test_sizes_that_are_no_numbers_are_absent(text):
    """Rather than an error."""
    body = f'<Image><Pixels PhysicalSizeX="{text}" SizeX="{text}"/></Image>'
    (image,) = parse_ome(document(body)).images
    assert image.pixels.sizes == {}
    assert image.pixels.shape == {}


@pytest.mark.parametrize("text", ["", "<OME", "<a/>", "<OME><Image></OME>"])
def test_what_is_no_ome_xml_is_refused(text):
    """As an error of parsing."""
    with pytest.raises((ParseError, ValueError)):
        parse_ome(text)


def test_entities_are_refused():
    """They can stand for any amount of text."""
    text = '<!DOCTYPE OME [<!ENTITY a "b">]><OME><Image Name="&a;"/></OME>'
    with pytest.raises(ValueError, match="a"):
        parse_ome(text)


LENGTHS = st.sampled_from(["µm", "nm", "mm", "Å", "thou", "pixel", "reference frame", "Mm"])
NUMBERS = st.floats(1e-6, 1e6)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_same_as_ome_types(data):
    """A drawn document, written by ome-types and read back by both."""
    model = pytest.importorskip("ome_types.model")
    unit, size = data.draw(LENGTHS), data.draw(NUMBERS)
    color = data.draw(st.integers(-(2**31), 2**31 - 1))
    name = data.draw(st.none() | st.text("abcµ<&\"'", min_size=1, max_size=8))
    pixels = model.Pixels(
        dimension_order="XYZCT",
        type="uint16",
        size_x=3,
        size_y=4,
        size_z=1,
        size_c=1,
        size_t=data.draw(st.integers(1, 5)),
        physical_size_x=size,
        physical_size_x_unit=unit,
        time_increment=data.draw(NUMBERS),
        time_increment_unit="ms",
        channels=[model.Channel(name=name, color=color, samples_per_pixel=1)],
        planes=[
            model.Plane(
                the_z=0, the_c=0, the_t=0, delta_t=size, position_x=-size, position_x_unit=unit
            )
        ],
        metadata_only=True,
    )
    written = model.OME(images=[model.Image(name=name, pixels=pixels)]).to_xml()
    (image,) = parse_ome(written).images
    assert image.name == name
    assert image.pixels.sizes["x"] == Measure(size, unit)
    assert image.pixels.sizes["t"] == Measure(pixels.time_increment, "ms")
    assert image.pixels.shape["t"] == pixels.size_t
    assert image.channels[0].name == name
    # The schema's default color is not written.
    assert image.channels[0].color in (color & 0xFFFFFFFF, None if color == -1 else 0)
    assert image.pixels.planes[0].position["x"] == Measure(-size, unit)
    assert image.pixels.planes[0].delta_t == Measure(size, "s")
