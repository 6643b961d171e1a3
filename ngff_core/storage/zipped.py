"""Zip files as stores, for reading: each member is an object."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import BinaryIO, Self

from zarr.storage import ZipStore

from ngff_core.errors import SourceFormatError
from ngff_core.storage.base import ObjectInfo, ObjectStore
from ngff_core.storage.local import LocalFiles
from ngff_core.storage.zarr_backed import ZarrBacked

_ENCRYPTED = 1
"""Bit of a member's flags."""


@dataclass(frozen=True)
class _Members:
    """What is in a zip file, read at its first use."""

    file: ObjectStore

    @cached_property
    def by_name(self) -> Mapping[str, ObjectInfo]:
        """Size and version of each member, without folders and what leads outside.

        A version consists of the file's own and the member's CRC-32.
        """
        info = self.file.info("")
        if info is None:
            raise FileNotFoundError(self.file.uri)
        version = f"{info.size}:{info.version}"
        return {
            m.filename: ObjectInfo(m.file_size, f"{version}:crc32:{m.CRC:08x}", info.modified)
            for m in self._directory()
            if _is_object(m.filename)
        }

    def _directory(self) -> list[zipfile.ZipInfo]:
        uri = self.file.uri
        try:
            with self.file.open("") as opened, zipfile.ZipFile(opened) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise SourceFormatError(f"{uri}: cannot be read as a zip file: {error}") from error
        if any(member.flag_bits & _ENCRYPTED for member in members):
            raise SourceFormatError(f"{uri}: an encrypted zip file; unpack it and give the folder")
        return members


class ZippedFiles(ZarrBacked):
    """A prefix of a zip file. Several threads may read it at once; nothing is written."""

    def __init__(self, store: ZipStore, prefix: str, uri: str, members: _Members) -> None:
        super().__init__(store, prefix, uri)
        self._zip = store
        self._directory = members

    @property
    def _members(self) -> Mapping[str, ObjectInfo]:
        return self._directory.by_name

    def read(self, key: str) -> bytes | None:
        return super().read(key) if self._path(key) in self._members else None

    def info(self, key: str) -> ObjectInfo | None:
        return self._members.get(self._path(key)) if key else None

    def _keys(self, prefix: str) -> list[str]:
        below = f"{self._path(prefix)}/".lstrip("/")
        skip = len(self._prefix) + 1 if self._prefix else 0
        return sorted(name[skip:] for name in self._members if name.startswith(below))

    def _at(self, prefix: str, uri: str) -> Self:
        return type(self)(self._zip, prefix, uri, self._directory)

    @property
    def has_versions(self) -> bool:
        """Always: a member's version is known by the file's, and its checksum."""
        return True

    def close(self) -> None:
        """Close the file. Do not read afterwards."""
        self._zip.close()


class _ClosingZip(ZipStore):
    """A zip store that closes the file which it was given."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, mode="r")
        self._given = file

    def close(self) -> None:
        super().close()
        self._given.close()


def open_zip(file: ObjectStore) -> ZippedFiles:
    """The members of the zip file that ``file`` names, to be closed.

    Raises `SourceFormatError` for one that is damaged or encrypted.
    """
    members = _Members(file)
    members.by_name  # noqa: B018 - read now, so that a damaged file is refused before it is opened
    opened = ZipStore(file.root, mode="r") if isinstance(file, LocalFiles) else None
    return ZippedFiles(opened or _ClosingZip(file.open("")), "", file.uri, members)


def zipped_store(store: ZipStore, prefix: str) -> ZippedFiles | None:
    """Our view of a zip store of zarr's; None for one that is written to, or has no path."""
    if store.path is None or not store.read_only:
        return None
    file = LocalFiles(store.path.absolute())
    uri = f"{file.uri}/{prefix}".rstrip("/")
    return ZippedFiles(store, prefix, uri, _Members(file))


def _is_object(name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and path.as_posix() == name
    return inside and not name.endswith("/")
