"""Pyramids as lazy dask arrays, for notebooks and for writing with ``to_ngff_zarr``.

Every block of a level is computed by the method's kernel from the window of the parent
that geometry says it needs. So the samples are those of ``build_pyramid`` to the byte,
whatever the chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape, level_scale, level_translation
from ngff_core.kernels.methods import DEFAULT_METHOD, Methods, check_dtype, parse_method
from ngff_core.lazy.cache_pass import (
    _cache_1d_segments,
    _cache_2d_strips,
    _find_optimal_chunk_size,
    _large_image_serialization,
    wants_cache,
)
from ngff_core.lazy.dask_levels import derived_level
from ngff_core.lazy.inputs import Opened, as_dask, as_stored, open_input
from ngff_core.lazy.multiscales import NgffMultiscales, metadata_of
from ngff_core.lazy.progress import Progress
from ngff_core.model.axes import check_dims, is_sound_name, spatial_dims
from ngff_core.model.image import NgffImage, spatial_shape
from ngff_core.model.orientation import AnatomicalOrientation, resolve_orientation
from ngff_core.plan.layout import default_chunks, resolve_sizes
from ngff_core.plan.scale_factors import factors_from_min_length, parent_of, resolve_factors

# The names of the page, by which code written for ngff-zarr finds them here.
__all__ = [
    "_cache_1d_segments",
    "_cache_2d_strips",
    "_find_optimal_chunk_size",
    "_large_image_serialization",
    "_ngff_image_scale_factors",
    "to_multiscales",
    "to_ngff_image",
]

Chunks = (
    int
    | tuple[int, ...]
    | tuple[tuple[int, ...], ...]
    | Mapping[Any, int | tuple[int, ...] | None]
    | None
)


def to_multiscales(
    data: Any,
    scale_factors: int | Sequence[dict[str, int] | int] = 128,
    method: Methods | None = None,
    chunks: Chunks = None,
    progress: Progress = None,
    cache: bool | None = None,
    orientation: str | Mapping[str, AnatomicalOrientation] | None = None,
) -> NgffMultiscales:
    """The pyramid of an image, its levels as lazy dask arrays; nothing is computed yet.

    ``data`` is an NgffImage, an array of one to five dimensions (numpy, dask, zarr, or
    nested lists), or a path, URI, zarr store or mapping of bytes with a zarr array or an
    OME-Zarr image. Axes come out in t, c, z, y, x order. ``scale_factors`` are relative
    to the full image: a list with one int or one mapping of spatial axes per level, or an
    int, down to which many samples levels are halved. ``method`` is ITKWASM_GAUSSIAN by
    default. ``chunks`` are the samples of a chunk: an int for the spatial axes, sizes by
    position, or a mapping of axes. ``cache`` copies the image to ``config.cache_store``
    first; None does so for what exceeds ``config.memory_target`` or
    ``config.task_target``. ``orientation`` is LPS, RAS, or a mapping of spatial axes, and
    replaces what the image carries.

    The levels have the image's dtype, in the machine's byte order. Raises a ValueError
    that names the option it cannot use, and UnsupportedDtypeError, a TypeError, for
    samples that the method cannot reduce rightly.
    """
    method = parse_method(DEFAULT_METHOD if method is None else method)
    opened = open_input(data)
    image = opened.image
    if not is_sound_name(image.name):
        raise InvalidOptionError(f"name: {image.name!r} cannot be part of a path")
    sizes = _chunk_sizes(opened, chunks)
    factors = resolve_factors(
        scale_factors, spatial_shape(image), {d: sizes[d] for d in spatial_dims(image.dims)}
    )
    if factors:
        check_dtype(method, image.data.dtype)
    if orientation is not None:
        image = replace(image, axes_orientations=resolve_orientation(orientation, image.dims))
    if wants_cache(image.data, cache):
        image = _large_image_serialization(image, progress)
    images = _levels(image, factors, method, tuple(sizes[d] for d in image.dims), progress)
    return NgffMultiscales(
        images=images,
        metadata=metadata_of(images, method),
        scale_factors=list(factors),
        method=method,
        chunks=sizes,
    )


def to_ngff_image(
    data: Any,
    dims: Sequence[str] | None = None,
    scale: Mapping[str, float] | None = None,
    translation: Mapping[str, float] | None = None,
    name: str = "image",
    axes_units: Mapping[str, str] | None = None,
    axes_orientations: Mapping[str, AnatomicalOrientation] | None = None,
) -> NgffImage:
    """An image with a dask array, its axes as the caller names them; nothing is computed.

    ``data`` is an array, or a path, URI, zarr store or mapping of bytes with a zarr array
    or an OME-Zarr image; what such an image says counts where an argument is left out.
    ``scale`` and ``translation`` are per axis, 1 and 0 by default.
    """
    found = as_stored(data)
    return NgffImage(
        data=as_dask(found),
        dims=check_dims(dims or found.image.dims, len(found.image.data.shape)),
        scale=found.image.scale if scale is None else scale,
        translation=found.image.translation if translation is None else translation,
        name=found.image.name if name == "image" else name,
        axes_units=found.image.axes_units if axes_units is None else axes_units,
        axes_orientations=axes_orientations or found.image.axes_orientations,
    )


def _ngff_image_scale_factors(
    ngff_image: NgffImage, min_length: int, out_chunks: Mapping[str, Any]
) -> list[dict[str, int]]:
    """Absolute factors per spatial axis, one mapping per level above 0.

    ``out_chunks`` has the chunk of each spatial axis: no level is made shorter.
    """
    sizes = spatial_shape(ngff_image)
    chunks = resolve_sizes("chunks", dict(out_chunks), ngff_image.dims, dict(sizes))
    within = {d: min(chunks[d], n) for d, n in sizes.items()}
    return list(factors_from_min_length(sizes, within, min_length))


def _chunk_sizes(opened: Opened, chunks: Chunks) -> dict[str, int]:
    """Samples per chunk of the levels, by axis in t, c, z, y, x order."""
    image = opened.image
    shape = tuple(image.data.shape)
    default = default_chunks(image.dims, shape, opened.source_chunks)
    sizes = resolve_sizes("chunks", chunks, opened.caller_dims, default)
    return {d: min(sizes[d], n) for d, n in zip(image.dims, shape, strict=True)}


def _levels(
    image: NgffImage,
    factors: Sequence[Mapping[str, int]],
    method: Methods,
    chunks: Shape,
    progress: Progress,
) -> list[NgffImage]:
    dims = tuple(image.dims)
    absolute = [tuple(f.get(d, 1) for d in dims) for f in ({}, *factors)]
    if progress is not None:
        progress.add_multiscales_task("Preparing the levels", len(absolute))
    images: list[NgffImage] = []
    for index, factor in enumerate(absolute):
        if index == 0:
            data = image.data.rechunk(chunks).astype(image.data.dtype.newbyteorder("="))  # type: ignore[attr-defined]
        else:
            parent = parent_of(absolute, index)
            step = tuple(f // p for f, p in zip(factor, absolute[parent], strict=True))
            data = derived_level(images[parent].data, step, method, chunks)
        images.append(_level_image(image, data, factor))
        if progress is not None:
            progress.update_multiscales_task_completed(index + 1)
    return images


def _level_image(base: NgffImage, data: Any, factor: Shape) -> NgffImage:
    scale = tuple(base.scale[d] for d in base.dims)
    translation = tuple(base.translation[d] for d in base.dims)
    moved = level_translation(scale, translation, factor)
    return replace(
        base,
        data=data,
        scale=dict(zip(base.dims, level_scale(scale, factor), strict=True)),
        translation=dict(zip(base.dims, moved, strict=True)),
    )
