"""TIFF files as tifffile opens them: from any store, and closed and opened again as it needs.

A file on the local disk is opened in the same way as one in a bucket. So tifffile never looks
for other files by itself, and a file gives one answer wherever it lies.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ngff_core.errors import UnlistableError
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import Pins
from ngff_core.sources.tiff.tifffile_compat import open_tiff
from ngff_core.storage import ObjectInfo, ObjectStore

if TYPE_CHECKING:
    from contextlib import ExitStack

    from tifffile import TiffFile

_FEW = 8
"""Companions up to this number are looked up one by one; more of them by listing the folder."""


_MANY = 1 << 26
"""Bytes of one read from which on they are compared with the size of the file."""


class _Stream:
    """A binary file of which tifffile does not know whether it is one of the local disk."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close
        self.readinto = file.readinto

    def read(self, size: int = -1, /) -> Any:
        """Some bytes. So many that only a damaged header asks for them are first compared with
        what there is: a plain file takes memory for all of them."""
        if size > _MANY:
            at = self._file.tell()
            size = min(size, max(0, self._file.seek(0, io.SEEK_END) - at))
            self._file.seek(at)
        return self._file.read(size)

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)


class StoredFile:
    """An object of a store that tifffile opens when it reads, and closes when it has too many.

    Attributes
    ----------
    path
        For tifffile's messages.
    """

    def __init__(self, store: ObjectStore, key: str = "") -> None:
        self._store, self._key = store, key
        self.path = f"{store.uri}/{key}" if key else store.uri

    def open(self) -> _Stream:
        """The object as a seekable binary file."""
        return _Stream(self._store.open(self._key))


@dataclass(frozen=True)
class TiffSource:
    """The TIFF file that a source names, and the files beside it.

    Attributes
    ----------
    store
        Of the file itself.
    info
        Its size and version.
    tif
        The opened file.
    closing
        Closes what was opened.
    """

    store: ObjectStore
    info: ObjectInfo
    tif: TiffFile
    closing: ExitStack
    lock: Any = field(default_factory=threading.RLock)
    """Held while anything is read from ``tif``: its file has one position."""

    @property
    def uri(self) -> str:
        return self.store.uri

    @property
    def name(self) -> str:
        """The file's own name, without its folder."""
        return file_name(self.store)

    def open_beside(self, name: str) -> TiffFile:
        """Open a companion. It is closed with the source."""
        folder = self.store.parent()
        with as_format_error(f"{folder.uri}/{name}: not a readable TIFF file"):
            file = open_tiff(StoredFile(folder, name), name.rpartition("/")[2])
        self.closing.callback(file.close)
        return file


def file_name(store: ObjectStore) -> str:
    """The last part of a store's URI."""
    return store.uri.rpartition("/")[2]


def look_beside(store: ObjectStore, names: frozenset[str]) -> dict[str, ObjectInfo | None]:
    """Size and version of companions by name; None for what is not there.

    Names that lead out of the folder of ``store`` count as not there.
    """
    folder = store.parent()
    found: dict[str, ObjectInfo | None] = dict.fromkeys(sorted(names))
    inside = [name for name in found if _stays_inside(name)]
    plain = {name for name in inside if "/" not in name}
    if len(plain) > _FEW:
        try:
            listed = folder.folder()
        except UnlistableError:
            plain = set()
        else:
            found |= {n: listed[n] for n in plain if n in listed and not listed[n].is_folder}
    else:
        plain = set()
    for name in inside:
        if name not in plain:
            found[name] = folder.info(name)
    return found


def _stays_inside(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return all(part not in ("", ".", "..") for part in parts) and ":" not in parts[0]


def companion_pins(infos: Mapping[str, ObjectInfo | None]) -> Pins:
    """What identifies the companions that are there."""
    return tuple(
        (f"file {name}", f"{info.size} {info.version}")
        for name, info in sorted(infos.items())
        if info is not None
    )
