"""A build as a worker process of a dask cluster has it open.

A worker opens source and target itself, from a `WorkOrder` of a few hundred bytes. Samples
go from store to worker to store, and only receipts go back to the driver.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

from ngff_core.blocks import ArrayLike
from ngff_core.build.level_inputs import LevelFiles, open_parent
from ngff_core.errors import CallerError, ClusterUnfitError, TargetNotFoundError
from ngff_core.geometry import Shape
from ngff_core.kernels.methods import kernel_for
from ngff_core.memory import release_memory
from ngff_core.model.selection import Selection
from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.plan.source_cache import cache_plan
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import region_samples, store_region, work_on
from ngff_core.records.build_folder import PLAN_KEY, read_plan, target_stores
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from ngff_core.records.summary_files import SummaryFiles
from ngff_core.sources import Source, open_source
from ngff_core.sources.detect import split_inside
from ngff_core.storage import StorageOptions

DECISIVE = ("ngff-flows", "numpy", "zarr", "numcodecs", "numba", "imagecodecs")
"""Distributions whose versions may change stored bytes, or the samples of a source."""

_OPEN_BUILDS = 4


def versions() -> dict[str, str]:
    """Versions in this process of the distributions that may change stored bytes."""
    return {name: _version(name) for name in DECISIVE}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


@dataclass(frozen=True)
class WorkSource:
    """The source of a build: its path or URI, the box that it decodes at once, and whether
    its regions are cached."""

    uri: str
    read_unit: Shape
    cached: bool


@dataclass(frozen=True)
class WorkOrder:
    """What a worker needs to know of a build; it reads the plan beside the target."""

    token: str
    """Names one run of the build: a worker opens source and target once for each."""
    source: WorkSource
    target: str
    digest: str
    """Of the plan."""
    at_once: int
    """Regions that a worker process may have in memory at once."""
    storage_options: StorageOptions | None = field(default=None, repr=False)
    """Not in the repr: they may contain secrets, and dask logs the arguments of failed tasks."""
    versions: Mapping[str, str] = field(default_factory=versions, repr=False)


def build_region(work_order: WorkOrder, level: int | None, region: int) -> Receipt:
    """Build and store one region of a level, or of the cache if ``level`` is None.

    Building it again, here or on another worker, writes the same bytes.
    """
    return _worker(work_order).build(level, region)


def check_worker(work_order: WorkOrder, needs_source: bool) -> None:
    """Raise ClusterUnfitError if this process cannot work on a build."""
    worker_build = _worker(work_order)
    if needs_source:
        _ = worker_build.source


def close_build(token: str) -> None:
    """Close a build's source, and return unused memory to the system."""
    with _opening:
        worker_build = _workers.pop(token, None)
    if worker_build is not None:
        worker_build.close()
    release_memory()


