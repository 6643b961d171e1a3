"""One suite for stores of every kind: a local folder, memory, and emulated GCS and S3."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ngff_core.errors import InvalidOptionError
from ngff_core.storage import (
    PARTIAL,
    LocalFiles,
    ObjectStore,
    open_store,
)


def test_bytes_are_read_as_they_were_written(store: ObjectStore) -> None:
    """Any buffer can be written; reading gives bytes."""
    samples = np.arange(6, dtype="u1")
    for i, data in enumerate((b"abc", bytearray(b"abc"), memoryview(b"abc"), samples.data, b"")):
        store.write(f"a/b/{i}", data)
        assert store.read(f"a/b/{i}") == bytes(data)


def test_an_absent_object_reads_as_none(store: ObjectStore) -> None:
    """Not as an error, nor as empty bytes. A folder is no object."""
    store.write("a/b", b"x")
    assert store.read("nothing") is None
    assert store.read("a/c") is None
    assert store.read("a") is None
    assert store.read("a/b/c") is None
    assert store.info("nothing") is None
    assert store.info("a") is None


def test_writing_again_replaces_the_whole_object(store: ObjectStore) -> None:
    """Shorter bytes leave no tail of the longer ones."""
    store.write("key", b"a long text")
    store.write("key", b"short")
    assert store.read("key") == b"short"
    info = store.info("key")
    assert info is not None
    assert info.size == 5


def test_a_reader_never_sees_half_an_object(store: ObjectStore) -> None:
    """While one thread rewrites it, another reads all of the old bytes or all of the new ones."""
    size = 2**20
    store.write("key", bytes(size))
    stop = threading.Event()

    def rewrite() -> None:
        for i in range(60):
            store.write("key", bytes([i % 2]) * size)
        stop.set()

    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(rewrite)
        while not stop.is_set():
            found = store.read("key")
            assert found is not None
            assert len(found) == size
            assert found in (bytes(size), b"\x01" * size)
        writing.result()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No torn object under the real name, and no temporary one."""
    store = open_store(tmp_path)
    store.write("key", b"old")

    def full(path: Path, data: Any) -> None:
        path.write_bytes(bytes(data)[:2])
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("ngff_core.storage.local.write_file", full)
    with pytest.raises(OSError, match="no space left"):
        store.write("key", b"new bytes")
    with pytest.raises(OSError, match="no space left"):
        store.create("other", b"new bytes")
    assert {key: store.read(key) for key in store.objects()} == {"key": b"old"}


def test_create_writes_only_an_absent_object(store: ObjectStore) -> None:
    """An object that exists keeps its bytes."""
    assert store.create("a/key", b"first") is True
    assert store.create("a/key", b"second") is False
    assert store.read("a/key") == b"first"
    store.delete("a/key")
    assert store.create("a/key", b"third") is True


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads switch as often as they can, which shows a gap between a check and a write."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("quick_turns")
def test_one_of_eight_threads_creates_an_object(store: ObjectStore) -> None:
    """Exactly one in every round, and its bytes are stored."""
    threads = 8
    # A bucket decides by itself, in one request: few rounds show that we rely on that.
    turns = 3 if store.uri.startswith(("gs:", "s3:")) else 100
    start = threading.Barrier(threads)

    def contend(key: str, me: int) -> bool:
        start.wait(timeout=60)
        return store.create(key, f"thread {me}".encode() * 50)

    with ThreadPoolExecutor(threads) as executor:
        for turn in range(turns):
            key = f"lease/{turn}"
            won = list(executor.map(contend, [key] * threads, range(threads)))
            assert won.count(True) == 1
            assert store.read(key) == f"thread {won.index(True)}".encode() * 50


def test_deleting_an_absent_object_is_no_error(store: ObjectStore) -> None:
    """Clean-up can run twice."""
    store.write("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/there")
    assert store.read("a/b") is None
    assert store.objects() == {}


def test_objects_are_listed_by_key_with_their_size(store: ObjectStore) -> None:
    """In order, all of them or those below a prefix. An unknown prefix has none."""
    for key in ("b/2", "a", "b/10/x", "bb/1"):
        store.write(key, key.encode())
    assert {k: i.size for k, i in store.objects().items()} == {
        "a": 1,
        "b/10/x": 6,
        "b/2": 3,
        "bb/1": 4,
    }
    assert list(store.objects()) == sorted(store.objects())
    assert list(store.objects("b")) == ["b/10/x", "b/2"]
    assert store.objects("nothing") == {}


def test_delete_tree_removes_a_prefix_and_nothing_else(store: ObjectStore) -> None:
    """A name that only begins with the prefix stays."""
    for key in ("b/2", "b/10/x", "bb/1", "a"):
        store.write(key, b"x")
    store.delete_tree("b")
    store.delete_tree("b")
    assert list(store.objects()) == ["a", "bb/1"]
    store.delete_tree()
    assert store.objects() == {}
    assert store.is_empty()


