"""Private parts of oirfile: where the planes of a file lie, so that one can be read by itself.

oirfile reads an image whole, and fills what is missing or cut off with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngff_core.geometry import Shape

if TYPE_CHECKING:
    from oirfile import OirFile


@dataclass(frozen=True)
class OirPlane:
    """One plane: its position on the axes before its last two, and its parts in the file."""

    position: Shape
    parts: tuple[tuple[int, int], ...]
    """First byte and number of bytes of each, in their order."""


def planes(file: OirFile) -> tuple[OirPlane, ...]:
    """Every plane that the file has. One lies in the file itself, none in another."""
    bases = dict(zip("TLZ", (base for base, _ in file._axis_extents), strict=True))
    channels = {guid: i for i, guid in enumerate(file._get_ordered_channel_guids())}
    found = []
    for (t, lam, z, guid), blocks in file._pixel_map.items():
        index = {"T": t - bases["T"], "L": lam - bases["L"], "Z": z - bases["Z"]}
        index["C"] = index["S"] = channels[guid]
        position = tuple(index[dim] for dim in file.dims[:-2])
        if any(number for number, _, _ in blocks):
            raise ValueError("some of its planes are in another file")
        parts = tuple((offset, length) for _, offset, length in blocks)
        found.append(OirPlane(position, parts))
    return tuple(found)
