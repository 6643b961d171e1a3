"""Names, colors and windows of channels from the ``omero`` block of an OME-Zarr group.

The block is display data that many writers leave incomplete. It is read value by value, and what
cannot be read is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from ngff_core.model.channels import Channel
from ngff_core.sources.contract import Note

_DIGITS = re.compile("[0-9A-F]{3}|[0-9A-F]{6}")


def read_channels(omero: Any, count: int | None) -> tuple[tuple[Channel, ...], tuple[Note, ...]]:
    """The channels of an image with ``count`` of them; None for an image without the axis c.

    Empty if nothing is known of any channel.
    """
    if omero is None:
        return (), ()
    entries = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(entries, list):
        return (), (Note("left out", "the omero block, which has no list of channels"),)
    if not entries:
        return (), ()
    if len(entries) != (count or 1):
        text = (
            f"the omero block, which has {len(entries)} channels where the image has {count or 1}"
        )
        return (), (Note("left out", text),)
    found = [_channel(entry, number) for number, entry in enumerate(entries)]
    channels = tuple(channel for channel, _ in found)
    notes = tuple(note for _, notes in found for note in notes)
    return (channels if any(channel != Channel() for channel in channels) else ()), notes


def _channel(entry: Any, number: int) -> tuple[Channel, list[Note]]:
    if not isinstance(entry, Mapping):
        return Channel(), [Note("left out", f"channel {number} of the omero block: {entry!r:.60}")]
    label = entry.get("label")
    name = label.strip() if isinstance(label, str) else None
    color, notes = _color(entry.get("color"), number)
    return Channel(name or None, color, _window(entry.get("window"))), notes


def _color(stored: Any, number: int) -> tuple[str | None, list[Note]]:
    if stored is None:
        return None, []
    digits = stored.strip().removeprefix("#").upper() if isinstance(stored, str) else ""
    if not _DIGITS.fullmatch(digits):
        text = f"the color of channel {number}, {stored!r:.60}, which is not six hexadecimal digits"
        return None, [Note("left out", text)]
    return (digits if len(digits) == 6 else "".join(2 * digit for digit in digits)), []


def _window(stored: Any) -> tuple[float, float] | None:
    """Start and end; ``min`` and ``max`` are the range of the samples, not what is shown."""
    if not isinstance(stored, Mapping):
        return None
    start, end = stored.get("start"), stored.get("end")
    if not (_is_number(start) and _is_number(end) and start < end):
        return None
    return float(start), float(end)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def completed_omero(omero: Any) -> Mapping[str, Any] | None:
    """The block with what the specification requires of each channel; None where that lacks.

    Colors are respelled, and of a window's two ranges one stands for the other.
    """
    entries = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(entries, list):
        return None
    channels = [_completed(entry, number) for number, entry in enumerate(entries)]
    if any(channel is None for channel in channels):
        return None
    return {**omero, "channels": channels}


def _completed(entry: Any, number: int) -> Mapping[str, Any] | None:
    window = entry.get("window") if isinstance(entry, Mapping) else None
    if not isinstance(window, Mapping):
        return None
    color, _ = _color(entry.get("color"), number)
    ends = {
        key: window.get(key, window.get(other))
        for key, other in (("min", "start"), ("max", "end"), ("start", "min"), ("end", "max"))
    }
    if color is None or not all(_is_number(end) for end in ends.values()):
        return None
    same = isinstance(entry["color"], str) and entry["color"].upper() == color
    return {**entry, "color": entry["color"] if same else color, "window": {**window, **ends}}
