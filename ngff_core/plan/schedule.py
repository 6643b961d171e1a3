"""Which regions a pass reads and writes, and in which order, planned without pixels.

A *pass* goes once over the regions of its root level. The levels streamed from the root are
computed in the same pass, from samples that are still in memory. The axis with the most regions
is the slowest in the order, so as few regions as possible are unfinished at once.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ngff_core.geometry import Shape, grid_shape, position
from ngff_core.kernels.methods import kernel_for
from ngff_core.model.axes import SPATIAL
from ngff_core.plan.dependencies import Flags, LevelLink
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan


@dataclass(frozen=True)
class PassPlan:
    """A root level, and the links from it to the levels streamed in the same pass."""

    plan: PyramidPlan
    root: int
    links: tuple[LevelLink, ...]

    @cached_property
    def levels(self) -> tuple[LevelPlan, ...]:
        """The root and every level streamed from it, in the order of the levels."""
        return (self.plan.levels[self.root], *(link.child for link in self.links))

    def links_from(self, level: int) -> tuple[LevelLink, ...]:
        """The links whose parent is this level."""
        return tuple(link for link in self.links if link.parent.index == level)


def slow_to_fast(plan: PyramidPlan) -> Shape:
    """The axes in the order of a pass through the regions, slowest first.

    Time and channel come first: each of their positions is an image of its own. Then comes the
    spatial axis with the most regions: the regions open at once are a section across it.
    """
    base, dims = plan.levels[0], plan.image.dims
    grid = grid_shape(base.shape, base.block)
    spatial = [axis for axis, dim in enumerate(dims) if dim in SPATIAL]
    others = [axis for axis in range(len(dims)) if axis not in spatial]
    return (*others, *sorted(spatial, key=lambda axis: -grid[axis]))


def passes(plan: PyramidPlan, streamed: Collection[int]) -> tuple[PassPlan, ...]:
    """The passes that build all levels; those in ``streamed`` are computed with their parent.

    A pass needs every region of its root's parent, so passes are run in order.
    """
    kernel = kernel_for(plan.method)
    root_of: dict[int, int] = {}
    links: dict[int, list[LevelLink]] = {}
    for level in plan.levels:
        if level.parent is None or level.index not in streamed:
            root_of[level.index] = level.index
            links[level.index] = []
        else:
            root_of[level.index] = root_of[level.parent]
            parent = plan.levels[level.parent]
            link = LevelLink(parent, level, kernel.halo(level.step))
            links[root_of[level.index]].append(link)
    return tuple(PassPlan(plan, root, tuple(of_root)) for root, of_root in links.items())


class PassRequirements:
    """What a pass needs of each level, given the regions that were ``done`` before it.

    It is computed once, for all regions of a level together: computed region by region, it took
    half a minute for a million regions.
    """

    def __init__(self, pass_plan: PassPlan, done: Mapping[int, Collection[int]]) -> None:
        self._pass_plan = pass_plan
        self._todo = {level.index: _todo(level, done[level.index]) for level in pass_plan.levels}
        self._tiles = {
            link.child.index: link.tiles_into(self._todo[link.child.index])
            for link in pass_plan.links
        }
        self._wanted = {level.index: self._wanted_of(level.index) for level in pass_plan.levels}
        self._todo_at, self._tile_at, self._wanted_at = (
            {
                level: np.ascontiguousarray(flags).reshape(-1).data
                for level, flags in by_level.items()
            }
            for by_level in (self._todo, self._tiles, self._wanted)
        )

    def _wanted_of(self, level: int) -> Flags:
        wanted = self._todo[level].copy()
        for link in self._pass_plan.links_from(level):
            wanted |= link.regions_under(self._tiles[link.child.index])
        return wanted

    def is_done(self, level: int, region: int) -> bool:
        """Whether a region was stored before this pass."""
        return not self._todo_at[level][region]

    def wants_tile(self, link: LevelLink, tile: int) -> bool:
        """Whether a tile adds to a region of the child that is not done."""
        return bool(self._tile_at[link.child.index][tile])

    def wants(self, level: int, region: int) -> bool:
        """Whether the pass needs the samples of a region, to store them or for a tile."""
        return bool(self._wanted_at[level][region])

    def loads(self) -> Iterator[tuple[int, int]]:
        """Level and number of each region that is read, not assembled from tiles.

        These are the wanted regions of the root, and the regions of the other levels that are
        done and wanted for a tile. Each of the latter comes where the pass would complete it.
        """
        streams = [self._loads_of(level) for level in self._pass_plan.levels]
        for _, level, region in heapq.merge(*streams):
            yield level, region

    def _loads_of(self, level: LevelPlan) -> Iterator[tuple[Shape, int, int]]:
        read = self._wanted[level.index]
        if level.index != self._pass_plan.root:
            read = read & ~self._todo[level.index]
        order = slow_to_fast(self._pass_plan.plan)
        for index in in_order(read.shape, order, read):
            yield self._completed_at(level.index, index, order), level.index, index

    def _completed_at(self, level: int, index: int, order: Shape) -> Shape:
        """Where in the pass the last tile of a region comes, by position in the root's grid.

        Read earlier, it would wait in memory for the regions before it, which tiles may need too.
        """
        links = {link.child.index: link for link in self._pass_plan.links}
        while level in links:
            link = links[level]
            level, index = link.parent.index, link.last_tile_of(index)
        root = self._pass_plan.levels[0]
        at = position(index, grid_shape(root.shape, root.block))
        return tuple(at[axis] for axis in order)


def _todo(level: LevelPlan, done: Collection[int]) -> Flags:
    """A flag for each region of a level that is not done."""
    todo = np.ones(level.regions, bool)
    todo[np.fromiter(done, np.int64, len(done))] = False
    return todo.reshape(grid_shape(level.shape, level.block))


def in_order(grid: Shape, order: Sequence[int], flags: Flags | None = None) -> Iterator[int]:
    """Numbers of the cells of a grid, only those with a flag if there are ``flags``.

    The first axis of ``order`` is the slowest.

    >>> list(in_order((2, 3), (1, 0)))
    [0, 3, 1, 4, 2, 5]
    """
    flags = np.ones(grid, bool) if flags is None else flags
    strides = [math.prod(grid[axis + 1 :]) for axis in order]
    # One section at a time: the numbers of all cells would take more memory than the flags.
    for slow, section in enumerate(flags.transpose(order)):
        cells = np.nonzero(np.atleast_1d(section))
        numbers = sum(at * n for at, n in zip(cells, strides[1:] or [0], strict=True))
        yield from (numbers + slow * strides[0]).tolist()


def held_bytes(link: LevelLink, order: Shape, itemsize: int, in_flight: int) -> int:
    """Bytes that a pass holds in memory for one link, at most.

    These are the open regions of the child, the layers of the parent that later tiles reach
    back for, and the parent's regions in memory. Open are the child's regions that the pass has
    begun and not completed, and one for each region of the parent in memory, since these do
    not come in order. ``order`` is that of `slow_to_fast`, ``itemsize`` the bytes of a sample,
    ``in_flight`` the number of regions that are worked on at once.
    """
    in_memory = min(2 * in_flight + 1, link.parent.regions)
    opened = min(open_regions(link, order) + in_memory, link.child.regions)
    layers = 0
    for rank, axis in enumerate(order):
        slower = (
            min(link.parent.block[a] + link.reach(a), link.parent.shape[a]) for a in order[:rank]
        )
        faster = (link.parent.shape[a] for a in order[rank + 1 :])
        layers += link.reach(axis) * math.prod(slower) * math.prod(faster) * itemsize
    return (
        opened * _bytes(link.child.block, link.child.shape, itemsize)
        + layers
        + in_memory * _bytes(link.parent.block, link.parent.shape, itemsize)
    )


def open_regions(link: LevelLink, order: Shape) -> int:
    """Regions of the child that are begun and not completed at once in a pass, at most.

    A region is open from its first to its last tile, in the ``order`` of the pass. At some
    position along the slowest axis a region may have begun before and end later: then all
    positions of the faster axes count. Regions that end at that position, and those that begin
    there, are each open for a part of the pass through the faster axes, and both kinds only at
    the pass's current position.
    """
    opened = cells = 1
    for axis in reversed(order):
        fillers = link.fillers(axis)
        most = 0
        for tile in range(link.parent_grid[axis]):
            open_here = [
                (first < tile, last > tile) for first, last in fillers if first <= tile <= last
            ]
            through, within = open_here.count((True, True)), open_here.count((False, False))
            ending, beginning = open_here.count((True, False)), open_here.count((False, True))
            partly = min((ending + beginning) * cells, max(ending, beginning) * (cells + opened))
            most = max(most, through * cells + partly + within * opened)
        opened, cells = most, cells * link.child_grid[axis]
    return opened


def _bytes(block: Shape, shape: Shape, itemsize: int) -> int:
    return math.prod(min(b, n) for b, n in zip(block, shape, strict=True)) * itemsize
