"""The samples of a box, in one array or in several arrays side by side."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.blocks import BlockedArray, assemble, carve
from ngff_core.geometry import Region
from ngff_core.memory import ScratchBuffer
from tests.support.passes import cut


@st.composite
def boxes(draw: st.DrawFn, inside: Region) -> Region:
    """A box of at least one sample, inside another."""
    pairs = list(zip(inside.start, inside.stop, strict=True))
    start = tuple(draw(st.integers(a, b - 1)) for a, b in pairs)
    ends = zip(start, inside.stop, strict=True)
    return Region(start, tuple(draw(st.integers(a + 1, b)) for a, b in ends))


@given(st.data())
def test_any_part_of_a_blocked_array_is_as_in_one_array(data: st.DataObject) -> None:
    """Wherever the part lies, and however the box is cut into arrays."""
    ndim = data.draw(st.integers(1, 4))
    array = np.arange(9**ndim, dtype="u4").reshape((9,) * ndim)
    box = data.draw(boxes(Region((0,) * ndim, array.shape)))
    cell = data.draw(st.tuples(*[st.integers(1, 9)] * ndim))
    samples = cut(box, array[box.slices], cell)
    assert samples.nbytes == box.size * 4
    assert samples.shape == box.shape
    part = data.draw(boxes(box))
    np.testing.assert_array_equal(samples.part(part), array[part.slices])
    for where, block in samples.placed_blocks:
        np.testing.assert_array_equal(block, array[where.slices])
    wide = samples.astype(np.dtype("f8"))
    assert wide.dtype == "f8"
    np.testing.assert_array_equal(wide.part(part), array[part.slices])


def test_samples_of_one_cell_are_not_copied() -> None:
    """A part within a cell is a view; converting to the same dtype gives the same object."""
    box = Region((2, 2), (10, 10))
    samples = cut(box, np.ones((8, 8), "u2"), (4, 4))
    assert np.shares_memory(samples.part(Region((6, 3), (10, 5))), samples.blocks[2])
    assert samples.astype(np.dtype("u2")) is samples


@given(st.data())
def test_a_box_is_assembled_from_blocks_that_cover_it(data: st.DataObject) -> None:
    """Any box of an array; some of the blocks overlap."""
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(2))
    array = np.arange(shape[0] * shape[1], dtype="u4").reshape(shape)
    cuts = [sorted({0, n, *data.draw(st.sets(st.integers(0, n), max_size=2))}) for n in shape]
    placed = []
    for a, b in zip(cuts[0], cuts[0][1:], strict=False):
        for c, d in zip(cuts[1], cuts[1][1:], strict=False):
            box = Region((max(0, a - data.draw(st.integers(0, 1))), c), (b, d))
            placed.append((box, array[box.slices].copy()))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = Region(start, stop)
    np.testing.assert_array_equal(assemble(box, placed), array[box.slices])
    np.testing.assert_array_equal(assemble(box, placed, ScratchBuffer()), array[box.slices])


def test_a_box_within_one_block_is_assembled_without_a_copy() -> None:
    """Others are copied, into the scratch buffer if one is given."""
    array = np.arange(64).reshape(8, 8)
    placed = [(Region((0, 0), (8, 4)), array[:, :4]), (Region((0, 4), (8, 8)), array[:, 4:])]
    scratch = ScratchBuffer()
    assert np.shares_memory(assemble(Region((2, 5), (4, 8)), placed, scratch), array)
    copy = assemble(Region((2, 3), (4, 8)), placed, scratch)
    assert not np.shares_memory(copy, array)
    assert np.shares_memory(copy, scratch.array(copy.shape, copy.dtype))
    assert not np.shares_memory(copy, assemble(Region((2, 3), (4, 8)), placed))


def test_memory_is_carved_into_one_array_per_cell() -> None:
    """One after another without gaps, in C order; cells are cut at the end of the box."""
    memory = np.arange(40)
    placed = carve(Region((4, 10), (7, 15)), (2, 3), memory)
    assert [region.start for region, _ in placed] == [(4, 10), (4, 13), (6, 10), (6, 13)]
    assert [block.tolist() for _, block in placed] == [
        [[0, 1, 2], [3, 4, 5]],
        [[6, 7], [8, 9]],
        [[10, 11, 12]],
        [[13, 14]],
    ]
    assert all(np.shares_memory(block, memory) for _, block in placed)
    assert all(block.flags.c_contiguous for _, block in placed)


def test_a_blocked_array_of_one_array_has_its_shape() -> None:
    """The array counts, not the box: a caller compares the two to find a wrong result."""
    box = Region((2, 2), (5, 6))
    wrong = BlockedArray.of(box, np.zeros((3, 3), "u2"))
    assert wrong.shape == (3, 3)
    assert wrong.box.shape == (3, 4)
    assert BlockedArray.of(box, np.zeros((3, 4), "u2")).nbytes == 24
