"""Mean of each bin in native code.

Integers: the exact mean, rounded half up, which is floor((sum + n // 2) / n) for n samples.
Signed integers go as unsigned ones, half the range higher: a mean rounded half up moves
with its samples. Floats: a float64 sum in raster order (z, y, x), divided, rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape
from ngff_core.kernels.rows import (
    Compiled,
    Form,
    Rows,
    as_volume,
    by_component,
    fill,
    piece_bytes,
    plain,
)

# Bins of a strip along x: the sums of a strip stay in the first cache.
_STRIP = 1024


# ------------------------------------------------------------------ compiled code
#
# One function per kind of sum; each adds the rows of a bin, one after the other, to a line
# of sums, and divides the line. Step 2 along x has a loop of its own, which LLVM turns into
# vector code. Unsigned arithmetic wraps as it is meant to: numba makes uint64 of smaller
# types, and LLVM narrows that again.


def _add(source: Any, sums: Any, step: int, flip: Any) -> None:
    """Add ``step`` neighbours of an integer row to each sum."""
    kind = sums.dtype.type
    if step == 2:
        for i in range(sums.size):
            sums[i] += kind(source[2 * i] ^ flip) + kind(source[2 * i + 1] ^ flip)
    else:
        for i in range(sums.size):
            total = sums[i]
            for x in range(step):
                total += kind(source[i * step + x] ^ flip)
            sums[i] = total


def _add_floats(source: Any, sums: Any, step: int) -> None:
    """Add ``step`` neighbours of a row of floats to each sum, from the first to the last."""
    if step == 2:
        for i in range(sums.size):
            sums[i] = (sums[i] + source[2 * i]) + source[2 * i + 1]
    else:
        for i in range(sums.size):
            total = sums[i]
            for x in range(step):
                total += source[i * step + x]
            sums[i] = total


def _divide_small(sums: Any, out: Any, n: Any, flip: Any) -> None:
    """Means of sums below 2**32, as ``out``.

    float64 has a vector division where integers have none. It is exact here: a quotient
    that is no whole number is 1 / n >= 2**-24 or more away from the next one, and with 16
    bits before the point its rounding error is below 2**-37.
    """
    half, count = np.float64(n // 2), np.float64(n)
    for i in range(out.size):
        out[i] = np.uint32(np.floor((np.float64(sums[i]) + half) / count)) ^ flip


def _divide(sums: Any, out: Any, n: Any, flip: Any) -> None:
    """Means of sums that leave room for n // 2 in 64 bits."""
    half = n // np.uint64(2)
    for i in range(out.size):
        out[i] = (sums[i] + half) // n ^ flip


def _shrink_integers(
    flat: Any,
    strides: Any,
    offset: Any,
    step: Any,
    flip: Any,
    n: Any,
    bins: Any,
    sums: Any,
    out: Any,
) -> None:
    """``bins`` means into the flat ``out``, by way of the line ``sums`` of unsigned integers.

    With sums in uint32 all of them, and n // 2, must stay below 2**32.
    """
    for start in range(0, bins[2], sums.size):
        line = sums[: min(sums.size, bins[2] - start)]
        for oz in range(bins[0]):
            for oy in range(bins[1]):
                line[:] = 0
                for z in range(step[0]):
                    for y in range(step[1]):
                        at = (offset[0] + oz * step[0] + z) * strides[0]
                        at += (offset[1] + oy * step[1] + y) * strides[1]
                        at += offset[2] + start * step[2]
                        _add(flat[at : at + line.size * step[2]], line, step[2], flip)
                at = (oz * bins[1] + oy) * bins[2] + start
                if sums.itemsize == 4:
                    _divide_small(line, out[at : at + line.size], n, flip)
                else:
                    _divide(line, out[at : at + line.size], n, flip)


