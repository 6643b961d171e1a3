"""OME-XML as far as a pyramid needs it, of every schema since 2007 and without namespaces.

Schemas before 2009-09 keep channels as ``LogicalChannel`` of the image, and times and positions
as children of ``Plane``; schemas before 2015 have no attributes for units, whose defaults are
those of today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ngff_core.sources.units import finite


@dataclass(frozen=True)
class Measure:
    """A number and its unit in the document's spelling, or the schema's default unit."""

    value: float
    unit: str


@dataclass(frozen=True)
class OmeChannel:
    """A channel, which has several samples for each pixel where it is one of colors.

    Attributes
    ----------
    name
        None if it has none.
    color
        Red, green, blue and alpha in one unsigned number; None if it has none.
    samples
        Samples for each pixel.
    emission
        Wavelength of the light that was recorded.
    """

    name: str | None = None
    color: int | None = None
    samples: int = 1
    emission: Measure | None = None


@dataclass(frozen=True)
class OmePlane:
    """When and where a plane was recorded; ``position`` by x, y, z."""

    z: int
    c: int
    t: int
    delta_t: Measure | None = None
    position: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class OmeTiffData:
    """Which pages of which file hold planes, as the document has it; None where it is silent."""

    ifd: int | None = None
    first_z: int | None = None
    first_c: int | None = None
    first_t: int | None = None
    plane_count: int | None = None
    file_name: str | None = None
    uuid: str | None = None


@dataclass(frozen=True)
class OmePixels:
    """The samples of an image; empty for an Image without Pixels.

    Attributes
    ----------
    order
        ``DimensionOrder``, such as ``XYZCT``.
    type
        Of the samples, in OME's words.
    shape
        Lengths by t, c, z, y, x; c counts all samples of all channels.
    sizes
        ``PhysicalSize`` by z, y, x and ``TimeIncrement`` as t, whatever their numbers.
    planes, tiff_data
        In the document's order.
    metadata_only
        Whether the samples are in no file.
    """

    order: str | None = None
    type: str | None = None
    shape: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, Measure] = field(default_factory=dict)
    planes: tuple[OmePlane, ...] = ()
    tiff_data: tuple[OmeTiffData, ...] = ()
    metadata_only: bool = False


@dataclass(frozen=True)
class OmeImage:
    """An Image, its channels and its first Pixels; ``id`` and ``name`` may be absent."""

    id: str | None
    name: str | None
    channels: tuple[OmeChannel, ...] = ()
    pixels: OmePixels = field(default_factory=OmePixels)


@dataclass(frozen=True)
class OmeXml:
    """A document: its identifier, its images, and the file with the complete document if this
    is only a reference to it."""

    uuid: str | None
    images: tuple[OmeImage, ...]
    binary_only: str | None = None


_SIZES = {
    "t": ("TimeIncrement", "s"),
    "z": ("PhysicalSizeZ", "µm"),
    "y": ("PhysicalSizeY", "µm"),
    "x": ("PhysicalSizeX", "µm"),
}
_POSITIONS = {"x": "PositionX", "y": "PositionY", "z": "PositionZ"}
_COMPONENT_COLORS = {"r": 0xFF0000FF, "g": 0x00FF00FF, "b": 0x0000FFFF}
"""By the first letter of a ChannelComponent's ColorDomain (schemas before 2009-09)."""


@lru_cache(maxsize=4)
def parse_ome(document: str) -> OmeXml:
    """The content of an OME-XML document.

    Raises ``xml.etree.ElementTree.ParseError`` or a ValueError for one that is none.
    """
    from defusedxml import ElementTree

    return read_ome(ElementTree.fromstring(document.strip("\0 \t\r\n\ufeff")))


def read_ome(root: Any) -> OmeXml:
    """The content of a document that is parsed already. Raises a ValueError for another's root."""
    if _tag(root) != "OME":
        raise ValueError(f"not OME-XML: its root element is {_tag(root)}")
    images = tuple(read_image(element) for element in _children(root, "Image"))
    binary = next(_children(root, "BinaryOnly"), None)
    return OmeXml(
        root.get("UUID"), images, None if binary is None else binary.get("MetadataFile", "")
    )


