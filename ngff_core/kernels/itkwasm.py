"""The kernels of the itkwasm back end: ITK filters compiled to WebAssembly.

The samples come from ``itkwasm_downsample_wasi`` 2.0.2. Left to itself that module
gives samples that depend on how an image is cut, and rounds some dtypes wrongly, so
each kernel here feeds it only what it gets exactly right:

* ITK's resampling walks a scan line as ``start + (end - start) * (i / size)``, which is
  off by one ulp for some widths (45, 99, 100 ...). That moves the last bit of the
  Gaussian and breaks ties between labels. It is exact for a width that is a power of
  two, so those are the only widths it is given.
* Integers are rounded between the passes of the Gaussian, up to 3 off: it gets float32.
* Bin shrink multiplies by 1/N, which is exact only for N a power of two (16-bit means
  of 98 or 196 samples come out one off): other bins are filled up with zeros to the
  next power of two, and the division is done here.
* Labels go through float64, 2**60 + 1 becomes 2**60, and time grows with the number of
  labels (31 s for 72 000 voxels of random uint16): it gets ranks within one bin.
* The linear memory ends at 4 GiB: images go through in tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from itertools import product
from threading import Lock
from typing import Any

import numpy as np

from ngff_core.geometry import Region, Shape, blocks, ceil_div, window_of
from ngff_core.image import Block
from ngff_core.kernels.weights import gaussian_radius

# Input samples of one module call. At step 2 the Gaussian makes 8, 13, 13 and 11 million
# voxels a second with 2**18, 2**20, 2**21 and 2**22: small tiles are half halo, large ones
# leave the CPU's cache. Four times as many where a Gaussian's step is over 3 and its halo
# wide: 2.4 for 1.1 million at step 8, 0.4 for 0.1 at step 16.
_TILE_SAMPLES = 2**20
# Beside what grows with the tile (measured: a warm call on 64 samples adds 0.3 MB): room
# for an allocator that has not grown yet.
_CALL_BYTES = 16 * 2**20

_compiling = Lock()

_Volume = Callable[[Block, Shape, Shape, Shape], Block]


# ------------------------------------------------------------------ the wasm module


@cache
def _compiled(name: str) -> Callable[[Block, Shape], Block]:
    """The module's function ``name`` on numpy arrays, ready to run.

    Imported and called here once: compiling takes 3 to 5 s when the user's cache
    directory holds no compiled copy, and the package compiles twice when two threads
    meet in a first call.
    """
    image_from_array = import_module("itkwasm").image_from_array
    function = getattr(import_module("itkwasm_downsample_wasi"), name)

    def run(array: Block, step: Shape) -> Block:
        image = function(image_from_array(array), shrink_factors=list(reversed(step)))
        samples: Block = np.asarray(image.data)
        return samples

    run(np.zeros((2, 2), np.uint8), (1, 1))
    return run


def _run(name: str, array: Block, step: Shape) -> Block:
    """What module function ``name`` makes of a C-contiguous 2-D or 3-D array."""
    with _compiling:
        function = _compiled(name)
    return function(array, step)


# ------------------------------------------------------------------ axes and tiles


def _by_volume(reduce: _Volume, window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
    """``reduce`` on each 2-D or 3-D array of a window of one to five dimensions.

    A c axis next to y and x goes in as if it were z: at step 1 no sample of the module
    depends on its neighbours along that axis.
    """
    if window.ndim == 1:
        row = _by_volume(reduce, window[np.newaxis], (0, *lead), (1, *step), (1, *shape))
        return row.reshape(shape)
    outer = max(0, window.ndim - 3)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    for index in np.ndindex(shape[:outer]):
        source = tuple(a + i for a, i in zip(lead, index, strict=False))
        out[index] = reduce(window[source], lead[outer:], step[outer:], shape[outer:])
    return out


def _by_component(reduce: _Volume, window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
    """``reduce`` on the real and on the imaginary part, or on a window that is real."""
    if window.dtype.kind != "c":
        return reduce(window, lead, step, shape)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    out.real = reduce(window.real, lead, step, shape)
    out.imag = reduce(window.imag, lead, step, shape)
    return out


def _block(bins: Shape, samples: Callable[[Shape], int], axes: int, limit: int) -> Shape:
    """A block of ``bins`` with ``samples(block) <= limit``, where that can be.

    Halves the longest of the first ``axes`` axes; the others keep their length.
    """
    block = list(bins)
    while samples(tuple(block)) > limit and max(block[:axes], default=1) > 1:
        longest = max(range(axes), key=block.__getitem__)
        block[longest] = ceil_div(block[longest], 2)
    return tuple(block)


def _most_samples(bins: Shape, samples: Callable[[Shape], int], least: Shape, limit: int) -> int:
    """Samples at most of a block that ``_block`` makes of ``bins`` or of fewer."""
    return min(samples(bins), max(limit, samples(least)))


def _component_bytes(bins: Shape, dtype: np.dtype[Any]) -> int:
    """Bytes of the samples of one part, which ``_by_component`` holds for complex ones."""
    return math.prod(bins) * dtype.itemsize // 2 if dtype.kind == "c" else 0


def _at(offset: Shape, region: Region) -> Region:
    """``region`` moved by ``offset``."""
    return Region(
        tuple(a + o for a, o in zip(region.start, offset, strict=True)),
        tuple(b + o for b, o in zip(region.stop, offset, strict=True)),
    )


def _whole(shape: Shape) -> Region:
    return Region((0,) * len(shape), shape)


def _times(a: Shape, b: Shape) -> Shape:
    return tuple(x * y for x, y in zip(a, b, strict=True))


def _over(a: Shape, b: Shape) -> Shape:
    return tuple(x // y for x, y in zip(a, b, strict=True))


def _power_of_two(n: int) -> int:
    """The least power of two that is at least ``n``.

    >>> [_power_of_two(n) for n in (1, 2, 3, 8, 9)]
    [1, 2, 4, 8, 16]
    """
    return 1 << (n - 1).bit_length()


def _as_volume(shape: Shape) -> Shape:
    """The last three axes, with unit axes in front where there are fewer."""
    return (1, 1, *shape)[-3:] if len(shape) < 3 else shape[-3:]


# ------------------------------------------------------------------ the Gaussian


def _runs(bins: int, halo: int, widest: int) -> Iterator[int]:
    """Cuts ``bins`` along x so that each run and its halo nearly fill a power of two.

    ``halo`` is in bins, per side. A region of 128 bins becomes 126 + 2, padded to 128 and
    4, where one piece would be padded from 130 to 256.

    >>> list(_runs(128, 1, 512)), list(_runs(55, 1, 512)), list(_runs(5, 1, 512))
    ([126, 2], [55], [5])
    """
    while bins:
        need = bins + 2 * halo
        padded = _power_of_two(need)
        if padded <= widest and (padded <= 32 or 4 * padded <= 5 * need):
            run = bins
        else:
            run = min(padded // 2, widest) - 2 * halo
        yield run
        bins -= run


def _gaussian_width(step: int) -> int:
    """Widest run of bins along x, halo included: 192 to 384 samples, at least 16 bins.

    Tiles near a cube waste least on halos: at step 16, runs of 512 samples take three
    times as long as runs of 256.
    """
    return max(16, _power_of_two(384 // step + 1) // 2)


@dataclass(frozen=True)
class _GaussianTiles:
    """How an output of ``bins`` (2-D or 3-D) is cut for the module."""

    bins: Shape
    step: Shape

    @property
    def halo(self) -> Shape:
        return tuple(gaussian_radius(k) for k in self.step)

    @property
    def limit(self) -> int:
        """Input samples of a tile, where a tile of so few can be."""
        return _TILE_SAMPLES * (4 if max(self.step) > 3 else 1)

    def samples(self, block: Shape) -> int:
        """Input samples of a tile of ``block`` bins, halo and padding of x included."""
        axes = zip(block, self.halo, self.step, strict=True)
        spans = [b + 2 * ceil_div(h, k) for b, h, k in axes]
        spans[-1] = _power_of_two(spans[-1])
        return math.prod(_times(tuple(spans), self.step))

    @property
    def runs(self) -> tuple[int, ...]:
        halo = ceil_div(self.halo[-1], self.step[-1])
        return tuple(_runs(self.bins[-1], halo, _gaussian_width(self.step[-1])))

    def block(self, run: int) -> Shape:
        """Bins of a tile that is ``run`` wide."""
        bins = (*self.bins[:-1], run)
        return _block(bins, self.samples, axes=len(bins) - 1, limit=self.limit)

    def tiles(self) -> Iterator[Region]:
        """Boxes of bins; every bin is in exactly one."""
        start = 0
        for run in self.runs:
            strip = Region((0,) * (len(self.bins) - 1) + (start,), (*self.bins[:-1], start + run))
            yield from blocks(strip, self.block(run))
            start += run


def _padded(piece: Block, width: int) -> Block:
    """``piece`` as float32, its last sample along x repeated up to ``width``.

    The same as the filter's own border: repeating commutes with the passes along y
    and z, and along x it is what the filter does.
    """
    tile = np.empty((*piece.shape[:-1], width), np.float32)
    size = piece.shape[-1]
    tile[..., :size] = piece
    tile[..., size:] = tile[..., size - 1 : size]
    return tile


def _from_float32(samples: Block, dtype: np.dtype[Any]) -> Block:
    """float32 samples as ``dtype``: integers and bool round half to even and are clipped."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.clip(np.rint(samples), low, high).astype(dtype)


