"""Imaris files (.ims): one image of times and channels, each a padded dataset in HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.sources.base import Reader, check_array, whole_unit
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.hdf5.bdv_xml import numbered
from ngff_core.sources.hdf5.files import (
    H5File,
    StackedDatasets,
    plain_object,
    stored_dataset,
    unit_of,
)
from ngff_core.sources.sizes import length_unit, positive

_LEVEL = "DataSet/ResolutionLevel 0"
_XYZ = "XYZ"


_NO_NAME = "(name not specified)"
"""What Imaris writes for a name that nobody gave."""


def is_imaris(file: H5File) -> bool:
    """Whether the root group is that of an Imaris file, version 5.5 or later."""
    return plain_object(file, f"{_LEVEL}/TimePoint 0/Channel 0") is not None


def open_imaris(file: H5File) -> SourceImages:
    """The one image of an Imaris file at its full resolution, without the padding of chunks."""
    paths = _paths(file)
    first = stored_dataset(file, paths[0, 0])
    dtype = np.dtype(first.dtype.str)
    if first.ndim != 3:
        raise SourceFormatError(f"{file.uri}: {first.name} has {first.ndim} axes instead of 3")
    outer = tuple(1 + max(position[i] for position in paths) for i in (0, 1))
    shape = (*outer, *_inner(file, first.shape))
    check_array(shape, dtype, file.uri)
    image = _describe(file, shape, dtype, len(paths))
    data = StackedDatasets(file, paths, dtype, dtype)
    unit = (1, 1, *unit_of(first, file.store))
    reader = Reader(data, file.uri, shape, dtype)
    return SourceImages(
        identity=SourceIdentity(file.uri, file.pins),
        kind="imaris",
        format="an Imaris file",
        images=(image,),
        open_image=lambda _: Samples(reader, whole_unit(unit)),
        main=0,
        _close=file.close,
    )


def _paths(file: H5File) -> dict[Shape, str]:
    """Path of the samples of each time and channel that is there."""
    paths: dict[Shape, str] = {}
    for time, name in numbered(list(plain_object(file, _LEVEL)), "TimePoint ").items():
        group = plain_object(file, f"{_LEVEL}/{name}")
        for channel, part in numbered(list(group), "Channel ").items():
            paths[time, channel] = f"/{_LEVEL}/{name}/{part}/Data"
    return paths


def _inner(file: H5File, padded: Shape) -> Shape:
    """The image's own z, y, x in a dataset that is padded to complete chunks."""
    group = plain_object(file, f"{_LEVEL}/TimePoint 0/Channel 0")
    info = plain_object(file, "DataSetInfo/Image")
    sizes = []
    for axis, length in zip("ZYX", padded, strict=True):
        text = _text(group, f"ImageSize{axis}") or _text(info, axis)
        size = int(text) if text and text.isascii() and text.isdecimal() else length
        if not 0 < size <= length:
            raise SourceFormatError(
                f"{file.uri}: {size} samples along {axis.lower()} are more than the {length} stored"
            )
        sizes.append(size)
    return tuple(sizes)


def _describe(file: H5File, shape: Shape, dtype: np.dtype[Any], views: int) -> ImageDescription:
    info = plain_object(file, "DataSetInfo/Image")
    placement, notes = _placement(file, info, shape)
    origins = {"axes": "Imaris' format", "channels": "DataSetInfo/Channel N"}
    if placement.scale:
        origins["scale"] = "ExtMin and ExtMax" + (", TimeInfo" if "t" in placement.scale else "")
        origins["translation"] = "ExtMin, the corner of the first voxel"
    missing = shape[0] * shape[1] - views
    if missing:
        text = f"samples of {missing} of {shape[0] * shape[1]} times and channels: not in the file"
        notes = [*notes, Note("unknown", f"{text}, read as 0")]
    return ImageDescription(
        name=_text(info, "Name"),
        axes=("t", "c", "z", "y", "x"),
        shape=shape,
        dtype=dtype.str,
        placement=placement,
        channels=tuple(_channel(file, number) for number in range(shape[1])),
        origins=origins,
        notes=tuple(notes),
    )


def _placement(file: H5File, info: Any, shape: Shape) -> tuple[Placement, list[Note]]:
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    translation: dict[str, float] = {}
    notes: list[Note] = []
    spelled = _text(info, "Unit") or "um"
    for number, (axis, length) in enumerate(zip("xyz", reversed(shape[2:]), strict=True)):
        low, high = _number(info, f"ExtMin{number}"), _number(info, f"ExtMax{number}")
        size = None if low is None or high is None else positive((high - low) / length)
        if low is None or size is None:
            continue
        scale[axis] = size
        translation[axis] = low + size / 2
        unit = length_unit(axis, spelled)
        if unit is not None:
            units[axis] = unit
    step, even = _time_step(file, shape[0])
    if step is not None:
        scale["t"], units["t"] = step, "second"
    if not even:
        notes.append(Note("left out", "times of recording, which are not at equal distances"))
    return Placement(scale, units, translation), notes


def _time_step(file: H5File, count: int) -> tuple[float | None, bool]:
    """Seconds from one time to the next, and whether all are alike to a hundredth."""
    info = plain_object(file, "DataSetInfo/TimeInfo")
    texts = [_text(info, f"TimePoint{number + 1}") for number in range(count)]
    times = [_moment(text) for text in texts]
    if count < 2 or None in times:
        return None, True
    moments = [time for time in times if time is not None]
    steps = np.array([(b - a).total_seconds() for a, b in pairwise(moments)])
    mean = float(steps.mean())
    even = bool(np.all(np.abs(steps - mean) <= 0.01 * abs(mean)))
    # Programs that know no times write the same one for each.
    return (positive(mean) if even else None), even


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return None


def _channel(file: H5File, number: int) -> Channel:
    info = plain_object(file, f"DataSetInfo/Channel {number}")
    window = _numbers(info, "ColorRange")
    return Channel(
        name=_text(info, "Name"),
        color=_color(_numbers(info, "Color")),
        window=(window[0], window[1]) if len(window) == 2 and window[0] < window[1] else None,
    )


def _color(parts: Sequence[float]) -> str | None:
    if len(parts) != 3 or not all(0 <= part <= 1 for part in parts):
        return None
    return "".join(f"{round(255 * part):02X}" for part in parts)


def _number(group: Any, name: str) -> float | None:
    numbers = _numbers(group, name)
    return numbers[0] if len(numbers) == 1 else None


def _numbers(group: Any, name: str) -> list[float]:
    try:
        return [float(part) for part in (_text(group, name) or "").split()]
    except ValueError:
        return []


def _text(group: Any, name: str) -> str | None:
    """A text of Imaris: an array with one character in each element."""
    value = None if group is None else group.attrs.get(name)
    if value is None:
        return None
    raw = value if isinstance(value, bytes | str) else np.asarray(value).astype("S").tobytes()
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    text = text.strip(" \0")
    return None if text in ("", _NO_NAME) else text
