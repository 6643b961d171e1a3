"""Stores that the caller opened, a zarr store or a mapping of bytes, as our `ObjectStore`."""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
from collections.abc import Buffer as BytesLike
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from ngff_core.errors import UnlistableError
from ngff_core.storage import Bucket, Content, LocalFiles, ObjectInfo, ObjectStore, whole

_creating = threading.Lock()


def is_foreign(store: object) -> bool:
    """Whether `foreign_store` takes it."""
    return isinstance(store, ZarrStore | StorePath | MutableMapping)


def foreign_store(store: Any) -> ObjectStore:
    """Our view of a zarr store, a path in one, or a mapping from key to bytes."""
    if isinstance(store, MutableMapping):
        return ZarrBacked(
            zarr.storage.MemoryStore(BufferMapping(store)), "", f"mapping://{id(store):x}"
        )
    path = ""
    if isinstance(store, StorePath):
        store, path = store.store, store.path
    return behind_zarr(store, path) or ZarrBacked(store, path, f"{store}/{path}".rstrip("/"))


def behind_zarr(store: ZarrStore, path: str) -> ObjectStore | None:
    """The files or the bucket that a zarr store is a view of; None for another kind."""
    if isinstance(store, zarr.storage.LocalStore):
        return LocalFiles(store.root.absolute() / path)
    if isinstance(store, zarr.storage.FsspecStore):
        fs = _sync_filesystem(store.fs)
        root = str(PurePosixPath(store.path, path))
        return Bucket(fs, root, str(fs.unstrip_protocol(root)))
    return None


class BufferMapping(MutableMapping[str, Buffer]):
    """A caller's mapping of bytes, as the mapping of buffers that zarr writes to."""

    def __init__(self, mapping: MutableMapping[str, Any]) -> None:
        self._mapping = mapping

    def __getitem__(self, key: str) -> Buffer:
        value = self._mapping[key]
        if isinstance(value, Buffer):
            return value
        return default_buffer_prototype().buffer.from_bytes(bytes(value))

    def __setitem__(self, key: str, value: Buffer) -> None:
        self._mapping[key] = value.to_bytes()

    def __delitem__(self, key: str) -> None:
        del self._mapping[key]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._mapping))

    def __len__(self) -> int:
        return len(self._mapping)

    def __contains__(self, key: object) -> bool:
        return key in self._mapping


class ZarrBacked(ObjectStore):
    """A prefix of any zarr store."""

    def __init__(self, store: ZarrStore, prefix: str, uri: str) -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        self.uri = uri
        # An unknown store does not say when an object changes: nothing read through
        # another view of it is ever taken for the same.
        self._unknown = uuid.uuid4().hex

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def read(self, key: str) -> bytes | None:
        found = sync(self._store.get(self._path(key), default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def write(self, key: str, data: Content) -> None:
        buffer = default_buffer_prototype().buffer.from_bytes(bytes(whole(data)))
        sync(self._store.set(self._path(key), buffer))

    def create(self, key: str, data: BytesLike) -> bool:
        with _creating:
            if sync(self._store.exists(self._path(key))):
                return False
            self.write(key, data)
        return True

    def delete(self, key: str) -> None:
        if sync(self._store.exists(self._path(key))):
            sync(self._store.delete(self._path(key)))

    def delete_tree(self, prefix: str = "") -> None:
        for key in self._keys(prefix):
            self.delete(key)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        found = {key: self.info(key) for key in self._keys(prefix)}
        return {key: info for key, info in found.items() if info is not None}

    def info(self, key: str) -> ObjectInfo | None:
        if not key or not sync(self._store.exists(self._path(key))):
            return None
        if isinstance(self._store, zarr.storage.MemoryStore):
            content = self.read(key) or b""
            return ObjectInfo(len(content), hashlib.sha256(content).hexdigest())
        return ObjectInfo(sync(self._store.getsize(self._path(key))), self._unknown)

    def open(self, key: str) -> BinaryIO:
        found = self.read(key)
        if found is None:
            raise FileNotFoundError(f"{self.uri}/{key}")
        return io.BytesIO(found)

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        store = self._store
        if read_only and not store.read_only:
            with suppress(NotImplementedError):
                store = store.with_read_only(True)
        # zarr opens what lies at a path in a store as it opens a store.
        return cast("ZarrStore", StorePath(store, self._prefix)) if self._prefix else store

    def child(self, name: str) -> ZarrBacked:
        return ZarrBacked(self._store, self._path(name), f"{self.uri}/{name}")

    def is_empty(self) -> bool:
        return not self._keys("")

    def _keys(self, prefix: str) -> list[str]:
        async def listed() -> list[str]:
            below = self._path(prefix)
            found = self._store.list_prefix(f"{below}/" if below else "")
            return [key async for key in found]

        if not self._store.supports_listing:
            raise UnlistableError(f"{self.uri} cannot be listed")
        skip = len(self._prefix) + 1 if self._prefix else 0
        return sorted(key[skip:] for key in sync(listed()))


def _sync_filesystem(fs: Any) -> Any:
    """The filesystem behind zarr's asynchronous one, callable from any thread."""
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    if isinstance(fs, AsyncFileSystemWrapper):
        return fs.sync_fs
    return type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": False})
