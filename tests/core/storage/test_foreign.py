"""Stores that the caller opened behave as our own do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore, StorePath

from ngff_core.errors import UnlistableError
from ngff_core.storage import Bucket, LocalFiles, ObjectStore, zarr_backed
from ngff_core.storage.foreign import BufferMapping, foreign_store, is_foreign
from ngff_core.storage.zarr_backed import ZarrBacked

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
    """Keys are relative to the path in the caller's store."""
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


def test_zarr_opens_the_same_prefix(store: ObjectStore) -> None:
    """The store reads what zarr writes there."""
    zarr.create_array(store.zarr(read_only=False), shape=(2,), dtype="u1", chunks=(2,))[:] = 7
    assert {"zarr.json", "c/0"} <= set(store.objects())
    array = zarr.open_array(store.zarr(), mode="r")
    assert list(array[:]) == [7, 7]


def test_files_and_buckets_are_found_behind_zarrs_stores(
    tmp_path: Path, memory_filesystem: Any
) -> None:
    """Their own atomic writes are used then."""
    local = foreign_store(LocalStore(tmp_path / "s"))
    assert isinstance(local, LocalFiles)
    assert local.root == tmp_path / "s"
    bucket = foreign_store(zarr.storage.FsspecStore.from_url("memory://foreign/s"))
    assert isinstance(bucket, Bucket)
    assert bucket.uri == "memory:///foreign/s"


@pytest.mark.parametrize("value", ["path", Path("path"), [1], 3, None])
def test_paths_and_arrays_are_no_stores(value: object) -> None:
    """They are opened elsewhere."""
    assert not is_foreign(value)


def test_a_folder_and_its_entries_are_listed(store: ObjectStore) -> None:
    """Though some of these stores know objects only."""
    for key in ("b/2", "a", "b/10/x", "bb/1"):
        store.write(key, b"123")
    assert {name: entry.is_folder for name, entry in store.folder().items()} == {
        "a": False,
        "b": True,
        "bb": True,
    }
    assert list(store.folder("b")) == ["10", "2"]
    assert store.folder("none") == {}
    for key, is_folder in (("a", False), ("b", True), ("b/2", False)):
        entry = store.entry(key)
        assert entry is not None
        assert (entry.is_folder, entry.size) == (is_folder, 0 if is_folder else 3)
    assert store.entry("none") is None


def test_a_path_in_a_store_has_siblings_and_its_root_has_none() -> None:
    below = foreign_store(StorePath(MemoryStore(), "a/b"))
    sibling = below.sibling(".build")
    sibling.write("key", b"x")
    assert sibling.uri == f"{below.uri}.build"
    assert below.is_empty()
    with pytest.raises(ValueError, match="nothing can lie beside it"):
        foreign_store({}).sibling(".build")


class OfNobody(MemoryStore):
    """A store that is none of zarr's own kinds, as far as anybody can see."""


@pytest.fixture
def of_nobody(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr(zarr_backed, "MemoryStore", type("Nothing", (), {}), raising=True)
    return OfNobody()


def test_an_unknown_store_never_claims_that_an_object_is_unchanged(of_nobody: MemoryStore) -> None:
    """Two views of it give two versions; one view gives one, and the size."""
    one, other = foreign_store(of_nobody), foreign_store(of_nobody)
    one.write("key", b"123")
    first, second = one.info("key"), other.info("key")
    assert first is not None
    assert second is not None
    assert first == one.info("key")
    assert (first.size, second.size) == (3, 3)
    assert first.version != second.version


def test_an_unknown_store_is_recognised_as_long_as_it_lives(of_nobody: MemoryStore) -> None:
    """As a source: by its keys, and by being that store and no other."""
    one, other = foreign_store(of_nobody), foreign_store(of_nobody)
    assert isinstance(one, ZarrBacked)
    assert isinstance(other, ZarrBacked)
    assert not one.has_versions
    one.write("key", b"123")
    before = one.identities()
    assert before == other.identities()
    another = foreign_store(OfNobody())
    another.write("key", b"123")
    assert isinstance(another, ZarrBacked)
    assert another.identities() != before
    one.write("more", b"1")
    assert other.identities() != before


@pytest.mark.parametrize("kind", ["memory", "local", "bucket", "twice"])
def test_a_wrapper_has_the_versions_of_what_it_wraps(
    kind: str, tmp_path: Path, memory_filesystem: Any
) -> None:
    """Two views of it agree, and see a change."""
    kinds: dict[str, Any] = {
        "memory": MemoryStore,
        "local": lambda: LocalStore(tmp_path / "s"),
        "bucket": lambda: zarr.storage.FsspecStore.from_url("memory://foreign/s"),
        "twice": lambda: zarr.storage.LoggingStore(MemoryStore(), log_level="ERROR"),
    }
    wrapper = zarr.storage.LoggingStore(kinds[kind](), log_level="ERROR")
    one, other = foreign_store(wrapper), foreign_store(wrapper)
    assert isinstance(one, ZarrBacked)
    assert isinstance(other, ZarrBacked)
    one.write("a/key", b"123")
    before = one.identities()
    assert one.has_versions
    assert before == other.identities() == one.objects()
    one.write("a/key", b"4567")
    assert other.identities() != before


@pytest.mark.parametrize("kind", ["MemoryStore", "LocalStore"])
def test_objects_of_obstore_have_its_versions(kind: str, tmp_path: Path) -> None:
    """Its entity tags and times."""
    module = pytest.importorskip("obstore.store")
    inner = module.MemoryStore() if kind == "MemoryStore" else module.LocalStore(str(tmp_path))
    store = zarr.storage.ObjectStore(inner)
    one, other = foreign_store(store), foreign_store(store)
    assert isinstance(one, ZarrBacked)
    assert isinstance(other, ZarrBacked)
    one.write("a/key", b"123")
    before = one.identities()
    assert before == other.identities() == one.objects()
    one.write("a/key", b"4567")
    assert other.identities() != before


def test_a_mapping_gets_and_gives_plain_bytes() -> None:
    """Whatever buffers it is given; a listing is of the keys at that moment."""
    mapping: dict[str, Any] = {"a": bytearray(b"12"), "b": memoryview(b"3")}
    store = foreign_store(mapping)
    assert (store.read("a"), store.read("b")) == (b"12", b"3")
    store.write("c", bytearray(b"4"))
    assert type(mapping["c"]) is bytes
    buffers = BufferMapping(mapping)
    assert (len(buffers), "a" in buffers, "z" in buffers) == (3, True, False)
    for key in buffers:
        del buffers[key]
    assert mapping == {}


def test_an_absent_object_cannot_be_opened() -> None:
    with pytest.raises(FileNotFoundError, match=r"mapping://.*/key"):
        foreign_store({}).open("key")


def test_a_store_that_cannot_list_says_so() -> None:
    class Unlisted(MemoryStore):
        supports_listing = False

    store = foreign_store(Unlisted())
    with pytest.raises(UnlistableError, match="cannot be listed"):
        store.objects()


def test_zarr_gets_a_read_only_store_unless_it_is_to_write() -> None:
    for opened in (MemoryStore(), StorePath(MemoryStore(), "a")):
        store = foreign_store(opened)
        assert store.zarr().read_only
        assert not store.zarr(read_only=False).read_only
