"""Sizes, times and channels of light microscopes' TIFF files, and of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ngff_core.model.channels import Channel
from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.meaning import (
    Meaning,
    TaggedImage,
    hex_color,
    parse_xml,
    placed,
    sized,
    text_or_none,
    with_channels,
)
from ngff_core.sources.units import (
    Quantity,
    duration,
    finite,
    length,
    micrometers,
    positive,
)

if TYPE_CHECKING:
    from tifffile import TiffFile

_MICROMANAGER = 51123
_STEADY = 1e-3
"""Largest relative difference between steps that are one size."""


# --- Zeiss, Olympus, MetaMorph ---------------------------------------------------------


def lsm(image: TaggedImage) -> Meaning:
    """Zeiss LSM: meters and seconds; names and colors of channels."""
    found = image.tif.lsm_metadata or {}
    sizes = {axis: micrometers(positive(found.get(f"VoxelSize{axis.upper()}"))) for axis in "zyx"}
    sizes["t"] = duration(positive(found.get("TimeIntervall")), "s")
    meaning = sized(sizes, "LSM tag")
    colors = found.get("ChannelColors", {})
    names = colors.get("ColorNames", ())
    channels = [
        Channel(text_or_none(name), hex_color(*rgb[:3]))
        for name, rgb in zip(names, colors.get("Colors", ()), strict=False)
    ]
    return with_channels(meaning, channels, image.channels, "LSM tag")


def fluoview(image: TaggedImage) -> Meaning:
    """Olympus FluoView: each dimension with its resolution and unit."""
    sizes: dict[str, Quantity | None] = {}
    for name, _count, _origin, size, unit in (image.tif.fluoview_metadata or {}).get(
        "Dimensions", ()
    ):
        axis = {"TIME": "t"}.get(name.upper(), name.lower())
        if axis in "zyx":
            sizes[axis] = length(size, unit)
        elif axis == "t":
            sizes[axis] = duration(size, unit)
    known = {axis: q for axis, q in sizes.items() if q is not None and q.unit is not None}
    return sized(known, "FluoView tag")


def stk(image: TaggedImage) -> Meaning:
    """MetaMorph: a calibration of x and y that may be off, and each plane's distance in z."""
    found = image.tif.stk_metadata or {}
    unit = found.get("CalibrationUnits", "")
    known: dict[str, Quantity | None] = {}
    if found.get("SpatialCalibration", 1):
        known = _lengths({axis: (found.get(f"{axis.upper()}Calibration"), unit) for axis in "yx"})
    distance = _steady(found.get("ZDistance", ()))
    if "x" in known and distance is not None:
        known["z"] = length(distance, unit)
    return sized(known, "MetaMorph's calibration")


def _steady(distances: Any) -> float | None:
    """The distance between planes, where it is the same for all; the first plane may have 0."""
    values = [abs(float(value)) for value in distances]
    values = values[1:] if len(values) > 1 and values[0] == 0 else values
    if not values or min(values) <= 0 or max(values) - min(values) > _STEADY * max(values):
        return None
    return values[0]


def metaseries(image: TaggedImage) -> Meaning:
    """MetaMorph's single files: a calibration that may be off, and the name of the light."""
    root = parse_xml(image.tif.pages.first.description)
    plane = {prop.get("id"): prop.get("value") for info in root.iter("PlaneInfo") for prop in info}
    if str(plane.get("spatial-calibration-state", "on")).lower() in ("off", "false", "0"):
        return Meaning()
    unit = plane.get("spatial-calibration-units")
    meaning = sized(
        _lengths({axis: (plane.get(f"spatial-calibration-{axis}"), unit) for axis in "yx"}),
        "MetaSeries' calibration",
    )
    name = text_or_none(plane.get("_IllumSetting_"))
    return with_channels(meaning, [Channel(name)], image.channels, "MetaSeries' illumination")


