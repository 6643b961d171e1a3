"""What two kinds of EMD files (electron microscopy, in HDF5) say of their datasets.

NCEM's, Prismatic's and py4DSTEM's have a dataset ``dim1``, ``dim2`` … with name, unit and positions
for each axis. Velox' have a JSON document beside each recording, whose axes are y, x, frame.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ngff_core.model.axes import AXIS_ORDER
from ngff_core.model.channels import Channel
from ngff_core.sources.contract import UNNAMED, ImageDescription, Note, Placement
from ngff_core.sources.hdf5.files import H5File, as_text, attribute_values, plain_object
from ngff_core.sources.sizes import axis_word, length_unit, positive

_VELOX = re.compile(r"/Data/(\w+)/[0-9a-f]{32}/(\w+)")
"""Path of a dataset by the kind of its recording."""
_MOST_JSON = 1 << 20
_REAL_SPACE = {"r_x": "x", "r_y": "y", "r_z": "z"}
"""Names of positions of the beam, beside those on the detector."""


def velox_companion(path: str) -> str | None:
    """Why a dataset of Velox is no image, empty where that needs no word; None where it may be.

    >>> velox_companion("/Data/Image/" + 32 * "0" + "/Metadata"), velox_companion("/data")
    ('', None)
    """
    found = _VELOX.fullmatch(path)
    if found is None:
        return None
    kind, name = found.groups()
    if name != "Data":
        return ""
    return None if kind == "Image" else "spectra and other recordings"


def with_emd(image: ImageDescription, file: H5File, path: str) -> ImageDescription:
    """``image`` with the axes and sizes that EMD has for the dataset at ``path``."""
    found = _VELOX.fullmatch(path)
    if found is not None and len(image.axes) == 3:
        return _velox(image, plain_object(file, f"{path.rpartition('/')[0]}/Metadata"))
    group = plain_object(file, path.rpartition("/")[0]) if path.count("/") > 1 else None
    if group is None or attribute_values(group, "emd_group_type") != [1]:
        return image
    return _with_dims(image, file, path.rpartition("/")[0])


# --- Velox -------------------------------------------------------------------------------


def _velox(image: ImageDescription, metadata: Any) -> ImageDescription:
    result = _velox_json(metadata).get("BinaryResult")
    result = result if isinstance(result, dict) else {}
    frames = "t" if image.shape[2] > 1 else "frame"
    size = result.get("PixelSize")
    size = size if isinstance(size, dict) else {}
    given = {"y": ("height", "PixelUnitY"), "x": ("width", "PixelUnitX")}
    scale, units, notes = {}, {}, list(image.notes)
    for axis, (name, unit_name) in given.items():
        value, text = positive(size.get(name)), result.get(unit_name)
        unit = length_unit(axis, text)
        if value is not None and unit is not None:
            scale[axis], units[axis] = value, unit
        elif value is not None and text:
            notes.append(Note("left out", f"the size along {axis}, {value:.6g} {text}: no length"))
    origins = {**image.origins, "axes": "Velox' order"}
    if scale:
        origins["scale"] = origins["units"] = "Velox' metadata, PixelSize"
    detector = result.get("Detector")
    channels: tuple[Channel, ...] = ()
    if isinstance(detector, str) and detector.strip():
        channels = (Channel(name=detector.strip()),)
        origins["channels"] = "Velox' metadata, Detector"
    return replace(
        image,
        axes=("y", "x", frames),
        placement=Placement(scale, units),
        channels=channels,
        origins=origins,
        notes=tuple(notes),
    )


def _velox_json(metadata: Any) -> Mapping[str, Any]:
    """The document of the first frame: a column of bytes that ends with zeros."""
    if metadata is None or getattr(metadata, "ndim", 0) != 2 or 0 in metadata.shape:
        return {}
    if metadata.shape[0] > _MOST_JSON or metadata.dtype != np.dtype("u1"):
        return {}
    try:
        found = json.loads(metadata[:, 0].tobytes().partition(b"\0")[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- NCEM, Prismatic, py4DSTEM -----------------------------------------------------------


def _with_dims(image: ImageDescription, file: H5File, group: str) -> ImageDescription:
    dims = [plain_object(file, f"{group}/dim{number + 1}") for number in range(len(image.axes))]
    if any(getattr(dim, "ndim", 0) != 1 for dim in dims):
        return image
    names = [_name(dim) for dim in dims]
    known = [name for name in names if name != UNNAMED]
    if not known or len(set(known)) != len(known):
        return image
    scale, units = {}, {}
    for name, dim in zip(names, dims, strict=True):
        unit = length_unit(name, _unit(dim))
        step = _step(dim) if name in AXIS_ORDER else None
        if step is not None and unit is not None:
            scale[name], units[name] = step, unit
    origins = {**image.origins, "axes": "EMD's dim1, dim2 …"}
    if scale:
        origins["scale"] = origins["units"] = origins["axes"]
    return replace(image, axes=tuple(names), placement=Placement(scale, units), origins=origins)


def _name(dim: Any) -> str:
    word = axis_word(_first(dim, "name"))
    return UNNAMED if re.fullmatch(r"dim\d+", word) else _REAL_SPACE.get(word, word)


def _unit(dim: Any) -> str:
    """``[n_m]`` and ``nm`` alike."""
    return _first(dim, "units").strip(" []").replace("_", "")


def _first(dim: Any, name: str) -> str:
    values = attribute_values(dim, name)
    return as_text(values[0]) if len(values) == 1 else ""


def _step(dim: Any) -> float | None:
    """Distance between the first two positions on an axis."""
    if dim.shape[0] < 2 or dim.dtype.kind not in "iuf":
        return None
    first, second = (float(position) for position in dim[:2])
    return positive(second - first)
