"""How a lazy array is cut into pieces whose work fits a number of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ngff_core.geometry import Shape, ceil_div

ENCODE = 3.0
"""Bytes that encoding takes beside the piece, per byte of it."""


def pieces_shape(data: Any, dims: Sequence[str], unit: Shape, along: str, memory: float) -> Shape:
    """The largest piece of whole ``unit`` whose work fits ``memory`` bytes.

    A piece costs its own bytes, those of encoding it, and those of every block of the
    dask array that it touches, t and c included. Whole lines and planes come first, then
    c and t, and ``along`` last; at least one unit.
    """
    own = tuple(max(sizes) for sizes in data.chunks)
    inner = [d for d in ("x", "y", "z") if d in dims and d != along]
    order = [d for d in (*inner, "c", "t", along) if d in dims]
    piece = [min(u, n) for u, n in zip(unit, data.shape, strict=True)]
    for d in order:
        axis = list(dims).index(d)
        most = ceil_div(data.shape[axis], unit[axis])
        piece[axis] = _longest(piece, axis, unit[axis], most, data, own, memory)
    return tuple(piece)


def _longest(
    piece: list[int], axis: int, unit: int, most: int, data: Any, own: Shape, memory: float
) -> int:
    """The most units along ``axis`` that fit, by bisection."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        trial = [*piece[:axis], middle * unit, *piece[axis + 1 :]]
        fits = _piece_bytes(trial, data, own) <= memory
        low, high = (middle, high) if fits else (low, middle - 1)
    return min(low * unit, int(data.shape[axis]))


def _piece_bytes(piece: Sequence[int], data: Any, own: Shape) -> float:
    clipped = [min(p, n) for p, n in zip(piece, data.shape, strict=True)]
    # A piece that does not begin with a block of the array touches one more.
    touched = [
        min(n, ceil_div(p, c) * c + (c if p % c else 0))
        for p, c, n in zip(clipped, own, data.shape, strict=True)
    ]
    itemsize = int(data.dtype.itemsize)
    return float(itemsize * (math.prod(clipped) * (1 + ENCODE) + math.prod(touched)))
