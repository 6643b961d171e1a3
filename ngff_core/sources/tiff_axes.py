"""Axes of a TIFF series: tifffile's axis letters become the names of the reader contract."""

from __future__ import annotations

from ngff_core.sources.contract import UNNAMED

_LETTERS = {
    "T": "t",
    "C": "c",
    "Z": "z",
    "Y": "y",
    "X": "x",
    "S": "c",
    # tifffile's letters for pages of which it knows nothing.
    "I": UNNAMED,
    "Q": UNNAMED,
}


def axis_names(letters: str) -> tuple[str, ...]:
    """The name of each axis of a series; a letter that means something else is kept.

    >>> axis_names("IYXS"), axis_names("HYX")
    (('?', 'y', 'x', 'c'), ('h', 'y', 'x'))
    """
    return tuple(_LETTERS.get(letter, letter.lower()) for letter in letters)
