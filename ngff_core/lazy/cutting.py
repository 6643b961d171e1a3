"""How a lazy array is cut into pieces whose work fits a number of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ngff_core.geometry import Shape, ceil_div

ENCODE = 3.0
"""Bytes that encoding takes beside the piece, per byte of it."""


def pieces_shape(data: Any, dims: Sequence[str], unit: Shape, along: str, memory: float) -> Shape:
    """The largest piece of whole ``unit`` whose work fits ``memory`` bytes.

    Whole lines and planes come first, then c and t, and ``along`` last; at least one unit.
    """
    inner = [d for d in ("x", "y", "z") if d in dims and d != along]
    order = [d for d in (*inner, "c", "t", along) if d in dims]
    piece = [min(u, n) for u, n in zip(unit, data.shape, strict=True)]
    for d in order:
        axis = list(dims).index(d)
        most = ceil_div(data.shape[axis], unit[axis])
        piece[axis] = _longest(piece, axis, unit[axis], most, data, memory)
    return tuple(piece)


def piece_bytes(piece: Sequence[int], data: Any) -> float:
    """Bytes at most of the work on one of the pieces that a dask array is cut into.

    Its own, those of encoding it, and those of every block of ``data`` that it touches,
    for dask computes blocks whole.
    """
    clipped = [min(p, n) for p, n in zip(piece, data.shape, strict=True)]
    touched = [_touched(p, sizes) for p, sizes in zip(clipped, data.chunks, strict=True)]
    itemsize = int(data.dtype.itemsize)
    return float(itemsize * (math.prod(clipped) * (1 + ENCODE) + math.prod(touched)))


def block_bytes(data: Any) -> int:
    """Bytes of the largest block of a dask array: no piece takes less."""
    return int(data.dtype.itemsize) * math.prod(int(max(sizes)) for sizes in data.chunks)


def _longest(piece: list[int], axis: int, unit: int, most: int, data: Any, memory: float) -> int:
    """The most units along ``axis`` that fit, by bisection."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        trial = [*piece[:axis], middle * unit, *piece[axis + 1 :]]
        fits = piece_bytes(trial, data) <= memory
        low, high = (middle, high) if fits else (low, middle - 1)
    return min(low * unit, int(data.shape[axis]))


def _touched(piece: int, sizes: Sequence[int]) -> int:
    """Samples at most of the blocks of ``sizes`` along an axis that a piece touches.

    >>> _touched(4, (4, 4, 4)), _touched(3, (4, 4, 4)), _touched(2, (4, 4, 4))
    (4, 8, 4)
    """
    edges = np.cumsum((0, *sizes))
    starts = np.arange(0, edges[-1], piece)
    stops = np.minimum(starts + piece, edges[-1])
    first = edges[np.searchsorted(edges, starts, side="right") - 1]
    last = edges[np.searchsorted(edges, stops, side="left")]
    return int((last - first).max())
