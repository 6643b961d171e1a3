"""The door to storage, the same suite on a local folder and in memory."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import gcsfs.retry
import numpy as np
import pytest
import requests
import tenacity
import zarr

from ngff_core.errors import InvalidOptionError, LeaseLostError, StoredDataError, TransientError
from ngff_core.storage import (
    PARTIAL,
    LocalFiles,
    ObjectStore,
    absolute_uri,
    is_transient,
    open_store,
    retrying,
    split_uri,
)


def test_bytes_come_back_as_they_were_put(store: ObjectStore) -> None:
    """Any buffer may be put; reading gives bytes."""
    samples = np.arange(6, dtype="u1")
    for i, data in enumerate((b"abc", bytearray(b"abc"), memoryview(b"abc"), samples.data, b"")):
        store.write(f"a/b/{i}", data)
        assert store.read(f"a/b/{i}") == bytes(data)


def test_what_is_not_there_reads_as_none(store: ObjectStore) -> None:
    """Not as an error, nor as empty bytes; a folder is no object."""
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
    """While one thread rewrites, another reads the old bytes or the new ones, whole."""
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


def test_create_puts_only_where_nothing_is(store: ObjectStore) -> None:
    """The bytes that were there first stay."""
    assert store.create("a/key", b"first") is True
    assert store.create("a/key", b"second") is False
    assert store.read("a/key") == b"first"
    store.delete("a/key")
    assert store.create("a/key", b"third") is True


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads take turns as often as they can, so that a gap between look and put shows."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("quick_turns")
def test_of_eight_that_create_one_wins(store: ObjectStore) -> None:
    """Exactly one, in every round, and its bytes are the ones stored."""
    threads = 8
    # A bucket decides by itself, in one request: few rounds show that we leave it to it.
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


def test_deleting_is_no_error_where_nothing_is(store: ObjectStore) -> None:
    """So that clean-up can run twice."""
    store.write("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/there")
    assert store.read("a/b") is None
    assert store.objects() == {}


def test_objects_are_listed_by_key_with_their_size(store: ObjectStore) -> None:
    """In order, below a prefix or all; an unknown prefix is empty."""
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
    """A neighbour whose name begins alike stays."""
    for key in ("b/2", "b/10/x", "bb/1", "a"):
        store.write(key, b"x")
    store.delete_tree("b")
    store.delete_tree("b")
    assert list(store.objects()) == ["a", "bb/1"]
    store.delete_tree()
    assert store.objects() == {}
    assert store.is_empty()


def test_a_store_is_empty_until_something_is_put(store: ObjectStore) -> None:
    """An existing folder without content is empty too."""
    assert store.is_empty()
    store.write("a/b", b"")
    assert not store.is_empty()


def test_the_version_changes_when_an_object_is_rewritten(store: ObjectStore) -> None:
    """And not when it is only read; the same size does not hide the change."""
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


def test_zarr_sees_the_same_bytes(store: ObjectStore) -> None:
    """What zarr writes the store reads, and the other way round."""
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
    """Formats with an index at the end read it first."""
    store.write("file", b"0123456789")
    with store.open("file") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"


def test_sweeping_removes_what_killed_processes_left(store: ObjectStore) -> None:
    """Half-written temporaries go, everything else stays."""
    store.write("a/key", b"x")
    if isinstance(store, LocalFiles):
        (store.root / "a" / f"key.123{PARTIAL}").write_bytes(b"ha")
    store.sweep()
    assert list(store.objects()) == ["a/key"]


def test_sweeping_one_prefix_leaves_the_others(tmp_path: Path) -> None:
    """Another phase may be writing there."""
    store = open_store(tmp_path)
    for folder in ("a", "b"):
        store.write(f"{folder}/key", b"x")
        (tmp_path / folder / f"key{PARTIAL}").write_bytes(b"ha")
    store.sweep("a")
    assert sorted(store.objects()) == ["a/key", "b/key", f"b/key{PARTIAL}"]


def test_opening_a_store_writes_nothing(tmp_path: Path) -> None:
    """Nor does asking whether it is empty."""
    store = open_store(tmp_path / "not" / "there")
    assert store.is_empty()
    assert store.objects() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "head", "name"),
    [
        ("gs://bucket/folder/a.zarr", "gs://bucket/folder", "a.zarr"),
        ("s3://bucket/a.zarr/", "s3://bucket", "a.zarr"),
        ("memory://x/y", "memory://x", "y"),
        ("/data/folder/a.zarr", "/data/folder", "a.zarr"),
        ("/data/folder/a.zarr/", "/data/folder", "a.zarr"),
        ("file:///data/a.zarr", "/data", "a.zarr"),
    ],
)
def test_a_uri_splits_into_its_folder_and_name(uri: str, head: str, name: str) -> None:
    """A slash at the end says nothing."""
    assert split_uri(uri) == (head, name)
    assert absolute_uri(uri) == f"{head}/{name}"


@pytest.mark.parametrize("uri", ["gs://bucket", "gs://bucket/", "memory://place"])
def test_a_bare_bucket_stays_what_it_is(uri: str) -> None:
    """It is in no folder, and its scheme is none either."""
    assert absolute_uri(uri) == uri.rstrip("/")
    assert split_uri(uri) == (uri.rstrip("/"), "")


def test_a_local_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written, so that a plan names the same place from any folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = str(tmp_path / "a.zarr")
    for text in ("a.zarr", "./a.zarr", "a.zarr/", Path("a.zarr"), expected, f"file://{expected}"):
        assert absolute_uri(text) == expected
    assert absolute_uri("~/a.zarr") == "/home/somebody/a.zarr"
    assert open_store("a.zarr").uri == expected


def test_an_unknown_scheme_is_told() -> None:
    """With the URI, as the caller's mistake."""
    with pytest.raises(InvalidOptionError, match="nosuch://bucket/x"):
        open_store("nosuch://bucket/x")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (TransientError("x"), True),
        (LeaseLostError("x"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.EBUSY, "busy"), True),
        (OSError(errno.EREMOTEIO, "remote"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (requests.exceptions.ConnectionError(), True),
        (gcsfs.retry.ChecksumError("x"), True),
        (gcsfs.retry.HttpError({"code": 408, "message": "x"}), True),
        (gcsfs.retry.HttpError({"code": 429, "message": "x"}), True),
        (gcsfs.retry.HttpError({"code": 503, "message": "x"}), True),
        (gcsfs.retry.HttpError({"code": 400, "message": "x"}), False),
        (gcsfs.retry.HttpError({"code": 401, "message": "x"}), False),
        (OSError("Forbidden: https://..."), False),
        (OSError(errno.ENOSPC, "no space"), False),
        (OSError(errno.EIO, "io"), False),
        (PermissionError(), False),
        (FileExistsError(), False),
        (FileNotFoundError(), False),
        (StoredDataError("timeout, try again later"), False),
        (ValueError("503 Service Unavailable"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_a_faults_type_says_whether_it_may_pass(error: BaseException, passing: bool) -> None:
    """Never its message."""
    assert is_transient(error) is passing


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time here."""
    taken: list[float] = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", taken.append)
    return taken


def failing(times: int, error: Exception) -> Callable[[str], str]:
    """Work that fails a number of times, then gives its argument back."""
    left = [times]

    def work(text: str) -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return text

    return work


@pytest.mark.parametrize("times", range(8))
def test_trouble_that_passes_is_waited_out(times: int, pauses: list[float]) -> None:
    """One attempt more than there were failures, a pause before each."""
    assert retrying(failing(times, TimeoutError()), "done") == "done"
    assert len(pauses) == times
    assert all(0 <= pause <= 30 for pause in pauses)


def test_trouble_that_does_not_pass_is_told_as_it_was(pauses: list[float]) -> None:
    """Eight attempts, then the very error."""
    error = ConnectionResetError("gone")
    with pytest.raises(ConnectionResetError) as caught:
        retrying(failing(99, error), "never")
    assert caught.value is error
    assert len(pauses) == 7


def test_what_cannot_pass_is_not_tried_again(pauses: list[float]) -> None:
    """A refusal is told at once."""
    with pytest.raises(PermissionError):
        retrying(failing(1, PermissionError()), "never")
    assert pauses == []