def _lengths(found: Mapping[str, tuple[Any, Any]]) -> dict[str, Quantity | None]:
    """Numbers with units by axis, without those in no unit of length."""
    lengths = {axis: length(value, unit) for axis, (value, unit) in found.items()}
    return {axis: q for axis, q in lengths.items() if q is not None and q.unit is not None}


# --- Micro-Manager, ScanImage ----------------------------------------------------------


def micromanager(image: TaggedImage) -> Meaning:
    """Micro-Manager: the page's own values, and the acquisition's summary."""
    plane = image.page.tags.valueof(_MICROMANAGER)
    plane = plane if isinstance(plane, Mapping) else {}
    summary = _summary(image.tif)
    pixel = positive(_either(plane.get("PixelSizeUm"), summary.get("PixelSize_um")))
    sizes = {
        "t": duration(positive(summary.get("Interval_ms")), "ms"),
        "z": length(positive(_magnitude(summary.get("z-step_um"))), "um"),
        "y": length(pixel, "um"),
        "x": length(pixel, "um"),
    }
    meaning = sized(sizes, "Micro-Manager")
    if pixel == 1:
        text = (
            "the size of a sample is exactly 1 micrometer, which is what Micro-Manager writes "
            "where no size was configured; scale (--scale) says otherwise"
        )
        meaning = replace(meaning, notes=(*meaning.notes, Note("assumed", text)))
    meaning = _at_stage(meaning, plane)
    return with_channels(meaning, _micromanager_channels(summary), image.channels, "Micro-Manager")


def _summary(tif: TiffFile) -> Mapping[str, Any]:
    """The acquisition's summary; empty where the file has none, or one that cannot be read."""
    found = (tif.micromanager_metadata or {}).get("Summary", {})
    return found if isinstance(found, Mapping) else {}


def _either(one: Any, other: Any) -> Any:
    return one if positive(one) is not None else other


def _magnitude(value: Any) -> float | None:
    number = finite(value)
    return None if number is None else abs(number)


def _at_stage(meaning: Meaning, plane: Mapping[str, Any]) -> Meaning:
    found = {axis: length(plane.get(f"{axis.upper()}PositionUm"), "um") for axis in "zyx"}
    positions = {axis: q for axis, q in found.items() if q is not None}
    if not any(q.value for q in positions.values()):
        return meaning
    meaning = placed(meaning, positions, "Micro-Manager (stage)")
    moved = meaning.placement.translation
    if not moved:
        return meaning
    text = (
        f"the first sample lies at the stage's position ({', '.join(sorted(moved))}) of the first "
        "plane, which may be that of the field's centre"
    )
    return replace(meaning, notes=(*meaning.notes, Note("assumed", text)))


def _micromanager_channels(summary: Mapping[str, Any]) -> Sequence[Channel]:
    names = summary.get("ChNames", ())
    colors = summary.get("ChColors", ())
    if not isinstance(names, Sequence) or isinstance(names, str):
        return ()
    if not isinstance(colors, Sequence) or len(colors) != len(names):
        colors = [None] * len(names)
    return [
        Channel(text_or_none(name), _packed_color(color))
        for name, color in zip(names, colors, strict=True)
    ]


def _packed_color(color: Any) -> str | None:
    """A color as Java packs it: opacity, red, green and blue in one number with a sign."""
    if not isinstance(color, int):
        return None
    return hex_color(color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF)


def scanimage(image: TaggedImage) -> Meaning:
    """ScanImage: micrometers of the field of view, where all of it is one image."""
    frame = (image.tif.scanimage_metadata or {}).get("FrameData", {})
    if not frame or frame.get("SI.hRoiManager.mroiEnable"):
        return Meaning()
    corners = frame.get("SI.hRoiManager.imagingFovUm")
    pixels = (frame.get("SI.hRoiManager.linesPerFrame"), frame.get("SI.hRoiManager.pixelsPerLine"))
    if not corners or pixels != (image.page.imagelength, image.page.imagewidth):
        return Meaning()
    spans = {axis: _span(corners, i) for i, axis in enumerate("xy")}
    sizes = {
        "y": length(spans["y"] / image.page.imagelength, "um"),
        "x": length(spans["x"] / image.page.imagewidth, "um"),
    }
    return sized(sizes, "ScanImage's field of view")


