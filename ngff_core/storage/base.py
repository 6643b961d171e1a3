"""The interface of a store: named bytes below one prefix, wherever that is."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Buffer, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from zarr.abc.store import Store as ZarrStore

StorageOptions = Mapping[str, Any]
"""Arguments for fsspec's filesystem of a URI, or such arguments by protocol: ``{"s3": {…}}``."""

type Content = Buffer | Callable[[Callable[[Buffer], object]], object]
"""An object's bytes, or a function that writes them in parts.

The function gets a ``write`` function and calls it with each part, in order. It may be called
several times, once for each attempt, and must give the same bytes each time.
"""


@dataclass(frozen=True)
class ObjectInfo:
    """What a store says about an object without reading it."""

    size: int
    """In bytes."""
    version: str
    """Changes whenever the object does: generation, ETag, or modification time."""
    modified: float | None = field(default=None, compare=False)
    """Time of the last write, in seconds since 1970; None where the store does not say."""
    md5: str | None = field(default=None, compare=False)
    """MD5 of the bytes in hexadecimal. None or another text where the store has no MD5."""


@dataclass(frozen=True)
class Entry(ObjectInfo):
    """One name in a folder: an object, or another folder."""

    is_folder: bool = False
    """A folder has size 0 and an empty version: stores keep neither for folders."""

    @classmethod
    def of_object(cls, info: ObjectInfo) -> Entry:
        """The entry of an object with this information."""
        return cls(info.size, info.version, info.modified, info.md5)

    @classmethod
    def of_folder(cls) -> Entry:
        """The entry of a folder."""
        return cls(0, "", is_folder=True)


class ObjectStore(ABC):
    """Named bytes below one prefix. Keys are relative to it, with ``/`` between their parts."""

    uri: str
    """Absolute path or URI of the prefix, without credentials."""

    at_once = 1
    """Requests of one kind to send in parallel: more than 1 where each has a latency."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Return the object's bytes, or None if there is no such object."""

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        """Return ``size`` bytes from ``start`` on, or fewer if the object ends before that.

        None if there is no such object.
        """
        data = self.read(key)
        return None if data is None else data[start : start + size]

    @abstractmethod
    def write(self, key: str, data: Content) -> None:
        """Write the object atomically: all of it or nothing. It replaces an existing one."""

    @abstractmethod
    def create(self, key: str, data: Buffer) -> bool:
        """Write the object only if there is none yet. Return False if there is one."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete the object. An absent one is no error."""

    @abstractmethod
    def delete_tree(self, prefix: str = "") -> None:
        """Delete every object below ``prefix``."""

    @abstractmethod
    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """List every object below ``prefix`` by key (relative to the store), in key order.

        Raises UnlistableError if the store does not support or not allow listing.
        """

    def folder(self, prefix: str = "") -> dict[str, Entry]:
        """List the objects and folders directly in the folder ``prefix`` by name, in order.

        Empty if there is no such folder. Raises UnlistableError as `objects` does.
        """
        found: dict[str, Entry] = {}
        start = len(prefix) + 1 if prefix else 0
        for key, info in self.objects(prefix).items():
            name, slash, _ = key[start:].partition("/")
            found[name] = Entry.of_folder() if slash else Entry.of_object(info)
        return dict(sorted(found.items()))

    def entry(self, key: str) -> Entry | None:
        """Return the object or the folder named ``key``, or None if there is neither."""
        info = self.info(key)
        if info is not None:
            return Entry.of_object(info)
        return Entry.of_folder() if self.objects(key) else None

    @abstractmethod
    def info(self, key: str) -> ObjectInfo | None:
        """Return size and version of one object, or None if there is no such object."""

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """Open the object as a seekable binary file, for formats that are read in ranges."""

    @abstractmethod
    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        """Return a zarr store of the same prefix."""

    @abstractmethod
    def child(self, name: str) -> ObjectStore:
        """Return the store of the prefix ``PREFIX/name``."""

    @abstractmethod
    def sibling(self, suffix: str) -> ObjectStore:
        """Return the store beside this one whose name has ``suffix`` appended.

        The sibling ``.build`` of ``gs://lab/brain.ome.zarr`` is
        ``gs://lab/brain.ome.zarr.build``. Nothing is read or written.
        """

    @abstractmethod
    def parent(self) -> ObjectStore:
        """Return the store of the folder that holds this prefix; nothing is read or written.

        A bucket's own root, and that of a store that the caller gave, is its own parent.
        """

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing at all is stored here."""

    def sweep(self, prefix: str = "") -> None:  # noqa: B027 - most stores leave no such files
        """Delete temporary files below ``prefix`` that killed processes left."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


def as_buffer(data: Content) -> Buffer:
    """All bytes of an object in one buffer."""
    if not callable(data):
        return data
    buffer = io.BytesIO()
    data(buffer.write)
    return buffer.getvalue()
