"""Levels as lazy dask arrays: each block is computed from the parent's blocks around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from ngff_core.blocks import ArrayLike, Block
from ngff_core.geometry import Region, Shape, blocks, level_shape, window_of
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.methods import Methods, kernel_for
from ngff_core.lazy.dask_compat import array_of_tasks
from ngff_core.plan.layout import level_chunks
from ngff_core.plan.pyramid_plan import ALGORITHM


def stored_array(array: ArrayLike, chunks: Shape, token: str) -> Any:
    """A lazy array of a stored one; ``token`` is the same for the same samples only."""
    # Other chunks of the same samples are other blocks: they must not go by one name.
    return lazy_array(array, chunks, f"ngff-source-{tokenize(token, chunks)}")


def lazy_array(array: ArrayLike, chunks: Shape, name: str) -> Any:
    """A dask array that reads another array block by block when it is computed."""
    native = np.dtype(array.dtype).newbyteorder("=")
    made = da.from_array(  # type: ignore[no-untyped-call]
        array,
        chunks=chunks,
        name=name,
        lock=False,
        fancy=False,
        meta=np.empty((0,) * len(array.shape), array.dtype),
    )
    return made.astype(native)


# ------------------------------------------------------------------ derived levels


def derived_name(parent: Any, step: Shape, method: Methods, chunks: Shape) -> str:
    """The name of the array that `derived_level` makes: equal names mean equal samples."""
    return f"ngff-{method}-{tokenize(parent.name, step, str(method), chunks, ALGORITHM)}"


def derived_level(parent: Any, step: Shape, method: Methods, chunks: Shape) -> Any:
    """The level that is ``step`` times smaller than a dask array, in blocks of at most ``chunks``.

    There is one task for each block. It gets the parent's blocks as they are and takes its
    window from them: tasks for slicing would double the graph and copy every halo.
    """
    kernel = kernel_for(method)
    shape = level_shape(parent.shape, step)
    own = level_chunks(chunks, shape)
    name = derived_name(parent, step, method, own)
    halo = kernel.halo(step)
    edges = [np.cumsum((0, *sizes)).tolist() for sizes in parent.chunks]
    layer: dict[Any, Any] = {}
    for region in blocks(Region((0,) * len(shape), shape), own):
        window = window_of(region, step, halo, parent.shape)
        ends = zip(edges, window.box.start, window.box.stop, strict=True)
        spans = [_span(e, a, b) for e, a, b in ends]
        keys = [(parent.name, *position) for position in product(*spans)]
        origin = tuple(e[span.start] for e, span in zip(edges, spans, strict=True))
        grid = tuple(len(span) for span in spans)
        task = _Reduction(kernel, region.shape, window.box, window.offset, step, origin, grid)
        position = tuple(a // c for a, c in zip(region.start, own, strict=True))
        layer[(name, *position)] = (task, keys)
    cut = tuple(
        (c,) * (n // c) + ((n % c,) if n % c else ()) for n, c in zip(shape, own, strict=True)
    )
    return array_of_tasks(name, layer, cut, parent)


def _span(edges: Sequence[int], start: int, stop: int) -> range:
    """The numbers of the blocks that ``[start, stop)`` lies in."""
    first = int(np.searchsorted(edges, start, side="right")) - 1
    return range(first, int(np.searchsorted(edges, stop, side="left")))


@dataclass(frozen=True)
class _Reduction:
    """Computes one block from the parent's blocks around it, in C order of ``grid``.

    ``origin`` is the position of the first of them in the parent.
    """

    kernel: Kernel
    shape: Shape
    box: Region
    offset: Shape
    step: Shape
    origin: Shape
    grid: Shape

    def __call__(self, parts: Sequence[Block]) -> Block:
        window = _cut_out(parts, self.grid, self.origin, self.box)
        return self.kernel.reduce(window, self.offset, self.step, self.shape)


def _cut_out(parts: Sequence[Block], grid: Shape, origin: Shape, box: Region) -> Block:
    """The samples of ``box`` out of adjacent blocks; a view where it lies in one block."""
    if len(parts) == 1:
        return parts[0][_shifted(box, origin)]
    window: Block = np.empty(box.shape, parts[0].dtype)
    starts = [_starts(parts, grid, axis, origin[axis]) for axis in range(len(grid))]
    for position, part in zip(np.ndindex(grid), parts, strict=True):
        at = tuple(starts[axis][i] for axis, i in enumerate(position))
        end = tuple(a + n for a, n in zip(at, part.shape, strict=True))
        common = Region(
            tuple(max(a, b) for a, b in zip(at, box.start, strict=True)),
            tuple(min(a, b) for a, b in zip(end, box.stop, strict=True)),
        )
        window[_shifted(common, box.start)] = part[_shifted(common, at)]
    return window


def _starts(parts: Sequence[Block], grid: Shape, axis: int, origin: int) -> list[int]:
    """Where each row of blocks along ``axis`` begins."""
    stride = math.prod(grid[axis + 1 :])
    starts = [origin]
    for i in range(grid[axis] - 1):
        starts.append(starts[-1] + parts[i * stride].shape[axis])
    return starts


def _shifted(box: Region, origin: Shape) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, origin, strict=True))
