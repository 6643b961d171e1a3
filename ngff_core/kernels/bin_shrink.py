"""Mean of each bin in native code.

Integers: the exact mean, rounded half up, which is floor((sum + n // 2) / n) for n samples.
Signed integers are computed as unsigned ones, half the range higher: adding a constant to
all samples adds it to a mean that is rounded half up. Floats: a float64 sum in raster order
(z, y, x), divided by n and rounded once. This is what ``itk::BinShrinkImageFilter`` defines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape
from ngff_core.kernels.rows import (
    Compiled,
    Conversion,
    Rows,
    as_volume,
    by_component,
    fill,
    piece_bytes,
    plain,
)

# Bins of a strip along x: the sums of a strip stay in the first-level cache.
_STRIP = 1024


# ------------------------------------------------------------------ compiled code
#
# One function per kind of sum. Each adds the rows of a bin, one after the other, to a line of
# sums, and then divides the line. Step 2 along x has its own loop, which LLVM turns into
# vector code. Unsigned arithmetic may wrap around: numba widens smaller types to uint64, and
# LLVM narrows them again.


def _add(source: Any, sums: Any, step: int, flip: Any) -> None:
    """Add ``step`` neighbours of a row of integers to each sum."""
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
    """Write to ``out`` the means of sums below 2**32.

    In float64, which processors divide in vectors, and integers not. It is exact here: a
    quotient that is not an integer differs from the next one by at least 1 / n >= 2**-24,
    and with 16 bits before the point its rounding error is below 2**-37.
    """
    half, count = np.float64(n // 2), np.float64(n)
    for i in range(out.size):
        out[i] = np.uint32(np.floor((np.float64(sums[i]) + half) / count)) ^ flip


def _divide(sums: Any, out: Any, n: Any, flip: Any) -> None:
    """Write to ``out`` the means of sums to which n // 2 can be added in 64 bits."""
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
    """Compute ``bins`` (z, y, x) means of ``n`` samples each into the flat ``out``.

    ``sums`` is a line of unsigned integers to work in. Where it is uint32, each sum plus
    n // 2 must stay below 2**32.
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
    """Compute means of 64-bit integers, with separate sums of their upper and lower halves.

    With upper = q n + r the mean is q 2**32 + (r 2**32 + lower + n // 2) / n; for n below
    2**31 nothing overflows.
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
    """Compute ``bins`` (z, y, x) means of floats into the flat ``out``.

    Sums begin with -0.0, which changes no sum: the mean of negative zeros stays negative.
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


def _conversion(dtype: np.dtype[Any], n: int) -> Conversion:
    """How samples of ``dtype`` (real), ``n`` per bin, are converted for the compiled code."""
    dtype = dtype.newbyteorder("=")
    if dtype == np.float16:
        # Not float32: rounding to float32 and then to float16 would round twice.
        return Conversion(np.dtype(np.float64), np.dtype(np.float64), _as_half)
    if dtype.kind in "biu" and dtype.itemsize <= 2 and not _is_small(dtype, n):
        wider = np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
        return Conversion(wider, wider, lambda means: means.astype(dtype))
    return Conversion(dtype, dtype)


def _is_small(dtype: np.dtype[Any], n: int) -> bool:
    """Whether 32 bits are enough for the sum of ``n`` samples and n // 2, as unsigned integers."""
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
    """Mean of each bin: exact and rounded half up for integers, rounded once for floats.

    The same samples as ``itk::BinShrinkImageFilter`` gives where that is exact. Takes bool
    (as 0 and 1), all integers and floats of up to 64 bits, and complex numbers by their real
    and imaginary parts, in either byte order. A bin with a NaN or an infinity has it, or NaN,
    as its mean.
    """

    def halo(self, step: Shape) -> Shape:
        """Zero: a mean needs the samples of its bin only."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes that are not numbers, or wider than 64 bits."""
        if dtype.kind in "biu" or (dtype.kind in "fc" and dtype.newbyteorder("=") in _FLOATS):
            return None
        return "it has no mean, or one of more than 64 bits"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of a line of sums, and of one piece where samples must be converted."""
        line = 8 * min(_STRIP, as_volume(window, 1)[2])
        # A piece of float16 is copied as float64, other pieces in 32 bits or their own dtype.
        item = 8 if dtype == np.float16 else max(4, dtype.itemsize)
        return line + piece_bytes(window, step, self.halo(step), item, 2 * item)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))

        def real(source: Block, target: Block) -> None:
            conversion = _conversion(source.dtype, math.prod(step))
            fill(target, source, offset, step, self.halo(step), conversion, _run)

        by_component(real, window, out)
        return out


_FLOATS = tuple(np.dtype(n) for n in ("f2", "f4", "f8", "c8", "c16"))
