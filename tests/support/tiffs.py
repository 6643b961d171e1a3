"""TIFF files of kinds that tifffile does not write by itself: sets of OME-TIFF, Micro-Manager's."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

_TYPES = {"u1": "uint8", "u2": "uint16", "i2": "int16", "f4": "float"}


def uuid(number: int) -> str:
    """A UUID of OME's form."""
    return f"urn:uuid:00000000-0000-4000-8000-{number:012d}"


@dataclass(frozen=True)
class Plane:
    """Where a plane of an image lies: first indices, page, and the file with its UUID."""

    place: Mapping[str, int]
    page: int
    file: str | None = None
    uuid: str | None = None
    count: int | None = 1

    @property
    def xml(self) -> str:
        first = "".join(f' First{axis.upper()}="{at}"' for axis, at in self.place.items())
        count = "" if self.count is None else f' PlaneCount="{self.count}"'
        name = "" if self.file is None else f' FileName="{self.file}"'
        inner = "" if self.uuid is None else f"<UUID{name}>{self.uuid}</UUID>"
        return f'<TiffData IFD="{self.page}"{first}{count}>{inner}</TiffData>'


def ome_image(
    sizes: Mapping[str, int],
    planes: Iterable[Plane] | None,
    dtype: str = "u2",
    extra: Mapping[str, Any] | None = None,
) -> str:
    """An Image element. ``extra``: name, order, samples, attributes (of Pixels), inside."""
    more = dict(extra or {})
    size = "".join(f' Size{a.upper()}="{sizes.get(a, 1)}"' for a in "xyzct")
    samples = more.get("samples", 1)
    channels = "".join(
        f'<Channel ID="Channel:{i}" SamplesPerPixel="{samples}"/>'
        for i in range(sizes.get("c", 1) // samples)
    )
    data = "<MetadataOnly/>" if planes is None else "".join(plane.xml for plane in planes)
    name = f' Name="{more["name"]}"' if "name" in more else ""
    return (
        f'<Image ID="Image:0"{name}><Pixels ID="Pixels:0" Type="{_TYPES[dtype]}" '
        f'DimensionOrder="{more.get("order", "XYZCT")}"{size} {more.get("attributes", "")}>'
        f"{channels}{data}</Pixels>{more.get('inside', '')}</Image>"
    )


def ome_document(body: str, own: str | None = None) -> str:
    """An OME-XML document."""
    attribute = "" if own is None else f' UUID="{own}"'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_NAMESPACE}"{attribute}>{body}</OME>'
    )


def write_described(path: Path, pages: Any, description: str, **options: Any) -> None:
    """A TIFF whose first page has this description."""
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, pages, metadata=None, description=description.encode(), **options)


# --- Micro-Manager ---------------------------------------------------------------------

_TAGS = 10
_TEXT = b'{"a":1}\0'
_HEAD = 2 + 12 * _TAGS + 4 + len(_TEXT)
"""Bytes before the samples of a frame."""


def _directory(at: int, plane: Any, more: bool) -> tuple[bytes, int]:
    """An IFD at ``at`` with the samples right behind it, and where it ends."""
    height, width = plane.shape
    data = at + _HEAD
    end = data + plane.nbytes
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8 * plane.itemsize),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, data),
        (277, 3, 1, 1),
        (278, 3, 1, height),
        (279, 4, 1, plane.nbytes),
        (51123, 2, len(_TEXT), data - len(_TEXT)),
    ]
    assert len(tags) == _TAGS
    body = struct.pack("<H", _TAGS) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return body + struct.pack("<I", end if more else 0) + _TEXT + plane.tobytes(), end


def write_micromanager_stack(
    path: Path, frames: Sequence[tuple[tuple[int, int, int, int], Any]], summary: Mapping[str, Any]
) -> None:
    """An image stack; each frame has its channel, slice, time and position."""
    text = json.dumps(dict(summary)).encode()
    start = 40 + len(text)
    start += start % 2
    at, parts, offsets = start, [], []
    for number, (_, plane) in enumerate(frames):
        offsets.append(at)
        part, at = _directory(at, plane, number + 1 < len(frames))
        parts.append(part)
    rows = b"".join(
        struct.pack("<IIIII", *place, offset)
        for (place, _), offset in zip(frames, offsets, strict=True)
    )
    index = struct.pack("<II", 3453623, len(frames)) + rows
    header = struct.pack("<2sHI", b"II", 42, start)
    header += struct.pack("<IIIIIIII", 54773648, at, 0, 0, 0, 0, 2355492, len(text))
    path.write_bytes((header + text).ljust(start, b"\0") + b"".join(parts) + index)


def write_ndtiff(
    folder: Path, files: Mapping[str, Sequence[tuple[Mapping[str, Any], Any]]]
) -> None:
    """An NDTiff dataset: frames by file, each with its place on the axes, and the index."""
    index = b""
    text = json.dumps({"PixelSize_um": 1.0}).encode()
    start = 20 + 8 + len(text)
    start += start % 2
    for name, frames in files.items():
        at, parts = start, []
        for number, (place, plane) in enumerate(frames):
            axes, file = json.dumps(dict(place)).encode(), name.encode()
            data = at + _HEAD
            part, at = _directory(at, plane, number + 1 < len(frames))
            parts.append(part)
            height, width = plane.shape
            kind = 0 if plane.itemsize == 1 else 1
            index += struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(file)) + file
            index += struct.pack("<IiiiiIii", data, width, height, kind, 0, 0, 0, 0)
        header = struct.pack("<2sHI", b"II", 42, start)
        header += struct.pack("<IIIII", 483729, 3, 0, 2355492, len(text))
        (folder / name).write_bytes((header + text).ljust(start, b"\0") + b"".join(parts))
    (folder / "NDTiff.index").write_bytes(index)


def pages_of(shape: Sequence[int], seed: int = 0) -> Any:
    """Samples that differ everywhere."""
    return np.random.default_rng(seed).integers(0, 60000, tuple(shape)).astype("u2")


SET = pages_of((2, 3, 20, 30))
"""Two times and three channels: a file for each channel."""


def write_set(folder: Path, *, companion: str | None = None, **options: Any) -> list[str]:
    """Three files, each with the planes of one channel, and who describes them."""
    names = [f"c{c}.ome.tif" for c in range(3)]
    planes = [Plane({"t": t, "c": c}, t, names[c], uuid(c)) for t in range(2) for c in range(3)]
    image = ome_image({"x": 30, "y": 20, "c": 3, "t": 2}, planes, extra={"name": "cells"})
    for c, name in enumerate(names):
        text = ome_document(image, uuid(c))
        if companion is not None:
            pointer = f'<BinaryOnly MetadataFile="{companion}" UUID="{uuid(c)}"/>'
            text = (
                ome_document(pointer, uuid(c))
                if companion != name
                else ome_document(image, uuid(c))
            )
        write_described(folder / name, SET[:, c], text, **options)
    if companion is not None and companion not in names:
        (folder / companion).write_text(ome_document(image, uuid(9)), encoding="utf-8")
    return names