def _gaussian_volume(window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
    tiling = _GaussianTiles(shape, step)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    for tile in tiling.tiles():
        need = window_of(_at(_over(lead, step), tile), step, tiling.halo, window.shape)
        piece = window[need.box.slices]
        width = _power_of_two(ceil_div(piece.shape[-1], step[-1])) * step[-1]
        samples = _run("downsample", _padded(piece, width), step)
        wanted = _at(_over(need.lead, step), _whole(tile.shape))
        out[tile.slices] = _from_float32(samples[wanted.slices], out.dtype)
    return out


class ItkwasmGaussian:
    """Discrete Gaussian per axis, then linear sampling at the bin centre (ITK's filters).

    For a step k: variance (k² - 1) / (8 ln 2) in samples, edge replicate at the border,
    one sample per bin at (k - 1) / 2. Takes bool, 8 and 16-bit integers, float16, float32
    and complex64, and computes in float32; integers are rounded half to even, bool as
    0 and 1. Steps go up to 62.

    NaN spreads as far as the weights reach. Where a sample would be infinite it is the
    largest finite float32 of that sign, or NaN: the filter clips to the finite range.
    """

    def halo(self, step: Shape) -> Shape:
        """Radius of the weights, per axis.

        Sampling needs nothing more: its two neighbours lie inside the bin.
        """
        return tuple(gaussian_radius(k) for k in step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: what float32 cannot hold exactly is refused."""
        if dtype.kind in "biufc" and dtype.newbyteorder("=") in _FLOAT32_EXACT:
            return None
        return "the itkwasm back end computes in float32"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes at most of one tile: as float32, in the module, and its samples."""
        steps = _as_volume(step)
        bins = _over(_as_volume(window), steps)
        least = (1, 1, min(bins[-1], _gaussian_width(steps[-1])))
        tiling = _GaussianTiles(bins, steps)
        tile = _most_samples(bins, tiling.samples, least, tiling.limit)
        parts = _component_bytes(_over(window, step), dtype)
        # Measured at 1, 4 and 8 million samples: 20.1 bytes per sample inside the call
        # (the bytes object, wasm's input, float32 buffers of the passes), and the tile's 4.
        # Output samples: the module's copies, rint, clip and the cast.
        return _CALL_BYTES + parts + 25 * tile + 24 * ceil_div(tile, math.prod(steps))

    def reduce(self, window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` samples in the window's dtype, the first bin ``lead`` samples in."""
        by_volume = partial(_by_volume, _gaussian_volume)
        return _by_component(by_volume, window, lead, step, shape)


# ------------------------------------------------------------------ bin shrink


def _bin_samples(block: Shape, step: Shape) -> int:
    """Samples the module is given for ``block`` bins, once filled up."""
    return math.prod(_times(block, tuple(_power_of_two(k) for k in step)))


def _means_of_plain_bins(piece: Block, step: Shape, dtype: np.dtype[Any]) -> Block:
    """Means over bins of a power of two samples, which the module divides exactly."""
    if dtype == np.uint32:
        # The module turns uint32 means of 2**31 and more into 2**31. A mean rounded half
        # up moves with its samples, so they go as int32, 2**31 lower.
        lowered = (piece.astype(np.uint32) ^ np.uint32(2**31)).view(np.int32)
        return _run("downsample_bin_shrink", lowered, step).view(np.uint32) ^ np.uint32(2**31)
    if dtype == np.float16:
        # Not float32: rounding to it and then to float16 would be rounding twice.
        work: np.dtype[Any] = np.dtype(np.float64)
    else:
        work = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    tile = np.ascontiguousarray(piece, work)
    return _run("downsample_bin_shrink", tile, step).astype(dtype, copy=False)


def _means_of_filled_bins(piece: Block, step: Shape, dtype: np.dtype[Any]) -> Block:
    """Means over bins of any size, each axis of a bin filled up to a power of two.

    The filling is -0.0, which changes no sum, not even one of negative zeros. The module
    gives the sum in raster order over a power of two; the sum is recovered exactly from
    it (float32 is far from float64's subnormals), and divided here.
    """
    filled = tuple(_power_of_two(k) for k in step)
    bins = _over(piece.shape, step)
    split = tuple(n for pair in zip(bins, filled, strict=True) for n in pair)
    tile = np.full(split, -0.0, np.float64)
    used = tuple(s for k in step for s in (slice(None), slice(k)))
    tile[used] = piece.reshape(tuple(n for pair in zip(bins, step, strict=True) for n in pair))
    means = _run("downsample_bin_shrink", tile.reshape(_times(bins, filled)), filled)
    sums, count = means * math.prod(filled), math.prod(step)
    if dtype.kind == "f":
        return (sums / count).astype(dtype)
    return ((2 * sums.astype(np.int64) + count) // (2 * count)).astype(dtype)


def _bin_shrink_volume(window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
    out = np.empty(shape, window.dtype.newbyteorder("="))
    plain = _power_of_two(math.prod(step)) == math.prod(step)
    means = _means_of_plain_bins if plain else _means_of_filled_bins
    block = _block(shape, partial(_bin_samples, step=step), axes=len(shape), limit=_TILE_SAMPLES)
    for tile in blocks(_whole(shape), block):
        box = _at(lead, Region(_times(tile.start, step), _times(tile.stop, step)))
        out[tile.slices] = means(window[box.slices], step, out.dtype)
    return out


class ItkwasmBinShrink:
    """Mean of each bin (``itk::BinShrinkImageFilter``).

    Integers: the exact mean rounded half up, towards plus infinity; bool likewise, as 0
    and 1. Floats: a float64 sum in raster order, divided and rounded once; NaN and
    infinities spread over their own bin. Takes bool, 8 to 32-bit integers, float16,
    float32 and complex64.
    """

    def halo(self, step: Shape) -> Shape:
        """Nothing: a mean looks at its own bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: what the module's float64 sums cannot hold is refused."""
        if dtype.kind not in "biufc":
            return "it has no mean"
        if dtype.kind in "iu" and dtype.itemsize == 8:
            return "the itkwasm back end sums in float64, which rounds 64-bit integers"
        if dtype.newbyteorder("=") not in (*_FLOAT32_EXACT, np.int32, np.uint32):
            return "the itkwasm back end does not round means of this precision exactly"
        return None

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes at most of one tile: converted, in the module, and its samples."""
        steps = _as_volume(step)
        bins = _over(_as_volume(window), steps)
        tile = _most_samples(bins, partial(_bin_samples, step=steps), (1, 1, 1), _TILE_SAMPLES)
        parts = _component_bytes(_over(window, step), dtype)
        # Measured on 8 million samples: 2.13 times the tile's bytes inside the call
        # (17.0 bytes per sample of float64), beside the tile (8) and its copy in bins (4).
        return _CALL_BYTES + parts + 30 * tile + 40 * ceil_div(tile, math.prod(steps))

    def reduce(self, window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` samples in the window's dtype, the first bin ``lead`` samples in."""
        by_volume = partial(_by_volume, _bin_shrink_volume)
        return _by_component(by_volume, window, lead, step, shape)


# ------------------------------------------------------------------ labels


def _voters(window: Block, lead: Shape, step: Shape, shape: Shape) -> list[Block]:
    """The voxels around every bin centre, as views in raster order.

    One voxel per axis of odd step, two per axis of even step.
    """
    offsets = [(k // 2,) if k % 2 else (k // 2 - 1, k // 2) for k in step]
    views = []
    for offset in product(*offsets):
        axes = zip(lead, offset, step, shape, strict=True)
        views.append(window[tuple(slice(a + o, a + o + (n - 1) * k + 1, k) for a, o, k, n in axes)])
    return views


def _winning_rank(ranks: Block) -> Block:
    """Most frequent number of each row, smallest on a tie; rows of 2, 4 or 8 below 8.

    The rows go to the module as bins of one row of bins, filled up to a power of two.
    """
    rows, size = ranks.shape
    packed = np.zeros((_power_of_two(rows), size), np.uint8)
    packed[:rows] = ranks
    step = (2, 2, 2) if size == 8 else (size // 2, 2)
    bins = packed.reshape(-1, *step)
    tile = np.moveaxis(bins, 0, -2).reshape(*step[:-1], -1)
    winners = _run("downsample_label_image", np.ascontiguousarray(tile), step)
    return winners.reshape(-1)[:rows]


def _vote(votes: Block) -> Block:
    """Most frequent label of each row, smallest on a tie.

    The module sees only each label's rank in its row: order is what a tie needs, eight
    ranks are the most it ever meets, and labels of any width come back as they were.
    """
    if votes.dtype.kind == "f":
        values, index = np.unique(votes, return_inverse=True)
        return values[_vote(index.reshape(votes.shape))]
    ranks = np.zeros(votes.shape, np.uint8)
    for other in votes.T:
        ranks += other[:, np.newaxis] < votes
    winners = _winning_rank(ranks)
    column = winners[:, np.newaxis].astype(np.intp)
    return np.take_along_axis(np.sort(votes, axis=1), column, axis=1)[:, 0]


def _elect(voters: list[Block], dtype: np.dtype[Any]) -> Block:
    """The label of each bin; only bins with more than one label cost a vote."""
    labels = voters[0].astype(dtype)
    mixed = np.zeros(labels.shape, np.bool_)
    for voter in voters[1:]:
        mixed |= voter != labels
    if mixed.any():
        votes = np.stack([v[mixed] for v in voters], axis=1).astype(dtype, copy=False)
        labels[mixed] = _vote(votes)
    # Equal labels must come out as equal bytes: adding zero makes -0.0 into 0.0.
    return labels + labels.dtype.type(0) if dtype.kind == "f" else labels


def _votes(block: Shape) -> int:
    return 8 * math.prod(block)


class ItkwasmLabelImage:
    """Vote of the voxels next to the bin centre.

    ITK's filter is ``itk::LabelImageGaussianInterpolateImageFunction``.

    Odd step: the centre voxel of that axis. Even step: the two voxels around the centre.
    The most frequent label wins, the smallest on a tie. Takes bool, all integers and
    floats, exactly; NaN counts as one label, the largest; -0.0 and 0.0 are one label.
    """

    def halo(self, step: Shape) -> Shape:
        """Nothing: the voters lie in their own bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: labels must have an order, which breaks their ties."""
        if dtype.kind in "biu" or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
            return None
        return "labels of this kind have no order to break a tie by"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes at most of one block of bins whose labels are all mixed."""
        bins = _most_samples(_over(window, step), _votes, (1,) * len(window), _TILE_SAMPLES) // 8
        # Of each bin's 8 votes: the gathered views, stacked, sorted, one row-wise
        # comparison; for floats the sort and the 8-byte indices of numpy.unique as well.
        per_vote = 3 * dtype.itemsize + 8 + (40 if dtype.kind == "f" else 0)
        return _CALL_BYTES + bins * (8 * per_vote + 8 * dtype.itemsize + 32)

    def reduce(self, window: Block, lead: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` labels in the window's dtype, the first bin ``lead`` samples in."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        voters = _voters(window, lead, step, shape)
        block = _block(shape, _votes, axes=len(shape), limit=_TILE_SAMPLES)
        for tile in blocks(_whole(shape), block):
            out[tile.slices] = _elect([v[tile.slices] for v in voters], out.dtype)
        return out


_FLOAT32_EXACT: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(name)
    for name in ("?", "int8", "uint8", "int16", "uint16", "float16", "float32", "complex64")
)
