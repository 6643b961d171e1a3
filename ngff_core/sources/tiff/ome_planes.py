"""Which planes of which files the images of an OME-TIFF consist of, by its OME-XML.

What the document says of sizes, units and channels is not read here. No file is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ngff_core.geometry import Shape
from ngff_core.sources.contract import UNNAMED

_ROOT = re.compile(r"<(?:\w+:)?OME[\s>]")
_START = 8192
"""Characters from the start of a description in which OME's root element is looked for."""

_DTYPES = {
    "bit": "?",
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "float": "f4",
    "double": "f8",
    "complex": "c8",
    "double-complex": "c16",
}

_MODULO_NAMES = {"lifetime": "h", "other": UNNAMED, "": UNNAMED}
"""Names of axes inside z, c or t, where they are not those that OME writes."""

_ORDER = re.compile("XY(?:ZCT|ZTC|CTZ|CZT|TCZ|TZC)")


@dataclass(frozen=True)
class PlaneRun:
    """Planes of an image that are neighboring pages of one file.

    Attributes
    ----------
    first
        Position of the first plane on t, c and z, by letter.
    page
        Number of its page in the file.
    count
        Of planes and pages; None for all pages of the file.
    file
        Name of the file beside the document's; None for the file that is read.
    """

    first: dict[str, int]
    page: int
    count: int | None
    file: str | None


