"""TIFF files by tifffile: plain, BigTIFF, OME-TIFF and ImageJ's, tiled or in strips.

Only level 0 of the first series is read. Sizes of samples come from OME and ImageJ
metadata; the resolution of any other TIFF is what a printer should do (72, 96, 300 dots
per inch, whatever the image shows), and is ignored.
"""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import AXIS_ORDER
from ngff_core.model.image import NgffImage
from ngff_core.sources.base import (
    Pins,
    Reader,
    Source,
    SourceIdentity,
    SqueezedArray,
    check_array,
    clip_unit,
    make_source,
    refusing,
    sensible_name,
)
from ngff_core.sources.zarr_nodes import open_fused
from ngff_core.storage import LocalFiles, ObjectInfo, ObjectStore

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Classic and BigTIFF, in either byte order."""

_MEANING_TAGS = frozenset((270, 282, 283))
"""ImageDescription, XResolution, YResolution: without them axes and sizes are lost."""

_log = logging.getLogger(__name__)


def open_tiff(store: ObjectStore) -> Source:
    """Level 0 of the first series of the TIFF file that ``store`` names.

    No sample is read. Raises `SourceFormatError` for a file that ends before its data
    do, a compression or a dtype that cannot be decoded, and axes that cannot be mapped.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    with ExitStack() as opened:
        tif = _open_file(store, opened)
        with refusing(f"{store.uri}: not a readable TIFF file"):
            series = _first_series(tif, store.uri)
            _check(tif, series, info.size, store.uri)
            return _source(store, info, tif, series, opened.pop_all().close)


def _open_file(store: ObjectStore, opened: ExitStack) -> TiffFile:
    from tifffile import TiffFile

    with refusing(f"{store.uri}: not a readable TIFF file"):
        if isinstance(store, LocalFiles):
            return opened.enter_context(TiffFile(store.root))
        file = opened.enter_context(store.open(""))
        # The other files of a series that spans several can be found on local disks only.
        return opened.enter_context(
            TiffFile(file, name=store.uri.rpartition("/")[2], _multifile=False)
        )


def _source(
    store: ObjectStore,
    info: ObjectInfo,
    tif: TiffFile,
    series: TiffPageSeries,
    close: Callable[[], None],
) -> Source:
    try:
        array = open_fused(series.aszarr(level=0, read_only=True), 3)
        check_array(array.shape, np.dtype(array.dtype), store.uri)
        axes = map_axes(series.axes, array.shape, store.uri)
        reader = _reader(array, axes, store.uri)
        meaning = _meaning(tif, series)
        image = NgffImage(
            data=reader,
            dims=axes.dims,
            scale={d: s for d, s in meaning.scale.items() if d in axes.dims},
            name=sensible_name(meaning.name),
            axes_units={d: u for d, u in meaning.units.items() if d in axes.dims} or None,
        )
        unit = clip_unit([array.chunks[i] for i in axes.keep], reader.shape)
        return make_source(image, _identity(store, info, series), unit, "tiff", close)
    except BaseException:
        close()
        raise


def _reader(array: Any, axes: Axes, uri: str) -> Reader:
    shape = tuple(array.shape[i] for i in axes.keep)
    data = array if len(axes.keep) == array.ndim else SqueezedArray(array, axes.keep)
    return Reader(data, uri, shape, np.dtype(array.dtype))


# --- which pages -----------------------------------------------------------------------


def _first_series(tif: TiffFile, uri: str) -> TiffPageSeries:
    found: Any = _stack_of_pages(tif) or tif.series
    if len(found) == 0:
        raise SourceFormatError(f"{uri}: a TIFF file without images")
    if len(found) > 1:
        _log.warning("%s holds %d series of images; the first one is read", uri, len(found))
    series: TiffPageSeries = found[0]
    return series


