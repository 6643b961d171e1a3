"""Progress of lazy computations: a bar in the terminal, or events for a listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self


class RichProgress(Protocol):
    """The two methods that are used of a ``rich.progress.Progress``, or of another bar."""

    def add_task(self, description: str, *, total: float | None = ...) -> Any: ...
    def update(self, task_id: Any, /, **fields: Any) -> Any: ...


class NgffProgress:
    """Shows the passes of the lazy API as tasks of a ``rich.progress.Progress``.

    A pass is added with its total, and updated with the number of completed steps after each
    step. Subclasses may show both elsewhere.

    Parameters
    ----------
    rich_progress
        A ``rich.progress.Progress``, or an object with its ``add_task`` and ``update``.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> from rich.progress import Progress
    >>> with Progress(disable=True) as bar:
    ...     pyramid = ngff_core.to_multiscales(
    ...         np.zeros((64, 64)), [2], progress=ngff_core.NgffProgress(bar)
    ...     )
    >>> bar.tasks[0].description, bar.tasks[0].completed
    ('Preparing the levels', 2)
    """

    def __init__(self, rich_progress: RichProgress) -> None:
        self.rich = rich_progress
        self.multiscales_task: Any = None
        self.cache_task: Any = None

    def add_multiscales_task(self, description: str, scales: int) -> None:
        """Begin a pass over ``scales`` levels."""
        self.multiscales_task = self.rich.add_task(description, total=scales)

    def update_multiscales_task_completed(self, completed: int) -> None:
        """Show that ``completed`` levels are done."""
        self.rich.update(self.multiscales_task, completed=completed, refresh=True)

    def add_cache_task(self, description: str, total: int) -> None:
        """Begin a cache pass of ``total`` boxes."""
        self.cache_task = self.rich.add_task(description, total=total)

    def update_cache_task_completed(self, completed: int) -> None:
        """Show that ``completed`` boxes are cached."""
        self.rich.update(self.cache_task, completed=completed, refresh=True)


class NgffProgressCallback(NgffProgress):
    """`NgffProgress` that also shows the current step, counted in its own parts.

    It is a callback of dask's local schedulers as well: within ``with callback:``, or from
    ``register()`` to ``unregister()``, each ``compute()`` counts its tasks. They are shown in
    the bar of the current step, unless that step has counts of its own; then in a separate bar
    that is hidden when the computation ends. A task is counted after it is done. Dask's
    distributed scheduler calls no such callbacks.

    Parameters
    ----------
    rich_progress
        A ``rich.progress.Progress``, or an object with its ``add_task`` and ``update``.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> from rich.progress import Progress
    >>> pyramid = ngff_core.to_multiscales(np.zeros((64, 64)), [2])
    >>> with Progress(disable=True) as bar:
    ...     ngff_core.to_ngff_zarr({}, pyramid, progress=ngff_core.NgffProgressCallback(bar))
    >>> [task.description for task in bar.tasks]
    ['Writing the levels', 'Writing level 1 of 2', 'Writing level 2 of 2']
    """

    def __init__(self, rich_progress: RichProgress) -> None:
        super().__init__(rich_progress)
        self.tasks: dict[str, Any] = {}
        self.next_task: str | None = None
        self._counted = False
        self._computing: dict[int, _Computation] = {}

    def add_callback_task(self, description: str) -> None:
        """Begin the next step, and hide the one before it."""
        if self.next_task is not None:
            self.rich.update(self.tasks[self.next_task], visible=False)
        self.tasks[description] = self.rich.add_task(description, total=None)
        self.next_task = description
        self._counted = False

    def update_callback_task_completed(self, completed: int, total: int) -> None:
        """Show that ``completed`` of ``total`` parts of the current step are done."""
        self._counted = True
        if self.next_task is not None:
            self.rich.update(self.tasks[self.next_task], total=total, completed=completed)

    def register(self) -> None:
        """Count the tasks of each dask computation that begins after this call."""
        from ngff_core.lazy.dask_compat import add_callbacks

        add_callbacks(self._callback)

    def unregister(self) -> None:
        """Stop counting for computations that begin after this call; never an error."""
        from ngff_core.lazy.dask_compat import remove_callbacks

        remove_callbacks(self._callback)

    def __enter__(self) -> Self:
        self.register()
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    @property
    def _callback(self) -> tuple[Callable[..., None] | None, ...]:
        """What dask calls: at start, with the first state, before and after a task, at the end."""
        return (None, self._start_state, None, self._posttask, self._finish)

    def _start_state(self, _: Any, state: dict[str, Any]) -> None:
        from ngff_core.lazy.dask_compat import tasks_done, tasks_in

        total = tasks_in(state)
        if self.next_task is not None and not self._counted:
            self._counted, own = True, False
            task = self.tasks[self.next_task]
        else:
            own, task = True, self.rich.add_task("Computing", total=total)
        # By the identity of the state: threads may compute at the same time, each with its own.
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
