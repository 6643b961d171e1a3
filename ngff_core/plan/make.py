"""Makes a `PyramidPlan` from the description of an image and the caller's options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape, level_shape
from ngff_core.kernels.methods import Methods, check_dtype, method_info, parse_method
from ngff_core.model.axes import SPATIAL
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR, Compressor
from ngff_core.plan.layout import (
    LevelPaths,
    check_level_paths,
    check_shards,
    default_chunks,
    default_shards,
    grow_block,
    level_chunks,
    level_path,
    level_shards,
    resolve_sizes,
    wants_no_shards,
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
from ngff_core.plan.scale_factors import (
    HalvingRule,
    ScaleFactors,
    factors_with_equal_yx,
    parent_of,
    resolve_factors,
)


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
    level_paths: str = "flat",
    checksums: bool = True,
    halving: HalvingRule = factors_with_equal_yx,
) -> PyramidPlan:
    """The plan of a pyramid of ``image``.

    ``halving`` makes the factors where ``scale_factors`` is a minimum length.

    ``source_chunks`` is the shape of the source's own chunks or tiles, which the default
    chunks take into account. Shapes, and ``chunks`` or ``shards`` given as sequences, are in
    the order of ``image.dims``. Raises `InvalidOptionError` or `UnsupportedDtypeError` for
    options that do not fit the image, naming the option.
    """
    check_image(image)
    method = parse_method(method)
    version = check_version(ome_zarr_version)
    defaults = default_chunks(image.dims, image.shape, source_chunks)
    sizes = resolve_sizes("chunks", chunks, image.dims, defaults)
    factors = _factors(scale_factors, image, sizes, halving)
    if len(factors) > 1:
        check_dtype(method, np.dtype(image.dtype))
    cut = _Cut(
        image,
        check_level_paths(level_paths),
        sizes,
        _given_shards(shards, version, image, sizes),
        sharded=version != "0.4" and not wants_no_shards(shards),
    )
    return PyramidPlan(
        source=source,
        image=image,
        method=method.value,
        ome_zarr_version=version,
        compressor=str(Compressor.parse(compressor)),
        levels=tuple(_level_plan(index, factors, cut) for index in range(len(factors))),
        method_version=method_info(method).version,
        # zarr v2 has none in any case.
        checksums=checksums or version == "0.4",
    )


@dataclass(frozen=True)
class _Cut:
    """The options that decide how levels are cut into chunks and shards."""

    image: ImageInfo
    level_paths: LevelPaths
    chunk_sizes: dict[str, int]
    """Chunks of level 0, by axis."""
    shards: Shape | None
    """Shards of level 0 as the caller gave them, per axis."""
    sharded: bool
    """Whether there are shards, given or by default."""

    @property
    def chunks(self) -> Shape:
        """Chunks of level 0, per axis."""
        return tuple(self.chunk_sizes[d] for d in self.image.dims)


def _factors(
    scale_factors: ScaleFactors, image: ImageInfo, chunks: dict[str, int], halving: HalvingRule
) -> list[Shape]:
    """Factors of all levels, per axis; those of level 0 are 1."""
    spatial = {d: n for d, n in zip(image.dims, image.shape, strict=True) if d in SPATIAL}
    clipped = {d: min(chunks[d], n) for d, n in spatial.items()}
    above_0 = resolve_factors(scale_factors, spatial, clipped, halving)
    return [tuple(factor.get(d, 1) for d in image.dims) for factor in ({}, *above_0)]


def _level_plan(index: int, factors: list[Shape], cut: _Cut) -> LevelPlan:
    factor, dims = factors[index], cut.image.dims
    itemsize = np.dtype(cut.image.dtype).itemsize
    shape = level_shape(cut.image.shape, factor)
    chunks = level_chunks(cut.chunks, shape)
    shards = None
    if cut.shards is not None:
        shards = level_shards(cut.shards, cut.chunks, chunks, shape)
    elif cut.sharded:
        shards = default_shards(dims, shape, chunks, itemsize)
    parent = parent_of(factors, index) if index else None
    parent_factor = factors[parent] if parent is not None else factor
    return LevelPlan(
        index=index,
        path=level_path(index, cut.image.name, cut.level_paths),
        shape=shape,
        chunks=chunks,
        shards=shards,
        block=shards or grow_block(dims, shape, chunks, itemsize),
        factor=factor,
        parent=parent,
        step=tuple(f // p for f, p in zip(factor, parent_factor, strict=True)),
    )


def _given_shards(
    shards: Any, version: OmeZarrVersion, image: ImageInfo, chunks: dict[str, int]
) -> Shape | None:
    if shards is None or wants_no_shards(shards):
        return None
    if version == "0.4":
        raise InvalidOptionError(
            "shards: OME-Zarr 0.4 is stored as zarr v2, which has no shards; "
            "leave them out, or use ome_zarr_version 0.5"
        )
    sizes = resolve_sizes("shards", shards, image.dims, chunks)
    return check_shards(
        tuple(sizes[d] for d in image.dims),
        tuple(chunks[d] for d in image.dims),
        image.dims,
        image.shape,
    )


def check_version(version: str) -> OmeZarrVersion:
    """``version`` if it can be written, else an InvalidOptionError that lists those that can."""
    for known in OME_ZARR_VERSIONS:
        if version == known:
            return known
    raise InvalidOptionError(
        f"ome_zarr_version: {version!r} cannot be written; "
        f"use one of {', '.join(OME_ZARR_VERSIONS)}"
    )


def check_image(image: ImageInfo) -> None:
    """Raise InvalidOptionError for an image that OME-Zarr cannot represent; it says why."""
    if any(n == 0 for n in image.shape):
        raise InvalidOptionError(f"the image is empty: its shape is {image.shape}")
    if sum(d in SPATIAL for d in image.dims) < 2:
        raise InvalidOptionError(
            f"an image with axes {', '.join(image.dims)} cannot be written: "
            "OME-Zarr requires two or three spatial axes (z, y, x)"
        )
    for d, scale, translation in zip(image.dims, image.scale, image.translation, strict=True):
        if not math.isfinite(scale) or (d in SPATIAL and scale <= 0):
            raise InvalidOptionError(
                f"scale: {scale} on {d} is not a valid size of a sample; give a positive number"
            )
        if not math.isfinite(translation):
            raise InvalidOptionError(
                f"translation: {translation} on {d} is not a position; give a finite number"
            )
