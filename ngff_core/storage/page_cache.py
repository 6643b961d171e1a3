"""Large files leave the system's page cache once the disk has them.

A pyramid is written once, region after region, and is rarely read again soon; left to
itself it fills the page cache with what nobody asks for, and each region pays for pages
that are new. With 40 files of 18 MiB, written by two threads beside 1.2 s of work, the
machine spent 3.3 s of processor time on the plain writes, and 0.4 s so: on a virtual
machine whose host takes back what is free, where a page's first use is dear. Direct I/O
took 0.1 s, but waits for the disk, wants aligned buffers and fails on some file systems.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

SMALLEST_BYTES = 2**20
"""Smaller files are left alone: the system writes many of them better by itself."""

BEHIND_BYTES = 128 * 2**20
"""Written after a file before it is let go of: by then a disk has it, or is behind anyway."""


def _nothing(file: int) -> None:
    """Where the system takes no advice."""


def _unneeded(file: int) -> None:
    # A hint: where a file system does not take it, nothing is lost but the gain.
    with suppress(OSError):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


class WriteBehind:
    """Tells the system twice of each file that it is not needed in memory.

    The first time has it begin to write what is dirty, the second one gives the pages up
    that are written. What the disk does not have by then stays, as it would have anyway.
    Threads may share it.
    """

    def __init__(self, advise: Callable[[int], None]) -> None:
        self._advise = advise
        self._waiting: deque[tuple[int, int]] = deque()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many files are not let go of yet."""
        return len(self._waiting)

    def wrote(self, file: int, nbytes: int) -> None:
        """A file was written whole; the descriptor remains the caller's."""
        if nbytes < SMALLEST_BYTES:
            return
        self._advise(file)
        with self._lock:
            self._waiting.append((os.dup(file), nbytes))
            self._nbytes += nbytes
        self._let_go(BEHIND_BYTES)

    def settle(self) -> None:
        """Let go of all files now."""
        self._let_go(0)

    def _let_go(self, behind: int) -> None:
        """Of the oldest files, until no more than ``behind`` bytes wait."""
        while True:
            with self._lock:
                if self._nbytes <= behind or not self._waiting:
                    return
                file, nbytes = self._waiting.popleft()
                self._nbytes -= nbytes
            self._advise(file)
            os.close(file)


write_behind = WriteBehind(_unneeded if hasattr(os, "posix_fadvise") else _nothing)
"""For all files of the process."""
