"""Small OME-Zarr groups written by zarr, with metadata exactly as a test gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr

SAMPLES = np.random.default_rng(5).integers(0, 4000, (2, 3, 20, 24), "u2")
"""The samples of an image of two channels: c, z, y, x."""

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def axes_of(dims: Sequence[str], **units: str) -> list[dict[str, str]]:
    """The axes of 0.4 and later."""
    return [
        {"name": d, "type": TYPES[d], **({"unit": units[d]} if d in units else {})} for d in dims
    ]


def scale(*values: float) -> dict[str, Any]:
    """A transformation of that type."""
    return {"type": "scale", "scale": list(values)}


def translation(*values: float) -> dict[str, Any]:
    """A transformation of that type."""
    return {"type": "translation", "translation": list(values)}


def dataset(path: str, *transformations: Mapping[str, Any]) -> dict[str, Any]:
    """One level; without a transformation its size is unknown."""
    placed = {"coordinateTransformations": list(transformations)} if transformations else {}
    return {"path": path, **placed}


def multiscale(dims: str = "czyx", size: Sequence[float] | None = None, **more: Any) -> Any:
    """A valid multiscale of 0.4 with one level at ``0``, of 1 in each direction."""
    of_level = scale(*(size or (1.0,) * len(dims)))
    return {"axes": axes_of(dims), "datasets": [dataset("0", of_level)], "version": "0.4", **more}


def write_image(
    place: Any,
    attributes: Mapping[str, Any],
    samples: Any = SAMPLES,
    *,
    zarr_format: Any = 2,
    separator: Any = "/",
    paths: Sequence[str] = ("0",),
) -> None:
    """A group with these attributes, and the same samples at each of ``paths``."""
    # The attributes at once: a zip file keeps each document that is written over another.
    group = zarr.open_group(place, mode="a", zarr_format=zarr_format, attributes=dict(attributes))
    for path in paths:
        array = group.create_array(
            path,
            shape=samples.shape,
            dtype=samples.dtype,
            chunks=tuple(min(8, n) for n in samples.shape),
            **(
                {"chunk_key_encoding": {"name": "v2", "separator": separator}}
                if zarr_format == 2
                else {}
            ),
        )
        array[...] = samples
