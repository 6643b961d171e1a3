"""Making a plan: an image and options become a `PyramidPlan`, or an error that says why not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import (
    Shape,
    level_shape,
)
from ngff_core.kernels.methods import Methods, check_dtype, method_info, parse_method
from ngff_core.model.axes import SPATIAL, is_sound_name
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR, Compressor
from ngff_core.plan.layout import (
    check_shards,
    default_chunks,
    default_shards,
    grow_block,
    level_chunks,
    level_shards,
    resolve_sizes,
)
from ngff_core.plan.pyramid_plan import (
    DEFAULT_MIN_LENGTH,
    OME_ZARR_VERSIONS,
    ImageInfo,
    LevelPlan,
    OmeZarrVersion,
    PyramidPlan,
    SourcePin,
)
from ngff_core.plan.scale_factors import ScaleFactors, parent_of, resolve_factors


def make_plan(
    source: SourcePin,
    image: ImageInfo,
    *,
    source_chunks: Shape | None = None,
    method: str | Methods = Methods.ITKWASM_GAUSSIAN,
    scale_factors: ScaleFactors = DEFAULT_MIN_LENGTH,
    chunks: Any = None,
    shards: Any = None,
    compressor: str | Compressor = DEFAULT_COMPRESSOR,
    ome_zarr_version: str = "0.5",
) -> PyramidPlan:
    """The plan of a pyramid from the full image's description and the caller's options.

    ``source_chunks`` is how the source itself is cut, which the default chunks heed.
    Sizes given as ``chunks`` or ``shards`` are in the order of ``image.dims``.
    """
    check_image(image)
    method = parse_method(method)
    dtype = np.dtype(image.dtype)
    version = check_version(ome_zarr_version)
    sizes = resolve_sizes(
        "chunks", chunks, image.dims, default_chunks(image.dims, image.shape, source_chunks)
    )
    base_chunks = tuple(sizes[d] for d in image.dims)
    own_shards = _given_shards(shards, version, image, sizes)
    spatial = {d: n for d, n in zip(image.dims, image.shape, strict=True) if d in SPATIAL}
    found = resolve_factors(scale_factors, spatial, {d: min(sizes[d], spatial[d]) for d in spatial})
    if found:
        check_dtype(method, dtype)
    factors = [tuple(f.get(d, 1) for d in image.dims) for f in ({}, *found)]
    levels = tuple(
        _level_plan(
            i,
            factors=factors,
            image=image,
            base_chunks=base_chunks,
            given_shards=own_shards,
            version=version,
            itemsize=dtype.itemsize,
        )
        for i in range(len(factors))
    )
    return PyramidPlan(
        source=source,
        image=image,
        method=method.value,
        ome_zarr_version=version,
        compressor=str(Compressor.parse(compressor)),
        levels=levels,
        method_version=method_info(method).version,
    )


def _level_plan(
    index: int,
    *,
    factors: list[Shape],
    image: ImageInfo,
    base_chunks: Shape,
    given_shards: Shape | None,
    version: OmeZarrVersion,
    itemsize: int,
) -> LevelPlan:
    factor = factors[index]
    shape = level_shape(image.shape, factor)
    chunks = level_chunks(base_chunks, shape)
    shards = None
    if given_shards is not None:
        shards = level_shards(given_shards, base_chunks, chunks, shape)
    elif version != "0.4":
        shards = default_shards(image.dims, shape, chunks, itemsize)
    parent = parent_of(factors, index) if index else None
    base = factors[parent] if parent is not None else factor
    return LevelPlan(
        index=index,
        path=f"scale{index}/{image.name}",
        shape=shape,
        chunks=chunks,
        shards=shards,
        block=shards or grow_block(image.dims, shape, chunks, itemsize),
        factor=factor,
        parent=parent,
        step=tuple(f // b for f, b in zip(factor, base, strict=True)),
    )


def _given_shards(
    shards: Any, version: OmeZarrVersion, image: ImageInfo, chunks: dict[str, int]
) -> Shape | None:
    if shards is None:
        return None
    if version == "0.4":
        raise InvalidOptionError(
            "shards: OME-Zarr 0.4 is zarr v2, which has none; leave them out or use 0.5"
        )
    sizes = resolve_sizes("shards", shards, image.dims, chunks)
    return check_shards(
        tuple(sizes[d] for d in image.dims),
        tuple(chunks[d] for d in image.dims),
        image.dims,
        image.shape,
    )


def check_version(version: str) -> OmeZarrVersion:
    """``version`` if it is one that can be written, else an InvalidOptionError."""
    for known in OME_ZARR_VERSIONS:
        if version == known:
            return known
    raise InvalidOptionError(
        f"ome_zarr_version: {version!r} is none of {', '.join(OME_ZARR_VERSIONS)}"
    )


def check_image(image: ImageInfo) -> None:
    """InvalidOptionError for an image that OME-Zarr cannot hold; the message says why."""
    if not is_sound_name(image.name):
        raise InvalidOptionError(f"name: {image.name!r} cannot be part of a path")
    if any(n == 0 for n in image.shape):
        raise InvalidOptionError(f"the image is empty: its shape is {image.shape}")
    if sum(d in SPATIAL for d in image.dims) < 2:
        raise InvalidOptionError(
            f"an image with axes {', '.join(image.dims)} cannot be written: "
            "OME-Zarr asks for two or three spatial axes"
        )
    for d, scale, translation in zip(image.dims, image.scale, image.translation, strict=True):
        if not math.isfinite(scale) or (d in SPATIAL and scale <= 0):
            raise InvalidOptionError(f"scale: {scale} on {d} is no size of a sample")
        if not math.isfinite(translation):
            raise InvalidOptionError(f"translation: {translation} on {d} is no position")
