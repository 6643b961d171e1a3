"""Sizes, units, origin and channels of ImageJ's TIFF files, by ImageJ's own rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.model.channels import Channel
from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.meaning import (
    Meaning,
    channel_counts,
    hex_color,
    join,
    placed,
    sized,
    text_or_none,
    with_channels,
)
from ngff_core.sources.tiff.resolution import (
    CENTIMETER,
    INCH,
    is_printed,
    resolution,
    resolution_unit,
    stated_resolution,
)
from ngff_core.sources.units import Quantity, duration, finite, is_no_unit, length, positive

if TYPE_CHECKING:
    from tifffile import TiffPage, TiffPageSeries

_ORIGIN = "ImageJ"
_NUMBERED = re.compile(r"c:\d+/\d+(?: [zt]:\d+/\d+)*(?: - (.*))?", re.DOTALL)
_DOTS_PER_INCH = 72
_MICROMETERS_PER_CENTIMETER = 10_000
_TIME_LETTERS = frozenset("TIQ")
"""tifffile's letters of axes that may be time."""


@dataclass(frozen=True)
class _File:
    """One ImageJ file: its text as pairs, its first page, and tifffile's view of it."""

    text: Mapping[str, Any]
    page: TiffPage
    series: TiffPageSeries

    def number(self, key: str) -> float:
        """A number of the text; 0, ImageJ's "none", where it has none."""
        return finite(self.text.get(key)) or 0.0

    def unit(self, axis: str) -> Any:
        """The unit along an axis; x's where the axis has none of its own."""
        own = self.text.get(f"{axis}unit")
        return self.text.get("unit") if is_no_unit(own) else own


def imagej_meaning(text: Mapping[str, Any], page: TiffPage, series: TiffPageSeries) -> Meaning:
    """What an ImageJ file means; ``text`` is tifffile's ``imagej_metadata``."""
    file = _File(text, page, series)
    meaning = _with_origin(_sizes(file), file)
    meaning = with_channels(meaning, _channels(file), channel_counts(series)[0], _ORIGIN)
    name = text_or_none(text.get("name"))
    if name is not None:
        meaning = replace(meaning, name=name, origins={**meaning.origins, "name": _ORIGIN})
    return replace(meaning, notes=(*meaning.notes, *_calibration_of_values(text)))


# --- sizes -----------------------------------------------------------------------------


def _sizes(file: _File) -> Meaning:
    if "unit" in file.text and is_no_unit(file.text["unit"]):
        return join(_time(file), Meaning(notes=_spacing_of_pixels(file)))
    plane = _plane(file)
    if not plane:
        # Without ImageJ's unit the tags are those of any TIFF.
        depth = {} if is_no_unit(file.unit("z")) else {"z": _spacing(file)}
        return join(stated_resolution(file.page), sized(depth, _ORIGIN), _time(file))
    return join(sized({"z": _spacing(file), **plane}, _ORIGIN), _time(file))


def _plane(file: _File) -> dict[str, Quantity | None]:
    """Sizes along y and x: the resolution tags count pixels per unit of ImageJ's text."""
    found, unit = resolution(file.page), resolution_unit(file.page)
    if found is None:
        return {}
    if unit == INCH and all(is_printed(r, INCH) and round(r) == _DOTS_PER_INCH for r in found):
        return {}
    if is_no_unit(file.unit("x")) and (unit in (INCH, CENTIMETER) or _is_counting(file, found)):
        return {}
    # Centimeters although the text says micrometers: ImageJ converts.
    factor = 1
    if unit == CENTIMETER and file.text.get("unit") == "um":
        factor = _MICROMETERS_PER_CENTIMETER
    x, y = (factor / r for r in found)
    return {"y": length(y, file.unit("y")), "x": length(x, file.unit("x"))}


def _is_counting(file: _File, found: tuple[float, float]) -> bool:
    """Whether sizes without a unit are all 1: the number of a writer that knows none."""
    return found == (1.0, 1.0) and abs(file.number("spacing")) in (0.0, 1.0)


def _spacing(file: _File) -> Quantity | None:
    # ImageJ takes a negative distance for one between slices in reverse order.
    return length(abs(file.number("spacing")), file.unit("z"))


def _spacing_of_pixels(file: _File) -> tuple[Note, ...]:
    spacing = abs(file.number("spacing"))
    if spacing in (0.0, 1.0):
        return ()
    text = (
        f"ImageJ's distance between slices, {spacing:g} pixels: the image has no unit of length; "
        "scale (--scale z=…) gives it"
    )
    return (Note("left out", text),)


