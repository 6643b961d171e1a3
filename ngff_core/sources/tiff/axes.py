"""Axes of a TIFF series: tifffile's axis letters become the names of the reader contract."""

from __future__ import annotations

from ngff_core.sources.contract import UNNAMED

SAMPLES = "samples"
"""The samples of a pixel (colors, alpha), until they have become channels."""

_LETTERS = {
    "T": "t",
    "C": "c",
    "Z": "z",
    "Y": "y",
    "X": "x",
    "S": SAMPLES,
    # What is none of these has the name that tifffile documents for its letter.
    "A": "angle",
    "E": "lambda",
    "H": "h",
    "J": "column",
    "K": "row",
    "L": "exposure",
    "M": "mosaic",
    "P": "phase",
    "R": "tile",
    "V": "event",
    # Letters for pages of which tifffile knows nothing.
    "I": UNNAMED,
    "Q": UNNAMED,
}

_OF_KIND = {
    "lsm": {"P": "position"},
    "mmstack": {"R": "position"},
    # Pages of a scanning electron microscope are its detectors.
    "sem": {"I": "detector"},
}


def axis_names(letters: str, kind: str = "") -> tuple[str, ...]:
    """The name of each axis of a series of a ``kind``; `SAMPLES` for the samples of a pixel.

    >>> axis_names("IYXS"), axis_names("HYX"), axis_names("PYX", "lsm")
    (('?', 'y', 'x', 'samples'), ('h', 'y', 'x'), ('position', 'y', 'x'))
    """
    special = _OF_KIND.get(kind, {})
    return tuple(
        special.get(letter) or _LETTERS.get(letter) or letter.lower() or UNNAMED
        for letter in letters
    )