def test_a_store_is_empty_until_something_is_written(store: ObjectStore) -> None:
    """An object without bytes counts."""
    assert store.is_empty()
    store.write("a/b", b"")
    assert not store.is_empty()


def test_the_version_changes_when_an_object_is_rewritten(store: ObjectStore) -> None:
    """But not when it is read. The new bytes have the same size here."""
    store.write("key", b"one")
    if isinstance(store, LocalFiles):
        # As if it had been written an hour ago: the clock of files has coarse ticks.
        os.utime(store.root / "key", (1e9, 1e9))
    before = store.info("key")
    store.read("key")
    assert store.info("key") == before == store.objects()["key"]
    store.write("key", b"two")
    after = store.info("key")
    assert before is not None
    assert after is not None
    assert after.size == before.size
    assert after.version != before.version


def test_a_child_is_the_store_of_a_longer_prefix(store: ObjectStore) -> None:
    """Keys below it are its own; the URI grows by the name."""
    child = store.child("inner")
    child.write("key", b"x")
    assert store.read("inner/key") == b"x"
    assert list(child.objects()) == ["key"]
    assert child.uri == f"{store.uri}/inner"


@pytest.fixture
def filled(store: ObjectStore) -> ObjectStore:
    """A store with objects and folders, two deep."""
    for key in ("b/2", "a", "b/10/x", "b/10/y", "bb/1"):
        store.write(key, key.encode())
    return store


def test_a_folder_is_listed_without_what_is_below_its_folders(filled: ObjectStore) -> None:
    """Names in order, with size, version and time of each object, in as few requests."""
    found = filled.folder()
    assert {name: entry.is_folder for name, entry in found.items()} == {
        "a": False,
        "b": True,
        "bb": True,
    }
    assert list(found) == sorted(found)
    below = filled.folder("b")
    assert list(below) == ["10", "2"]
    info = filled.info("b/2")
    assert info is not None
    assert (below["2"].size, below["2"].version) == (3, info.version)
    assert below["2"].modified == pytest.approx(info.modified, abs=1)
    assert filled.folder("nothing") == filled.folder("a") == {}


def test_an_entry_is_an_object_or_a_folder(filled: ObjectStore) -> None:
    """The same as in the listing of the folder it is in."""
    for key in ("a", "b", "b/2", "b/10"):
        folder, _, name = key.rpartition("/")
        assert filled.entry(key) == filled.folder(folder)[name]
    assert filled.entry("nothing") is None
    assert filled.entry("b/nothing") is None


def test_a_sibling_is_beside_the_store(store: ObjectStore) -> None:
    """Its name has the suffix appended, and nothing of the store is in it."""
    sibling = store.sibling(".build")
    assert sibling.uri == f"{store.uri}.build"
    sibling.write("plan.json", b"{}")
    assert store.is_empty()
    assert open_store(sibling.uri).read("plan.json") == b"{}"


def test_zarr_sees_the_same_bytes(store: ObjectStore) -> None:
    """The store reads what zarr writes, and zarr reads what the store writes."""
    array = zarr.create_array(store.zarr(read_only=False), shape=(4,), dtype="u1", compressors=None)
    array[:] = [1, 2, 3, 4]
    assert store.read("c/0") == b"\x01\x02\x03\x04"
    store.write("c/0", b"\x05\x06\x07\x08")
    assert zarr.open_array(store.zarr(), mode="r")[:].tolist() == [5, 6, 7, 8]


def test_zarr_cannot_write_unless_asked(store: ObjectStore) -> None:
    """Stores are for reading by default."""
    assert store.zarr().read_only
    assert not store.zarr(read_only=False).read_only


def test_an_object_opens_as_a_seekable_file(store: ObjectStore) -> None:
    """Formats with an index at the end need that."""
    store.write("file", b"0123456789")
    with store.open("file") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"


def test_sweeping_deletes_temporary_files_of_killed_processes(store: ObjectStore) -> None:
    """And nothing else."""
    store.write("a/key", b"x")
    if isinstance(store, LocalFiles):
        (store.root / "a" / f"key.123{PARTIAL}").write_bytes(b"ha")
    store.sweep()
    assert list(store.objects()) == ["a/key"]


def test_sweeping_one_prefix_leaves_the_others(tmp_path: Path) -> None:
    """Another phase of the build may be writing there."""
    store = open_store(tmp_path)
    for folder in ("a", "b"):
        store.write(f"{folder}/key", b"x")
        (tmp_path / folder / f"key{PARTIAL}").write_bytes(b"ha")
    store.sweep("a")
    assert sorted(store.objects()) == ["a/key", "b/key", f"b/key{PARTIAL}"]


def test_opening_a_store_writes_nothing(tmp_path: Path) -> None:
    """Asking whether it is empty does not either."""
    store = open_store(tmp_path / "not" / "there")
    assert store.is_empty()
    assert store.objects() == {}
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_is_told() -> None:
    """With the URI, as the caller's mistake."""
    with pytest.raises(InvalidOptionError, match="nosuch://bucket/x"):
        open_store("nosuch://bucket/x")
