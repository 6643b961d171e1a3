"""The build folder: its names on disk, which other versions and machines rely on, and its plan."""

from __future__ import annotations

import pytest

from ngff_core.errors import StoredDataError, TargetNotFoundError
from ngff_core.records import build_folder
from ngff_core.records.build_folder import parse_plan, read_plan, target_stores
from ngff_core.storage import ObjectStore
from tests.support.plans import plan_of

PLAN = plan_of("yx", (64, 64), scale_factors=[2])

NAMES = {
    "plan.json": build_folder.PLAN_KEY,
    "lease/000001.json": build_folder.lease_key(1),
    "lease/1234567.json": build_folder.lease_key(1_234_567),
    "ledger": build_folder.LEDGERS,
    "ledger/cache": build_folder.ledger_folder(build_folder.CACHE),
    "ledger/2/complete.jsonl": build_folder.complete_key("2"),
    "ledger/2/complete": build_folder.parts_folder("2"),
    "ledger/2/complete/000011.jsonl": build_folder.part_key("2", 11),
    "ledger/2/segments": build_folder.segments_folder("2"),
    "ledger/2/segments.json": build_folder.segments_index_key("2"),
    "cache/zarr.json": build_folder.CACHE_DOCUMENT,
    "cache/c/0/12/3": build_folder.cache_chunk_key((0, 12, 3)),
    "halos-1": build_folder.halos_folder(1),
    "halos-1/begun.json": build_folder.halos_mark_key(1),
    "halos-1/4/0/11": build_folder.halo_key(1, (4, 0, 11)),
    "replaced": build_folder.REPLACED,
    "replacing.json": build_folder.REPLACING_KEY,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_stay_as_they_are_on_disk(name: str) -> None:
    """A build that another version began is found again by them."""
    assert NAMES[name] == name


@pytest.mark.parametrize(
    ("target", "folder"),
    [
        ("/data/a.ome.zarr", "/data/a.ome.zarr.build"),
        ("s3://bucket/a", "s3://bucket/a.build"),
    ],
)
def test_the_build_folder_stands_beside_the_target(target: str, folder: str) -> None:
    """With the name of the target and a suffix."""
    assert build_folder.folder_of(target) == folder
    stores = target_stores(target, {"anon": True} if "://" in target else None)
    assert [store.uri for store in stores] == [target, folder]
    assert folder.removesuffix(build_folder.SUFFIX) == target


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("000000.jsonl", (0, 0)),
        ("000012.jsonl", (12, 12)),
        ("000000-000063.jsonl", (0, 63)),
        ("1000000-1000001.jsonl", (1_000_000, 1_000_001)),
    ],
)
def test_a_segment_is_named_by_the_numbers_it_stands_for(name: str, ends: tuple[int, int]) -> None:
    """One number, or the first and the last of those that were joined."""
    assert build_folder.segment_name(*ends) == name
    assert build_folder.segment_ends(name) == ends


@pytest.mark.parametrize("name", ["000000.jsonl.1f.partial", "000000.json", "000000", "notes.txt"])
def test_other_names_are_no_segments(name: str) -> None:
    """What a killed process left of an unfinished write is among them."""
    assert build_folder.segment_ends(name) is None


def test_objects_of_each_kind_are_recognised() -> None:
    """Clean-up removes caches and halo strips, those of older versions too, and no ledger."""
    keys = [*NAMES, "borders-1/0/0", "cached", "leases", "halos", "ledger/cache/complete.jsonl"]
    assert {key for key in keys if build_folder.is_lease(key)} == {
        "lease/000001.json",
        "lease/1234567.json",
    }
    assert {key for key in keys if build_folder.is_cache(key)} == {
        "cache/zarr.json",
        "cache/c/0/12/3",
    }
    assert {key for key in keys if build_folder.is_halo(key)} == {
        "halos-1",
        "halos-1/begun.json",
        "halos-1/4/0/11",
        "borders-1/0/0",
    }


def test_the_plan_is_read_back(store: ObjectStore) -> None:
    """As it was stored."""
    store.write("plan.json", PLAN.to_json())
    assert read_plan(store, store) == PLAN


def test_a_target_without_a_plan_has_no_build(store: ObjectStore) -> None:
    """The error names the target, and where the plan would be."""
    with pytest.raises(TargetNotFoundError) as caught:
        read_plan(store, store.child("beside"))
    assert str(caught.value) == (
        f"{store.uri} has no build: there is no {store.child('beside').uri}/plan.json"
    )


def test_a_plan_that_cannot_be_read_is_named(store: ObjectStore) -> None:
    """With what is wrong and what to do."""
    with pytest.raises(StoredDataError) as caught:
        parse_plan(store, b"{")
    message = str(caught.value)
    assert message.startswith(f"{store.uri}/plan.json: the plan cannot be read: ")
    assert message.endswith("; overwrite the target to build it again")
