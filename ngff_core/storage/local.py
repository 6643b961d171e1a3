"""Folders of the local file system.

Each object is written under a temporary name and then renamed, so a process killed in the
middle of a write leaves no torn object under a real name.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Buffer, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import zarr
from zarr.abc.store import Store as ZarrStore

from ngff_core.storage.base import Content, Entry, ObjectInfo, ObjectStore
from ngff_core.storage.page_cache import write_behind

PARTIAL = ".partial"
"""Suffix of the temporary names of local writes (zarr's LocalStore uses it too)."""


class LocalFiles(ObjectStore):
    """A folder of the local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        try:
            with (self.root / key).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, key: str, data: Content) -> None:
        with self._temporary(key, data) as temporary:
            temporary.replace(self.root / key)

    def create(self, key: str, data: Buffer) -> bool:
        with self._temporary(key, data) as temporary:
            try:
                # A link fails if the name exists, and appears with its complete content.
                os.link(temporary, self.root / key)
            except FileExistsError:
                return False
            temporary.unlink()
            return True

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            (self.root / key).unlink()

    def delete_tree(self, prefix: str = "") -> None:
        path = self.root / prefix
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onexc=_unless_absent)
        else:
            path.unlink(missing_ok=True)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        found = {}
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    found[path.relative_to(self.root).as_posix()] = _info(path.stat())
        return dict(sorted(found.items()))

    def folder(self, prefix: str = "") -> dict[str, Entry]:
        found = {}
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.root / prefix) as names,
        ):
            for name in names:
                # Deleted since it was listed, or a link to nothing.
                with suppress(FileNotFoundError):
                    found[name.name] = _entry(name)
        return dict(sorted(found.items()))

    def entry(self, key: str) -> Entry | None:
        try:
            found = (self.root / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry.of_folder() if stat.S_ISDIR(found.st_mode) else Entry.of_object(_info(found))

    def info(self, key: str) -> ObjectInfo | None:
        path = self.root / key
        return _info(path.stat()) if path.is_file() else None

    def open(self, key: str) -> BinaryIO:
        return (self.root / key).open("rb")

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        return zarr.storage.LocalStore(self.root, read_only=read_only)

    def child(self, name: str) -> LocalFiles:
        return LocalFiles(self.root / name)

    def sibling(self, suffix: str) -> LocalFiles:
        return LocalFiles(self.root.with_name(f"{self.root.name}{suffix}"))

    def parent(self) -> LocalFiles:
        return LocalFiles(self.root.parent)

    def link_out_of(self, prefix: str) -> str | None:
        """A symbolic link below ``prefix`` that leads out of it, relative to it; None if none."""
        top = self.root / prefix
        inside = top.resolve()
        for folder, folders, names in os.walk(top):
            for name in (*folders, *names):
                path = Path(folder, name)
                if path.is_symlink() and not path.resolve().is_relative_to(inside):
                    return str(path.relative_to(top))
        return None

    def is_empty(self) -> bool:
        return not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir()))

    def sweep(self, prefix: str = "") -> None:
        for key in self.objects(prefix):
            if key.endswith(PARTIAL):
                self.delete(key)

    @contextmanager
    def _temporary(self, key: str, data: Content) -> Iterator[Path]:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            write_file(temporary, data)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, data: Content) -> None:
    """Write a complete file. A large one leaves the page cache afterwards."""
    with path.open("wb") as file:
        if callable(data):
            data(file.write)
        else:
            file.write(data)
        file.flush()
        write_behind.wrote(file.fileno(), file.tell())


def _info(found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(found.st_size, f"mtime:{found.st_mtime_ns}", found.st_mtime)


def _entry(found: os.DirEntry[str]) -> Entry:
    # A link is never a folder here: it may lead to a folder above it, and a walk would not end.
    if found.is_dir(follow_symlinks=False):
        return Entry.of_folder()
    return Entry.of_object(_info(found.stat()))


def _unless_absent(_function: object, _path: object, error: BaseException) -> None:
    # Two processes may delete the same tree, such as the cache of a finished build.
    if not isinstance(error, FileNotFoundError):
        raise error
