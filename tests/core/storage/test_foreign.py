"""Stores that the caller opened behave as ours do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, StorePath

from ngff_core.storage import Bucket, LocalFiles, ObjectStore
from ngff_core.storage.foreign import foreign_store, is_foreign

KINDS = ["mapping", "memory", "below", "local", "local below", "bucket"]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, memory_filesystem: Any) -> ObjectStore:
    """One of each kind, empty."""
    kinds: dict[str, Any] = {
        "mapping": dict,
        "memory": MemoryStore,
        "below": lambda: StorePath(MemoryStore(), "a/b"),
        "local": lambda: LocalStore(tmp_path / "s"),
        "local below": lambda: StorePath(LocalStore(tmp_path / "s"), "a"),
        "bucket": lambda: zarr.storage.FsspecStore.from_url("memory://foreign/s"),
    }
    opened = kinds[request.param]()
    assert is_foreign(opened)
    return foreign_store(opened)


def test_objects_are_written_read_listed_and_removed(store: ObjectStore) -> None:
    """Keys are relative to the place in the store."""
    assert store.is_empty()
    assert store.read("a/b") is None
    assert store.info("a/b") is None
    store.write("a/b", b"123")
    store.write("a/c/d", b"4567")
    store.delete("never/there")
    assert store.read("a/b") == b"123"
    assert {key: info.size for key, info in store.objects().items()} == {"a/b": 3, "a/c/d": 4}
    assert list(store.objects("a/c")) == ["a/c/d"]
    assert store.child("a").read("c/d") == b"4567"
    with store.open("a/b") as file:
        assert file.read() == b"123"
    store.delete_tree("a/c")
    store.delete("a/b")
    assert list(store.objects()) == []


def test_creating_is_exclusive(store: ObjectStore) -> None:
    """The first one wins."""
    assert store.create("key", b"first")
    assert not store.create("key", b"second")
    assert store.read("key") == b"first"


def test_an_object_that_changed_has_another_version(store: ObjectStore) -> None:
    """At least where it has another size."""
    store.write("key", b"before")
    before = store.info("key")
    store.write("key", b"after that")
    assert store.info("key") != before


def test_zarr_opens_the_same_place(store: ObjectStore) -> None:
    """What it writes there is found here."""
    zarr.create_array(store.zarr(read_only=False), shape=(2,), dtype="u1", chunks=(2,))[:] = 7
    assert {"zarr.json", "c/0"} <= set(store.objects())
    array = zarr.open_array(store.zarr(), mode="r")
    assert list(array[:]) == [7, 7]


def test_files_and_buckets_are_found_behind_zarrs_stores(
    tmp_path: Path, memory_filesystem: Any
) -> None:
    """So that their own safe ways of writing are used."""
    local = foreign_store(LocalStore(tmp_path / "s"))
    assert isinstance(local, LocalFiles)
    assert local.root == tmp_path / "s"
    bucket = foreign_store(zarr.storage.FsspecStore.from_url("memory://foreign/s"))
    assert isinstance(bucket, Bucket)
    assert bucket.uri == "memory:///foreign/s"


@pytest.mark.parametrize("value", ["path", Path("path"), [1], 3, None])
def test_what_is_no_store_is_told_apart(value: object) -> None:
    """Paths and arrays are opened elsewhere."""
    assert not is_foreign(value)
