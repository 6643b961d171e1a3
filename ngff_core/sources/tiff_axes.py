"""Axes of a TIFF series: tifffile's axis letters become names out of t, c, z, y, x."""

from __future__ import annotations

from dataclasses import dataclass

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import AXIS_ORDER

_KNOWN = "TCZYXS"

_Entry = tuple[int, str, int]
"""Index, letter and length of an axis."""


@dataclass(frozen=True)
class Axes:
    """Which axes of a TIFF series are kept, and their names in this package."""

    keep: tuple[int, ...]
    """Indices of the kept axes, in the order of the series."""
    dims: tuple[str, ...]
    """Their names, in the same order."""


def map_axes(letters: str, shape: Shape, uri: str) -> Axes:
    """Names for the axes of a series, from tifffile's letter for each.

    Samples (S) become channels. One axis of pages of unknown meaning (I, Q or another letter)
    becomes z if there is no z. Axes of length 1 that are none of t, c, z, y, x are left out.
    Raises `SourceFormatError` for axes that cannot be named.
    """
    entries: list[_Entry] = list(zip(range(len(shape)), letters, shape, strict=True))
    if "C" in letters and "S" in letters:
        entries = _with_one_channel_axis(entries, letters, shape, uri)
    kept = [entry for entry in entries if entry[1] in _KNOWN or entry[2] > 1]
    unknown = [letter for _, letter, _ in kept if letter not in _KNOWN]
    if len(unknown) > 1 or (unknown and "Z" in letters):
        raise SourceFormatError(
            f"{uri}: axes {letters} of shape {shape}: cannot tell what {', '.join(unknown)} "
            "mean; write the file with axes named out of T, C, Z, Y, X"
        )
    dims = tuple(_dim(letter) for _, letter, _ in kept)
    if len(set(dims)) != len(dims):
        raise SourceFormatError(
            f"{uri}: axes {letters} of shape {shape} name one axis twice; "
            "write the file with axes named out of T, C, Z, Y, X, each once"
        )
    return Axes(tuple(index for index, _, _ in kept), dims)


def _with_one_channel_axis(
    entries: list[_Entry], letters: str, shape: Shape, uri: str
) -> list[_Entry]:
    """The axes without S or C, whichever has length 1; an error if neither has."""
    for letter in "SC":
        if shape[letters.index(letter)] == 1:
            return [entry for entry in entries if entry[1] != letter]
    raise SourceFormatError(
        f"{uri}: axes {letters} of shape {shape}: {shape[letters.index('C')]} channels (C) of "
        f"{shape[letters.index('S')]} samples each (S) do not fit one channel axis; "
        "write the samples as separate channels"
    )


def _dim(letter: str) -> str:
    if letter == "S":
        return "c"
    return letter.lower() if letter.lower() in AXIS_ORDER else "z"
