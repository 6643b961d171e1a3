"""Sizes of electron microscopes' TIFF files, and what streak cameras measure instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.meaning import Meaning, TaggedImage, parse_xml, sized
from ngff_core.sources.tiff.resolution import CENTIMETER, INCH, resolution, resolution_unit
from ngff_core.sources.units import Quantity, convert, length, micrometers, positive

_SEM, _SFEG, _HELIOS, _THERMO_XML, _TVIPS = 34118, 34680, 34682, 34683, 37706
_SIS_INI, _SIS = 33471, 33560
_SEM_SIZE = 3
"""Index of the pixel's size in meters among the values without a name of a Zeiss SEM."""
_SEM_WIDTH = 1024
"""Width of the image that this size is for."""
_SEM_ROUNDING = 0.01
"""Largest relative difference to a size under a name, which has four digits."""
_NAME_VALUE_UNIT = 3
_DM_UNITS, _DM_SCALES = (65003, 65004, 65005), (65009, 65010, 65011)
"""Digital Micrograph's tags of x, y and z."""
_TVIPS_WITH_SIZE = 2


def zeiss_sem(image: TaggedImage) -> Meaning:
    """Zeiss: the size of the image's pixel, with all digits where they are there.

    ``AP_PIXEL_SIZE`` and the values without names are for an image of 1024 columns, whatever
    the width of the stored one; ``AP_IMAGE_PIXEL_SIZE``, which older files lack, is not.
    """
    found = image.page.tags.valueof(_SEM)
    columns = _SEM_WIDTH / image.page.imagewidth
    named = _sem_length(found, "ap_image_pixel_size", 1.0)
    named = named or _sem_length(found, "ap_pixel_size", columns)
    unnamed = found.get("", ())
    if len(unnamed) > _SEM_SIZE and positive(unnamed[_SEM_SIZE]) is not None:
        meters = unnamed[_SEM_SIZE] * columns
        unit = "micrometer" if named is None or named.unit is None else named.unit
        exact = Quantity(_single(convert(meters, "meter", unit)), unit)
        if named is None or abs(exact.value / named.value - 1) < _SEM_ROUNDING:
            return sized({"y": exact, "x": exact}, "Zeiss' SEM tag")
    return sized({"y": named, "x": named}, "Zeiss' SEM tag")


def _sem_length(found: Mapping[str, Any], key: str, factor: float) -> Quantity | None:
    value = found.get(key, ())
    if len(value) != _NAME_VALUE_UNIT or positive(value[1]) is None:
        return None
    size = length(value[1] * factor, value[2])
    return None if size is None or size.unit is None else _readable(size)


def fei(image: TaggedImage) -> Meaning:
    """FEI and Thermo: the scan's pixel in meters; a camera's from its width of field."""
    found: dict[str, Any] = {}
    for code in (_SFEG, _HELIOS):
        value = image.page.tags.valueof(code)
        found.update(value if isinstance(value, dict) else {})
    scan = found.get("Scan", {})
    if positive(scan.get("PixelWidth")) is not None:
        return _of_meters(scan.get("PixelWidth"), scan.get("PixelHeight"), "FEI's PixelWidth")
    camera, frame = found.get("IRBeam", {}), found.get("Image", {})
    if positive(camera.get("HFW")) is not None and "ResolutionX" in frame:
        x, y = camera["HFW"] / frame["ResolutionX"], camera["VFW"] / frame["ResolutionY"]
        return _of_meters(x, y, "FEI's width of field")
    return _thermo_xml(image.page.tags.valueof(_THERMO_XML))


def _thermo_xml(document: Any) -> Meaning:
    text = document.decode() if isinstance(document, bytes) else document
    if not isinstance(text, str) or "<PixelSize" not in text:
        return Meaning()
    root = parse_xml(text)
    pixel = next(each for each in root.iter() if str(each.tag).rpartition("}")[2] == "PixelSize")
    by_name = {str(each.tag).rpartition("}")[2]: each for each in pixel}
    sizes = {
        axis: _readable(length(by_name[axis.upper()].text, by_name[axis.upper()].get("unit", "m")))
        for axis in "yx"
    }
    return sized(sizes, "Thermo's XML")


