"""A small picture of a published pyramid, for people who watch builds."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.pyramid.level_io import open_level
from ngff_core.records.stored_build import StoredBuild

_LONGEST = 384
"""Pixels of the longer side of a picture, at most."""

_READ_AT_MOST = 4096
"""Samples of an axis that are read."""


def thumbnail(build: StoredBuild) -> str:
    """The coarsest level as a ``data:`` URI of a PNG, its contrast stretched.

    It shows the middle plane of the first time point. Three channels become red, green and blue;
    of any other number of channels the first is shown. Of a plane longer than 4096 samples only
    the middle is read, so no level is too large.
    """
    plan, level = build.plan, build.plan.levels[-1]
    array = open_level(build.target, plan, level)
    plane = np.asarray(array[_selection(plan, level)]).reshape(_plane_shape(plan, level))
    return _data_uri(_stretched(_shrunk(plane)))


def _channels(plan: PyramidPlan, level: LevelPlan) -> int:
    sizes = dict(zip(plan.image.dims, level.shape, strict=True))
    return 3 if sizes.get("c") == 3 else 1


def _selection(plan: PyramidPlan, level: LevelPlan) -> tuple[slice, ...]:
    chosen = {"t": slice(0, 1), "c": slice(0, _channels(plan, level))}
    planar = set(plan.image.dims[-2:])
    selection = []
    for dim, n in zip(plan.image.dims, level.shape, strict=True):
        if dim in planar:
            start = max(0, n - _READ_AT_MOST) // 2
            selection.append(slice(start, min(n, start + _READ_AT_MOST)))
        else:
            selection.append(chosen.get(dim, slice(n // 2, n // 2 + 1)))
    return tuple(selection)


def _plane_shape(plan: PyramidPlan, level: LevelPlan) -> tuple[int, int, int]:
    height, width = (min(n, _READ_AT_MOST) for n in level.shape[-2:])
    return _channels(plan, level), height, width


def _shrunk(plane: Block) -> Block:
    stride = -(-max(plane.shape[1:]) // _LONGEST)
    return plane[:, ::stride, ::stride]


def _stretched(plane: Block) -> Block:
    """Each channel from its 1st to its 99.5th percentile onto 0 to 255."""
    values: Any = np.abs(plane) if plane.dtype.kind == "c" else plane
    # Divided by 4, so the difference of the two largest numbers of float64 is finite too.
    values = np.nan_to_num(values.astype(np.float64)) / 4
    low, high = np.percentile(values, (1, 99.5), axis=(1, 2), keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    return np.asarray((values - low).clip(0, span) / span * 255).round().astype(np.uint8)


def _data_uri(channels: Block) -> str:
    from PIL import Image

    picture = Image.fromarray(
        channels[0] if len(channels) == 1 else np.ascontiguousarray(channels.transpose(1, 2, 0))
    )
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()
