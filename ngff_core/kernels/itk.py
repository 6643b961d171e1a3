"""Kernels computed by the optional ``itk`` package; the same samples as the native kernels.

ITK filters only. It gets float32 or float64, and bins whose sums it computes exactly, because
its results for other dtypes are not exact (see ``ngff_core.kernels.itkwasm``). Sampling
between voxels is done here, because ITK's resampling is one ulp off at some widths.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape
from ngff_core.kernels.bin_shrink import NativeBinShrink
from ngff_core.kernels.gaussian import NativeGaussian, is_single, to_dtype
from ngff_core.kernels.rows import as_volume, by_component, piece_bytes, pieces, volumes
from ngff_core.kernels.weights import gaussian_variance

# ITK loads its filters on first use, which is not thread-safe.
_loading = Lock()


def check_installed() -> None:
    """Raise ``InvalidOptionError`` if the ``itk`` package is not installed."""
    if find_spec("itk") is None:
        raise InvalidOptionError(
            "method: the itk_* methods need the package itk: pip install 'ngff-flows[itk]', "
            "or use itkwasm_gaussian or itkwasm_bin_shrink, which give the same samples"
        )


@cache
def _ready(name: str, dtype: np.dtype[Any]) -> Callable[..., Block]:
    """ITK's filter ``name`` as a function of C-contiguous 3-D arrays of float32 or float64.

    The function takes the filter's settings by name, those per axis in x, y, z order. It is
    called once here, to load all that it needs.
    """
    with warnings.catch_warnings():
        # Python warns that SWIG's types have no module. Where warnings are errors, the process
        # would crash with a segmentation fault.
        warnings.simplefilter("ignore", DeprecationWarning)
        run = _loaded(name, dtype)
        run(np.zeros((2, 2, 2), dtype))
    return run


def _loaded(name: str, dtype: np.dtype[Any]) -> Callable[..., Block]:
    itk = import_module("itk")
    image = itk.Image[itk.F if dtype == np.float32 else itk.D, 3]
    kind = getattr(itk, name)[image, image]

    def run(volume: Block, **settings: Any) -> Block:
        running = kind.New(Input=itk.image_view_from_array(volume))
        for setting, value in settings.items():
            getattr(running, f"Set{setting}")(value)
        running.Update()
        samples: Block = itk.array_from_image(running.GetOutput())
        return samples

    return run


def _filtered(name: str, volume: Block, **settings: Any) -> Block:
    """Run ITK's filter ``name`` on a C-contiguous 3-D array."""
    check_installed()
    with _loading:
        run = _ready(name, volume.dtype)
    return run(volume, **settings)


# ------------------------------------------------------------------ the Gaussian


def _smoothed(volume: Block, step: Shape) -> Block:
    """Filter with the discrete Gaussian; ITK rounds to the array's dtype after each pass."""
    return _filtered(
        "DiscreteGaussianImageFilter",
        volume,
        Variance=[gaussian_variance(k) for k in reversed(step)],
        UseImageSpacing=False,
        MaximumKernelWidth=32,
        MaximumError=0.01,
    )


def _at_centres(samples: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    """Linear interpolation at the bin centres, along x first, in float64."""
    for axis, (first, k, n) in reversed(list(enumerate(zip(offset, step, shape, strict=True)))):
        lower = _every(samples, axis, first + (k - 1) // 2, k, n).astype(np.float64)
        if k % 2 == 0:
            lower += (_every(samples, axis, first + k // 2, k, n) - lower) * 0.5
        samples = lower
    return samples


def _every(samples: Block, axis: int, start: int, step: int, count: int) -> Block:
    """``count`` samples along ``axis``, ``step`` apart."""
    wanted: list[slice] = [slice(None)] * samples.ndim
    wanted[axis] = slice(start, start + (count - 1) * step + 1, step)
    return samples[tuple(wanted)]


class ItkGaussian(NativeGaussian):
    """``itk::DiscreteGaussianImageFilter``, sampled linearly at the centre of each bin.

    Same samples, dtypes and precision as ``NativeGaussian``.
    """

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of one piece: converted, filtered by ITK, and sampled."""
        # The copy, two passes in ITK, ITK's output and a copy of it; then interpolation along
        # x in float64.
        read = 5 * (4 if is_single(dtype) else 8) + 16
        return piece_bytes(window, step, self.halo(step), read, 40)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        halo = as_volume(self.halo(step), 0)

        def real(source: Block, target: Block) -> None:
            work = np.float32 if is_single(source.dtype) else np.float64
            for volume, first, steps, result in volumes(source, offset, step, target):
                for bins, box, inner in pieces(volume.shape, first, steps, halo, result.shape):
                    smooth = _smoothed(np.array(volume[box.slices], work, order="C"), steps)
                    samples = _at_centres(smooth, inner, steps, bins.shape)
                    result[bins.slices] = to_dtype(samples.astype(work), target.dtype)

        by_component(real, window, out)
        return out


# ------------------------------------------------------------------ bin shrink


def _sums(volume: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    """Sums of the bins, by ITK, in float64 and raster order.

    ITK multiplies sums by 1 / N, which is exact only if N is a power of two. So each axis of
    a bin is padded to a power of two, with -0.0, which changes no sum.
    """
    padded = tuple(1 << (k - 1).bit_length() for k in step)
    tile = np.full(_interleaved(shape, padded), -0.0)
    used = tuple(part for k in step for part in (slice(None), slice(k)))
    box = tuple(slice(a, a + n * k) for a, n, k in zip(offset, shape, step, strict=True))
    tile[used] = volume[box].reshape(_interleaved(shape, step))
    volume = tile.reshape([n * k for n, k in zip(shape, padded, strict=True)])
    means = _filtered("BinShrinkImageFilter", volume, ShrinkFactors=list(reversed(padded)))
    return means * math.prod(padded)


def _interleaved(shape: Sequence[int], step: Sequence[int]) -> list[int]:
    """Shape of an array with an axis of bins and an axis of a bin's samples for each axis."""
    return [n for pair in zip(shape, step, strict=True) for n in pair]


def _means(sums: Block, n: int, dtype: np.dtype[Any]) -> Block:
    """Divide sums of ``n`` samples: rounded half up for integers, once for floats."""
    if dtype.kind == "f":
        return (sums / n).astype(dtype)
    return ((2 * sums.astype(np.int64) + n) // (2 * n)).astype(dtype)


class ItkBinShrink(NativeBinShrink):
    """``itk::BinShrinkImageFilter``; the same samples as ``NativeBinShrink``.

    Takes bool, 8 to 32-bit integers, float16, float32 and complex64.
    """

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes whose sums float64 cannot hold exactly."""
        if dtype.itemsize > {"f": 4, "c": 8}.get(dtype.kind, 4):
            return "ITK sums in float64, which rounds samples of 64 bits"
        return super().refusal(dtype)

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of one piece: padded in float64, ITK's copy of it, sums and means."""
        padding = math.prod(1 << (k - 1).bit_length() for k in step) / math.prod(step)
        read = math.ceil(16 * padding) + dtype.itemsize
        return piece_bytes(window, step, self.halo(step), read, 48)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        halo = as_volume(self.halo(step), 0)

        def real(source: Block, target: Block) -> None:
            for volume, first, steps, result in volumes(source, offset, step, target):
                for bins, box, inner in pieces(volume.shape, first, steps, halo, result.shape):
                    sums = _sums(volume[box.slices], inner, steps, bins.shape)
                    result[bins.slices] = _means(sums, math.prod(steps), target.dtype)

        by_component(real, window, out)
        return out
