"""One level's storage, as a pass uses it: load, read, store, record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from ngff_core.arrays import open_level, store_region
from ngff_core.border_files import BorderFiles
from ngff_core.encoding import LevelEncoder
from ngff_core.errors import PassingError, StoredDataError
from ngff_core.geometry import Region, window_of
from ngff_core.image import ArrayLike, Block
from ngff_core.kernels.contract import Kernel
from ngff_core.ledger import Ledger, Receipt
from ngff_core.memory import regions
from ngff_core.methods import kernel_for
from ngff_core.plan import LevelPlan, PyramidPlan
from ngff_core.progress import PhaseProgress
from ngff_core.receipts import Regions
from ngff_core.retry import given_up, one_budget
from ngff_core.samples import Samples, within
from ngff_core.sources.base import Reader
from ngff_core.store import Store, is_passing, read_region, retrying
from ngff_core.trouble import kind_of, note, noting

READINGS = 5
"""Of what seems to be damaged, before it is called so."""

_FEW = 4


def region_samples(
    parent: ArrayLike,
    level: LevelPlan,
    index: int,
    kernel: Kernel | None,
    borders: BorderFiles | None = None,
) -> Samples:
    """The samples of one region of ``level``, from its parent's array.

    Without a kernel (level 0) they are the parent's own. Where there are ``borders`` a
    chunk of the parent is decoded for one region alone.
    """
    region = level.region(index)
    if kernel is None:
        return _read(parent, region, "the source")
    window = window_of(region, level.step, kernel.halo(level.step), parent.shape)
    if borders is None:
        samples = stored_samples(parent, window.box)
    else:
        samples = _bordered(parent, index, window.box, borders)
    return Samples.of(region, kernel.reduce(samples, window.lead, level.step, region.shape))


def _bordered(parent: ArrayLike, index: int, box: Region, borders: BorderFiles) -> Block:
    """A region's window: its bins from the parent, the rest from strips where there are any."""
    samples = regions.array(box.shape, np.dtype(parent.dtype))
    missing = borders.fill(index, box, samples)
    # One after another they would take longer than what is decoded again.
    parts = [borders.bins(index), *missing] if len(missing) <= _FEW else [box]
    for part in parts:
        stored_samples(parent, part, into=samples[within(part, box)])
    return samples


def stored_samples(parent: ArrayLike, box: Region, into: Block | None = None) -> Block:
    """A box of a level of our own; whatever keeps it from being decoded is damage.

    It is read again first: an object may be damaged, or missed, in one answer only.
    """
    for left in reversed(range(READINGS)):
        try:
            return _read(parent, box, "the level below", into).part(box)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if left:
                note(kind_of(error))
                continue
            first = next((line for line in str(error).splitlines() if line), type(error).__name__)
            raise StoredDataError(
                f"the level below cannot be read ({first}); run the same command again to build "
                "anew what is missing"
            ) from error
    raise AssertionError("the last reading returns or raises")


def _read(array: ArrayLike, box: Region, what: str, into: Block | None = None) -> Samples:
    """A box of an array; trouble that may pass is an OSError, whatever its client says."""
    try:
        return retrying(_region, array, box, into)
    except OSError:
        raise
    except Exception as error:
        if not is_passing(error):
            raise
        raise PassingError(f"{what} could not be read: {kind_of(error)} ({error})") from error


def _region(array: ArrayLike, box: Region, into: Block | None) -> Samples:
    if into is None and isinstance(array, Reader):
        return array.region(box)
    return Samples.of(box, read_region(array, box.slices, into))


@contextmanager
def work_on(what: str) -> Iterator[None]:
    """Work on one region: all that is tried again inside shares one budget.

    Where trouble lasts longer, the PassingError says what the work was and how to go on.
    """
    with one_budget() as effort:
        try:
            yield
        except Exception as error:
            if not given_up(error) or not is_passing(error):
                raise
            raise PassingError(
                f"{error}; {what} was given up after {effort.told}; what is done is kept, so run "
                "the same command again once the storage answers"
            ) from error


class LevelTrack:
    """What a pass asks of a level: see `ngff_core.stream.Track`.

    ``open_parent`` gives the array that regions are loaded from: the level's parent, or
    for level 0 the source. ``check`` is called before and after each write, and raises
    where the work must not go on. ``whole`` is called when the last region is recorded.
    ``borders`` has strips of the parent's for this level, and ``kept`` of this level's for
    those that are computed from what it stores.
    """

    def __init__(
        self,
        store: Store,
        plan: PyramidPlan,
        level: LevelPlan,
        ledger: Ledger,
        open_parent: Callable[[], ArrayLike],
        *,
        progress: PhaseProgress,
        check: Callable[[], None],
        whole: Callable[[], None],
        met: Counter[str] | None = None,
        borders: BorderFiles | None = None,
        kept: Sequence[BorderFiles] = (),
    ) -> None:
        self._store = store
        self._plan = plan
        self._level = level
        self._ledger = ledger
        self._open_parent = open_parent
        self._progress = progress
        self._check = check
        self._whole = whole
        self._borders = borders
        self._kept = kept
        self._encoder = LevelEncoder(plan, level)
        self._kernel = None if level.parent is None else kernel_for(plan.method)
        self.met = Counter[str]() if met is None else met
        """Trouble that was passed over, by kind."""

    @property
    def done(self) -> Regions:
        """Regions that have a receipt now."""
        return self._ledger.receipts.snapshot()

    def load(self, region: int) -> Samples:
        """Samples of a region that is not stored, in the plan's dtype."""
        with self._work("reading", region):
            samples = region_samples(self._parent, self._level, region, self._kernel, self._borders)
            return samples.astype(self._plan.dtype)

    def read(self, region: int) -> Samples:
        """Samples of a region that is stored."""
        box = self._level.region(region)
        with self._work("reading back", region):
            return Samples.of(box, stored_samples(self._own, box))

    def store(self, region: int, samples: Samples) -> Receipt:
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
        if self._ledger.whole:
            self._whole()

    @contextmanager
    def _work(self, doing: str, region: int) -> Iterator[None]:
        what = f"{doing} region {region} of {self._level.path} at {self._store.uri}"
        with noting(self.met), work_on(what):
            yield

    @cached_property
    def _parent(self) -> ArrayLike:
        return self._open_parent()

    @cached_property
    def _own(self) -> ArrayLike:
        return open_level(self._store, self._plan, self._level)
