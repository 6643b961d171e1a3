"""Writes small Leica files by hand: LIF, LOF and the XML of a project."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIMENSIONS = {"x": 1, "y": 2, "z": 3, "t": 4, "lambda": 5, "tile": 10}


@dataclass(frozen=True)
class LifDimension:
    """One axis: its name, its length, and origin and length in meters or seconds."""

    name: str
    count: int
    stride: int
    origin: float = 0.0
    length: float = 0.0


@dataclass(frozen=True)
class LifPicture:
    """An image of a LIF: its description, and its bytes as they are stored."""

    name: str
    dimensions: Sequence[LifDimension]
    data: bytes
    itemsize: int = 1
    channels: Sequence[tuple[int, str, int]] = ((0, "Green", 0),)
    """Tag (0 gray, 1 to 3 red, green, blue), lookup table and byte offset of each."""
    extra: str = ""
    """XML of attachments."""


def lif_bytes(pictures: Sequence[LifPicture], version: int = 2) -> bytes:
    """A LIF file."""
    children = "".join(_element(p, f"MemBlock_{i}") for i, p in enumerate(pictures))
    xml = (
        f'<LMSDataContainerHeader Version="{version}"><Element Name="file" UniqueID="u">'
        f"<Data/><Memory Size='0' MemoryBlockID='MemBlock_x'/><Children>{children}</Children>"
        "</Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    out = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text
    for i, picture in enumerate(pictures):
        name = f"MemBlock_{i}"
        out += struct.pack(
            "<IIBQBI", 0x70, 14 + 2 * len(name), 0x2A, len(picture.data), 0x2A, len(name)
        )
        out += name.encode("utf-16-le") + picture.data
    return out


def lof_bytes(picture: LifPicture) -> bytes:
    """A LOF file: one image, its XML behind its samples."""
    kind = "LMS_Object_File"
    out = struct.pack("<IIBI", 0x70, 2 * len(kind) + 5, 0x2A, len(kind)) + kind.encode("utf-16-le")
    out += struct.pack("<BIBI", 0x2A, 1, 0x2A, 0)
    out += struct.pack("<BQ", 0x2A, len(picture.data)) + picture.data
    xml = (
        f'<LMSDataContainerHeader Version="2">{_element(picture, "MemBlock_0")}'
        "</LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    return out + struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text


def write_project(folder: Path, picture: LifPicture) -> Path:
    """An XLEF that names an XLIF that names a LOF; the path of the XLEF."""
    (folder / "a.lof").write_bytes(lof_bytes(picture))
    memory = f'<Memory Size="{len(picture.data)}" MemoryBlockID="MemBlock_0"><Block File="a.lof"'
    memory += f' Offset="0" Size="{len(picture.data)}"/></Memory>'
    element = _element(picture, "MemBlock_0")
    start, end = element.index("<Memory"), element.index("</Memory>") + len("</Memory>")
    element = element[:start] + memory + element[end:]
    (folder / "a.xlif").write_text(
        f'<?xml version="1.0"?><LMSDataContainerHeader Version="2">{element}'
        "</LMSDataContainerHeader>"
    )
    (folder / "p.xlef").write_text(
        '<?xml version="1.0"?><LMSDataContainerHeader Version="2"><Element Name="p" UniqueID="v">'
        "<Data><Experiment/></Data><Children><Reference File='a.xlif' UUID='w'/></Children>"
        "</Element></LMSDataContainerHeader>"
    )
    return folder / "p.xlef"


def plain(
    name: str, axes: str, array: np.ndarray, sizes: dict[str, float] | None = None
) -> LifPicture:
    """A gray image in C order; ``axes`` are letters out of t, z, y, x."""
    strides = array.strides
    dimensions = [
        LifDimension(a, n, s, 0.0, (sizes or {}).get(a, 0.0) * (n - 1))
        for a, n, s in zip(axes, array.shape, strides, strict=True)
    ]
    return LifPicture(name, dimensions, array.tobytes(), array.itemsize)


def _element(picture: LifPicture, block: str) -> str:
    dimensions = "".join(
        f'<DimensionDescription DimID="{DIMENSIONS[d.name]}" NumberOfElements="{d.count}" '
        f'Origin="{d.origin!r}" Length="{d.length!r}" Unit="{"s" if d.name == "t" else "m"}" '
        f'BitInc="0" BytesInc="{d.stride}"/>'
        for d in picture.dimensions
    )
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="{tag}" Resolution="{8 * picture.itemsize}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" LUTName="{lut}" IsLUTInverted="0" '
        f'BytesInc="{offset}" BitInc="0"/>'
        for tag, lut, offset in picture.channels
    )
    return (
        f'<Element Name="{picture.name}" UniqueID="{block}"><Data><Image><ImageDescription>'
        f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        f"</ImageDescription>{picture.extra}</Image></Data>"
        f'<Memory Size="{len(picture.data)}" MemoryBlockID="{block}"></Memory></Element>'
    )


def write(path, *pictures):
    path.write_bytes(lif_bytes(pictures))
    return path


def colors(gap, tags=(1, 2, 3)):
    """Two slices of 4 x 5 colors, ``gap`` bytes behind each row, and their samples."""
    samples = np.arange(120, dtype="u1").reshape(2, 4, 5, 3)
    rows = np.full((2, 4, 15 + gap), 255, "u1")
    rows[..., :15] = samples.reshape(2, 4, 15)
    names = ("", "Red", "Green", "Blue")
    channels = [(tag, names[tag], i) for i, tag in enumerate(tags)]
    dimensions = [
        LifDimension("x", 5, 3),
        LifDimension("y", 4, 15 + gap),
        LifDimension("z", 2, 4 * (15 + gap)),
    ]
    order = [tags.index(tag) for tag in (1, 2, 3)]
    return LifPicture("rgb", dimensions, rows.tobytes(), 1, channels), samples[..., order]
