"""Progress of lazy computations: a bar in the terminal, or events for a listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self


class RichProgress(Protocol):
    """What is asked of a bar: ``rich.progress.Progress`` has it, and so may others."""

    def add_task(self, description: str, *, total: float | None = ...) -> Any: ...
    def update(self, task_id: Any, /, **fields: Any) -> Any: ...


class NgffProgress:
    """Shows the passes of the lazy API as tasks of a ``rich.progress.Progress``.

    Each pass is added with its total, then updated with what is completed, after each
    piece. Subclasses may show both elsewhere.
    """

    def __init__(self, rich_progress: RichProgress) -> None:
        self.rich = rich_progress
        self.multiscales_task: Any = None
        self.cache_task: Any = None

    def add_multiscales_task(self, description: str, scales: int) -> None:
        """A pass over ``scales`` levels begins."""
        self.multiscales_task = self.rich.add_task(description, total=scales)

    def update_multiscales_task_completed(self, completed: int) -> None:
        """So many levels are done."""
        self.rich.update(self.multiscales_task, completed=completed, refresh=True)

    def add_cache_task(self, description: str, total: int) -> None:
        """A cache pass of ``total`` pieces begins."""
        self.cache_task = self.rich.add_task(description, total=total)

    def update_cache_task_completed(self, completed: int) -> None:
        """So many pieces are cached."""
        self.rich.update(self.cache_task, completed=completed, refresh=True)


class NgffProgressCallback(NgffProgress):
    """`NgffProgress` that also shows the piece at hand, counted in its own parts.

    It is a callback of dask's schedulers of one machine, too: within ``with callback:``,
    or from ``register()`` to ``unregister()``, every ``compute()`` counts its tasks. It
    does so in the piece at hand, where that one has no count of its own yet, and else in
    a bar of its own that goes when the computation ends. A task is counted after it is
    done; dask's distributed scheduler calls no such callbacks.
    """

    def __init__(self, rich_progress: RichProgress) -> None:
        super().__init__(rich_progress)
        self.tasks: dict[str, Any] = {}
        self.next_task: str | None = None
        self._counted = False
        self._computing: dict[int, _Computation] = {}

    def add_callback_task(self, description: str) -> None:
        """The next piece begins; the one before it is no longer shown."""
        if self.next_task is not None:
            self.rich.update(self.tasks[self.next_task], visible=False)
        self.tasks[description] = self.rich.add_task(description, total=None)
        self.next_task = description
        self._counted = False

    def update_callback_task_completed(self, completed: int, total: int) -> None:
        """So many of the parts of the piece at hand are done."""
        self._counted = True
        if self.next_task is not None:
            self.rich.update(self.tasks[self.next_task], total=total, completed=completed)

    def register(self) -> None:
        """Count the tasks of every dask computation that begins from now on."""
        from ngff_core.lazy.dask_compat import add_callbacks

        add_callbacks(self._callback)

    def unregister(self) -> None:
        """Count none of those that begin from now on; never an error."""
        from ngff_core.lazy.dask_compat import remove_callbacks

        remove_callbacks(self._callback)

    def __enter__(self) -> Self:
        self.register()
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    @property
    def _callback(self) -> tuple[Callable[..., None] | None, ...]:
        """What dask calls at the start, with the first state, around tasks, at the end."""
        return (None, self._start_state, None, self._posttask, self._finish)

    def _start_state(self, _: Any, state: dict[str, Any]) -> None:
        from ngff_core.lazy.dask_compat import tasks_done, tasks_in

        total = tasks_in(state)
        if self.next_task is not None and not self._counted:
            self._counted, own = True, False
            task = self.tasks[self.next_task]
        else:
            own, task = True, self.rich.add_task("Computing", total=total)
        # By the state's identity: threads may compute at once, each with a state of its own.
        self._computing[id(state)] = _Computation(task, total, own)
        self.rich.update(task, total=total, completed=tasks_done(state))

    def _posttask(self, _: Any, __: Any, ___: Any, state: dict[str, Any], ____: Any) -> None:
        from ngff_core.lazy.dask_compat import tasks_done

        computation = self._computing[id(state)]
        self.rich.update(computation.task, total=computation.total, completed=tasks_done(state))

    def _finish(self, _: Any, state: dict[str, Any], __: bool) -> None:
        # None where a computation failed before it had a state.
        computation = self._computing.pop(id(state), None)
        if computation is not None and computation.own:
            self.rich.update(computation.task, visible=False)


@dataclass(frozen=True)
class _Computation:
    """A dask computation under way, and the bar that shows it."""

    task: Any
    total: int
    own: bool


Progress = NgffProgress | NgffProgressCallback | None
