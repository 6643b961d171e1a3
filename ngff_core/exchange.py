"""Samples on their way from a level into the next: held until the last tile has used them.

What happens here happens in the driver's thread; only the arrays themselves are read and
filled by others, each in a box of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.geometry import Region
from ngff_core.image import Block
from ngff_core.plan import LevelPlan
from ngff_core.scratch import room
from ngff_core.tiles import Edge

Pieces = tuple[tuple[Region, Block], ...]


@dataclass
class _Held:
    """A region of the parent, or the strips of it that later tiles reach back for."""

    pieces: Pieces
    tiles: set[int]


class Exchange:
    """The samples of one level that tiles into one of its children wait for."""

    def __init__(self, edge: Edge, wants_tile: Callable[[int], bool]) -> None:
        self.edge = edge
        self._wants_tile = wants_tile
        self._held: dict[int, _Held] = {}
        self._missing: dict[int, int] = {}
        self.nbytes = 0

    def offer(self, region: int, samples: Block) -> list[int]:
        """Take a region's samples; the tiles that can be computed now."""
        tiles = {tile for tile in self.edge.users_of(region) if self._wants_tile(tile)}
        if not tiles:
            return []
        self._hold(region, _Held(((self.edge.parent.region(region), samples),), tiles))
        if region not in tiles:
            self._trim(region)
        ready = []
        for tile in sorted(tiles):
            left = self._missing.pop(tile, None)
            left = (len(self.edge.parents_of(tile)) if left is None else left) - 1
            if left:
                self._missing[tile] = left
            else:
                ready.append(tile)
        return ready

    def pieces(self, tile: int) -> Pieces:
        """What a tile's window consists of, as it is held now."""
        return tuple(p for region in self.edge.parents_of(tile) for p in self._held[region].pieces)

    def used(self, tile: int) -> None:
        """A tile is computed: let go of what no other one needs."""
        for region in self.edge.parents_of(tile):
            held = self._held[region]
            held.tiles.discard(tile)
            if not held.tiles:
                self._hold(region, None)
            elif region == tile:
                self._trim(region)

    def _trim(self, region: int) -> None:
        """Keep copies of the strips that are still needed, in place of the whole."""
        held = self._held[region]
        (whole, samples), *_ = held.pieces
        boxes = {
            intersection(whole, self.edge.tile(tile).window.box) for tile in sorted(held.tiles)
        }
        outer = [box for box in boxes if not any(box != b and contains(b, box) for b in boxes)]
        strips = tuple((box, samples[within(box, whole)].copy()) for box in outer)
        self._hold(region, _Held(strips, held.tiles))

    def _hold(self, region: int, held: _Held | None) -> None:
        before = self._held.pop(region, None)
        if before is not None:
            self.nbytes -= sum(samples.nbytes for _, samples in before.pieces)
        if held is not None:
            self._held[region] = held
            self.nbytes += sum(samples.nbytes for _, samples in held.pieces)


@dataclass
class _Filling:
    """A region of the child, and how many of its samples are still to come."""

    samples: Block
    left: int


@dataclass
class Assembly:
    """The regions of a level that tiles are filling."""

    level: LevelPlan
    dtype: np.dtype[np.generic]
    nbytes: int = 0
    _filling: dict[int, _Filling] = field(default_factory=dict)

    def buffer(self, region: int) -> Block:
        """The region's array, of samples not filled yet where it is new."""
        if region not in self._filling:
            box = self.level.region(region)
            self._filling[region] = _Filling(np.empty(box.shape, self.dtype), box.size)
            self.nbytes += self._filling[region].samples.nbytes
        return self._filling[region].samples

    def filled(self, region: int, count: int) -> Block | None:
        """So many samples more are filled in; the samples, where that was the last."""
        filling = self._filling[region]
        filling.left -= count
        if filling.left:
            return None
        del self._filling[region]
        self.nbytes -= filling.samples.nbytes
        return filling.samples


def gather(box: Region, pieces: Pieces) -> Block:
    """The samples of ``box``, which ``pieces`` cover; no copy where one piece does.

    A copy lies in room that this thread's next call uses again.
    """
    for region, samples in pieces:
        if contains(region, box):
            return samples[within(box, region)]
    found = _room(box, pieces[0][1].dtype)
    for region, samples in pieces:
        common = intersection(region, box)
        if all(n > 0 for n in common.shape):
            found[within(common, box)] = samples[within(common, region)]
    return found


def _room(box: Region, dtype: np.dtype[Any]) -> Block:
    nbytes = box.size * dtype.itemsize
    return room("window", nbytes)[:nbytes].view(dtype).reshape(box.shape)


def intersection(a: Region, b: Region) -> Region:
    """The box that two boxes share; negative lengths where they share none."""
    return Region(
        tuple(map(max, a.start, b.start)),
        tuple(map(min, a.stop, b.stop)),
    )


def contains(outer: Region, inner: Region) -> bool:
    """Whether ``inner`` lies within ``outer``."""
    return intersection(outer, inner) == inner


def within(box: Region, outer: Region) -> tuple[slice, ...]:
    """The slices of ``box`` in an array that holds ``outer``."""
    return tuple(
        slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, outer.start, strict=True)
    )
