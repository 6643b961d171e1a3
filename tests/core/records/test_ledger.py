"""The ledger: a region with a receipt is done, and damage is reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, StoredDataError, UnlistableError
from ngff_core.records.ledger import SHORT_SEGMENTS, Ledger, Receipt, StoredObject
from ngff_core.storage import Bucket, ObjectInfo, ObjectStore, open_store

DIGEST = "d" * 64


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments are written when a test says so."""
    monkeypatch.setattr(config, "receipt_seconds", 1e9)


def receipt(region: int, checksum: int = 7) -> Receipt:
    """A receipt of two objects."""
    objects = (StoredObject(f"c/{region}/0", 100, 2**32 - 1), StoredObject(f"c/{region}/1", 0, 0))
    return Receipt(region, checksum, objects)


def ledger(store: ObjectStore, total: int = 5, digest: str = DIGEST) -> Ledger:
    """The ledger of level 1, as a new process finds it."""
    return Ledger(store, "1", digest, total).load()


def test_a_new_ledger_has_every_region_to_do(store: ObjectStore) -> None:
    """And loading it writes nothing."""
    found = ledger(store)
    assert (found.receipts, found.complete, found.remaining) == ({}, False, [0, 1, 2, 3, 4])
    assert store.objects() == {}


def test_receipts_come_back_as_they_were_taken(store: ObjectStore) -> None:
    """In numbered segments; a receipt that was not written is lost, and its region to do again."""
    first = ledger(store)
    first.record(receipt(3))
    first.record(receipt(0))
    first.flush()
    first.flush()
    first.record(receipt(4))
    first.flush()
    first.record(receipt(1))
    assert first.remaining == [2]
    assert list(store.objects()) == [
        "ledger/1/segments/000000.jsonl",
        "ledger/1/segments/000001.jsonl",
    ]
    again = ledger(store)
    assert again.receipts == {i: receipt(i) for i in (0, 3, 4)}
    assert again.remaining == [1, 2]
    assert not again.complete


