"""The inventory: what plan and ledgers record, and what the store lacks or has otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ngff_core.errors import UnlistableError
from ngff_core.pyramid import inventory
from ngff_core.pyramid.inventory import NO_RECEIPT, Finding, find_lost, find_missing, recorded_keys
from ngff_core.records.ledger import Receipt, StoredObject
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectStore, open_store
from tests.support.plans import plan_of


@pytest.fixture
def store(memory_filesystem: object) -> ObjectStore:
    """An empty store in memory."""
    return open_store("memory://image.ome.zarr")


def recorded(store: ObjectStore, shape: tuple[int, ...] = (13, 10)) -> StoredBuild:
    """A build of two levels whose objects of a byte are all stored and recorded."""
    plan = plan_of("yx", shape, chunks=2, scale_factors=[2], shards=None)
    levels = (replace(level, shards=None, block=(4, 2)) for level in plan.levels)
    build = StoredBuild.begin(store, store, replace(plan, levels=tuple(levels)))
    for level, ledger in build.levels:
        for region in range(level.regions):
            keys = map(build.plan.object_key, level.object_positions(level.region(region)))
            objects = tuple(StoredObject(key, 1, 0) for key in keys)
            for one in objects:
                store.write(f"{level.path}/{one.key}", b"x")
            ledger.record(Receipt(region, 0, objects))
    return build


HARM: dict[str, tuple[Finding, ...]] = {
    "none": (),
    "gone": (Finding("0/c/2/1", "missing", 0, 6),),
    "longer": (Finding("1/c/0/0", "6 bytes, 1 recorded", 1, 0),),
    "both": (
        Finding("0/c/2/1", "missing", 0, 6),
        Finding("1/c/0/0", "6 bytes, 1 recorded", 1, 0),
    ),
}


def harm(store: ObjectStore, how: str) -> None:
    """Damage objects of the store."""
    if how in ("gone", "both"):
        store.delete("0/c/2/1")
    if how in ("longer", "both"):
        store.write("1/c/0/0", b"longer")


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("listing", ["at once", "by folders", "none"])
def test_lost_objects_are_found_with_level_and_region(
    store: ObjectStore, how: str, listing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the store is looked at; objects of other builds are not looked for."""
    build = recorded(store)
    store.write("0/c/99/0", b"not of this build")
    harm(store, how)
    if listing == "by folders":
        monkeypatch.setattr(inventory, "LISTED_TOGETHER", 0)
        monkeypatch.setattr(inventory, "_OBJECTS_PER_FOLDER", 0)
    elif listing == "none":
        monkeypatch.setattr(inventory, "_RECEIPTS_AT_ONCE", 3)
        monkeypatch.setattr(store, "objects", refuse)
    assert tuple(find_lost(build)) == HARM[how]


def refuse(prefix: str = "") -> Any:
    """A store that does not list."""
    raise UnlistableError("not to us")


def test_without_receipts_nothing_is_asked(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that has just begun has nothing to lose."""
    build = StoredBuild.begin(store, store, plan_of("yx", (64, 64), scale_factors=[2]))
    monkeypatch.setattr(store, "objects", None)
    assert list(find_lost(build)) == []


def test_a_small_pyramid_takes_one_listing(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one takes one for each folder of a row of regions, and no other objects."""
    build = recorded(store)
    listed: list[str] = []
    objects = store.objects
    monkeypatch.setattr(
        store, "objects", lambda prefix="": (listed.append(prefix), objects(prefix))[1]
    )
    assert list(find_lost(build)) == []
    assert listed == [""]
    listed.clear()
    together = sum(level.objects for level in build.plan.levels)
    monkeypatch.setattr(inventory, "LISTED_TOGETHER", together)
    assert list(find_lost(build)) == []
    assert listed == [""]
    listed.clear()
    monkeypatch.setattr(inventory, "LISTED_TOGETHER", together - 1)
    assert list(find_lost(build)) == []
    assert listed == ["0", "1"]
    listed.clear()
    monkeypatch.setattr(inventory, "LISTED_TOGETHER", 0)
    monkeypatch.setattr(inventory, "_OBJECTS_PER_FOLDER", 0)
    assert list(find_lost(build)) == []
    rows = [-(-level.shape[0] // 2) for level in build.plan.levels]
    assert listed == [
        f"{index}/c/{row}" for index, count in enumerate(rows) for row in range(count)
    ]


def test_levels_without_receipts_are_not_listed(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build under way has none of its later levels."""
    build = recorded(store)
    build.ledgers[0].forget()
    listed: list[str] = []
    monkeypatch.setattr(inventory, "LISTED_TOGETHER", 0)
    objects = store.objects
    monkeypatch.setattr(
        store, "objects", lambda prefix="": (listed.append(prefix), objects(prefix))[1]
    )
    assert list(find_lost(build)) == []
    assert listed == ["1"]


def test_regions_without_a_receipt_come_first(store: ObjectStore) -> None:
    """Then the objects that are missing, and those of another size."""
    build = recorded(store)
    harm(store, "both")
    build.ledgers[1].drop([1])
    assert find_missing(build, store.objects()) == [
        Finding("1", NO_RECEIPT, 1, 1),
        *HARM["both"],
    ]


def test_keys_are_those_below_the_target(store: ObjectStore) -> None:
    """In the order of the receipts and of their objects."""
    build = recorded(store)
    level, ledger = build.levels[1]
    assert list(recorded_keys(level, ledger.receipts.between(0, 2))) == [
        "1/c/0/0",
        "1/c/1/0",
        "1/c/0/1",
        "1/c/1/1",
    ]
