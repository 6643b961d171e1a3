"""Whole slide images in DICOM: the tiles of one instance as one image.

Tiles that fill the slide (TILED_FULL) come in the order of the standard: columns, rows, focal
planes, optical paths. Others say where they lie (TILED_SPARSE).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import ceil_div
from ngff_core.model.channels import RGB, Channel
from ngff_core.sources.contract import ImageDescription, Note, Placement, Role
from ngff_core.sources.dicom.arrays import TileArray
from ngff_core.sources.dicom.frames import Frames
from ngff_core.sources.dicom.headers import Instance

_MOST_TILES = 1 << 26
_ROLES: dict[str, Role] = {
    "LABEL": "slide label",
    "OVERVIEW": "overview",
    "THUMBNAIL": "thumbnail",
}
_UNIT = "millimeter"


@dataclass(frozen=True)
class Slide:
    """The image that one instance is."""

    image: ImageDescription
    array: TileArray


@dataclass(frozen=True)
class _Grid:
    """Tiles of an instance: its paths or segments, focal planes, rows and columns of tiles."""

    table: np.ndarray[Any, Any]
    depths: tuple[float, ...] | None
    notes: tuple[Note, ...] = ()


def is_slide(instance: Instance) -> bool:
    """Whether the frames are tiles of a larger image."""
    return bool(instance.get("TotalPixelMatrixRows") and instance.get("TotalPixelMatrixColumns"))


def describe_slide(instance: Instance) -> Slide:
    """The image; no tile is read. Raises `SourceFormatError` for tiles that fit no grid."""
    frames = Frames.of(instance)
    grid = _full(instance, frames) or _sparse(instance, frames)
    table, axes = _named(instance, grid.table, color=len(frames.shape) == 3)
    rows, columns = (
        instance.count("TotalPixelMatrixRows"),
        instance.count("TotalPixelMatrixColumns"),
    )
    array = TileArray(frames, table, rows, columns, _empty(frames))
    image = ImageDescription(
        name=_text(instance.get("SeriesDescription")),
        axes=axes,
        shape=array.shape,
        dtype=array.dtype.str,
        placement=_placement(instance, grid.depths),
        channels=_channels(instance, axes, array.shape),
        role=_role(instance),
        labels=_is_labels(instance),
        origins=dict.fromkeys(("scale", "translation"), "Pixel Measures, Total Pixel Matrix"),
        notes=(*frames.notes, *grid.notes),
    )
    return Slide(image, array)


def main_slide(images: Sequence[ImageDescription]) -> int | None:
    """The number of the only slide at full resolution; None where there are several or none."""
    numbers = [i for i, image in enumerate(images) if image.role == "image"]
    return numbers[0] if len(numbers) == 1 else None


def _role(instance: Instance) -> Role:
    """By the third value of Image Type; a volume that was resampled is a level of the pyramid."""
    kind = [str(value) for value in instance.get("ImageType") or ()]
    flavor = kind[2] if len(kind) > 2 else "VOLUME"
    if flavor == "VOLUME" and "RESAMPLED" in kind[3:]:
        return "preview"
    return _ROLES.get(flavor, "image")


# --- tiles -----------------------------------------------------------------------------


def _counts(instance: Instance, frames: Frames) -> tuple[int, int]:
    """Rows and columns of tiles."""
    rows = ceil_div(instance.count("TotalPixelMatrixRows"), frames.shape[0])
    columns = ceil_div(instance.count("TotalPixelMatrixColumns"), frames.shape[1])
    if rows * columns > _MOST_TILES:
        raise SourceFormatError(f"{instance.store.uri}: {rows} x {columns} tiles are too many")
    return rows, columns


def _full(instance: Instance, frames: Frames) -> _Grid | None:
    """The tiles by their order; None where they say themselves where they lie."""
    kind = str(instance.get("DimensionOrganizationType", ""))
    rows, columns = _counts(instance, frames)
    if kind != "TILED_FULL" and instance.get("PerFrameFunctionalGroupsSequence"):
        return None
    planes = instance.count("TotalPixelMatrixFocalPlanes", 1) or 1
    paths = instance.frames // (planes * rows * columns)
    if paths * planes * rows * columns != instance.frames or paths == 0:
        raise SourceFormatError(
            f"{instance.store.uri}: {instance.frames} tiles do not fill {rows} x {columns} of them"
            f"{f' in {planes} focal planes' if planes > 1 else ''}"
        )
    notes: tuple[Note, ...] = ()
    if kind != "TILED_FULL":
        text = f"the {instance.frames} tiles lie row by row: the file does not say how they lie"
        notes = (Note("assumed", text),)
    table = np.arange(instance.frames).reshape(paths, planes, rows, columns)
    return _Grid(table, None, notes)


@dataclass(frozen=True)
class _Tile:
    path: str
    depth: float
    row: int
    column: int


def _sparse(instance: Instance, frames: Frames) -> _Grid:
    """The tiles by their own positions."""
    tiles = list(_positions(instance, frames))
    paths = list(dict.fromkeys(tile.path for tile in tiles))
    depths = sorted({tile.depth for tile in tiles})
    rows, columns = _counts(instance, frames)
    table = np.full((len(paths), len(depths), rows, columns), -1)
    for number, tile in enumerate(tiles):
        at = (paths.index(tile.path), depths.index(tile.depth), tile.row, tile.column)
        if not (0 <= tile.row < rows and 0 <= tile.column < columns) or table[at] >= 0:
            raise SourceFormatError(
                f"{instance.store.uri}: the tile {number} lies outside the slide or on another one"
            )
        table[at] = number
    absent = int((table < 0).sum())
    notes: tuple[Note, ...] = ()
    if absent:
        text = f"{absent} of {table.size} tiles that the file leaves out are read as empty"
        notes = (Note("assumed", text),)
    return _Grid(table, tuple(depths), notes)


def _positions(instance: Instance, frames: Frames) -> Iterator[_Tile]:
    groups = instance.get("PerFrameFunctionalGroupsSequence")
    if len(groups) < instance.frames:
        raise SourceFormatError(
            f"{instance.store.uri}: {len(groups)} positions of {instance.frames} tiles"
        )
    for group in groups[: instance.frames]:
        found = group.get("PlanePositionSlideSequence")
        if not found:
            raise SourceFormatError(f"{instance.store.uri}: tiles without positions")
        at = found[0]
        y = int(at.RowPositionInTotalImagePixelMatrix) - 1
        x = int(at.ColumnPositionInTotalImagePixelMatrix) - 1
        row, column = divmod(y, frames.shape[0]), divmod(x, frames.shape[1])
        if row[1] or column[1]:
            raise SourceFormatError(
                f"{instance.store.uri}: a tile begins at row {y}, column {x}, between the tiles of "
                f"a grid of {frames.shape[0]} x {frames.shape[1]}"
            )
        # Micrometers: of the rounded text of an offset that is repeated with each tile.
        depth = round(float(at.get("ZOffsetInSlideCoordinateSystem") or 0), 4)
        yield _Tile(_path(group), depth, row[0], column[0])


def _path(group: Any) -> str:
    for sequence, keyword in (
        ("OpticalPathIdentificationSequence", "OpticalPathIdentifier"),
        ("SegmentIdentificationSequence", "ReferencedSegmentNumber"),
    ):
        if group.get(sequence):
            return str(group.get(sequence)[0].get(keyword))
    return ""


def _named(
    instance: Instance, table: np.ndarray[Any, Any], color: bool
) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """Without axes of length 1, and the names of those that are left."""
    path = "segment" if _is_labels(instance) else "path" if color else "c"
    leading = [(axis, name) for axis, name in enumerate((path, "z")) if table.shape[axis] > 1]
    dropped = tuple(axis for axis in (0, 1) if table.shape[axis] == 1)
    names = tuple(name for _, name in leading)
    return table.squeeze(axis=dropped), (*names, "y", "x", *(("c",) if color else ()))


def _empty(frames: Frames) -> int:
    """What a tile that is not there looks like: white in color, as the background of a slide."""
    if len(frames.shape) == 3 and frames.dtype.kind == "u":
        return int(np.iinfo(frames.dtype).max)
    return 0


# --- meaning ---------------------------------------------------------------------------


def _is_labels(instance: Instance) -> bool:
    return str(instance.get("Modality", "")) == "SEG"


def _channels(
    instance: Instance, axes: tuple[str, ...], shape: tuple[int, ...]
) -> tuple[Channel, ...]:
    if axes[-1] == "c":
        return RGB
    paths = instance.get("OpticalPathSequence") or ()
    count = shape[axes.index("c")] if "c" in axes else 1
    if len(paths) != count:
        return ()
    return tuple(
        Channel(
            _text(path.get("OpticalPathDescription")) or _text(path.get("OpticalPathIdentifier"))
        )
        for path in paths
    )


def _placement(instance: Instance, depths: tuple[float, ...] | None) -> Placement:
    shared = _first(instance.get("SharedFunctionalGroupsSequence"))
    measures = _first(shared.get("PixelMeasuresSequence")) if shared is not None else None
    spacing = measures.get("PixelSpacing") if measures is not None else instance.get("PixelSpacing")
    scale = _sizes(spacing)
    if depths is not None and len(depths) > 1:
        # The offsets of focal planes are in micrometers, everything else is in millimeters.
        steps = np.diff(depths) / 1000
        if steps.max() - steps.min() <= 0.02 * steps.max():
            scale["z"] = float(f"{steps.mean():.7g}")
    elif measures is not None and instance.count("TotalPixelMatrixFocalPlanes", 1) > 1:
        between = float(measures.get("SpacingBetweenSlices") or 0)
        if between > 0:
            scale["z"] = between
    return Placement(scale, dict.fromkeys(scale, _UNIT), _origin(instance, scale))


def _sizes(spacing: Any) -> dict[str, float]:
    """Of rows (y) and columns (x), in this order in the file."""
    values = [float(n) for n in spacing or ()]
    if len(values) != 2 or not all(math.isfinite(n) and n > 0 for n in values):
        return {}
    return {"y": values[0], "x": values[1]}


def _origin(instance: Instance, scale: dict[str, float]) -> dict[str, float]:
    """The first sample in the coordinates of the slide, along the directions of y and x."""
    origin = _first(instance.get("TotalPixelMatrixOriginSequence"))
    direction = [float(n) for n in instance.get("ImageOrientationSlide") or ()]
    if origin is None or len(direction) != 6 or not scale:
        return {}
    offsets = (
        origin.get("XOffsetInSlideCoordinateSystem"),
        origin.get("YOffsetInSlideCoordinateSystem"),
    )
    if None in offsets:
        return {}
    position = np.array([float(offsets[0]), float(offsets[1]), 0.0])
    along = {"x": np.array(direction[:3]), "y": np.array(direction[3:])}
    return {axis: float(f"{float(d @ position):.9g}") + 0.0 for axis, d in along.items()}


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _text(value: Any) -> str | None:
    text = str(value).strip() if value is not None else ""
    return text or None