def test_receipts_are_written_every_few_seconds(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object per some seconds of work, and not one per region."""
    now = [100.0]
    monkeypatch.setattr("ngff_core.records.ledger.time.monotonic", lambda: now[0])
    monkeypatch.setattr(config, "receipt_seconds", 2.0)
    found = ledger(store, total=100)
    for region in range(100):
        now[0] += 0.5
        found.record(receipt(region))
    # One each 2.5 s, from the first receipt that waits; the last waits for `finish`.
    assert len(store.objects()) == 19


def test_a_resumed_ledger_continues_with_the_next_segment(store: ObjectStore) -> None:
    """The earlier run's receipts stay."""
    first = ledger(store)
    first.record(receipt(0))
    first.flush()
    second = ledger(store)
    second.record(receipt(1))
    second.flush()
    assert ledger(store).remaining == [2, 3, 4]
    assert len(store.objects()) == 2


def finished(store: ObjectStore, order: list[int]) -> Ledger:
    found = ledger(store, len(order))
    for region in order:
        found.record(receipt(region))
        found.flush()
    found.finish()
    return found


@given(st.permutations(range(5)))
def test_two_builds_of_one_plan_end_with_equal_ledgers(order: list[int]) -> None:
    """In whatever order their regions were done."""
    stores = [open_store(f"memory://equal-{i}") for i in range(2)]
    try:
        for store, regions in zip(stores, (list(range(5)), order), strict=True):
            assert finished(store, regions).complete
        documents = [store.read("ledger/1/complete.jsonl") for store in stores]
        assert documents[0] == documents[1]
        assert list(stores[1].objects()) == ["ledger/1/complete.jsonl"]
    finally:
        for store in stores:
            store.delete_tree()


def test_a_finished_phase_is_one_document_and_one_read(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its segments are removed, and loading it reads nothing else."""
    finished(store, [4, 2, 0, 1, 3])
    reads = []
    read = store.read
    monkeypatch.setattr(store, "read", lambda key: (reads.append(key), read(key))[1])
    again = ledger(store)
    assert again.complete
    assert again.receipts == {i: receipt(i) for i in range(5)}
    assert reads == ["ledger/1/complete.jsonl"]
    before = store.objects()
    again.finish()
    assert store.objects() == before


def test_a_kill_between_compaction_and_clean_up_loses_nothing(store: ObjectStore) -> None:
    """Segments that outlive their document do no harm."""
    finished(store, [0, 1, 2, 3, 4])
    store.write("ledger/1/segments/000000.jsonl", b"left over")
    assert ledger(store).complete


def test_a_phase_with_regions_left_cannot_be_finished(store: ObjectStore) -> None:
    """The error counts them, and nothing is compacted."""
    found = ledger(store)
    found.record(receipt(2))
    found.flush()
    with pytest.raises(StoredDataError, match="4 regions have no receipt"):
        found.finish()
    assert list(store.objects()) == ["ledger/1/segments/000000.jsonl"]


@pytest.mark.parametrize("where", ["segments/000000.jsonl", "complete.jsonl"])
@pytest.mark.parametrize(
    "damage",
    [
        "torn",
        "empty",
        "no json",
        "a list",
        "a string",
        "no header",
        "no objects",
        "objects of another kind",
        "a word for a number",
        "a number of no checksum",
        "an object of four parts",
        "not utf-8",
    ],
)
def test_damage_is_reported_with_the_objects_name_and_what_to_do(
    store: ObjectStore, where: str, damage: str
) -> None:
    """A damaged receipt is never taken for a done region."""
    found = ledger(store, total=1)
    found.record(receipt(0))
    found.flush()
    if where == "complete.jsonl":
        found.finish()
    key = f"ledger/1/{where}"
    whole = store.read(key)
    assert whole is not None
    header, row = whole.splitlines()
    fields = json.loads(row)
    without = {k: v for k, v in fields.items() if k != "objects"}
    store.write(
        key,
        {
            "torn": whole[:-20],
            "empty": b"",
            "no json": b"<html>502</html>\n",
            "a list": b"[1]\n",
            "a string": b'"plan"\n',
            "no header": row,
            "no objects": header + b"\n" + json.dumps(without).encode(),
            "objects of another kind": header
            + b"\n"
            + row.replace(b"[[", b'"[[').replace(b"]]", b']]"'),
            "a word for a number": header
            + b"\n"
            + json.dumps(fields | {"samples": "many"}).encode(),
            "a number of no checksum": header
            + b"\n"
            + json.dumps(fields | {"samples": 2**32}).encode(),
            "an object of four parts": header + b"\n" + row.replace(b"]]", b", 1]]"),
            "not utf-8": header + b"\n\xff\xfe",
        }[damage],
    )
    with pytest.raises(StoredDataError, match=r"is damaged .* remove that object") as caught:
        ledger(store, total=1)
    assert f"{store.uri}/{key}" in str(caught.value)


def test_a_ledger_of_another_plan_is_not_ours(store: ObjectStore) -> None:
    """Its receipts say nothing of this plan's regions."""
    finished(store, [0, 1, 2, 3, 4])
    with pytest.raises(StoredDataError, match="belongs to another plan"):
        ledger(store, digest="e" * 64)


def test_a_region_that_the_plan_does_not_have_is_damage(store: ObjectStore) -> None:
    """A receipt for region 7 of 5 cannot be right."""
    found = ledger(store, total=9)
    found.record(receipt(7))
    found.flush()
    with pytest.raises(StoredDataError):
        ledger(store, total=5)


def test_the_second_of_two_processes_that_write_a_segment_stops(store: ObjectStore) -> None:
    """It was taken for dead: it must not continue to build."""
    one, other = ledger(store), ledger(store)
    one.record(receipt(0, checksum=1))
    other.record(receipt(0, checksum=2))
    one.flush()
    with pytest.raises(LeaseLostError, match=r"000000.jsonl was written by another process"):
        other.flush()
    assert ledger(store).receipts[0].samples_crc32c == 1


def test_phases_have_ledgers_of_their_own(store: ObjectStore) -> None:
    """Level 1's receipts are not level 10's; forgetting one leaves the other."""
    for phase in ("1", "10", "cache"):
        found = Ledger(store, phase, DIGEST, 1).load()
        assert found.remaining == [0]
        found.record(receipt(0))
        found.flush()
    forgotten = Ledger(store, "1", DIGEST, 1).load()
    forgotten.forget()
    assert forgotten.remaining == [0]
    assert Ledger(store, "1", DIGEST, 1).load().remaining == [0]
    assert Ledger(store, "10", DIGEST, 1).load().remaining == []


def long_receipt(region: int, samples: int = 1) -> Receipt:
    """A receipt as of a shard."""
    return Receipt(region, samples, (StoredObject(f"c/{region}", 30_000_000, 2**32 - region - 1),))


def test_segments_are_joined_so_that_a_resume_reads_few(store: ObjectStore) -> None:
    """However long a build takes; the same receipts are read back."""
    found = ledger(store, total=140)
    for region in range(140):
        found.record(long_receipt(region))
        found.flush()
        assert len(store.objects()) <= SHORT_SEGMENTS
    again = ledger(store, total=140)
    assert again.receipts == {region: long_receipt(region) for region in range(140)}
    again.finish()
    assert list(store.objects()) == ["ledger/1/complete.jsonl"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=40), st.data())
def test_the_latest_receipt_of_a_region_counts(
    taken: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Also where a kill left segments beside the one that they were joined in."""
    store, killed = open_store("memory://joined"), open_store("memory://killed")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ngff_core.records.ledger.SHORT_SEGMENTS", 4)
            found = ledger(store, total=10)
            for region, samples in taken:
                found.record(long_receipt(region, samples))
                found.flush()
                for key in store.objects():
                    killed.write(key, store.read(key) or b"")
        for key in set(killed.objects()) - set(store.objects()):
            if data.draw(st.booleans()):
                killed.delete(key)
        latest = {region: long_receipt(region, samples) for region, samples in taken}
        assert ledger(store, total=10).receipts == latest
        assert ledger(killed, total=10).receipts == latest
    finally:
        store.delete_tree()
        killed.delete_tree()


def test_a_large_level_is_finished_in_parts(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a bounded number of receipts; the document that says so comes last."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    found = finished(store, [9, 0, 8, 1, 7, 2, 6, 3, 5, 4])
    assert list(store.objects()) == [
        "ledger/1/complete.jsonl",
        *(f"ledger/1/complete/{part:06}.jsonl" for part in range(3)),
    ]
    again = ledger(store, total=10)
    assert again.complete
    assert again.receipts == found.receipts == {i: receipt(i) for i in range(10)}
    again.drop([3, 9])
    lost = ledger(store, total=10)
    assert (lost.complete, lost.remaining) == (False, [3, 9])
    assert not any("complete" in key for key in store.objects())


def test_the_regions_of_a_removed_part_are_built_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the message about a damaged one says; what is built then survives another kill."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    finished(store, list(range(10)))
    store.delete("ledger/1/complete/000001.jsonl")
    found = ledger(store, total=10)
    assert (found.complete, found.remaining) == (False, [4, 5, 6, 7])
    found.record(receipt(5))
    found.flush()
    assert ledger(store, total=10).remaining == [4, 6, 7]


def test_a_long_document_is_read_in_batches(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at the ends of lines, wherever those are."""
    finished(store, list(range(20)))
    for batch in (1, 150, 151, 2**20):
        monkeypatch.setattr("ngff_core.records.ledger_documents._BATCH_BYTES", batch)
        assert ledger(store, total=20).receipts == {i: receipt(i) for i in range(20)}


class Unlisted(Bucket):
    """A store whose listings are refused."""

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        raise UnlistableError(f"{self.uri}/{prefix} cannot be listed")


@pytest.fixture
def unlisted(memory_filesystem: Any) -> tuple[ObjectStore, ObjectStore]:
    """A store that does not list, and the same as its owner sees it."""
    owner = open_store("memory://unlisted")
    assert isinstance(owner, Bucket)
    return Unlisted(owner._fs, owner.root, owner.uri), owner


def test_where_nothing_is_listed_an_index_has_the_names(
    unlisted: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed, joined, finished and forgotten, to the same end as elsewhere."""
    store, owner = unlisted
    monkeypatch.setattr("ngff_core.records.ledger.SHORT_SEGMENTS", 4)
    for region in range(9):
        found = ledger(store, total=10)
        assert found.remaining == list(range(region, 10))
        found.record(receipt(region))
        found.flush()
        assert len(owner.objects("ledger/1/segments")) < 5
    found.record(receipt(9))
    found.flush()
    found.finish()
    assert list(owner.objects()) == ["ledger/1/complete.jsonl"]
    found.drop([4])
    assert ledger(store, total=10).remaining == [4]
    found.forget()
    assert list(owner.objects()) == []


@pytest.mark.parametrize("removed", ["segments/000001.jsonl", "segments.json"])
def test_a_segment_or_the_index_may_be_removed(
    unlisted: tuple[ObjectStore, ObjectStore], removed: str
) -> None:
    """As the message about a damaged one says; the others count, and the build continues."""
    store, owner = unlisted
    for region in range(3):
        found = ledger(store)
        found.record(receipt(region))
        found.flush()
    owner.delete(f"ledger/1/{removed}")
    lost = [1] if "/" in removed else []
    again = ledger(store)
    assert again.remaining == [*lost, 3, 4]
    for region in again.remaining:
        again.record(receipt(region))
        again.flush()
    again.finish()
    assert list(owner.objects()) == ["ledger/1/complete.jsonl"]


def test_segments_that_another_builder_left_out_of_the_index_are_found(
    unlisted: tuple[ObjectStore, ObjectStore],
) -> None:
    """It was taken for dead, and wrote its own index over that of the live builder."""
    store, _ = unlisted
    late = ledger(store)
    live = ledger(store)
    for region in range(3):
        live.record(receipt(region))
        live.flush()
    late.record(receipt(0, checksum=8))
    with pytest.raises(LeaseLostError):
        late.flush()
    assert ledger(store).remaining == [3, 4]


def test_a_process_that_may_list_continues_what_others_built(
    unlisted: tuple[ObjectStore, ObjectStore],
) -> None:
    """And the other way round: what the index lacks is built again, and never in the way."""
    store, owner = unlisted
    for region, view in enumerate((store, owner, store, owner)):
        found = ledger(view)
        assert found.remaining == list(range(region, 5))
        found.record(receipt(region))
        found.flush()
    found = ledger(owner)
    found.record(receipt(4))
    found.flush()
    found.finish()
    ledger(store).tidy()
    assert list(owner.objects()) == ["ledger/1/complete.jsonl"]


def keys(store: ObjectStore) -> list[str]:
    """Names of the ledger's objects, below its folder."""
    return [key.removeprefix("ledger/1/") for key in store.objects()]


def recorded(store: ObjectStore, total: int, regions: range) -> Ledger:
    """A ledger with a segment for each of these regions."""
    found = ledger(store, total)
    for region in regions:
        found.record(receipt(region))
        found.flush()
    return found


def test_documents_stay_readable_for_other_versions(store: ObjectStore) -> None:
    """A header, then a line for each receipt, byte for byte as ever."""
    found = ledger(store, total=2)
    found.record(receipt(1))
    found.flush()
    header = f'{{"plan": "{DIGEST}", "regions": 2}}\n'
    line = '{"region": 1, "samples": 7, "objects": [["c/1/0", 100, 4294967295], ["c/1/1", 0, 0]]}\n'
    assert store.read("ledger/1/segments/000000.jsonl") == (header + line).encode()
    found.record(receipt(0))
    found.finish()
    document = (header + line.replace("1/", "0/").replace(": 1,", ": 0,") + line).encode()
    assert store.read("ledger/1/complete.jsonl") == document


def test_joined_segments_carry_their_first_and_last_number(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next segment has the next number, in this process and in a later one."""
    monkeypatch.setattr("ngff_core.records.ledger.SHORT_SEGMENTS", 4)
    found = recorded(store, 20, range(3))
    assert keys(store) == [f"segments/{n:06}.jsonl" for n in range(3)]
    found.record(receipt(3))
    found.flush()
    assert keys(store) == ["segments/000000-000003.jsonl"]
    found.record(receipt(4))
    found.flush()
    assert keys(store) == ["segments/000000-000003.jsonl", "segments/000004.jsonl"]
    again = ledger(store, 20)
    again.record(receipt(5))
    again.flush()
    assert keys(store)[1:] == ["segments/000004.jsonl", "segments/000005.jsonl"]
    again.record(receipt(6))
    again.flush()
    assert keys(store) == ["segments/000000-000006.jsonl"]
    assert ledger(store, 20).remaining == list(range(7, 20))


def test_long_segments_are_not_joined_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment of `PART` receipts stays as it is: joining it would write them over and over."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    found = recorded(store, 20, range(3))
    assert len(keys(store)) == 3
    found.record(receipt(3))
    found.flush()
    assert keys(store) == ["segments/000000-000003.jsonl"]
    for region in range(4, 7):
        found.record(receipt(region))
        found.flush()
    assert keys(store)[0] == "segments/000000-000003.jsonl"
    again = ledger(store, 20)
    again.record(receipt(7))
    again.flush()
    assert keys(store) == ["segments/000000-000003.jsonl", "segments/000004-000007.jsonl"]
    assert ledger(store, 20).remaining == list(range(8, 20))


def test_two_segments_of_a_part_together_are_joined(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few segments they are."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    found = ledger(store, 20)
    for region in range(3):
        found.record(receipt(region))
    found.flush()
    assert keys(store) == ["segments/000000.jsonl"]
    found.record(receipt(3))
    found.flush()
    assert keys(store) == ["segments/000000-000001.jsonl"]
    assert ledger(store, 20).remaining == list(range(4, 20))


def test_a_segment_has_no_more_receipts_than_a_part(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a large finished level of which some are dropped."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    found = ledger(store, 20)
    for region in range(10):
        found.record(receipt(region))
    found.flush()
    lines = [len((store.read(key) or b"").splitlines()) - 1 for key in store.objects()]
    assert lines == [4, 4, 2]
    assert ledger(store, 20).remaining == list(range(10, 20))
    for region in range(10, 20):
        found.record(receipt(region))
    found.finish()
    found.drop([7])
    lines = [len((store.read(key) or b"").splitlines()) - 1 for key in store.objects()]
    assert lines == [4, 4, 4, 4, 3]


def test_dropped_receipts_are_not_read_back(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dropped receipt is left out where its segment is joined."""
    monkeypatch.setattr("ngff_core.records.ledger.SHORT_SEGMENTS", 4)
    found = recorded(store, 9, range(3))
    found.drop([1])
    assert found.remaining == [1, *range(3, 9)]
    found.record(receipt(3))
    found.flush()
    assert ledger(store, 9).remaining == [1, *range(4, 9)]


def test_dropping_nothing_changes_nothing(store: ObjectStore) -> None:
    """A finished ledger stays finished."""
    found = finished(store, [0, 1, 2])
    before = store.objects()
    found.drop([])
    assert found.complete
    assert store.objects() == before


def test_receipts_of_a_finished_phase_can_be_replaced(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the parts that change are written, and nothing where nothing changes."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    found = finished(store, list(range(10)))
    written: list[str] = []
    write = store.write
    monkeypatch.setattr(
        store, "write", lambda key, data: (written.append(key), write(key, data))[1]
    )
    found.replace([receipt(5)])
    assert written == []
    found.replace([receipt(5, checksum=9), receipt(1)])
    assert written == ["ledger/1/complete/000001.jsonl", "ledger/1/complete.jsonl"]
    again = ledger(store, 10)
    assert again.complete
    assert again.receipts == {i: receipt(i, 9 if i == 5 else 7) for i in range(10)}


def test_a_level_of_exactly_one_part_is_one_document(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts are for longer ones only."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    finished(store, [3, 2, 1, 0])
    assert keys(store) == ["complete.jsonl"]
    assert ledger(store, 4).complete


def test_the_last_receipt_of_a_phase_waits_for_its_document(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short level has no segment at all."""
    monkeypatch.setattr(config, "receipt_seconds", 0.0)
    found = ledger(store, 2)
    found.record(receipt(1))
    assert keys(store) == ["segments/000000.jsonl"]
    assert not found.has_all_receipts
    found.record(receipt(0))
    assert keys(store) == ["segments/000000.jsonl"]
    assert found.has_all_receipts
    found.finish()
    assert keys(store) == ["complete.jsonl"]
    found.flush()
    assert keys(store) == ["complete.jsonl"]


def test_what_killed_processes_left_of_writes_is_no_segment(store: ObjectStore) -> None:
    """Unfinished files beside the segments are passed over."""
    recorded(store, 5, range(2))
    store.write("ledger/1/segments/000002.jsonl.1f.partial", b"{")
    assert ledger(store).remaining == [2, 3, 4]


def test_a_missing_segment_does_not_hide_later_ones(store: ObjectStore) -> None:
    """It was removed because it was damaged; its number is not used again."""
    recorded(store, 5, range(3))
    store.delete("ledger/1/segments/000001.jsonl")
    found = ledger(store)
    assert found.remaining == [1, 3, 4]
    found.record(receipt(1))
    found.flush()
    assert keys(store) == [f"segments/{n:06}.jsonl" for n in (0, 2, 3)]


def test_a_forgotten_ledger_begins_again(store: ObjectStore) -> None:
    """With the first segment, and without what waited to be written."""
    found = recorded(store, 5, range(2))
    found.record(receipt(2))
    found.forget()
    assert (found.complete, found.remaining, keys(store)) == (False, [0, 1, 2, 3, 4], [])
    found.flush()
    assert keys(store) == []
    found.record(receipt(4))
    found.flush()
    assert keys(store) == ["segments/000000.jsonl"]


def test_a_large_ledger_is_forgotten_by_name_where_nothing_is_listed(
    unlisted: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its document, its parts, its segments and their index."""
    monkeypatch.setattr("ngff_core.records.ledger.PART", 4)
    store, owner = unlisted
    finished(store, list(range(10)))
    assert len(owner.objects()) == 4
    ledger(store, 10).forget()
    assert list(owner.objects()) == []
    recorded(store, 10, range(2))
    ledger(store, 10).forget()
    assert list(owner.objects()) == []


def test_a_damaged_index_is_reported(unlisted: tuple[ObjectStore, ObjectStore]) -> None:
    """With its name and what to do."""
    store, owner = unlisted
    recorded(store, 5, range(1))
    for document in (b"{", b"[]", b'{"segments": 3}', b"\xff"):
        owner.write("ledger/1/segments.json", document)
        with pytest.raises(StoredDataError, match=r"segments.json is damaged .* remove"):
            ledger(store)


def test_the_index_names_a_segment_before_it_is_created(
    unlisted: tuple[ObjectStore, ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a kill between leaves a name too many, and never a segment that nobody finds."""
    store, owner = unlisted
    found = ledger(store)
    found.record(receipt(0))
    monkeypatch.setattr(store, "create", lambda key, data: False)
    with pytest.raises(LeaseLostError):
        found.flush()
    assert json.loads(owner.read("ledger/1/segments.json") or b"") == {"segments": ["000000.jsonl"]}
    monkeypatch.undo()
    assert ledger(store).remaining == [0, 1, 2, 3, 4]
