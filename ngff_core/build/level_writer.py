"""One level of a build, as a pass uses it: load, read back, store, record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from ngff_core.blocks import ArrayLike, BlockedArray
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.progress import PhaseProgress
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import (
    open_level,
    region_samples,
    store_region,
    stored_samples,
    work_on,
)
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.ledger import Ledger, Receipt
from ngff_core.records.receipts import Regions
from ngff_core.storage import ObjectStore
from ngff_core.storage.retry import counting_retries


class LevelWriter:
    """What a pass asks of a level: see `ngff_core.build.streaming.Track`.

    ``open_parent`` gives the array that regions are loaded from: the level's parent, or
    for level 0 the source. ``check`` is called before and after each write, and raises
    where the work must not go on. ``whole`` is called when the last region is recorded.
    ``borders`` has strips of the parent's for this level, and ``kept`` of this level's for
    those that are computed from what it stores.
    """

    def __init__(
        self,
        store: ObjectStore,
        plan: PyramidPlan,
        level: LevelPlan,
        ledger: Ledger,
        open_parent: Callable[[], ArrayLike],
        *,
        progress: PhaseProgress,
        check: Callable[[], None],
        whole: Callable[[], None],
        met: Counter[str] | None = None,
        halos: HaloFiles | None = None,
        kept: Sequence[HaloFiles] = (),
    ) -> None:
        self._store = store
        self._plan = plan
        self._level = level
        self._ledger = ledger
        self._open_parent = open_parent
        self._progress = progress
        self._check = check
        self._whole = whole
        self._halos = halos
        self._kept = kept
        self._encoder = LevelEncoder(plan, level)
        self._kernel = None if level.parent is None else kernel_for(plan.method)
        self.met = Counter[str]() if met is None else met
        """Trouble that was passed over, by kind."""

    @property
    def done(self) -> Regions:
        """Regions that have a receipt now."""
        return self._ledger.receipts.snapshot()

    def load(self, region: int) -> BlockedArray:
        """Samples of a region that is not stored, in the plan's dtype."""
        with self._work("reading", region):
            samples = region_samples(self._parent, self._level, region, self._kernel, self._halos)
            return samples.astype(self._plan.dtype)

    def read(self, region: int) -> BlockedArray:
        """Samples of a region that is stored."""
        box = self._level.region(region)
        with self._work("reading back", region):
            return BlockedArray.of(box, stored_samples(self._own, box))

    def store(self, region: int, samples: BlockedArray) -> Receipt:
        """Encode and store a region, and the strips of it that others will look into."""
        self._check()
        with self._work("storing", region):
            for files in self._kept:
                files.keep(region, samples)
            return store_region(self._store, self._encoder, self._level, region, samples)

    def record(self, receipt: Receipt) -> None:
        """Take down that a region is stored."""
        self._check()
        self._ledger.record(receipt)
        nbytes = self._level.region(receipt.region).size * self._plan.dtype.itemsize
        self._progress.advance(nbytes, retries=sum(self.met.values()))
        if self._ledger.has_all_receipts:
            self._whole()

    @contextmanager
    def _work(self, doing: str, region: int) -> Iterator[None]:
        what = f"{doing} region {region} of {self._level.path} at {self._store.uri}"
        with counting_retries(self.met), work_on(what):
            yield

    @cached_property
    def _parent(self) -> ArrayLike:
        return self._open_parent()

    @cached_property
    def _own(self) -> ArrayLike:
        return open_level(self._store, self._plan, self._level)
