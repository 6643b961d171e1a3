"""The block ``omero``: how viewers name and color the channels of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ngff_core.errors import InvalidOptionError
from ngff_core.model.channels import Channel

_ONE = ("FFFFFF",)
_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
"""Colors for channels without one of their own, in turn; pairs of them stay distinguishable for
color-blind eyes."""


def omero_block(
    channels: Sequence[Channel], dtype: np.dtype[Any], z_planes: int = 1
) -> Mapping[str, Any] | None:
    """The block for an image with these channels; None if nothing is known of them.

    Every channel has all fields, since readers refuse blocks that lack some. ``z_planes`` is
    the number of planes, whose middle one viewers show first.
    """
    if not channels:
        return None
    shown = [
        _channel(index, channel, len(channels), dtype) for index, channel in enumerate(channels)
    ]
    return {
        "channels": shown,
        "rdefs": {"defaultT": 0, "defaultZ": z_planes // 2, "model": "color"},
    }


def omero_channels(block: Any) -> tuple[Channel, ...]:
    """What a block says of each channel; nothing where it is no valid block.

    >>> omero_channels({"channels": [{"label": "DAPI", "color": "0000ff"}]})
    (Channel(name='DAPI', color='0000FF', window=None),)
    """
    entries = block.get("channels") if isinstance(block, Mapping) else None
    if not isinstance(entries, list):
        return ()
    return tuple(_read(entry if isinstance(entry, Mapping) else {}) for entry in entries)


def _read(entry: Mapping[str, Any]) -> Channel:
    label, color, window = entry.get("label"), entry.get("color"), entry.get("window")
    window = window if isinstance(window, Mapping) else {}
    start, end = _number(window.get("start")), _number(window.get("end"))
    channel = Channel(
        label if isinstance(label, str) and label else None,
        window=None if start is None or end is None else (start, end),
    )
    try:
        return replace(channel, color=color.upper() if isinstance(color, str) else None)
    except InvalidOptionError:
        return channel


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if good else None


def _channel(index: int, channel: Channel, count: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    colors = _ONE if count == 1 else _COLORS
    low, high = _range(dtype)
    start, end = channel.window or (low, high)
    return {
        "label": channel.name or f"Channel {index}",
        "color": channel.color or colors[index % len(colors)],
        "active": True,
        "coefficient": 1,
        "family": "linear",
        "inverted": False,
        "window": {"min": min(low, start), "max": max(high, end), "start": start, "end": end},
    }


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return 0.0, 1.0
