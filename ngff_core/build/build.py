"""A build as an object: opened, taken through its phases one by one, and closed.

`ngff_core.build.api.run_build` does all phases in one call.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate

from ngff_core.build.cache_phase import CachePhase
from ngff_core.build.cluster import Cluster
from ngff_core.build.cluster_pass import ClusterRunner
from ngff_core.build.driver import Driver
from ngff_core.build.pass_runner import PassRunner
from ngff_core.build.planning import PlannedBuild, continued, plan_opened, planned_for_cluster
from ngff_core.build.report import BuildReport, LevelReport, LevelResult, RunStatistics
from ngff_core.build.session import Session
from ngff_core.build.source_check import CheckedSource
from ngff_core.build.takeover import inspect_target
from ngff_core.errors import StoredDataError, UnlistableError
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.options import BuildOptions
from ngff_core.progress import Listener, Message, silent
from ngff_core.pyramid.display import publishing_windows
from ngff_core.pyramid.inventory import find_lost
from ngff_core.pyramid.publish import group_documents, publish
from ngff_core.pyramid.thumbnail import thumbnail
from ngff_core.pyramid.verify import Verification, stored_bytes, verify_build
from ngff_core.records.build_folder import target_stores
from ngff_core.records.halo_files import remove_halos
from ngff_core.records.stored_build import StoredBuild
from ngff_core.records.summary_files import remove_summaries
from ngff_core.sources import Source, open_source
from ngff_core.storage import ObjectStore, StorageOptions, retrying
from ngff_core.storage.retry import counting_retries


def _counting_own_retries[**P, T](
    phase: Callable[Concatenate[Build, P], T],
) -> Callable[Concatenate[Build, P], T]:
    """Count what a phase tries again among the retries that belong to no level."""

    @wraps(phase)
    def counted(build: Build, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with counting_retries(build._retries):
            return phase(build, *args, **kwargs)

    return counted


class Build:
    """A build of one pyramid: its plan, its source, and exclusive use of its target.

    Made by `open`. Its phases are called in order: `write_cache` if `cache_needed`,
    `write_level` for each level, `publish`, `verify`, `clean`. Each phase does what remains.
    `build_pyramid` calls them all; a caller that runs each phase as a task of its own uses this.

    Attributes
    ----------
    plan
        The plan as it is stored beside the target.
    planned
        The plan and projection that this run was opened with.

    Examples
    --------
    >>> import numpy as np
    >>> with Build.open(np.zeros((512, 512), "uint8"), "memory://phases/a.ome.zarr") as build:
    ...     reports = [build.write_level(level.index) for level in build.plan.levels]
    ...     build.publish()
    ...     verified = build.verify().ok
    >>> [report.path for report in reports], verified
    (['0', '1'], True)
    """

    def __init__(
        self,
        session: Session,
        planned: PlannedBuild,
        source: CheckedSource,
        runner: PassRunner,
        listener: Listener,
        retries: Counter[str],
        resources: ExitStack,
    ) -> None:
        self.plan = session.stored.plan
        self.planned = planned
        self._session = session
        self._stored = session.stored
        self._source = source.source
        self._runner = runner
        self._listener = listener
        self._retries = retries
        self._began = time.monotonic()
        self._verification: Verification | None = None
        self._published = session.published
        self._cache = CachePhase(session, source, runner, retries)
        self._driver = Driver(session, planned, source, runner, listener, retries)
        resources.callback(self._driver.stop)
        self._resources = resources.pop_all()

    @classmethod
    def open(
        cls,
        source: Any,
        target: str | os.PathLike[str],
        options: BuildOptions | None = None,
        *,
        storage_options: StorageOptions | None = None,
        listener: Listener = silent,
    ) -> Build:
        """Plan the build and take the target.

        Nothing is written if planning fails, the target holds something else, or the cluster
        cannot be used; and nothing stays open then.
        """
        options, retries = options or BuildOptions(), Counter[str]()
        with counting_retries(retries), ExitStack() as resources:
            # Closed in reverse: the cluster before the lease goes, so that no worker writes
            # beside another builder, and the source last.
            selection = options.selection
            opened = resources.enter_context(open_source(source, storage_options, selection))
            planned = plan_opened(opened, source, target, options)
            stores = target_stores(planned.target, storage_options)
            wanted = StoredBuild.begin(*stores, planned.plan, planned.earlier)
            session = Session(wanted, listener)
            resources.callback(session.release)
            cluster = _connect(options, session.stored, resources)
            planned = _for_cluster(planned, opened, cluster)
            session.take(overwrite=options.overwrite)
            if session.stored.plan.digest != planned.plan.digest:
                listener(Message(f"continuing {planned.target} as an earlier version planned it"))
                planned = continued(planned, session.stored.plan, opened, options)
                planned = _for_cluster(planned, opened, cluster)
            on_cluster = None
            if cluster is not None:
                uri = os.fspath(source)
                on_cluster = ClusterRunner.of(cluster, planned, opened, uri, storage_options)
                resources.callback(on_cluster.close)
            runner = _pass_runner(planned, on_cluster, resources)
            checked = CheckedSource(
                opened, partial(open_source, source, storage_options, selection)
            )
            return cls(session, planned, checked, runner, listener, retries, resources)

    def __enter__(self) -> Build:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release threads, cluster, target and source; finished regions are kept.

        All of them are released even if closing one of them raises. Its error is raised
        afterwards. The second call does nothing.
        """
        self._resources.close()

    @property
    def finished(self) -> bool:
        """Whether an earlier run finished this build."""
        return self._session.finished

    @property
    def cache_needed(self) -> bool:
        """Whether the cache pass comes next."""
        return self.planned.cached and not self.level_done(0)

    def level_done(self, index: int) -> bool:
        """Whether nothing remains to be done of a level."""
        return self._driver.is_complete(index)

    @_counting_own_retries
    def write_cache(self, listener: Listener | None = None) -> float:
        """Rewrite the source so that it can be read by region; the seconds it took."""
        return self._cache.write(listener or self._listener)

    def write_level(self, index: int, listener: Listener | None = None) -> LevelReport:
        """Wait until a level is written; the first call starts writing all levels.

        Levels are written side by side, each region as soon as what it is computed from is
        there. Progress of this level is reported to ``listener`` from now on. Threads may
        wait for several levels at once.
        """
        if listener is not None:
            self.listen(index, listener)
        self._driver.wait_for(index)
        return self._level_report(index)

    def listen(self, index: int, listener: Listener) -> None:
        """Report a level to ``listener`` from now on, in place of its listener so far."""
        self._driver.progress.listen(index, listener)

    @_counting_own_retries
    def publish(self) -> None:
        """Make the store an image: write its group document, complete and as the last object.

        Raises StoredDataError, and publishes nothing, where a level is not finished or an
        object that the ledger records is not in the store.
        """
        unfinished = [level.index for level in self.plan.levels if not self.level_done(level.index)]
        if unfinished:
            raise StoredDataError(f"level {unfinished[0]} is not finished, so nothing is published")
        if self._session.finished:
            return
        self._session.check()
        # Remove leftovers of killed processes before the target becomes a readable image.
        self._stored.target.sweep()
        self._stored.beside.sweep()
        self._session.tidy()
        # Objects of an earlier run were compared with the ledger when the target was taken.
        if self.report().fresh:
            self._check_objects()
        windows = publishing_windows(
            self._stored, self._driver.summaries, begun_here=self._session.begun_here
        )
        publish(self._stored.target, self.plan, windows)
        self._published = group_documents(self.plan, windows)

    def _check_objects(self) -> None:
        """Raise StoredDataError where an object that the ledger records is not in the store."""
        lost = next(find_lost(self._stored), None)
        if lost is not None:
            raise StoredDataError(
                f"{self._stored.target.uri}/{lost.key}: {lost.what}, so nothing is published; "
                "run the same command again to build it again"
            )

    @_counting_own_retries
    def verify(self, *, deep: bool = False, listener: Listener | None = None) -> Verification:
        """Check what was published against plan and ledger; see `verify_pyramid`."""
        self._verification = verify_build(
            self._stored,
            deep=deep,
            executor=self._runner.executor,
            workers=self.planned.projection.in_flight,
            memory_limit=self.planned.projection.memory_limit,
            listener=listener or self._listener,
            seen=self._published,
        )
        return self._verification

    @_counting_own_retries
    def clean(self) -> None:
        """Remove the cache, summaries of samples, and halo files that an earlier run left.

        The plan, the ledger, and the windows in which channels are shown stay.
        """
        if self._session.begun_here and not self.planned.cached and not self._driver.wrote_halos:
            if self._driver.summaries is not None:
                self._driver.summaries.remove()
            return
        # An earlier run may have begun this build with a cache, or with halo files, that this
        # run did not need.
        listed = _listed(self._stored.beside)
        self._cache.remove(listed)
        if not self._session.finished:
            # Without a lease, the halo files could be another builder's.
            remove_halos(self._stored.beside, self.plan, listed)
        if listed is not None or not self._session.finished:
            remove_summaries(self._stored.beside, self.plan, listed)

    def thumbnail(self) -> str:
        """A picture of the coarsest level, as a ``data:`` URI."""
        return thumbnail(self._stored)

    def report(self) -> BuildReport:
        """What this run has done so far."""
        return BuildReport(
            source=self.planned.source,
            target=self.planned.target,
            plan=self.plan,
            cached=self.planned.cached,
            levels=tuple(self._level_report(level.index) for level in self.plan.levels),
            verification=self._verification,
            run=RunStatistics(
                seconds=time.monotonic() - self._began,
                chunks=self._source.chunks,
                retries_beside=dict(sorted(self._retries.items())),
                about=self.planned.about,
            ),
        )

    def _level_report(self, index: int) -> LevelReport:
        level, ledger = self._stored.levels[index]
        progress = self._driver.progress
        result = LevelResult(
            fresh=len(ledger.receipts) - self._session.recorded[index],
            raw_bytes=math.prod(level.shape) * self.plan.dtype.itemsize,
            stored_bytes=stored_bytes(ledger),
            seconds=progress.seconds.get(index, 0.0),
            retries=dict(sorted(progress.retries[index].items())),
        )
        return LevelReport(level, self.plan.scale_of(level), result)


