"""A file that never reads beyond its end, whatever its headers claim."""

from __future__ import annotations

import io
from collections.abc import Buffer
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from ngff_core.storage import ObjectStore


class BoundedFile(io.RawIOBase):
    """A view of a seekable file for libraries that read as many bytes as a header says.

    A plain file takes memory for all the bytes that are asked for, before it finds that they are
    not there. It is also not mapped into memory by libraries that map plain files: mapped pages
    count as memory of the process. Closing it leaves the file open.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file = file
        self.size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Buffer, /) -> int:
        into = memoryview(buffer).cast("B")
        data = self.read(len(into))
        into[: len(data)] = data
        return len(data)


def open_bounded(store: ObjectStore, file: BinaryIO) -> BoundedFile:
    """``file``, which ``store`` opened, with the size that the store says.

    Raises ``FileNotFoundError`` if the store no longer has it.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    return BoundedFile(file, info.size)