def _stack_of_pages(tif: TiffFile) -> Any:
    """The one series of a file whose pages were written one by one, each with its shape.

    tifffile takes such a file for as many series as it has pages, and the first of
    them is not what its writer meant. None where the file is not of that kind.
    """
    if not tif.is_shaped or tif.is_ome or tif.is_imagej or not tif.pages.is_multipage:
        return None
    page = tif.pages.first
    # tif.shaped_metadata would parse every page: 17 s for 10 000 of them.
    shape = _declared_shape(page.shaped_description)
    if shape is None or page.subifds or math.prod(shape) != page.size:
        return None
    for kind in ("uniform", "generic"):
        found = tif.series(kind=kind)
        if len(found) == 1 and len(found[0]) > 1:
            return found
    return None


def _declared_shape(description: str | None) -> list[int] | None:
    """The shape in the description that tifffile writes; None where there is none."""
    try:
        shape = json.loads(description or "")["shape"]
        return [int(n) for n in shape]
    except (ValueError, TypeError, KeyError):
        return None


# --- whether they can be read ----------------------------------------------------------


def _check(tif: TiffFile, series: TiffPageSeries, size: int, uri: str) -> None:
    _check_meaning(tif, size, uri)
    _check_imagej(tif, series, uri)
    if not _is_contiguous(series):
        _check_chain(tif, size, uri)
    _check_extent(series, size, uri)
    _check_decodable(series, uri)


def _is_contiguous(series: TiffPageSeries) -> bool:
    # One entry stands for all pages, which lie behind each other: no chain is followed.
    return len(series) > 1 and len(series._pages) == 1


def _check_chain(tif: TiffFile, size: int, uri: str) -> None:
    """The last page must say that it is the last: tifffile stops where the chain breaks."""
    position = tif.pages.next_page_offset
    if position is None:
        return
    width = tif.tiff.offsetsize
    tif.filehandle.seek(position)
    field = tif.filehandle.read(width)
    if len(field) < width:
        raise SourceFormatError(
            f"{uri}: truncated: {size} bytes, and its list of pages goes on at {position}"
        )
    offset = struct.unpack(tif.tiff.offsetformat, field)[0]
    if offset:
        what = "truncated" if offset >= size else "corrupted"
        raise SourceFormatError(
            f"{uri}: {what}: {size} bytes, and page {len(tif.pages)} at {offset} cannot be read"
        )


def _check_meaning(tif: TiffFile, size: int, uri: str) -> None:
    """tifffile passes over tags whose values lie past the end, and axes and sizes with them."""
    page = tif.pages.first
    tiff, file = tif.tiff, tif.filehandle
    file.seek(page.offset)
    count = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))[0]
    tags = file.read(count * tiff.tagsize)
    starts = range(0, count * tiff.tagsize, tiff.tagsize)
    codes = {struct.unpack_from(tiff.byteorder + "H", tags, start)[0] for start in starts}
    lost = sorted(code for code in codes & _MEANING_TAGS if code not in page.tags)
    if lost:
        raise SourceFormatError(f"{uri}: truncated: {size} bytes end before tags {lost}")


def _check_imagej(tif: TiffFile, series: TiffPageSeries, uri: str) -> None:
    """Where ImageJ's stack does not fit the file, tifffile gives the pages it can find."""
    declared = (tif.imagej_metadata or {}).get("images", 1)
    if series.kind == "imagej" or not isinstance(declared, int):
        return
    found = series.size // max(1, series.keyframe.size)
    if found < declared:
        raise SourceFormatError(
            f"{uri}: truncated: {found} of the {declared} images of an ImageJ stack can be read"
        )


def _check_extent(series: TiffPageSeries, size: int, uri: str) -> None:
    """Every byte the series needs must lie inside its file; nothing is decoded."""
    if series.dataoffset is not None:
        _refuse_beyond(series.dataoffset + series.nbytes, size, uri)
        return
    missing = 0
    for page in series:
        if page is None:
            missing += 1
            continue
        inside = size if page.parent is series.parent else page.parent.filehandle.size
        if not page.dataoffsets or not page.databytecounts:
            # tifffile passes over such lists too, and gives zeros for what they name.
            raise SourceFormatError(
                f"{uri}: truncated: {inside} bytes end before the list of where its data lie"
            )
        ends = map(_end, page.dataoffsets, page.databytecounts)
        _refuse_beyond(max(ends, default=0), inside, uri)
    if missing:
        raise SourceFormatError(
            f"{uri}: {missing} of {len(series)} planes are missing: they lie in other files "
            "that are not there, or were never written"
        )