def tvips(image: TaggedImage) -> Meaning:
    """TVIPS: nanometers; headers of version 1 have the camera's pixel only."""
    found = image.page.tags.valueof(_TVIPS)
    if found.get("Version") != _TVIPS_WITH_SIZE:
        return Meaning()
    sizes = {axis: length(_single(found[f"PixelSize{axis.upper()}"]), "nm") for axis in "yx"}
    return sized(sizes, "TVIPS' PixelSizeX")


def _single(value: float) -> float:
    """A number stored with seven digits, without the digits that its storage added."""
    return float(f"{value:.7g}")


def sis(image: TaggedImage) -> Meaning:
    """Olympus SIS: meters."""
    found: dict[str, Any] = {}
    for code in (_SIS_INI, _SIS):
        value = image.page.tags.valueof(code)
        found.update(value if isinstance(value, dict) else {})
    return _of_meters(found.get("pixelsizex"), found.get("pixelsizey"), "Olympus' SIS tag")


def jeol(image: TaggedImage) -> Meaning:
    """JEOL: the resolution tags count pixels of the camera, which the XML's magnification sets.

    Certain for images of the electron microscope's mode MAG only.
    """
    lines = [line.strip("\0\x01 \t\r") for line in image.page.description.split("\n")]
    text = "".join(lines)
    if "<TemReporter" not in text:
        return Meaning()
    root = parse_xml(text)
    mode = root.findtext(".//ImageFormingSystem/ModeString")
    magnification = positive(root.findtext(".//ImageFormingSystem/SelectorValue"))
    found, unit = resolution(image.page), resolution_unit(image.page)
    if root.findtext(".//Eos/EosMode") != "eosTEM" or mode != "MAG":
        return Meaning(
            notes=(Note("unknown", f"the size of a sample of JEOL's mode {mode or 'unknown'}"),)
        )
    if magnification is None or found is None or unit not in (INCH, CENTIMETER):
        return Meaning()
    camera = 25_400_000.0 if unit == INCH else 10_000_000.0
    x, y = (Quantity(camera / r / magnification, "nanometer") for r in found)
    return sized({"y": y, "x": x}, "JEOL's magnification")


def digital_micrograph(image: TaggedImage) -> Meaning:
    """Gatan: a number and a unit for each axis; units of no length are those of spectra."""
    sizes = {
        axis: length(_first(image.page.tags.valueof(scale)), image.page.tags.valueof(unit))
        for axis, unit, scale in zip("xyz", _DM_UNITS, _DM_SCALES, strict=True)
    }
    known = {a: q for a, q in sizes.items() if q is not None and q.unit is not None}
    other = [
        f"{a} {q.value:g} {q.given}"
        for a, q in sizes.items()
        if q is not None and a not in known and q.given
    ]
    meaning = sized(known, "Digital Micrograph's tags")
    if not other:
        return meaning
    text = f"sizes in no unit of length: {', '.join(other)}"
    return replace(meaning, notes=(*meaning.notes, Note("unknown", text)))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def streak(_image: TaggedImage) -> Meaning:
    """Hamamatsu's streak cameras: neither axis is one of space."""
    text = (
        "sizes of samples: x is the wavelength and y the time in an image of a streak camera, and "
        "neither is a length"
    )
    return Meaning(notes=(Note("unknown", text),))


def _of_meters(x: Any, y: Any, origin: str) -> Meaning:
    """Sizes in meters; a missing height is that of a square pixel."""
    width = positive(x)
    height = positive(y) if positive(y) is not None else width
    return sized({"y": micrometers(height), "x": micrometers(width)}, origin)


def _readable(size: Quantity | None) -> Quantity | None:
    return micrometers(size.value) if size is not None and size.unit == "meter" else size
