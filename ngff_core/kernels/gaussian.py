"""Gaussian kernels in native code: filter, then sample linearly at the centre of each bin.

The window is read once. For each plane of bins, rows of samples pass through buffers that
fit the CPU's cache: rows of the planes that a bin needs → filtered along z, into a ring of
the rows that a bin needs → filtered along y → filtered along x, only where a sample is
needed → interpolated (`ngff_core.kernels.gaussian_passes`). Sums are in float64; each pass
rounds once to float32, or not at all for dtypes of higher precision.

Sources of the definitions: weights and order of addition from ``itk::GaussianOperator`` and
``itk::DiscreteGaussianImageFilter``, and from ``scipy.ndimage.gaussian_filter``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape, ceil_div
from ngff_core.kernels.gaussian_passes import filter_and_sample
from ngff_core.kernels.rows import (
    Conversion,
    Rows,
    as_volume,
    by_component,
    fill,
    piece_bytes,
    plain,
)
from ngff_core.kernels.weights import (
    gaussian_radius,
    gaussian_weights,
    sampled_radius,
    sampled_weights,
)

# Samples of a strip along x without its halo. At step 2 and 256 samples all buffers together
# take 45 kB.
_STRIP_SAMPLES = 384


# ------------------------------------------------------------------ dtypes


def is_single(dtype: np.dtype[Any]) -> bool:
    """Whether the passes round to float32: where float32 holds every value of ``dtype``."""
    return dtype.itemsize <= {"f": 4, "c": 8}.get(dtype.kind, 2)


def to_dtype(samples: Block, dtype: np.dtype[Any]) -> Block:
    """float32 or float64 samples as ``dtype`` (real); integers round half to even and are clipped.

    The largest 64-bit integer has no float64: the nearest one, 2**63 or 2**64, is one too
    many. Samples from there on become the largest integer.
    """
    with np.errstate(over="ignore"):
        if dtype.kind == "f":
            return samples.astype(dtype)
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        samples, top = np.rint(samples), float(high)
        inside = np.clip(samples, low, math.nextafter(top, 0)).astype(dtype)
        return np.where(samples >= top, dtype.type(high), inside)


def _conversion(dtype: np.dtype[Any]) -> Conversion:
    """How samples of ``dtype`` (real) are converted for the compiled code, and back."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind in "iu" and dtype.itemsize == 8:
        return Conversion(
            np.dtype(np.float64), np.dtype(np.float64), partial(to_dtype, dtype=dtype)
        )
    if dtype == np.float16:
        return Conversion(
            np.dtype(np.float32), np.dtype(np.float32), partial(to_dtype, dtype=dtype)
        )
    return Conversion(dtype, dtype)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Least and largest sample of an integer dtype; the compiled code ignores those of floats."""
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    return 0.0, 1.0


def _strip(bins: int, step: int) -> int:
    """Bins of a strip along x: strips of about equal width, none wider than the buffers."""
    return ceil_div(bins, ceil_div(bins * step, max(_STRIP_SAMPLES, step)))


@dataclass(frozen=True)
class _Filter:
    """The weights for each step, and the order in which the taps are added."""

    weights: Callable[[int], tuple[float, ...]]
    paired: bool | None
    """None: in ascending order. True: the centre first, then pairs from the outermost inwards."""

    @cache  # noqa: B019 - two instances, which live as long as the process
    def taps(self, step: int) -> Block:
        """The weights for ``step``, as a read-only float64 array."""
        taps = np.array(self.weights(step))
        taps.setflags(write=False)
        return taps

    def run(self, rows: Rows, offset: Shape, step: Shape, out: Block) -> None:
        """Fill ``out`` (3-D, C-contiguous) from rows of the same dtype."""
        view = plain(out.dtype)
        filter_and_sample(
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
    """Filters with the weights of ``_filter``, then samples linearly at each bin's centre.

    For a step k the centre of bin i is at ``i k + (k - 1) / 2``: on a sample for odd k, half
    way between two for even k.

    Takes bool, all integers and floats of up to 64 bits, and complex numbers by their real
    and imaginary parts, in either byte order. 8 and 16-bit integers, float16, float32 and
    complex64 are computed in float32, other dtypes in float64: 64-bit integers are read
    exactly up to 2**53.
    """

    _filter: _Filter

    def _radius(self, step: int) -> int:
        raise NotImplementedError

    def halo(self, step: Shape) -> Shape:
        """The radius of the weights, per axis, in parent samples."""
        return tuple(self._radius(k) for k in step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes that are not numbers, or wider than 64 bits."""
        if dtype.kind in "biu" or (dtype.kind in "fc" and dtype.newbyteorder("=") in _FLOATS):
            return None
        return "it has no weighted mean, or one of more than 64 bits"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of the working rows, and of one piece where samples must be converted."""
        steps, halo = as_volume(step, 1), as_volume(self.halo(step), 0)
        bins = max(1, as_volume(window, 1)[2] // steps[2])
        room = _strip(bins, steps[2]) * steps[2] + 2 * halo[2] + 16
        rows = (2 * halo[0] + 2) + 2 * (2 * halo[1] + 2) + 6
        # Per sample of a piece: its copy, float16 as float32. Per bin: the sample and its
        # rounded, clipped, compared and converted copies.
        item = max(4, dtype.itemsize)
        return 8 * rows * room + piece_bytes(window, step, self.halo(step), item, 5 * item)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        halo = self.halo(step)

        def real(source: Block, target: Block) -> None:
            conversion = _conversion(source.dtype)
            fill(target, source, offset, step, halo, conversion, self._filter.run)

        by_component(real, window, out)
        return out


class NativeGaussian(_Gaussian):
    """Discrete Gaussian against aliasing, sampled linearly at the centre of each bin.

    The same samples as ``itkwasm_downsample.downsample`` gives, which is
    ``itk::DiscreteGaussianImageFilter`` and linear resampling, for every dtype that it
    computes exactly. The weights are those of `gaussian_weights`, defined for steps up to 62.
    Taps are added in ascending order. Beyond the window its outermost samples are repeated.
    """

    _filter = _ITK

    def _radius(self, step: int) -> int:
        return gaussian_radius(step)


class SampledGaussian(_Gaussian):
    """``scipy.ndimage.gaussian_filter``, sampled linearly at the centre of each bin.

    With ``truncate=4`` and ``mode="nearest"``. scipy adds the centre first, then the taps in
    pairs of equal weight, from the outermost inwards.
    """

    _filter = _Filter(sampled_weights, True)

    def _radius(self, step: int) -> int:
        return sampled_radius(step)


_FLOATS = tuple(np.dtype(n) for n in ("f2", "f4", "f8", "c8", "c16"))
