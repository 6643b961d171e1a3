"""All parts of dask that its documentation does not promise, in one place.

Each is used by ``tests/core/lazy/test_dask_compat.py``: run it when dask's version changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dask.array as da
from dask._task_spec import Alias, DataNode, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph

from ngff_core.geometry import Shape

Callbacks = tuple[Callable[..., None] | None, ...]
"""What dask's local schedulers call: start, first state, before and after a task, finish."""


def count_tasks(array: Any) -> int:
    """Tasks in the graph of a dask array; layers that dask has not expanded are counted too."""
    graph: Any = array.__dask_graph__()
    return sum(len(layer) for layer in graph.layers.values())


def array_of_tasks(
    name: str, tasks: Mapping[Any, Any], chunks: tuple[Shape, ...], parent: Any
) -> Any:
    """A dask array of ``parent``'s dtype whose blocks are ``tasks`` by key.

    ``chunks`` are the lengths of the blocks along each axis. A task is a tuple of a function
    and its arguments; lists of keys of ``parent`` among them become lists of its blocks.
    """
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[parent])
    return da.Array(graph, name, chunks=chunks, dtype=parent.dtype)  # type: ignore[no-untyped-call]


def parts_of_task(kind: type) -> Callable[[Any], Iterable[object]] | None:
    """What gives function and arguments of tasks of type ``kind``; None for another type.

    All that the garbage collector sees of a task is as right, and three times as much.
    """
    if issubclass(kind, TaskRef | Alias):
        return lambda _: ()
    if issubclass(kind, Task):
        return lambda task: (task.func, task.args, task.kwargs)
    if issubclass(kind, DataNode):
        return lambda node: (node.value,)
    return None


def add_callbacks(callbacks: Callbacks) -> None:
    """Have every computation that begins from now on in this process call ``callbacks``."""
    from dask.callbacks import Callback

    Callback.active.add(callbacks)


def remove_callbacks(callbacks: Callbacks) -> None:
    """Undo `add_callbacks`; no error where they were not added."""
    from dask.callbacks import Callback

    Callback.active.discard(callbacks)


def tasks_in(state: Mapping[str, Any]) -> int:
    """All tasks of a computation, by the scheduler's state at its start."""
    return sum(len(state[kind]) for kind in ("ready", "waiting", "running", "finished"))


def tasks_done(state: Mapping[str, Any]) -> int:
    """Tasks of a computation that are finished, by the scheduler's state."""
    return len(state["finished"])
