"""Which recorded objects are in the store, and which are missing or have another size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched, product

from ngff_core.errors import UnlistableError
from ngff_core.geometry import grid_shape
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.records.ledger import Ledger, Receipt
from ngff_core.storage import ObjectInfo, ObjectStore, look_up, retrying

NO_RECEIPT = "a region has no receipt"


LISTED_TOGETHER = 100_000
"""A pyramid of so many objects is listed as a whole, a larger one by folders."""


_FOLDER = 1000


_LOOKS = 1000


@dataclass(frozen=True)
class Finding:
    """One thing that is not as plan and ledger say; ``key`` names the object."""

    key: str
    what: str
    level: int | None = None
    region: int | None = None


def find_lost(
    store: ObjectStore, plan: PyramidPlan, ledgers: Sequence[Ledger]
) -> Iterator[Finding]:
    """Objects that the ledger records and the store does not have so.

    It is listed, or where that cannot be, asked for each object. A large level is listed by
    its folders, one after another, so that of a petabyte's objects no more are at hand than
    those of one folder.
    """
    if not any(ledger.receipts for ledger in ledgers):
        return
    try:
        yield from _listed_lost(store, plan, ledgers)
    except UnlistableError:
        # Told by the first listing, so nothing was found before.
        for level, ledger in zip(plan.levels, ledgers, strict=True):
            for receipts in batched(ledger.receipts.values(), _LOOKS):
                yield from _sizes_of(level, receipts, look_up(store, _recorded(level, receipts)))


def _listed_lost(
    store: ObjectStore, plan: PyramidPlan, ledgers: Sequence[Ledger]
) -> Iterator[Finding]:
    if sum(level.objects for level in plan.levels) <= LISTED_TOGETHER:
        yield from _sizes(plan, ledgers, retrying(store.objects))
        return
    for level, ledger in zip(plan.levels, ledgers, strict=True):
        for regions, folders in _folders(plan, level):
            listed: dict[str, ObjectInfo] = {}
            for folder in folders if ledger.receipts else ():
                listed |= retrying(store.objects, f"{level.path}/{folder}".rstrip("/"))
            receipts = ledger.receipts.between(regions.start, regions.stop)
            yield from _sizes_of(level, receipts, listed)


def _folders(plan: PyramidPlan, level: LevelPlan) -> Iterator[tuple[range, list[str]]]:
    """Runs of regions, and the folders that hold their objects and no others'."""
    grid = grid_shape(level.shape, level.block)
    objects = grid_shape(level.shape, level.write_unit)
    axis = next((axis for axis, n in enumerate(grid) if n > 1), 0)
    # Along the last axis there are no folders, only objects.
    if level.objects <= max(LISTED_TOGETHER, grid[axis] * _FOLDER) or axis == len(grid) - 1:
        yield range(level.regions), [""]
        return
    run = level.regions // grid[axis]
    per = level.block[axis] // level.write_unit[axis]
    before = [range(n) for n in objects[:axis]]
    for row in range(grid[axis]):
        places = product(*before, range(row * per, min((row + 1) * per, objects[axis])))
        yield range(row * run, (row + 1) * run), [plan.object_key(place) for place in places]


def find_missing(
    plan: PyramidPlan, ledgers: Sequence[Ledger], objects: Mapping[str, ObjectInfo]
) -> list[Finding]:
    """What plan and ledger record and a listing of the store does not show so."""
    return [*_receipts(plan, ledgers), *_sizes(plan, ledgers, objects)]


def _receipts(plan: PyramidPlan, ledgers: Sequence[Ledger]) -> Iterator[Finding]:
    for level, ledger in zip(plan.levels, ledgers, strict=True):
        for region in ledger.remaining:
            yield Finding(level.path, NO_RECEIPT, level.index, region)


def _sizes(
    plan: PyramidPlan, ledgers: Sequence[Ledger], objects: Mapping[str, ObjectInfo]
) -> Iterator[Finding]:
    for level, ledger in zip(plan.levels, ledgers, strict=True):
        yield from _sizes_of(level, ledger.receipts.values(), objects)


def _sizes_of(
    level: LevelPlan, receipts: Iterable[Receipt], objects: Mapping[str, ObjectInfo]
) -> Iterator[Finding]:
    for receipt in receipts:
        for recorded in receipt.objects:
            key = f"{level.path}/{recorded.key}"
            found = objects.get(key)
            if found is None:
                yield Finding(key, "missing", level.index, receipt.region)
            elif found.size != recorded.size:
                what = f"{found.size} bytes, {recorded.size} recorded"
                yield Finding(key, what, level.index, receipt.region)


def _recorded(level: LevelPlan, receipts: Iterable[Receipt]) -> Iterator[str]:
    for receipt in receipts:
        yield from (f"{level.path}/{recorded.key}" for recorded in receipt.objects)
