"""The Gaussian of the itkwasm back end, computed tile by tile in float32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Region, Shape, blocks, ceil_div, shifted, window_of
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
from ngff_core.kernels.weights import gaussian_radius


def _runs(bins: int, halo: int, widest: int) -> Iterator[int]:
    """Cut ``bins`` along x into runs that, with their halo, nearly fill a power of two.

    ``halo`` is in bins, per side; ``widest`` is the largest width, halo included. A region
    of 128 bins becomes runs of 126 and 2, padded to 128 and 4, instead of one of 130 bins
    padded to 256.

    >>> list(_runs(128, 1, 512)), list(_runs(55, 1, 512)), list(_runs(5, 1, 512))
    ([126, 2], [55], [5])
    """
    while bins:
        need = bins + 2 * halo
        padded = power_of_two(need)
        if padded <= widest and (padded <= 32 or 4 * padded <= 5 * need):
            run = bins
        else:
            run = min(padded // 2, widest) - 2 * halo
        yield run
        bins -= run


def _gaussian_width(step: int) -> int:
    """Largest run of bins along x, halo included: 192 to 384 samples, at least 16 bins.

    Tiles close to a cube have the smallest halos: at step 16, runs of 512 samples take three
    times as long as runs of 256.
    """
    return max(16, power_of_two(384 // step + 1) // 2)


@dataclass(frozen=True)
class _GaussianTiles:
    """How an output of ``bins`` (2-D or 3-D) is cut into tiles for the module."""

    bins: Shape
    step: Shape

    @property
    def halo(self) -> Shape:
        return tuple(gaussian_radius(k) for k in self.step)

    @property
    def limit(self) -> int:
        """Input samples of a tile, unless even the smallest tile has more."""
        return volumes.TILE_SAMPLES * (4 if max(self.step) > 3 else 1)

    def samples(self, block: Shape) -> int:
        """Input samples of a tile of ``block`` bins, halo and padding of x included."""
        axes = zip(block, self.halo, self.step, strict=True)
        spans = [b + 2 * ceil_div(h, k) for b, h, k in axes]
        spans[-1] = power_of_two(spans[-1])
        return math.prod(times(tuple(spans), self.step))

    @property
    def runs(self) -> tuple[int, ...]:
        halo = ceil_div(self.halo[-1], self.step[-1])
        return tuple(_runs(self.bins[-1], halo, _gaussian_width(self.step[-1])))

    def block(self, run: int) -> Shape:
        """Shape in bins of a tile that is ``run`` bins wide."""
        bins = (*self.bins[:-1], run)
        return fitting_block(bins, self.samples, axes=len(bins) - 1, limit=self.limit)

    def tiles(self) -> Iterator[Region]:
        """Boxes of bins; every bin is in exactly one of them."""
        start = 0
        for run in self.runs:
            strip = Region((0,) * (len(self.bins) - 1) + (start,), (*self.bins[:-1], start + run))
            yield from blocks(strip, self.block(run))
            start += run


def _padded(piece: Block, width: int) -> Block:
    """``piece`` as float32, with its last sample along x repeated up to ``width``.

    This equals the filter's own treatment of borders: repeating along x commutes with the
    passes along y and z, and along x it is what the filter does.
    """
    tile = np.empty((*piece.shape[:-1], width), np.float32)
    size = piece.shape[-1]
    tile[..., :size] = piece
    tile[..., size:] = tile[..., size - 1 : size]
    return tile


def _from_float32(samples: Block, dtype: np.dtype[Any]) -> Block:
    """float32 samples as ``dtype``; integers and bool round half to even and are clipped."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.clip(np.rint(samples), low, high).astype(dtype)


def _gaussian_volume(window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    tiling = _GaussianTiles(shape, step)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    for tile in tiling.tiles():
        need = window_of(shifted(tile, over(offset, step)), step, tiling.halo, window.shape)
        piece = window[need.box.slices]
        width = power_of_two(ceil_div(piece.shape[-1], step[-1])) * step[-1]
        samples = wasm.run("downsample", _padded(piece, width), step)
        wanted = shifted(Region.full(tile.shape), over(need.offset, step))
        out[tile.slices] = _from_float32(samples[wanted.slices], out.dtype)
    return out


class ItkwasmGaussian:
    """Discrete Gaussian per axis, then linear sampling at the bin centre (ITK's filters).

    For a step k: variance (k² - 1) / (8 ln 2) in square samples, edge replicate at the
    border, one sample per bin at (k - 1) / 2. Takes bool, 8 and 16-bit integers, float16,
    float32 and complex64, and computes in float32; integers are rounded half to even, bool
    counts as 0 and 1. The largest step is 62.

    A NaN reaches every sample within the radius of the weights. A sample that would be
    infinite is the largest finite float32 of that sign, or NaN, because the filter clips to
    the finite range.
    """

    def halo(self, step: Shape) -> Shape:
        """The radius of the weights, per axis.

        Interpolation needs no more: its two neighbours lie inside the bin.
        """
        return tuple(gaussian_radius(k) for k in step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes that float32 cannot hold exactly."""
        if dtype.kind in "biufc" and dtype.newbyteorder("=") in FLOAT32_EXACT:
            return None
        return "the itkwasm back end computes in float32"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of one tile: as float32, in the module, and its output."""
        steps = as_volume(step)
        bins = over(as_volume(window), steps)
        least = (1, 1, min(bins[-1], _gaussian_width(steps[-1])))
        tiling = _GaussianTiles(bins, steps)
        tile = most_samples(bins, tiling.samples, least, tiling.limit)
        parts = component_bytes(over(window, step), dtype)
        # Measured at 1, 4 and 8 million samples: the call itself takes 20.1 bytes per sample
        # (the bytes object, the module's input, float32 buffers of the passes), the tile 4.
        # Per output sample: the module's copies, rint, clip and the cast.
        return wasm.CALL_BYTES + parts + 25 * tile + 24 * ceil_div(tile, math.prod(steps))

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        each = partial(by_volume, _gaussian_volume)
        return by_component(each, window, offset, step, shape)
