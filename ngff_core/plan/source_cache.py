"""The cache pass: a source that cannot be read region by region is first rewritten.

The cache is a plain zarr array in the build folder, written in pieces that each decode
whole units of the source once, and read back by the regions of level 0. Its cut depends
on the source's alone, so another machine can go on with it. It decides no pixel, and is
removed after publishing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Region, Shape, blocks_touched, ceil_div
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan

CacheMode = Literal["auto", "always", "never"]
CACHE_MODES: tuple[CacheMode, ...] = ("auto", "always", "never")

PHASE = "cache"
"""Name of the pass in the ledger and in progress."""

_PIECE_BYTES = 64 * 2**20
_CHUNK = 512
# Fast rather than small: it is read once and thrown away.
_COMPRESSOR = "blosc:lz4:1:shuffle"
_BEARABLE = 2.0


def decode_amplification(plan: PyramidPlan, read_unit: Shape) -> float:
    """How many times level 0's regions decode the source in the mean.

    The product over the axes of (units met by each block, times their length) over the
    axis's length, since blocks and units both lie on grids.
    """
    level = plan.levels[0]
    found = 1.0
    for n, block, unit in zip(level.shape, level.block, read_unit, strict=True):
        spans = (Region((a,), (min(a + block, n),)) for a in range(0, n, block))
        met = sum(blocks_touched(span, (unit,)) for span in spans)
        found *= met / ceil_div(n, unit)
    return found


def needs_cache(plan: PyramidPlan, read_unit: Shape, mode: str) -> bool:
    """Whether level 0 is to be read from a cache.

    ``auto`` caches where reading region by region would decode the source more than
    twice; caching costs one more writing and reading at the speed of lz4.
    """
    if mode not in CACHE_MODES:
        raise InvalidOptionError(f"cache: {mode!r} is none of {', '.join(CACHE_MODES)}")
    if mode == "auto":
        return decode_amplification(plan, read_unit) > _BEARABLE
    return mode == "always"


def cache_plan(plan: PyramidPlan, read_unit: Shape) -> PyramidPlan:
    """The cache as a plan of one level, whose blocks are the pieces of the pass."""
    base = plan.levels[0]
    piece = _piece(base.shape, read_unit, plan.dtype.itemsize)
    chunks = tuple(min(_CHUNK, n) if p == n else p for p, n in zip(piece, base.shape, strict=True))
    level = LevelPlan(
        index=0,
        path="cache",
        shape=base.shape,
        chunks=chunks,
        shards=None,
        block=piece,
        factor=base.factor,
        parent=None,
        step=base.step,
    )
    return replace(plan, ome_zarr_version="0.5", compressor=_COMPRESSOR, levels=(level,))


def _piece(shape: Shape, unit: Shape, itemsize: int) -> Shape:
    """Whole units of the source, whole rows and planes first, of about `_PIECE_BYTES`."""
    piece = [min(u, n) for u, n in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(piece))):
        room = _PIECE_BYTES // (math.prod(piece) * itemsize)
        piece[axis] = min(shape[axis], piece[axis] * max(1, room))
    return tuple(piece)
