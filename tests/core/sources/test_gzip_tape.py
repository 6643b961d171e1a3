"""Gzip files in ranges: the same bytes in any order, and each inflated once if in file order."""

import gzip
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import SourceFormatError
from ngff_core.sources.gzip_tape import MARK_BYTES, GzipTape, TapeArray
from ngff_core.storage import open_store

SIZE = 3 * MARK_BYTES + 12345


@pytest.fixture(scope="module")
def content() -> bytes:
    """Bytes that compress to about half."""
    return np.random.default_rng(0).integers(0, 16, SIZE, "u1").tobytes()


@pytest.fixture(scope="module")
def stored(tmp_path_factory, content) -> Path:
    """The bytes compressed."""
    path = tmp_path_factory.mktemp("tape") / "a.gz"
    path.write_bytes(gzip.compress(content, 1))
    return path


def tape(path: Path) -> GzipTape:
    store = open_store(path)
    return GzipTape(store, store.info("").size)


def test_a_pass_in_order_by_many_threads_inflates_each_byte_once(stored, content):
    """The order in which threads arrive does not matter: earlier ranges go first."""
    opened, part = tape(stored), 1 << 19
    starts = range(0, SIZE, part)
    with ThreadPoolExecutor(16) as threads:
        found = threads.map(lambda at: opened.read(at, min(part, SIZE - at)), starts)
        assert b"".join(found) == content
    assert opened.inflated <= 1.1 * SIZE


def test_a_later_read_begins_at_a_mark(stored, content):
    """After the first pass a small range costs no more than the way from one mark to the next."""
    opened = tape(stored)
    opened.read(SIZE - 1, 1)
    before = opened.inflated
    assert opened.read(2 * MARK_BYTES - 100, 50) == content[2 * MARK_BYTES - 100 :][:50]
    assert opened.inflated - before <= MARK_BYTES + (1 << 19)


def test_reads_that_follow_each_other_do_not_begin_again(stored, content):
    """Behind the front, too, a read begins where another one ended."""
    opened = tape(stored)
    opened.read(SIZE - 1, 1)
    before = opened.inflated
    for at in range(0, MARK_BYTES, 1 << 16):
        assert opened.read(at, 1 << 16) == content[at : at + (1 << 16)]
    assert opened.inflated - before == MARK_BYTES


@given(ranges=st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 99_999)), max_size=8))
def test_any_ranges_by_threads_are_those_of_the_content(stored, content, ranges):
    """Ranges in any order, overlapping or not, all at once."""
    opened = tape(stored)
    wanted = [(start, min(size, SIZE - start)) for start, size in ranges]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda each: opened.read(*each), wanted))
    for (start, size), data in zip(wanted, found, strict=True):
        assert data == content[start : start + size]


def test_many_marks_take_no_more_memory(monkeypatch, stored, content):
    """With too many of them every second one is dropped."""
    monkeypatch.setattr("ngff_core.sources.gzip_tape._MOST_MARKS", 4)
    monkeypatch.setattr("ngff_core.sources.gzip_tape.MARK_BYTES", 1 << 18)
    opened = tape(stored)
    assert opened.read(SIZE - 9, 9) == content[-9:]
    assert len(opened._marks) <= 4
    assert opened.read(77, 9) == content[77:86]


def test_members_that_follow_each_other_are_one_stream(tmp_path, content):
    """As ``cat a.gz b.gz`` and bgzip write them, an empty one and padding at the end."""
    members = itertools.batched(content[:1_000_000], 123_456)
    data = b"".join(gzip.compress(bytes(member)) for member in members)
    (tmp_path / "a.gz").write_bytes(data + gzip.compress(b"") + bytes(20_000))
    opened = tape(tmp_path / "a.gz")
    opened.check_complete(1_000_000)
    assert opened.read(0, 1_000_000) == content[:1_000_000]


@pytest.mark.parametrize("missing", [1, 8, 9, 1000, 400_000])
def test_a_truncated_stream_is_refused_before_it_is_read(tmp_path, content, missing):
    """In its trailer, too, where all samples would be there."""
    data = gzip.compress(content[:1_000_000], 1)
    (tmp_path / "a.gz").write_bytes(data[:-missing])
    with pytest.raises(SourceFormatError, match="truncated") as error:
        tape(tmp_path / "a.gz").check_complete(1_000_000)
    assert "\n" not in str(error.value)


def test_a_wrong_checksum_is_seen_with_the_last_sample(tmp_path, content):
    """Damage that inflates to something is found by the trailer."""
    data = bytearray(gzip.compress(content[:1_000_000], 1))
    data[-5] ^= 1
    (tmp_path / "a.gz").write_bytes(data)
    opened = tape(tmp_path / "a.gz")
    opened.check_complete(1_000_000)
    with pytest.raises(SourceFormatError, match="damaged"):
        opened.read(0, 1_000_000)


def test_a_header_that_claims_too_much_is_refused_unread(tmp_path):
    """No memory is taken for what a file of this size cannot hold."""
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000)))
    opened = tape(tmp_path / "a.gz")
    with pytest.raises(SourceFormatError, match="cannot hold"):
        opened.check_complete(1 << 40)
    assert opened.inflated == 0


def test_a_box_that_is_one_range_is_read_as_one(stored, content):
    """Planes of an array, which is what the cache pass of a build asks for."""
    opened = tape(stored)
    array = TapeArray(opened, 0, (12, 1024, 1024), np.dtype("u1"))
    expected = np.frombuffer(content, "u1")[: 12 << 20].reshape(12, 1024, 1024)
    for key in (np.s_[2:5, 0:1024, 0:1024], np.s_[3:4, 7:9, 0:1024], np.s_[3:5, 7:9, 3:4]):
        np.testing.assert_array_equal(array[key], expected[key])
    assert array.unit() == (4, 1024, 1024)
