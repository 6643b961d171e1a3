"""Large written files leave the system's page cache once the disk has them.

A pyramid is written once, region after region, and is rarely read again soon. Its pages would
fill the page cache, and each region would pay for new pages. Measured with 40 files of 18 MiB,
written by two threads beside 1.2 s of other work: plain writes took 3.3 s of processor time,
and 0.4 s this way, on a virtual machine whose host takes back free memory, where the first
use of a page is expensive. Direct I/O took 0.1 s, but waits for the disk, needs aligned
buffers and fails on some file systems.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

SMALLEST_BYTES = 2**20
"""Smaller files stay in the cache: the system handles many of them better by itself."""

BEHIND_BYTES = 128 * 2**20
"""Bytes written after a file before it is released. By then a disk has stored it, or it is so
far behind that waiting longer does not help."""


def _no_advice(file: int) -> None:
    """For systems without `posix_fadvise`."""


def _advise_unneeded(file: int) -> None:
    # Only a hint: where a file system does not support it, only the gain is lost.
    with suppress(OSError):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


class WriteBehind:
    """Advises the system twice that it does not need a written file in memory.

    The first advice makes it begin to write the dirty pages, the second makes it free the
    written pages. Pages that the disk does not have by then stay, as they would have anyway.
    Threads may share one.
    """

    def __init__(self, advise: Callable[[int], None]) -> None:
        """``advise`` gets the descriptor of a file."""
        self._advise = advise
        self._waiting: deque[tuple[int, int]] = deque()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many files have had the first advice only."""
        return len(self._waiting)

    def wrote(self, file: int, nbytes: int) -> None:
        """Register a complete file of ``nbytes``. Its descriptor stays the caller's."""
        if nbytes < SMALLEST_BYTES:
            return
        self._advise(file)
        with self._lock:
            self._waiting.append((os.dup(file), nbytes))
            self._nbytes += nbytes
        self._release(BEHIND_BYTES)

    def settle(self) -> None:
        """Release all files now."""
        self._release(0)

    def _release(self, behind: int) -> None:
        """Release the oldest files until at most ``behind`` bytes wait."""
        while True:
            with self._lock:
                if self._nbytes <= behind or not self._waiting:
                    return
                file, nbytes = self._waiting.popleft()
                self._nbytes -= nbytes
            self._advise(file)
            os.close(file)


write_behind = WriteBehind(_advise_unneeded if hasattr(os, "posix_fadvise") else _no_advice)
"""Shared by all files of the process."""
