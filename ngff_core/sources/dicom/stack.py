"""Frames in space: which ones are the slices of a volume, in which order, and how far apart.

Slices are sorted along the normal of their planes. Their distance is that of their positions; the
thickness of a slice is something else. A stack with a gap, with two slices at one position, or
with slices at uneven distances is not an array: it is described, and refused when it is opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ngff_core.geometry import Shape
from ngff_core.sources.affine import Geometry, place
from ngff_core.sources.contract import UNNAMED, Note, Placement
from ngff_core.sources.dicom.headers import Instance

_SAME = 1e-3
"""Millimeters below which two positions are the same."""
_UNEVEN = 0.02
"""Part of the distance of two slices by which a slice may lie beside its place."""
_LEAST_UNEVEN = 0.01
"""In millimeters: positions are written as text, often with two decimals."""
_SHOWN = 4
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's coordinates grow to the left and to the back, an affine's to the right and front."""
_UNIT = "millimeter"


@dataclass(frozen=True)
class Plane:
    """Where one frame lies in the patient, in DICOM's coordinates (LPS, mm)."""

    position: tuple[float, ...]
    """Of the centre of the first sample."""
    rows: tuple[float, ...]
    """Direction of a row: in which the column index grows."""
    columns: tuple[float, ...]
    spacing: tuple[float, float] | None
    """Distance of rows (y), and of columns (x)."""

    @property
    def normal(self) -> np.ndarray[Any, Any]:
        return np.cross(self.rows, self.columns)

    @property
    def depth(self) -> float:
        """Position along the normal."""
        return float(self.normal @ np.array(self.position))

    def is_parallel(self, other: Plane) -> bool:
        return np.allclose(
            (self.rows, self.columns), (other.rows, other.columns), atol=1e-4
        ) and np.allclose(self.spacing or 0, other.spacing or 0, rtol=1e-4)


