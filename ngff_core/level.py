"""One level: read a window, compute its samples, store them, record the receipt."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from ngff_core.arrays import LevelEncoder, store_region
from ngff_core.engine import run_bounded
from ngff_core.errors import LeaseLostError, StoredDataError
from ngff_core.geometry import Region, window_of
from ngff_core.image import ArrayLike, Block
from ngff_core.kernels.contract import Kernel
from ngff_core.ledger import Ledger, Receipt
from ngff_core.memory import release_memory
from ngff_core.methods import kernel_for
from ngff_core.plan import LevelPlan, PyramidPlan
from ngff_core.progress import Listener, PhaseProgress
from ngff_core.store import Store, is_passing, retrying


def region_samples(parent: ArrayLike, level: LevelPlan, index: int, kernel: Kernel | None) -> Block:
    """The samples of one region of ``level``, from its parent's array.

    Without a kernel (level 0) they are the parent's own.
    """
    region = level.region(index)
    if kernel is None:
        return np.asarray(retrying(parent.__getitem__, region.slices))
    window = window_of(region, level.step, kernel.halo(level.step), parent.shape)
    samples = _stored_samples(parent, window.box)
    return kernel.reduce(samples, window.lead, level.step, region.shape)


def _stored_samples(parent: ArrayLike, box: Region) -> Block:
    """A box of a level of our own; whatever keeps it from being decoded is damage."""
    try:
        return np.asarray(retrying(parent.__getitem__, box.slices))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if is_passing(error):
            raise
        first = next((line for line in str(error).splitlines() if line), type(error).__name__)
        raise StoredDataError(
            f"the level below cannot be read ({first}); run the same command again to build "
            "anew what is missing"
        ) from error


def write_level(
    store: Store,
    plan: PyramidPlan,
    level: LevelPlan,
    parent: ArrayLike,
    ledger: Ledger,
    *,
    phase: str,
    executor: Executor,
    in_flight: int,
    listener: Listener,
    check: Callable[[], None],
) -> float:
    """Write the regions of ``level`` that have no receipt; returns the seconds it took.

    ``parent`` is the array of the level's parent, or for level 0 the source's. ``check``
    is called before and after each write, and raises where the work must not go on.
    """
    kernel = None if level.parent is None else kernel_for(plan.method)
    encoder = LevelEncoder(plan, level)

    def work(index: int) -> Receipt:
        samples = region_samples(parent, level, index, kernel)
        check()
        receipt = store_region(store, encoder, level, index, samples.astype(plan.dtype, copy=False))
        del samples
        release_memory()
        return receipt

    remaining = ledger.remaining
    progress = PhaseProgress(listener, phase, level.regions, level.regions - len(remaining))

    def done(receipt: Receipt) -> None:
        check()
        ledger.record(receipt)
        progress.advance(level.region(receipt.region).size * plan.dtype.itemsize)

    try:
        run_bounded(remaining, work, executor, in_flight, done)
    except LeaseLostError:
        # The ledger is the other builder's now.
        raise
    except BaseException:
        ledger.flush()
        raise
    ledger.flush()
    ledger.finish()
    return progress.finish()
