"""Box algebra, grids of cells, level shapes and windows with a halo. Pure arithmetic.

Every box is half-open, with one entry per axis, in array order. A *grid* cuts an array
into cells of one shape, the last cell on each axis cut at the array's end; cells are
numbered in C order. A *bin* is the run of parent samples that one output sample stands
for: ``[i * step, (i + 1) * step)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Region:
    """A half-open box ``[start, stop)`` of an array, in samples per axis."""

    start: Shape
    stop: Shape

    @classmethod
    def full(cls, shape: Shape) -> Region:
        """The box that covers an array of ``shape``."""
        return cls((0,) * len(shape), shape)

    @property
    def shape(self) -> Shape:
        """Length along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of samples in the box."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into the array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True)
class Window:
    """The box of the parent level that a region is computed from, halo included."""

    box: Region
    offset: Shape
    """Samples of the window before the region's first bin, per axis. A multiple of the step,
    which keeps a kernel's sampling in phase with the bins."""


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up, exact for integers of any size."""
    return -(-a // b)


def level_shape(shape: Shape, factor: Shape) -> Shape:
    """Shape of a level with ``factor`` to level 0's ``shape``: only complete bins count."""
    return tuple(n // f for n, f in zip(shape, factor, strict=True))


def grid_shape(shape: Shape, block: Shape) -> Shape:
    """Number of cells of shape ``block`` that cover ``shape``, per axis."""
    return tuple(ceil_div(n, b) for n, b in zip(shape, block, strict=True))


def block_at(index: int, shape: Shape, block: Shape) -> Region:
    """Box of the ``index``-th cell, in C order, of the grid of ``block`` over ``shape``."""
    # One loop and no generators: the driver calls this about ten times for each region.
    start, stop = [], []
    for n, b in zip(reversed(shape), reversed(block), strict=True):
        index, i = divmod(index, ceil_div(n, b))
        start.append(i * b)
        stop.append(min(i * b + b, n))
    return Region(tuple(reversed(start)), tuple(reversed(stop)))


def blocks(box: Region, block: Shape) -> Iterator[Region]:
    """Cut ``box`` into boxes of at most ``block``, from its own start, in C order.

    Each sample of ``box`` is in exactly one of them.
    """
    starts = (range(a, b, s) for a, b, s in zip(box.start, box.stop, block, strict=True))
    for start in product(*starts):
        stop = tuple(min(a + s, b) for a, s, b in zip(start, block, box.stop, strict=True))
        yield Region(start, stop)


def blocks_touched(box: Region, block: Shape) -> int:
    """Number of cells that ``box`` overlaps, of the grid of ``block`` from the origin."""
    return math.prod(
        ceil_div(b, s) - a // s for a, b, s in zip(box.start, box.stop, block, strict=True)
    )


def window_of(region: Region, step: Shape, halo: Shape, parent_shape: Shape) -> Window:
    """The parent's box from which a kernel computes ``region`` exactly.

    ``halo`` is the number of parent samples that the kernel needs beyond the outermost
    bins, per axis. Before the first bin it is rounded up to whole bins, which keeps the
    window in phase with them. The window is cut at the parent's borders, so where it is
    shorter than its halo, it ends at the border of the image.
    """
    start, stop, offset = [], [], []
    for a, b, k, h, n in zip(region.start, region.stop, step, halo, parent_shape, strict=True):
        first = max(0, a - ceil_div(h, k)) * k
        start.append(first)
        stop.append(min(n, b * k + h))
        offset.append(a * k - first)
    return Window(Region(tuple(start), tuple(stop)), tuple(offset))


def level_scale(scale: Sequence[float], factor: Shape) -> tuple[float, ...]:
    """Spacing of a level's samples, per axis: ``scale * factor``."""
    return tuple(s * f for s, f in zip(scale, factor, strict=True))


def level_translation(
    scale: Sequence[float], translation: Sequence[float], factor: Shape
) -> tuple[float, ...]:
    """Position of a level's first sample: the centre of its bin of level 0, per axis.

    ``translation + (factor - 1) / 2 * scale``, with level 0's scale and translation.
    """
    return tuple(t + (f - 1) / 2 * s for s, t, f in zip(scale, translation, factor, strict=True))


def intersection(a: Region, b: Region) -> Region:
    """The box that two boxes share; some length is zero or negative where there is none.

    `is_box` says whether they share any sample.
    """
    return Region(
        tuple(map(max, a.start, b.start)),
        tuple(map(min, a.stop, b.stop)),
    )


def is_box(region: Region) -> bool:
    """Whether ``region`` has any sample; an `intersection` may have negative lengths."""
    return all(a < b for a, b in zip(region.start, region.stop, strict=True))


def contains(outer: Region, inner: Region) -> bool:
    """Whether all of ``inner`` lies within ``outer``."""
    return intersection(outer, inner) == inner


def within(box: Region, outer: Region) -> tuple[slice, ...]:
    """The slices that select ``box`` in an array that holds the samples of ``outer``."""
    return tuple(
        slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, outer.start, strict=True)
    )


def shifted(region: Region, offset: Shape) -> Region:
    """``region``, moved by ``offset`` samples."""
    return Region(
        tuple(a + o for a, o in zip(region.start, offset, strict=True)),
        tuple(b + o for b, o in zip(region.stop, offset, strict=True)),
    )


def position(index: int, grid: Sequence[int]) -> Shape:
    """Position per axis of the ``index``-th cell, in C order, of a grid of that many cells.

    >>> position(5, (2, 3))
    (1, 2)
    """
    reverse: list[int] = []
    for n in reversed(grid):
        index, i = divmod(index, n)
        reverse.append(i)
    return tuple(reversed(reverse))


def number(position: Sequence[int], grid: Sequence[int]) -> int:
    """Number, in C order, of the cell at ``position``; the inverse of `position`.

    >>> number((1, 2), (2, 3))
    5
    """
    index = 0
    for i, n in zip(position, grid, strict=True):
        index = index * n + i
    return index