def read_image(element: Any) -> OmeImage:
    """The content of an Image element that is parsed already."""
    pixels = next(_children(element, "Pixels"), None)
    identifier, name = element.get("ID"), element.get("Name")
    if pixels is None:
        return OmeImage(identifier, name)
    channels = tuple(_channels(element, pixels))
    return OmeImage(identifier, name, channels, _read_pixels(pixels))


def _read_pixels(element: Any) -> OmePixels:
    lengths = {axis: _integer(element.get(f"Size{axis.upper()}")) for axis in "tczyx"}
    return OmePixels(
        order=element.get("DimensionOrder"),
        type=element.get("Type") or element.get("PixelType"),
        shape={axis: n for axis, n in lengths.items() if n is not None},
        sizes=_measures(element, _SIZES),
        planes=tuple(plane for each in _children(element, "Plane") for plane in _plane(each)),
        tiff_data=tuple(_tiff_data(each) for each in _children(element, "TiffData")),
        metadata_only=next(_children(element, "MetadataOnly"), None) is not None,
    )


def _channels(image: Any, pixels: Any) -> Iterator[OmeChannel]:
    for channel in _children(pixels, "Channel"):
        yield OmeChannel(
            name=channel.get("Name"),
            color=_color(channel.get("Color")),
            samples=_integer(channel.get("SamplesPerPixel")) or 1,
            emission=_measure(channel, "EmissionWavelength", "nm"),
        )
    for channel in _children(image, "LogicalChannel"):
        components = list(_children(channel, "ChannelComponent"))
        domain = components[0].get("ColorDomain", "") if len(components) == 1 else ""
        yield OmeChannel(
            name=channel.get("Name"),
            color=_COMPONENT_COLORS.get(domain[:1].lower()),
            samples=_integer(channel.get("SamplesPerPixel")) or len(components) or 1,
            emission=_measure(channel, "EmWave", "nm"),
        )


def _plane(element: Any) -> Iterator[OmePlane]:
    z, c, t = (_integer(element.get(name)) for name in ("TheZ", "TheC", "TheT"))
    if z is None or c is None or t is None:
        return
    timing = next(_children(element, "PlaneTiming"), element)
    stage = next(_children(element, "StagePosition"), element)
    names = {axis: (name, "reference frame") for axis, name in _POSITIONS.items()}
    yield OmePlane(z, c, t, _measure(timing, "DeltaT", "s"), _measures(stage, names))


def _tiff_data(element: Any) -> OmeTiffData:
    uuid = next(_children(element, "UUID"), None)
    return OmeTiffData(
        ifd=_integer(element.get("IFD")),
        first_z=_integer(element.get("FirstZ")),
        first_c=_integer(element.get("FirstC")),
        first_t=_integer(element.get("FirstT")),
        plane_count=_integer(element.get("PlaneCount") or element.get("NumPlanes")),
        file_name=None if uuid is None else uuid.get("FileName"),
        uuid=None if uuid is None else (uuid.text or "").strip(),
    )


def _measures(element: Any, names: Mapping[str, tuple[str, str]]) -> dict[str, Measure]:
    found = {axis: _measure(element, name, unit) for axis, (name, unit) in names.items()}
    return {axis: measure for axis, measure in found.items() if measure is not None}


def _measure(element: Any, name: str, unit: str) -> Measure | None:
    value = finite(element.get(name))
    return None if value is None else Measure(value, element.get(f"{name}Unit", unit))


def _color(text: str | None) -> int | None:
    number = _integer(text)
    return None if number is None else number & 0xFFFFFFFF


def _integer(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _children(element: Any, tag: str) -> Iterator[Any]:
    return (child for child in element if _tag(child) == tag)


def _tag(element: Any) -> str:
    # The namespace has the schema's date. Comments have a function for a tag.
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
