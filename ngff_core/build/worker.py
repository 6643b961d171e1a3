"""A build as a worker process of a cluster has it open.

A worker opens source and target by itself, from a `WorkOrder` that is a few hundred bytes
long. Samples go from store to worker to store, and only receipts go back.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

from ngff_core.blocks import ArrayLike
from ngff_core.errors import CallerError, ClusterUnfitError, TargetNotFoundError
from ngff_core.geometry import Shape
from ngff_core.kernels.methods import kernel_for
from ngff_core.memory import release_memory
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.source_cache import cache_plan
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import open_level, region_samples, store_region, work_on
from ngff_core.records.build_folder import PLAN_KEY, read_plan, target_stores
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.ledger import Receipt
from ngff_core.sources import Source, open_source
from ngff_core.storage import ObjectStore, StorageOptions

DECISIVE = ("ngff-flows", "numpy", "zarr", "numcodecs", "numba", "imagecodecs")
"""Distributions that have a say in stored bytes, or in the samples of a source."""


_OPEN_BUILDS = 4


def versions() -> dict[str, str]:
    """Versions, in this process, of what has a say in stored bytes."""
    return {name: _version(name) for name in DECISIVE}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


@dataclass(frozen=True)
class WorkOrder:
    """What a worker is told of a build; it finds the rest beside the target."""

    token: str
    """Of one run of the build: a worker opens source and target once for each."""
    source: str
    target: str
    digest: str
    read_unit: Shape
    cached: bool
    at_once: int
    """Regions that a process may have in memory."""
    storage_options: StorageOptions | None = field(default=None, repr=False)
    """Not shown: they may hold secrets, and dask shows the arguments of what fails."""
    versions: Mapping[str, str] = field(default_factory=versions, repr=False)


def build_region(work_order: WorkOrder, level: int | None, region: int) -> Receipt:
    """Build and store one region of a level, or of the cache where ``level`` is None.

    Doing it again, here or elsewhere, puts the same bytes.
    """
    return _worker(work_order).build(level, region)


def check_worker(work_order: WorkOrder, needs_source: bool) -> None:
    """Raise ClusterUnfitError where this process cannot work on a build."""
    worker_build = _worker(work_order)
    if needs_source:
        _ = worker_build.source


def close_build(token: str) -> None:
    """Let go of a build's source."""
    with _opening:
        worker_build = _workers.pop(token, None)
    if worker_build is not None:
        worker_build.close()
    release_memory()


class _Worker:
    """A build as one process of the cluster has it open; its threads share it."""

    def __init__(self, work_order: WorkOrder) -> None:
        check_versions(work_order.versions, versions(), _here())
        self._work_order = work_order
        self._stores = target_stores(work_order.target, work_order.storage_options)
        self._plan = self._read_plan()
        self._turns = threading.BoundedSemaphore(work_order.at_once)
        self._opening = threading.RLock()
        self._level_workers: dict[int | None, _LevelWorker] = {}

    def build(self, level: int | None, region: int) -> Receipt:
        with self._turns:
            return self._level_worker(level).build(region)

    @property
    def source(self) -> Source:
        """The source, seen to be the one that the plan was made for."""
        with self._opening:
            return self._source

    def close(self) -> None:
        if "_source" in self.__dict__:
            self._source.close()

    @cached_property
    def _source(self) -> Source:
        work_order = self._work_order
        try:
            source = open_source(work_order.source, work_order.storage_options)
        except CallerError as error:
            raise ClusterUnfitError(f"{_here()} cannot read the source: {error}") from error
        if source.identity.pins != self._plan.source.pins:
            source.close()
            raise ClusterUnfitError(
                f"{_here()} sees another {work_order.source} than the build was planned for; "
                "it must be the same for all workers, and at rest"
            )
        return source

    def _read_plan(self) -> PyramidPlan:
        try:
            plan = read_plan(*self._stores)
        except TargetNotFoundError:
            plan = None
        if plan is None or plan.digest != self._work_order.digest:
            what = "another plan" if plan else "no plan"
            raise ClusterUnfitError(
                f"{_here()} finds {what} at {self._stores[1].uri}/{PLAN_KEY}; workers must see the "
                "target that the build was started on: share its file system, or use a bucket"
            )
        return plan

    def _level_worker(self, level: int | None) -> _LevelWorker:
        with self._opening:
            if level not in self._level_workers:
                self._level_workers[level] = self._open_level_worker(level)
            return self._level_workers[level]

    def _open_level_worker(self, level: int | None) -> _LevelWorker:
        target, beside = self._stores
        if level is None:
            return _LevelWorker(beside, self._whole, 0, self._source.image.data, {})
        parent = self._plan.levels[level].parent
        if parent is not None:
            below: ArrayLike = open_level(target, self._plan, self._plan.levels[parent])
        elif self._work_order.cached:
            below = open_level(beside, self._whole, self._whole.levels[0])
        else:
            below = self._source.image.data
        return _LevelWorker(target, self._plan, level, below, self._halos)

    @cached_property
    def _halos(self) -> Mapping[int, HaloFiles]:
        # On a cluster no level is streamed.
        return HaloFiles.of(self._stores[1], self._plan, streamed=())

    @property
    def _whole(self) -> PyramidPlan:
        return cache_plan(self._plan, self._work_order.read_unit)


class _LevelWorker:
    """One level's way from its parent's array to its own store."""

    def __init__(
        self,
        store: ObjectStore,
        plan: PyramidPlan,
        level: int,
        parent: ArrayLike,
        halos: Mapping[int, HaloFiles],
    ) -> None:
        self._store = store
        self._plan = plan
        self._level = plan.levels[level]
        self._parent = parent
        self._encoder = LevelEncoder(plan, self._level)
        self._halos = halos.get(level)
        self._kept = [files for files in halos.values() if files.parent == level]
        self._kernel = None if self._level.parent is None else kernel_for(plan.method)

    def build(self, region: int) -> Receipt:
        with work_on(f"building region {region} of {self._level.path} at {self._store.uri}"):
            samples = region_samples(self._parent, self._level, region, self._kernel, self._halos)
            samples = samples.astype(self._plan.dtype)
            for files in self._kept:
                files.keep(region, samples)
            return store_region(self._store, self._encoder, self._level, region, samples)


_workers: dict[str, _Worker] = {}
_opening = threading.Lock()


def _worker(work_order: WorkOrder) -> _Worker:
    with _opening:
        found = _workers.get(work_order.token)
        if found is None:
            found = _workers[work_order.token] = _Worker(work_order)
            # A driver that was killed told nobody to leave. Not closed: one may be at work.
            for token in list(_workers)[:-_OPEN_BUILDS]:
                del _workers[token]
        return found


def _here() -> str:
    return f"the dask worker on {socket.gethostname()}"


def check_versions(wanted: Mapping[str, str], found: Mapping[str, str], where: str) -> None:
    differ = [
        f"{name} {found.get(name, 'none')} instead of {wanted[name]}"
        for name in wanted
        if found.get(name) != wanted[name]
    ]
    if differ:
        raise ClusterUnfitError(
            f"{where} has {', '.join(differ)}, and stored bytes could differ; install the same "
            "versions there as where the build is started"
        )
