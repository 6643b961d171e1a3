"""Samples between two levels: offered, read by tiles, and released by the last of them."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngff_core.blocks import BlockedArray, assemble
from ngff_core.build.in_flight import MemoryAccount, RegionAssembly, TileInputs
from ngff_core.geometry import Region, contains, within
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.schedule import passes
from tests.support.passes import cut, plans

U2 = np.dtype("<u2")


def level(
    index: int, shape: tuple[int, ...], block: tuple[int, ...], step: tuple[int, ...]
) -> LevelPlan:
    """A level of one chunk per block."""
    return LevelPlan(index, f"scale{index}", shape, block, None, block, step, index or None, step)


def link_of(
    shape: tuple[int, ...],
    block: tuple[int, ...],
    step: tuple[int, ...],
    halo: tuple[int, ...],
) -> LevelLink:
    """A parent in blocks of ``block``, and a child in blocks of the same shape."""
    small = tuple(n // k for n, k in zip(shape, step, strict=True))
    return LevelLink(level(0, shape, block, (1,) * len(shape)), level(1, small, block, step), halo)


LINE = link_of((4, 24), (4, 8), (1, 2), (0, 2))
"""Three regions of 64 bytes in a row. Tiles 1 and 2 read 4 of the 8 columns of the region
before their own."""

REGION, STRIP = 4 * 8 * 2, 4 * 4 * 2


def every_tile(tile: int) -> bool:
    return True


def region_of(link: LevelLink, image: np.ndarray[Any, Any], index: int) -> BlockedArray:
    """A region's samples, in an array of its own."""
    box = link.parent.region(index)
    return BlockedArray.of(box, image[box.slices].copy())


def image_of(link: LevelLink) -> np.ndarray[Any, Any]:
    """A parent of which no two samples are alike."""
    shape = link.parent.shape
    return np.arange(np.prod(shape), dtype=U2).reshape(shape)


class Waiting:
    """The samples of a parent on their way into its child, with a record of their bytes."""

    def __init__(self, link: LevelLink, wants_tile: Callable[[int], bool] = every_tile) -> None:
        self.link, self.image = link, image_of(link)
        self.account = MemoryAccount()
        self.inputs = TileInputs(link, wants_tile, self.account)

    def offer(self, region: int) -> list[int]:
        return self.inputs.offer(region, region_of(self.link, self.image, region))

    def window(self, tile: int) -> np.ndarray[Any, Any]:
        """What the tile's window holds."""
        return assemble(self.link.tile(tile).window.box, self.inputs.pieces(tile))


# ---------------------------------------------------------------- the account


def test_bytes_count_once_however_many_hold_them() -> None:
    account, samples = MemoryAccount(), np.zeros(100, np.uint8)
    account.hold(samples)
    account.hold(samples)
    assert account.nbytes == 100
    account.release(samples)
    assert (account.nbytes, account.has(samples)) == (100, True)
    account.release(samples)
    assert (account.nbytes, account.has(samples)) == (0, False)


def test_equal_samples_are_counted_apart() -> None:
    """Two arrays of the same values take memory twice."""
    account, one, other = MemoryAccount(), np.zeros(3, np.uint8), np.zeros(3, np.uint8)
    account.hold(one)
    account.hold(other)
    account.release(one)
    assert (account.nbytes, account.has(one), account.has(other)) == (3, False, True)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4))))
def test_the_account_is_the_sum_of_what_is_held(steps: list[tuple[bool, int]]) -> None:
    """After any sequence of holds and releases."""
    account = MemoryAccount()
    arrays = [np.zeros(10**n, np.uint8) for n in range(5)]
    holders = [0] * 5
    for hold, which in steps:
        if hold:
            account.hold(arrays[which])
            holders[which] += 1
        elif holders[which]:
            account.release(arrays[which])
            holders[which] -= 1
        assert account.nbytes == sum(10**n for n in range(5) if holders[n])
        assert [account.has(array) for array in arrays] == [n > 0 for n in holders]


# ---------------------------------------------------------------- inputs of tiles


def test_a_tile_is_ready_when_the_last_region_of_its_window_is_there() -> None:
    """Its window reaches back into the region before it, in whichever order they come."""
    in_order, backwards = Waiting(LINE), Waiting(LINE)
    assert [in_order.offer(region) for region in (0, 1, 2)] == [[0], [1], [2]]
    assert [backwards.offer(region) for region in (2, 1, 0)] == [[], [2], [0, 1]]


def test_of_a_region_whose_own_tile_is_done_only_a_strip_is_held() -> None:
    """The half that the next tile reads; nothing once that tile is done too."""
    waiting = Waiting(LINE)
    waiting.offer(0)
    assert waiting.account.nbytes == REGION
    waiting.inputs.used(0)
    assert waiting.account.nbytes == STRIP
    waiting.offer(1)
    assert waiting.account.nbytes == STRIP + REGION
    waiting.inputs.used(1)
    assert waiting.account.nbytes == STRIP
    waiting.offer(2)
    waiting.inputs.used(2)
    assert waiting.account.nbytes == 0


