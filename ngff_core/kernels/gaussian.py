"""Gaussian kernels in native code: filter, then sample linearly at the centre of each bin.

The window is read once. Per plane of bins, rows of samples stream through buffers that
fit the CPU's cache: the rows of the planes a bin needs → filtered along z, into a ring of
the rows a bin needs → filtered along y → filtered along x, where a sample is needed →
interpolated. Sums are in float64; each pass rounds once to float32, or not at all where
the dtype's own precision is beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape, ceil_div
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
from ngff_core.kernels.weights import gaussian_radius, gaussian_weights

# Samples of a strip along x, halo aside. At step 2 and 256 samples all buffers take 45 kB.
_STRIP_SAMPLES = 384


# ------------------------------------------------------------------ compiled code
#
# `paired` is None for taps in ascending order, else True; `flip` is None for floats. Numba
# leaves out the branches on None when it compiles. Weights of one tap mean no filter.


def _load(flat: Any, start: int, size: int, first: int, row: Any, width: int, flip: Any) -> None:
    """Samples ``first`` to ``first + width`` of a row of ``size``, as float64.

    Beyond the ends the outermost sample is repeated. Signed integers get their sign back.
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
    # With no sample inside, the row holds the repeated one alone.
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
    """Weighted sum of the rows ``at[first]``, ``at[first + 1]`` …, one per tap.

    Five taps and then two at a time: each loop reads few rows, so that LLVM's checks for
    overlap stay few enough to vectorise it. ITK begins with zero, which shows where all that
    is added are negative zeros; at step 2, which alone has five taps, interpolation makes
    zeros of them anyway, and a tenth of the work is spared.
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
    """Weighted sums of ``width`` runs of neighbours in ``row``: five where not ``paired``.

    It is for step 2 only, whose discrete Gaussian has five taps.
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
    """Weighted sum of the neighbours in ``row`` from ``start`` on."""
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

    At step 2 every sample is needed, and whole rows are filtered; from step 3 on only
    those around the centres.
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
    """Line ``a`` becomes the mean of lines ``a`` and ``b``, by linear interpolation."""
    for i in range(bins):
        lower = lines[a, i]
        lines[a, i] = lower + (lines[b, i] - lower) * 0.5


def _store(
    line: Any, out: Any, start: int, bins: int, flip: Any, low: float, high: float, single: bool
) -> None:
    """Samples as the output has them: integers are rounded half to even and clipped."""
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


