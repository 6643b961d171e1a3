"""Bin shrink of the itkwasm back end: exact means of bins of a power of two samples."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Region, Shape, blocks, ceil_div, shifted
from ngff_core.kernels.itkwasm import volumes, wasm
from ngff_core.kernels.itkwasm.volumes import (
    FLOAT32_EXACT,
    as_volume,
    by_component,
    by_volume,
    component_bytes,
    fitting_block,
    most_samples,
    over,
    power_of_two,
    times,
)


def _bin_samples(block: Shape, step: Shape) -> int:
    """Samples of a tile of ``block`` bins, once each bin is padded to a power of two per axis."""
    return math.prod(times(block, tuple(power_of_two(k) for k in step)))


def _means_of_plain_bins(piece: Block, step: Shape, dtype: np.dtype[Any]) -> Block:
    """Means of bins of a power of two samples, which the module divides exactly."""
    if dtype == np.uint32:
        # The module turns uint32 means of 2**31 and more into 2**31. Adding a constant to all
        # samples adds it to a mean rounded half up, so they are passed as int32, 2**31 lower.
        lowered = (piece.astype(np.uint32) ^ np.uint32(2**31)).view(np.int32)
        return wasm.run("downsample_bin_shrink", lowered, step).view(np.uint32) ^ np.uint32(2**31)
    if dtype == np.float16:
        # Not float32: rounding to float32 and then to float16 would round twice.
        work: np.dtype[Any] = np.dtype(np.float64)
    else:
        work = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    tile = np.ascontiguousarray(piece, work)
    return wasm.run("downsample_bin_shrink", tile, step).astype(dtype, copy=False)


def _means_of_padded_bins(piece: Block, step: Shape, dtype: np.dtype[Any]) -> Block:
    """Means of bins of any size, each axis of a bin padded to a power of two.

    The padding is -0.0, which changes no sum, not even one of negative zeros. The module
    gives the sum in raster order, divided by a power of two. The sum is recovered from it
    exactly (float32 is far from float64's subnormals) and divided here.
    """
    padded = tuple(power_of_two(k) for k in step)
    bins = over(piece.shape, step)
    split = tuple(n for pair in zip(bins, padded, strict=True) for n in pair)
    tile = np.full(split, -0.0, np.float64)
    used = tuple(s for k in step for s in (slice(None), slice(k)))
    tile[used] = piece.reshape(tuple(n for pair in zip(bins, step, strict=True) for n in pair))
    means = wasm.run("downsample_bin_shrink", tile.reshape(times(bins, padded)), padded)
    sums, count = means * math.prod(padded), math.prod(step)
    if dtype.kind == "f":
        return (sums / count).astype(dtype)
    return ((2 * sums.astype(np.int64) + count) // (2 * count)).astype(dtype)


def _bin_shrink_volume(window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    out = np.empty(shape, window.dtype.newbyteorder("="))
    plain = power_of_two(math.prod(step)) == math.prod(step)
    means = _means_of_plain_bins if plain else _means_of_padded_bins
    block = fitting_block(
        shape, partial(_bin_samples, step=step), axes=len(shape), limit=volumes.TILE_SAMPLES
    )
    for tile in blocks(Region.full(shape), block):
        box = shifted(Region(times(tile.start, step), times(tile.stop, step)), offset)
        out[tile.slices] = means(window[box.slices], step, out.dtype)
    return out


class ItkwasmBinShrink:
    """Mean of each bin (``itk::BinShrinkImageFilter``).

    Integers: the exact mean rounded half up, towards plus infinity; bool likewise, as 0
    and 1. Floats: a float64 sum in raster order, divided and rounded once; a bin with a NaN
    or an infinity has it, or NaN, as its mean. Takes bool, 8 to 32-bit integers, float16,
    float32 and complex64.
    """

    def halo(self, step: Shape) -> Shape:
        """Zero: a mean needs the samples of its bin only."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes whose means the module does not compute exactly."""
        if dtype.kind not in "biufc":
            return "it has no mean"
        if dtype.kind in "iu" and dtype.itemsize == 8:
            return "the itkwasm back end sums in float64, which rounds 64-bit integers"
        if dtype.newbyteorder("=") not in (*FLOAT32_EXACT, np.int32, np.uint32):
            return "the itkwasm back end does not round means of this precision exactly"
        return None

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of one tile: converted, in the module, and its output."""
        steps = as_volume(step)
        bins = over(as_volume(window), steps)
        tile = most_samples(
            bins, partial(_bin_samples, step=steps), (1, 1, 1), volumes.TILE_SAMPLES
        )
        parts = component_bytes(over(window, step), dtype)
        # Measured on 8 million samples: the call itself takes 2.13 times the tile's bytes
        # (17.0 bytes per float64 sample), beside the tile (8) and its copy in bins (4).
        return wasm.CALL_BYTES + parts + 30 * tile + 40 * ceil_div(tile, math.prod(steps))

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        each = partial(by_volume, _bin_shrink_volume)
        return by_component(each, window, offset, step, shape)
