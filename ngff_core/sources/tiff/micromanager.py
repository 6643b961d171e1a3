"""Files of Micro-Manager: NDTiff, whose frames an ``NDTiff.index`` lists, and image stacks.

A frame of these has a position on named axes. Positions of the stage are images of their own.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError, UnlistableError
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.sources.base import as_format_error
from ngff_core.sources.tiff.axes import axis_names
from ngff_core.sources.tiff.checks import check_decodable, check_extent
from ngff_core.sources.tiff.files import TiffSource, companion_pins, look_beside
from ngff_core.sources.tiff.image import Details, Stored, TiffImage
from ngff_core.sources.tiff.ome_planes import show_files
from ngff_core.sources.tiff.ome_tiff import FoundImages
from ngff_core.sources.tiff.tifffile_compat import series_of_files
from ngff_core.sources.tiff.views import Form

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

INDEX = "NDTiff.index"
"""Name of the file that lists the frames of an NDTiff dataset."""

_NDTIFF = 2
"""Least major version of files that need an index."""

_WORDS = {"time": "t", "channel": "c", "z": "z"}
_SLOWEST_FIRST = ("t", "c", "z")
_POSITION = "position"

_PIXEL_TYPES = {0: "u1", 1: "u2", 2: "u1", 3: "u2", 4: "u2", 5: "u2", 6: "u2"}
"""dtype by the number in an index."""


@dataclass(frozen=True)
class Frame:
    """One plane of a dataset.

    Attributes
    ----------
    place
        Position on each axis, by the word of the axis: a number or a label.
    file
        Name of the file; None for the one that is read.
    offset
        Where its samples begin in the file, or its page if ``is_page``.
    size
        Height and width, where the index says so.
    """

    place: Mapping[str, int | str]
    file: str | None
    offset: int
    is_page: bool = False
    size: tuple[int, int] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Grid:
    """The frames of one image on a grid without gaps.

    Attributes
    ----------
    axes, shape
        Names of the axes before y and x, and their lengths.
    frames
        In the order of the grid.
    labels
        Of positions that have no numbers, by axis.
    """

    axes: tuple[str, ...]
    shape: Shape
    frames: tuple[Frame, ...]
    labels: Mapping[str, tuple[str, ...]]


def is_micromanager(tif: TiffFile) -> bool:
    """Whether the file has the tag that Micro-Manager writes on each page."""
    return bool(tif.is_micromanager)


def find_images(source: TiffSource) -> FoundImages:
    """The images of an NDTiff dataset, or of an image stack that has no OME-XML.

    Raises `SourceFormatError` where the frames cannot be placed: an index is missing or damaged,
    or frames are.
    """
    with as_format_error(f"{source.uri}: the metadata of Micro-Manager cannot be read"):
        metadata = source.tif.micromanager_metadata or {}
    version = metadata.get("MajorVersion", 0)
    if version >= _NDTIFF:
        return _images(source, "ndtiff", _read_index(source), frozenset((INDEX,)), metadata)
    if metadata.get("IndexMap") is None:
        raise SourceFormatError(
            f"{source.uri}: a file of Micro-Manager without the map of its frames; open the "
            "dataset in Micro-Manager or ImageJ, and save it as OME-TIFF"
        )
    return _images(source, "mmstack", _frames_of_stack(source, metadata), frozenset(), metadata)


# --- NDTiff ----------------------------------------------------------------------------


def _read_index(source: TiffSource) -> tuple[Frame, ...]:
    folder = source.store.parent()
    data = folder.read(INDEX)
    if data is None:
        raise SourceFormatError(
            f"{source.uri}: an NDTiff file, whose axes are in {INDEX}, which is not beside it; "
            "copy the folder of the dataset as a whole"
        )
    with as_format_error(f"{folder.uri}/{INDEX}: the index of {source.name} cannot be read"):
        frames = tuple(parse_index(data, source.name))
    if not any(frame.file is None for frame in frames):
        raise SourceFormatError(
            f"{source.uri}: an NDTiff file that the {INDEX} beside it does not name; it names "
            f"{show_files(sorted({str(frame.file) for frame in frames}))}"
        )
    return frames


def parse_index(data: bytes, own: str) -> Iterator[Frame]:
    """The frames that an ``NDTiff.index`` lists; ``own`` is the name of the file that is read.

    Raises ``ValueError`` for an index that is cut short, and for frames that are compressed.
    """
    at = 0
    while at < len(data):
        axes, at = _text(data, at)
        file, at = _text(data, at)
        if at + 32 > len(data):
            raise ValueError("the index is cut short")
        offset, width, height, kind, compression, *_ = struct.unpack_from("<IiiiiIii", data, at)
        at += 32
        if compression or kind not in _PIXEL_TYPES:
            raise ValueError(f"frames of pixel type {kind} and compression {compression}")
        place = {_WORDS.get(str(a).lower(), str(a).lower()): i for a, i in json.loads(axes).items()}
        name = None if file == own else file
        yield Frame(place, name, offset, False, (height, width), _PIXEL_TYPES[kind])


def _text(data: bytes, at: int) -> tuple[str, int]:
    if at + 4 > len(data):
        raise ValueError("the index is cut short")
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + length
    if end > len(data):
        raise ValueError("the index is cut short")
    return data[at + 4 : end].decode(), end


# --- image stacks ----------------------------------------------------------------------


def _frames_of_stack(source: TiffSource, metadata: Mapping[str, Any]) -> tuple[Frame, ...]:
    """Frames of this file, and those that other files have of its positions."""
    own = _frames_of_map(metadata, None)
    summary = metadata.get("Summary") or {}
    planned = math.prod(max(1, int(summary.get(k, 1))) for k in ("Frames", "Slices", "Channels"))
    positions = {frame.place[_POSITION] for frame in own}
    if len(own) >= planned * len(positions):
        return own
    more = [
        frame
        for name in _rest_of_stack(source)
        for frame in _frames_in(source, name)
        if frame.place[_POSITION] in positions
    ]
    return (*own, *more)


def _frames_of_map(metadata: Mapping[str, Any], file: str | None) -> tuple[Frame, ...]:
    rows = np.asarray(metadata["IndexMap"]).tolist()
    return tuple(
        Frame({"c": c, "z": z, "t": t, _POSITION: position}, file, offset, is_page=True)
        for c, z, t, position, offset in rows
    )


def _rest_of_stack(source: TiffSource) -> list[str]:
    """Names of the other files of the dataset. Micro-Manager begins a new one after 4 GB."""
    prefix, found, _ = source.name.partition("_MMStack")
    if not found:
        return []
    pattern = re.compile(re.escape(f"{prefix}_MMStack") + r".*\.tiff?", re.IGNORECASE)
    try:
        names = source.store.parent().folder()
    except UnlistableError:
        return []
    return [name for name in names if name != source.name and pattern.fullmatch(name)]


def _frames_in(source: TiffSource, name: str) -> tuple[Frame, ...]:
    file = source.open_beside(name)
    with as_format_error(f"{source.store.parent().uri}/{name}: cannot be read"):
        metadata = file.micromanager_metadata if file.is_micromanager else None
        found = _frames_of_map(metadata, name) if metadata and "IndexMap" in metadata else ()
    file.filehandle.close()
    return found


# --- grids -----------------------------------------------------------------------------


def _images(
    source: TiffSource,
    kind: str,
    frames: Sequence[Frame],
    companions: frozenset[str],
    metadata: Mapping[str, Any],
) -> FoundImages:
    """An image for each position of the stage."""
    files = {frame.file for frame in frames if frame.file is not None}
    infos = look_beside(source.store, frozenset(files) | companions)
    positions: dict[int | str | None, list[Frame]] = {}
    for frame in frames:
        positions.setdefault(frame.place.get(_POSITION), []).append(frame)
    several = len(positions) > 1
    images = []
    for position, part in positions.items():
        with as_format_error(f"{source.uri}: the frames of the dataset are not one array"):
            grid = make_grid(part)
        name = str(position) if isinstance(position, str) else f"Position {position}"
        images.append(_image(source, kind, grid, name if several else None, metadata))
    here = [i for i, part in enumerate(positions.values()) if any(f.file is None for f in part)]
    return FoundImages(tuple(images), here[0] if len(here) == 1 else None, companion_pins(infos))


def make_grid(frames: Iterable[Frame]) -> Grid:
    """The grid that the places of some frames form. A later frame replaces one at its place.

    Raises ``ValueError`` where axes differ, and where a place has no frame.
    """
    frames = tuple(frames)
    names = [name for name in frames[0].place if name != _POSITION]
    if any({*frame.place} - {_POSITION} != {*names} for frame in frames):
        raise ValueError("they have different axes")
    axes = tuple(
        sorted(names, key=lambda a: (_SLOWEST_FIRST.index(a) if a in _SLOWEST_FIRST else -1, a))
    )
    values = {axis: list(dict.fromkeys(frame.place[axis] for frame in frames)) for axis in axes}
    # Numbers may begin anywhere, and below zero; labels are in the order of acquisition.
    numbered = {axis for axis in axes if all(isinstance(v, int) for v in values[axis])}
    for axis in numbered:
        values[axis].sort()
        low, high = int(values[axis][0]), int(values[axis][-1])
        if high - low + 1 != len(values[axis]):
            raise ValueError(
                f"{high - low + 1 - len(values[axis])} positions on {axis} are missing"
            )
    by_place = {tuple(frame.place[axis] for axis in axes): frame for frame in frames}
    shape = tuple(len(values[axis]) for axis in axes)
    missing = math.prod(shape) - len(by_place)
    if missing:
        raise ValueError(f"{missing} of {math.prod(shape)} frames are missing")
    ordered = tuple(by_place[place] for place in product(*(values[axis] for axis in axes)))
    labels = {axis: tuple(map(str, values[axis])) for axis in axes if axis not in numbered}
    return Grid(axes, shape, ordered, labels)


def _image(
    source: TiffSource, kind: str, grid: Grid, name: str | None, metadata: Mapping[str, Any]
) -> TiffImage:
    from tifffile import TiffPageSeries

    page = source.tif.pages.first
    tail = axis_names(page.axes)
    with as_format_error(f"{source.uri}: the frames are not those of its index"):
        _check_frames(grid.frames, page)
    return TiffImage(
        form=Form((*grid.axes, *tail), (*grid.shape, *page.shape), np.dtype(page.dtype)),
        kind=kind,
        open_pages=lambda: _open(source, kind, grid),
        page=page,
        series=TiffPageSeries([page], kind=kind),
        details=Details(
            name=name,
            channels=_channels(grid, metadata),
            origins={"axes": INDEX if kind == "ndtiff" else "the index map of Micro-Manager"},
        ),
    )


def _channels(grid: Grid, metadata: Mapping[str, Any]) -> tuple[Channel, ...]:
    count = grid.shape[grid.axes.index("c")] if "c" in grid.axes else 1
    names: Any = grid.labels.get("c") or (metadata.get("Summary") or {}).get("ChNames")
    if not isinstance(names, list | tuple) or len(names) != count:
        return ()
    return tuple(Channel(name if isinstance(name, str) and name else None) for name in names)


def _check_frames(frames: Iterable[Frame], page: TiffPage) -> None:
    """Every frame has the size and type of the first page, and is stored plainly."""
    plane = (page.imagelength, page.imagewidth)
    for frame in frames:
        if frame.size not in (None, plane) or frame.dtype not in (
            None,
            np.dtype(page.dtype).str[1:],
        ):
            raise ValueError(
                f"a frame of {frame.size} {frame.dtype}, beside a page of {plane} {page.dtype}"
            )
    if not frames_are_plain(page):
        raise ValueError("the pages are compressed or in several pieces")


def frames_are_plain(page: TiffPage) -> bool:
    """Whether the samples of a page are one uncompressed piece, as an index needs it."""
    return page.compression == 1 and len(page.dataoffsets) == 1


# --- pages -----------------------------------------------------------------------------


def _open(source: TiffSource, kind: str, grid: Grid) -> Stored:
    """The frames as pages of the files that they are in."""
    names = dict.fromkeys(frame.file for frame in grid.frames)
    beside = frozenset(name for name in names if name is not None)
    missing = [name for name, info in look_beside(source.store, beside).items() if info is None]
    if missing:
        raise SourceFormatError(
            f"{source.uri}: {len(missing)} files of the dataset are missing beside it: "
            f"{show_files(missing)}"
        )
    files = {n: source.tif if n is None else source.open_beside(n) for n in names}
    first = source.tif.pages.first
    for name, file in files.items():
        found = file.pages.first
        if (found.shaped, found.dtype, found.chunks) != (first.shaped, first.dtype, first.chunks):
            raise SourceFormatError(
                f"{source.uri}: its frames are of another shape or type than those in {name}"
            )
    with as_format_error(f"{source.uri}: the frames are not those of its index"):
        finders = {name: _Pages(file) for name, file in files.items()}
        pages = [finders[f.file].find(f, number) for number, f in enumerate(grid.frames)]
    series: TiffPageSeries = series_of_files(
        pages,
        (*grid.shape, *first.shape),
        "Q" * len(grid.axes) + first.axes,
        dtype=first.dtype,
        parent=source.tif,
        kind=kind,
        multifile=len(files) > 1,
    )
    check_extent(series, source.info.size, source.uri)
    check_decodable(series, source.uri)
    for name, file in files.items():
        if name is not None:
            file.filehandle.close()
    return Stored(series, (*grid.axes, *axis_names(first.axes)))


class _Pages:
    """Finds the frames in one file."""

    def __init__(self, file: TiffFile) -> None:
        self._file = file
        self._first = file.pages.first
        self._by_offset: dict[int, TiffPage | TiffFrame] = {}

    def find(self, frame: Frame, number: int) -> TiffPage | TiffFrame:
        """The page of a frame. Raises ``ValueError`` if the file has no such page."""
        from tifffile import TiffFrame

        first = self._first
        if not frame.is_page:
            if frame.offset == first.dataoffsets[0]:
                return first
            counts = first.databytecounts
            return TiffFrame(
                self._file,
                number + 1,
                keyframe=first,
                dataoffsets=(frame.offset,),
                databytecounts=counts,
            )
        if not self._by_offset:
            self._file.pages.useframes = True
            self._file.pages.set_keyframe(0)
            self._by_offset = {page.offset: page for page in self._file.pages}
        try:
            return self._by_offset[frame.offset]
        except KeyError:
            raise ValueError(f"there is no page at {frame.offset}") from None
