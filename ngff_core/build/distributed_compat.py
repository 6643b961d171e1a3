"""The parts of `distributed` that builds use beyond its documented interface.

The rest of this package uses only documented methods of a client and a local cluster. What
is here may change with a version of `distributed`; its tests run all of it.
"""

from __future__ import annotations

import sys
from queue import Empty
from typing import Any, Literal

FutureState = Literal["finished", "error", "cancelled", "pending"]


def load_distributed() -> Any:
    """Import `distributed`, with its log reduced to errors unless dask is configured otherwise."""
    if "distributed" not in sys.modules:
        import dask

        # Set before the import, which is when distributed configures its log.
        if dask.config.get("logging.distributed", None) is None:
            dask.config.set({"logging.distributed": "error"})
    import distributed

    return distributed


def is_connected(client: Any) -> bool:
    """Whether a client is connected to its scheduler."""
    return bool(client.status == "running")


def state_of(future: Any) -> FutureState:
    """The state of a future; ``pending`` also if its result was lost and is computed again."""
    if not future.done():
        return "pending"
    status = future.status
    return status if status in ("finished", "error") else "cancelled"


def workers_killed(error: BaseException) -> int | None:
    """How many workers died at a task that dask gave up for that; None for another error."""
    if isinstance(error, load_distributed().KilledWorker):
        return int(error.allowed_failures) + 1
    return None


def worker_limits(client: Any) -> list[tuple[int, int]]:
    """Threads and memory limit in bytes of each worker; the limit is 0 where there is none."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return [(worker["nthreads"], worker["memory_limit"] or 0) for worker in workers]


class FinishedFutures:
    """Futures in the order in which they finish: `as_completed`, with a limit to each wait.

    `as_completed` has one limit for all waits together, and none that can be renewed. Its
    queue has a limit for each.
    """

    def __init__(self, client: Any) -> None:
        self._completed = load_distributed().as_completed(loop=client.loop)

    def add(self, future: Any) -> None:
        """Wait for one more future."""
        self._completed.add(future)

    def wait(self, seconds: float) -> list[Any]:
        """The futures that finished since the last call; waits up to ``seconds`` for one."""
        try:
            first = self._completed.queue.get(timeout=seconds)
        except Empty:
            return []
        return [first, *self._completed.next_batch(block=False)]

    def clear(self) -> None:
        """Wait for none of the futures any more."""
        self._completed.clear()
