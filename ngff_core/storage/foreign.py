"""Stores that the caller opened, a zarr store or a mapping of bytes, as our `ObjectStore`."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from zarr.abc.store import Store as ZarrStore
from zarr.storage import MemoryStore, StorePath, ZipStore

from ngff_core.storage.base import ObjectStore
from ngff_core.storage.zarr_backed import ZarrBacked
from ngff_core.storage.zarr_backed import behind_zarr as behind
from ngff_core.storage.zarr_compat import Buffer, to_buffer
from ngff_core.storage.zipped import zipped_store


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
    """The files, the bucket or the zip file that a zarr store is a view of; None for others."""
    return zipped_store(store, path) if isinstance(store, ZipStore) else behind(store, path)


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
