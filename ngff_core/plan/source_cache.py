"""The cache pass: a source that cannot be read region by region is rewritten first.

The cache is a plain zarr array in the build folder. Each of its regions decodes whole units of
the source, each unit once; the regions of level 0 are then read from the cache. How it is cut
depends on the source alone, so another machine can continue it. It decides no pixel, and is
removed after publishing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape, ceil_div
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan

CacheMode = Literal["auto", "always", "never"]
CACHE_MODES: tuple[CacheMode, ...] = ("auto", "always", "never")

PHASE = "cache"
"""Name of the pass in the ledger and in progress, and of its array in the build folder."""

_REGION_BYTES = 64 * 2**20
_CHUNK = 512
# Fast rather than small: the cache is read once and removed.
_COMPRESSOR = "blosc:lz4:1:shuffle"
_MOST_DECODED = 2.0


def decode_amplification(plan: PyramidPlan, read_unit: Shape) -> float:
    """How many times the regions of level 0 decode the source in the mean.

    ``read_unit`` is the shape of the box that the source decodes at a time. Blocks and units
    both lie on grids, so this is a product over the axes: the units that each block overlaps,
    summed over the blocks, divided by the units of the axis.
    """
    level = plan.levels[0]
    times = 1.0
    for n, block, unit in zip(level.shape, level.block, read_unit, strict=True):
        times *= _units_decoded(n, block, unit) / ceil_div(n, unit)
    return times


def _units_decoded(n: int, block: int, unit: int) -> int:
    """Units that all blocks of an axis of length ``n`` overlap, each unit once for each block."""
    # Every unit once, and once more for each border of blocks that lies inside of a unit.
    borders = ceil_div(n, block) - 1
    on_both = (n - 1) // math.lcm(block, unit)
    return ceil_div(n, unit) + borders - on_both


def needs_cache(plan: PyramidPlan, read_unit: Shape, mode: str) -> bool:
    """Whether level 0 is read from a cache.

    With the mode ``auto`` it is where reading region by region would decode the source more
    than twice in the mean; caching costs writing and reading it once more, at the speed of lz4.
    Raises InvalidOptionError for a mode that is none of `CACHE_MODES`.
    """
    if mode not in CACHE_MODES:
        raise InvalidOptionError(f"cache: {mode!r} is none of {', '.join(CACHE_MODES)}")
    if mode == "auto":
        return decode_amplification(plan, read_unit) > _MOST_DECODED
    return mode == "always"


def cache_plan(plan: PyramidPlan, read_unit: Shape) -> PyramidPlan:
    """The cache as a plan of one level; its blocks are the regions of the cache pass."""
    base = plan.levels[0]
    block = _block(base.shape, read_unit, plan.dtype.itemsize)
    chunks = tuple(min(_CHUNK, n) if b == n else b for b, n in zip(block, base.shape, strict=True))
    level = LevelPlan(
        index=0,
        path=PHASE,
        shape=base.shape,
        chunks=chunks,
        shards=None,
        block=block,
        factor=base.factor,
        parent=None,
        step=base.step,
    )
    return replace(
        plan, ome_zarr_version="0.5", compressor=_COMPRESSOR, levels=(level,), checksums=True
    )


def _block(shape: Shape, unit: Shape, itemsize: int) -> Shape:
    """Whole units of the source, rows first and then planes, of about `_REGION_BYTES`."""
    block = [min(u, n) for u, n in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(block))):
        times = _REGION_BYTES // (math.prod(block) * itemsize)
        block[axis] = min(shape[axis], block[axis] * max(1, times))
    return tuple(block)
