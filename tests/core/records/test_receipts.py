"""Receipts in memory: packed, in the order of the regions, and as they were put."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.records.receipts import ObjectRow, Receipt, Receipts, Row, StoredObject


def receipt(region: int, checksum: int = 7) -> Receipt:
    """A receipt of two objects."""
    objects = (StoredObject(f"c/{region}/0", 100, 2**32 - 1), StoredObject(f"c/{region}/1", 0, 0))
    return Receipt(region, checksum, objects)


def long_receipt(region: int, samples: int = 1) -> Receipt:
    """A receipt as of a shard."""
    return Receipt(region, samples, (StoredObject(f"c/{region}", 30_000_000, 2**32 - region - 1),))


def row_of(one: Receipt) -> Row:
    """The receipt as a line of the ledger."""
    objects = tuple(ObjectRow(found.key, found.size, found.crc32c) for found in one.objects)
    return Row(one.region, one.samples_crc32c, objects)


def test_a_receipt_adds_up_its_objects() -> None:
    """The bytes of a region as stored."""
    assert receipt(0).stored_bytes == 100


def test_receipts_of_a_large_level_take_some_forty_bytes_each() -> None:
    """And no pages of memory where nothing is done."""
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


def test_receipts_come_in_the_order_of_the_regions() -> None:
    """In whatever order they were put: ledgers of two builds of one plan are equal."""
    found = Receipts(200_000)
    for region in (199_999, 5, 65_536, 65_535, 0, 131_072):
        found.put(receipt(region))
    order = [0, 5, 65_535, 65_536, 131_072, 199_999]
    assert list(found) == order
    assert [one.region for one in found.values()] == order
    assert [one.region for one in found.between(5, 131_072)] == [5, 65_535, 65_536]
    assert [one.region for one in found.between(65_536, 65_537)] == [65_536]
    assert list(found.between(6, 6)) == []
    assert list(found.between(1, 5)) == []


def test_the_objects_of_a_receipt_stay_in_their_order() -> None:
    """As many as there are; keys in any script, sizes beyond 32 bits."""
    objects = tuple(StoredObject(f"c/µ{i}", 2**40 + i, i) for i in range(300))
    one = Receipt(1, 2**32 - 1, objects)
    single, many = Receipts(3), Receipts(3)
    single.put(one)
    many.put_rows([row_of(one)])
    assert single[1] == many[1] == one
    assert single.stored_bytes == many.stored_bytes == one.stored_bytes == sum(
        stored.size for stored in objects
    )  # fmt: skip


def test_a_receipt_takes_as_many_bytes_either_way() -> None:
    """8 for each region of the level, 6 for a receipt, 14 and its key for an object."""
    single, many = Receipts(4), Receipts(4)
    assert single.nbytes == 4 * 8
    single.put(receipt(3))
    many.put_rows([row_of(receipt(3))])
    assert single.nbytes == many.nbytes == 4 * 8 + 6 + 2 * (14 + len("c/3/0"))


@pytest.mark.parametrize("region", [-1, 5, 2**40])
def test_a_region_that_the_level_does_not_have_is_refused(region: int) -> None:
    """Nothing is taken, not even receipts that came with it."""
    found = Receipts(5)
    with pytest.raises(ValueError, match="none of the 5"):
        found.put(receipt(region))
    for rows in ([receipt(0), receipt(region)], [receipt(region), receipt(4)]):
        with pytest.raises(ValueError, match="none of the 5"):
            found.put_rows([row_of(one) for one in rows])
    assert (len(found), found.stored_bytes, list(found)) == (0, 0, [])


@pytest.mark.parametrize(
    "one",
    [
        Receipt(0, 2**32, ()),
        Receipt(0, -1, ()),
        Receipt(0, 1, (StoredObject("c", 1, 2**32),)),
        Receipt(0, 1, (StoredObject("c", -1, 1),)),
        Receipt(0, 1, (StoredObject("c" * 2**16, 1, 1),)),
    ],
)
def test_a_number_that_does_not_fit_is_refused(one: Receipt) -> None:
    """And an earlier receipt of the region stays."""
    found = Receipts(1)
    found.put(receipt(0))
    with pytest.raises(ValueError):  # noqa: PT011 - struct says what is wrong
        found.put(one)
    assert found == {0: receipt(0)}


def test_the_longest_key_and_the_most_objects_fit() -> None:
    """One less than is refused."""
    longest = Receipt(0, 1, (StoredObject("c" * (2**16 - 1), 1, 1),))
    most = Receipt(0, 1, (StoredObject("c", 1, 1),) * (2**16 - 1))
    for one in (longest, most):
        found = Receipts(1)
        found.put_rows([row_of(one)])
        assert found[0] == one


def test_a_later_receipt_of_a_region_replaces_the_earlier_one() -> None:
    """Also among rows that are put together."""
    found = Receipts(3)
    found.put(receipt(1, checksum=1))
    found.put(receipt(1, checksum=2))
    assert found == {1: receipt(1, checksum=2)}
    rows = [row_of(receipt(region, checksum)) for region, checksum in ((1, 3), (2, 4), (1, 5))]
    assert found.put_rows(rows) == [1, 2, 1]
    assert found == {1: receipt(1, checksum=5), 2: receipt(2, checksum=4)}
    assert (len(found), found.stored_bytes) == (2, 200)


def test_what_is_not_there_is_missing() -> None:
    """By any way to ask, and taking back what is not there changes nothing."""
    found = Receipts(3)
    found.put(receipt(1))
    found.discard(2)
    found.discard(7)
    assert found.missing() == [0, 2]
    assert [key in found for key in (-1, 0, 1, 2, 3, "1", None)] == [
        False, False, True, False, False, False, False,
    ]  # fmt: skip
    for region in (-1, 0, 3):
        with pytest.raises(KeyError):
            found[region]
    assert found.put_rows([]) == []


def test_a_snapshot_stays_as_it_was() -> None:
    """Whatever is put and taken back later."""
    found = Receipts(3)
    found.put(receipt(1))
    before = found.snapshot()
    found.put(receipt(0))
    found.discard(1)
    assert (list(before), len(before), 1 in before, 0 in before) == ([1], 1, True, False)
    assert "1" not in before


def test_a_line_of_the_ledger_keeps_its_names() -> None:
    """Ledgers of older versions are read, and theirs read ours."""
    line = b'{"region":3,"samples":9,"objects":[["c/0",5,7]]}'
    row = msgspec.json.decode(line, type=Row)
    assert row == Row(3, 9, (ObjectRow("c/0", 5, 7),))
    assert msgspec.json.encode(row) == line
