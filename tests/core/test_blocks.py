"""Samples of a box, in one array or in several."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.blocks import assemble
from ngff_core.geometry import Region
from ngff_core.memory import ScratchBuffer
from tests.support.passes import cut


@st.composite
def boxes(draw: st.DrawFn, inside: Region) -> Region:
    """A box with a sample in it, inside another."""
    pairs = list(zip(inside.start, inside.stop, strict=True))
    start = tuple(draw(st.integers(a, b - 1)) for a, b in pairs)
    ends = zip(start, inside.stop, strict=True)
    return Region(start, tuple(draw(st.integers(a + 1, b)) for a, b in ends))


@given(st.data())
def test_any_part_of_samples_is_what_it_is_in_one_array(data: st.DataObject) -> None:
    """Wherever the box lies, whatever arrays its samples lie in."""
    ndim = data.draw(st.integers(1, 4))
    array = np.arange(9**ndim, dtype="u4").reshape((9,) * ndim)
    box = data.draw(boxes(Region((0,) * ndim, array.shape)))
    cell = data.draw(st.tuples(*[st.integers(1, 9)] * ndim))
    samples = cut(box, array[box.slices], cell)
    assert samples.nbytes == box.size * 4
    assert samples.shape == box.shape
    part = data.draw(boxes(box))
    np.testing.assert_array_equal(samples.part(part), array[part.slices])
    for where, block in samples.pieces:
        np.testing.assert_array_equal(block, array[where.slices])
    wide = samples.astype(np.dtype("f8"))
    assert wide.dtype == "f8"
    np.testing.assert_array_equal(wide.part(part), array[part.slices])


def test_what_lies_in_one_array_is_not_copied() -> None:
    """Neither a part of a cell, nor what is of the dtype already."""
    box = Region((2, 2), (10, 10))
    samples = cut(box, np.ones((8, 8), "u2"), (4, 4))
    assert np.shares_memory(samples.part(Region((6, 3), (10, 5))), samples.blocks[2])
    assert samples.astype(np.dtype("u2")) is samples


@given(st.data())
def test_pieces_are_put_together_as_they_lie(data: st.DataObject) -> None:
    """Any box of an array, from pieces that cover it, some of them overlapping."""
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(2))
    array = np.arange(shape[0] * shape[1], dtype="u4").reshape(shape)
    cuts = [sorted({0, n, *data.draw(st.sets(st.integers(0, n), max_size=2))}) for n in shape]
    pieces = []
    for a, b in zip(cuts[0], cuts[0][1:], strict=False):
        for c, d in zip(cuts[1], cuts[1][1:], strict=False):
            box = Region((max(0, a - data.draw(st.integers(0, 1))), c), (b, d))
            pieces.append((box, array[box.slices].copy()))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = Region(start, stop)
    np.testing.assert_array_equal(assemble(box, pieces), array[box.slices])
    np.testing.assert_array_equal(assemble(box, pieces, ScratchBuffer()), array[box.slices])
