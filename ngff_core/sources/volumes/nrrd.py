"""NRRD files: a text header, and samples behind it or beside it, fastest axis first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import SPATIAL
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Placement,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.sizes import length_unit, positive
from ngff_core.sources.volumes.directions import Directions, from_directions
from ngff_core.sources.volumes.raster import Packing, Raster, beside, info_of, open_raster, pins_of
from ngff_core.storage import ObjectStore

_MOST_HEADER = 1 << 20
_REMEDY = "unu save -f nrrd -e gzip (of Teem) can write it as one file with gzip"

_SPELLINGS = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPES = {text: dtype for dtype, texts in _SPELLINGS.items() for text in texts.split(", ")}
_PACKINGS: Mapping[str, Packing] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}

_SIDES: Mapping[str, str] = {
    **dict.fromkeys(("right-anterior-superior", "ras"), "RAS"),
    **dict.fromkeys(("left-anterior-superior", "las"), "LAS"),
    **dict.fromkeys(("left-posterior-superior", "lps"), "LPS"),
}
_COLORS: Mapping[str, tuple[Channel, ...]] = {"rgb-color": RGB, "rgba-color": (*RGB, ALPHA)}
_VALUES = (*_COLORS, "hsv-color", "xyz-color", "vector", "2-vector", "3-vector", "4-vector")
_VALUES += ("covariant-vector", "normal", "3-color", "4-color", "3-gradient", "3-normal")
"""Kinds of axes along which the values of one sample lie."""
_NO_KIND = ("", "???", "none")


@dataclass(frozen=True)
class _Header:
    """The fields of a header by name in lower case, what else it says, and its length in bytes."""

    fields: Mapping[str, str]
    pairs: Mapping[str, str]
    length: int

    def get(self, *names: str) -> str:
        return next((self.fields[name] for name in names if name in self.fields), "")

    def words(self, name: str) -> list[str]:
        """One text for each axis, which may be quoted."""
        found = re.findall(r'"([^"]*)"|(\S+)', self.get(name))
        return [quoted or plain for quoted, plain in found]

    @property
    def sizes(self) -> Shape:
        return tuple(int(n) for n in self.get("sizes").split())

    @property
    def vectors(self) -> list[list[float] | None]:
        """Direction of each axis; None for axes that are not in space."""
        return [
            _vector(text) for text in re.findall(r"\([^)]*\)|none", self.get("space directions"))
        ]


def open_images(store: ObjectStore) -> SourceImages:
    """The image in the NRRD file, or of the detached header, that ``store`` names.

    Raises `SourceFormatError` for a damaged header, an encoding that is not read, and for
    fewer samples than the header promises.
    """
    with as_format_error(f"{store.uri}: not a readable NRRD header"):
        header = _read_header(store)
        image = _describe(header)
        raster = _raster(store, header, image)
    samples = open_raster(raster)
    return SourceImages(
        identity=SourceIdentity(store.uri, pins_of(store, raster.store)),
        kind="nrrd",
        format="an NRRD file",
        images=(image,),
        open_image=lambda _: samples,
        main=0,
    )


def _read_header(store: ObjectStore) -> _Header:
    head = store.read_part("", 0, _MOST_HEADER) or b""
    end = re.search(rb"\r?\n\r?\n", head)
    if end is None and len(head) == _MOST_HEADER:
        raise ValueError(f"it does not end within {_MOST_HEADER} bytes")
    text = head[: end.start() if end else len(head)].decode("utf-8", "replace")
    fields, pairs = {}, {}
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        name, found, value = line.partition(":")
        if found and value.startswith("="):
            pairs[name.strip()] = value[1:].strip()
        elif found:
            fields[name.strip().lower()] = value.strip()
    header = _Header(fields, pairs, end.end() if end else len(head))
    count = len(header.sizes)
    if not count or min(header.sizes) < 0 or header.get("dimension") != str(count):
        raise ValueError(f"dimension {header.get('dimension')!r}, sizes {header.get('sizes')!r}")
    if end is None and not header.get("data file", "datafile"):
        raise ValueError("truncated: it has no end")
    return header


# --- samples -----------------------------------------------------------------------------


def _raster(store: ObjectStore, header: _Header, image: ImageDescription) -> Raster:
    name = header.get("data file", "datafile")
    if re.match(r"LIST\b", name) or "%" in name:
        raise SourceFormatError(
            f"{store.uri}: an NRRD whose samples are in several files; {_REMEDY}"
        )
    encoding = header.get("encoding").lower()
    if encoding not in _PACKINGS:
        raise SourceFormatError(
            f"{store.uri}: an NRRD in the encoding {encoding or '(none)'}, which is not read; "
            f"{_REMEDY}"
        )
    data, begin = (beside(store, name), 0) if name else (store, header.length)
    begin += _skipped_lines(data, begin, int(header.get("line skip", "lineskip") or 0))
    skip = int(header.get("byte skip", "byteskip") or 0)
    packing, dtype = _PACKINGS[encoding], np.dtype(image.dtype)
    if skip == -1 and packing == "raw":
        length = Raster(data, 0, image.shape, dtype).length
        return Raster(data, max(begin, info_of(data).size - length), image.shape, dtype)
    if skip < 0:
        raise ValueError(f"byte skip {skip}")
    if packing == "raw":
        return Raster(data, begin + skip, image.shape, dtype)
    return Raster(data, begin, image.shape, dtype, packing, skip)


def _skipped_lines(data: ObjectStore, begin: int, count: int) -> int:
    """Bytes of the lines that stand before the samples."""
    if count <= 0:
        return 0
    part = data.read_part("", begin, _MOST_HEADER) or b""
    lines = part.split(b"\n", count)
    if len(lines) <= count:
        raise ValueError(f"line skip {count}: fewer lines in the first {len(part)} bytes")
    return len(part) - len(lines[-1])


def _dtype(header: _Header) -> tuple[np.dtype[Any], tuple[Note, ...]]:
    text = header.get("type").lower()
    if text not in _TYPES:
        raise ValueError(f"samples of type {text or '(none)'} are not numbers")
    dtype = np.dtype(_TYPES[text])
    endian = header.get("endian").lower()
    if dtype.itemsize == 1 or endian in ("little", "big"):
        return dtype.newbyteorder(">" if endian == "big" else "<"), ()
    note = Note("assumed", "samples are little-endian: the header does not say")
    return dtype.newbyteorder("<"), (note,)


# --- meaning -----------------------------------------------------------------------------


def _describe(header: _Header) -> ImageDescription:
    dtype, notes = _dtype(header)
    kinds = [kind.lower() for kind in header.words("kinds")]
    names, assumed = _names(header, kinds)
    found = _directions(header, names)
    units, taken = _units(header, names, found)
    axes = tuple(reversed(names))
    origins = {"axes": "order of the axes" if assumed else "kinds and space directions"}
    placed = found.placement
    if placed.scale:
        origins["scale"] = "space directions" if header.get("space directions") else "spacings"
    if placed.translation:
        origins["translation"] = "space origin"
    if placed.orientations:
        origins["orientations"] = f"space {header.get('space')}"
    return ImageDescription(
        name=header.get("content") or None,
        axes=axes,
        shape=tuple(reversed(header.sizes)),
        dtype=dtype.str,
        placement=replace(placed, units=units),
        channels=_channels(header, names, kinds),
        labels="Segment0_ID" in header.pairs,
        origins=origins,
        notes=(*notes, *assumed, *taken, *found.notes, *_left_out(header)),
        metadata={**found.metadata, **({"nrrd": dict(header.pairs)} if header.pairs else {})},
    )


def _names(header: _Header, kinds: Sequence[str]) -> tuple[list[str], tuple[Note, ...]]:
    """Name of each axis, fastest first: by its kind, or because it has a direction in space."""
    count, vectors = len(header.sizes), header.vectors
    silent = not any(vectors) and all(kind in _NO_KIND for kind in kinds)
    if silent and count <= 3:
        names = list(reversed(SPATIAL))[:count]
        text = (
            f"the axes are {', '.join(names)}, fastest first: the file does not say what they are"
        )
        return names, (Note("assumed", text),)
    free = [*reversed(SPATIAL), *(["t"] if header.get("space").endswith("time") else [])]
    names = []
    for number in range(count):
        kind = kinds[number] if number < len(kinds) else ""
        in_space = number < len(vectors) and vectors[number] is not None
        if in_space or kind in ("domain", "space"):
            names.append(free.pop(0) if free else UNNAMED)
        elif kind in _NO_KIND:
            names.append(UNNAMED)
        elif kind in _VALUES:
            names.append("c")
        else:
            names.append("t" if kind == "time" else kind)
    return names, ()


def _directions(header: _Header, names: Sequence[str]) -> Directions:
    """Sizes, positions and directions; of axes that are not in space only sizes."""
    spacings = dict(zip(names, header.words("spacings"), strict=False))
    sizes = {axis: positive(text) for axis, text in spacings.items() if axis != UNNAMED}
    scale = {axis: size for axis, size in sizes.items() if size is not None}
    pairs = zip(names, header.vectors, strict=False)
    vectors = {axis: vector for axis, vector in pairs if vector is not None and axis in SPATIAL}
    if not vectors:
        return Directions(Placement(scale))
    sides = _SIDES.get(header.get("space").lower().removesuffix("-time"))
    if sides is not None and max(len(vector) for vector in vectors.values()) > len(sides):
        sides = None
    found = from_directions(vectors, _vector(header.get("space origin")), sides)
    return replace(
        found, placement=replace(found.placement, scale={**scale, **found.placement.scale})
    )


def _units(
    header: _Header, names: Sequence[str], found: Directions
) -> tuple[dict[str, str], tuple[Note, ...]]:
    """Units by axis: of the space's axes, or of the image's own."""
    space, own = header.words("space units"), header.words("units")
    texts = dict(zip(names, own, strict=False))
    for axis, number in found.along.items():
        if number < len(space):
            texts[axis] = space[number]
    if not found.along and len(set(space)) == 1:
        texts |= dict.fromkeys(
            [axis for axis in found.placement.scale if axis in SPATIAL], space[0]
        )
    units = {a: u for a in found.placement.scale if (u := length_unit(a, texts.get(a))) is not None}
    spatial = [axis for axis in found.placement.scale if axis in SPATIAL]
    if texts or not spatial or header.get("space").lower() not in _SIDES:
        return units, ()
    text = "sizes are in millimeters, as ITK and 3D Slicer take those in anatomical space to be: "
    note = Note("assumed", f"{text}the file has no units")
    return {**units, **dict.fromkeys(spatial, "millimeter")}, (note,)


def _channels(header: _Header, names: Sequence[str], kinds: Sequence[str]) -> tuple[Channel, ...]:
    if names.count("c") != 1 or names.index("c") >= len(kinds):
        return ()
    number = names.index("c")
    channels = _COLORS.get(kinds[number], ())
    return channels if len(channels) == header.sizes[number] else ()


def _left_out(header: _Header) -> list[Note]:
    names = [name for name in ("axis mins", "axismins", "measurement frame") if header.get(name)]
    return [Note("left out", f"{name}: {header.get(name)}") for name in names]


def _vector(text: str) -> list[float] | None:
    if not text.startswith("("):
        return None
    return [float(part) for part in text.strip("()").split(",")]
