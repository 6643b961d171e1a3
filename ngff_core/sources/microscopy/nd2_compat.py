"""A private part of nd2: where the frames of a file lie.

nd2 gives zeros, without a word, for a frame that the file does not have or that is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nd2 import ND2File

_FRAME = b"ImageDataSeq|"
_HEADER = 24 + 4072
"""Bytes between a frame's chunk and its samples."""


def frame_places(file: ND2File) -> dict[int, tuple[int, int]]:
    """First byte of the samples, and end of the chunk, of each frame that the file has."""
    return {
        int(key[len(_FRAME) : -1]): (int(offset) + _HEADER, int(offset) + int(size))
        for key, (offset, size) in file._rdr.chunkmap.items()  # type: ignore[attr-defined]
        if key.startswith(_FRAME)
    }