@dataclass(frozen=True)
class Slice:
    """One frame: number of its file, number in the file, where it lies, and its other indices.

    Attributes
    ----------
    keys
        Positions on other axes, such as ``{"t": 3}``.
    """

    file: int
    frame: int
    plane: Plane | None
    keys: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames as an array.

    Attributes
    ----------
    axes
        Of the array in front of y and x.
    table
        For each position on them the file and the frame, -1 where there is none.
    geometry
        Sizes and positions of all axes, y and x too.
    refusal
        Why it cannot be read as an array, if so.
    """

    axes: tuple[str, ...]
    table: np.ndarray[Any, Any]
    geometry: Geometry
    refusal: str | None = None

    @property
    def shape(self) -> Shape:
        return tuple(self.table.shape[:-1])


def stack_slices(slices: Sequence[Slice], sparse: bool = False) -> Stack:
    """The array that ``slices`` are: by position, and by their keys where positions repeat.

    ``sparse``: absent frames are empty, as in segmentations.
    """
    planes = [each.plane for each in slices if each.plane is not None]
    if len(planes) < len(slices):
        return _unplaced(slices, planes)
    if not all(plane.is_parallel(planes[0]) for plane in planes):
        note = Note("unknown", "positions: the frames lie in different directions or sizes")
        return _unplaced(slices, (), note)
    if len(slices) == 1:
        return Stack((), _table(slices, ()), _flat(planes[0]))
    depths = _distinct([plane.depth for plane in planes])
    keys = _keys_needed(slices, len(depths))
    if keys is None:
        return _repeated(slices, planes, depths)
    return _arranged(slices, depths, keys, sparse)


def plane_of(position: Any, orientation: Any, spacing: Any) -> Plane | None:
    """A plane by the values of its elements; None where one is absent or no direction."""
    place = _numbers(position, 3)
    directions = _numbers(orientation, 6)
    if place is None or directions is None:
        return None
    rows, columns = np.array(directions[:3]), np.array(directions[3:])
    lengths = np.linalg.norm(rows), np.linalg.norm(columns)
    if min(lengths) == 0 or abs(float(rows @ columns)) > 0.01:
        return None
    return Plane(
        place,
        tuple(float(n) for n in rows / lengths[0]),
        tuple(float(n) for n in columns / lengths[1]),
        spacing_of(spacing),
    )


def spacing_of(value: Any) -> tuple[float, float] | None:
    """Distance of rows and of columns; None where it is absent, zero or less."""
    found = _numbers(value, 2)
    return (found[0], found[1]) if found is not None and min(found) > 0 else None


def slices_of_frames(instance: Instance, file: int = 0) -> Iterator[Slice]:
    """The frames of a file with functional groups, each with its plane."""
    shared = _first(instance.get("SharedFunctionalGroupsSequence"))
    groups = instance.get("PerFrameFunctionalGroupsSequence") or ()
    for number in range(instance.frames):
        own = groups[number] if number < len(groups) else None
        yield Slice(file, number, _plane_of_groups(own, shared), dict(_keys_of_groups(own, shared)))


def in_plane(spacing: tuple[float, float] | None) -> Placement:
    """The sizes of y and x where no position is known."""
    if spacing is None:
        return Placement()
    return Placement({"y": spacing[0], "x": spacing[1]}, {"y": _UNIT, "x": _UNIT})


# --- functional groups -----------------------------------------------------------------


def _plane_of_groups(own: Any, shared: Any) -> Plane | None:
    def value(sequence: str, keyword: str) -> Any:
        for groups in (own, shared):
            found = _first(groups.get(sequence)) if groups is not None else None
            if found is not None and found.get(keyword) is not None:
                return found.get(keyword)
        return None

    return plane_of(
        value("PlanePositionSequence", "ImagePositionPatient"),
        value("PlaneOrientationSequence", "ImageOrientationPatient"),
        value("PixelMeasuresSequence", "PixelSpacing"),
    )


_KEYS = (
    ("segment", "SegmentIdentificationSequence", "ReferencedSegmentNumber"),
    ("t", "FrameContentSequence", "TemporalPositionIndex"),
    ("echo", "MREchoSequence", "EffectiveEchoTime"),
)


def _keys_of_groups(own: Any, shared: Any) -> Iterator[tuple[str, int]]:
    for axis, sequence, keyword in _KEYS:
        for groups in (own, shared):
            found = _first(groups.get(sequence)) if groups is not None else None
            if found is not None and found.get(keyword) is not None:
                # Only compared and sorted; echo times are in ms with decimals.
                yield axis, round(float(found.get(keyword)) * 1000)
                break


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        found = tuple(float(n) for n in value)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


# --- order -----------------------------------------------------------------------------


def _distinct(values: Sequence[float]) -> list[float]:
    found: list[float] = []
    for value in sorted(values):
        if not found or value - found[-1] > _SAME:
            found.append(value)
    return found


def _keys_needed(slices: Sequence[Slice], positions: int) -> tuple[str, ...] | None:
    """The axes that tell slices at one position apart; None where none do.

    Segments are apart wherever they lie: the same sample means something else in each.
    """
    names = [name for name in slices[0].keys if all(name in each.keys for each in slices)]
    varying = tuple(name for name in names if len({each.keys[name] for each in slices}) > 1)
    if positions == len(slices):
        return tuple(name for name in varying if name == "segment")
    return varying or None


def _arranged(
    slices: Sequence[Slice], depths: Sequence[float], keys: tuple[str, ...], sparse: bool
) -> Stack:
    depths = _with_empty(depths) if sparse else depths
    values = [sorted({each.keys[name] for each in slices}) for name in keys]
    table = np.full((*map(len, values), len(depths), 2), -1)
    refusal = None
    for each in slices:
        z = int(np.abs(np.array(depths) - _plane(each).depth).argmin())
        at = (*(v.index(each.keys[k]) for k, v in zip(keys, values, strict=True)), z)
        if table[at][0] >= 0:
            refusal = f"two slices lie at {depths[z]:.7g} mm along the normal"
        table[at] = (each.file, each.frame)
    absent = int((table[..., 0] < 0).sum())
    if absent and not sparse:
        missing = sorted({depths[at[-1]] for at in np.argwhere(table[..., 0] < 0)})
        refusal = refusal or f"{absent} slices are missing, at {_show(missing)} mm along the normal"
    geometry, uneven = _deep(slices, depths)
    notes: tuple[Note, ...] = ()
    if absent and sparse:
        text = f"{absent} frames that the file leaves out, being empty, are read as 0"
        notes = (Note("assumed", text),)
    if len(depths) == 1:
        table = table[..., 0, :]
        return Stack(keys, table, replace(geometry, notes=(*geometry.notes, *notes)), refusal)
    geometry = replace(geometry, notes=(*geometry.notes, *notes))
    return Stack((*keys, "z"), table, geometry, refusal or uneven)


def _plane(each: Slice) -> Plane:
    if each.plane is None:
        raise ValueError("a frame without a position")
    return each.plane


def _deep(slices: Sequence[Slice], depths: Sequence[float]) -> tuple[Geometry, str | None]:
    """The geometry of a volume, and what is wrong with its distances."""
    by_depth = sorted((_plane(each) for each in slices), key=lambda plane: plane.depth)
    first, last = by_depth[0], by_depth[-1]
    if len(depths) == 1:
        return _flat(first), None
    step = (np.array(last.position) - np.array(first.position)) / (len(depths) - 1)
    geometry = _placed(first, step)
    refusal = _uneven(depths)
    if refusal is None and not _on_a_line(by_depth, step):
        refusal = "the positions of its slices do not lie on a line"
    if refusal is not None:
        # Of a volume that is refused the usual distance is the most sensible one to show.
        scale = {**geometry.placement.scale, "z": float(np.median(np.diff(depths)))}
        geometry = replace(
            geometry, placement=replace(geometry.placement, scale=scale), metadata={}
        )
    return geometry, refusal


def _with_empty(depths: Sequence[float]) -> Sequence[float]:
    """With the positions between at which no frame is stored, where the others fit a grid."""
    steps = np.diff(depths)
    if len(steps) == 0:
        return depths
    counts = np.rint(steps / steps.min())
    if np.abs(steps / steps.min() - counts).max() > _UNEVEN:
        return depths
    total = int(counts.sum())
    return [float(n) for n in np.linspace(depths[0], depths[-1], total + 1)]


def _uneven(depths: Sequence[float]) -> str | None:
    steps = np.diff(depths)
    usual = float(np.median(steps))
    tolerance = max(_UNEVEN * usual, _LEAST_UNEVEN)
    gaps = [i for i, step in enumerate(steps) if step > usual + max(tolerance, 0.5 * usual)]
    if gaps:
        places = [f"{depths[i]:.7g} and {depths[i + 1]:.7g}" for i in gaps]
        return (
            f"slices are missing between {_some(places)} mm along the normal, where others are "
            f"{usual:.7g} mm apart"
        )
    if max(abs(steps - usual)) > tolerance:
        return f"its slices are {min(steps):.7g} to {max(steps):.7g} mm apart, which is uneven"
    return None


def _on_a_line(planes: Sequence[Plane], step: np.ndarray[Any, Any]) -> bool:
    """Whether each slice lies where the first one and ``step`` say."""
    first = np.array(planes[0].position)
    length = float(np.linalg.norm(step))
    normal = planes[0].normal
    along = float(normal @ step)
    for plane in planes:
        moved = np.array(plane.position) - first
        expected = step * (float(normal @ moved) / along)
        if np.linalg.norm(moved - expected) > max(10 * _UNEVEN * length, 10 * _LEAST_UNEVEN):
            return False
    return True


def _repeated(slices: Sequence[Slice], planes: Sequence[Plane], depths: Sequence[float]) -> Stack:
    """Several frames at one position, and nothing that tells them apart."""
    if len({each.file for each in slices}) == 1:
        text = (
            f"what the {len(slices)} frames at {len(depths)} positions are: several lie at one "
            "position, and differ in nothing that is read here"
        )
        return _unplaced(slices, planes, Note("unknown", text))
    counts = dict.fromkeys(depths, 0)
    for plane in planes:
        counts[min(depths, key=lambda depth: abs(depth - plane.depth))] += 1
    twice = [depth for depth, count in counts.items() if count > 1]
    geometry, _ = _deep(slices, depths)
    refusal = (
        f"{len(slices)} slices lie at {len(depths)} positions: several at {_show(twice)} mm along "
        "the normal"
    )
    return Stack(("z",), _table(slices, (len(slices),)), geometry, refusal)


def _unplaced(slices: Sequence[Slice], planes: Sequence[Plane], *notes: Note) -> Stack:
    """Frames in the order of the file, on an axis that has no name."""
    spacing = planes[0].spacing if planes else None
    axes = (UNNAMED,) if len(slices) > 1 else ()
    shape = (len(slices),) if axes else ()
    return Stack(axes, _table(slices, shape), Geometry(in_plane(spacing), notes))


def _table(slices: Sequence[Slice], shape: Shape) -> np.ndarray[Any, Any]:
    return np.array([(each.file, each.frame) for each in slices]).reshape(*shape, 2)


# --- placement -------------------------------------------------------------------------


def _flat(plane: Plane) -> Geometry:
    """The geometry of one plane."""
    return _placed(plane, None)


def _placed(plane: Plane, step: np.ndarray[Any, Any] | None) -> Geometry:
    spacing = plane.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, 0] = np.array(plane.rows) * spacing[1]
    affine[:3, 1] = np.array(plane.columns) * spacing[0]
    affine[:3, 2] = plane.normal if step is None else step
    affine[:3, 3] = plane.position
    axes = ("x", "y") if step is None else ("x", "y", "z")
    found = place(_TO_RAS @ affine, axes, _UNIT)
    if plane.spacing is None:
        scale = {axis: size for axis, size in found.placement.scale.items() if axis == "z"}
        return replace(found, placement=replace(found.placement, scale=scale), metadata={})
    return found


def _show(values: Sequence[float]) -> str:
    return _some([f"{value:.7g}" for value in values])


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
