"""Channels of an image as they are named and shown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ngff_core.errors import InvalidOptionError

_COLOR = re.compile("[0-9A-F]{6}")


@dataclass(frozen=True)
class Channel:
    """What a source says of one channel; None where it says nothing.

    Attributes
    ----------
    name
        As a person would call it, such as ``"DAPI"``.
    color
        Color it is shown in: six upper-case hexadecimal digits, red first (``"00FF00"``).
    window
        Samples shown as black and as full color, in the image's own numbers.

    Raises
    ------
    InvalidOptionError
        ``color`` is not six upper-case hexadecimal digits.
    """

    name: str | None = None
    color: str | None = None
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.color is not None and not _COLOR.fullmatch(self.color):
            raise InvalidOptionError(
                f"color: {self.color!r} is not six hexadecimal digits, such as 00FF00"
            )


_NAMED = {
    "red": "FF0000",
    "green": "00FF00",
    "blue": "0000FF",
    "cyan": "00FFFF",
    "magenta": "FF00FF",
    "yellow": "FFFF00",
    "orange": "FF8000",
    "purple": "8000FF",
    "white": "FFFFFF",
    "gray": "808080",
    "grey": "808080",
}


def parse_color(text: str) -> str:
    """A color as `Channel` has it, from a common name or six hexadecimal digits.

    Raises InvalidOptionError for anything else.

    >>> parse_color("Magenta"), parse_color("#00ff7f")
    ('FF00FF', '00FF7F')
    """
    word = text.strip().lower()
    color = _NAMED.get(word, word.removeprefix("#").upper())
    if not _COLOR.fullmatch(color):
        raise InvalidOptionError(
            f"channel_colors: {text!r} is neither six hexadecimal digits, such as 00FF00, nor one "
            f"of {', '.join(_NAMED)}"
        )
    return color


RGB = (Channel("red", "FF0000"), Channel("green", "00FF00"), Channel("blue", "0000FF"))
"""The samples of a color image."""
ALPHA = Channel("alpha", "FFFFFF")
"""Opacity, stored as one more channel."""
