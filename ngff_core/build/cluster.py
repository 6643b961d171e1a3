"""A dask cluster as builds use it: connecting, checking its workers, losing it.

The driver stays in the process where the build was started: it has the lease, submits
regions, and records their receipts (`ngff_core.build.cluster_pass`). Workers run
`ngff_core.build.worker`, and return receipts only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ngff_core.build.distributed_compat import (
    FinishedFutures,
    is_connected,
    load_distributed,
    worker_limits,
)
from ngff_core.build.worker import (
    WorkOrder,
    build_region,
    check_versions,
    check_worker,
    close_build,
    versions,
)
from ngff_core.errors import ClusterError, ClusterUnfitError, InvalidOptionError, NgffError
from ngff_core.plan.options import BuildOptions, resolve_processes, resolve_share, resolve_workers
from ngff_core.records.ledger import Receipt

RUN_AGAIN = "run the same command again: it continues where it stopped"

_CONNECT_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0
"""A cluster may be without any worker for so long: a nanny restarts one in a few seconds."""
_COUNT_SECONDS = 2.0
"""Pause between two counts of the workers' threads."""

# asyncio's error is not that of concurrent.futures, and not even an Exception.
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


class Cluster:
    """A running dask cluster, or one of processes that were started for the build.

    Made by `connect`. ``at_once`` is the number of regions that one worker process builds at
    once, ``memory_limit`` its limit in bytes.
    """

    def __init__(self, options: BuildOptions, client: Any, local: Any) -> None:
        self._options = options
        self._client = client
        self._local = local
        self._threads = 1
        self._counted_at = 0.0
        self._no_worker_since: float | None = None
        self._opened_token: str | None = None
        self.at_once, self.memory_limit = resolve_share(options)

    @classmethod
    def connect(cls, options: BuildOptions) -> Cluster:
        """Connect to the cluster, or start it.

        Raises ClusterError where it cannot be reached or has no workers, and
        ClusterUnfitError where its workers have other versions than this process.
        """
        local = _start(options)
        try:
            cluster = cls(options, _client(options, local), local)
        except BaseException:
            if local is not None:
                local.close()
            raise
        try:
            cluster._check_workers_fit()
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def threads(self) -> int:
        """Threads of all workers, when they were last counted."""
        return self._threads

    def close(self) -> None:
        """Disconnect from the cluster; one that was started here is stopped."""
        with suppress(Exception):
            self._client.close()
        if self._local is not None:
            self._local.close()

    def open_build(self, work_order: WorkOrder, *, needs_source: bool) -> None:
        """Have every worker open a build, before the first region is submitted.

        Workers that start later open it with their first region. Raises ClusterUnfitError
        where a worker cannot work on the build, and ClusterError where the cluster was lost.
        """
        with self._cluster_errors():
            if not is_connected(self._client):
                # An earlier attempt lost the cluster; it may be reachable again.
                with suppress(Exception):
                    self._client.close()
                self._client = _client(self._options, self._local)
                self._opened_token = None
            self._wait_for_workers()
            self.check_workers()
            if self._opened_token == work_order.token:
                return
            answers = self._client.run(check_worker, work_order, needs_source, on_error="return")
        for error in answers.values():
            # A worker that died just now gives an OSError; the others will do its work.
            if isinstance(error, NgffError) or not isinstance(error, OSError | None):
                raise error
        self._opened_token = work_order.token

    def close_build(self, token: str) -> None:
        """Have the workers close a build, where they can be reached."""
        if is_connected(self._client):
            with suppress(Exception):
                self._client.run(close_build, token, on_error="ignore")

    def submit(self, key: str, work_order: WorkOrder, level: int | None, region: int) -> Any:
        """Submit a region; dask shows nothing of it but the key."""
        with self._cluster_errors():
            return self._client.submit(build_region, work_order, level, region, key=key, pure=False)

    def finished_futures(self) -> FinishedFutures:
        """A collection that returns futures of this cluster as they finish."""
        with self._cluster_errors():
            return FinishedFutures(self._client)

    def gather(self, futures: list[Any]) -> list[Receipt]:
        """The receipts of finished futures, in one request; none for no futures."""
        if not futures:
            return []
        with self._cluster_errors():
            return list(self._client.gather(futures))

    def cancel(self, futures: list[Any]) -> None:
        """Cancel the futures that have not started."""
        if is_connected(self._client):
            with suppress(Exception):
                self._client.cancel(futures)

    def check_workers(self) -> None:
        """Raise ClusterError if the cluster was lost, or has had no worker for a minute.

        The workers' threads are counted once in a while.
        """
        if not is_connected(self._client):
            raise self.lost()
        now = time.monotonic()
        if now < self._counted_at + _COUNT_SECONDS:
            return
        self._counted_at = now
        with self._cluster_errors():
            threads = sum(self._client.nthreads().values())
        if threads:
            self._threads, self._no_worker_since = threads, None
            return
        self._no_worker_since = self._no_worker_since or now
        if now > self._no_worker_since + _PATIENCE_SECONDS:
            raise ClusterError(
                f"{self._name} has had no worker for {_PATIENCE_SECONDS:.0f} s; start workers and "
                f"{RUN_AGAIN}"
            )

    def lost(self) -> ClusterError:
        """The error for a cluster that does not answer any more."""
        return ClusterError(f"{self._name} was lost; see that one is running, and {RUN_AGAIN}")

    @property
    def _name(self) -> str:
        return f"the dask cluster at {self._options.dask_address or 'this machine'}"

    @contextmanager
    def _cluster_errors(self) -> Iterator[None]:
        """Raise a lost connection to the scheduler as a ClusterError."""
        try:
            yield
        except ClusterError:
            raise
        except (OSError, *_CANCELLED) as error:
            raise self.lost() from error
        except RuntimeError as error:
            # A client that was closed in the meantime raises this.
            if is_connected(self._client):
                raise
            raise self.lost() from error

    def _wait_for_workers(self) -> None:
        wanted = resolve_processes(self._options) or 1
        try:
            self._client.wait_for_workers(wanted, timeout=_PATIENCE_SECONDS)
        except TimeoutError as error:
            raise ClusterError(
                f"{self._name} has no workers; start workers and {RUN_AGAIN}"
            ) from error

    def _check_workers_fit(self) -> None:
        """Compare the workers' versions with ours, and take over their limits."""
        with self._cluster_errors():
            self._wait_for_workers()
            self.check_workers()
            try:
                found = self._client.run(versions)
            except (ImportError, AttributeError) as error:
                raise ClusterUnfitError(
                    f"the workers of {self._name} cannot import ngff_core.build.worker ({error}); "
                    "install the same ngff-flows there"
                ) from error
            limits = worker_limits(self._client)
        ours = versions()
        for address, theirs in found.items():
            check_versions(ours, theirs, f"the dask worker {address}")
        if self._local is None:
            self._take_limits(limits)

    def _take_limits(self, workers: list[tuple[int, int]]) -> None:
        """Take threads and memory from the workers of a running cluster, unless chosen."""
        self.at_once = max(threads for threads, _ in workers)
        if self._options.workers is not None:
            self.at_once = min(self.at_once, resolve_workers(self._options.workers))
        limits = [limit for _, limit in workers if limit]
        if self._options.memory_limit is None and limits:
            self.memory_limit = min(limits) // 2


