"""MRC, MAP and CCP4 files (MRC2014): a header of 1024 bytes, then samples in C order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import RGB, Channel
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Placement,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.gzip_tape import GzipTape
from ngff_core.sources.sizes import positive
from ngff_core.sources.volumes.raster import Packing, Raster, info_of, open_raster, pins_of
from ngff_core.storage import ObjectStore

_HEADER_BYTES = 1024
_Order = Literal["<", ">"]

_IMOD = 1146047817
"""Stamp of files that IMOD wrote, behind which are its flags."""
_SIGNED, _ORIGIN_INVERTED = 1, 4
"""Flags of IMOD: bytes are signed; the origin has the sign that others give to it."""
_RGB_MODE = 16
_MODES: Mapping[int, str] = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2", _RGB_MODE: "u1"}
_REFUSED: Mapping[int, str] = {3: "complex numbers of two int16", 101: "4 bits for a sample"}
_STACK_OF_VOLUMES = 401
"""Space groups from here on are stacks of volumes."""
_NAMES: Mapping[int, str] = {1: "x", 2: "y", 3: "z"}

_LAYOUT = (
    ("n", "3i4", 0),
    ("mode", "i4", 12),
    ("start", "3i4", 16),
    ("m", "3i4", 28),
    ("cell", "3f4", 40),
    ("angles", "3f4", 52),
    ("map", "3i4", 64),
    ("ispg", "i4", 88),
    ("nsymbt", "i4", 92),
    ("stamp", "i4", 152),
    ("flags", "i4", 156),
    ("origin", "3f4", 196),
)
"""Name, type and offset of the fields that are used; a number stands for x, y and z."""
_FIELDS = np.dtype(
    {
        "names": [name for name, _, _ in _LAYOUT],
        "formats": [kind for _, kind, _ in _LAYOUT],
        "offsets": [offset for _, _, offset in _LAYOUT],
        "itemsize": _HEADER_BYTES,
    }
)


@dataclass(frozen=True)
class _Header:
    """The fields of a header that are used, by the format's own names.

    Attributes
    ----------
    fields
        One record of `_FIELDS`.
    order
        Byte order of header and samples.
    notes
        What was assumed.
    """

    fields: Any
    order: _Order
    notes: tuple[Note, ...] = ()

    def numbers(self, name: str) -> list[Any]:
        values: list[Any] = self.fields[name].tolist()
        return values

    def number(self, name: str) -> int:
        return int(self.fields[name])

    @property
    def columns_rows_sections(self) -> Shape:
        """Axis (1 x, 2 y, 3 z) along columns, rows and sections: fastest first."""
        found = tuple(self.numbers("map"))
        return found if any(found) else (1, 2, 3)

    @property
    def imod_flags(self) -> int:
        return self.number("flags") if self.number("stamp") == _IMOD else -1

    @property
    def dtype(self) -> np.dtype[Any]:
        mode = self.number("mode")
        if mode == 0 and self.imod_flags >= 0 and not self.imod_flags & _SIGNED:
            return np.dtype("u1")
        return np.dtype(_MODES[mode]).newbyteorder(self.order)


def open_images(store: ObjectStore) -> SourceImages:
    """The image in the MRC file that ``store`` names, which may be compressed by gzip.

    Raises `SourceFormatError` for a truncated file and for samples that cannot be read.
    """
    info = info_of(store)
    packing: Packing = "gzip" if (store.read_part("", 0, 2) or b"") == b"\x1f\x8b" else "raw"
    if packing == "gzip":
        head = bytes(GzipTape(store, info.size).read(0, _HEADER_BYTES))
    else:
        head = store.read_part("", 0, _HEADER_BYTES) or b""
    header = _parse(head, store.uri)
    image = _describe(header, store.uri)
    begin = _HEADER_BYTES + header.number("nsymbt")
    place = (0, begin) if packing == "gzip" else (begin, 0)
    raster = Raster(store, place[0], image.shape, np.dtype(image.dtype), packing, place[1])
    samples = open_raster(raster)
    return SourceImages(
        identity=SourceIdentity(store.uri, pins_of(store, store)),
        kind="mrc",
        format="an MRC file",
        images=(image,),
        open_image=lambda _: samples,
        main=0,
    )


def _parse(head: bytes, uri: str) -> _Header:
    if len(head) < _HEADER_BYTES:
        raise SourceFormatError(
            f"{uri}: truncated: {len(head)} bytes, but an MRC header has {_HEADER_BYTES}"
        )
    order = _byte_order(head)
    fields = np.frombuffer(head, _FIELDS.newbyteorder(order))[0]
    header = _Header(fields, order)
    mode, sizes = header.number("mode"), header.numbers("n")
    if mode not in _MODES:
        what = _REFUSED.get(mode, "which MRC2014 does not know")
        raise SourceFormatError(
            f"{uri}: an MRC file of mode {mode}, {what}; newstack of IMOD can write mode 1 or 2"
        )
    if min(sizes) <= 0 or header.number("nsymbt") < 0:
        raise SourceFormatError(f"{uri}: not a readable MRC header: sizes {sizes}")
    if sorted(header.columns_rows_sections) != [1, 2, 3]:
        raise SourceFormatError(
            f"{uri}: not a readable MRC header: MAPC, MAPR, MAPS are {header.numbers('map')}"
        )
    if any(header.numbers("map")):
        return header
    text = "columns, rows and sections are x, y, z: MAPC, MAPR and MAPS are 0"
    return _Header(fields, order, (Note("assumed", text),))


def _byte_order(head: bytes) -> _Order:
    """By the machine stamp, or where that is none, by which mode would be a known one."""
    if head[212] == 0x44:
        return "<"
    if head[212] == 0x11:
        return ">"
    return "<" if int.from_bytes(head[12:16], "little") < 1 << 16 else ">"


def _describe(header: _Header, uri: str) -> ImageDescription:
    names = [_NAMES[axis] for axis in reversed(header.columns_rows_sections)]
    shape = tuple(reversed(header.numbers("n")))
    group, notes = header.number("ispg"), list(header.notes)
    if group >= _STACK_OF_VOLUMES:
        names, shape = _volumes(header, names, shape, uri)
    elif names[0] == "z" and (group == 0 or shape[0] == 1):
        names[0] = UNNAMED
    elif names[0] == "z" and group == 1:
        text = f"the {shape[0]} sections are z: the file says that it is a volume (space group 1), "
        notes.append(Note("assumed", f"{text}as files of many movies and tilt series do too"))
    channels: tuple[Channel, ...] = ()
    if header.number("mode") == _RGB_MODE:
        names, shape, channels = [*names, "c"], (*shape, 3), RGB
    placement = _placement(header, names)
    angles = [a for a in header.numbers("angles") if a and abs(a - 90) > 1e-3]
    if angles:
        text = f"angles of the unit cell ({', '.join(f'{a:g}' for a in header.numbers('angles'))}"
        notes.append(Note("left out", f"{text} degrees): axes are taken to be at right angles"))
    origins = {"axes": "MAPC, MAPR, MAPS and ISPG"}
    if placement.scale:
        origins |= {"scale": "cell dimensions and MX, MY, MZ", "units": "MRC2014: angstrom"}
    if placement.translation:
        origins["translation"] = "ORIGIN" if any(header.numbers("origin")) else "NXSTART and so on"
    return ImageDescription(
        name=None,
        axes=tuple(names),
        shape=shape,
        dtype=header.dtype.str,
        placement=placement,
        channels=channels,
        origins=origins,
        notes=tuple(notes),
        metadata={"space group": group},
    )


def _volumes(header: _Header, names: list[str], shape: Shape, uri: str) -> tuple[list[str], Shape]:
    deep = int(header.numbers("m")[2])
    if deep <= 0 or shape[0] % deep:
        raise SourceFormatError(
            f"{uri}: a stack of volumes with {shape[0]} sections, but {deep} in each volume (MZ)"
        )
    return ["volume", *names], (shape[0] // deep, deep, *shape[1:])


def _placement(header: _Header, names: list[str]) -> Placement:
    """Sizes by the cell, whose axes are x, y, z whatever the order of the samples is."""
    found = {
        _NAMES[i + 1]: positive(cell / m) if m > 0 else None
        for i, (cell, m) in enumerate(zip(header.numbers("cell"), header.numbers("m"), strict=True))
    }
    scale = {axis: size for axis, size in found.items() if size is not None and axis in names}
    units = dict.fromkeys(scale, "angstrom")
    if header.number("ispg") == 0:
        # Of an image stack programs give the origin in pixels, or its middle.
        return Placement(scale, units)
    return Placement(scale, units, _translation(header, scale))


def _translation(header: _Header, scale: Mapping[str, float]) -> dict[str, float]:
    origin = header.numbers("origin")
    if any(origin):
        sign = -1 if header.imod_flags >= 0 and not header.imod_flags & _ORIGIN_INVERTED else 1
        at = {_NAMES[i + 1]: sign * value for i, value in enumerate(origin)}
    else:
        starts = zip(header.columns_rows_sections, header.numbers("start"), strict=True)
        at = {_NAMES[axis]: start * scale.get(_NAMES[axis], 0.0) for axis, start in starts}
    return {axis: v for axis, v in at.items() if v and math.isfinite(v) and axis in scale}
