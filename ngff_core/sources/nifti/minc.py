"""MINC 2 files by h5py: HDF5 with named axes, each with its step, start and direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ngff_core.sources.affine import Geometry, place
from ngff_core.sources.base import Reader, check_array
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.hdf5.files import (
    H5Array,
    H5File,
    h5_errors,
    open_h5,
    plain_object,
    stored_dataset,
    unit_of,
)
from ngff_core.storage import ObjectStore

_IMAGE = "minc-2.0/image/0"
"""Group of the image at full resolution."""
_AXES = {"xspace": "x", "yspace": "y", "zspace": "z", "time": "t", "vector_dimension": "vector"}
_DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_UNITS = {"mm": "millimeter", "m": "meter", "um": "micrometer", "s": "second", "ms": "millisecond"}


def open_images(store: ObjectStore) -> SourceImages:
    """The image of a MINC 2 file. Its axes have names there, in any order."""
    file = open_h5(store)
    try:
        with h5_errors(f"{store.uri}: not a readable MINC 2 file"):
            return _source(file)
    except BaseException:
        file.close()
        raise


def _source(file: H5File) -> SourceImages:
    data = stored_dataset(file, f"{_IMAGE}/image")
    check_array(data.shape, data.dtype, file.uri)
    axes = _axis_names(data)
    geometry = _geometry(file, axes)
    notes, metadata = _scale_of_samples(file, data)
    reader = Reader(H5Array(data, file.uri), file.uri, tuple(data.shape), data.dtype)
    unit = unit_of(data, file.store)
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
    return SourceImages(
        identity=SourceIdentity(file.uri, file.pins),
        kind="minc",
        format="a MINC 2 file",
        images=(image,),
        open_image=lambda _number: Samples(reader, unit),
        _close=file.close,
    )


def _axis_names(data: Any) -> tuple[str, ...]:
    stored = _text(data.attrs.get("dimorder")).split(",")
    if len(stored) != data.ndim:
        raise ValueError(f"{data.ndim} axes, of which it names {', '.join(stored)}")
    return tuple(_AXES.get(name, name.lower()) for name in stored)


def _geometry(file: H5File, axes: Sequence[str]) -> Geometry:
    """Positions are in coordinates that grow to the right, to the front and up."""
    spatial = [axis for axis in ("x", "y", "z") if axis in axes]
    affine = np.eye(4)
    affine[:3, :3] = 0
    units = {}
    for column, axis in enumerate(spatial):
        about = _dimension(file, axis)
        direction = np.array(about.get("direction_cosines", _DIRECTIONS[axis]), float)
        # A step of 0, of an axis that says nothing, leaves its scale unknown.
        affine[:3, column] = direction * _step(about)
        affine[:3, 3] += direction * float(about.get("start", 0))
        units[axis] = _UNITS.get(_text(about.get("units")))
    found = place(affine, spatial, None)
    scale, translation = dict(found.placement.scale), dict(found.placement.translation)
    notes = list(found.notes)
    if "t" in axes:
        about = _dimension(file, "t")
        step = _step(about)
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


def _step(about: Any) -> float:
    """Distance of two samples; 0 where it is not said, or not the same everywhere."""
    regular = not _text(about.get("spacing")).startswith("irregular")
    return float(about.get("step", 0)) if regular else 0.0


def _dimension(file: H5File, axis: str) -> Any:
    stored = next(name for name, known in _AXES.items() if known == axis)
    found = plain_object(file, f"minc-2.0/dimensions/{stored}")
    return {} if found is None else found.attrs


def _scale_of_samples(file: H5File, data: Any) -> tuple[tuple[Note, ...], dict[str, Any]]:
    """What the samples stand for: from image-min to image-max, slice by slice, in MINC."""
    found = {name: plain_object(file, f"{_IMAGE}/image-{name}") for name in ("min", "max")}
    if None in found.values() or data.dtype.kind == "f":
        return (), {}
    metadata: dict[str, Any] = {}
    for name in found:
        values = np.asarray(stored_dataset(file, f"{_IMAGE}/image-{name}"))
        metadata[f"image_{name}"] = values.tolist()
    if "valid_range" in data.attrs:
        metadata["valid_range"] = [float(n) for n in data.attrs["valid_range"]]
    text = (
        "samples are as stored; the numbers they stand for lie between image_min and image_max "
        "of their slice (in the metadata)"
    )
    return (Note("left out", text),), metadata


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value or "")
