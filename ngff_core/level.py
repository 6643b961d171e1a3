"""One level: read a window, compute its samples, store them, record the receipt."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np

from ngff_core.arrays import LevelEncoder, store_region
from ngff_core.engine import run_bounded
from ngff_core.geometry import window_of
from ngff_core.image import ArrayLike, Block
from ngff_core.kernels.contract import Kernel
from ngff_core.ledger import Ledger, Receipt
from ngff_core.memory import release_memory
from ngff_core.methods import kernel_for
from ngff_core.plan import LevelPlan, PyramidPlan
from ngff_core.progress import Listener, PhaseProgress
from ngff_core.store import Store, retrying


def region_samples(parent: ArrayLike, level: LevelPlan, index: int, kernel: Kernel | None) -> Block:
    """The samples of one region of ``level``, from its parent's array.

    Without a kernel (level 0) they are the parent's own.
    """
    region = level.region(index)
    if kernel is None:
        return np.asarray(retrying(parent.__getitem__, region.slices))
    window = window_of(region, level.step, kernel.halo(level.step), parent.shape)
    samples = np.asarray(retrying(parent.__getitem__, window.box.slices))
    return kernel.reduce(samples, window.lead, level.step, region.shape)


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
    is called after each region, and raises where the work must not go on.
    """
    kernel = None if level.parent is None else kernel_for(plan.method)
    encoder = LevelEncoder(plan, level)

    def work(index: int) -> Receipt:
        samples = region_samples(parent, level, index, kernel)
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
    finally:
        ledger.flush()
    ledger.finish()
    return progress.finish()
