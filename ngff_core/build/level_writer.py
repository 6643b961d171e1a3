"""One level of a build, as a pass uses it: load, read back, store, record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from ngff_core.blocks import ArrayLike, BlockedArray
from ngff_core.build.level_inputs import LevelFiles
from ngff_core.build.level_progress import PhaseCount
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import (
    open_level,
    region_samples,
    store_region,
    stored_samples,
    work_on,
)
from ngff_core.records.ledger import Receipt
from ngff_core.records.receipts import Regions
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage.retry import counting_retries


class LevelWriter:
    """Loads, stores and records the regions of one level: a `ngff_core.build.streaming.LevelIO`.

    ``build`` has the store, plan and ledger of the level. ``open_parent`` opens the array
    that its regions are computed from: the level's parent, or for level 0 the source or the
    cache. ``count`` reports progress and counts retries. ``check`` is called before each
    write and before each receipt, and raises where the work must stop. ``on_complete`` is
    called when the last region is recorded. ``files`` are those in the build
    folder that the level reads and writes.
    """

    def __init__(
        self,
        build: StoredBuild,
        level: LevelPlan,
        open_parent: Callable[[], ArrayLike],
        count: PhaseCount,
        *,
        check: Callable[[], None],
        on_complete: Callable[[], None],
        files: LevelFiles = LevelFiles(),  # noqa: B008 - frozen
    ) -> None:
        self._store = build.target
        self._plan = build.plan
        self._level = level
        self._ledger = build.ledgers[level.index]
        self._open_parent = open_parent
        self._count = count
        self._check = check
        self._on_complete = on_complete
        self._files = files
        self._encoder = LevelEncoder(build.plan, level)
        self._kernel = None if level.parent is None else kernel_for(build.plan.method)

    @property
    def done(self) -> Regions:
        """Regions that have a receipt now."""
        return self._ledger.receipts.snapshot()

    def load(self, region: int) -> BlockedArray:
        """Samples of a region that is not stored, in the plan's dtype."""
        with self._work("reading", region):
            samples = region_samples(
                self._parent, self._level, region, self._kernel, self._files.halos
            )
            return samples.astype(self._plan.dtype)

    def read(self, region: int) -> BlockedArray:
        """Samples of a region that is stored."""
        box = self._level.region(region)
        with self._work("reading back", region):
            return BlockedArray.of(box, stored_samples(self._own, box))

    def store(self, region: int, samples: BlockedArray) -> Receipt:
        """Encode and store a region, after what the build folder keeps of it."""
        self._check()
        with self._work("storing", region):
            self._files.keep(region, samples)
            return store_region(self._store, self._encoder, self._level, region, samples)

    def record(self, receipt: Receipt) -> None:
        """Record in the ledger that a region is stored, and report it."""
        self._check()
        self._ledger.record(receipt)
        self._count.advance(self._level.region(receipt.region).size * self._plan.dtype.itemsize)
        if self._ledger.has_all_receipts:
            self._on_complete()

    @contextmanager
    def _work(self, doing: str, region: int) -> Iterator[None]:
        what = f"{doing} region {region} of {self._level.path} at {self._store.uri}"
        with counting_retries(self._count.retries), work_on(what):
            yield

    @cached_property
    def _parent(self) -> ArrayLike:
        return self._open_parent()

    @cached_property
    def _own(self) -> ArrayLike:
        return open_level(self._store, self._plan, self._level)