def test_a_strip_does_not_keep_the_memory_of_its_region() -> None:
    """It is a copy: a view would hold all of what it was cut from."""
    waiting = Waiting(LINE)
    samples = region_of(LINE, waiting.image, 0)
    gone = weakref.ref(samples.blocks[0])
    waiting.inputs.offer(0, samples)
    del samples
    assert gone() is not None
    waiting.inputs.used(0)
    assert gone() is None


def test_without_a_halo_a_region_goes_with_its_tile() -> None:
    waiting = Waiting(link_of((4, 24), (4, 8), (1, 2), (0, 0)))
    for region in (2, 0, 1):
        assert waiting.offer(region) == [region]
        assert waiting.account.nbytes == REGION
        waiting.inputs.used(region)
        assert waiting.account.nbytes == 0


def test_a_region_that_no_wanted_tile_reads_is_not_held() -> None:
    """In a resumed build most of the child may be stored already."""
    waiting = Waiting(LINE, lambda tile: tile == 2)
    assert waiting.offer(0) == []
    assert waiting.account.nbytes == 0


def test_of_a_region_whose_own_tile_is_not_wanted_the_strip_alone_is_held() -> None:
    waiting = Waiting(LINE, lambda tile: tile == 2)
    assert waiting.offer(1) == []
    assert waiting.account.nbytes == STRIP
    assert waiting.offer(2) == [2]
    assert (waiting.window(2) == waiting.image[:, 12:24]).all()


def test_strips_that_overlap_more_than_they_spare_are_one_copy_of_the_region() -> None:
    """Right and lower strip of a region of 6² have 24 samples each, and the region has 36."""
    link = link_of((12, 12), (6, 6), (2, 2), (2, 2))
    waiting = Waiting(link)
    waiting.offer(0)
    waiting.inputs.used(0)
    assert waiting.account.nbytes == 36 * 2
    for region in (1, 2):
        assert waiting.offer(region) == [region]
    before = waiting.account.nbytes
    waiting.inputs.used(1)
    # Region 0's whole copy is left as it is: the lower strip goes with it.
    assert waiting.account.nbytes < before
    waiting.inputs.used(2)
    # The last tile reads a corner of region 0 and a strip of each other region.
    assert waiting.account.nbytes == (4 * 4 + 2 * 6 * 4) * 2
    assert waiting.offer(3) == [3]
    assert (waiting.window(3) == waiting.image[2:, 2:]).all()
    waiting.inputs.used(3)
    assert waiting.account.nbytes == 0


def test_strips_inside_another_one_are_not_copied_for_themselves() -> None:
    """The corner that the diagonal tile reads lies in the strip of the tile below."""
    link = link_of((16, 16), (8, 8), (2, 2), (2, 2))
    waiting = Waiting(link)
    waiting.offer(0)
    waiting.inputs.used(0)
    assert waiting.account.nbytes == 2 * (8 * 4) * 2
    assert len(waiting.inputs._held[0].pieces) == 2


def test_a_strip_that_is_still_needed_is_not_copied_again() -> None:
    """The tile to the right is done; the lower strip stays the array that it was."""
    link = link_of((16, 16), (8, 8), (2, 2), (2, 2))
    waiting = Waiting(link)
    waiting.offer(0)
    waiting.inputs.used(0)
    lower = {box: block for box, block in waiting.inputs._held[0].pieces if box.start == (4, 0)}
    waiting.offer(1)
    waiting.inputs.used(1)
    assert lower
    for box, block in waiting.inputs._held[0].pieces:
        assert block is lower[box]


@settings(max_examples=30)
@given(
    plan=plans(16),
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.3, 1.0]),
    cell=st.none() | st.tuples(*[st.integers(1, 12)] * 5),
)
def test_each_tile_gets_its_window_once_and_nothing_is_left(
    plan: PyramidPlan, seed: int, share: float, cell: tuple[int, ...] | None
) -> None:
    """In any order of regions and tiles, with any tiles wanted, cut into any arrays."""
    link, rng = passes(plan, [1])[0].links[0], random.Random(seed)
    tiles = [t for t in range(link.parent.regions) if link.parents_of(t) and rng.random() < share]
    waiting, image = Waiting(link, set(tiles).__contains__), image_of(link)
    sizes = {region: link.parent.region(region).size * 2 for region in range(link.parent.regions)}
    waiting_tiles = {region: set(tiles) & set(link.tiles_reading(region)) for region in sizes}
    to_offer, offered = list(sizes), set[int]()
    ready, used = list[int](), list[int]()
    while to_offer or ready:
        if to_offer and (not ready or rng.random() < 0.5):
            region = to_offer.pop(rng.randrange(len(to_offer)))
            offered.add(region)
            box = link.parent.region(region)
            samples = cut(box, image[box.slices].copy(), cell and cell[: len(box.start)])
            ready += waiting.inputs.offer(region, samples)
        else:
            tile = ready.pop(rng.randrange(len(ready)))
            np.testing.assert_array_equal(
                waiting.window(tile), image[link.tile(tile).window.box.slices]
            )
            waiting.inputs.used(tile)
            used.append(tile)
            for region in link.parents_of(tile):
                waiting_tiles[region].discard(tile)
        needed = [r for r in offered if waiting_tiles[r]]
        assert waiting.account.nbytes <= sum(sizes[region] for region in needed)
        assert (waiting.account.nbytes > 0) == bool(needed)
    assert sorted(used) == tiles