def _end(offset: int, count: int) -> int:
    # A count of zero is a tile that was left out on purpose.
    return offset + count if count else 0


def _refuse_beyond(end: int, size: int, uri: str) -> None:
    if end > size:
        raise SourceFormatError(f"{uri}: truncated: {size} bytes, and its data end at {end}")


def _check_decodable(series: TiffPageSeries, uri: str) -> None:
    from tifffile import TIFF

    page = series.keyframe
    try:
        if page.compression != 1:
            TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != 1 and page.compression not in TIFF.IMAGE_COMPRESSIONS:
            TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        raise SourceFormatError(f"{uri}: cannot be decoded: {error}") from error
    if page.dtype is None:
        raise SourceFormatError(
            f"{uri}: samples of {page.bitspersample} bits and format {page.sampleformat} "
            "are not read"
        )


# --- what its axes mean ----------------------------------------------------------------


@dataclass(frozen=True)
class Axes:
    """Which axes of a TIFF series are kept, and their names in this package."""

    keep: tuple[int, ...]
    dims: tuple[str, ...]


def map_axes(letters: str, shape: Shape, uri: str) -> Axes:
    """Names for tifffile's axis letters; `SourceFormatError` for those without one.

    Samples (S) are channels. One axis of pages of unknown meaning (I, Q or another)
    is z where there is no z. Axes of length 1 that are none of t, c, z, y, x are left out.
    """
    entries = list(zip(range(len(shape)), letters, shape, strict=True))
    if "C" in letters and "S" in letters:
        entries = _one_channel_axis(entries, letters, shape, uri)
    kept = [e for e in entries if e[1] in "TCZYXS" or e[2] > 1]
    unknown = [letter for _, letter, _ in kept if letter not in "TCZYXS"]
    if len(unknown) > 1 or (unknown and "Z" in letters):
        raise SourceFormatError(
            f"{uri}: axes {letters} of shape {shape}: cannot tell what {', '.join(unknown)} "
            "mean; write the file with axes named out of T, C, Z, Y, X"
        )
    dims = tuple(_dim(letter) for _, letter, _ in kept)
    if len(set(dims)) != len(dims):
        raise SourceFormatError(f"{uri}: axes {letters} of shape {shape} name one axis twice")
    return Axes(tuple(i for i, _, _ in kept), dims)


def _one_channel_axis(
    entries: list[tuple[int, str, int]], letters: str, shape: Shape, uri: str
) -> list[tuple[int, str, int]]:
    for letter in "SC":
        if shape[letters.index(letter)] == 1:
            return [e for e in entries if e[1] != letter]
    raise SourceFormatError(
        f"{uri}: axes {letters} of shape {shape}: {shape[letters.index('C')]} channels (C) of "
        f"{shape[letters.index('S')]} samples each (S) do not fit one channel axis; "
        "split the samples into channels first"
    )


def _dim(letter: str) -> str:
    if letter == "S":
        return "c"
    return letter.lower() if letter.lower() in AXIS_ORDER else "z"


@dataclass(frozen=True)
class _Meaning:
    scale: dict[str, float]
    units: dict[str, str]
    name: object = None


def _meaning(tif: TiffFile, series: TiffPageSeries) -> _Meaning:
    if series.kind == "ome" and tif.ome_metadata:
        return _ome_meaning(tif.ome_metadata)
    if series.kind == "imagej" and tif.imagej_metadata:
        return _imagej_meaning(tif, tif.imagej_metadata)
    return _Meaning({}, {})


_OME_SIZES = {
    "t": ("TimeIncrement", "s"),
    "z": ("PhysicalSizeZ", "µm"),
    "y": ("PhysicalSizeY", "µm"),
    "x": ("PhysicalSizeX", "µm"),
}


