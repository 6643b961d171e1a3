"""Cutting a lazy array into boxes that can be computed and encoded within a number of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ngff_core.geometry import Shape, ceil_div

ENCODE = 3.0
"""Bytes that encoding takes in addition, for each byte of a box."""


def box_shape(data: Any, dims: Sequence[str], unit: Shape, along: str, memory: float) -> Shape:
    """The shape of the largest box, in multiples of ``unit``, whose work fits ``memory`` bytes.

    It grows to complete lines and planes first, then along c and t, and along the axis
    ``along`` last. It is at least one unit.
    """
    inner = [d for d in ("x", "y", "z") if d in dims and d != along]
    order = [d for d in (*inner, "c", "t", along) if d in dims]
    box = [min(u, n) for u, n in zip(unit, data.shape, strict=True)]
    for d in order:
        axis = list(dims).index(d)
        most = ceil_div(data.shape[axis], unit[axis])
        box[axis] = _longest(box, axis, unit[axis], most, data, memory)
    return tuple(box)


def work_bytes(box: Sequence[int], data: Any) -> float:
    """The most bytes that work takes on one of the boxes that a dask array is cut into.

    These are the box, its encoding, and all blocks of ``data`` that it touches: dask computes
    only complete blocks.
    """
    clipped = [min(p, n) for p, n in zip(box, data.shape, strict=True)]
    touched = [_touched(p, sizes) for p, sizes in zip(clipped, data.chunks, strict=True)]
    itemsize = int(data.dtype.itemsize)
    return float(itemsize * (math.prod(clipped) * (1 + ENCODE) + math.prod(touched)))


def block_bytes(data: Any) -> int:
    """Bytes of the largest block of a dask array: work on any box takes at least as many."""
    return int(data.dtype.itemsize) * math.prod(int(max(sizes)) for sizes in data.chunks)


def _longest(box: list[int], axis: int, unit: int, most: int, data: Any, memory: float) -> int:
    """The most units along ``axis`` that fit, by bisection."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        trial = [*box[:axis], middle * unit, *box[axis + 1 :]]
        fits = work_bytes(trial, data) <= memory
        low, high = (middle, high) if fits else (low, middle - 1)
    return min(low * unit, int(data.shape[axis]))


def _touched(box: int, sizes: Sequence[int]) -> int:
    """The most samples, along an axis with blocks of ``sizes``, in the blocks that a box touches.

    >>> _touched(4, (4, 4, 4)), _touched(3, (4, 4, 4)), _touched(2, (4, 4, 4))
    (4, 8, 4)
    """
    edges = np.cumsum((0, *sizes))
    starts = np.arange(0, edges[-1], box)
    stops = np.minimum(starts + box, edges[-1])
    first = edges[np.searchsorted(edges, starts, side="right") - 1]
    last = edges[np.searchsorted(edges, stops, side="left")]
    return int((last - first).max())
