"""The lazy API's cache: a large image is copied piece by piece before levels are derived."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ngff_core.axes import spatial_dims
from ngff_core.config import config
from ngff_core.geometry import Region, blocks, ceil_div
from ngff_core.image import NgffImage
from ngff_core.kept_copies import (
    CachedArray,
    cache_place,
    create_copy,
    new_folder,
    open_copy,
    register_copy,
)
from ngff_core.lazy import lazy_array
from ngff_core.lazy_input import as_dask, as_stored, even_chunks
from ngff_core.memory import release_memory
from ngff_core.pieces import ENCODE, pieces_shape
from ngff_core.progress import NgffProgressCallback, Progress

_TARGET_CHUNK = {True: 512, False: 1024}
"""Samples per spatial axis of a cache chunk, with z and without."""
_SMALLEST_CHUNK = 16


def wants_cache(array: Any, cache: bool | None) -> bool:
    """Whether to copy a lazy array first: as asked, else where it exceeds a target of config."""
    if cache is not None:
        return bool(cache)
    return array.nbytes > config.memory_target or _tasks(array) > config.task_target


def _tasks(array: Any) -> int:
    graph: Any = array.__dask_graph__()
    return sum(len(layer) for layer in graph.layers.values())


def _find_optimal_chunk_size(first_chunk: int, dim_size: int, min_divisor: int = 16) -> int:
    """The divisor of ``dim_size`` nearest to ``first_chunk``.

    Of two as near it is the multiple of ``min_divisor``, else the larger. ``dim_size``
    itself where that is at most ``min_divisor``.

    >>> _find_optimal_chunk_size(512, 1000), _find_optimal_chunk_size(512, 1021)
    (500, 1021)
    """
    if dim_size <= min_divisor:
        return dim_size
    low = [d for d in range(1, math.isqrt(dim_size) + 1) if dim_size % d == 0]
    divisors = {*low, *(dim_size // d for d in low)}
    return min(divisors, key=lambda d: (abs(d - first_chunk), d % min_divisor != 0, -d))


def _large_image_serialization(image: NgffImage, progress: Progress) -> NgffImage:
    """The same image with its samples copied to ``config.cache_store``, piece by piece.

    Axes may be in any order. Reading falls back on the caller's array where the copy is
    gone, so a cache that was removed costs time and no sample.
    """
    data = as_dask(as_stored(image))
    dims = tuple(image.dims)
    rechunks = _cache_chunks(dims, data)
    folder = new_folder(config.cache_store)
    if "z" in dims:
        cached = _cache_along("z", data, dims, rechunks, config.cache_store, folder, progress)
    elif "y" in dims and "x" in dims:
        cached = _cache_2d_strips(data, dims, rechunks, config.cache_store, folder, progress)
    else:
        cached = _cache_1d_segments(data, dims, rechunks, config.cache_store, folder, progress)
    return replace(image, data=cached)


def _cache_2d_strips(
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    """Cache a 2-D image strip by strip along the larger of y and x.

    ``data`` is a dask array with axes ``dims`` (t and c among them, perhaps),
    ``rechunks`` the cache's chunk per axis, ``base_path`` where in ``cache_store`` the
    copy goes. Returns a dask array of the same samples that reads the copy.
    """
    sizes = dict(zip(dims, data.shape, strict=True))
    along = "y" if sizes["y"] >= sizes["x"] else "x"
    return _cache_along(along, data, dims, rechunks, cache_store, base_path, progress)


def _cache_1d_segments(
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    """Cache a 1-D image (t and c aside) segment by segment along its spatial axis.

    Arguments and result as for `_cache_2d_strips`.
    """
    (along,) = spatial_dims(dims)
    return _cache_along(along, data, dims, rechunks, cache_store, base_path, progress)


def _cache_along(
    along: str,
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    chunks = tuple(min(int(rechunks[d]), n) for d, n in zip(dims, data.shape, strict=True))
    piece = pieces_shape(data, dims, chunks, along, config.memory_target)
    store = cache_place(cache_store).child(base_path)
    layer = register_copy(store, base_path)
    array = create_copy(store, data, chunks)
    boxes = list(blocks(Region((0,) * data.ndim, tuple(data.shape)), piece))
    if progress is not None:
        progress.add_cache_task(f"Caching along {along}", len(boxes))
    for done, box in enumerate(boxes, start=1):
        if isinstance(progress, NgffProgressCallback):
            progress.add_callback_task(f"Caching piece {done} of {len(boxes)}")
        array[box.slices] = np.asarray(data[box.slices])
        release_memory()
        if progress is not None:
            progress.update_cache_task_completed(done)
    return lazy_array(CachedArray(open_copy(store), data), chunks, layer)


def _cache_chunks(dims: Sequence[str], data: Any) -> dict[str, int]:
    """Samples per cache chunk: even divisions where there are good ones, t 1.

    A divisor far from the target is none (a prime size has only 1 and itself): then the
    target is used with a partial last chunk, which pieces of whole chunks write safely.
    """
    target = _TARGET_CHUNK["z" in dims]
    found = {}
    for d, n, own in zip(dims, data.shape, even_chunks(data), strict=True):
        if d in spatial_dims(dims):
            wanted = min(target, n)
            even = _find_optimal_chunk_size(wanted, n)
            found[d] = even if wanted <= 2 * even <= 3 * wanted else wanted
        else:
            found[d] = min(own, n) if d == "c" else 1
    while _too_large(found, data.dtype.itemsize):
        longest = max(spatial_dims(dims), key=found.__getitem__)
        found[longest] = ceil_div(found[longest], 2)
    return found


def _too_large(chunks: Mapping[str, int], itemsize: int) -> bool:
    longest = max(chunks[d] for d in spatial_dims(tuple(chunks)))
    needed = math.prod(chunks.values()) * itemsize * (1 + ENCODE)
    return needed > config.memory_target and longest > _SMALLEST_CHUNK
