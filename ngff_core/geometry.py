"""Boxes, level shapes, windows with halo, and where a level's samples lie.

Every box is half-open and per axis. A *bin* is the run of parent samples that one
output sample stands for: ``[i * step, (i + 1) * step)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Region:
    """A half-open box ``[start, stop)`` of an array."""

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of samples inside."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True)
class Window:
    """The box of the parent that a region is computed from, halo included.

    ``lead`` counts, per axis, the samples of the window before the region's first
    bin; it is a whole number of bins, so that a kernel's sampling stays in phase.
    """

    box: Region
    offset: Shape


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def level_shape(shape: Shape, factor: Shape) -> Shape:
    """Shape of the level that lies ``factor`` above ``shape``: whole bins only."""
    return tuple(n // f for n, f in zip(shape, factor, strict=True))


def grid_shape(shape: Shape, block: Shape) -> Shape:
    """How many blocks cover ``shape`` on each axis, the last one cut short."""
    return tuple(ceil_div(n, b) for n, b in zip(shape, block, strict=True))


def block_at(index: int, shape: Shape, block: Shape) -> Region:
    """The ``index``-th block of the C-ordered grid of blocks over ``shape``."""
    # One loop, and no generators: the driver asks some ten times for each region it builds.
    start, stop = [], []
    for n, b in zip(reversed(shape), reversed(block), strict=True):
        index, i = divmod(index, ceil_div(n, b))
        start.append(i * b)
        stop.append(min(i * b + b, n))
    return Region(tuple(reversed(start)), tuple(reversed(stop)))


def blocks(box: Region, block: Shape) -> Iterator[Region]:
    """Boxes of at most ``block`` that cover ``box``, each sample once, in C order."""
    starts = (range(a, b, s) for a, b, s in zip(box.start, box.stop, block, strict=True))
    for start in product(*starts):
        stop = tuple(min(a + s, b) for a, s, b in zip(start, block, box.stop, strict=True))
        yield Region(start, stop)


def blocks_touched(box: Region, block: Shape) -> int:
    """How many cells of the grid of ``block`` from the origin ``box`` meets."""
    return math.prod(
        ceil_div(b, s) - a // s for a, b, s in zip(box.start, box.stop, block, strict=True)
    )


def window_of(region: Region, step: Shape, halo: Shape, parent_shape: Shape) -> Window:
    """The parent's box from which ``region`` can be computed exactly.

    ``halo`` is what the kernel needs beyond the outermost bins, in parent samples. It
    grows to whole bins in front, so that the window stays in phase with the bins, and
    is cut at the image: a window that ends short of its halo ends at the image's border.
    """
    start, stop, offset = [], [], []
    for a, b, k, h, n in zip(region.start, region.stop, step, halo, parent_shape, strict=True):
        first = max(0, a - ceil_div(h, k)) * k
        start.append(first)
        stop.append(min(n, b * k + h))
        offset.append(a * k - first)
    return Window(Region(tuple(start), tuple(stop)), tuple(offset))


def level_scale(scale: Sequence[float], factor: Shape) -> tuple[float, ...]:
    """Size of a level's samples: ``scale * factor``."""
    return tuple(s * f for s, f in zip(scale, factor, strict=True))


def level_translation(
    scale: Sequence[float], translation: Sequence[float], factor: Shape
) -> tuple[float, ...]:
    """Centre of a level's first sample: the centre of the first bin of level 0."""
    return tuple(t + (f - 1) / 2 * s for s, t, f in zip(scale, translation, factor, strict=True))


def intersection(a: Region, b: Region) -> Region:
    """The box that two boxes share; negative lengths where they share none."""
    return Region(
        tuple(map(max, a.start, b.start)),
        tuple(map(min, a.stop, b.stop)),
    )


def is_box(region: Region) -> bool:
    """Whether there is a sample inside; an intersection may have negative lengths."""
    return all(a < b for a, b in zip(region.start, region.stop, strict=True))


def contains(outer: Region, inner: Region) -> bool:
    """Whether ``inner`` lies within ``outer``."""
    return intersection(outer, inner) == inner


def within(box: Region, outer: Region) -> tuple[slice, ...]:
    """The slices of ``box`` in an array that holds ``outer``."""
    return tuple(
        slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, outer.start, strict=True)
    )


def position(index: int, grid: Sequence[int]) -> Shape:
    """Position of the ``index``-th cell of a C-ordered grid."""
    found: list[int] = []
    for n in reversed(grid):
        index, i = divmod(index, n)
        found.append(i)
    return tuple(reversed(found))


def number(at: Sequence[int], grid: Sequence[int]) -> int:
    """Number of the cell at a position of a C-ordered grid."""
    index = 0
    for i, n in zip(at, grid, strict=True):
        index = index * n + i
    return index
