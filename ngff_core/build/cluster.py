"""The regions of a build on the processes of a dask cluster.

The driver stays where the build was started: it holds the lease, hands out regions, and
takes down their receipts. It has twice as many futures under way as the cluster has
threads, so what the scheduler knows of does not grow with the image. What workers do is
in `ngff_core.build.worker`; only receipts come back from them.

The lease is the driver's to check: before it hands out a region, and when it takes down a
receipt. Workers cannot. A driver that dies leaves them with the regions they are at; a
later build of the same plan writes the same bytes there. Before another plan is built
over it with overwrite, those few seconds should be over.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from ngff_core.build.level_writer import LevelWriter
from ngff_core.build.planning import PlannedBuild
from ngff_core.build.streaming import LevelFailedError
from ngff_core.build.worker import (
    WorkOrder,
    build_region,
    check_versions,
    check_worker,
    close_build,
    versions,
)
from ngff_core.errors import (
    ClusterError,
    ClusterUnfitError,
    InvalidOptionError,
    LeaseLostError,
    NgffError,
)
from ngff_core.plan.options import BuildOptions, resolve_processes, resolve_share, resolve_workers
from ngff_core.plan.schedule import PassPlan, PassRequirements
from ngff_core.records.ledger import Receipt
from ngff_core.sources import Source
from ngff_core.storage import StorageOptions, absolute_uri

_CONNECT_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0
"""So long a cluster may be without any worker: a nanny starts one anew in a few seconds."""
_LOOK_SECONDS = 2.0
_POLL_SECONDS = 0.02
_DRAIN_SECONDS = 60.0
_GO_ON = "the same command goes on with what was done"

# asyncio's is not concurrent.futures', and not even an Exception.
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)


class Cluster:
    """A running dask cluster as builds use it, or one of processes started for them.

    Made by `connect`. ``at_once`` and ``memory_limit`` are those of one worker process.
    """

    def __init__(self, options: BuildOptions, client: Any, local: Any) -> None:
        self._options = options
        self._client = client
        self._local = local
        self._threads = 1
        self._looked_at = 0.0
        self._alone_since: float | None = None
        self._shown: str | None = None
        self.at_once, self.memory_limit = resolve_share(options)

    @classmethod
    def connect(cls, options: BuildOptions) -> Cluster:
        """Find the cluster, or start it; refuse one whose workers differ from this process."""
        local = _start(options)
        try:
            cluster = cls(options, _client(options, local), local)
        except BaseException:
            if local is not None:
                local.close()
            raise
        try:
            cluster._get_to_know()
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def threads(self) -> int:
        """Threads of all workers, when they were last counted."""
        return self._threads

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        with suppress(Exception):
            self._client.close()
        if self._local is not None:
            self._local.close()

    def begin(self, work_order: WorkOrder, *, needs_source: bool) -> None:
        """Have every worker look at a build, before the first region is handed out.

        Those that come later look when they get their first region.
        """
        with self._talking():
            if self._client.status != "running":
                # Lost by an earlier attempt: it may be there again.
                with suppress(Exception):
                    self._client.close()
                self._client = _client(self._options, self._local)
                self._shown = None
            self._wait_for_workers()
            self.look_after()
            if self._shown == work_order.token:
                return
            found = self._client.run(check_worker, work_order, needs_source, on_error="return")
        for error in found.values():
            # Of a worker that died just now the others will do the work.
            if isinstance(error, NgffError) or not isinstance(error, OSError | None):
                raise error
        self._shown = work_order.token

    def end(self, token: str) -> None:
        """Have the workers let go of a build, where they can be reached."""
        if self._client.status == "running":
            with suppress(Exception):
                self._client.run(close_build, token, on_error="ignore")

    def submit(self, key: str, work_order: WorkOrder, level: int | None, region: int) -> Any:
        """Hand out a region; the key is all that dask shows of it."""
        with self._talking():
            return self._client.submit(build_region, work_order, level, region, key=key, pure=False)

    def gather(self, futures: list[Any]) -> list[Receipt]:
        """The receipts of finished futures, in one request."""
        with self._talking():
            return list(self._client.gather(futures))

    def cancel(self, futures: list[Any]) -> None:
        """Let none of the futures begin that has not yet."""
        if self._client.status == "running":
            with suppress(Exception):
                self._client.cancel(futures)

    def look_after(self) -> None:
        """Count the threads now and then; raise where cluster or workers are gone for good."""
        if self._client.status != "running":
            raise self._lost()
        now = time.monotonic()
        if now < self._looked_at + _LOOK_SECONDS:
            return
        self._looked_at = now
        with self._talking():
            threads = sum(self._client.nthreads().values())
        if threads:
            self._threads, self._alone_since = threads, None
            return
        self._alone_since = self._alone_since or now
        if now > self._alone_since + _PATIENCE_SECONDS:
            raise ClusterError(
                f"{self._name} has had no worker for {_PATIENCE_SECONDS:.0f} s; start some, and "
                f"{_GO_ON}"
            )

    @property
    def _name(self) -> str:
        return f"the dask cluster at {self._options.dask_address or 'this machine'}"

    def _lost(self) -> ClusterError:
        return ClusterError(f"{self._name} was lost; once there is one, {_GO_ON}")

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Tell trouble with the scheduler as our own."""
        try:
            yield
        except ClusterError:
            raise
        except (OSError, *_CANCELLED) as error:
            raise self._lost() from error
        except RuntimeError as error:
            # What a client says that was closed since.
            if self._client.status == "running":
                raise
            raise self._lost() from error

    def _wait_for_workers(self) -> None:
        wanted = resolve_processes(self._options) or 1
        try:
            self._client.wait_for_workers(wanted, timeout=_PATIENCE_SECONDS)
        except TimeoutError as error:
            raise ClusterError(f"{self._name} has no workers; start some, and {_GO_ON}") from error

    def _get_to_know(self) -> None:
        with self._talking():
            self._wait_for_workers()
            self.look_after()
            try:
                found = self._client.run(versions)
            except (ImportError, AttributeError) as error:
                raise ClusterUnfitError(
                    f"the workers of {self._name} cannot import ngff_core.build.cluster ({error}); "
                    "install the same ngff-flows there"
                ) from error
            workers = self._client.scheduler_info()["workers"].values()
        mine = versions()
        for address, theirs in found.items():
            check_versions(mine, theirs, f"the dask worker {address}")
        if self._local is None:
            self.at_once = max(worker["nthreads"] for worker in workers)
            if self._options.workers is not None:
                self.at_once = min(self.at_once, resolve_workers(self._options.workers))
            limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
            if self._options.memory_limit is None and limits:
                self.memory_limit = min(limits) // 2


