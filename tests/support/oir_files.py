"""Writes small Olympus OIR files by hand, as far as oirfile reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

GUIDS = ("11111111-0000-0000-0000-00000000000a", "22222222-0000-0000-0000-00000000000b")


def oir_bytes(planes: np.ndarray, *, pixel: float = 0.5, parts: int = 1) -> bytes:
    """A file of planes with the axes t, z, c, y, x; each plane in ``parts`` blocks."""
    _, _, _, rows, columns = planes.shape
    blocks = [(0, _metadata(planes.shape, pixel)), (1, _frame(rows, columns, planes.itemsize))]
    for t, z, c in np.ndindex(*planes.shape[:3]):
        data = planes[t, z, c].tobytes()
        size = -(-len(data) // parts)
        for part in range(parts):
            uid = f"t{t + 1:03}z{z + 1:03}_0_1_{GUIDS[c]}_{part}".encode()
            blocks.append((3, struct.pack("<III", 0, 0, len(uid)) + uid))
            blocks.append((4, data[part * size : (part + 1) * size]))
    return _file(blocks)


def _file(blocks: Sequence[tuple[int, bytes]]) -> bytes:
    body, offsets = b"", []
    for kind, content in blocks:
        offsets.append(96 + len(body))
        body += struct.pack("<II", len(content), kind) + content
    index = struct.pack("<I", 0xFFFFFFFF) + struct.pack(f"<{len(offsets)}Q", *offsets)
    start = 96 + len(body)
    header = b"OLYMPUSRAWFORMAT" + struct.pack("<IIII", 12, 0, 1, 2)
    header += struct.pack("<QQ", start + len(index), start)
    return header.ljust(96, b"\0") + body + index


def _frame(rows: int, columns: int, depth: int) -> bytes:
    return (
        f"<?xml version='1.0'?><f><width>{columns}</width><height>{rows}</height>"
        f"<depth>{depth}</depth><bitCounts>12</bitCounts><colorType>GrayScale</colorType></f>"
    ).encode()


def _metadata(shape: Sequence[int], pixel: float) -> bytes:
    times, slices, channels = shape[:3]
    axes = "".join(
        f"<axis enable='true'><axis>{name}</axis><startPosition>0</startPosition>"
        f"<step>{step}</step><maxSize>{count}</maxSize></axis>"
        for name, step, count in (("TIMELAPSE", 2.5, times), ("ZSTACK", 1.5, slices))
    )
    named = "".join(
        f"<channel id='{GUIDS[c]}' order='{c}'><name>CH{c + 1}</name></channel>"
        for c in range(channels)
    )
    return (
        "<?xml version='1.0'?><lsmimage:image xmlns:lsmimage='urn:x'>"
        f"{named}{axes}<length><x>{pixel}</x><y>{pixel}</y></length></lsmimage:image>"
    ).encode()
