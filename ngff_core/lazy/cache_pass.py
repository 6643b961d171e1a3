"""The lazy API's cache: a large image is copied piece by piece before levels are derived."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ngff_core.config import config
from ngff_core.geometry import Region, blocks, ceil_div
from ngff_core.lazy.cutting import block_bytes, piece_bytes, pieces_shape
from ngff_core.lazy.dask_compat import count_tasks
from ngff_core.lazy.dask_levels import lazy_array
from ngff_core.lazy.image_cache import (
    CachedArray,
    cache_place,
    create_copy,
    new_folder,
    open_copy,
    register_copy,
)
from ngff_core.lazy.inputs import as_dask, as_stored, even_chunks
from ngff_core.lazy.progress import NgffProgressCallback, Progress
from ngff_core.memory import release_memory
from ngff_core.model.axes import spatial_dims
from ngff_core.model.image import NgffImage

_TARGET_CHUNK = {True: 512, False: 1024}
"""Samples per spatial axis of a cache chunk, with z and without."""
_SMALLEST_CHUNK = 16
_FEWEST = 256
"""Samples of the smallest cache chunk: with fewer there would be more objects than gain."""


def wants_cache(array: Any, cache: bool | None) -> bool:
    """Whether to copy a lazy array first: as asked, else where it exceeds a target of config."""
    if cache is not None:
        return bool(cache)
    return array.nbytes > config.memory_target or count_tasks(array) > config.task_target


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
    piece = pieces_shape(data, dims, chunks, along, _work_limit(data))
    store = cache_place(cache_store).child(base_path)
    register_copy(store, base_path)
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
    cached = CachedArray(open_copy(store), data, base_path)
    return lazy_array(cached, chunks, f"ngff-cache-{base_path}")


def _cache_chunks(dims: Sequence[str], data: Any) -> dict[str, int]:
    """Samples per cache chunk: even divisions where there are good ones, t 1.

    A divisor far from the target is none (a prime size has only 1 and itself): then the
    target is used with a partial last chunk, which pieces of whole chunks write safely.
    Shorter where the work on one chunk would not fit ``config.memory_target``.
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
    limit = _work_limit(data)
    while piece_bytes(tuple(found.values()), data) > limit:
        shorter = _shortened(found, data)
        if shorter is None:
            break
        found = shorter
    return found


def _shortened(chunks: Mapping[str, int], data: Any) -> dict[str, int] | None:
    """Chunks about half as long along one axis; None where they are small already.

    The longest spatial axis, but not into slivers: below that the axis, c among them, that
    saves the most, which is one along which a chunk touches several blocks of ``data``.
    """
    longest = max(spatial_dims(tuple(chunks)), key=chunks.__getitem__)
    blocks_of = dict(zip(chunks, even_chunks(data), strict=True))
    ways = {d: {**chunks, d: _half(n, blocks_of[d])} for d, n in chunks.items() if n > 1}
    if chunks[longest] > _SMALLEST_CHUNK:
        return ways[longest]
    if math.prod(chunks.values()) <= _FEWEST:
        return None
    return min(ways.values(), key=lambda way: piece_bytes(tuple(way.values()), data))


def _half(chunk: int, block: int) -> int:
    """About half of ``chunk``, in step with blocks where there is such a length.

    A chunk out of step touches two blocks, of which both are computed.

    >>> _half(64, 10), _half(64, 48), _half(64, 31)
    (30, 24, 31)
    """
    half = ceil_div(chunk, 2)
    if half >= block:
        return half // block * block
    return max((n for n in range(ceil_div(half, 2), half + 1) if block % n == 0), default=half)


def _work_limit(data: Any) -> float:
    """Bytes that the work on one piece may take, the blocks that it touches included.

    ``config.memory_target``; where a single block exceeds that, nothing done here can keep
    to it: then twice the block, for smaller pieces would only compute it more often.
    """
    block = block_bytes(data)
    return config.memory_target if block < config.memory_target else 2 * block