def _shrink_wide(
    flat: Any, strides: Any, offset: Any, step: Any, flip: Any, n: Any, bins: Any, out: Any
) -> None:
    """Means of uint64, whose sums take two words: one of upper, one of lower halves.

    With upper = q n + r the mean is q 2**32 + (r 2**32 + lower + n // 2) / n, and for n
    below 2**31 nothing overflows.
    """
    half, shift, mask = n // np.uint64(2), np.uint64(32), np.uint64(2**32 - 1)
    for oz in range(bins[0]):
        for oy in range(bins[1]):
            for ox in range(bins[2]):
                upper = lower = np.uint64(0)
                for z in range(step[0]):
                    for y in range(step[1]):
                        at = (offset[0] + oz * step[0] + z) * strides[0]
                        at += (offset[1] + oy * step[1] + y) * strides[1]
                        at += offset[2] + ox * step[2]
                        row = flat[at : at + step[2]]
                        for x in range(step[2]):
                            value = row[x] ^ flip
                            upper += value >> shift
                            lower += value & mask
                rest = ((upper % n) << shift) + lower + half
                mean = ((upper // n) << shift) + rest // n
                out[(oz * bins[1] + oy) * bins[2] + ox] = mean ^ flip


def _shrink_floats(
    flat: Any, strides: Any, offset: Any, step: Any, n: float, bins: Any, sums: Any, out: Any
) -> None:
    """``bins`` means of floats into the flat ``out``.

    Sums begin with -0.0, which changes none: the mean of negative zeros is negative.
    """
    for start in range(0, bins[2], sums.size):
        line = sums[: min(sums.size, bins[2] - start)]
        for oz in range(bins[0]):
            for oy in range(bins[1]):
                line[:] = -0.0
                for z in range(step[0]):
                    for y in range(step[1]):
                        at = (offset[0] + oz * step[0] + z) * strides[0]
                        at += (offset[1] + oy * step[1] + y) * strides[1]
                        at += offset[2] + start * step[2]
                        _add_floats(flat[at : at + line.size * step[2]], line, step[2])
                at = (oz * bins[1] + oy) * bins[2] + start
                target = out[at : at + line.size]
                for i in range(line.size):
                    target[i] = line[i] / n


_integers = Compiled(_shrink_integers, _add, _divide_small, _divide)
_wide = Compiled(_shrink_wide)
_floats = Compiled(_shrink_floats, _add_floats)


# ------------------------------------------------------------------ the kernel


def _as_half(samples: Block) -> Block:
    """float16 of float64 means, rounded once."""
    return samples.astype(np.float16)


def _form(dtype: np.dtype[Any], n: int) -> Form:
    """How samples of ``dtype`` (real), ``n`` to a bin, come to the compiled code and back."""
    dtype = dtype.newbyteorder("=")
    if dtype == np.float16:
        # Not float32: rounding to it and then to float16 would be rounding twice.
        return Form(np.dtype(np.float64), np.dtype(np.float64), _as_half)
    if dtype.kind in "biu" and dtype.itemsize <= 2 and not _is_small(dtype, n):
        wider = np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
        return Form(wider, wider, lambda means: means.astype(dtype))
    return Form(dtype, dtype)


def _is_small(dtype: np.dtype[Any], n: int) -> bool:
    """Whether the sums of ``n`` samples, as unsigned integers, and n // 2 take 32 bits."""
    return n << (8 * dtype.itemsize) <= 2**32


def _run(rows: Rows, offset: Shape, step: Shape, out: Block) -> None:
    """Fill ``out`` (3-D, C-contiguous) from rows of the same dtype."""
    view, n = plain(out.dtype), math.prod(step)
    flat, width = out.reshape(-1).view(view.dtype), min(_STRIP, out.shape[2])
    where = (rows.flat, rows.strides, offset, step)
    if view.flip is None:
        _floats(*where, float(n), out.shape, np.empty(width), flat)
    elif out.dtype.itemsize == 8:
        _wide(*where, view.flip, np.uint64(n), out.shape, flat)
    else:
        kind = np.uint32 if out.dtype.itemsize <= 2 else np.uint64
        _integers(*where, view.flip, np.uint64(n), out.shape, np.empty(width, kind), flat)


class NativeBinShrink:
    """Mean of each bin: exact and rounded half up for integers, once for floats.

    The same samples as ``itk::BinShrinkImageFilter`` gives where that is exact. Takes bool
    (as 0 and 1), all integers and floats up to 64 bit, and complex by parts, in either byte
    order. NaN and infinities spread over their own bin.
    """

    def halo(self, step: Shape) -> Shape:
        """Nothing: a mean looks at its own bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: it is no number, or wider than 64 bits."""
        if dtype.kind in "biu" or (dtype.kind in "fc" and dtype.newbyteorder("=") in _FLOATS):
            return None
        return "it has no mean, or one of more than 64 bits"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of a line of sums, and of one piece where samples must be converted."""
        line = 8 * min(_STRIP, as_volume(window, 1)[2])
        # A piece of float16 is copied as float64, the others as they are.
        item = 8 if dtype == np.float16 else max(4, dtype.itemsize)
        return line + piece_bytes(window, step, self.halo(step), item, 2 * item)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` samples in the window's dtype, the first bin ``lead`` samples in."""
        out = np.empty(shape, window.dtype.newbyteorder("="))

        def real(source: Block, target: Block) -> None:
            form = _form(source.dtype, math.prod(step))
            fill(target, source, offset, step, self.halo(step), form, _run)

        by_component(real, window, out)
        return out


_FLOATS = tuple(np.dtype(n) for n in ("f2", "f4", "f8", "c8", "c16"))