def _start(options: BuildOptions) -> Any:
    """A cluster of processes on this machine; None if the options ask for none."""
    processes = resolve_processes(options)
    if processes is None:
        return None
    threads, _ = resolve_share(options)
    try:
        return load_distributed().LocalCluster(
            n_workers=processes,
            threads_per_worker=threads,
            # No dashboard, which was not asked for. Its server is started all the same, and
            # warns if another cluster has the usual port, so it gets a free one.
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            # Who can reach the scheduler can run code in the workers, and any user of this machine
            # can reach a port of it: keys made for this cluster, and never stored, keep them out.
            security=True,
            # A worker at dask's limit stops taking regions; our own limit is kept by planning.
            memory_limit=0,
        )
    except (OSError, RuntimeError) as error:
        raise ClusterError(
            f"{processes} worker processes cannot be started here ({error}); a script that "
            'starts them needs its work under `if __name__ == "__main__":`'
        ) from error


def _client(options: BuildOptions, local: Any) -> Any:
    where = local if local is not None else options.dask_address
    try:
        return load_distributed().Client(where, set_as_default=False, timeout=_CONNECT_SECONDS)
    except OSError as error:
        raise ClusterError(
            f"no dask scheduler answers at {options.dask_address}; see that it runs, and "
            f"{RUN_AGAIN}"
        ) from error
    except ValueError as error:
        raise InvalidOptionError(f"dask_address: {options.dask_address}: {error}") from error
