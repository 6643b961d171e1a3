"""MetaImage files (.mha, .mhd): a text header, and samples behind it or in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import SPATIAL
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.sizes import length_unit, positive
from ngff_core.sources.volumes.directions import OPPOSITE, Directions, from_directions
from ngff_core.sources.volumes.raster import Packing, Raster, beside, info_of, open_raster, pins_of
from ngff_core.storage import ObjectStore

_MOST_HEADER = 1 << 16
_LAST = "ElementDataFile"
"""The field that ends the header."""
_REMEDY = "SimpleITK can write it as one .mha file"

# ``LONG`` has 4 bytes in MetaIO, on every machine.
_TYPES: Mapping[str, str] = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_WORLD = "LPS"
"""The sides to which ITK's world leads, in which MetaImage's directions are given."""


@dataclass(frozen=True)
class _Header:
    """The fields of a header, and its length in bytes."""

    fields: Mapping[str, str]
    length: int

    def get(self, *names: str) -> str:
        return next((self.fields[name] for name in names if name in self.fields), "")

    def is_true(self, *names: str) -> bool:
        return self.get(*names).lower() in ("true", "1")

    def numbers(self, *names: str) -> list[float]:
        return [float(part) for part in self.get(*names).split()]

    @property
    def sizes(self) -> Shape:
        """Length of each axis, fastest first, without that of the channels."""
        return tuple(int(n) for n in self.get("DimSize").split())

    @property
    def channels(self) -> int:
        return int(self.get("ElementNumberOfChannels") or 1)


def open_images(store: ObjectStore) -> SourceImages:
    """The image in the MetaImage file, or of the header, that ``store`` names.

    Raises `SourceFormatError` for a damaged header, samples as text or in several files, and
    for fewer samples than the header promises.
    """
    with as_format_error(f"{store.uri}: not a readable MetaImage header"):
        header = _read_header(store)
        image = _describe(header)
        raster = _raster(store, header, image)
    samples = open_raster(raster)
    return SourceImages(
        identity=SourceIdentity(store.uri, pins_of(store, raster.store)),
        kind="metaimage",
        format="a MetaImage file",
        images=(image,),
        open_image=lambda _: samples,
        main=0,
    )


def _read_header(store: ObjectStore) -> _Header:
    head = store.read_part("", 0, _MOST_HEADER) or b""
    fields: dict[str, str] = {}
    length = 0
    while _LAST not in fields:
        line, found, _ = head[length:].partition(b"\n")
        if not line.strip() and not found:
            raise ValueError(f"truncated: no {_LAST} in its {len(head)} bytes")
        length += len(line) + len(found)
        name, _, value = line.decode("utf-8", "replace").partition("=")
        fields[name.strip()] = value.strip()
    header = _Header(fields, length)
    if not header.sizes or min(header.sizes) < 0 or header.channels < 1:
        raise ValueError(f"DimSize {header.get('DimSize')!r}, {header.channels} channels")
    if header.get("NDims") != str(len(header.sizes)):
        raise ValueError(f"NDims {header.get('NDims')!r}, DimSize {header.get('DimSize')!r}")
    return header


def _raster(store: ObjectStore, header: _Header, image: ImageDescription) -> Raster:
    name = header.get(_LAST)
    if name.startswith("LIST") or "%" in name:
        raise SourceFormatError(
            f"{store.uri}: a MetaImage whose samples are in several files; {_REMEDY}"
        )
    if header.get("BinaryData").lower() == "false":
        raise SourceFormatError(f"{store.uri}: a MetaImage with samples as text; {_REMEDY}")
    data, begin = (store, header.length) if name.upper() == "LOCAL" else (beside(store, name), 0)
    packing: Packing = "zlib" if header.is_true("CompressedData") else "raw"
    skip, dtype = int(header.get("HeaderSize") or 0), np.dtype(image.dtype)
    raster = Raster(data, begin, image.shape, dtype, packing)
    if skip == -1 and packing == "raw":
        return replace(raster, begin=max(begin, info_of(data).size - raster.length))
    if skip < 0:
        raise ValueError(f"HeaderSize {skip}")
    if packing == "zlib":
        _check_compressed(header, begin + skip, data)
    return replace(raster, begin=begin + skip)


def _check_compressed(header: _Header, begin: int, data: ObjectStore) -> None:
    """Refuse a file that ends before its zlib stream, whose length stands in the header."""
    end, size = begin + int(header.get("CompressedDataSize") or 0), info_of(data).size
    if size < end:
        raise SourceFormatError(f"{data.uri}: truncated: {size} bytes, but its array ends at {end}")


def _describe(header: _Header) -> ImageDescription:
    axes = tuple(reversed(_names(header)))
    shape = tuple(reversed(header.sizes))
    if header.channels > 1:
        axes, shape = (*axes, "c"), (*shape, header.channels)
    found, notes = _directions(header)
    placed = found.placement
    spatial = [axis for axis in placed.scale if axis in SPATIAL]
    spelled = header.get("DistanceUnits")
    unit = length_unit("x", spelled)
    origins = {"axes": "MetaImage's order", "scale": "ElementSpacing"}
    if unit is None and spatial:
        text = "sizes are in millimeters, as ITK takes them to be: the file has no units"
        notes.append(Note("assumed", text))
    origins["units"] = "ITK's convention" if unit is None else "DistanceUnits"
    if placed.translation:
        origins["translation"] = "Offset"
    if placed.orientations:
        origins["orientations"] = "TransformMatrix and AnatomicalOrientation"
    return ImageDescription(
        name=header.get("Name") or None,
        axes=axes,
        shape=shape,
        dtype=_dtype(header).str,
        placement=replace(placed, units=dict.fromkeys(spatial, unit or "millimeter")),
        origins=origins,
        notes=(*notes, *found.notes),
        metadata=found.metadata,
    )


def _names(header: _Header) -> list[str]:
    """Name of each axis, fastest first; a fourth one may be anything."""
    names = list(reversed(SPATIAL))[: len(header.sizes)]
    return names + [UNNAMED] * (len(header.sizes) - len(names))


def _dtype(header: _Header) -> np.dtype[Any]:
    text = header.get("ElementType").removesuffix("_ARRAY")
    if text not in _TYPES:
        raise ValueError(f"samples of type {text or '(none)'} are not numbers")
    big = header.is_true("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    return np.dtype(_TYPES[text]).newbyteorder(">" if big else "<")


def _directions(header: _Header) -> tuple[Directions, list[Note]]:
    """Sizes, positions and directions, by the rows of the matrix: one for each axis."""
    count = len(header.sizes)
    sizes = [positive(n) for n in header.numbers("ElementSpacing", "ElementSize")]
    sizes += [None] * (count - len(sizes))
    numbers = header.numbers("TransformMatrix", "Rotation", "Orientation")
    rows = np.array(numbers).reshape(count, count) if numbers else np.eye(count)
    origin = header.numbers("Offset", "Position", "Origin")
    known = {
        axis: (row[:3] * size).tolist()
        for axis, row, size in zip(_names(header), rows, sizes, strict=True)
        if size is not None and axis != UNNAMED
    }
    sides, notes = _sides(header, rows)
    return from_directions(known, origin[:3] if len(origin) == count else None, sides), notes


def _sides(header: _Header, rows: Any) -> tuple[str | None, list[Note]]:
    """ITK's world, where the file says that its image is anatomical.

    MetaIO's text has ``AnatomicalOrientation`` name the sides to which the axes lead, ITK writes
    those from which they come, and reads the matrix alone. So the letters are only compared.
    """
    letters = header.get("AnatomicalOrientation").upper()
    if set(letters) <= {"?"}:
        return None, []
    to = ""
    for row in rows[:3]:
        number = int(np.abs(row[:3]).argmax())
        to += _WORLD[number] if row[number] > 0 else OPPOSITE[_WORLD[number]]
    come = "".join(OPPOSITE[letter] for letter in to)
    if letters[: len(to)] in (to, come):
        return _WORLD, []
    text = f"anatomical directions: AnatomicalOrientation {letters} contradicts the TransformMatrix"
    return None, [Note("unknown", text)]
