"""How a level is cut into chunks, shards and regions; the machine never decides it.

A *chunk* is the box that a reader decodes, a *shard* the object that contains it. A *block*
is the shape of a region, which is written at a time: one shard, or a box of complete chunks
of about that size. Sizes are in samples; ``dims`` are axis names in array order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape, ceil_div
from ngff_core.model.axes import SPATIAL, spatial_dims

BLOCK_BYTES = 32 * 2**20
"""Shards and blocks are doubled until they have this many uncompressed bytes. So they have
between one and two times as many, unless the level is smaller or a single chunk is larger."""

LevelPaths = Literal["flat", "named"]
LEVEL_PATHS: tuple[LevelPaths, ...] = ("flat", "named")
NO_SHARDS = "none"
"""What the option ``shards`` is for arrays without shards; 0 means the same."""

_LONGEST_NAME = 200
_GROWTH_ORDER = ("x", "y", "z", "c", "t")


def default_chunks(
    dims: Sequence[str], shape: Shape, source_chunks: Shape | None = None
) -> dict[str, int]:
    """Chunk size by axis where the caller gives none.

    128 on spatial axes of an image with z, 256 without z; 1 on t; the source's chunk on c.
    A source that is cut into at least three larger chunks along a spatial axis keeps its own.
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
    """Sizes by axis from any documented form of ``chunks`` or ``shards``.

    An int is the size on every spatial axis; a sequence has an entry for each axis, or for
    each spatial axis; a mapping names any axes. Other axes keep their ``default``. Of tuples
    of tuples, which are dask's chunks, the first entry of each counts. ``option`` is the name
    in error messages.
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
            f"{option}: {len(value)} sizes for the {len(dims)} axes {', '.join(dims)}; "
            "give one size for each axis, or for each spatial axis"
        )
    return {**default, **{d: _size(option, d, v) for d, v in zip(axes, value, strict=True)}}


def default_shards(dims: Sequence[str], shape: Shape, chunks: Shape, itemsize: int) -> Shape:
    """The default shards: multiples of the chunk, of 32 to 64 MiB uncompressed.

    >>> default_shards("zyx", (512, 2048, 2048), (128, 128, 128), 2)
    (256, 256, 256)
    >>> default_shards("yx", (1411, 1411), (256, 256), 1)
    (1536, 1536)
    """
    return grow_block(dims, shape, chunks, itemsize)


def grow_block(dims: Sequence[str], shape: Shape, unit: Shape, itemsize: int) -> Shape:
    """A box of complete ``unit``s of at least `BLOCK_BYTES`, as close to a cube as possible.

    The shortest spatial axis is doubled first (of equal ones x, then y, then z), then c, then
    t. No axis becomes longer than needed to cover ``shape``.
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
    """Shards of a level: as many of its ``own_chunks`` as level 0's shards have, or as it has."""
    return tuple(
        min(ceil_div(s, c), ceil_div(n, own)) * own
        for s, c, own, n in zip(shards, chunks, own_chunks, shape, strict=True)
    )


def check_shards(shards: Shape, chunks: Shape, dims: Sequence[str], shape: Shape) -> Shape:
    """``shards``, if on each axis they are a multiple of the chunk, or longer than the image."""
    for d, s, c, n in zip(dims, shards, chunks, shape, strict=True):
        if s % c and s < n:
            raise InvalidOptionError(
                f"shards: {s} on {d} is not a whole multiple of the chunk, {c}; "
                f"give {c}, {2 * c}, {3 * c} …"
            )
    return shards


def wants_no_shards(shards: Any) -> bool:
    """Whether the option ``shards`` asks for arrays without shards.

    >>> wants_no_shards("none"), wants_no_shards(0), wants_no_shards(None), wants_no_shards(256)
    (True, True, False, False)
    """
    if isinstance(shards, str):
        return shards.strip().lower() == NO_SHARDS
    return not isinstance(shards, bool) and isinstance(shards, Integral) and shards == 0


def check_level_paths(paths: str) -> LevelPaths:
    """``paths`` if it is one of `LEVEL_PATHS`, else an InvalidOptionError that lists them."""
    for known in LEVEL_PATHS:
        if paths == known:
            return known
    raise InvalidOptionError(f"level_paths: {paths!r} is none of {', '.join(LEVEL_PATHS)}")


def level_path(index: int, name: str, paths: LevelPaths) -> str:
    """The path of a level's array: a number, or with the image's name, in either case URL-safe.

    >>> level_path(1, "Field #1", "flat"), level_path(1, "Field #1", "named")
    ('1', 'scale1/Field_1')
    """
    return str(index) if paths == "flat" else f"scale{index}/{_url_safe(name)}"


def _url_safe(name: str) -> str:
    """The name with what a URL or a path could take for something else replaced."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:_LONGEST_NAME]
    return safe if safe.strip("_") and safe != "zarr.json" else "image"


def _size(option: str, dim: str, value: Any) -> int:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidOptionError(f"{option}: {value!r} on {dim} is not a whole number")
    if value < 1:
        raise InvalidOptionError(f"{option}: {value} on {dim} is not positive")
    return int(value)
