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


RGB = (Channel("red", "FF0000"), Channel("green", "00FF00"), Channel("blue", "0000FF"))
"""The samples of a color image."""
ALPHA = Channel("alpha", "FFFFFF")
"""Opacity, stored as one more channel."""
