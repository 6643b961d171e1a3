"""Copies of images in the cache of the lazy API: making, reading and removing them."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from fsspec.spec import AbstractFileSystem
from zarr.abc.store import Store as ZarrStore
from zarr.errors import ChunkNotFoundError

from ngff_core.blocks import Block
from ngff_core.errors import TargetExistsError
from ngff_core.geometry import Shape
from ngff_core.lazy.object_walk import reachable
from ngff_core.records.replaceable import check_replaceable
from ngff_core.storage import ObjectStore, fused_pipeline, open_store
from ngff_core.storage.foreign import foreign_store, is_foreign
from ngff_core.storage.zarr_compat import documents_written, names_in_store

_STALE_SECONDS = 7 * 24 * 3600.0
_PREFIX = "ngff-flows-cache"
_COPY_ENTRIES = ("zarr.json", "c")
"""All that a copy consists of, so a removal that was killed half-way can be finished."""


@dataclass(frozen=True, eq=False)
class CachedArray:
    """A copy in the cache, and the dask array that it was made from.

    Where a chunk of the copy was removed (after writing, or because of its age), the samples are
    read from the original.
    """

    copy: zarr.Array[Any]
    original: Any
    folder: str

    @property
    def is_kept(self) -> bool:
        """Whether this process made the copy and has not removed it."""
        made = _live.get(self.folder)
        return made is not None and made[1] == os.getpid()

    @property
    def shape(self) -> Shape:
        return tuple(self.original.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.original.dtype)
        return found

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> Block:
        try:
            return np.asarray(self.copy[key])
        except (ChunkNotFoundError, FileNotFoundError):
            return np.asarray(self.original[key].compute(scheduler="synchronous"))


_live: dict[str, tuple[ObjectStore, int]] = {}
"""Copies of this process that are not removed yet: store and process id, by folder name."""
_live_lock = threading.Lock()


def cache_place(store: Any) -> ObjectStore:
    """The store of ``config.cache_store``, or of another value in its place."""
    return foreign_store(store) if is_foreign(store) else open_store(store)


def new_folder(store: Any) -> str:
    """A folder name made of the time, the host and the process id; removes old copies first."""
    remove_stale_caches(store)
    host = socket.gethostname().replace("-", "_").replace("/", "_")
    return f"{_PREFIX}-{int(time.time())}-{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def create_copy(store: ObjectStore, data: Any, chunks: Shape) -> zarr.Array[Any]:
    """An array to write, of the shape and dtype of ``data``, alone in ``store``."""
    from zarr.codecs import BloscCodec

    # Made elsewhere and copied: zarr would make a group of each folder above it, in a
    # store that is the user's.
    documents = documents_written(
        lambda memory: zarr.create_array(
            memory,
            shape=data.shape,
            chunks=chunks,
            dtype=data.dtype.newbyteorder("<"),
            # Fast rather than small: it is read a few times and then removed.
            compressors=[BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")],
            fill_value=0,
            zarr_format=3,
        )
    )
    for key, document in documents.items():
        store.write(key, document)
    with fused_pipeline():
        return zarr.open_array(
            store.zarr(read_only=False),
            mode="r+",
            zarr_format=3,
            # Every chunk is written, so an absent one was removed.
            config={"write_empty_chunks": True},
        )


def open_copy(store: ObjectStore) -> zarr.Array[Any]:
    """A copy, opened for reading; reading an absent chunk raises."""
    with fused_pipeline():
        return zarr.open_array(
            store.zarr(), mode="r", zarr_format=3, config={"read_missing_chunks": False}
        )


def register_copy(store: ObjectStore, folder: str) -> None:
    """Remember a copy, which is removed at the exit of the process at the latest."""
    with _live_lock:
        _live[folder] = (store, os.getpid())


def release_caches(arrays: Sequence[Any]) -> None:
    """Remove the copies that lazy arrays read; they read their originals from now on."""
    if not _live:
        return
    ends = (CachedArray, zarr.Array, ZarrStore, ObjectStore, AbstractFileSystem)
    for value in reachable(arrays, lambda kind: issubclass(kind, ends), lambda _: True):
        if isinstance(value, CachedArray):
            _remove_cache(value.folder)


@atexit.register
def _remove_own_caches() -> None:
    for folder in list(_live):
        _remove_cache(folder)


def _remove_cache(folder: str) -> None:
    with _live_lock:
        made = _live.pop(folder, None)
    # A forked child inherits the register, and not the right to remove.
    if made is not None and made[1] == os.getpid():
        _remove_copy(made[0])


def _remove_copy(store: ObjectStore) -> None:
    """Remove a copy, where nothing else was put into its folder."""
    with suppress(TargetExistsError):
        check_replaceable(store, None, own=_COPY_ENTRIES)
        store.delete_tree()


def remove_stale_caches(store: Any) -> None:
    """Remove copies that are a week old and whose process has ended; called before caching."""
    place = cache_place(store)
    for folder in _folders(place):
        parts = folder.removeprefix(f"{_PREFIX}-").split("-")
        if len(parts) == 4 and parts[0].isdecimal() and parts[2].isdecimal():
            old = time.time() - int(parts[0]) > _STALE_SECONDS
            if old and not _alive(parts[1], int(parts[2])):
                _remove_copy(place.child(folder))


def _folders(place: ObjectStore) -> list[str]:
    try:
        found = names_in_store(place.zarr())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name.strip("/") for name in found if name.strip("/").startswith(f"{_PREFIX}-")]


def _alive(host: str, pid: int) -> bool:
    """Whether a process runs on this machine; False for a process of another machine."""
    import psutil

    own = socket.gethostname().replace("-", "_").replace("/", "_")
    return host == own and bool(psutil.pid_exists(pid))
