"""A prefix of any zarr store as our `ObjectStore`."""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
import weakref
from collections.abc import Buffer as BytesLike
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Self, cast

import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore

from ngff_core.errors import UnlistableError
from ngff_core.storage.base import Content, ObjectInfo, ObjectStore, as_buffer
from ngff_core.storage.bucket import Bucket
from ngff_core.storage.fsspec_compat import sync_filesystem
from ngff_core.storage.local import LocalFiles
from ngff_core.storage.zarr_compat import (
    objects_of_store,
    read_object,
    run_sync,
    to_buffer,
    wrapped_store,
)

_creating = threading.Lock()


class ZarrBacked(ObjectStore):
    """A prefix of any zarr store.

    The store that objects are in says when one of them changes where it is in memory, one of
    obstore, or a wrapper around one that says so. Other kinds do not.
    """

    def __init__(self, store: ZarrStore, prefix: str, uri: str) -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        self.uri = uri
        # With a version of its own for each view, objects of a store that does not say when
        # they change never count as the same, read through two views.
        self._unknown = uuid.uuid4().hex

    @property
    def has_versions(self) -> bool:
        """Whether the store says when an object changes."""
        return _has_versions(self._store)

    def identities(self) -> dict[str, ObjectInfo]:
        """`objects`, by which a source is recognised as long as the zarr store lives.

        Where the store does not say when an object changes, the version is one that no other
        zarr store has, and sizes, which may cost a read each, are not looked up.
        """
        token = token_of(self._store)
        if not self.has_versions:
            return dict.fromkeys(self._keys(""), ObjectInfo(0, token))
        return {
            key: replace(info, version=token) if info.version == self._unknown else info
            for key, info in self.objects().items()
        }

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
        path = self._path(key)
        if not key or not run_sync(self._store.exists(path)):
            return None
        version = _version_of(self._store, path)
        return ObjectInfo(run_sync(self._store.getsize(path)), version or self._unknown)

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

    def _at(self, prefix: str, uri: str) -> Self:
        """Another prefix of the same store."""
        return type(self)(self._store, prefix, uri)

    def child(self, name: str) -> Self:
        return self._at(self._path(name), f"{self.uri}/{name}")

    def sibling(self, suffix: str) -> Self:
        """Raises ValueError at the root of a store, which has nothing beside it."""
        if not self._prefix:
            raise ValueError(f"{self.uri} is the root of a store: nothing can lie beside it")
        return self._at(f"{self._prefix}{suffix}", f"{self.uri}{suffix}")

    def parent(self) -> Self:
        if not self._prefix:
            return self
        prefix, _, name = self._prefix.rpartition("/")
        return self._at(prefix, self.uri.removesuffix(f"/{name}"))

    def is_empty(self) -> bool:
        return not self._keys("")

    def _keys(self, prefix: str) -> list[str]:
        if not self._store.supports_listing:
            raise UnlistableError(f"{self.uri} cannot be listed")
        skip = len(self._prefix) + 1 if self._prefix else 0
        return [key[skip:] for key in objects_of_store(self._store, self._path(prefix))]


def token_of(store: object) -> str:
    """A text that no other object has, in this process or another; the same for each call."""
    token = _tokens.get(id(store))
    if token is None:
        token = _tokens[id(store)] = uuid.uuid4().hex
        weakref.finalize(store, _tokens.pop, id(store), None)
    return token


_tokens: dict[int, str] = {}
"""Of objects that are still alive, by id."""


def behind_zarr(store: ZarrStore, path: str) -> ObjectStore | None:
    """The files or the bucket that a zarr store is a view of; None for others."""
    if isinstance(store, LocalStore):
        return LocalFiles(store.root.absolute() / path)
    if isinstance(store, FsspecStore):
        fs = sync_filesystem(store.fs)
        # A filesystem's own root, such as that of a zip file, has no name.
        root = "" if (found := str(PurePosixPath(store.path, path))) == "." else found
        return Bucket(fs, root, str(fs.unstrip_protocol(root)))
    return None


def _has_versions(store: ZarrStore) -> bool:
    if isinstance(store, WrapperStore):
        return _has_versions(wrapped_store(store))
    if isinstance(store, ZipStore):
        return store.path is not None and store.read_only
    if isinstance(store, zarr.storage.ObjectStore):
        return True
    return isinstance(store, MemoryStore | LocalStore | FsspecStore)


def _version_of(store: ZarrStore, path: str) -> str | None:
    """The version of an object by what is known of its store; None where that is nothing."""
    if isinstance(store, WrapperStore):
        return _version_of(wrapped_store(store), path)
    if isinstance(store, MemoryStore):
        content = read_object(store, path)
        return None if content is None else hashlib.sha256(content).hexdigest()
    if isinstance(store, zarr.storage.ObjectStore):
        return _version_of_obstore(store, path)
    if isinstance(store, ZipStore):
        # While it is written, its members change without the file's telling.
        file = LocalFiles(store.path).info("") if store.path and store.read_only else None
        return None if file is None else f"{file.size}:{file.version}"
    behind = behind_zarr(store, path)
    info = None if behind is None else behind.info("")
    return None if info is None else info.version


def _version_of_obstore(store: zarr.storage.ObjectStore[Any], path: str) -> str | None:
    try:
        found = store.store.head(path)
    except FileNotFoundError:
        return None
    return f"{found.get('e_tag')}:{found.get('version')}:{found['last_modified'].isoformat()}"
