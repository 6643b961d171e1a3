"""The ledger: what it says is done is done, and damage is told."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, StoredDataError, UnlistableError
from ngff_core.records.ledger import SHORT_SEGMENTS, Ledger, Receipt, StoredObject
from ngff_core.records.receipts import ObjectRow, Receipts, Row
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


def test_a_ledger_of_nothing_has_everything_to_do(store: ObjectStore) -> None:
    """And reading it writes nothing."""
    found = ledger(store)
    assert (found.receipts, found.complete, found.remaining) == ({}, False, [0, 1, 2, 3, 4])
    assert store.objects() == {}


def test_receipts_come_back_as_they_were_taken(store: ObjectStore) -> None:
    """In segments whose names can be guessed; what was not written down is to do again."""
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


def test_receipts_are_written_down_every_few_seconds(
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


def test_a_resumed_ledger_goes_on_with_the_next_segment(store: ObjectStore) -> None:
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
    """Its segments are gone, and loading it asks for nothing else."""
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
def test_damage_is_told_with_the_objects_name_and_what_to_do(
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


def test_of_two_that_write_the_same_segment_one_stops(store: ObjectStore) -> None:
    """The second was taken for dead: it must not go on building."""
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


def test_a_receipt_adds_up_its_objects() -> None:
    """What a region takes as stored."""
    assert receipt(0).stored_bytes == 100


def long_receipt(region: int, samples: int = 1) -> Receipt:
    """A receipt as of a shard."""
    return Receipt(region, samples, (StoredObject(f"c/{region}", 30_000_000, 2**32 - region - 1),))


def test_segments_are_joined_so_that_a_resume_reads_few(store: ObjectStore) -> None:
    """However long a build goes on; the same receipts are read back."""
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


def test_a_part_that_was_removed_is_built_anew(
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


def test_receipts_of_a_large_level_take_some_forty_bytes_each() -> None:
    """And none of their own where nothing is done."""
    tracemalloc.start()
    try:
        found = Receipts(20_000)
        for region in reversed(range(20_000)):
            found.put(long_receipt(region))
        assert tracemalloc.get_traced_memory()[0] < 60 * 20_000
    finally:
        tracemalloc.stop()
    assert found.nbytes < 45 * 20_000
    assert (len(found), found.stored_bytes) == (20_000, 30_000_000 * 20_000)
    assert [one.region for one in found.between(19_990, 30_000)] == list(range(19_990, 20_000))


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=3), st.integers(0, 3))), st.data())
def test_receipts_taken_together_are_as_one_by_one(
    given: list[tuple[int, str, int]], data: st.DataObject
) -> None:
    """Also several of one region, without objects or with many, whatever their keys."""
    rows = [
        Row(region, at, tuple(ObjectRow(f"{key}{k}", at + k, k) for k in range(count)))
        for at, (region, key, count) in enumerate(given)
    ]
    plain, together = Receipts(10), Receipts(10)
    for row in rows:
        plain.put(Receipt(row.region, row.samples_crc32c, tuple(map(stored, row.objects))))
    cut = data.draw(st.integers(0, len(rows)))
    for some in (rows[:cut], rows[cut:]):
        assert together.put_rows(some) == [row.region for row in some]
    assert together == plain
    assert (len(together), together.stored_bytes) == (len(plain), plain.stored_bytes)


def stored(row: ObjectRow) -> StoredObject:
    return StoredObject(row.key, row.size, row.crc32c)


def test_a_receipt_that_none_can_be_is_refused() -> None:
    """A number of objects, or a key, that would not fit where it is packed."""
    for objects in ((ObjectRow("c" * 2**16, 1, 1),), (ObjectRow("c", 1, 1),) * 2**16):
        with pytest.raises(ValueError, match="than any can have"):
            Receipts(1).put_rows([Row(0, 1, objects)])


def test_a_long_document_is_read_in_pieces(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at the ends of lines, wherever those are."""
    finished(store, list(range(20)))
    for piece in (1, 150, 151, 2**20):
        monkeypatch.setattr("ngff_core.records.ledger_documents._BATCH_BYTES", piece)
        assert ledger(store, total=20).receipts == {i: receipt(i) for i in range(20)}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans())))
def test_packed_receipts_are_as_a_dictionary(steps: list[tuple[int, bool]]) -> None:
    """Whatever is put and taken back."""
    found, plain = Receipts(10), dict[int, Receipt]()
    for step, (region, put) in enumerate(steps):
        if put:
            plain[region] = receipt(region, checksum=step)
            found.put(plain[region])
        else:
            plain.pop(region, None)
            found.discard(region)
        before = found.snapshot()
        assert found == plain
        assert (list(found), len(found)) == (sorted(plain), len(plain))
        assert found.stored_bytes == sum(one.stored_bytes for one in plain.values())
        assert found.missing() == [i for i in range(10) if i not in plain]
        assert list(before) == sorted(plain)
        assert [i in before for i in range(-1, 11)] == [i in plain for i in range(-1, 11)]


class Unlisted(Bucket):
    """A store whose listings are refused."""

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        raise UnlistableError(f"{self.uri}/{prefix} cannot be listed")


@pytest.fixture
def unlisted(memory_filesystem: Any) -> tuple[ObjectStore, ObjectStore]:
    """A store that does not list, and the same as its owner sees it."""
    owner = open_store("memory://unlisted")
    assert isinstance(owner, Bucket)
    return Unlisted(owner.fs, owner.root, owner.uri), owner


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
    """As the message about a damaged one says; the others count, and building goes on."""
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
    """It was taken for dead, and put its own index over that of the one who builds."""
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


def test_who_may_list_goes_on_with_what_others_built(
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