@settings(max_examples=20)
@given(plan=plans(16), seed=st.integers(0, 2**16))
def test_strips_hold_what_later_tiles_read_and_lie_inside_their_region(
    plan: PyramidPlan, seed: int
) -> None:
    """After its own tile; they are copies, none of which contains another."""
    link = passes(plan, [1])[0].links[0]
    waiting, image = Waiting(link), image_of(link)
    order = list(range(link.parent.regions))
    random.Random(seed).shuffle(order)
    for region in order:
        for tile in waiting.inputs.offer(region, region_of(link, image, region)):
            waiting.inputs.used(tile)
        held = waiting.inputs._held.get(region)
        boxes = [box for box, _ in held.pieces] if held else []
        assert not any(a is not b and contains(a, b) for a in boxes for b in boxes)
        for box, block in held.pieces if held else ():
            np.testing.assert_array_equal(block, image[box.slices])
    assert waiting.account.nbytes == 0


# ---------------------------------------------------------------- regions being filled


def assembly() -> RegionAssembly:
    return RegionAssembly(LINE.child, U2, MemoryAccount())


def test_a_region_has_one_buffer_while_tiles_fill_it() -> None:
    """Of the level's dtype, counted from its first tile to its last sample."""
    found = assembly()
    buffer = found.buffer(0)
    assert (buffer.shape, buffer.dtype) == ((4, 8), U2)
    assert found.buffer(0) is buffer
    assert found.account.nbytes == buffer.nbytes == 64


def test_a_region_is_given_out_with_its_last_samples_and_not_before() -> None:
    """With its box; the last region of a level may be cut short."""
    found = assembly()
    buffer = found.buffer(1)
    buffer[...] = 7
    assert found.filled(1, 12) is None
    assert found.account.nbytes == 4 * 4 * 2
    samples = found.filled(1, 4)
    assert samples is not None
    assert samples.box == Region((0, 8), (4, 12))
    assert samples.blocks == (buffer,)
    assert found.account.nbytes == 0


def test_regions_are_filled_side_by_side() -> None:
    found = assembly()
    first, second = found.buffer(0), found.buffer(1)
    assert first is not second
    assert found.account.nbytes == (32 + 16) * 2
    assert found.filled(1, 16) is not None
    assert found.filled(0, 31) is None
    assert found.filled(0, 1) is not None
    assert found.account.nbytes == 0


def test_a_region_that_was_given_out_begins_from_nothing() -> None:
    """A second pass over the level must not write into samples that others hold."""
    found = assembly()
    first = found.buffer(0)
    assert found.filled(0, 32) is not None
    assert found.buffer(0) is not first
    assert found.filled(0, 31) is None


@pytest.mark.parametrize("in_order", [True, False])
def test_tiles_assemble_the_child_from_what_they_compute(in_order: bool) -> None:
    """Every second sample of the parent, each written by the one tile that covers it."""
    waiting = Waiting(LINE)
    found = RegionAssembly(LINE.child, U2, waiting.account)
    child = np.zeros(LINE.child.shape, U2)
    for region in (0, 1, 2) if in_order else (2, 1, 0):
        for tile in waiting.offer(region):
            out, window = LINE.tile(tile).out, LINE.tile(tile).window
            samples = waiting.window(tile)[:, window.offset[1] :: 2][:, : out.shape[1]]
            for into in LINE.children_of(tile):
                box = LINE.child.region(into)
                part = Region(
                    tuple(map(max, box.start, out.start)), tuple(map(min, box.stop, out.stop))
                )
                found.buffer(into)[within(part, box)] = samples[within(part, out)]
                whole = found.filled(into, part.size)
                if whole is not None:
                    child[whole.box.slices] = whole.blocks[0]
            waiting.inputs.used(tile)
    np.testing.assert_array_equal(child, waiting.image[:, ::2])
    assert waiting.account.nbytes == 0
