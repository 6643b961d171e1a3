"""What the metadata of a TIFF's image mean, and helpers to say it for every kind of writer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.contract import Note, Placement
from ngff_core.sources.units import Quantity, convert

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries


@dataclass(frozen=True)
class Meaning:
    """Sizes, position, channels and name of a TIFF's image, as its metadata have them.

    Attributes
    ----------
    name
        None if the image has none.
    placement
        Axes without a known value are left out.
    channels
        One for each position on the axis ``c``; empty if nothing is known of them.
    origins
        Where each value was found, see `ImageDescription`.
    notes
        What was assumed, converted, left out or could not be known.
    metadata
        JSON values worth keeping.
    """

    name: str | None = None
    placement: Placement = field(default_factory=Placement)
    channels: tuple[Channel, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaggedImage:
    """An image in a TIFF file: the file, the series of its pages, and the first of these."""

    tif: TiffFile
    series: TiffPageSeries
    page: TiffPage

    @property
    def channels(self) -> int:
        """Length of the axis c, in which the samples of a pixel are channels too."""
        return math.prod(channel_counts(self.series))


def sized(sizes: Mapping[str, Quantity | None], origin: str) -> Meaning:
    """The sizes by axis that are positive; zero, negative and absent ones are unknown."""
    known = {axis: q for axis, q in sizes.items() if q is not None and q.value > 0}
    if not known:
        return Meaning()
    units = {axis: q.unit for axis, q in known.items() if q.unit is not None}
    origins = {"scale": origin, "units": origin} if units else {"scale": origin}
    return Meaning(
        placement=Placement({axis: q.value for axis, q in known.items()}, units),
        origins=origins,
        notes=(*_conversions(known), *_unknown_units(known)),
    )


def _conversions(known: Mapping[str, Quantity]) -> Sequence[Note]:
    changed: dict[str, list[str]] = {}
    for axis, size in known.items():
        if size.converted:
            changed.setdefault(f"{size.given} to {size.unit}", []).append(axis)
    return [
        Note("converted", f"the size of a sample along {', '.join(axes)} from {how}")
        for how, axes in changed.items()
    ]


def _unknown_units(known: Mapping[str, Quantity]) -> Sequence[Note]:
    lost: dict[str, list[str]] = {}
    for axis, size in known.items():
        if size.unit is None:
            lost.setdefault(size.given, []).append(axis)
    return [
        Note(
            "unknown",
            f"the unit of the sizes along {', '.join(axes)}: the file has "
            f"{repr(given) if given else 'none'}; units (--units {axes[-1]}=…) gives it",
        )
        for given, axes in lost.items()
    ]


def join(*parts: Meaning) -> Meaning:
    """Sizes along different axes together, with their notes."""
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    origins: dict[str, str] = {}
    for part in reversed(parts):
        scale.update(part.placement.scale)
        units.update(part.placement.units)
        origins.update(part.origins)
    return Meaning(
        placement=Placement(scale, units),
        origins=origins,
        notes=tuple(note for part in parts for note in part.notes),
    )


def placed(meaning: Meaning, positions: Mapping[str, Quantity], origin: str) -> Meaning:
    """``meaning`` with the positions of the first sample, in the units of the sizes.

    A position along an axis whose size or unit is unknown cannot be written, which is noted.
    """
    units = meaning.placement.units
    moved = {
        axis: convert(q.value, q.unit, units[axis])
        for axis, q in positions.items()
        if q.unit is not None and axis in units and _same_kind(q.unit, units[axis])
    }
    lost = [axis for axis, q in positions.items() if axis not in moved and q.value != 0]
    notes = meaning.notes
    if lost:
        shown = ", ".join(f"{axis} {positions[axis].value:g}" for axis in lost)
        text = f"the position of the image ({shown}): the size of a sample there is unknown"
        notes += (Note("left out", text),)
    if not moved:
        return replace(meaning, notes=notes)
    return replace(
        meaning,
        placement=replace(meaning.placement, translation=moved),
        origins={**meaning.origins, "translation": origin},
        notes=notes,
    )


def _same_kind(one: str, other: str) -> bool:
    try:
        convert(1.0, one, other)
    except KeyError:
        return False
    return True


# --- channels --------------------------------------------------------------------------


def channel_counts(series: TiffPageSeries) -> tuple[int, int]:
    """Channels of a series, and samples for each pixel of a channel."""
    lengths = dict(zip(series.axes, series.shape, strict=True))
    return int(lengths.get("C", 1)), int(lengths.get("S", 1))


UNFIT = "names of channels"
"""How a note begins that leaves out names for another number of channels."""


def with_channels(
    meaning: Meaning, channels: Sequence[Channel], count: int, origin: str
) -> Meaning:
    """``meaning`` with ``channels``, if they are ``count``: one for each position on the axis c.

    Else they are left out, which is noted where they have names.
    """
    if not any(channel != Channel() for channel in channels):
        return meaning
    if len(channels) == count:
        origins = {**meaning.origins, "channels": origin}
        return replace(meaning, channels=tuple(channels), origins=origins)
    names = [channel.name for channel in channels if channel.name is not None]
    if not names:
        return meaning
    text = (
        f"{UNFIT} ({', '.join(names)}): {len(channels)} for {count} channels; "
        "channel_names (--channel-names) gives them"
    )
    return replace(meaning, notes=(*meaning.notes, Note("left out", text)))


def color_samples(name: str | None, count: int) -> tuple[Channel, ...]:
    """The samples of a channel of colors, the channel's name before theirs.

    >>> [channel.name for channel in color_samples("dye", 3)]
    ['dye red', 'dye green', 'dye blue']
    """
    known = (*RGB, ALPHA)[:count] if count in (3, 4) else (Channel(),) * count
    before = f"{name} " if name else ""
    return tuple(
        replace(sample, name=f"{before}{sample.name or number}")
        for number, sample in enumerate(known)
    )


def filled(known: Sequence[Channel], more: Sequence[Channel]) -> tuple[Channel, ...]:
    """``known`` channels, with what only ``more`` says of them.

    >>> filled([Channel("DAPI")], [Channel("blue", "0000FF")])
    (Channel(name='DAPI', color='0000FF', window=None),)
    """
    if len(known) != len(more):
        return tuple(known or more)
    return tuple(
        Channel(a.name or b.name, a.color or b.color, a.window or b.window)
        for a, b in zip(known, more, strict=True)
    )


def hex_color(red: int, green: int, blue: int) -> str | None:
    """RRGGBB; None for grey, which is no color to show a channel in.

    >>> hex_color(0, 255, 0), hex_color(255, 255, 255)
    ('00FF00', None)
    """
    if red == green == blue:
        return None
    return f"{red:02X}{green:02X}{blue:02X}"


def text_or_none(value: object) -> str | None:
    """``value`` if it is text that is not blank, without spaces around it."""
    text = value.strip("\0 \t\r\n") if isinstance(value, str) else ""
    return text or None


def parse_xml(document: str) -> Any:
    """The root element of a document; its entities are refused, not expanded."""
    from defusedxml import ElementTree

    return ElementTree.fromstring(document.strip("\0 \t\r\n"))