@dataclass(frozen=True)
class OmePixels:
    """The Pixels element of an image.

    Attributes
    ----------
    order
        T, Z and C, the slowest first.
    sizes
        By letter, X and Y too. C counts all samples of all channels.
    samples
        Of one pixel of a plane, by the first Channel; 1 if no channel says so.
    dtype
        Of the samples, in the byte order of this machine; None for a type that OME has not.
    inner
        Axes that OME's Modulo annotations find inside z, c or t: by letter, name and length.
    """

    order: str
    sizes: dict[str, int]
    samples: int = 1
    dtype: np.dtype[Any] | None = None
    inner: dict[str, tuple[str, int]] = field(default_factory=dict)

    def planes(self, samples: int) -> Shape:
        """Number of planes along each letter of ``order``, of pages with so many samples."""
        return tuple(self.sizes[a] // (samples if a == "C" else 1) for a in self.order)

    def outer(self, samples: int) -> tuple[tuple[str, ...], Shape]:
        """Names and lengths of the axes before y and x, those inside others included."""
        axes: list[tuple[str, int]] = []
        for letter, length in zip(self.order, self.planes(samples), strict=True):
            name, size = self.inner.get(letter, ("", 1))
            if not name or size < 1 or length % size:
                axes.append((letter.lower(), length))
            elif length == size:
                axes.append((name, size))
            else:
                axes += [(letter.lower(), length // size), (name, size)]
        return tuple(name for name, _ in axes), tuple(length for _, length in axes)


@dataclass(frozen=True)
class OmeImage:
    """One Image element of an OME-XML document.

    Attributes
    ----------
    number
        Among the Image elements of the document.
    name
        None if it has none.
    pixels
        Its axes and type.
    runs
        Where the planes are. Empty for an image that is only described.
    assumed
        Whether ``runs`` is all pages in their order, because the document says nothing.
    """

    number: int
    name: str | None
    pixels: OmePixels
    runs: tuple[PlaneRun, ...] = ()
    assumed: bool = False

    @property
    def files(self) -> frozenset[str]:
        """Names of the companions that hold planes."""
        return frozenset(run.file for run in self.runs if run.file is not None)

    @property
    def here(self) -> bool:
        """Whether the file that is read holds planes of the image."""
        return any(run.file is None for run in self.runs)


def begins_ome(description: str) -> bool:
    """Whether a TIFF's description is an OME-XML document, or the beginning of one.

    >>> begins_ome('<?xml version="1.0"?><OME xmlns="…"><Ima'), begins_ome("ImageJ=1.54p")
    (True, False)
    """
    return description.lstrip("\ufeff \t\r\n")[:1] == "<" and bool(
        _ROOT.search(description, 0, _START)
    )


def parse_document(text: str) -> Any:
    """The root element of an OME-XML document. Raises the parser's error for a broken one."""
    from defusedxml.ElementTree import fromstring

    return fromstring(text.strip("\ufeff\0 \t\r\n"))


def metadata_file(root: Any) -> tuple[str, str] | None:
    """Where the document really is, and the UUID of the file that says so; None if it is here."""
    found = next(_children(root, "BinaryOnly"), None)
    if found is None:
        return None
    return str(found.get("MetadataFile", "")), str(found.get("UUID", ""))


@dataclass(frozen=True)
class Names:
    """How a document names the file that is read, and the file that it is in.

    Attributes
    ----------
    own
        Name of the file that is read.
    own_uuid
        As the file itself says.
    document
        Name of the file that holds the document; None where that is the file that is read.
    document_uuid
        As the document says.
    """

    own: str
    own_uuid: str | None
    document: str | None = None
    document_uuid: str | None = None

    def resolve(self, uuid: str | None, name: str | None) -> str | None:
        """The file of a plane: None for the one that is read."""
        if uuid is None and name is None:
            return self.document
        if _same(uuid, self.own_uuid) or _same(name, self.own):
            return None
        if _same(uuid, self.document_uuid):
            return self.document
        return name or f"(the file {uuid})"


def _same(one: str | None, other: str | None) -> bool:
    return bool(one) and bool(other) and str(one).lower() == str(other).lower()


def images_of(root: Any, names: Names) -> tuple[OmeImage, ...]:
    """All Image elements of a document. Raises ``ValueError`` for one that makes no sense."""
    modulo = {
        annotation.get("ID", ""): dict(_modulo(annotation))
        for group in _children(root, "StructuredAnnotations")
        for annotation in group
        if str(annotation.get("Namespace", "")).endswith("modulo")
    }
    images = [_image(i, image, names, modulo) for i, image in enumerate(_children(root, "Image"))]
    if len(images) == 1 and not images[0].runs and not _only_described(root):
        # Some writers leave out where the planes are, as they are all pages in their order.
        run = PlaneRun(dict.fromkeys("TZC", 0), 0, None, names.document)
        images = [replace(images[0], runs=(run,), assumed=True)]
    return tuple(images)


def _only_described(root: Any) -> bool:
    """Whether the document says that the samples are not in pages of TIFF files."""
    return any(_tag(element) in ("MetadataOnly", "BinData") for element in root.iter())


def _image(number: int, image: Any, names: Names, modulo: dict[str, Any]) -> OmeImage:
    pixels = next(_children(image, "Pixels"), None)
    name = image.get("Name") or None
    if pixels is None:
        return OmeImage(number, name, OmePixels("TZC", dict.fromkeys("XYZCT", 1)))
    references = [ref.get("ID", "") for ref in _children(image, "AnnotationRef")]
    inner: dict[str, Any] = next((modulo[ref] for ref in references if ref in modulo), {})
    runs = tuple(_run(data, names) for data in _children(pixels, "TiffData"))
    return OmeImage(number, name, _pixels(number, pixels, inner), runs)


def _pixels(number: int, pixels: Any, inner: dict[str, tuple[str, int]]) -> OmePixels:
    order = str(pixels.get("DimensionOrder", "XYZCT")).strip()
    if not _ORDER.fullmatch(order):
        raise ValueError(f"Image {number} has the dimension order {order!r}")
    sizes = {letter: _number(pixels, f"Size{letter}", least=1) for letter in "XYZCT"}
    channels = list(_children(pixels, "Channel"))
    samples = {_number(channel, "SamplesPerPixel", 1, least=1) for channel in channels} or {1}
    if len(samples) > 1 or sizes["C"] % max(samples):
        raise ValueError(
            f"Image {number} has {sizes['C']} channels of {sorted(samples)} samples, "
            "which one array cannot hold"
        )
    kind = _DTYPES.get(str(pixels.get("Type") or pixels.get("PixelType")).strip())
    dtype = None if kind is None else np.dtype(kind)
    return OmePixels(order[:1:-1], sizes, max(samples), dtype, inner)


def _run(data: Any, names: Names) -> PlaneRun:
    uuid = next(_children(data, "UUID"), None) if len(data) else None
    text = None if uuid is None else (uuid.text or "").strip()
    file = names.resolve(text, None if uuid is None else uuid.get("FileName"))
    count = data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else None))
    return PlaneRun(
        {letter: _number(data, f"First{letter}", 0) for letter in "TZC"},
        _number(data, "IFD", 0),
        None if count is None or int(count) == 0 else int(count),
        file,
    )


def _modulo(annotation: Any) -> Iterator[tuple[str, tuple[str, int]]]:
    for along in annotation.iter():
        tag = _tag(along)
        if tag not in ("ModuloAlongZ", "ModuloAlongC", "ModuloAlongT"):
            continue
        kind = str(along.get("Type", "")).strip().lower()
        length = len(list(_children(along, "Label")))
        if "Start" in along.attrib:
            step = float(along.get("Step", 1)) or 1.0
            start, end = float(along.get("Start")), float(along.get("End", along.get("Start")))
            length = math.floor((end - start) / step + 1e-6) + 1
        yield tag[-1], (_MODULO_NAMES.get(kind, kind), length)


def _number(element: Any, name: str, default: int | None = None, least: int = 0) -> int:
    text = element.get(name, default)
    value = int(text) if text is not None else -1
    if value < least:
        raise ValueError(f"{name} of {_tag(element)} is {text!r}")
    return value


def _children(element: Any, tag: str) -> Iterator[Any]:
    # The namespace has the schema's date, which does not matter here.
    return (child for child in element if _tag(child) == tag)


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def place_planes(
    image: OmeImage, samples: int, pages: dict[str | None, int]
) -> list[tuple[str | None, int] | None]:
    """File and page of each plane, in the order of the image's planes; None for missing ones.

    ``pages`` has the number of pages of each file. What lies outside the image or a file is left
    out. Raises ``ValueError`` if so few planes are there that the document cannot be true.
    """
    shape = image.pixels.planes(samples)
    total = math.prod(shape)
    runs = [(run, _length(run, pages.get(run.file, 0))) for run in image.runs]
    there = sum(length for _, length in runs)
    if there < total:
        raise ValueError(_missing(total - there, total))
    # Strides by hand: numpy's own function takes a microsecond for each of thousands of runs.
    slow, middle, fast = tuple(image.pixels.order)
    slows, middles, fasts = shape
    placed: list[tuple[str | None, int] | None] = [None] * total
    for run, length in runs:
        at = run.first
        if at[slow] >= slows or at[middle] >= middles or at[fast] >= fasts:
            continue
        first = (at[slow] * middles + at[middle]) * fasts + at[fast]
        for i in range(min(length, total - first)):
            placed[first + i] = (run.file, run.page + i)
    missing = placed.count(None)
    if missing:
        raise ValueError(_missing(missing, total))
    return placed


def _length(run: PlaneRun, pages: int) -> int:
    available = max(0, pages - run.page)
    return available if run.count is None else min(run.count, available)


def _missing(missing: int, total: int) -> str:
    return f"{missing} of {total} planes are missing: no file has them"


def image_elements(root: Any) -> tuple[Any, ...]:
    """The Image elements of a document."""
    return tuple(_children(root, "Image"))


def show_files(names: Sequence[str]) -> str:
    """Some names in a message."""
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