def _ome_meaning(document: str) -> _Meaning:
    """Sizes and name of the first image; OME's default units are micrometer and second."""
    from xml.etree import ElementTree as ET

    root = ET.fromstring(document)
    image = next(_named(root, "Image"), None)
    pixels = next(_named(root, "Pixels"), None)
    if image is None or pixels is None:
        return _Meaning({}, {})
    scale, units = {}, {}
    for dim, (attribute, default) in _OME_SIZES.items():
        size = _positive(pixels.get(attribute))
        if size is None:
            continue
        scale[dim] = size
        unit = unit_name(pixels.get(f"{attribute}Unit", default))
        if unit is not None:
            units[dim] = unit
    return _Meaning(scale, units, image.get("Name"))


def _named(root: Any, tag: str) -> Iterator[Any]:
    # The namespace carries the schema's date, which says nothing here.
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == tag)


def _imagej_meaning(tif: TiffFile, metadata: dict[str, Any]) -> _Meaning:
    """ImageJ puts samples per unit in the resolution tags, and the unit in its own text."""
    tags = tif.pages.first.tags
    sizes = {
        "x": _per_unit(tags.valueof(282)),
        "y": _per_unit(tags.valueof(283)),
        "z": _positive(metadata.get("spacing")),
        "t": _positive(metadata.get("finterval")),
    }
    scale = {d: s for d, s in sizes.items() if s is not None}
    units = {}
    for dim in scale:
        key = {"t": "tunit", "y": "yunit", "z": "zunit"}.get(dim, "unit")
        default = "s" if dim == "t" else metadata.get("unit")
        unit = unit_name(metadata.get(key, default))
        if unit is not None:
            units[dim] = unit
    return _Meaning(scale, units)


def _per_unit(resolution: Any) -> float | None:
    if not isinstance(resolution, tuple) or len(resolution) != 2 or not all(resolution):
        return None
    return float(resolution[1]) / float(resolution[0])


def _positive(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 < value < float("inf") else None


_UNITS = {
    "å": "angstrom",
    "angstrom": "angstrom",
    "pm": "picometer",
    "nm": "nanometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "dm": "decimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "inch": "inch",
    "inches": "inch",
    "ft": "foot",
    "ns": "nanosecond",
    "us": "microsecond",
    "ms": "millisecond",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "d": "day",
}


def unit_name(text: object) -> str | None:
    r"""UDUNITS' name of a unit as files abbreviate it; None for one that is not known.

    >>> unit_name("µm"), unit_name("\\u00B5m"), unit_name("pixel")
    ('micrometer', 'micrometer', None)
    """
    if not isinstance(text, str):
        return None
    # The micro sign, the Greek letter, and the way ImageJ escapes it in its metadata.
    plain = text.strip().lower()
    for micro in ("\\u00b5", "\u00b5", "\u03bc"):
        plain = plain.replace(micro, "u")
    if plain in _UNITS:
        return _UNITS[plain]
    american = plain.replace("metre", "meter").removesuffix("s")
    return american if american in _UNITS.values() else None


# --- what identifies it ----------------------------------------------------------------


def _identity(store: ObjectStore, info: ObjectInfo, series: TiffPageSeries) -> SourceIdentity:
    pins: Pins = (("size", str(info.size)), ("version", info.version))
    return SourceIdentity(store.uri, tuple(sorted(pins + _other_files(store, series))))


def _other_files(store: ObjectStore, series: TiffPageSeries) -> Pins:
    """Sizes and versions of further files, where an OME-TIFF's planes lie in several."""
    if not series.is_multifile:
        return ()
    paths = {Path(p.parent.filehandle.path) for p in series if p is not None}
    found = []
    for path in sorted(paths):
        info = LocalFiles(path).info("")
        if info is not None and str(path) != store.uri:
            found.append((f"file {path.name}", f"{info.size} {info.version}"))
    return tuple(found)
