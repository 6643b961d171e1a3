"""What the header of a compressed picture claims, compared before it is decoded.

A JPEG, JPEG 2000 or JPEG XR of some hundred bytes may claim a billion pixels, and its decoder
takes memory for them before it finds that they are not there.
"""

from __future__ import annotations

import math
from collections.abc import Buffer

from ngff_core.geometry import Shape

_HEAD = 1 << 18
"""Bytes in which the header lies: color profiles and previews may stand before it."""
_J2K = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, and the marker of its size, which must follow."""
_JPEG = b"\xff\xd8"
_JPEG_XR = b"II\xbc"
_WIDTH, _HEIGHT = 0xBC80, 0xBC81
_NO_FRAME = frozenset((0xC4, 0xC8, 0xCC))
"""Markers among those of frames that are none: tables, reserved, conditioning."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - _NO_FRAME | {0xF7}
"""Start of a frame of JPEG, and of JPEG-LS."""
_ALONE = frozenset(range(0xD0, 0xDA)) | {0x01}
"""Markers without a length."""


def claimed_shape(data: Buffer) -> Shape | None:
    """Rows, columns and samples of a pixel that a JPEG, JPEG-LS or JPEG 2000 claims.

    Of a JPEG XR rows and columns.

    None for other data, and for a header that does not say.
    """
    head = bytes(memoryview(data)[:_HEAD])
    if head.startswith(_JPEG):
        return _jpeg(head)
    if head.startswith(_JPEG_XR):
        return _jpeg_xr(head)
    start = head.find(_J2K, 0, 4096)
    return None if start < 0 else _jpeg_2000(head[start + 4 : start + 44])


def check_claimed(data: Buffer, expected: int) -> None:
    """Raise ``ValueError`` where the header claims more than ``expected`` samples."""
    claimed = claimed_shape(data)
    if claimed is not None and math.prod(claimed) > expected:
        text = " x ".join(map(str, claimed))
        raise ValueError(
            f"a picture of {memoryview(data).nbytes} bytes claims {text} samples, "
            f"where {expected} are expected"
        )


def _jpeg(data: bytes) -> Shape | None:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            rows, columns = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            return rows, columns, data[at + 9]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _jpeg_xr(data: bytes) -> Shape | None:
    """By the tags of its container, which is like a TIFF file."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    found = {}
    for entry in (data[at + 2 + 12 * n : at + 14 + 12 * n] for n in range(min(count, 64))):
        size = 2 if entry[2:4] == b"\3\0" else 4
        found[int.from_bytes(entry[:2], "little")] = int.from_bytes(entry[8 : 8 + size], "little")
    return (found[_HEIGHT], found[_WIDTH]) if {_HEIGHT, _WIDTH} <= found.keys() else None


def _jpeg_2000(size: bytes) -> Shape | None:
    if len(size) < 38:
        return None
    right, bottom, left, top = (int.from_bytes(size[i : i + 4], "big") for i in (4, 8, 12, 16))
    return max(0, bottom - top), max(0, right - left), int.from_bytes(size[36:38], "big")
