"""Building a pyramid: the job as one function, and as the phases that a flow calls.

::

    report = build_pyramid("upload.ome.tif", "brain.ome.zarr")

The same call again, after whatever happened to the first, does what remains.
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

from ngff_core.build.cluster import Cluster, ClusterRunner
from ngff_core.build.driver import Driver
from ngff_core.build.planning import PlannedBuild, plan_opened, planned_for_cluster
from ngff_core.build.report import BuildReport, LevelReport
from ngff_core.build.session import Session
from ngff_core.build.takeover import remove_cache, target_kind
from ngff_core.errors import StoredDataError, UnlistableError
from ngff_core.plan.options import BuildOptions
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.progress import Listener, silent
from ngff_core.pyramid.inventory import find_lost
from ngff_core.pyramid.publish import publish
from ngff_core.pyramid.thumbnail import thumbnail
from ngff_core.pyramid.verify import Verification, stored_bytes, verify_build
from ngff_core.records.build_folder import CACHE, CACHE_DOCUMENT, complete_key, target_stores
from ngff_core.records.halo_files import remove_halos
from ngff_core.sources import Source, open_source
from ngff_core.storage import ObjectStore, StorageOptions, for_each, retrying
from ngff_core.storage.retry import counting_retries


def _beside_the_levels[**P, T](
    phase: Callable[Concatenate[Build, P], T],
) -> Callable[Concatenate[Build, P], T]:
    """A phase of a build whose own retries are no level's."""

    @wraps(phase)
    def counted(build: Build, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with counting_retries(build._met):
            return phase(build, *args, **kwargs)

    return counted


class Build:
    """A build under way: its plan, its source, its target, and the lease on it.

    Made by `open`; its phases are called in order: `write_cache` if `cache_needed`,
    `write_level` for each level, `publish`, `verify`, `clean`. Each does what remains.
    """

    def __init__(
        self,
        source: Source,
        planned: PlannedBuild,
        session: Session,
        reopen: Callable[[], Source],
        met: Counter[str],
        *,
        listener: Listener,
        runner: ClusterRunner | None = None,
    ) -> None:
        self.plan = session.plan
        self.planned = planned
        self._source = source
        self._session = session
        self._listener = listener
        self._runner = runner
        self._began = time.monotonic()
        self._verification: Verification | None = None
        self._executor = ThreadPoolExecutor(
            planned.projection.in_flight, thread_name_prefix="ngff-region"
        )
        self._met = met
        self._driver = Driver(
            session, planned, source, reopen, self._executor, met, listener=listener, runner=runner
        )

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
        """Plan the build and claim the target; nothing is written where that fails."""
        options, met = options or BuildOptions(), Counter[str]()
        with counting_retries(met), ExitStack() as undone:
            opened = undone.enter_context(open_source(source, storage_options))
            planned = plan_opened(opened, source, target, options)
            stores = target_stores(planned.target, storage_options)
            runner = None
            if options.on_cluster and _unfinished(stores, planned.plan, options.overwrite):
                cluster = Cluster.connect(options)
                undone.callback(cluster.close)
                planned = planned_for_cluster(
                    planned, opened, workers=cluster.at_once, memory_limit=cluster.memory_limit
                )
                runner = ClusterRunner.of(
                    cluster, planned, opened, os.fspath(source), storage_options
                )
            session = Session.take(
                stores, planned.plan, overwrite=options.overwrite, listener=listener
            )
            undone.callback(session.release)
            reopen = partial(open_source, source, storage_options)
            build = cls(opened, planned, session, reopen, met, listener=listener, runner=runner)
            undone.pop_all()
        return build

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
        """Let go of target, source and threads; what is done stays done."""
        self._driver.stop()
        self._executor.shutdown(cancel_futures=True)
        if self._runner is not None:
            # Before the lease goes, so that no worker writes beside another builder's.
            self._runner.close()
            self._runner = None
        self._session.release()
        self._source.close()

    @property
    def finished(self) -> bool:
        """Whether an earlier run finished this build."""
        return self._session.finished

    @property
    def cache_needed(self) -> bool:
        """Whether the cache pass comes next."""
        return self.planned.cached and not self._session.ledgers[0].complete

    def level_done(self, index: int) -> bool:
        """Whether nothing remains to be done of a level."""
        return self._driver.is_done(index)

    @_beside_the_levels
    def write_cache(self, listener: Listener | None = None) -> float:
        """The cache pass: rewrite the source so that it can be read by region."""
        return self._driver.write_cache(listener or self._listener)

    def write_level(self, index: int, listener: Listener | None = None) -> LevelReport:
        """Wait until a level is written; the first to wait sets all levels going.

        Levels are written side by side, each region as soon as what it is computed from
        is there. ``listener`` hears of this level from now on. Threads may wait for
        several levels at once.
        """
        if listener is not None:
            self.listen(index, listener)
        self._driver.wait_for(index)
        return self._level_report(index)

    def listen(self, index: int, listener: Listener) -> None:
        """Have ``listener`` hear of a level from now on, in place of who did before."""
        self._driver.listen(index, listener)

    @_beside_the_levels
    def publish(self) -> None:
        """Make the store an image: its group document appears, whole and last.

        Raises StoredDataError, and publishes nothing, where an object that the ledger
        records is not in the store.
        """
        unfinished = [level.index for level in self.plan.levels if not self.level_done(level.index)]
        if unfinished:
            raise StoredDataError(f"level {unfinished[0]} is not finished, so nothing is published")
        if not self._session.finished:
            self._session.check()
            # What killed processes left goes first: once there is an image, all is tidy.
            self._session.target.sweep()
            self._session.beside.sweep()
            self._session.tidy()
            lost = None
            # Of what an earlier run wrote this was seen when the target was claimed.
            if self.report().fresh:
                lost = next(find_lost(self._session.stored), None)
            if lost is not None:
                raise StoredDataError(
                    f"{self._session.target.uri}/{lost.key}: {lost.what}, so nothing is published; "
                    "run the same command again to build it anew"
                )
            publish(self._session.target, self.plan)

    @_beside_the_levels
    def verify(self, *, deep: bool = False, listener: Listener | None = None) -> Verification:
        """Hold what was published against plan and ledger."""
        self._verification = verify_build(
            self._session.stored,
            deep=deep,
            executor=self._executor,
            workers=self.planned.projection.in_flight,
            memory_limit=self.planned.projection.memory_limit,
            listener=listener or self._listener,
        )
        return self._verification

    @_beside_the_levels
    def clean(self) -> None:
        """Remove the cache, and strips that an earlier run left; plan and ledger stay."""
        if self._session.begun_here and not self.planned.cached and not self._driver.kept_halos:
            return
        # A build that was begun with a cache, or with strips, may have gone on without.
        beside, listed = self._session.beside, _listed(self._session.beside)
        if _has_any(beside, (CACHE_DOCUMENT, complete_key(CACHE)), listed):
            # The receipts go last: they are what tells a later run of leftovers.
            remove_cache(beside)
            self._driver.cache_ledger.forget()
        if not self._session.finished:
            # Without a lease another builder's strips could be meant.
            remove_halos(beside, self.plan, listed)

    def thumbnail(self) -> str:
        """A picture of the coarsest level, as a ``data:`` URI."""
        return thumbnail(self._session.stored)

    def report(self) -> BuildReport:
        """What this run did so far."""
        image, chunks = self.plan.image, self._source.chunks
        return BuildReport(
            source=self.planned.source,
            target=self.planned.target,
            method=self.plan.method,
            ome_zarr_version=self.plan.ome_zarr_version,
            dims=image.dims,
            units=image.units,
            dtype=str(self.plan.dtype),
            compressor=self.plan.compressor,
            plan_digest=self.plan.digest,
            cached=self.planned.cached,
            levels=tuple(self._level_report(level.index) for level in self.plan.levels),
            verification=self._verification,
            seconds=time.monotonic() - self._began,
            source_chunks=chunks.total if chunks else None,
            absent_chunks=chunks.absent if chunks else None,
            retries_beside=dict(sorted(self._met.items())),
        )

    def _level_report(self, index: int) -> LevelReport:
        level, ledger = self.plan.levels[index], self._session.ledgers[index]
        return LevelReport(
            index=index,
            path=level.path,
            shape=level.shape,
            chunks=level.chunks,
            shards=level.shards,
            factor=level.factor,
            scale=self.plan.scale_of(level),
            regions=level.regions,
            fresh=len(ledger.receipts) - self._session.recorded[index],
            raw_bytes=math.prod(level.shape) * self.plan.dtype.itemsize,
            stored_bytes=stored_bytes(ledger),
            seconds=self._driver.seconds.get(index, 0.0),
            retries=dict(sorted(self._driver.met[index].items())),
        )


def _listed(store: ObjectStore) -> Collection[str] | None:
    """The store's keys, or None where it cannot be listed."""
    try:
        return retrying(store.objects)
    except UnlistableError:
        return None


def _has_any(store: ObjectStore, keys: tuple[str, ...], listed: Collection[str] | None) -> bool:
    """Whether one of these objects is there: one listing is one request."""
    if listed is not None:
        return not set(keys).isdisjoint(listed)
    return any(found is not None for found in for_each(store, store.read, keys))


def _unfinished(
    stores: tuple[ObjectStore, ObjectStore], plan: PyramidPlan, overwrite: bool
) -> bool:
    """Whether there is work for a cluster; refuses the target before one is started."""
    return overwrite or target_kind(*stores, plan, overwrite) != "finished"
