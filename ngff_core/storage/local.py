"""Folders of the local file system.

Objects are written through a temporary name and a rename, so that a process killed in
mid-write leaves no torn object under a real name.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Buffer, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import zarr
from zarr.abc.store import Store as ZarrStore

from ngff_core.storage.base import Content, ObjectInfo, ObjectStore
from ngff_core.storage.page_cache import write_behind

PARTIAL = ".partial"
"""Ending of the temporary names that local writes go through (zarr's LocalStore too)."""


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
                # A link fails where the name exists, and appears with its whole content.
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
            shutil.rmtree(path, onexc=_unless_gone)
        else:
            path.unlink(missing_ok=True)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        found = {}
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    found[path.relative_to(self.root).as_posix()] = _local_info(path)
        return dict(sorted(found.items()))

    def entries(self) -> dict[str, bool]:
        if not self.root.is_dir():
            return {}
        with os.scandir(self.root) as found:
            # A link may lead back to where it stands.
            return dict(sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found))

    def info(self, key: str) -> ObjectInfo | None:
        path = self.root / key
        return _local_info(path) if path.is_file() else None

    def open(self, key: str) -> BinaryIO:
        return (self.root / key).open("rb")

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        return zarr.storage.LocalStore(self.root, read_only=read_only)

    def child(self, name: str) -> LocalFiles:
        return LocalFiles(self.root / name)

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
    """Write a file whole, and have it leave the page cache if it is large."""
    with path.open("wb") as file:
        if callable(data):
            data(file.write)
        else:
            file.write(data)
        file.flush()
        write_behind.wrote(file.fileno(), file.tell())


def _local_info(path: Path) -> ObjectInfo:
    stat = path.stat()
    return ObjectInfo(stat.st_size, f"mtime:{stat.st_mtime_ns}", stat.st_mtime)


def _unless_gone(_function: object, _path: object, error: BaseException) -> None:
    # Two processes may remove the same tree, such as a finished build's cache.
    if not isinstance(error, FileNotFoundError):
        raise error
