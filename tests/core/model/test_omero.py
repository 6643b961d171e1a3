"""The block omero: every channel has all fields, and pictures open in a window that shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ome_zarr_models.common.omero import Omero

from ngff_core.errors import InvalidOptionError
from ngff_core.model.channels import ALPHA, RGB, Channel, parse_color
from ngff_core.model.display import Window
from ngff_core.model.omero import is_rgb, omero_block

UINT8, UINT16, FLOAT = np.dtype("u1"), np.dtype("u2"), np.dtype("f4")
FIELDS = {"label", "color", "active", "coefficient", "family", "inverted", "window"}


def windows(block: Any) -> list[tuple[float, ...]]:
    """Of each channel: min, start, end, max."""
    names = ("min", "start", "end", "max")
    return [tuple(c["window"][name] for name in names) for c in block["channels"]]


def test_channels_of_which_nothing_is_known_have_names_and_colors() -> None:
    """One is white, several differ."""
    (only,) = omero_block([Channel()], UINT16)["channels"]
    assert (only["label"], only["color"]) == ("Channel 0", "FFFFFF")
    block = omero_block([Channel()] * 3, UINT16, z_planes=9)
    assert [c["label"] for c in block["channels"]] == ["Channel 0", "Channel 1", "Channel 2"]
    assert [c["color"] for c in block["channels"]] == ["00FF00", "FF00FF", "00FFFF"]
    assert all(c.keys() == FIELDS for c in block["channels"])
    assert block["rdefs"] == {"defaultT": 0, "defaultZ": 4, "model": "color"}
    assert omero_block([Channel()], UINT16)["rdefs"]["model"] == "greyscale"
    Omero.model_validate(block)


def test_windows_are_those_measured_unless_the_source_gives_one() -> None:
    """Its own may reach beyond the samples, and one without a width is none."""
    channels = [Channel(), Channel(window=(5, 3000)), Channel(window=(7, 7))]
    measured = (Window(1.0, 90.0, 2.0, 80.0),) * 3
    assert windows(omero_block(channels, UINT16, windows=measured)) == [
        (1, 2, 80, 90),
        (1, 5, 3000, 3000),
        (1, 2, 80, 90),
    ]


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("u2", 0, 65535), ("i1", -128, 127), ("f4", 0, 1), ("?", 0, 1)]
)
def test_without_samples_the_window_is_the_dtypes_range(dtype: str, low: int, high: int) -> None:
    for given in ((), (None,)):
        block = omero_block([Channel()], np.dtype(dtype), windows=given)
        assert windows(block) == [(low, low, high, high)]


def test_color_images_are_shown_in_their_full_range() -> None:
    """Opacity is not drawn as light."""
    block = omero_block([*RGB, ALPHA], UINT8)
    assert set(windows(block)) == {(0, 0, 255, 255)}
    assert [c["active"] for c in block["channels"]] == [True, True, True, False]
    assert [is_rgb(RGB, d) for d in (UINT8, UINT16, FLOAT)] == [True, True, False]
    assert not is_rgb(RGB[::-1], UINT8)
    assert not is_rgb((*RGB, Channel()), UINT8)


def test_of_many_channels_the_first_are_active() -> None:
    active = [c["active"] for c in omero_block([Channel()] * 9, UINT8)["channels"]]
    assert active == [True] * 6 + [False] * 3


def test_colors_are_names_or_hexadecimal_digits() -> None:
    assert [parse_color(c) for c in ("RED", " grey ", "#00ff00", "12AB9F")] == [
        "FF0000",
        "808080",
        "00FF00",
        "12AB9F",
    ]
    for wrong in ("", "0F0", "reddish", "GGGGGG", "#"):
        with pytest.raises(InvalidOptionError, match=f"channel_colors: {wrong!r} is neither"):
            parse_color(wrong)
