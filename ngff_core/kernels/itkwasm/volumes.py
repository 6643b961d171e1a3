"""Windows of any number of axes, cut into the 2-D and 3-D tiles that the module gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape, ceil_div

TILE_SAMPLES = 2**20
"""Input samples of one module call. At step 2 the Gaussian computes 8, 13, 13 and 11 million
voxels a second with tiles of 2**18, 2**20, 2**21 and 2**22 samples: half of a small tile is
halo, a large one does not fit the CPU's cache. The Gaussian uses four times as many where its
step is above 3 and its halo is wide: that gives 2.4 instead of 1.1 million voxels a second at
step 8, and 0.4 instead of 0.1 at step 16."""
FLOAT32_EXACT: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(name)
    for name in ("?", "int8", "uint8", "int16", "uint16", "float16", "float32", "complex64")
)
"""Dtypes whose values float32 (or complex64) holds exactly."""
Volume = Callable[[Block, Shape, Shape, Shape], Block]
"""``reduce(window, offset, step, shape)``, as `Kernel.reduce`, for one 2-D or 3-D window."""


def by_volume(reduce: Volume, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
    """Apply ``reduce`` to each 2-D or 3-D array of a window of one to five axes.

    A c axis next to y and x is passed as z: at step 1 no sample of the module depends on its
    neighbours along it.
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
    """Apply ``reduce`` to the real and to the imaginary part, or once to a real window."""
    if window.dtype.kind != "c":
        return reduce(window, offset, step, shape)
    out = np.empty(shape, window.dtype.newbyteorder("="))
    out.real = reduce(window.real, offset, step, shape)
    out.imag = reduce(window.imag, offset, step, shape)
    return out


def fitting_block(bins: Shape, samples: Callable[[Shape], int], axes: int, limit: int) -> Shape:
    """Shape of a tile of ``bins`` with ``samples(tile) <= limit``, where that is possible.

    The longest of the first ``axes`` axes is halved repeatedly; the others keep their length.
    """
    block = list(bins)
    while samples(tuple(block)) > limit and max(block[:axes], default=1) > 1:
        longest = max(range(axes), key=block.__getitem__)
        block[longest] = ceil_div(block[longest], 2)
    return tuple(block)


def most_samples(bins: Shape, samples: Callable[[Shape], int], least: Shape, limit: int) -> int:
    """Largest number of samples of a tile that `fitting_block` gives for up to ``bins`` bins.

    ``least`` is the smallest tile that it can give.
    """
    return min(samples(bins), max(limit, samples(least)))


def component_bytes(bins: Shape, dtype: np.dtype[Any]) -> int:
    """Bytes of the real or imaginary part that `by_component` holds for complex samples."""
    return math.prod(bins) * dtype.itemsize // 2 if dtype.kind == "c" else 0


def times(a: Shape, b: Shape) -> Shape:
    """Product per axis."""
    return tuple(x * y for x, y in zip(a, b, strict=True))


def over(a: Shape, b: Shape) -> Shape:
    """Quotient per axis, rounded down."""
    return tuple(x // y for x, y in zip(a, b, strict=True))


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least ``n``.

    >>> [power_of_two(n) for n in (1, 2, 3, 8, 9)]
    [1, 2, 4, 8, 16]
    """
    return 1 << (n - 1).bit_length()


def as_volume(shape: Shape) -> Shape:
    """The last three axes, with axes of length 1 in front where there are fewer."""
    return (1, 1, *shape)[-3:] if len(shape) < 3 else shape[-3:]
