"""Samples in flight from one level to the next: held until the last tile has used them.

The driver's thread alone calls this module. Other threads read and fill the arrays
themselves, each thread in a box of its own.
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
    """Bytes of the samples held; arrays with several holders are counted once."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._holders: dict[int, int] = {}

    def hold(self, samples: Held) -> None:
        """Add a holder, which must keep a reference to the samples."""
        if not self.has(samples):
            self.nbytes += samples.nbytes
        self._holders[id(samples)] = self._holders.get(id(samples), 0) + 1

    def release(self, samples: Held) -> None:
        """Remove a holder."""
        self._holders[id(samples)] -= 1
        if not self._holders[id(samples)]:
            del self._holders[id(samples)]
            self.nbytes -= samples.nbytes

    def has(self, samples: Held) -> bool:
        """Whether the samples have a holder."""
        return id(samples) in self._holders


@dataclass
class _HeldRegion:
    """A region of the parent, or those strips of it that later tiles still read."""

    pieces: tuple[PlacedBlock, ...]
    arrays: tuple[Held, ...]
    """The arrays that the pieces lie in; they are what is held."""
    tiles: set[int]
    """Tiles that still read the region."""


class TileInputs:
    """The samples of one level, held for the tiles of one of its children.

    ``wants_tile`` says whether a tile is to be computed.
    """

    def __init__(
        self, link: LevelLink, wants_tile: Callable[[int], bool], account: MemoryAccount
    ) -> None:
        self.link = link
        self._wants_tile = wants_tile
        self._account = account
        self._held: dict[int, _HeldRegion] = {}
        self._missing: dict[int, int] = {}

    def offer(self, region: int, samples: BlockedArray) -> list[int]:
        """Take a region's samples; returns the tiles that can be computed now."""
        tiles = {tile for tile in self.link.tiles_reading(region) if self._wants_tile(tile)}
        if not tiles:
            return []
        self._hold(region, _HeldRegion(samples.placed_blocks, (samples,), tiles))
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
        """The boxes of a tile's window with their arrays, as they are held now."""
        return tuple(p for region in self.link.parents_of(tile) for p in self._held[region].pieces)

    def used(self, tile: int) -> None:
        """Release what a tile, which is computed now, was the last to read."""
        for region in self.link.parents_of(tile):
            held = self._held[region]
            held.tiles.discard(tile)
            if not held.tiles:
                self._hold(region, None)
            elif region not in held.tiles:
                self._trim(region)

    def _trim(self, region: int) -> None:
        """Hold copies of the strips that are still read, in place of the region."""
        held = self._held[region]
        region_box = self.link.parent.region(region)
        boxes = {self._read_by(tile, region_box) for tile in held.tiles}
        outer = [box for box in boxes if not any(box != b and contains(b, box) for b in boxes)]
        strips = {box: block for box, block in held.pieces if any(block is a for a in held.arrays)}
        if sum(box.size for box in outer) > sum(box.size for box, _ in held.pieces):
            # In regions this small, the strips overlap by more than they save.
            outer = list(strips) or [region_box]
        copies = tuple(
            (box, strips[box] if box in strips else np.array(assemble(box, held.pieces)))
            for box in outer
        )
        self._hold(region, _HeldRegion(copies, tuple(strip for _, strip in copies), held.tiles))

    def _read_by(self, tile: int, box: Region) -> Region:
        return intersection(box, self.link.tile(tile).window.box)

    def _hold(self, region: int, held: _HeldRegion | None) -> None:
        before = self._held.pop(region, None)
        if held is not None:
            self._held[region] = held
            for array in held.arrays:
                self._account.hold(array)
        if before is not None:
            for array in before.arrays:
                self._account.release(array)


@dataclass
class _Filling:
    """A region of the child, and how many of its samples are not filled in yet."""

    samples: Block
    left: int


@dataclass
class RegionAssembly:
    """The regions of a level that tiles are filling in."""

    level: LevelPlan
    dtype: np.dtype[np.generic]
    account: MemoryAccount
    _filling: dict[int, _Filling] = field(default_factory=dict)

    def buffer(self, region: int) -> Block:
        """The region's array; a new one, with arbitrary samples, at the first call."""
        if region not in self._filling:
            box = self.level.region(region)
            self._filling[region] = _Filling(region_memory.array(box.shape, self.dtype), box.size)
            self.account.hold(self._filling[region].samples)
        return self._filling[region].samples

    def filled(self, region: int, count: int) -> BlockedArray | None:
        """Note that ``count`` more samples are filled in; the region's samples if it is full.

        The caller must hold the samples from then on.
        """
        filling = self._filling[region]
        filling.left -= count
        if filling.left:
            return None
        del self._filling[region]
        self.account.release(filling.samples)
        return BlockedArray.of(self.level.region(region), filling.samples)