def _span(corners: Sequence[Sequence[float]], axis: int) -> float:
    values = [float(corner[axis]) for corner in corners]
    return max(values) - min(values)


# --- maps ------------------------------------------------------------------------------

_GEOGRAPHIC = 2
_PIXEL_IS_POINT = 2
_NUMBERS_OF_TIEPOINT = 6
_GEO_PLACES = ("ModelPixelScale", "ModelTiepoint", "ModelTransformation")
_LINEAR_UNITS = {9001: "m", 9002: "ft"}
"""GeoTIFF's codes of units of length; others have names that OME-NGFF has not."""


@dataclass(frozen=True)
class _Grid:
    """How samples lie on a map: their sizes, and the corner of the first where it is known."""

    width: float
    height: float
    corner: tuple[float, float] | None


def geotiff(image: TaggedImage) -> Meaning:
    """GeoTIFF: meters of the map's projection; degrees are no length."""
    found = image.page.geotiff_tags or {}
    kept = {key: found[key] for key in _GEO_PLACES if key in found}
    if not kept:
        return Meaning()
    metadata = {"geotiff": kept}
    grid = _grid(found)
    unit = _LINEAR_UNITS.get(int(found.get("ProjLinearUnitsGeoKey", 0)))
    if grid is None:
        return _unknown_map("it lies on the map by control points, or turned", metadata)
    lengths = f"the map has {grid.width:g} x {grid.height:g}"
    if int(found.get("GTModelTypeGeoKey", 0)) == _GEOGRAPHIC:
        return _unknown_map(f"{lengths} degrees, which are no length", metadata)
    if unit is None:
        return _unknown_map(f"{lengths} in a unit that is not known", metadata)
    sizes = {"y": length(grid.height, unit), "x": length(grid.width, unit)}
    meaning = replace(sized(sizes, "GeoTIFF"), metadata=metadata)
    is_point = int(found.get("GTRasterTypeGeoKey", 1)) == _PIXEL_IS_POINT
    return _on_map(meaning, grid, unit, 0.0 if is_point else 0.5)


def _unknown_map(why: str, metadata: Mapping[str, Any]) -> Meaning:
    text = f"the size of a sample: {why}"
    return Meaning(notes=(Note("unknown", text),), metadata=metadata)


def _grid(found: Mapping[str, Any]) -> _Grid | None:
    """Rows from north to south and columns from west to east; None for any other map."""
    matrix = found.get("ModelTransformation")
    if matrix is not None:
        (width, turn, _, east), (other, down, _, north) = matrix[:2]
        plain = turn == other == 0 and width > 0 > down
        return _Grid(width, -down, (east, north)) if plain else None
    scale, tie = found.get("ModelPixelScale"), found.get("ModelTiepoint")
    if scale is None or not all(positive(size) for size in scale[:2]):
        return None
    width, height = (float(size) for size in scale[:2])
    if tie is None or len(tie) != _NUMBERS_OF_TIEPOINT:
        return _Grid(width, height, None)
    column, row, _, east, north, _ = (float(value) for value in tie)
    return _Grid(width, height, (east - column * width, north + row * height))


def _on_map(meaning: Meaning, grid: _Grid, unit: str, centre: float) -> Meaning:
    """The centre of the first sample; y counts to the south, as rows do, and northings do not."""
    if grid.corner is None:
        return meaning
    east, north = grid.corner
    x = length(east + centre * grid.width, unit)
    y = length(-(north - centre * grid.height), unit)
    positions = {axis: q for axis, q in (("y", y), ("x", x)) if q is not None}
    meaning = placed(meaning, positions, "GeoTIFF")
    text = (
        "positions along y are southings, the map's northings with the other sign, as rows run "
        "from north to south"
    )
    return replace(meaning, notes=(*meaning.notes, Note("converted", text)))
