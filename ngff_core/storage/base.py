"""What a store is: named bytes under one prefix, wherever that lies."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Buffer, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import crc32c
from zarr.abc.store import Store as ZarrStore

StorageOptions = Mapping[str, Any]
"""What fsspec's filesystem of a URI is given; or that by protocol, as ``{"s3": {…}}``."""

type Content = Buffer | Callable[[Callable[[Buffer], object]], object]
"""An object's bytes, or what gives them part by part to what it is called with, each time anew."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a store says of an object without reading it."""

    size: int
    version: str
    """Changes whenever the object does: generation, ETag, or modification time."""
    modified: float | None = field(default=None, compare=False)
    """When it was last written, in seconds since 1970; None where the store does not tell."""
    md5: str | None = field(default=None, compare=False)
    """Of its bytes, in hexadecimal digits; None or something else where the store does not tell."""


class ObjectStore(ABC):
    """Named bytes under one prefix. Keys are relative, with ``/`` between their parts."""

    uri: str
    """Absolute path or URI of the prefix, without credentials."""

    at_once = 1
    """Requests of one kind to have under way together: more where each of them takes time."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is no such object."""

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        """Bytes of the object from ``start`` on: fewer than ``size`` where it ends before.

        None where there is no such object.
        """
        data = self.read(key)
        return None if data is None else data[start : start + size]

    @abstractmethod
    def write(self, key: str, data: Content) -> None:
        """Put the object, whole or not at all, over whatever was there."""

    @abstractmethod
    def create(self, key: str, data: Buffer) -> bool:
        """Put the object only if there is none; False where there was one."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; an absent one is no error."""

    @abstractmethod
    def delete_tree(self, prefix: str = "") -> None:
        """Remove every object below ``prefix``."""

    @abstractmethod
    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """Every object below ``prefix`` by key (relative to the store), in key order.

        Raises UnlistableError where the store does not list, or not to us.
        """

    def entries(self) -> dict[str, bool]:
        """Names right below the prefix, in order, and whether each is a folder."""
        parts = [key.partition("/") for key in self.objects()]
        return {name: bool(slash) for name, slash, _ in parts}

    @abstractmethod
    def info(self, key: str) -> ObjectInfo | None:
        """Size and version of one object, or None where there is no such object."""

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary file, for formats read in place."""

    @abstractmethod
    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        """The same prefix as zarr sees it."""

    @abstractmethod
    def child(self, name: str) -> ObjectStore:
        """The store of a longer prefix."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing at all is stored here."""

    def sweep(self, prefix: str = "") -> None:  # noqa: B027 - most stores have nothing to sweep
        """Remove what killed processes left of unfinished writes below ``prefix``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


def whole(data: Content) -> Buffer:
    """An object's bytes in one piece."""
    if not callable(data):
        return data
    buffer = io.BytesIO()
    data(buffer.write)
    return buffer.getvalue()


def google_crc32c(data: bytes) -> str:
    """CRC-32C of bytes as Google spells it."""
    return base64.b64encode(int(crc32c.crc32c(data)).to_bytes(4, "big")).decode()
