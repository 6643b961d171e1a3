"""Pyramids as lazy dask arrays, for notebooks and for writing with ``to_ngff_zarr``.

Each block of a level is computed by the method's kernel from the window of the parent level
that it depends on. The samples are therefore those of ``build_pyramid`` to the byte, whatever
the chunks.
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

# The private names are here because code written for ngff-zarr imports them from this module.
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
    """Make a pyramid whose levels are lazy dask arrays; nothing is computed yet.

    Parameters
    ----------
    data
        The image: an `NgffImage`, an array of one to five dimensions (numpy, dask, zarr, or
        nested lists), or a path, URI, zarr store or mapping from key to bytes that holds a zarr
        array or an OME-Zarr image. An array without axis names has the axes ``x``, ``yx``,
        ``zyx``, ``zyxc`` or ``tzyxc``, by its number of dimensions.
    scale_factors
        Downsampling factors relative to the full image: a list with an int for all spatial axes
        or a mapping of spatial axes for each level above 0, such as ``[2, 4]``. Or an int, the
        minimum length in samples: levels are halved as long as their spatial axes stay at
        least that long. Default: 128.
    method
        The downsampling method. Default: `Methods.ITKWASM_GAUSSIAN`.
    chunks
        Chunk size in samples: an int for all spatial axes, a sequence by position in the
        caller's order of axes, or a mapping of axes. Default: the source's chunks where they are
        suitable, else 128 for volumes and 256 for planes.
    progress
        Shows the preparation of levels and the cache pass. Default: shown nowhere.
    cache
        Whether to copy the image to ``config.cache_store`` first. Default: only if it exceeds
        ``config.memory_target`` bytes or ``config.task_target`` dask tasks.
    orientation
        Anatomical orientation of the spatial axes: ``"LPS"``, ``"RAS"``, or a mapping of axes.
        It replaces the image's own. Default: the image's own.

    Returns
    -------
    NgffMultiscales
        One image for each level, finest first, with axes in t, c, z, y, x order, in the image's
        dtype and the machine's byte order.

    Raises
    ------
    InvalidOptionError
        An option cannot be used; the message names it. A ValueError.
    UnsupportedDtypeError
        The method cannot reduce samples of this dtype correctly. A TypeError.
    SourceNotFoundError, SourceFormatError
        Nothing is stored at the path or URI, or it is no image.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> image = ngff_core.NgffImage(np.ones((400, 600), "uint8"), "yx", scale={"y": 0.5, "x": 0.5})
    >>> pyramid = ngff_core.to_multiscales(image, [2, 4], chunks=128)
    >>> [level.data.shape for level in pyramid.images]
    [(400, 600), (200, 300), (100, 150)]
    >>> pyramid.images[2].scale
    {'y': 2.0, 'x': 2.0}
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
    """Wrap an array as an image with a dask array and named axes; nothing is computed.

    Where an argument is left out, the metadata of a stored OME-Zarr image is used.

    Parameters
    ----------
    data
        An array of one to five dimensions, or a path, URI, zarr store or mapping from key to
        bytes that holds a zarr array or an OME-Zarr image.
    dims
        Axis names in the order of the array's axes, out of t, c, z, y, x. Default: ``x``,
        ``yx``, ``zyx``, ``zyxc`` or ``tzyxc``, by the number of dimensions.
    scale
        Size of a sample by axis, in ``axes_units``. Default: 1 for each axis.
    translation
        Position of the first sample's centre by axis, in ``axes_units``. Default: 0 for each axis.
    name
        Name of the image, part of the paths of its levels. Default: ``"image"``.
    axes_units
        UDUNITS names by axis, such as ``{"x": "micrometer"}``. Default: none.
    axes_orientations
        Anatomical orientation of spatial axes. Default: none.

    Returns
    -------
    NgffImage
        The image, its axes in the caller's order.

    Raises
    ------
    InvalidOptionError
        The axis names do not fit the array. A ValueError.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> image = ngff_core.to_ngff_image(np.zeros((3, 64, 64)), dims="cyx", scale={"y": 0.5})
    >>> image.dims, image.scale
    (('c', 'y', 'x'), {'c': 1.0, 'y': 0.5, 'x': 1.0})
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

    ``min_length`` is the minimum length in samples. ``out_chunks`` has the chunk size of each
    spatial axis: no level is made shorter than that.
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
