"""Which regions a pass over the levels touches, and in which order: planning, no pixels.

A *pass* goes once over the regions of its root level, and the levels streamed from it are
computed on the way, from samples that are still in memory. The order follows the longest
axis last to finish, so that as little as may be is in the making at once.
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
    """A root level and the levels streamed from it, by way of their edges."""

    plan: PyramidPlan
    root: int
    links: tuple[LevelLink, ...]

    @cached_property
    def levels(self) -> tuple[LevelPlan, ...]:
        """The root and every level streamed from it, in order."""
        return (self.plan.levels[self.root], *(link.child for link in self.links))

    def links_from(self, level: int) -> tuple[LevelLink, ...]:
        """The edges that start at a level."""
        return tuple(link for link in self.links if link.parent.index == level)


def slow_to_fast(plan: PyramidPlan) -> Shape:
    """The axes from the slowest to the fastest of the way through the regions.

    Time and channel are images of their own. Of the spatial axes the one with the most
    regions is slowest: what is open at once is a section across it.
    """
    base, dims = plan.levels[0], plan.image.dims
    grid = grid_shape(base.shape, base.block)
    spatial = [axis for axis, dim in enumerate(dims) if dim in SPATIAL]
    others = [axis for axis in range(len(dims)) if axis not in spatial]
    return (*others, *sorted(spatial, key=lambda axis: -grid[axis]))


def passes(plan: PyramidPlan, streamed: Collection[int]) -> tuple[PassPlan, ...]:
    """The passes that build all levels; those in ``streamed`` are computed with their parent.

    A pass needs its root's parent whole, so passes are run in order.
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
    return tuple(PassPlan(plan, root, tuple(found)) for root, found in links.items())


class PassRequirements:
    """What a pass must have of each level, given which regions were ``done`` before it.

    It is worked out once, for all regions of a level together: asked region by region,
    what remains of a million took half a minute to find.
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
            {level: np.ascontiguousarray(flags).reshape(-1).data for level, flags in found.items()}
            for found in (self._todo, self._tiles, self._wanted)
        )

    def _wanted_of(self, level: int) -> Flags:
        found = self._todo[level].copy()
        for link in self._pass_plan.links_from(level):
            found |= link.regions_under(self._tiles[link.child.index])
        return found

    def is_done(self, level: int, region: int) -> bool:
        """Whether a region was stored before this pass."""
        return not self._todo_at[level][region]

    def wants_tile(self, link: LevelLink, tile: int) -> bool:
        """Whether the tile adds to a region of the child that is not done."""
        return bool(self._tile_at[link.child.index][tile])

    def wants(self, level: int, region: int) -> bool:
        """Whether the pass needs the samples of a region: to store them, or for a tile."""
        return bool(self._wanted_at[level][region])

    def loads(self) -> Iterator[tuple[int, int]]:
        """Level and number of each region that is read and not assembled from tiles.

        The root's regions that are wanted, and those of its descendants that are done and
        wanted for a tile, each where the way through the root's regions passes it.
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
            yield self._passed(level.index, index, order), level.index, index

    def _passed(self, level: int, index: int, order: Shape) -> Shape:
        """Where on the way the region would be whole, were it assembled from tiles.

        Earlier it would wait in memory for those before it, which tiles may need too.
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
    found = np.ones(level.regions, bool)
    found[np.fromiter(done, np.int64, len(done))] = False
    return found.reshape(grid_shape(level.shape, level.block))


def in_order(grid: Shape, order: Sequence[int], flags: Flags | None = None) -> Iterator[int]:
    """Numbers of a grid's cells, or of those with a flag; the first axis of ``order`` slowest.

    >>> list(in_order((2, 3), (1, 0)))
    [0, 3, 1, 4, 2, 5]
    """
    flags = np.ones(grid, bool) if flags is None else flags
    strides = [math.prod(grid[axis + 1 :]) for axis in order]
    # A section at a time: the numbers of all would take more room than the flags.
    for slow, section in enumerate(flags.transpose(order)):
        cells = np.nonzero(np.atleast_1d(section))
        numbers = sum(at * n for at, n in zip(cells, strides[1:] or [0], strict=True))
        yield from (numbers + slow * strides[0]).tolist()


def held_bytes(link: LevelLink, order: Shape, itemsize: int, in_flight: int) -> int:
    """Bytes that are held at most for one edge: the child's open regions, the strips that
    later tiles reach back for, and the parent's regions at hand.

    Open are the child's regions that the way has come to and not passed, and one for each
    region of the parent that is at hand: those do not come in order.
    """
    at_hand = min(2 * in_flight + 1, link.parent.regions)
    opened = min(open_regions(link, order) + at_hand, link.child.regions)
    strips = 0
    for place, axis in enumerate(order):
        slower = (
            min(link.parent.block[a] + link.reach(a), link.parent.shape[a]) for a in order[:place]
        )
        faster = (link.parent.shape[a] for a in order[place + 1 :])
        strips += link.reach(axis) * math.prod(slower) * math.prod(faster) * itemsize
    return (
        opened * _bytes(link.child.block, link.child.shape, itemsize)
        + strips
        + at_hand * _bytes(link.parent.block, link.parent.shape, itemsize)
    )


def open_regions(link: LevelLink, order: Shape) -> int:
    """Regions of the child at most that some tiles of the way so far add to, and later ones too.

    A region is open at a tile between its first and its last one, in the way's order. Along
    the slowest axis it may begin before that tile's place or end after it, or both: then all
    of the faster axes count. Of those that end at the place and those that begin there each
    is open for a part of the way through the faster axes, and both only where it is now.
    """
    opened = cells = 1
    for axis in reversed(order):
        fillers = link.fillers(axis)
        most = 0
        for tile in range(link.parent_grid[axis]):
            met = [(first < tile, last > tile) for first, last in fillers if first <= tile <= last]
            through, within = met.count((True, True)), met.count((False, False))
            ending, beginning = met.count((True, False)), met.count((False, True))
            parted = min((ending + beginning) * cells, max(ending, beginning) * (cells + opened))
            most = max(most, through * cells + parted + within * opened)
        opened, cells = most, cells * link.child_grid[axis]
    return opened


def _bytes(block: Shape, shape: Shape, itemsize: int) -> int:
    return math.prod(min(b, n) for b, n in zip(block, shape, strict=True)) * itemsize
