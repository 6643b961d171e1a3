"""Which recorded objects are in the store, and which are missing or have another size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import batched, product

from ngff_core.errors import UnlistableError
from ngff_core.geometry import grid_shape
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectInfo, look_up, retrying

NO_RECEIPT = "a region has no receipt"

LISTED_TOGETHER = 100_000
"""A pyramid of up to so many objects is listed at once, a larger one by folders."""

_OBJECTS_PER_FOLDER = 1000
"""A level is listed by folders only where each has more objects than this: one request each."""

_RECEIPTS_AT_ONCE = 1000
"""Receipts whose objects are looked up together where the store does not list."""


@dataclass(frozen=True)
class Finding:
    """A difference between the store and what plan and ledger say.

    ``key`` names the object, ``what`` is the difference. ``level`` and ``region`` are numbers;
    None where the object belongs to no region.
    """

    key: str
    what: str
    level: int | None = None
    region: int | None = None


def find_lost(build: StoredBuild) -> Iterator[Finding]:
    """Objects that the ledgers record and the target lacks or has with another size.

    The target is listed, or asked for each object where it cannot be listed. A large level is
    listed one folder after another, so no more than one folder's listing is in memory.
    """
    if not any(ledger.receipts for ledger in build.ledgers):
        return
    try:
        yield from _lost_by_listing(build)
    except UnlistableError:
        # The first listing raises it, so nothing was yielded before.
        for level, ledger in build.levels:
            for receipts in batched(ledger.receipts.values(), _RECEIPTS_AT_ONCE):
                objects = look_up(build.target, recorded_keys(level, receipts))
                yield from _differences(level, receipts, objects)


def _lost_by_listing(build: StoredBuild) -> Iterator[Finding]:
    if sum(level.objects for level in build.plan.levels) <= LISTED_TOGETHER:
        yield from _all_differences(build, retrying(build.target.objects))
        return
    for level, ledger in build.levels:
        for regions, folders in _folders(build.plan, level):
            listed: dict[str, ObjectInfo] = {}
            for folder in folders if ledger.receipts else ():
                listed |= retrying(build.target.objects, f"{level.path}/{folder}".rstrip("/"))
            receipts = ledger.receipts.between(regions.start, regions.stop)
            yield from _differences(level, receipts, listed)


def _folders(plan: PyramidPlan, level: LevelPlan) -> Iterator[tuple[range, list[str]]]:
    """Runs of regions, each with the folders that hold all their objects and no others."""
    grid = grid_shape(level.shape, level.block)
    objects = grid_shape(level.shape, level.write_unit)
    axis = next((axis for axis, n in enumerate(grid) if n > 1), 0)
    # The last axis has objects, not folders.
    if (
        level.objects <= max(LISTED_TOGETHER, grid[axis] * _OBJECTS_PER_FOLDER)
        or axis == len(grid) - 1
    ):
        yield range(level.regions), [""]
        return
    run = level.regions // grid[axis]
    per_region = level.block[axis] // level.write_unit[axis]
    before = [range(n) for n in objects[:axis]]
    for row in range(grid[axis]):
        stop = min((row + 1) * per_region, objects[axis])
        positions = product(*before, range(row * per_region, stop))
        yield range(row * run, (row + 1) * run), [plan.object_key(at) for at in positions]


def find_missing(build: StoredBuild, objects: Mapping[str, ObjectInfo]) -> list[Finding]:
    """Regions without a receipt, and recorded objects that a listing lacks or has otherwise.

    ``objects`` are those of the target, by key.
    """
    return [*_without_receipt(build), *_all_differences(build, objects)]


def _without_receipt(build: StoredBuild) -> Iterator[Finding]:
    for level, ledger in build.levels:
        for region in ledger.remaining:
            yield Finding(level.path, NO_RECEIPT, level.index, region)


def _all_differences(build: StoredBuild, objects: Mapping[str, ObjectInfo]) -> Iterator[Finding]:
    for level, ledger in build.levels:
        yield from _differences(level, ledger.receipts.values(), objects)


def _differences(
    level: LevelPlan, receipts: Iterable[Receipt], objects: Mapping[str, ObjectInfo]
) -> Iterator[Finding]:
    for receipt in receipts:
        for recorded in receipt.objects:
            key = f"{level.path}/{recorded.key}"
            info = objects.get(key)
            if info is None:
                yield Finding(key, "missing", level.index, receipt.region)
            elif info.size != recorded.size:
                what = f"{info.size} bytes, {recorded.size} recorded"
                yield Finding(key, what, level.index, receipt.region)


def recorded_keys(level: LevelPlan, receipts: Iterable[Receipt]) -> Iterator[str]:
    """Keys of the objects that receipts record, below the target."""
    for receipt in receipts:
        yield from (f"{level.path}/{recorded.key}" for recorded in receipt.objects)