def _listed(store: ObjectStore) -> Collection[str] | None:
    """The store's keys, or None where it cannot be listed."""
    try:
        return retrying(store.objects)
    except UnlistableError:
        return None


def _connect(options: BuildOptions, wanted: StoredBuild, resources: ExitStack) -> Cluster | None:
    """The cluster that the options ask for; None if they ask for none, or nothing remains.

    A target that cannot be used is refused before a cluster is started for it.
    """
    if not options.on_cluster:
        return None
    if not options.overwrite and inspect_target(wanted, overwrite=False).kind == "finished":
        return None
    cluster = Cluster.connect(options)
    resources.callback(cluster.close)
    return cluster


def _for_cluster(planned: PlannedBuild, opened: Source, cluster: Cluster | None) -> PlannedBuild:
    """The build as the cluster's workers do it; as it is without one."""
    if cluster is None:
        return planned
    return planned_for_cluster(planned, opened, cluster.at_once, cluster.memory_limit)


def _pass_runner(
    planned: PlannedBuild, on_cluster: ClusterRunner | None, resources: ExitStack
) -> PassRunner:
    """The kernel and threads of a build, or its cluster."""
    in_flight = planned.projection.in_flight
    executor = ThreadPoolExecutor(in_flight, thread_name_prefix="ngff-region")
    resources.callback(executor.shutdown, cancel_futures=True)
    return PassRunner(kernel_for(planned.plan.method), executor, in_flight, on_cluster)
