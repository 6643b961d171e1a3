"""Samples on their way from a level into the next: held until the last tile has used them.

What happens here happens in the driver's thread; only the arrays themselves are read and
filled by others, each in a box of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ngff_core.blocks import Block, BlockedArray, PlacedBlock, assemble
from ngff_core.geometry import Region, contains, intersection
from ngff_core.memory import region_memory
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.pyramid_plan import LevelPlan

type Held = BlockedArray | Block


class MemoryAccount:
    """Bytes of what is held, each of it counted once however many hold it."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._holders: dict[int, int] = {}

    def hold(self, samples: Held) -> None:
        """One more holds it; who holds it keeps a reference to it."""
        if not self.has(samples):
            self.nbytes += samples.nbytes
        self._holders[id(samples)] = self._holders.get(id(samples), 0) + 1

    def release(self, samples: Held) -> None:
        """One less holds it."""
        self._holders[id(samples)] -= 1
        if not self._holders[id(samples)]:
            del self._holders[id(samples)]
            self.nbytes -= samples.nbytes

    def has(self, samples: Held) -> bool:
        """Whether anyone holds it."""
        return id(samples) in self._holders


@dataclass
class _Kept:
    """A region of the parent, or the strips of it that later tiles reach back for."""

    pieces: tuple[PlacedBlock, ...]
    what: tuple[Held, ...]
    """What the pieces lie in."""
    tiles: set[int]


class TileInputs:
    """The samples of one level that tiles into one of its children wait for."""

    def __init__(
        self, link: LevelLink, wants_tile: Callable[[int], bool], account: MemoryAccount
    ) -> None:
        self.link = link
        self._wants_tile = wants_tile
        self._account = account
        self._held: dict[int, _Kept] = {}
        self._missing: dict[int, int] = {}

    def offer(self, region: int, samples: BlockedArray) -> list[int]:
        """Take a region's samples; the tiles that can be computed now."""
        tiles = {tile for tile in self.link.tiles_reading(region) if self._wants_tile(tile)}
        if not tiles:
            return []
        self._hold(region, _Kept(samples.placed_blocks, (samples,), tiles))
        if region not in tiles:
            self._trim(region)
        ready = []
        for tile in sorted(tiles):
            left = self._missing.pop(tile, None)
            left = (len(self.link.parents_of(tile)) if left is None else left) - 1
            if left:
                self._missing[tile] = left
            else:
                ready.append(tile)
        return ready

    def pieces(self, tile: int) -> tuple[PlacedBlock, ...]:
        """What a tile's window consists of, as it is held now."""
        return tuple(p for region in self.link.parents_of(tile) for p in self._held[region].pieces)

    def used(self, tile: int) -> None:
        """A tile is computed: let go of what no other one needs."""
        for region in self.link.parents_of(tile):
            held = self._held[region]
            held.tiles.discard(tile)
            if not held.tiles:
                self._hold(region, None)
            elif region not in held.tiles:
                self._trim(region)

    def _trim(self, region: int) -> None:
        """Keep copies of the strips that are still needed, in place of what is held."""
        held = self._held[region]
        whole = self.link.parent.region(region)
        boxes = {self._needed(tile, whole) for tile in held.tiles}
        outer = [box for box in boxes if not any(box != b and contains(b, box) for b in boxes)]
        strips = {box: block for box, block in held.pieces if any(block is w for w in held.what)}
        if sum(box.size for box in outer) > sum(box.size for box, _ in held.pieces):
            # Regions so small that the strips overlap more than they spare.
            outer = list(strips) or [whole]
        kept = tuple(
            (box, strips[box] if box in strips else np.array(assemble(box, held.pieces)))
            for box in outer
        )
        self._hold(region, _Kept(kept, tuple(strip for _, strip in kept), held.tiles))

    def _needed(self, tile: int, whole: Region) -> Region:
        return intersection(whole, self.link.tile(tile).window.box)

    def _hold(self, region: int, held: _Kept | None) -> None:
        before = self._held.pop(region, None)
        if held is not None:
            self._held[region] = held
            for samples in held.what:
                self._account.hold(samples)
        if before is not None:
            for samples in before.what:
                self._account.release(samples)


@dataclass
class _Filling:
    """A region of the child, and how many of its samples are still to come."""

    samples: Block
    left: int


@dataclass
class RegionAssembly:
    """The regions of a level that tiles are filling."""

    level: LevelPlan
    dtype: np.dtype[np.generic]
    account: MemoryAccount
    _filling: dict[int, _Filling] = field(default_factory=dict)

    def buffer(self, region: int) -> Block:
        """The region's array, of samples not filled yet where it is new."""
        if region not in self._filling:
            box = self.level.region(region)
            self._filling[region] = _Filling(region_memory.array(box.shape, self.dtype), box.size)
            self.account.hold(self._filling[region].samples)
        return self._filling[region].samples

    def filled(self, region: int, count: int) -> BlockedArray | None:
        """So many samples more are filled in; all of them, where those were the last.

        Whoever takes them holds them from now on.
        """
        filling = self._filling[region]
        filling.left -= count
        if filling.left:
            return None
        del self._filling[region]
        self.account.release(filling.samples)
        return BlockedArray.of(self.level.region(region), filling.samples)
