"""Building a pyramid: the job as one function, and as the phases that a flow calls.

::

    report = build_pyramid("upload.ome.tif", "brain.ome.zarr")

The same call again, after whatever happened to the first, does what remains.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate

from ngff_core import cache as cache_pass
from ngff_core.arrays import open_level
from ngff_core.cache import CacheMode, cache_plan
from ngff_core.cluster import Cluster, ClusterPass
from ngff_core.codecs import DEFAULT_COMPRESSOR
from ngff_core.errors import LeaseLostError, SourceChangedError, SourceFormatError, StoredDataError
from ngff_core.image import ArrayLike
from ngff_core.lease import Lease, current_holder
from ngff_core.ledger import Ledger
from ngff_core.level import LevelTrack
from ngff_core.methods import Methods, kernel_for
from ngff_core.options import BuildOptions, resolve_workers
from ngff_core.pipeline import Pipeline
from ngff_core.plan import DEFAULT_MIN_LENGTH, LevelPlan, PyramidPlan
from ngff_core.planning import PlannedBuild, plan_opened, plan_pyramid, planned_for_cluster
from ngff_core.progress import Listener, Message, PhaseProgress, Relay, silent
from ngff_core.publish import create_arrays, is_published, publish
from ngff_core.report import BuildReport, BuildStatus, LevelReport, PhaseStatus
from ngff_core.scale_factors import ScaleFactors
from ngff_core.schedule import Needs, PassPlan, passes
from ngff_core.sources import Source, open_source
from ngff_core.store import StorageOptions, Store, absolute_uri, for_each, retrying
from ngff_core.stream import LevelFailedError, Pass, TooMuchHeldError
from ngff_core.target import (
    Found,
    begin,
    drop_missing,
    forget_removed,
    load_ledgers,
    look_at,
    new_ledgers,
    read_plan,
    remove,
    target_state,
    target_stores,
)
from ngff_core.thumbnail import thumbnail
from ngff_core.trouble import noting
from ngff_core.verify import Verification, find_lost, stored_bytes, verify_store
from ngff_core.workshop import Commission


def check_build(
    source: Any,
    target: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    storage_options: StorageOptions | None = None,
) -> PlannedBuild:
    """Plan a build and see whether the target is free for it; nothing is written.

    Raises what `build_pyramid` would raise before its first write.
    """
    options = options or BuildOptions()
    planned = plan_pyramid(source, target, options, storage_options=storage_options)
    target_state(*target_stores(planned.target, storage_options), planned.plan, options.overwrite)
    return planned


def build_pyramid(
    source: Any,
    target: str | os.PathLike[str],
    *,
    method: str | Methods = Methods.ITKWASM_GAUSSIAN,
    scale_factors: ScaleFactors = DEFAULT_MIN_LENGTH,
    chunks: Any = None,
    shards: Any = None,
    compressor: str = DEFAULT_COMPRESSOR,
    ome_zarr_version: str = "0.5",
    workers: int | None = None,
    memory_limit: int | str | None = None,
    cache: CacheMode = "auto",
    overwrite: bool = False,
    dask_address: str | None = None,
    dask_workers: int | None = None,
    storage_options: StorageOptions | None = None,
    progress: Listener | None = None,
) -> BuildReport:
    """Build the OME-Zarr pyramid of ``source`` at ``target``, or what remains of it.

    ``source`` is a path or URI of a zarr array, an OME-Zarr image, a TIFF or an
    ``.npy``, or an `NgffImage`, or any array. ``target`` is a path or URI, by custom
    ending in ``.ome.zarr``; the plan and the ledger stay beside it in
    ``TARGET.build``. ``progress`` is called with the events of `ngff_core.progress`.
    With ``dask_address``, a scheduler's, a dask cluster builds the regions; with
    ``dask_workers`` so many processes that are started here. ``workers`` and
    ``memory_limit`` are those of one worker process then, and the bytes are the same.

    Raises a `CallerError` for what the caller can mend, a `StoredDataError` where
    stored bytes are damaged, and an OSError for trouble with storage. After any of
    them, or a kill, the same call goes on with what was done.
    """
    options = BuildOptions(
        method,
        scale_factors,
        chunks,
        shards,
        compressor,
        ome_zarr_version,
        workers,
        memory_limit,
        cache,
        overwrite,
        dask_address,
        dask_workers,
    )
    return run_build(
        source, target, options, storage_options=storage_options, listener=progress or silent
    )


def run_build(
    source: Any,
    target: str | os.PathLike[str],
    options: BuildOptions,
    *,
    storage_options: StorageOptions | None = None,
    listener: Listener = silent,
) -> BuildReport:
    """`build_pyramid` with its options in one object."""
    with Build.open(
        source, target, options, storage_options=storage_options, listener=listener
    ) as build:
        if build.cache_needed:
            build.write_cache()
        for level in build.plan.levels:
            build.write_level(level.index)
        build.publish()
        build.verify()
        build.clean()
        return build.report()


def _beside_the_levels[**P, T](
    phase: Callable[Concatenate[Build, P], T],
) -> Callable[Concatenate[Build, P], T]:
    """A phase of a build whose own retries are no level's."""

    @wraps(phase)
    def counted(build: Build, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with noting(build._met_beside):
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
        stores: tuple[Store, Store],
        listener: Listener,
    ) -> None:
        self.plan = planned.plan
        self.planned = planned
        self._source = source
        self._target, self._beside = stores
        self._listener = listener
        self._began = time.monotonic()
        self._seconds: dict[int, float] = {}
        self._recorded: tuple[int, ...] = ()
        self._verification: Verification | None = None
        self._lease: Lease | None = None
        self._ledgers: list[Ledger] = []
        self._reopen: Callable[[], Source] | None = None
        self._finished = False
        self._cluster: Cluster | None = None
        self._commission: Commission | None = None
        self._progress: dict[int, PhaseProgress] = {}
        # Each level's are kept over all attempts of a run.
        self._met = {level.index: Counter[str]() for level in self.plan.levels}
        self._met_beside = Counter[str]()
        self._relays = [Relay(listener) for _ in self.plan.levels]
        self._pipeline = Pipeline(self._write_levels, self.level_done)
        self._begun_here = False
        self._discarded = False
        self._executor = ThreadPoolExecutor(
            planned.projection.in_flight, thread_name_prefix="ngff-region"
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
        met = Counter[str]()
        with noting(met):
            return cls._open(
                source, target, options or BuildOptions(), storage_options, listener, met
            )

    @classmethod
    def _open(
        cls,
        source: Any,
        target: str | os.PathLike[str],
        options: BuildOptions,
        storage_options: StorageOptions | None,
        listener: Listener,
        met: Counter[str],
    ) -> Build:
        opened = open_source(source, storage_options)
        cluster = None
        try:
            planned = plan_opened(opened, source, target, options)
            stores = target_stores(planned.target, storage_options)
            if options.on_cluster and _unfinished(stores, planned.plan, options.overwrite):
                cluster = Cluster.connect(options)
                planned = planned_for_cluster(
                    planned, opened, workers=cluster.at_once, memory_limit=cluster.memory_limit
                )
            build = cls(opened, planned, stores, listener)
            build._met_beside = met
            build._reopen = partial(open_source, source, storage_options)
            if cluster is not None:
                build._use(cluster, os.fspath(source), storage_options)
            build._claim(options.overwrite)
        except BaseException:
            if cluster is not None:
                cluster.close()
            opened.close()
            raise
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
        self._pipeline.stop()
        self._executor.shutdown(cancel_futures=True)
        if self._cluster is not None and self._commission is not None:
            self._cluster.end(self._commission.token)
            self._cluster.close()
            self._cluster = None
        if self._lease is not None:
            self._lease.__exit__(None, None, None)
            if self._discarded and not self._lease.succeeded:
                self._beside.delete_tree()
            self._lease = None
        self._source.close()

    @property
    def finished(self) -> bool:
        """Whether an earlier run finished this build."""
        return self._finished

    @property
    def cache_needed(self) -> bool:
        """Whether the cache pass comes next."""
        return self.planned.cached and not self._ledgers[0].complete

    def level_done(self, index: int) -> bool:
        """Whether nothing remains to be done of a level."""
        return self._ledgers[index].complete

    @_beside_the_levels
    def write_cache(self, listener: Listener | None = None) -> float:
        """The cache pass: rewrite the source so that it can be read by region."""
        whole = self._cache_plan
        ledger = self._cache_ledger.load()
        forget_removed(self._beside, whole, [ledger])
        create_arrays(self._beside, whole)
        progress = PhaseProgress(
            listener or self._listener, cache_pass.PHASE, ledger.total, len(ledger.receipts)
        )
        track = LevelTrack(
            self._beside,
            whole,
            whole.levels[0],
            ledger,
            lambda: self._source.image.data,
            progress=progress,
            check=self._check,
            whole=partial(self._whole_cache, ledger),
            met=self._met_beside,
        )
        try:
            self._run_pass(PassPlan(whole, 0, ()), {0: track}, {0: ledger}, held_limit=0)
        except LevelFailedError as error:
            raise error.__cause__ or error from None
        return progress.finish()

    def write_level(self, index: int, listener: Listener | None = None) -> LevelReport:
        """Wait until a level is written; the first to wait sets all levels going.

        Levels are written side by side, each region as soon as what it is computed from
        is there. ``listener`` hears of this level from now on. Threads may wait for
        several levels at once.
        """
        if listener is not None:
            self.listen(index, listener)
        if self.level_done(index) and index not in self._progress:
            self._started(index).finish()
        self._pipeline.wait_for(index)
        return self._level_report(index)

    def listen(self, index: int, listener: Listener) -> None:
        """Have ``listener`` hear of a level from now on, in place of who did before."""
        self._relays[index].tell(listener, self._progress.get(index))

    @_beside_the_levels
    def publish(self) -> None:
        """Make the store an image: its group document appears, whole and last.

        Raises StoredDataError, and publishes nothing, where an object that the ledger
        records is not in the store.
        """
        unfinished = [level.index for level in self.plan.levels if not self.level_done(level.index)]
        if unfinished:
            raise StoredDataError(f"level {unfinished[0]} is not finished, so nothing is published")
        if not self._finished:
            self._check()
            # What killed processes left goes first: once there is an image, all is tidy.
            self._target.sweep()
            self._beside.sweep()
            self._tidy_ledgers()
            lost = None
            # Of what an earlier run wrote this was seen when the target was claimed.
            if self.report().fresh:
                lost = next(find_lost(self._target, self.plan, self._ledgers), None)
            if lost is not None:
                raise StoredDataError(
                    f"{self._target.uri}/{lost.key}: {lost.what}, so nothing is published; "
                    "run the same command again to build it anew"
                )
            publish(self._target, self.plan)

    @_beside_the_levels
    def verify(self, *, deep: bool = False, listener: Listener | None = None) -> Verification:
        """Hold what was published against plan and ledger."""
        self._verification = verify_store(
            self._target,
            self.plan,
            self._ledgers,
            deep=deep,
            executor=self._executor,
            in_flight=self.planned.projection.in_flight,
            listener=listener or self._listener,
        )
        return self._verification

    @_beside_the_levels
    def clean(self) -> None:
        """Remove the cache; plan and ledger stay."""
        # A build that was begun with a cache may have gone on without one.
        signs = ("cache/zarr.json", f"ledger/{cache_pass.PHASE}/complete.jsonl")
        found = for_each(self._beside, lambda sign: retrying(self._beside.read, sign), signs)
        if any(document is not None for document in found):
            # The receipts go last: they are what tells a later run of leftovers.
            self._beside.delete_tree("cache")
            self._cache_ledger.forget()

    def thumbnail(self) -> str:
        """A picture of the coarsest level, as a ``data:`` URI."""
        return thumbnail(self._target, self.plan)

    def report(self) -> BuildReport:
        """What this run did so far."""
        image = self.plan.image
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
            retries_beside=dict(sorted(self._met_beside.items())),
        )

    def _tidy_ledgers(self) -> None:
        """Remove the segments of finished levels: one listing says whether there are any."""
        keys = retrying(self._beside.objects, "ledger")
        for level, ledger in zip(self.plan.levels, self._ledgers, strict=True):
            if any(key.startswith(f"ledger/{level.index}/segments/") for key in keys):
                ledger.tidy()

    @property
    def _cache_plan(self) -> PyramidPlan:
        return cache_plan(self.plan, self._source.read_unit)

    @property
    def _cache_ledger(self) -> Ledger:
        whole = self._cache_plan
        return Ledger(self._beside, cache_pass.PHASE, whole.digest, whole.levels[0].regions)

    @_beside_the_levels
    def _write_levels(self, going_on: Callable[[], None]) -> None:
        """Write what remains of all levels: the driver's work."""
        self._check()
        create_arrays(self._target, self.plan)
        projection = self.planned.projection
        try:
            for way in passes(self.plan, projection.streamed):
                self._write_pass(way, projection.held_bytes, going_on)
        except TooMuchHeldError:
            # The projection was wrong. What is stored is right, and the rest needs no more
            # than a region at a time where each level is read back.
            for way in passes(self.plan, ()):
                self._write_pass(way, 0, going_on)

    def _write_pass(self, way: PassPlan, held_limit: int, going_on: Callable[[], None]) -> None:
        ledgers = {level.index: self._ledgers[level.index] for level in way.levels}
        if all(ledger.complete for ledger in ledgers.values()):
            return
        tracks = {
            level.index: LevelTrack(
                self._target,
                self.plan,
                level,
                ledgers[level.index],
                partial(self._parent, level.index),
                progress=self._started(level.index),
                check=self._check,
                whole=partial(self._whole, level),
                met=self._met[level.index],
            )
            for level in way.levels
        }
        for level in way.levels:
            if ledgers[level.index].whole:
                # Killed after its last region, and before its receipts were one document.
                self._whole(level)
        self._run_pass(way, tracks, ledgers, held_limit=held_limit, going_on=going_on)

    def _run_pass(
        self,
        way: PassPlan,
        tracks: Mapping[int, LevelTrack],
        ledgers: Mapping[int, Ledger],
        *,
        held_limit: int,
        going_on: Callable[[], None] = lambda: None,
    ) -> None:
        with self._discarding():
            try:
                if self._cluster is not None:
                    self._on_cluster(self._cluster, way, tracks, going_on).run()
                else:
                    self._here(way, tracks, held_limit, going_on).run()
            except BaseException as error:
                self._settle(error.__cause__ or error, ledgers.values())
                raise

    def _here(
        self,
        way: PassPlan,
        tracks: Mapping[int, LevelTrack],
        held_limit: int,
        going_on: Callable[[], None],
    ) -> Pass:
        return Pass(
            way,
            tracks,
            kernel_for(self.plan.method),
            executor=self._executor,
            in_flight=self.planned.projection.in_flight,
            held_limit=held_limit,
            check=going_on,
        )

    def _on_cluster(
        self,
        cluster: Cluster,
        way: PassPlan,
        tracks: Mapping[int, LevelTrack],
        going_on: Callable[[], None],
    ) -> ClusterPass:
        assert self._commission is not None
        cache = way.plan is not self.plan
        from_source = way.levels[0].parent is None and (cache or not self.planned.cached)
        cluster.begin(self._commission, needs_source=from_source)
        track = tracks[way.root]
        needed = Needs(way, {way.root: track.done}).loads()

        def check() -> None:
            going_on()
            self._check()

        return ClusterPass(
            cluster,
            self._commission,
            track,
            None if cache else way.root,
            (region for _, region in needed),
            check=check,
        )

    def _use(self, cluster: Cluster, source: str, storage_options: StorageOptions | None) -> None:
        """Have a cluster do the work."""
        self._cluster = cluster
        self._commission = Commission(
            token=uuid.uuid4().hex,
            source=absolute_uri(source),
            target=self.planned.target,
            digest=self.plan.digest,
            read_unit=self._source.read_unit,
            cached=self.planned.cached,
            at_once=self.planned.projection.in_flight,
            storage_options=storage_options,
        )

    def _settle(self, error: BaseException, ledgers: Iterable[Ledger]) -> None:
        """Write down what was done before ``error``, so far as it counts."""
        for ledger in ledgers:
            if isinstance(error, SourceChangedError):
                ledger.forget()
            elif not isinstance(error, LeaseLostError):
                # Of a lost lease's target the ledger is the other builder's now.
                ledger.flush()

    def _started(self, index: int) -> PhaseProgress:
        level, ledger = self.plan.levels[index], self._ledgers[index]
        self._progress[index] = PhaseProgress(
            self._relays[index], f"level-{index}", level.regions, len(ledger.receipts)
        )
        return self._progress[index]

    def _whole(self, level: LevelPlan) -> None:
        """The last region of a level is recorded."""
        ledger = self._ledgers[level.index]
        if level.parent is None and not self.planned.cached:
            self._check_source()
        ledger.finish()
        self._seconds[level.index] = self._progress[level.index].finish()
        self._pipeline.tell()

    def _whole_cache(self, ledger: Ledger) -> None:
        self._check_source()
        ledger.flush()
        ledger.finish()

    @contextmanager
    def _discarding(self) -> Iterator[None]:
        """Leave nothing of a build that this run began, where its source is broken.

        The plan pins the source as it is, so no later run could finish it: a mended source
        is another one. What earlier runs built stays: they could read the source, so this
        may be trouble of the disk's.
        """
        try:
            yield
        except (SourceFormatError, LevelFailedError) as error:
            broken = isinstance(error, SourceFormatError) or isinstance(
                error.__cause__, SourceFormatError
            )
            if broken and self._begun_here:
                remove(self._target, self._beside)
                self._discarded = True
            raise

    def _check_source(self) -> None:
        """Refuse what was just read from a source that changed under the reading."""
        if self._reopen is None or self._source.kind == "array":
            return
        with self._reopen() as again:
            if again.identity == self._source.identity:
                return
        raise SourceChangedError(
            f"{self.planned.source} changed while it was read, so what was written from it is "
            "discarded; run the same command again with overwrite, once the source is at rest"
        )

    def _check(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _parent(self, index: int) -> ArrayLike:
        parent = self.plan.levels[index].parent
        if parent is not None:
            return open_level(self._target, self.plan, self.plan.levels[parent])
        if self.planned.cached:
            whole = self._cache_plan
            return open_level(self._beside, whole, whole.levels[0])
        return self._source.image.data

    def _level_report(self, index: int) -> LevelReport:
        level, ledger = self.plan.levels[index], self._ledgers[index]
        return LevelReport(
            index=index,
            path=level.path,
            shape=level.shape,
            chunks=level.chunks,
            shards=level.shards,
            factor=level.factor,
            scale=self.plan.scale_of(level),
            regions=level.regions,
            fresh=len(ledger.receipts) - self._recorded[index],
            raw_bytes=math.prod(level.shape) * self.plan.dtype.itemsize,
            stored_bytes=stored_bytes(ledger),
            seconds=self._seconds.get(index, 0.0),
            retries=dict(sorted(self._met[index].items())),
        )

    def _claim(self, overwrite: bool) -> None:
        """Take the target for this plan: resume, begin, or replace what is there."""
        found = look_at(self._target, self._beside, self.plan, overwrite)
        if found.state == "finished" and not overwrite:
            self._finished = True
        else:
            lease = Lease(self._beside, self._listener)
            self._lease = lease.__enter__()
        try:
            if self._lease is not None:
                found = self._take_over(overwrite)
            # The plan as it was put down: its metadata name the versions of that day.
            self.plan = found.plan or read_plan(self._target, self._beside)
            if self._begun_here and found.plan is self.plan:
                self._ledgers = new_ledgers(self._beside, self.plan)
            else:
                self._ledgers = list(found.ledgers) or load_ledgers(self._beside, self.plan)
            if not self._finished:
                self._forget_missing()
            self._recorded = tuple(len(ledger.receipts) for ledger in self._ledgers)
        except BaseException:
            self.close()
            raise

    def _take_over(self, overwrite: bool) -> Found:
        # Another builder may have come and gone while this one waited for the lease.
        found = look_at(self._target, self._beside, self.plan, overwrite)
        if found.state == "finished" and not overwrite:
            self._finished = True
        if found.state == "foreign":
            self._listener(Message(f"removing what is at {self._target.uri}"))
        self._begun_here = found.state in ("free", "foreign")
        if begin(self._target, self._beside, self.plan, found.state):
            return replace(found, plan=self.plan)
        return found

    def _forget_missing(self) -> None:
        """What was recorded and is there no more is built anew."""
        removed = forget_removed(self._target, self.plan, self._ledgers)
        if removed:
            self._listener(
                Message(f"{', '.join(removed)}: removed since, although recorded; built anew")
            )
        if any(ledger.receipts for ledger in self._ledgers):
            lost = drop_missing(self._target, self.plan, self._ledgers)
            if lost:
                self._listener(Message(f"{lost} regions lost objects since; built anew"))


def _unfinished(stores: tuple[Store, Store], plan: PyramidPlan, overwrite: bool) -> bool:
    """Whether there is work for a cluster; refuses the target before one is started."""
    return overwrite or target_state(*stores, plan, overwrite) != "finished"


def build_status(
    target: str | os.PathLike[str], *, storage_options: StorageOptions | None = None
) -> BuildStatus:
    """How far the build at ``target`` is; reads a request or two per level."""
    stores = target_stores(absolute_uri(target), storage_options)
    plan = read_plan(*stores)
    holder = current_holder(stores[1])
    levels = (
        PhaseStatus(
            phase=f"level-{level.index}",
            done=len(ledger.receipts),
            total=level.regions,
            shape=level.shape,
            stored_bytes=stored_bytes(ledger),
        )
        for level, ledger in zip(plan.levels, load_ledgers(stores[1], plan), strict=True)
    )
    return BuildStatus(
        target=stores[0].uri,
        source=plan.source.uri,
        method=plan.method,
        plan_digest=plan.digest,
        levels=tuple(levels),
        published=is_published(stores[0], plan),
        builder=holder if holder is not None and holder.is_live else None,
    )


def verify_pyramid(
    target: str | os.PathLike[str],
    *,
    deep: bool = False,
    workers: int | None = None,
    storage_options: StorageOptions | None = None,
    progress: Listener | None = None,
) -> Verification:
    """Hold what is published at ``target`` against its plan and ledger.

    Deep reads and decodes every object as well. Raises TargetNotFoundError where there
    is no build; damage is not raised but listed in ``findings``.
    """
    stores = target_stores(absolute_uri(target), storage_options)
    plan = read_plan(*stores)
    workers = resolve_workers(workers)
    with ThreadPoolExecutor(workers) as executor:
        return verify_store(
            stores[0],
            plan,
            load_ledgers(stores[1], plan),
            deep=deep,
            executor=executor,
            in_flight=workers,
            listener=progress or silent,
        )