def _time(file: _File) -> Meaning:
    if not _TIME_LETTERS & set(file.series.axes):
        return Meaning()
    interval = positive(file.text.get("finterval"))
    if interval is not None:
        unit = file.text.get("tunit")
        return sized({"t": duration(interval, "s" if is_no_unit(unit) else unit)}, _ORIGIN)
    rate = positive(file.text.get("fps"))
    if rate is None:
        return Meaning()
    text = (
        f"the time between frames is one of ImageJ's {rate:g} frames per second, which may be "
        "the speed of playback; scale (--scale t=…) says otherwise"
    )
    found = sized({"t": Quantity(1 / rate, "second")}, f"{_ORIGIN} (fps)")
    return replace(found, notes=(Note("assumed", text),))


def _with_origin(meaning: Meaning, file: _File) -> Meaning:
    """The position of sample 0: ImageJ's coordinate of sample p is (p - origin) * size."""
    origins = {axis: file.number(f"{axis}origin") for axis in "zyx"}
    origins = {axis: origin for axis, origin in origins.items() if origin != 0}
    notes: tuple[Note, ...] = ()
    if file.text.get("inverty") is True:
        origins.pop("y", None)
        notes = (Note("left out", "ImageJ's direction of y, which grows upwards in this image"),)
    scale, units = meaning.placement.scale, meaning.placement.units
    positions = {
        axis: Quantity(-origin * scale.get(axis, 1.0), units.get(axis))
        for axis, origin in origins.items()
    }
    meaning = placed(meaning, positions, f"{_ORIGIN} (origin)") if positions else meaning
    return replace(meaning, notes=(*meaning.notes, *notes))


def _calibration_of_values(text: Mapping[str, Any]) -> tuple[Note, ...]:
    coefficients = [text[f"c{i}"] for i in range(5) if f"c{i}" in text]
    if "cf" not in text or not coefficients:
        return ()
    shown = ", ".join(str(c) for c in coefficients)
    unit = text_or_none(text.get("vunit"))
    return (
        Note(
            "left out",
            f"ImageJ's calibration of sample values (function {text['cf']}: {shown}"
            f"{f', {unit}' if unit else ''}): the samples are as stored",
        ),
    )


# --- channels --------------------------------------------------------------------------


def _channels(file: _File) -> tuple[Channel, ...]:
    count, samples = channel_counts(file.series)
    if samples != 1:
        return ()
    names = _names(file.text.get("Labels"), count, file.series)
    colors = _colors(file.text.get("LUTs"), count)
    windows = _windows(file, count)
    return tuple(map(Channel, names, colors, windows))


def _names(labels: Any, count: int, series: TiffPageSeries) -> Sequence[str | None]:
    """Labels of slices, where there is one for each channel and nothing else is stacked."""
    planes = sum(1 for axis in series.axes if axis not in "YX")
    if count > 1 and planes == 1 and isinstance(labels, Sequence) and len(labels) == count:
        return _without_numbers([text_or_none(label) for label in labels])
    return [None] * count


def _without_numbers(names: list[str | None]) -> Sequence[str | None]:
    """Without the number and the image's title, which ImageJ puts in a label by itself.

    >>> _without_numbers(["c:1/2 - a.tif", "c:2/2 - a.tif"]), _without_numbers(["DAPI", "GFP"])
    ([None, None], ['DAPI', 'GFP'])
    """
    found = [_NUMBERED.fullmatch(name or "") for name in names]
    rests = [match.group(1) or "" for match in found if match is not None]
    if len(rests) < len(names):
        return names
    return [None] * len(names) if len(set(rests)) == 1 else [text_or_none(rest) for rest in rests]


def _colors(tables: Any, count: int) -> Sequence[str | None]:
    tables = [tables] if isinstance(tables, np.ndarray) else tables
    if not isinstance(tables, list) or len(tables) != count:
        return [None] * count
    return [ramp_color(table) for table in tables]


def ramp_color(table: Any) -> str | None:
    """The color of a table of 3 rows (red, green, blue) that rises evenly from black.

    None for grey, and for a table of many colors, which no single one stands for.
    """
    table = np.asarray(table)
    if table.ndim != 2 or table.shape[0] != 3 or table.shape[1] < 2:
        return None
    last = table[:, -1].astype(float)
    ramp = last[:, None] * np.linspace(0, 1, table.shape[1])
    limit = float(np.iinfo(table.dtype).max) if table.dtype.kind in "iu" else 1.0
    if np.abs(table - ramp).max() > 0.02 * limit:
        return None
    red, green, blue = (round(255 * value / limit) for value in last)
    return hex_color(red, green, blue)


def _windows(file: _File, count: int) -> Sequence[tuple[float, float] | None]:
    ranges = file.text.get("Ranges")
    if isinstance(ranges, Sequence) and len(ranges) == 2 * count:
        pairs = [(finite(ranges[2 * i]), finite(ranges[2 * i + 1])) for i in range(count)]
        return [(low, high) if _spans(low, high) else None for low, high in pairs]  # type: ignore[misc]
    low, high = finite(file.text.get("min")), finite(file.text.get("max"))
    if count == 1 and low is not None and high is not None and low < high:
        return [(low, high)]
    return [None] * count


def _spans(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low < high
