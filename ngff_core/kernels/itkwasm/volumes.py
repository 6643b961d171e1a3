"""Windows of any number of axes as the 2-D and 3-D tiles that the module is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Region, Shape, ceil_div

# Input samples of one module call. At step 2 the Gaussian makes 8, 13, 13 and 11 million
# voxels a second with 2**18, 2**20, 2**21 and 2**22: small tiles are half halo, large ones
# leave the CPU's cache. Four times as many where a Gaussian's step is over 3 and its halo
# wide: 2.4 for 1.1 million at step 8, 0.4 for 0.1 at step 16.
TILE_SAMPLES = 2**20
FLOAT32_EXACT: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(name)
    for name in ("?", "int8", "uint8", "int16", "uint16", "float16", "float32", "complex64")
)
Volume = Callable[[Block, Shape, Shape, Shape], Block]


def by_volume(reduce: Volume, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    """``reduce`` on each 2-D or 3-D array of a window of one to five dimensions.

    A c axis next to y and x goes in as if it were z: at step 1 no sample of the module
    depends on its neighbours along that axis.
    """
    if window.ndim == 1:
        row = by_volume(reduce, window[np.newaxis], (0, *offset), (1, *step), (1, *shape))
        return row.reshape(shape)
    outer = max(0, window.ndim - 3)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    for index in np.ndindex(shape[:outer]):
        source = tuple(a + i for a, i in zip(offset, index, strict=False))
        out[index] = reduce(window[source], offset[outer:], step[outer:], shape[outer:])
    return out


def by_component(reduce: Volume, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    """``reduce`` on the real and on the imaginary part, or on a window that is real."""
    if window.dtype.kind != "c":
        return reduce(window, offset, step, shape)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    out.real = reduce(window.real, offset, step, shape)
    out.imag = reduce(window.imag, offset, step, shape)
    return out


def fitting_block(bins: Shape, samples: Callable[[Shape], int], axes: int, limit: int) -> Shape:
    """A block of ``bins`` with ``samples(block) <= limit``, where that can be.

    Halves the longest of the first ``axes`` axes; the others keep their length.
    """
    block = list(bins)
    while samples(tuple(block)) > limit and max(block[:axes], default=1) > 1:
        longest = max(range(axes), key=block.__getitem__)
        block[longest] = ceil_div(block[longest], 2)
    return tuple(block)


def most_samples(bins: Shape, samples: Callable[[Shape], int], least: Shape, limit: int) -> int:
    """Samples at most of a block that ``fitting_block`` makes of ``bins`` or of fewer."""
    return min(samples(bins), max(limit, samples(least)))


def component_bytes(bins: Shape, dtype: np.dtype[Any]) -> int:
    """Bytes of the samples of one part, which ``by_component`` holds for complex ones."""
    return math.prod(bins) * dtype.itemsize // 2 if dtype.kind == "c" else 0


def moved(offset: Shape, region: Region) -> Region:
    """``region`` moved by ``offset``."""
    return Region(
        tuple(a + o for a, o in zip(region.start, offset, strict=True)),
        tuple(b + o for b, o in zip(region.stop, offset, strict=True)),
    )


def whole(shape: Shape) -> Region:
    """All of an array of ``shape``."""
    return Region((0,) * len(shape), shape)


def times(a: Shape, b: Shape) -> Shape:
    """Product per axis."""
    return tuple(x * y for x, y in zip(a, b, strict=True))


def over(a: Shape, b: Shape) -> Shape:
    """Whole quotient per axis."""
    return tuple(x // y for x, y in zip(a, b, strict=True))


def power_of_two(n: int) -> int:
    """The least power of two that is at least ``n``.

    >>> [power_of_two(n) for n in (1, 2, 3, 8, 9)]
    [1, 2, 4, 8, 16]
    """
    return 1 << (n - 1).bit_length()


def as_volume(shape: Shape) -> Shape:
    """The last three axes, with unit axes in front where there are fewer."""
    return (1, 1, *shape)[-3:] if len(shape) < 3 else shape[-3:]
