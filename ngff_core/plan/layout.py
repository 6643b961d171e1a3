"""Chunks, shards and write blocks: how a level is cut. Never decided by the machine.

A *chunk* is the unit a reader decodes, a *shard* the object it lies in, a *block* what
one worker writes at a time: one shard, or a box of whole chunks of about that size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape, ceil_div
from ngff_core.model.axes import SPATIAL, spatial_dims

BLOCK_BYTES = 32 * 2**20
"""Shards and blocks grow by doubling until they reach this many raw bytes, so they end
between it and twice it, unless the level or a single chunk is smaller or larger."""

_GROWTH_ORDER = ("x", "y", "z", "c", "t")


def default_chunks(
    dims: Sequence[str], shape: Shape, source_chunks: Shape | None = None
) -> dict[str, int]:
    """Chunk size per axis where the caller names none.

    128 per spatial axis with z, 256 without; t 1; c as the source has it. A source
    that looks tiled with larger chunks keeps them.
    """
    spatial = 128 if "z" in dims else 256
    source = dict(zip(dims, source_chunks or (1,) * len(dims), strict=True))
    sizes = dict(zip(dims, shape, strict=True))
    tiled = any(
        source[d] > spatial and ceil_div(sizes[d], source[d]) >= 3 for d in spatial_dims(dims)
    )
    chunks = {}
    for d in dims:
        if d in SPATIAL:
            chunks[d] = max(spatial, source[d]) if tiled else spatial
        else:
            chunks[d] = source[d] if d == "c" else 1
    return {d: min(c, sizes[d]) for d, c in chunks.items()}


def resolve_sizes(
    option: str, value: Any, dims: Sequence[str], default: Mapping[str, int]
) -> dict[str, int]:
    """Sizes per axis from any documented form of ``chunks`` or ``shards``.

    An int counts for the spatial axes; a sequence is positional, over all axes or over
    the spatial ones; a mapping names any axes. What is not named keeps its default.
    Tuples of tuples, as dask spells chunks, count by their first entry.
    """
    if value is None:
        return dict(default)
    if isinstance(value, Integral):
        return {**default, **{d: _size(option, d, value) for d in spatial_dims(dims)}}
    if isinstance(value, Mapping):
        unknown = [d for d in value if d not in dims]
        if unknown:
            raise InvalidOptionError(
                f"{option}: {unknown[0]!r} is not an axis of this image ({', '.join(dims)})"
            )
        named = {d: v for d, v in value.items() if v is not None}
        return {**default, **{d: _size(option, d, v) for d, v in named.items()}}
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InvalidOptionError(f"{option}: {value!r} is neither an int, a sequence nor a mapping")
    axes = {len(dims): tuple(dims), len(spatial_dims(dims)): spatial_dims(dims)}.get(len(value))
    if axes is None:
        raise InvalidOptionError(
            f"{option}: {len(value)} sizes for the {len(dims)} axes {', '.join(dims)}"
        )
    return {**default, **{d: _size(option, d, v) for d, v in zip(axes, value, strict=True)}}


def default_shards(dims: Sequence[str], shape: Shape, chunks: Shape, itemsize: int) -> Shape:
    """The fixed rule for shards: whole multiples of the chunk, 32 to 64 MiB raw.

    >>> default_shards("zyx", (512, 2048, 2048), (128, 128, 128), 2)
    (256, 256, 256)
    >>> default_shards("yx", (1411, 1411), (256, 256), 1)
    (1536, 1536)
    """
    return grow_block(dims, shape, chunks, itemsize)


def grow_block(dims: Sequence[str], shape: Shape, unit: Shape, itemsize: int) -> Shape:
    """A box of whole ``unit``s of at least `BLOCK_BYTES`, as near to a cube as may be.

    The shortest spatial axis doubles first (x before y before z where equal), then c,
    then t; no axis grows past what covers ``shape``.
    """
    block = dict(zip(dims, unit, strict=True))
    units = dict(block)
    cover = {d: ceil_div(n, u) * u for d, n, u in zip(dims, shape, unit, strict=True)}
    while math.prod(block.values()) * itemsize < BLOCK_BYTES:
        growable = [d for d in _GROWTH_ORDER if d in block and block[d] < cover[d]]
        if not growable:
            break
        spatial = [d for d in growable if d in SPATIAL]
        axis = min(spatial, key=block.__getitem__) if spatial else growable[0]
        doubled = 2 * block[axis]
        block[axis] = cover[axis] if doubled > cover[axis] else doubled - doubled % units[axis]
    return tuple(block[d] for d in dims)


def level_chunks(chunks: Shape, shape: Shape) -> Shape:
    """Chunks of a level: never longer than the level itself."""
    return tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))


def level_shards(shards: Shape, chunks: Shape, own_chunks: Shape, shape: Shape) -> Shape:
    """Shards of a level, given those of level 0: as many chunks, if the level has them."""
    return tuple(
        min(ceil_div(s, c), ceil_div(n, own)) * own
        for s, c, own, n in zip(shards, chunks, own_chunks, shape, strict=True)
    )


def check_shards(shards: Shape, chunks: Shape, dims: Sequence[str], shape: Shape) -> Shape:
    """``shards``, once each is a whole multiple of its chunk, or longer than the image."""
    for d, s, c, n in zip(dims, shards, chunks, shape, strict=True):
        if s % c and s < n:
            raise InvalidOptionError(
                f"shards: {s} on {d} is not a whole multiple of the chunk, {c}"
            )
    return shards


def _size(option: str, dim: str, value: Any) -> int:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidOptionError(f"{option}: {value!r} on {dim} is not a whole number")
    if value < 1:
        raise InvalidOptionError(f"{option}: {value} on {dim} is not positive")
    return int(value)
