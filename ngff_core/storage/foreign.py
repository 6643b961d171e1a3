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

from zarr.abc.store import Store as ZarrStore
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath

from ngff_core.errors import UnlistableError
from ngff_core.storage.base import Content, ObjectInfo, ObjectStore, as_buffer
from ngff_core.storage.bucket import Bucket
from ngff_core.storage.fsspec_compat import sync_filesystem
from ngff_core.storage.local import LocalFiles
from ngff_core.storage.zarr_compat import (
    Buffer,
    objects_of_store,
    read_object,
    run_sync,
    to_buffer,
)

_creating = threading.Lock()


def is_foreign(store: object) -> bool:
    """Whether `foreign_store` accepts it."""
    return isinstance(store, ZarrStore | StorePath | MutableMapping)


def foreign_store(store: Any) -> ObjectStore:
    """Our view of a zarr store, of a path in one, or of a mapping from key to bytes."""
    if isinstance(store, MutableMapping):
        return ZarrBacked(MemoryStore(BufferMapping(store)), "", f"mapping://{id(store):x}")
    path = ""
    if isinstance(store, StorePath):
        store, path = store.store, store.path
    return behind_zarr(store, path) or ZarrBacked(store, path, f"{store}/{path}".rstrip("/"))


def behind_zarr(store: ZarrStore, path: str) -> ObjectStore | None:
    """The files or the bucket that a zarr store is a view of; None for other kinds."""
    if isinstance(store, LocalStore):
        return LocalFiles(store.root.absolute() / path)
    if isinstance(store, FsspecStore):
        fs = sync_filesystem(store.fs)
        root = str(PurePosixPath(store.path, path))
        return Bucket(fs, root, str(fs.unstrip_protocol(root)))
    return None


class BufferMapping(MutableMapping[str, Buffer]):
    """A caller's mapping of bytes, as the mapping of buffers that zarr writes to."""

    def __init__(self, mapping: MutableMapping[str, Any]) -> None:
        self._mapping = mapping

    def __getitem__(self, key: str) -> Buffer:
        value = self._mapping[key]
        return value if isinstance(value, Buffer) else to_buffer(bytes(value))

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
        # An unknown store does not say when an object changes. With a version of its own
        # for each view, objects read through two views never count as the same.
        self._unknown = uuid.uuid4().hex

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, key) if part)

    def read(self, key: str) -> bytes | None:
        return read_object(self._store, self._path(key))

    def write(self, key: str, data: Content) -> None:
        run_sync(self._store.set(self._path(key), to_buffer(bytes(as_buffer(data)))))

    def create(self, key: str, data: BytesLike) -> bool:
        with _creating:
            if run_sync(self._store.exists(self._path(key))):
                return False
            self.write(key, data)
        return True

    def delete(self, key: str) -> None:
        if run_sync(self._store.exists(self._path(key))):
            run_sync(self._store.delete(self._path(key)))

    def delete_tree(self, prefix: str = "") -> None:
        for key in self._keys(prefix):
            self.delete(key)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        found = {key: self.info(key) for key in self._keys(prefix)}
        return {key: info for key, info in found.items() if info is not None}

    def info(self, key: str) -> ObjectInfo | None:
        if not key or not run_sync(self._store.exists(self._path(key))):
            return None
        if isinstance(self._store, MemoryStore):
            content = self.read(key) or b""
            return ObjectInfo(len(content), hashlib.sha256(content).hexdigest())
        return ObjectInfo(run_sync(self._store.getsize(self._path(key))), self._unknown)

    def open(self, key: str) -> BinaryIO:
        content = self.read(key)
        if content is None:
            raise FileNotFoundError(f"{self.uri}/{key}")
        return io.BytesIO(content)

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        store = self._store
        if read_only and not store.read_only:
            with suppress(NotImplementedError):
                store = store.with_read_only(True)
        # zarr opens a path in a store the way it opens a store.
        return cast("ZarrStore", StorePath(store, self._prefix)) if self._prefix else store

    def child(self, name: str) -> ZarrBacked:
        return ZarrBacked(self._store, self._path(name), f"{self.uri}/{name}")

    def sibling(self, suffix: str) -> ZarrBacked:
        """Raises ValueError at the root of a store, which has nothing beside it."""
        if not self._prefix:
            raise ValueError(f"{self.uri} is the root of a store: nothing can lie beside it")
        return ZarrBacked(self._store, f"{self._prefix}{suffix}", f"{self.uri}{suffix}")

    def parent(self) -> ZarrBacked:
        if not self._prefix:
            return self
        prefix, _, name = self._prefix.rpartition("/")
        return ZarrBacked(self._store, prefix, self.uri.removesuffix(f"/{name}"))

    def is_empty(self) -> bool:
        return not self._keys("")

    def _keys(self, prefix: str) -> list[str]:
        if not self._store.supports_listing:
            raise UnlistableError(f"{self.uri} cannot be listed")
        skip = len(self._prefix) + 1 if self._prefix else 0
        return [key[skip:] for key in objects_of_store(self._store, self._path(prefix))]