class _Worker:
    """A build as one worker process has it open; its threads share it."""

    def __init__(self, work_order: WorkOrder) -> None:
        check_versions(work_order.versions, versions(), _here())
        self._work_order = work_order
        self._build = self._open_build()
        self._turns = threading.BoundedSemaphore(work_order.at_once)
        self._opening = threading.RLock()
        self._level_workers: dict[int | None, _LevelWorker] = {}

    def build(self, level: int | None, region: int) -> Receipt:
        with self._turns:
            return self._level_worker(level).build(region)

    @property
    def source(self) -> Source:
        """The source, checked to be the one that the plan was made for."""
        with self._opening:
            return self._source

    def close(self) -> None:
        if "_source" in self.__dict__:
            self._source.close()

    @cached_property
    def _source(self) -> Source:
        # The plan says which image in a file it is, so a name after :: is not needed.
        uri, _ = split_inside(self._work_order.source.uri)
        selection = Selection.of_reading(self._build.plan.source.reading)
        try:
            source = open_source(uri, self._work_order.storage_options, selection)
        except CallerError as error:
            raise ClusterUnfitError(f"{_here()} cannot read the source: {error}") from error
        if source.identity.pins != self._build.plan.source.pins:
            source.close()
            raise ClusterUnfitError(
                f"{_here()} sees another {uri} than the build was planned for; "
                "all workers must see the same source, and nothing may write to it meanwhile"
            )
        return source

    def _open_build(self) -> StoredBuild:
        """The target with its plan; the driver alone reads and writes the ledgers."""
        order = self._work_order
        target, beside = target_stores(order.target, order.storage_options)
        try:
            plan = read_plan(target, beside)
        except TargetNotFoundError:
            plan = None
        if plan is None or plan.digest != order.digest:
            found = "another plan" if plan else "no plan"
            raise ClusterUnfitError(
                f"{_here()} finds {found} at {beside.uri}/{PLAN_KEY}; workers must see the "
                "target that the build was started on: share its file system, or use a bucket"
            )
        return StoredBuild.begin(target, beside, plan)

    def _level_worker(self, level: int | None) -> _LevelWorker:
        with self._opening:
            if level not in self._level_workers:
                self._level_workers[level] = self._open_level_worker(level)
            return self._level_workers[level]

    def _open_level_worker(self, level: int | None) -> _LevelWorker:
        cache = cache_plan(self._build.plan, self._work_order.source.read_unit)
        if level is None:
            stored = StoredBuild.begin(self._build.beside, self._build.beside, cache)
            return _LevelWorker(stored, cache.levels[0], self._source_array(), LevelFiles())
        level_plan = self._build.plan.levels[level]
        parent = open_parent(
            self._build,
            level_plan,
            cache if self._work_order.source.cached else None,
            self._source_array,
        )
        files = LevelFiles.of(self._halos, level, self._summaries)
        return _LevelWorker(self._build, level_plan, parent, files)

    def _source_array(self) -> ArrayLike:
        return self._source.image.data

    @cached_property
    def _halos(self) -> Mapping[int, HaloFiles]:
        # No level is streamed on a cluster.
        return HaloFiles.of(self._build.beside, self._build.plan, streamed=())

    @cached_property
    def _summaries(self) -> SummaryFiles | None:
        return SummaryFiles.of(self._build.beside, self._build.plan)


class _LevelWorker:
    """Builds the regions of one level, from its parent's array to its own store."""

    def __init__(
        self, build: StoredBuild, level: LevelPlan, parent: ArrayLike, files: LevelFiles
    ) -> None:
        self._store = build.target
        self._dtype = build.plan.dtype
        self._level = level
        self._parent = parent
        self._encoder = LevelEncoder(build.plan, level)
        self._files = files
        self._kernel = None if level.parent is None else kernel_for(build.plan.method)

    def build(self, region: int) -> Receipt:
        with work_on(f"building region {region} of {self._level.path} at {self._store.uri}"):
            samples = region_samples(
                self._parent, self._level, region, self._kernel, self._files.halos
            ).astype(self._dtype)
            self._files.keep(region, samples)
            return store_region(self._store, self._encoder, self._level, region, samples)


_workers: dict[str, _Worker] = {}
_opening = threading.Lock()


def _worker(work_order: WorkOrder) -> _Worker:
    with _opening:
        found = _workers.get(work_order.token)
        if found is None:
            found = _workers[work_order.token] = _Worker(work_order)
            # A driver that was killed closed none of its builds here. They are only dropped,
            # not closed: a thread may still work on one.
            for token in list(_workers)[:-_OPEN_BUILDS]:
                del _workers[token]
        return found


def _here() -> str:
    return f"the dask worker on {socket.gethostname()}"


def check_versions(wanted: Mapping[str, str], found: Mapping[str, str], where: str) -> None:
    """Raise ClusterUnfitError if the process named by ``where`` has other versions."""
    differ = [
        f"{name} {found.get(name, 'none')} instead of {wanted[name]}"
        for name in wanted
        if found.get(name) != wanted[name]
    ]
    if differ:
        raise ClusterUnfitError(
            f"{where} has {', '.join(differ)}, so the bytes that it writes could differ; install "
            "the same versions there as where the build is started"
        )
