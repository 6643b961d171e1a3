"""What the metadata of a TIFF mean: sizes, units, position, times, channels and name.

The writer decides how: see ``tiff_ome``, ``tiff_imagej``, ``tiff_vendors`` (slides and
instruments) and ``tiff_resolution`` (all others).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.imagej import imagej_meaning
from ngff_core.sources.tiff.meaning import (
    Meaning,
    TaggedImage,
    join,
    sized,
)
from ngff_core.sources.tiff.ome import ome_meaning
from ngff_core.sources.tiff.ome_xml import parse_ome
from ngff_core.sources.tiff.resolution import (
    NO_UNIT,
    is_too_coarse,
    resolution,
    resolution_unit,
    stated_resolution,
)
from ngff_core.sources.tiff.vendors import vendor_meaning
from ngff_core.sources.units import duration, is_no_unit, length, positive, unit_name

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

_MICROSCOPIC = frozenset({"millimeter", "micrometer", "nanometer", "angstrom", "picometer"})
"""Units in which a program that calls tifffile gives the size of a sample."""

__all__ = ["Meaning", "read_meaning", "unit_name"]


def first_ome_image(tif: TiffFile) -> int | None:
    """Number of the first OME Image with samples; None for files that are not OME."""
    if not tif.ome_metadata:
        return None
    images = parse_ome(tif.ome_metadata).images
    stored = [i for i, image in enumerate(images) if image.pixels.tiff_data]
    stored += [i for i, image in enumerate(images) if not image.pixels.metadata_only]
    return stored[0] if stored else None


def read_meaning(tif: TiffFile, series: TiffPageSeries, ome_image: int | None) -> Meaning:
    """What the metadata say of the image in ``series``.

    ``ome_image`` is the number of the OME Image that the samples belong to; None for a file, or
    an image, that OME-XML does not describe. The colors of a page's samples and its palette are
    not looked at.
    """
    image = TaggedImage(tif, series, series.keyframe)
    if ome_image is not None and tif.ome_metadata:
        return ome_meaning(parse_ome(tif.ome_metadata).images[ome_image], image.channels)
    meaning = vendor_meaning(image)
    if meaning is not None:
        return meaning
    if image.page.is_imagej and tif.imagej_metadata:
        return imagej_meaning(tif.imagej_metadata, image.page, series)
    if image.page.is_shaped:
        return _shaped_meaning(image.page)
    return stated_resolution(image.page)


# --- tifffile's own JSON ---------------------------------------------------------------


def _shaped_meaning(page: TiffPage) -> Meaning:
    """Sizes in the metadata that were given to tifffile: those of ImageJ's or of OME's names."""
    text = _json(page)
    unit = text.get("unit")
    sizes = {axis: _ome_named(text, axis) for axis in "zyx"}
    time = positive(text.get("TimeIncrement"))
    sizes["t"] = duration(time, text.get("TimeIncrementUnit", "s"))
    if not is_no_unit(unit):
        sizes["z"] = sizes["z"] or length(text.get("spacing"), text.get("zunit", unit))
        sizes.update({axis: sizes[axis] or size for axis, size in _plane(page, unit).items()})
    interval = positive(text.get("finterval"))
    sizes["t"] = sizes["t"] or duration(interval, text.get("tunit", "s"))
    meaning = sized(sizes, "tifffile's description")
    if {"y", "x"} & set(meaning.placement.scale):
        return meaning
    stated = stated_resolution(page)
    return join(
        meaning, stated if stated.placement.scale else _in_described_unit(page, unit, stated)
    )


def _in_described_unit(page: TiffPage, unit: Any, stated: Meaning) -> Meaning:
    """Sizes in the unit of the description, where the tags say inch only by tifffile's default.

    The description's unit is taken where inches would make pixels that no microscope has.
    """
    found = resolution(page)
    if found is None or found == (1.0, 1.0):
        return stated
    if not is_too_coarse(page) or unit_name(unit) not in _MICROSCOPIC:
        return stated
    x, y = found
    sizes = {"y": length(1 / y, unit), "x": length(1 / x, unit)}
    text = (
        f"the resolution tags count samples per {unit_name(unit)}, the unit of the description: "
        "per inch or centimeter, as they say themselves, a sample would be of more than "
        "100 micrometer"
    )
    meaning = sized(sizes, "XResolution tag, tifffile's description")
    return join(meaning, Meaning(notes=(Note("assumed", text),)))


def _json(page: TiffPage) -> dict[str, Any]:
    import json

    try:
        found = json.loads(page.shaped_description or "")
    except ValueError:
        # An older tifffile wrote the shape only.
        return {}
    return found if isinstance(found, dict) else {}


def _ome_named(text: Mapping[str, Any], axis: str) -> Any:
    name = f"PhysicalSize{axis.upper()}"
    return length(positive(text.get(name)), text.get(f"{name}Unit", "µm"))


def _plane(page: TiffPage, unit: Any) -> dict[str, Any]:
    """Sizes by resolution tags without a unit of their own, which count pixels per ``unit``."""
    found = resolution(page)
    if found is None or resolution_unit(page) not in (None, NO_UNIT) or found == (1.0, 1.0):
        return {}
    x, y = found
    return {"y": length(1 / y, unit), "x": length(1 / x, unit)}
