"""Pixel sizes, time steps, units and name of a TIFF image, from OME or ImageJ metadata.

The resolution tags of any other TIFF are instructions for a printer (72, 96, 300 dots per
inch, whatever the image shows) and are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_X_RESOLUTION, _Y_RESOLUTION = 282, 283
"""TIFF tags: pixels per unit, as (numerator, denominator)."""


@dataclass(frozen=True)
class Sizes:
    """Size of a sample and its unit by axis name, and the image's name.

    Axes without a known size are left out; so are units that are unknown.
    """

    scale: dict[str, float]
    units: dict[str, str]
    """UDUNITS names, such as ``micrometer``."""
    name: object = None


def read_sizes(tif: TiffFile, series: TiffPageSeries) -> Sizes:
    """Sizes, units and name of a series; empty for files of neither OME nor ImageJ."""
    if series.kind == "ome" and tif.ome_metadata:
        return _ome_sizes(tif.ome_metadata)
    if series.kind == "imagej" and tif.imagej_metadata:
        return _imagej_sizes(tif, tif.imagej_metadata)
    return Sizes({}, {})


_OME_ATTRIBUTES = {
    "t": ("TimeIncrement", "s"),
    "z": ("PhysicalSizeZ", "µm"),
    "y": ("PhysicalSizeY", "µm"),
    "x": ("PhysicalSizeX", "µm"),
}
"""Attribute of OME's Pixels element and OME's default unit, for each axis."""


def _ome_sizes(document: str) -> Sizes:
    """Sizes, units and name of the first image in an OME-XML document."""
    from xml.etree import ElementTree as ET

    root = ET.fromstring(document)
    image = next(_elements(root, "Image"), None)
    pixels = next(_elements(root, "Pixels"), None)
    if image is None or pixels is None:
        return Sizes({}, {})
    scale, units = {}, {}
    for dim, (attribute, default) in _OME_ATTRIBUTES.items():
        size = _positive(pixels.get(attribute))
        if size is None:
            continue
        scale[dim] = size
        unit = unit_name(pixels.get(f"{attribute}Unit", default))
        if unit is not None:
            units[dim] = unit
    return Sizes(scale, units, image.get("Name"))


def _elements(root: Any, tag: str) -> Iterator[Any]:
    # The namespace has the schema's date, which does not matter here.
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == tag)


def _imagej_sizes(tif: TiffFile, metadata: dict[str, Any]) -> Sizes:
    """Sizes of an ImageJ file: x and y from the resolution tags, which count pixels per unit;
    z, t and the units from ImageJ's own text."""
    tags = tif.pages.first.tags
    sizes = {
        "x": _size_of_pixel(tags.valueof(_X_RESOLUTION)),
        "y": _size_of_pixel(tags.valueof(_Y_RESOLUTION)),
        "z": _positive(metadata.get("spacing")),
        "t": _positive(metadata.get("finterval")),
    }
    scale = {d: s for d, s in sizes.items() if s is not None}
    units = {}
    for dim in scale:
        key = {"t": "tunit", "y": "yunit", "z": "zunit"}.get(dim, "unit")
        default = "s" if dim == "t" else metadata.get("unit")
        unit = unit_name(metadata.get(key, default))
        if unit is not None:
            units[dim] = unit
    return Sizes(scale, units)


def _size_of_pixel(resolution: Any) -> float | None:
    """Units per pixel from a resolution tag; None if it is not a fraction of positive numbers."""
    if not isinstance(resolution, tuple) or len(resolution) != 2 or not all(resolution):
        return None
    return float(resolution[1]) / float(resolution[0])


def _positive(text: Any) -> float | None:
    """``text`` as a number; None if it is not a positive, finite one."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 < value < float("inf") else None


_UNITS = {
    "å": "angstrom",
    "angstrom": "angstrom",
    "pm": "picometer",
    "nm": "nanometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "dm": "decimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "inch": "inch",
    "inches": "inch",
    "ft": "foot",
    "ns": "nanosecond",
    "us": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}


def unit_name(text: object) -> str | None:
    r"""The UDUNITS name of a unit as OME and ImageJ abbreviate it; None if it is not known.

    >>> unit_name("µm"), unit_name("\\u00B5m"), unit_name("pixel")
    ('micrometer', 'micrometer', None)
    """
    if not isinstance(text, str):
        return None
    # The micro sign, the Greek letter mu, and the escape that ImageJ writes for it.
    plain = text.strip().lower()
    for micro in ("\\u00b5", "\u00b5", "\u03bc"):
        plain = plain.replace(micro, "u")
    if plain in _UNITS:
        return _UNITS[plain]
    american = plain.replace("metre", "meter").removesuffix("s")
    return american if american in _UNITS.values() else None
