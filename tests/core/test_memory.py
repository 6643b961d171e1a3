"""Memory of arrays that are gone is used again, and never while anything refers to it."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core import memory
from ngff_core.memory import MemoryPool, ScratchBuffer, available_memory

BYTE = np.dtype(np.uint8)


def address(array: np.ndarray) -> int:
    """Address of the array's first sample."""
    return array.__array_interface__["data"][0]


def test_an_array_uses_the_memory_of_the_last_one() -> None:
    """Whatever its shape and dtype, if it has as many bytes."""
    pool = MemoryPool()
    first = pool.array((8, 4), np.dtype("<u2"))
    assert first.shape == (8, 4)
    assert first.dtype == "<u2"
    assert first.flags.writeable
    assert first.flags.c_contiguous
    before = address(first)
    del first
    assert address(pool.array((64,), BYTE)) == before


@pytest.mark.parametrize(
    ("buffer", "array", "reused"),
    [
        (900, 900, True),
        # Too small by a byte.
        (899, 900, False),
        # 800 bytes and an eighth of them, 100, are 900; one byte less is too few for 900.
        (900, 800, True),
        (900, 799, False),
        (901, 800, False),
        # 7 // 8 is 0: nothing but the same size fits.
        (7, 7, True),
        (8, 7, False),
        # 8 // 8 is 1.
        (9, 8, True),
        (10, 8, False),
    ],
)
def test_memory_is_used_again_for_arrays_of_up_to_a_ninth_less(
    buffer: int, array: int, reused: bool
) -> None:
    """A buffer may be larger than its array by an eighth of the array, and no byte more."""
    pool = MemoryPool()
    pool.array((buffer,), BYTE)
    assert pool.unused_bytes == buffer
    held = pool.array((array,), BYTE)
    assert held.nbytes == array
    assert pool.unused_bytes == 0
    del held
    # What returns is the old buffer, or a new one of the array's size in its place.
    assert pool.unused_bytes == (buffer if reused else array)


def test_the_first_buffer_that_fits_is_used() -> None:
    """Others stay for the next array."""
    pool = MemoryPool()
    three = [pool.array((n,), BYTE) for n in (500, 1000, 1100)]
    second = address(three[1])
    while three:
        three.pop(0)
    assert pool.unused_bytes == 2600
    found = pool.array((1000,), BYTE)
    assert address(found) == second
    assert pool.unused_bytes == 1600


@pytest.mark.parametrize(
    ("unused", "array", "left"),
    [
        # Freed oldest first, until as many bytes are freed as the new array needs.
        ([100, 100, 100], 50, [100, 100]),
        ([100, 100, 100], 180, [100]),
        ([100, 100, 100], 200, [100]),
        ([100, 100, 100], 201, []),
        ([100, 100, 100], 1000, []),
        ([300, 40, 40], 200, [40, 40]),
    ],
)
def test_a_new_buffer_replaces_as_many_unused_bytes(
    unused: list[int], array: int, left: list[int]
) -> None:
    """Sizes that are asked for no longer do not stay for ever."""
    pool = MemoryPool()
    arrays = [pool.array((n,), BYTE) for n in unused]
    while arrays:
        arrays.pop(0)
    assert pool.unused_bytes == sum(unused)
    held = pool.array((array,), BYTE)
    assert pool.unused_bytes == sum(left)
    assert held.nbytes == array


def test_a_view_keeps_its_memory() -> None:
    """The array may be gone; a view of it is enough."""
    pool = MemoryPool()
    array = pool.array((8, 8), BYTE)
    array[...] = 7
    corner = array[6:, 6:].astype(BYTE, copy=False)
    del array
    pool.array((8, 8), BYTE)[...] = 1
    assert (corner == 7).all()


def test_unused_memory_can_be_freed() -> None:
    """What is in use stays, and returns to the pool afterwards."""
    pool = MemoryPool()
    array = pool.array((100,), BYTE)
    pool.array((300,), BYTE)
    assert pool.unused_bytes == 300
    pool.free_unused()
    assert pool.unused_bytes == 0
    del array
    assert pool.unused_bytes == 100


def test_releasing_memory_empties_the_pool_of_regions() -> None:
    """At the end of a build no region's memory is kept."""
    memory.region_memory.array((5000,), BYTE)
    assert memory.region_memory.unused_bytes >= 5000
    memory.release_memory()
    assert memory.region_memory.unused_bytes == 0


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=40))
def test_arrays_in_use_never_share_memory(steps: list[tuple[int, int]]) -> None:
    """And the pool holds no more than was in use at once, and an eighth of it."""
    pool = MemoryPool()
    alive: dict[int, np.ndarray] = {}
    most = 0
    for mark, (size, slot) in enumerate(steps):
        alive.pop(slot, None)
        alive[slot] = pool.array((size * 8,), BYTE)
        alive[slot][...] = mark % 251
        in_use = sum(array.nbytes for array in alive.values())
        most = max(most, in_use)
        assert all((array == array[0]).all() for array in alive.values())
        assert in_use + pool.unused_bytes <= most * 9 / 8
    assert len({int(array[0]) for array in alive.values()}) == len(alive)


@pytest.mark.parametrize("workers", [2, 8])
def test_threads_share_a_pool(workers: int) -> None:
    """No two of them get the same memory at once."""
    pool = MemoryPool()

    def fill(mark: int) -> bool:
        array = pool.array((4096,), np.dtype(np.int64))
        array[...] = mark
        return bool((array == mark).all())

    with ThreadPoolExecutor(workers) as threads:
        assert all(threads.map(fill, range(2000)))
    gc.collect()
    assert pool.unused_bytes <= (workers + 1) * 4096 * 8


def test_a_scratch_buffer_grows_and_never_shrinks() -> None:
    """Smaller arrays lie in the memory of the largest one, whatever their shape."""
    scratch = ScratchBuffer()
    large = scratch.array((10, 10), np.dtype("<u4"))
    start = address(large)
    small = scratch.array((5,), np.dtype("<f8"))
    assert (small.shape, small.dtype) == ((5,), np.dtype("<f8"))
    assert address(small) == start
    assert address(scratch.array((400,), BYTE)) == start
    larger = scratch.array((401,), BYTE)
    assert larger.nbytes == 401
    assert address(scratch.array((401,), BYTE)) == address(larger)


def test_each_thread_has_a_scratch_buffer_of_its_own() -> None:
    """Threads that encode at the same time do not write over each other's samples."""
    scratch = ScratchBuffer()
    mine = scratch.array((100,), BYTE)
    found: list[bool] = []

    def other() -> None:
        found.append(np.shares_memory(mine, scratch.array((100,), BYTE)))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_cgroups_limit_counts_where_it_is_lower(tmp_path, monkeypatch) -> None:
    """In a container, memory of the machine beyond the container's limit is not available."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    without = available_memory()
    assert without > 2**20
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.max").write_text("10000\n")
    assert available_memory() == 7000
    (tmp_path / "memory.max").write_text(f"{2**60}\n")
    assert available_memory() < 2**50
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() > 2**20
