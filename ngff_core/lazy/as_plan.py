"""The plan of a caller's pyramid: made from its arrays and its metadata.

A level that ``to_multiscales`` derived, and that was not replaced since, is recognised by the
name of its array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from ngff_core.blocks import ArrayLike
from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape
from ngff_core.lazy.dask_levels import derived_name
from ngff_core.lazy.multiscales import Dataset, Metadata, NgffMultiscales, placement
from ngff_core.model.axes import canonical_order, spatial_dims
from ngff_core.model.image import NgffImage, in_canonical_order
from ngff_core.model.metadata import AxisEntry, DatasetEntry, ImageEntry, image_documents
from ngff_core.model.orientation import of_axes
from ngff_core.plan.compressors import Compressor
from ngff_core.plan.layout import (
    check_shards,
    default_chunks,
    grow_block,
    level_chunks,
    level_shards,
    resolve_sizes,
)
from ngff_core.plan.make import check_image
from ngff_core.plan.pyramid_plan import ImageInfo, LevelPlan, OmeZarrVersion, PyramidPlan, SourcePin
from ngff_core.plan.scale_factors import parent_of


@dataclass(frozen=True)
class Pyramid:
    """A plan made from arrays, their metadata, and the arrays by level."""

    plan: PyramidPlan
    entry: ImageEntry
    arrays: tuple[ArrayLike, ...]


def plan_of_arrays(
    multiscales: NgffMultiscales,
    version: OmeZarrVersion,
    chunks_per_shard: Any,
    shards: Any,
    compressor: str,
) -> Pyramid:
    """The plan by which ``multiscales`` is stored, with axes in t, c, z, y, x order.

    Nothing is computed. Raises InvalidOptionError, a ValueError, where images, metadata and
    options do not fit each other or ``version``.
    """
    _check_consistent(multiscales)
    images = [_ordered(image) for image in multiscales.images]
    base = images[0]
    entry = _entry(multiscales, base)
    info = ImageInfo(
        dims=tuple(base.dims),
        shape=tuple(int(n) for n in base.data.shape),
        dtype=np.dtype(base.data.dtype).newbyteorder("<").str,
        scale=entry.datasets[0].scale,
        translation=entry.datasets[0].translation,
        units=tuple(axis.unit for axis in entry.axes),
        name=entry.name,
    )
    check_image(info)
    own_chunks = [_chunks_of(image) for image in images]
    given = _requested_shards(multiscales, version, own_chunks[0], base, chunks_per_shard, shards)
    levels = tuple(
        _level(index, multiscales, images, own_chunks, given, entry.datasets[index].path)
        for index in range(len(images))
    )
    plan = PyramidPlan(
        source=SourcePin(f"array:{entry.name}"),
        image=info,
        method=str(multiscales.method or ""),
        ome_zarr_version=version,
        compressor=str(Compressor.parse(compressor)),
        levels=levels,
    )
    return Pyramid(plan, entry, tuple(image.data for image in images))


def _check_consistent(multiscales: NgffMultiscales) -> None:
    images, metadata = multiscales.images, multiscales.metadata
    if not images or len(images) != len(metadata.datasets):
        raise InvalidOptionError(
            f"multiscales: {len(images)} images for {len(metadata.datasets)} datasets"
        )
    names = [axis.name for axis in metadata.axes]
    for image in images:
        if tuple(image.dims) != tuple(names):
            raise InvalidOptionError(
                f"multiscales: an image with axes {tuple(image.dims)} where metadata has {names}"
            )
        if np.dtype(image.data.dtype) != np.dtype(images[0].data.dtype):
            raise InvalidOptionError(
                f"multiscales: levels of {images[0].data.dtype} and of {image.data.dtype}"
            )
    for dataset in metadata.datasets:
        if any(part in ("", ".", "..") for part in dataset.path.split("/")):
            raise InvalidOptionError(f"path: {dataset.path!r} is not a path of a level")


def _ordered(image: NgffImage) -> NgffImage:
    order = canonical_order(image.dims)
    if not isinstance(image.data, da.Array) or order == tuple(range(len(order))):
        return in_canonical_order(image)
    dims = tuple(image.dims[i] for i in order)
    transposed = image.data.transpose(order)  # type: ignore[no-untyped-call]
    return replace(image, data=transposed, dims=dims)


def _entry(multiscales: NgffMultiscales, base: NgffImage) -> ImageEntry:
    metadata, ndim = multiscales.metadata, len(base.dims)
    axes = {axis.name: axis for axis in metadata.axes}
    units = base.axes_units or {}
    orientations = of_axes(base.axes_orientations, base.dims) or {}
    order = canonical_order([axis.name for axis in metadata.axes])
    placed = [_placed(d, metadata, ndim) for d in metadata.datasets]
    return ImageEntry(
        name=metadata.name,
        axes=tuple(
            AxisEntry(d, axes[d].unit or units.get(d), axes[d].orientation or orientations.get(d))
            for d in base.dims
        ),
        datasets=tuple(
            DatasetEntry(d.path, tuple(scale[i] for i in order), tuple(moved[i] for i in order))
            for d, (scale, moved) in zip(metadata.datasets, placed, strict=True)
        ),
        type=metadata.type,
        metadata=metadata.metadata,
        omero=metadata.omero,
    )


def _placed(
    dataset: Dataset, metadata: Metadata, ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        return placement(dataset, metadata.coordinateTransformations, ndim)
    except ValueError:
        raise InvalidOptionError(
            f"metadata: a transformation of {dataset.path!r} does not have {ndim} numbers"
        ) from None


def _chunks_of(image: NgffImage) -> Shape:
    """The chunk size of an array, which its stored copy keeps."""
    data: Any = image.data
    shape = tuple(int(n) for n in data.shape)
    if isinstance(data, da.Array):
        return tuple(max(int(sizes[0]), 1) for sizes in data.chunks)
    own = getattr(data, "chunks", None)
    if isinstance(own, tuple) and all(isinstance(c, int) for c in own):
        return level_chunks(own, shape)
    default = default_chunks(image.dims, shape)
    return tuple(default[d] for d in image.dims)


def _requested_shards(
    multiscales: NgffMultiscales,
    version: str,
    chunks: Shape,
    base: NgffImage,
    chunks_per_shard: Any,
    shards: Any,
) -> Shape | None:
    if chunks_per_shard is None and shards is None:
        return None
    if version == "0.4":
        raise InvalidOptionError(
            "shards: OME-Zarr 0.4 is zarr v2, which has no shards; use version 0.5"
        )
    caller_dims = tuple(multiscales.images[0].dims)
    sizes = dict(zip(base.dims, chunks, strict=True))
    if shards is not None:
        if chunks_per_shard is not None:
            raise InvalidOptionError("chunks_per_shard: give it or shards, not both")
        found = resolve_sizes("shards", shards, caller_dims, sizes)
        asked, shape = tuple(found[d] for d in base.dims), tuple(base.data.shape)
        return check_shards(asked, chunks, base.dims, shape)
    if not isinstance(chunks_per_shard, Sequence | Mapping):
        chunks_per_shard = dict.fromkeys(caller_dims, chunks_per_shard)
    ones = dict.fromkeys(caller_dims, 1)
    counts = resolve_sizes("chunks_per_shard", chunks_per_shard, caller_dims, ones)
    return tuple(counts[d] * c for d, c in zip(base.dims, chunks, strict=True))


def _level(
    index: int,
    multiscales: NgffMultiscales,
    images: Sequence[NgffImage],
    own_chunks: Sequence[Shape],
    requested: Shape | None,
    path: str,
) -> LevelPlan:
    image, chunks = images[index], own_chunks[index]
    shape = tuple(int(n) for n in image.data.shape)
    itemsize = np.dtype(image.data.dtype).itemsize
    shards = None
    if requested is not None:
        shards = level_shards(requested, own_chunks[0], chunks, shape)
    parent, step = _derivation(multiscales, index) or (None, (1,) * len(shape))
    return LevelPlan(
        index=index,
        path=path,
        shape=shape,
        chunks=chunks,
        shards=shards,
        block=shards or grow_block(image.dims, shape, chunks, itemsize),
        # Metadata is not made from this plan, so this factor has no effect.
        factor=step,
        parent=parent,
        step=step,
    )


def _derivation(multiscales: NgffMultiscales, index: int) -> tuple[int, Shape] | None:
    """Parent and step of a level that `to_multiscales` derived; None for another array.

    The array's name is a digest of the parent's name and of the method, step and chunks.
    """
    data: Any = multiscales.images[index].data
    method, factors = multiscales.method, multiscales.scale_factors
    if index == 0 or method is None or not factors or len(factors) < index:
        return None
    dims = tuple(multiscales.images[0].dims)
    absolute = [_absolute(f, dims) for f in ({}, *factors)]
    parent = parent_of(absolute, index)
    step = tuple(f // p for f, p in zip(absolute[index], absolute[parent], strict=True))
    above: Any = multiscales.images[parent].data
    if not (isinstance(data, da.Array) and isinstance(above, da.Array)):
        return None
    chunks = tuple(int(sizes[0]) for sizes in data.chunks)
    return (parent, step) if data.name == derived_name(above, step, method, chunks) else None


def _absolute(factor: Any, dims: Sequence[str]) -> Shape:
    if not isinstance(factor, Mapping):
        factor = dict.fromkeys(spatial_dims(dims), int(factor))
    return tuple(int(factor.get(d, 1)) for d in dims)


def documents_of(pyramid: Pyramid) -> dict[str, bytes]:
    """The documents of the pyramid's group by key; raises InvalidOptionError for invalid ones."""
    try:
        return image_documents(pyramid.entry, pyramid.plan.ome_zarr_version)
    except ValueError as error:
        raise InvalidOptionError(
            f"metadata: not a valid OME-Zarr {pyramid.plan.ome_zarr_version} image: {error}"
        ) from error
