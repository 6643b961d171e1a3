"""The parts of dask that its documentation does not promise still do what we use them for."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np

from ngff_core.lazy.dask_compat import (
    add_callbacks,
    array_of_tasks,
    count_tasks,
    parts_of_task,
    remove_callbacks,
    tasks_done,
    tasks_in,
)


def test_tasks_are_counted_by_block() -> None:
    """Four blocks, two operations and the array itself; nothing is computed."""
    array = da.from_array(np.zeros((8, 8)), chunks=4, name="zeros")
    assert count_tasks(array + 1) == count_tasks(array) + 4


def test_an_array_is_made_of_tasks() -> None:
    """A list of keys among a task's arguments becomes a list of blocks."""
    parent = da.from_array(np.arange(8), chunks=4)
    keys = [(parent.name, 0), (parent.name, 1)]
    made = array_of_tasks("both", {("both", 0): (np.concatenate, keys)}, ((8,),), parent)
    assert made.dtype == parent.dtype
    np.testing.assert_array_equal(made.compute(scheduler="sync"), np.arange(8))
    np.testing.assert_array_equal((made + 1).rechunk(2).compute(scheduler="sync"), np.arange(8) + 1)


def test_callbacks_see_the_state_of_a_computation() -> None:
    """From all tasks at its start to all of them done; removed, they see nothing."""
    seen: list[tuple[int, int]] = []

    def start(_: Any, state: Any) -> None:
        seen.append((tasks_in(state), tasks_done(state)))

    def after(_: Any, __: Any, ___: Any, state: Any, ____: Any) -> None:
        seen.append((tasks_in(state), tasks_done(state)))

    callbacks = (None, start, None, after, None)
    array = da.ones((4, 4), chunks=2) + 1
    add_callbacks(callbacks)
    array.compute(scheduler="sync", optimize_graph=False)
    remove_callbacks(callbacks)
    remove_callbacks(callbacks)
    array.compute(scheduler="sync", optimize_graph=False)
    total = seen[0][0]
    assert [done for _, done in seen] == list(range(total + 1))


def test_tasks_show_what_they_hold() -> None:
    """Whatever kind of task a graph has, after it was optimised too."""
    found: list[object] = []

    def look(value: Any) -> None:
        parts = parts_of_task(type(value))
        if parts is not None:
            for part in parts(value):
                look(part)
        elif isinstance(value, dict):
            for part in value.values():
                look(part)
        elif isinstance(value, tuple | list):
            for part in value:
                look(part)
        else:
            found.append(value)

    marker = object()
    array = da.ones((4, 4), chunks=2).map_blocks(lambda block, _: block, marker, dtype=float)
    for graph in (array.__dask_graph__(), dask.optimize(array)[0].__dask_graph__()):
        found.clear()
        look(dict(graph))
        assert any(value is marker for value in found)
