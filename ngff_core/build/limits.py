"""What is known to trouble readers of a pyramid as it is planned, as notes for people."""

from __future__ import annotations

import numpy as np

from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.sources.contract import Note

_VERSION_0_6 = (
    "OME-Zarr 0.6 is not read yet by Neuroglancer, ngio, iohub, WEBKNOSSOS, ez-zarr, cloud-volume "
    "and yaozarrs; vizarr and bioio lose axes or sizes; 0.5 is read by most"
)
_DTYPES = {
    "b": "WEBKNOSSOS and ITK refuse samples of bool, and ome-zarr.js shows them black",
    "f2": "WEBKNOSSOS, ITK and older browsers refuse samples of float16",
    "c": "WEBKNOSSOS, ITK, GDAL and viewers in browsers refuse complex samples",
    "i8": "WEBKNOSSOS and ITK refuse 64-bit integers",
    "u8": "WEBKNOSSOS and ITK refuse 64-bit integers",
}
"""By kind, or by kind and bytes, of numpy's dtypes."""


def limits_of(plan: PyramidPlan) -> tuple[Note, ...]:
    """What readers cannot read or show of a pyramid that is valid."""
    found = [_VERSION_0_6] if plan.ome_zarr_version == "0.6" else []
    dtype = np.dtype(plan.image.dtype)
    found += [_DTYPES[key] for key in (dtype.kind, dtype.str[1:]) if key in _DTYPES]
    uneven = _uneven_levels(plan)
    if uneven:
        which = ("level " if len(uneven) == 1 else "levels ") + ", ".join(map(str, uneven))
        found.append(
            f"y and x have different factors in {which}: vizarr, Avivator, Vitessce and "
            "ome-zarr.js show such levels wrongly; scale_factors with equal ones suit them"
        )
    return tuple(Note("limited", text) for text in found)


def _uneven_levels(plan: PyramidPlan) -> list[int]:
    """Levels whose factors on y and x differ, unless one of the axes has a single sample left."""
    dims = plan.image.dims
    if not {"y", "x"} <= set(dims):
        return []
    y, x = dims.index("y"), dims.index("x")
    return [
        level.index
        for level in plan.levels
        if level.factor[y] != level.factor[x] and min(level.shape[y], level.shape[x]) > 1
    ]
