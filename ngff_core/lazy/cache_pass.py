"""The cache pass of the lazy API: a large image is copied before levels are derived."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ngff_core.config import config
from ngff_core.geometry import Region, blocks, ceil_div
from ngff_core.lazy.cutting import block_bytes, box_shape, work_bytes
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
"""Samples along each spatial axis of a cache chunk, with z and without."""
_SMALLEST_CHUNK = 16
_FEWEST = 256
"""Samples of the smallest cache chunk: smaller ones cost more objects than they save memory."""


def wants_cache(array: Any, cache: bool | None) -> bool:
    """Whether to copy a lazy array first: ``cache``, or if that is None, if it exceeds `config`."""
    if cache is not None:
        return bool(cache)
    return array.nbytes > config.memory_target or count_tasks(array) > config.task_target


def _find_optimal_chunk_size(first_chunk: int, dim_size: int, min_divisor: int = 16) -> int:
    """The divisor of ``dim_size`` nearest to ``first_chunk``.

    Of two that are equally near, a multiple of ``min_divisor`` is taken, else the larger. A
    ``dim_size`` of at most ``min_divisor`` is its own optimal chunk size.

    >>> _find_optimal_chunk_size(512, 1000), _find_optimal_chunk_size(512, 1021)
    (500, 1021)
    """
    if dim_size <= min_divisor:
        return dim_size
    low = [d for d in range(1, math.isqrt(dim_size) + 1) if dim_size % d == 0]
    divisors = {*low, *(dim_size // d for d in low)}
    return min(divisors, key=lambda d: (abs(d - first_chunk), d % min_divisor != 0, -d))


def _large_image_serialization(image: NgffImage, progress: Progress) -> NgffImage:
    """The same image with its samples copied to ``config.cache_store``, box by box.

    Axes may be in any order. Where the copy was removed, the caller's array is read instead:
    that costs time, but changes no sample.
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

    ``data`` is a dask array with axes ``dims``, which may include t and c. ``rechunks`` is the
    chunk size of the cache by axis, and ``base_path`` the folder in ``cache_store`` for the copy.
    Returns a dask array of the same samples that reads the copy.
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
    """Cache an image with one spatial axis segment by segment along it.

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
    shape = box_shape(data, dims, chunks, along, _work_limit(data))
    store = cache_place(cache_store).child(base_path)
    register_copy(store, base_path)
    array = create_copy(store, data, chunks)
    boxes = list(blocks(Region((0,) * data.ndim, tuple(data.shape)), shape))
    if progress is not None:
        progress.add_cache_task(f"Caching along {along}", len(boxes))
    for done, box in enumerate(boxes, start=1):
        if isinstance(progress, NgffProgressCallback):
            progress.add_callback_task(f"Caching box {done} of {len(boxes)}")
        array[box.slices] = np.asarray(data[box.slices])
        release_memory()
        if progress is not None:
            progress.update_cache_task_completed(done)
    cached = CachedArray(open_copy(store), data, base_path)
    return lazy_array(cached, chunks, f"ngff-cache-{base_path}")


def _cache_chunks(dims: Sequence[str], data: Any) -> dict[str, int]:
    """Chunk size of the cache by axis: an even division where a suitable one exists; 1 along t.

    Where no divisor is near the target (a prime size has only 1 and itself), the target is used
    with a partial last chunk; boxes consist of complete chunks, so no chunk is written twice.
    Chunks are shorter where the work on one would not fit ``config.memory_target``.
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
    while work_bytes(tuple(found.values()), data) > limit:
        shorter = _shortened(found, data)
        if shorter is None:
            break
        found = shorter
    return found


def _shortened(chunks: Mapping[str, int], data: Any) -> dict[str, int] | None:
    """Chunks about half as long along one axis; None where they are small already.

    The longest spatial axis is halved down to a minimum. After that it is the axis, c included,
    that saves the most: one along which a chunk touches several blocks of ``data``.
    """
    longest = max(spatial_dims(tuple(chunks)), key=chunks.__getitem__)
    blocks_of = dict(zip(chunks, even_chunks(data), strict=True))
    ways = {d: {**chunks, d: _half(n, blocks_of[d])} for d, n in chunks.items() if n > 1}
    if chunks[longest] > _SMALLEST_CHUNK:
        return ways[longest]
    if math.prod(chunks.values()) <= _FEWEST:
        return None
    return min(ways.values(), key=lambda way: work_bytes(tuple(way.values()), data))


def _half(chunk: int, block: int) -> int:
    """About half of ``chunk``, aligned to blocks where there is such a length.

    A chunk that is not aligned touches two blocks, and both are computed.

    >>> _half(64, 10), _half(64, 48), _half(64, 31)
    (30, 24, 31)
    """
    half = ceil_div(chunk, 2)
    if half >= block:
        return half // block * block
    return max((n for n in range(ceil_div(half, 2), half + 1) if block % n == 0), default=half)


def _work_limit(data: Any) -> float:
    """Bytes that the work on one box may take, including the blocks that it touches.

    This is ``config.memory_target``. A single block may exceed that, and then no choice here
    could stay within it: the limit is twice the block, because smaller boxes would only compute
    the block more often.
    """
    block = block_bytes(data)
    return config.memory_target if block < config.memory_target else 2 * block