class ClusterPass:
    """What remains of one level, or of the cache pass, done by a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        work_order: WorkOrder,
        level_io: LevelWriter,
        level: int | None,
        regions: Iterator[int],
        *,
        check: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._work_order = work_order
        self._track = level_io
        self._level = level
        self._regions = regions
        self._check = check
        # A run of its own: what an earlier one left of a region must not answer for it.
        phase = "cache" if level is None else f"level-{level}"
        self._key = f"ngff-{phase}-{uuid.uuid4().hex}"
        self._running: dict[int, Any] = {}

    def run(self) -> None:
        """Hand out regions and take down their receipts, until none remains.

        Where a region fails nothing more is handed out; what is under way is waited for
        and counted, and LevelFailedError raised then. A ClusterError tells of a cluster
        that is lost.
        """
        try:
            while self._hand_out():
                if not self._collect():
                    self._cluster.look_after()
                    time.sleep(_POLL_SECONDS)
        except (ClusterError, LeaseLostError):
            self._cluster.cancel(list(self._running.values()))
            raise
        except BaseException:
            self._drain()
            raise
        finally:
            self._running = {}

    def _hand_out(self) -> bool:
        """Submit what the window has room for; whether anything is under way."""
        self._check()
        window = 2 * self._cluster.threads
        for region in islice(self._regions, max(0, window - len(self._running))):
            self._running[region] = self._cluster.submit(
                f"{self._key}-{region}", self._work_order, self._level, region
            )
        return bool(self._running)

    def _collect(self) -> bool:
        """Take down what is done, and let go of it; whether there was anything.

        Receipts first, then the first region that failed.
        """
        done = {region: future for region, future in self._running.items() if future.done()}
        good = {region: future for region, future in done.items() if future.status == "finished"}
        for receipt in self._cluster.gather(list(good.values())) if good else ():
            self._running.pop(receipt.region).release()
            self._track.record(receipt)
        for region, future in done.items():
            if region not in good:
                del self._running[region]
                raise self._failed(region, future)
        return bool(done)

    def _failed(self, region: int, future: Any) -> Exception:
        if future.status != "error":
            return self._cluster._lost()
        error = future.exception()
        if isinstance(error, _distributed().KilledWorker):
            return ClusterError(
                f"region {region} was begun on {error.allowed_failures + 1} workers, and each "
                f"of them died; a smaller memory_limit may help, and {_GO_ON}"
            )
        failure = LevelFailedError(self._level or 0)
        failure.__cause__ = error
        return failure

    def _drain(self) -> None:
        """Let what is under way end, and count it; what takes too long is let go."""
        until = time.monotonic() + _DRAIN_SECONDS
        with suppress(ClusterError, LevelFailedError):
            while self._running and time.monotonic() < until:
                with suppress(LevelFailedError):
                    if not self._collect():
                        self._cluster.look_after()
                        time.sleep(_POLL_SECONDS)
        self._cluster.cancel(list(self._running.values()))


def _start(options: BuildOptions) -> Any:
    """Processes on this machine, where they are asked for."""
    processes = resolve_processes(options)
    if processes is None:
        return None
    threads, _ = resolve_share(options)
    try:
        return _distributed().LocalCluster(
            n_workers=processes,
            threads_per_worker=threads,
            # No web page that nobody asked for. Its server is started all the same, and
            # warns where another cluster has the usual port.
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            # A worker that meets dask's limit stops taking regions; ours is kept by counting.
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
        return _distributed().Client(where, set_as_default=False, timeout=_CONNECT_SECONDS)
    except OSError as error:
        raise ClusterError(
            f"no dask scheduler answers at {options.dask_address}; see that it runs, and {_GO_ON}"
        ) from error
    except ValueError as error:
        raise InvalidOptionError(f"dask_address: {options.dask_address}: {error}") from error


def _distributed() -> Any:
    if "distributed" not in sys.modules:
        import dask

        # Before it is imported, or it floods the console.
        if dask.config.get("logging.distributed", None) is None:
            dask.config.set({"logging.distributed": "error"})
    import distributed

    return distributed


class ClusterRunner:
    """A cluster that does the work, and what its workers are told of a build."""

    def __init__(self, cluster: Cluster, work_order: WorkOrder) -> None:
        self._cluster = cluster
        self._work_order = work_order

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        planned: PlannedBuild,
        source: Source,
        uri: str,
        storage_options: StorageOptions | None,
    ) -> ClusterRunner:
        """A crew for a build of the source at ``uri``."""
        work_order = WorkOrder(
            token=uuid.uuid4().hex,
            source=absolute_uri(uri),
            target=planned.target,
            digest=planned.plan.digest,
            read_unit=source.read_unit,
            cached=planned.cached,
            at_once=planned.projection.in_flight,
            storage_options=storage_options,
        )
        return cls(cluster, work_order)

    def close(self) -> None:
        """Have the workers let go of the build; a cluster that was started for it ends."""
        self._cluster.end(self._work_order.token)
        self._cluster.close()

    def work(
        self,
        pass_plan: PassPlan,
        level_ios: Mapping[int, LevelWriter],
        *,
        from_source: bool,
        cache: bool,
        check: Callable[[], None],
    ) -> ClusterPass:
        """A pass, to be run."""
        self._cluster.begin(self._work_order, needs_source=from_source)
        level_io = level_ios[pass_plan.root]
        needed = PassRequirements(pass_plan, {pass_plan.root: level_io.done}).loads()
        return ClusterPass(
            self._cluster,
            self._work_order,
            level_io,
            None if cache else pass_plan.root,
            (region for _, region in needed),
            check=check,
        )
