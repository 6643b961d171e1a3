"""A build as a worker process of a cluster has it open.

A worker opens source and target by itself, from a `Commission` that is a few hundred bytes
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
from ngff_core.records.halo_files import BorderFiles
from ngff_core.records.ledger import Receipt
from ngff_core.sources import Source, open_source
from ngff_core.storage import StorageOptions, Store

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
class Commission:
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


def build_region(commission: Commission, level: int | None, region: int) -> Receipt:
    """Build and store one region of a level, or of the cache where ``level`` is None.

    Doing it again, here or elsewhere, puts the same bytes.
    """
    return _workshop(commission).build(level, region)


def look(commission: Commission, needs_source: bool) -> None:
    """Raise ClusterUnfitError where this process cannot work on a build."""
    workshop = _workshop(commission)
    if needs_source:
        _ = workshop.source


def leave(token: str) -> None:
    """Let go of a build's source."""
    with _opening:
        workshop = _workshops.pop(token, None)
    if workshop is not None:
        workshop.close()
    release_memory()


class _Workshop:
    """A build as one process of the cluster has it open; its threads share it."""

    def __init__(self, commission: Commission) -> None:
        check_versions(commission.versions, versions(), _here())
        self._commission = commission
        self._stores = target_stores(commission.target, commission.storage_options)
        self._plan = self._read_plan()
        self._turns = threading.BoundedSemaphore(commission.at_once)
        self._opening = threading.RLock()
        self._benches: dict[int | None, _Bench] = {}

    def build(self, level: int | None, region: int) -> Receipt:
        with self._turns:
            return self._bench(level).build(region)

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
        commission = self._commission
        try:
            source = open_source(commission.source, commission.storage_options)
        except CallerError as error:
            raise ClusterUnfitError(f"{_here()} cannot read the source: {error}") from error
        if source.identity.pins != self._plan.source.pins:
            source.close()
            raise ClusterUnfitError(
                f"{_here()} sees another {commission.source} than the build was planned for; "
                "it must be the same for all workers, and at rest"
            )
        return source

    def _read_plan(self) -> PyramidPlan:
        try:
            plan = read_plan(*self._stores)
        except TargetNotFoundError:
            plan = None
        if plan is None or plan.digest != self._commission.digest:
            what = "another plan" if plan else "no plan"
            raise ClusterUnfitError(
                f"{_here()} finds {what} at {self._stores[1].uri}/{PLAN_KEY}; workers must see the "
                "target that the build was started on: share its file system, or use a bucket"
            )
        return plan

    def _bench(self, level: int | None) -> _Bench:
        with self._opening:
            if level not in self._benches:
                self._benches[level] = self._open_bench(level)
            return self._benches[level]

    def _open_bench(self, level: int | None) -> _Bench:
        target, beside = self._stores
        if level is None:
            return _Bench(beside, self._whole, 0, self._source.image.data, {})
        parent = self._plan.levels[level].parent
        if parent is not None:
            below: ArrayLike = open_level(target, self._plan, self._plan.levels[parent])
        elif self._commission.cached:
            below = open_level(beside, self._whole, self._whole.levels[0])
        else:
            below = self._source.image.data
        return _Bench(target, self._plan, level, below, self._borders)

    @cached_property
    def _borders(self) -> Mapping[int, BorderFiles]:
        # On a cluster no level is streamed.
        return BorderFiles.of(self._stores[1], self._plan, streamed=())

    @property
    def _whole(self) -> PyramidPlan:
        return cache_plan(self._plan, self._commission.read_unit)


class _Bench:
    """One level's way from its parent's array to its own store."""

    def __init__(
        self,
        store: Store,
        plan: PyramidPlan,
        level: int,
        parent: ArrayLike,
        borders: Mapping[int, BorderFiles],
    ) -> None:
        self._store = store
        self._plan = plan
        self._level = plan.levels[level]
        self._parent = parent
        self._encoder = LevelEncoder(plan, self._level)
        self._borders = borders.get(level)
        self._kept = [files for files in borders.values() if files.parent == level]
        self._kernel = None if self._level.parent is None else kernel_for(plan.method)

    def build(self, region: int) -> Receipt:
        with work_on(f"building region {region} of {self._level.path} at {self._store.uri}"):
            samples = region_samples(self._parent, self._level, region, self._kernel, self._borders)
            samples = samples.astype(self._plan.dtype)
            for files in self._kept:
                files.keep(region, samples)
            return store_region(self._store, self._encoder, self._level, region, samples)


_workshops: dict[str, _Workshop] = {}
_opening = threading.Lock()


def _workshop(commission: Commission) -> _Workshop:
    with _opening:
        found = _workshops.get(commission.token)
        if found is None:
            found = _workshops[commission.token] = _Workshop(commission)
            # A driver that was killed told nobody to leave. Not closed: one may be at work.
            for token in list(_workshops)[:-_OPEN_BUILDS]:
                del _workshops[token]
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
