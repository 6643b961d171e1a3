"""Memory that arrays leave is used again, and never while anything still looks at it."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.memory import Recycler

BYTE = np.dtype(np.uint8)


def place(array: np.ndarray) -> int:
    """Where the array's samples lie."""
    return array.__array_interface__["data"][0]


def test_an_array_lies_where_the_last_one_lay() -> None:
    recycler = Recycler()
    first = recycler.array((8, 4), np.dtype("<u2"))
    assert first.shape == (8, 4)
    assert first.dtype == "<u2"
    assert first.flags.writeable
    assert first.flags.c_contiguous
    where = place(first)
    del first
    assert place(recycler.array((64,), BYTE)) == where


def test_a_view_keeps_its_memory() -> None:
    recycler = Recycler()
    array = recycler.array((8, 8), BYTE)
    array[...] = 7
    corner = array[6:, 6:].astype(BYTE, copy=False)
    del array
    recycler.array((8, 8), BYTE)[...] = 1
    assert (corner == 7).all()


def test_what_does_not_fit_makes_room() -> None:
    recycler = Recycler()
    small = recycler.array((100,), BYTE)
    del small
    held = recycler.array((1000,), BYTE)
    assert recycler.kept_bytes == 0
    del held
    recycler.array((100,), BYTE)
    assert recycler.kept_bytes <= 1000


def test_nothing_is_kept_that_was_given_up() -> None:
    recycler = Recycler()
    array = recycler.array((100,), BYTE)
    del array
    assert recycler.kept_bytes == 100
    recycler.give_up()
    assert recycler.kept_bytes == 0


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=40))
def test_arrays_in_use_never_share_memory(steps: list[tuple[int, int]]) -> None:
    recycler = Recycler()
    alive: dict[int, np.ndarray] = {}
    most = 0
    for mark, (size, slot) in enumerate(steps):
        alive.pop(slot, None)
        alive[slot] = recycler.array((size * 8,), BYTE)
        alive[slot][...] = mark % 251
        most = max(most, sum(array.nbytes for array in alive.values()))
        for array in alive.values():
            assert (array == array[0]).all()
        # In use at once, and an eighth that it may be larger by.
        assert recycler.kept_bytes <= most * 9 / 8
    assert len({int(array[0]) for array in alive.values()}) == len(alive)


@pytest.mark.parametrize("workers", [2, 8])
def test_threads_share_it(workers: int) -> None:
    recycler = Recycler()

    def fill(mark: int) -> bool:
        array = recycler.array((4096,), np.dtype(np.int64))
        array[...] = mark
        return bool((array == mark).all())

    with ThreadPoolExecutor(workers) as pool:
        assert all(pool.map(fill, range(2000)))
    gc.collect()
    assert recycler.kept_bytes <= (workers + 1) * 4096 * 8