def _stream(
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
    """All of a volume: ``bins`` samples (z, y, x) into the flat ``out``.

    ``shape`` and ``strides`` are the window's, ``strip`` is how many bins along x are done
    at a time.
    """
    pair_z, pair_y, pair_x = 2 - step[0] % 2, 2 - step[1] % 2, 2 - step[2] % 2
    planes, ring_size = wz.size + pair_z - 1, wy.size + pair_y - 1
    # Rows an odd number of cache lines apart: a power of two would fill few of its sets.
    room = (strip * step[2] + wx.size + 7) // 8 // 2 * 16 + 8
    source = np.empty((planes, room))
    ring = np.empty((2 * ring_size, room))
    row, spare = np.empty(room), np.empty(room)
    lines = np.empty((4, room))
    at_source, at_ring = np.arange(planes), np.empty(ring_size, np.int64)
    # First sample of the first bin's taps, per axis.
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
                        # One plane is not filtered along z.
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


_streamed = Compiled(
    _stream,
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


# ------------------------------------------------------------------ dtypes


def is_single(dtype: np.dtype[Any]) -> bool:
    """Whether the passes round to float32: that holds every value of ``dtype``."""
    return dtype.itemsize <= {"f": 4, "c": 8}.get(dtype.kind, 2)


def to_dtype(samples: Block, dtype: np.dtype[Any]) -> Block:
    """float32 or float64 samples as ``dtype`` (real).

    Integers are rounded half to even and clipped. No float64 lies at the upper end of 64
    bits: the next one, 2**63 or 2**64, is one too many.
    """
    with np.errstate(over="ignore"):
        if dtype.kind == "f":
            return samples.astype(dtype)
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        samples, top = np.rint(samples), float(high)
        inside = np.clip(samples, low, math.nextafter(top, 0)).astype(dtype)
        return np.where(samples >= top, dtype.type(high), inside)


def _form(dtype: np.dtype[Any]) -> Form:
    """How samples of ``dtype`` (real) come to the compiled code and back."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return Form(np.dtype(np.float64), np.dtype(np.float64), partial(to_dtype, dtype=dtype))
    if dtype == np.float16:
        return Form(np.dtype(np.float32), np.dtype(np.float32), partial(to_dtype, dtype=dtype))
    return Form(dtype, dtype)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Least and largest sample; the compiled code does not look at those of floats."""
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return 0.0, 1.0


def _strip(bins: int, step: int) -> int:
    """Bins of a strip: strips of about equal width, none wider than the buffers."""
    return ceil_div(bins, ceil_div(bins * step, max(_STRIP_SAMPLES, step)))


@dataclass(frozen=True)
class _Filter:
    """The weights of each step, and the order in which taps are added."""

    weights: Any
    paired: bool | None

    @cache  # noqa: B019 - two instances, which live as long as the process
    def taps(self, step: int) -> Block:
        taps = np.array(self.weights(step))
        taps.setflags(write=False)
        return taps

    def run(self, rows: Rows, offset: Shape, step: Shape, out: Block) -> None:
        """Fill ``out`` (3-D, C-contiguous) from rows of the same dtype."""
        view = plain(out.dtype)
        _streamed(
            rows.flat,
            rows.shape,
            rows.strides,
            offset,
            step,
            *(self.taps(k) for k in step),
            view.flip,
            *_range(out.dtype),
            is_single(out.dtype),
            self.paired,
            _strip(out.shape[2], step[2]),
            out.shape,
            out.reshape(-1).view(view.dtype),
        )


_ITK = _Filter(gaussian_weights, None)


class _Gaussian:
    """Filter with the weights of ``_filter``, then sample the centre of each bin.

    Takes bool, all integers and floats up to 64 bit, and complex by parts, in either byte
    order. 8 and 16-bit integers, float16, float32 and complex64 are computed in float32,
    the others in float64: 64-bit integers are read exactly up to 2**53.
    """

    _filter: _Filter

    def _radius(self, step: int) -> int:
        raise NotImplementedError

    def halo(self, step: Shape) -> Shape:
        """The radius of the weights, per axis."""
        return tuple(self._radius(k) for k in step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: it is no number, or wider than 64 bits."""
        if dtype.kind in "biu" or (dtype.kind in "fc" and dtype.newbyteorder("=") in _FLOATS):
            return None
        return "it has no weighted mean, or one of more than 64 bits"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of the rows in work, and of one piece where samples must be converted."""
        steps, halo = as_volume(step, 1), as_volume(self.halo(step), 0)
        bins = max(1, as_volume(window, 1)[2] // steps[2])
        room = _strip(bins, steps[2]) * steps[2] + 2 * halo[2] + 16
        rows = (2 * halo[0] + 2) + 2 * (2 * halo[1] + 2) + 6
        # Per sample of a piece: its copy, of float16 as float32. Per bin: the sample,
        # rounded, clipped, compared and converted.
        item = max(4, dtype.itemsize)
        return 8 * rows * room + piece_bytes(window, step, self.halo(step), item, 5 * item)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` samples in the window's dtype, the first bin ``lead`` samples in."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        halo = self.halo(step)

        def real(source: Block, target: Block) -> None:
            form = _form(source.dtype)
            fill(target, source, offset, step, halo, form, self._filter.run)

        by_component(real, window, out)
        return out


class NativeGaussian(_Gaussian):
    """Discrete Gaussian against aliasing, sampled linearly at the centre of each bin.

    The same samples as ``itk::DiscreteGaussianImageFilter`` and linear resampling give in
    ``itkwasm_downsample.downsample``, for every dtype which that computes exactly.
    Weights: ``ngff_core.kernels.weights``; steps to 62, where those end. Taps are added in
    ascending order. Beyond the window its outermost samples are repeated.
    """

    _filter = _ITK

    def _radius(self, step: int) -> int:
        return gaussian_radius(step)


# ------------------------------------------------------------------ dask_image_gaussian


@cache
def _sampled_weights(step: int) -> tuple[float, ...]:
    """Weights of ``scipy.ndimage.gaussian_filter``, truncate 4, σ = √((k² - 1) / (8 ln 2)).

    The density at whole samples, divided by its sum. numpy's ``exp`` and ``sum`` are those
    that scipy uses; others differ in the last bit.
    """
    if step == 1:
        return (1.0,)
    radius, sigma = _sampled_radius(step), _sigma(step)
    x = np.arange(-radius, radius + 1)
    phi = np.exp(-0.5 / (sigma * sigma) * x**2)
    return tuple((phi / phi.sum()).tolist())


def _sigma(step: int) -> float:
    return math.sqrt((step * step - 1) / (8 * math.log(2)))


def _sampled_radius(step: int) -> int:
    """Four standard deviations, to the nearest sample.

    >>> [_sampled_radius(k) for k in (1, 2, 3, 4, 8)]
    [0, 3, 5, 7, 13]
    """
    return int(4.0 * _sigma(step) + 0.5)


class SampledGaussian(_Gaussian):
    """``scipy.ndimage.gaussian_filter``, sampled linearly at the centre of each bin.

    scipy adds the centre first, and then the taps in pairs of equal weight, from the
    outermost inwards.
    """

    _filter = _Filter(_sampled_weights, True)

    def _radius(self, step: int) -> int:
        return _sampled_radius(step)


_FLOATS = tuple(np.dtype(n) for n in ("f2", "f4", "f8", "c8", "c16"))
