"""A pass whose regions are built by the workers of a dask cluster.

Twice as many regions as the cluster has threads are submitted at any time, so what the
scheduler keeps does not grow with the image.

The driver checks the lease before it submits a region, and when it records a receipt.
Workers cannot check it. If the driver dies, they finish the regions that they are at. A
later build of the same plan writes the same bytes there; before another plan is built at
the same target with overwrite, wait for these few seconds to pass.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from ngff_core.build.cluster import RUN_AGAIN, Cluster
from ngff_core.build.distributed_compat import state_of, workers_killed
from ngff_core.build.level_writer import LevelWriter
from ngff_core.build.planning import PlannedBuild
from ngff_core.build.streaming import LevelFailedError
from ngff_core.build.worker import WorkOrder, WorkSource
from ngff_core.errors import ClusterError, LeaseLostError
from ngff_core.plan.schedule import PassPlan, PassRequirements
from ngff_core.sources import Source
from ngff_core.storage import StorageOptions, absolute_uri

_WAIT_SECONDS = 0.5
"""At most so long passes without a look at the lease, the cluster, and a wish to stop."""
_DRAIN_SECONDS = 60.0


class ClusterPass:
    """What remains of one level, or of the cache pass (``level`` None), built by a cluster.

    ``regions`` are the regions to build, in order. ``check`` is called before regions are
    submitted, and raises where the work must stop.
    """

    def __init__(
        self,
        cluster: Cluster,
        work_order: WorkOrder,
        writer: LevelWriter,
        level: int | None,
        regions: Iterator[int],
        *,
        check: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._work_order = work_order
        self._writer = writer
        self._level = level
        self._regions = regions
        self._check = check
        # Unique to this attempt: dask must not answer with the result of an earlier one.
        phase = "cache" if level is None else f"level-{level}"
        self._key = f"ngff-{phase}-{uuid.uuid4().hex}"
        self._running: dict[Any, int] = {}
        self._finished = cluster.finished_futures()
        self._done: list[Any] = []

    def run(self) -> None:
        """Submit regions and record their receipts, until none remains.

        If a region fails, no other is submitted; those under way are waited for and
        recorded, and LevelFailedError is raised. Raises ClusterError if the cluster is lost.
        """
        try:
            while self._submit():
                if not self._collect():
                    self._cluster.check_workers()
        except (ClusterError, LeaseLostError):
            self._cluster.cancel(list(self._running))
            raise
        except BaseException:
            self._drain()
            raise
        finally:
            self._finished.clear()
            self._running = {}

    def _submit(self) -> bool:
        """Submit as many regions as the window has space for; whether any is under way."""
        self._check()
        window = 2 * self._cluster.threads
        for region in islice(self._regions, max(0, window - len(self._running))):
            key = f"{self._key}-{region}"
            future = self._cluster.submit(key, self._work_order, self._level, region)
            self._running[future] = region
            self._finished.add(future)
        return bool(self._running)

    def _collect(self) -> bool:
        """Wait for regions that are done and record them; whether there was any.

        Receipts come first, then the first region that failed is raised. Regions that an
        error keeps from being recorded here are left for the next call.
        """
        self._done += self._finished.wait(0.0 if self._done else _WAIT_SECONDS)
        if not self._done:
            return False
        built = [future for future in self._done if state_of(future) == "finished"]
        for future, receipt in zip(built, self._cluster.gather(built), strict=True):
            self._done.remove(future)
            del self._running[future]
            future.release()
            self._writer.record(receipt)
        while self._done:
            future = self._done.pop(0)
            if state_of(future) in ("pending", "finished"):
                # The worker with its receipt died, and dask builds the region again elsewhere.
                self._finished.add(future)
            else:
                raise self._failure(self._running.pop(future), future)
        return True

    def _failure(self, region: int, future: Any) -> Exception:
        """The error for a region that failed, or was cancelled."""
        if state_of(future) != "error":
            return self._cluster.lost()
        error = future.exception()
        killed = workers_killed(error)
        if killed is not None:
            return ClusterError(
                f"region {region} was started on {killed} workers, and each of them died; try a "
                f"smaller memory_limit, and {RUN_AGAIN}"
            )
        failure = LevelFailedError(self._level or 0)
        failure.__cause__ = error
        return failure

    def _drain(self) -> None:
        """Wait for the regions under way and record them; cancel what takes too long."""
        until = time.monotonic() + _DRAIN_SECONDS
        with suppress(ClusterError):
            while self._running and time.monotonic() < until:
                with suppress(LevelFailedError):
                    if not self._collect():
                        self._cluster.check_workers()
        self._cluster.cancel(list(self._running))


class ClusterRunner:
    """A cluster that builds the regions, and the work order that its workers get."""

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
        """A runner for a build of the source at ``uri``."""
        work_order = WorkOrder(
            token=uuid.uuid4().hex,
            source=WorkSource(absolute_uri(uri), source.read_unit, planned.cached),
            target=planned.target,
            digest=planned.plan.digest,
            at_once=planned.projection.in_flight,
            storage_options=storage_options,
        )
        return cls(cluster, work_order)

    def close(self) -> None:
        """Have the workers close the build."""
        self._cluster.close_build(self._work_order.token)

    def work(
        self,
        pass_plan: PassPlan,
        writers: Mapping[int, LevelWriter],
        *,
        reads_source: bool,
        is_cache: bool,
        check: Callable[[], None],
    ) -> ClusterPass:
        """A pass over the root of ``pass_plan``; no level is streamed on a cluster."""
        self._cluster.open_build(self._work_order, needs_source=reads_source)
        root = pass_plan.root
        loads = PassRequirements(pass_plan, {root: writers[root].done}).loads()
        return ClusterPass(
            self._cluster,
            self._work_order,
            writers[root],
            None if is_cache else root,
            (region for _, region in loads),
            check=check,
        )
