"""The block ``omero``: how viewers name, color and show the channels of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.model.display import Window

Windows = tuple[Window | None, ...]
"""A measured window for each channel, None for one without a finite sample; empty where nothing
was measured."""

_ONE = ("FFFFFF",)
_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF", "FFFFFF")
"""Colors for channels without one of their own, in turn; pairs of them stay distinguishable for
color-blind eyes."""

_MOST_ACTIVE = 6
"""Channels that are switched on at first: viewers draw no more of them at once, and a sum of more
colors is white."""


def omero_block(
    channels: Sequence[Channel],
    dtype: np.dtype[Any],
    z_planes: int = 1,
    windows: Windows = (),
) -> Mapping[str, Any]:
    """The block for an image with these channels, of which nothing need be known but how many.

    Every channel has all fields, since readers refuse blocks that lack some. ``z_planes`` is
    the number of planes, whose middle one viewers show first. ``windows`` are those measured, one
    for each channel or none at all.
    """
    measured = windows or (None,) * len(channels)
    shown = [
        _channel(index, channel, len(channels), _window(channel, dtype, found))
        for index, (channel, found) in enumerate(zip(channels, measured, strict=True))
    ]
    if is_rgb(channels, dtype):
        # Opacity is no light: drawn as a channel, it would cover the picture.
        for opacity in shown[len(RGB) :]:
            opacity["active"] = False
    model = "color" if len(channels) > 1 else "greyscale"
    return {
        "channels": shown,
        "rdefs": {"defaultT": 0, "defaultZ": z_planes // 2, "model": model},
    }


def is_rgb(channels: Sequence[Channel], dtype: np.dtype[Any]) -> bool:
    """Whether these are the samples of a color image, with or without opacity.

    Such an image is shown in its dtype's full range, as it was made: windows of its channels
    would change its colors.
    """
    found = tuple(channels)
    return found in (RGB, (*RGB, ALPHA)) and dtype.kind == "u" and dtype.itemsize <= 2


def _channel(index: int, channel: Channel, count: int, window: Window) -> dict[str, Any]:
    colors = _ONE if count == 1 else _COLORS
    return {
        "label": channel.name or f"Channel {index}",
        "color": channel.color or colors[index % len(colors)],
        "active": index < _MOST_ACTIVE,
        "coefficient": 1,
        "family": "linear",
        "inverted": False,
        "window": {
            "min": window.low,
            "max": window.high,
            "start": window.start,
            "end": window.end,
        },
    }


def _window(channel: Channel, dtype: np.dtype[Any], measured: Window | None) -> Window:
    """That of the source, with the extremes that were measured; else that measured."""
    found = measured or _whole_range(dtype)
    start, end = channel.window or (0.0, 0.0)
    if start >= end:
        return found
    return Window(min(found.low, start), max(found.high, end), start, end)


def _whole_range(dtype: np.dtype[Any]) -> Window:
    low, high = 0.0, 1.0
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = float(info.min), float(info.max)
    return Window(low, high, low, high)
