"""MINC 2 files by h5py: HDF5 with named axes, each with its step, start and direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.sources.affine import Geometry, place
from ngff_core.sources.base import Reader, as_format_error, check_array, clip_unit
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.storage import LocalFiles, ObjectInfo, ObjectStore, is_transient

if TYPE_CHECKING:
    from h5py import Dataset, File

_IMAGE = "minc-2.0/image/0"
"""Group of the image at full resolution."""
_AXES = {"xspace": "x", "yspace": "y", "zspace": "z", "time": "t", "vector_dimension": "vector"}
_DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_UNITS = {"mm": "millimeter", "m": "meter", "um": "micrometer", "s": "second", "ms": "millisecond"}


def open_images(store: ObjectStore) -> SourceImages:
    """The image of a MINC 2 file. Its axes have names there, in any order."""
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    with ExitStack() as opened, as_format_error(f"{store.uri}: not a readable MINC 2 file"):
        file = _open_file(store, opened)
        if f"{_IMAGE}/image" not in file:
            raise SourceFormatError(f"{store.uri}: a MINC file without {_IMAGE}/image")
        return _source(store, info, file, opened.pop_all().close)


def _open_file(store: ObjectStore, opened: ExitStack) -> File:
    import h5py

    try:
        if isinstance(store, LocalFiles):
            return opened.enter_context(h5py.File(store.root, "r"))
        return opened.enter_context(h5py.File(opened.enter_context(store.open("")), "r"))
    except OSError as error:
        # h5py's word for what it cannot parse; errors of storage are told apart by their kind.
        if is_transient(error):
            raise
        raise SourceFormatError(f"{store.uri}: truncated or damaged HDF5: {error}") from error


def _source(
    store: ObjectStore, info: ObjectInfo, file: File, close: Callable[[], None]
) -> SourceImages:
    try:
        data = file[f"{_IMAGE}/image"]
        check_array(data.shape, data.dtype, store.uri)
        axes = _axis_names(data)
        geometry = _geometry(file, axes)
        notes, metadata = _scale_of_samples(file[_IMAGE], data)
        reader = Reader(data, store.uri, tuple(data.shape), data.dtype)
        unit = clip_unit(data.chunks or (1,) * data.ndim, data.shape)
        image = ImageDescription(
            name=None,
            axes=axes,
            shape=reader.shape,
            dtype=reader.dtype.str,
            placement=geometry.placement,
            origins=dict.fromkeys(("axes", "scale", "translation", "orientations"), "dimensions"),
            notes=(*geometry.notes, *notes),
            metadata={**geometry.metadata, **metadata},
        )
    except BaseException:
        close()
        raise
    pins = (
        ("reader", f"h5py {version('h5py')}"),
        ("size", str(info.size)),
        ("version", info.version),
    )
    return SourceImages(
        identity=SourceIdentity(store.uri, pins),
        kind="minc",
        format="a MINC 2 file",
        images=(image,),
        open_image=lambda _number: Samples(reader, unit),
        _close=close,
    )


def _axis_names(data: Dataset) -> tuple[str, ...]:
    stored = _text(data.attrs.get("dimorder")).split(",")
    if len(stored) != data.ndim:
        raise ValueError(f"{data.ndim} axes, of which it names {', '.join(stored)}")
    return tuple(_AXES.get(name, name.lower()) for name in stored)


def _geometry(file: File, axes: Sequence[str]) -> Geometry:
    """Positions are in coordinates that grow to the right, to the front and up."""
    spatial = [axis for axis in ("x", "y", "z") if axis in axes]
    affine = np.eye(4)
    affine[:3, :3] = 0
    units = {}
    for column, axis in enumerate(spatial):
        about = _dimension(file, axis)
        direction = np.array(about.get("direction_cosines", _DIRECTIONS[axis]), float)
        # A step of 0, of an axis that says nothing, leaves its scale unknown.
        affine[:3, column] = direction * float(about.get("step", 0))
        affine[:3, 3] += direction * float(about.get("start", 0))
        units[axis] = _UNITS.get(_text(about.get("units")))
    found = place(affine, spatial, None)
    scale, translation = dict(found.placement.scale), dict(found.placement.translation)
    notes = list(found.notes)
    if "t" in axes:
        about = _dimension(file, "t")
        step = float(about.get("step", 0))
        units["t"] = _UNITS.get(_text(about.get("units")))
        if math.isfinite(step) and step > 0 and units["t"]:
            scale["t"] = step
    unknown = [axis for axis in scale if units[axis] is None]
    if unknown:
        text = f"the unit of {', '.join(unknown)}: the file names none that is known"
        notes.append(Note("unknown", text))
    named = {axis: unit for axis, unit in units.items() if unit is not None and axis in scale}
    placement = Placement(scale, named, translation, found.placement.orientations)
    return Geometry(placement, tuple(notes), found.metadata)


def _dimension(file: File, axis: str) -> Any:
    stored = next(name for name, known in _AXES.items() if known == axis)
    group = file["minc-2.0/dimensions"]
    return group[stored].attrs if stored in group else {}


def _scale_of_samples(group: Any, data: Dataset) -> tuple[tuple[Note, ...], dict[str, Any]]:
    """What the samples stand for: from image-min to image-max, slice by slice, in MINC."""
    if "image-min" not in group or "image-max" not in group or data.dtype.kind == "f":
        return (), {}
    low, high = np.asarray(group["image-min"]), np.asarray(group["image-max"])
    metadata: dict[str, Any] = {"image_min": low.tolist(), "image_max": high.tolist()}
    if "valid_range" in data.attrs:
        metadata["valid_range"] = [float(n) for n in data.attrs["valid_range"]]
    text = (
        "samples are as stored; the numbers they stand for lie between image_min and image_max "
        "of their slice (in the metadata)"
    )
    return (Note("left out", text),), metadata


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value or "")
