"""Compiled code of the native Gaussians: filter along z, y and x, and sample each bin.

Everything that `filter_and_sample` calls is in this file: numba's cache notices changes in
the file of the compiled function only. Arrays are flat or 1-D rows; the working rows are
float64. Two arguments are compile-time switches, for numba leaves out a branch on None:

* ``paired``: None where taps are added in ascending order (ITK), True where the centre comes
  first, then pairs of equal weight from the outermost inwards (scipy).
* ``flip``: None for floats; for integers the sign bit of a signed dtype (0 if unsigned), which
  is flipped to read and write signed integers as unsigned ones.

``single`` says whether each pass rounds to float32. Weights of one tap mean no filter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ngff_core.kernels.rows import Compiled


def _load(flat: Any, start: int, size: int, first: int, row: Any, width: int, flip: Any) -> None:
    """Copy samples ``first`` to ``first + width`` of a row of ``size`` samples to ``row``.

    As float64; signed integers get their sign back. Beyond the row's ends the outermost
    sample is repeated (edge replicate).
    """
    before = min(max(-first, 0), width)
    after = max(min(size - first, width), before)
    source = flat[start + first + before : start + first + after]
    target = row[before:after]
    if flip is None:
        for x in range(after - before):
            target[x] = source[x]
    else:
        bias = np.float64(flip)
        for x in range(after - before):
            target[x] = np.float64(source[x] ^ flip) - bias
    # Where no sample lies inside, the whole row is one repeated sample.
    edge = np.float64(0)
    if before:
        edge = _sample(flat[start], flip)
    for x in range(before):
        row[x] = edge
    if after < width:
        edge = _sample(flat[start + size - 1], flip)
    for x in range(after, width):
        row[x] = edge


def _sample(value: Any, flip: Any) -> Any:
    """One sample as float64."""
    if flip is None:
        return np.float64(value)
    return np.float64(value ^ flip) - np.float64(flip)


def _to_single(row: Any, width: int) -> None:
    """Round a row of float64 to float32, in place."""
    for x in range(width):
        row[x] = np.float32(row[x])


def _weigh(
    rows: Any, at: Any, first: int, w: Any, out: Any, width: int, single: bool, paired: Any
) -> None:
    """Write to ``out`` the weighted sum of rows ``at[first]``, ``at[first + 1]`` …, one per tap.

    The first five taps, then two at a time: each loop reads few rows, which keeps LLVM's
    checks for overlap few enough for vector code. ITK begins its sum with zero, which matters
    only where every summand is a negative zero. For five taps, which step 2 alone has, zero
    is left out: interpolation turns the result into a positive zero anyway, and a tenth of
    the work is saved.
    """
    taps = w.size
    if taps == 1:
        a = at[first]
        for x in range(width):
            out[x] = rows[a, x]
        return
    if paired is None:
        a, b, c, d, e = at[first], at[first + 1], at[first + 2], at[first + 3], at[first + 4]
        u, v, s, t, z = w[0], w[1], w[2], w[3], w[4]
        if taps == 5 and single:
            for x in range(width):
                total = (u * rows[a, x] + v * rows[b, x]) + s * rows[c, x]
                out[x] = np.float32((total + t * rows[d, x]) + z * rows[e, x])
            return
        for x in range(width):
            total = ((0.0 + u * rows[a, x]) + v * rows[b, x]) + s * rows[c, x]
            out[x] = (total + t * rows[d, x]) + z * rows[e, x]
        for j in range(5, taps, 2):
            a, b, u, v = at[first + j], at[first + j + 1], w[j], w[j + 1]
            for x in range(width):
                out[x] = (out[x] + u * rows[a, x]) + v * rows[b, x]
    else:
        a, u = at[first + taps // 2], w[taps // 2]
        for x in range(width):
            out[x] = rows[a, x] * u
        for j in range(taps // 2):
            a, b, u = at[first + j], at[first + taps - 1 - j], w[j]
            for x in range(width):
                out[x] += (rows[a, x] + rows[b, x]) * u
    if single:
        _to_single(out, width)


def _weigh_along(row: Any, w: Any, out: Any, width: int, single: bool, paired: Any) -> None:
    """Filter ``row`` along itself: ``width`` weighted sums of neighbours, to ``out``.

    Used for step 2 only, whose discrete Gaussian (``paired`` None) has five taps.
    """
    taps = w.size
    if paired is None:
        u, v, s, t, z = w[0], w[1], w[2], w[3], w[4]
        for x in range(width):
            total = (u * row[x] + v * row[x + 1]) + s * row[x + 2]
            out[x] = (total + t * row[x + 3]) + z * row[x + 4]
    else:
        u, tail = w[taps // 2], row[taps // 2 :]
        for x in range(width):
            out[x] = tail[x] * u
        for j in range(taps // 2):
            u, head, tail = w[j], row[j:], row[taps - 1 - j :]
            for x in range(width):
                out[x] += (head[x] + tail[x]) * u
    if single:
        _to_single(out, width)


def _weigh_one(row: Any, start: int, w: Any, single: bool, paired: Any) -> Any:
    """The weighted sum of the neighbours in ``row`` from ``start`` on."""
    taps = w.size
    if paired is None:
        total = 0.0
        for j in range(taps):
            total += w[j] * row[start + j]
    else:
        total = row[start + taps // 2] * w[taps // 2]
        for j in range(taps // 2):
            total += (row[start + j] + row[start + taps - 1 - j]) * w[j]
    return np.float64(np.float32(total)) if single else total


def _sample_along(
    row: Any, step: int, w: Any, spare: Any, out: Any, bins: int, single: bool, paired: Any
) -> None:
    """Filter a row along x and sample it at the centre of each bin.

    Step 2 needs every filtered sample, and filters the row into ``spare`` first; from step 3
    on only the one or two samples around each centre are filtered.
    """
    if step == 1:
        for i in range(bins):
            out[i] = row[i]
    elif step == 2:
        _weigh_along(row, w, spare, 2 * bins, single, paired)
        for i in range(bins):
            a = spare[2 * i]
            out[i] = a + (spare[2 * i + 1] - a) * 0.5
    else:
        for i in range(bins):
            a = _weigh_one(row, i * step, w, single, paired)
            if step % 2 == 0:
                a = a + (_weigh_one(row, i * step + 1, w, single, paired) - a) * 0.5
            out[i] = a


def _halfway(lines: Any, a: int, b: int, bins: int) -> None:
    """Replace line ``a`` by the linear interpolation halfway between lines ``a`` and ``b``."""
    for i in range(bins):
        lower = lines[a, i]
        lines[a, i] = lower + (lines[b, i] - lower) * 0.5


def _store(
    line: Any, out: Any, start: int, bins: int, flip: Any, low: float, high: float, single: bool
) -> None:
    """Write a line to ``out`` in its dtype; integers are rounded half to even and clipped."""
    if single:
        _to_single(line, bins)
    target = out[start : start + bins]
    if flip is None:
        for i in range(bins):
            target[i] = line[i]
    else:
        bias = np.float64(flip)
        for i in range(bins):
            value = min(max(np.rint(line[i]), low), high) + bias
            target[i] = target.dtype.type(value) ^ flip


def _filter_and_sample(
    flat: Any,
    shape: Any,
    strides: Any,
    offset: Any,
    step: Any,
    wz: Any,
    wy: Any,
    wx: Any,
    flip: Any,
    low: float,
    high: float,
    single: bool,
    paired: Any,
    strip: int,
    bins: Any,
    out: Any,
) -> None:
    """Compute a volume of ``bins`` (z, y, x) output samples into the flat ``out``.

    ``flat``, ``shape`` (z, y, x) and ``strides`` (of z and y, in samples) are the window's;
    ``offset`` and ``step`` are per axis; ``wz``, ``wy`` and ``wx`` the weights; ``low`` and
    ``high`` the range of an integer dtype; ``strip`` the number of bins along x that are
    computed at a time.
    """
    pair_z, pair_y, pair_x = 2 - step[0] % 2, 2 - step[1] % 2, 2 - step[2] % 2
    planes, ring_size = wz.size + pair_z - 1, wy.size + pair_y - 1
    # Rows are an odd number of cache lines apart: at a power of two they would compete for few
    # of the cache's sets.
    room = (strip * step[2] + wx.size + 7) // 8 // 2 * 16 + 8
    source = np.empty((planes, room))
    ring = np.empty((2 * ring_size, room))
    row, spare = np.empty(room), np.empty(room)
    lines = np.empty((4, room))
    at_source, at_ring = np.arange(planes), np.empty(ring_size, np.int64)
    # The first sample that the first bin's taps read, per axis.
    first_z = offset[0] + (step[0] - 1) // 2 - wz.size // 2
    first_y = offset[1] + (step[1] - 1) // 2 - wy.size // 2
    for start in range(0, bins[2], strip):
        count = min(strip, bins[2] - start)
        first_x = offset[2] + start * step[2] + (step[2] - 1) // 2 - wx.size // 2
        width = (count - 1) * step[2] + pair_x + wx.size - 1
        for oz in range(bins[0]):
            done = 0  # rows filtered along z, counted from first_y
            for oy in range(bins[1]):
                top = oy * step[1]
                done = max(done, top)
                while done < top + ring_size:
                    y = min(max(first_y + done, 0), shape[1] - 1)
                    for j in range(planes):
                        z = min(max(first_z + oz * step[0] + j, 0), shape[0] - 1)
                        at = z * strides[0] + y * strides[1]
                        # Where z is not filtered, its one plane goes to the ring directly.
                        line = source[j] if planes > 1 else ring[done % ring_size]
                        _load(flat, at, shape[2], first_x, line, width, flip)
                    if planes > 1:
                        for p in range(pair_z):
                            slot = p * ring_size + done % ring_size
                            _weigh(source, at_source, p, wz, ring[slot], width, single, paired)
                    done += 1
                for p in range(pair_z):
                    for j in range(ring_size):
                        at_ring[j] = p * ring_size + (top + j) % ring_size
                    for q in range(pair_y):
                        _weigh(ring, at_ring, q, wy, row, width, single, paired)
                        line = lines[2 * p + q]
                        _sample_along(row, step[2], wx, spare, line, count, single, paired)
                    if pair_y == 2:
                        _halfway(lines, 2 * p, 2 * p + 1, count)
                if pair_z == 2:
                    _halfway(lines, 0, 2, count)
                at = (oz * bins[1] + oy) * bins[2] + start
                _store(lines[0], out, at, count, flip, low, high, single)


filter_and_sample = Compiled(
    _filter_and_sample,
    _sample,
    _load,
    _to_single,
    _weigh,
    _weigh_along,
    _weigh_one,
    _sample_along,
    _halfway,
    _store,
)
