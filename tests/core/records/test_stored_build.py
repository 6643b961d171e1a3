"""A stored build: target, build folder, plan and ledgers, read together."""

from __future__ import annotations

import dataclasses

import pytest

from ngff_core.errors import StoredDataError, TargetNotFoundError
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectStore
from tests.support.plans import plan_of

PLAN = plan_of("yx", (300, 300), scale_factors=[2, 4], chunks=64, shards=128)


@pytest.fixture
def beside(store: ObjectStore) -> ObjectStore:
    """The build folder."""
    return store.child("image.build")


def test_a_build_that_begins_has_nothing_stored(store: ObjectStore, beside: ObjectStore) -> None:
    """A ledger without receipts for each level; nothing is read or written."""
    build = StoredBuild.begin(store, beside, PLAN)
    assert (build.target, build.beside, build.plan) == (store, beside, PLAN)
    assert [level for level, _ in build.levels] == list(PLAN.levels)
    assert [ledger for _, ledger in build.levels] == list(build.ledgers)
    assert [ledger.total for ledger in build.ledgers] == [level.regions for level in PLAN.levels]
    assert not any(ledger.receipts for ledger in build.ledgers)
    assert not build.complete
    assert store.objects() == {}


def finish(build: StoredBuild) -> None:
    """Record every region of every level."""
    for level, ledger in build.levels:
        for region in range(level.regions):
            ledger.record(Receipt(region, level.index, ()))
        ledger.finish()


def test_a_build_is_loaded_with_its_plan_and_receipts(
    store: ObjectStore, beside: ObjectStore
) -> None:
    """Each ledger has the receipts of its own level."""
    beside.write("plan.json", PLAN.to_json())
    finish(StoredBuild.begin(store, beside, PLAN))
    build = StoredBuild.load(store, beside)
    assert build.plan == PLAN
    assert build.complete
    for level, ledger in build.levels:
        assert {one.samples_crc32c for one in ledger.receipts.values()} == {level.index}
        assert len(ledger.receipts) == level.regions


def test_a_build_is_complete_when_every_level_is(store: ObjectStore, beside: ObjectStore) -> None:
    """One level that lacks a receipt is enough."""
    finish(StoredBuild.begin(store, beside, PLAN))
    assert StoredBuild.load(store, beside, PLAN).complete
    beside.delete_tree("ledger/1")
    build = StoredBuild.load(store, beside, PLAN)
    assert [ledger.complete for ledger in build.ledgers] == [True, False, True]
    assert not build.complete


def test_a_plan_that_is_known_is_not_read(store: ObjectStore, beside: ObjectStore) -> None:
    """There is none here."""
    assert StoredBuild.load(store, beside, PLAN).plan is PLAN
    with pytest.raises(TargetNotFoundError):
        StoredBuild.load(store, beside)


def test_ledgers_of_another_plan_are_refused(store: ObjectStore, beside: ObjectStore) -> None:
    """Their receipts say nothing of this plan's regions."""
    finish(StoredBuild.begin(store, beside, PLAN))
    other = dataclasses.replace(PLAN, method="itkwasm_bin_shrink")
    with pytest.raises(StoredDataError, match="belongs to another plan"):
        StoredBuild.load(store, beside, other)
