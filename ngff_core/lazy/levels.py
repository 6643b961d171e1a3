"""Writing the levels of a caller's pyramid, within ``config.memory_target``.

A derived level is computed from the stored parent level, with the kernels and regions of
``build_pyramid``. Any other array is written as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from ngff_core.blocks import ArrayLike, BlockedArray
from ngff_core.concurrency import run_bounded
from ngff_core.config import config
from ngff_core.errors import MemoryLimitError
from ngff_core.geometry import Shape
from ngff_core.kernels.methods import kernel_for
from ngff_core.lazy.as_plan import Pyramid
from ngff_core.lazy.cutting import box_shape
from ngff_core.lazy.progress import NgffProgressCallback, Progress
from ngff_core.memory import release_memory
from ngff_core.plan.projection import Remote, project
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import open_level, region_samples, store_region
from ngff_core.storage import ObjectStore, is_remote

_BOX_SHARE = 4
"""Work on one box of a dask array takes at most this part of ``config.memory_target``."""


def regions_in_flight(plan: PyramidPlan, target: ObjectStore, workers: int) -> int:
    """Regions in flight within ``config.memory_target``: at most one for each worker."""
    unit = plan.levels[0].write_unit
    # The box that regions are taken from has its own share.
    limit = config.memory_target - config.memory_target // _BOX_SHARE
    try:
        projection = project(
            plan,
            unit,
            cached=False,
            workers=workers,
            memory_limit=limit,
            stream=False,
            remote=Remote(target=is_remote(target.uri)),
        )
    except MemoryLimitError:
        return 1
    return projection.in_flight


def write_level(
    target: ObjectStore,
    pyramid: Pyramid,
    level: LevelPlan,
    executor: Executor,
    in_flight: int,
    progress: Progress,
) -> None:
    """Write all regions of a level; the parent of a derived level must be stored already."""
    plan = pyramid.plan
    count = _region_counter(level, len(plan.levels), progress)
    encoder = LevelEncoder(plan, level)

    def store(parent: ArrayLike, origin: Shape, index: int) -> None:
        kernel = None if level.parent is None else kernel_for(plan.method)
        samples = _samples(parent, origin, level, index, kernel)
        store_region(target, encoder, level, index, samples)
        release_memory()

    if level.parent is None:
        for origin, part, indices in _parts(pyramid, level):
            run_bounded(indices, partial(store, part, origin), executor, in_flight, count)
    else:
        above = open_level(target, plan, plan.levels[level.parent])
        work = partial(store, above, (0,) * len(level.shape))
        run_bounded(range(level.regions), work, executor, in_flight, count)


def _samples(
    parent: ArrayLike, origin: Shape, level: LevelPlan, index: int, kernel: Any
) -> BlockedArray:
    if not any(origin):
        return region_samples(parent, level, index, kernel)
    region = level.region(index)
    pairs = zip(region.start, region.stop, origin, strict=True)
    block = np.asarray(parent[tuple(slice(a - o, b - o) for a, b, o in pairs)])
    return BlockedArray.of(region, block)


def _parts(pyramid: Pyramid, level: LevelPlan) -> Iterator[tuple[Shape, ArrayLike, list[int]]]:
    """The samples of an array box by box: its origin, its samples, and the regions in it.

    A dask array is computed in boxes as large as memory allows. Region by region, a block of
    its graph that several regions need would be computed for each of them.
    """
    data: Any = pyramid.arrays[level.index]
    if not isinstance(data, da.Array):
        yield (0,) * len(level.shape), data, list(range(level.regions))
        return
    dims = pyramid.plan.image.dims
    sizes = dict(zip(dims, level.shape, strict=True))
    along = "z" if "z" in dims else max(("y", "x"), key=sizes.__getitem__)
    shape = box_shape(data, dims, level.block, along, config.memory_target / _BOX_SHARE)
    for origin, indices in _regions_by_box(level, shape).items():
        stop = (min(o + p, n) for o, p, n in zip(origin, shape, level.shape, strict=True))
        box = tuple(slice(a, b) for a, b in zip(origin, stop, strict=True))
        yield origin, np.asarray(data[box]), indices


def _regions_by_box(level: LevelPlan, box: Shape) -> dict[Shape, list[int]]:
    found: dict[Shape, list[int]] = {}
    for index in range(level.regions):
        start = level.region(index).start
        origin = tuple(a // p * p for a, p in zip(start, box, strict=True))
        found.setdefault(origin, []).append(index)
    return found


def _region_counter(level: LevelPlan, levels: int, progress: Progress) -> Any:
    """The function to call after each region of a level."""
    if not isinstance(progress, NgffProgressCallback):
        return lambda _: None
    progress.add_callback_task(f"Writing level {level.index + 1} of {levels}")
    # Before any region, so that a computation of dask does not count its tasks in this bar.
    progress.update_callback_task_completed(0, level.regions)
    done = iter(range(1, level.regions + 1))
    return lambda _: progress.update_callback_task_completed(next(done), level.regions)
