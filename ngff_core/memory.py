"""How much memory there is, and giving it back."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil

_CGROUP = Path("/sys/fs/cgroup")

_WASTE = 8
"""Part of an array's bytes by which the memory that it lies in may be larger."""

type _Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


def available_memory() -> int:
    """Bytes this process may hope for: what is available, or what its cgroup leaves."""
    available = int(psutil.virtual_memory().available)
    try:
        with (
            open(_CGROUP / "memory.max") as limit,
            open(_CGROUP / "memory.current") as current,
        ):
            return min(available, int(limit.read()) - int(current.read()))
    except (OSError, ValueError):
        return available


class ScratchBuffer(threading.local):
    """Room for one array that a thread fills again and again, whatever its shape.

    Memory that is new to the process costs more than what is copied into it.
    """

    _bytes: Any = None

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """An array with anything in it, until this thread's next call."""
        nbytes = math.prod(shape) * dtype.itemsize
        if self._bytes is None or self._bytes.nbytes < nbytes:
            self._bytes = None  # the old one goes first
            self._bytes = np.empty(nbytes, np.uint8)
        room: np.ndarray[Any, Any] = self._bytes[:nbytes].view(dtype).reshape(shape)
        return room


class Recycler:
    """Arrays that lie in memory which earlier ones, gone by now, have left.

    An array's memory returns by itself when the last reference to it or to a view of it
    is gone. No more is ever kept than was in use at once. Threads may share a recycler.

    The system clears every page that is new to a process: with a new array for each
    32 MiB region that took a seventh of a build's processor time.
    """

    def __init__(self) -> None:
        self._free: list[_Bytes] = []
        # Reentrant: collecting garbage may end a lease while the lock is held.
        self._lock = threading.RLock()

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """An array of its own, with anything in it."""
        nbytes = math.prod(shape) * dtype.itemsize
        lease = _Lease(self, self._taken(nbytes))
        room: np.ndarray[Any, Any] = np.frombuffer(lease, np.uint8, nbytes)
        return room.view(dtype).reshape(shape)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what is kept and not in use."""
        with self._lock:
            return sum(block.nbytes for block in self._free)

    def give_up(self) -> None:
        """Keep nothing of what is not in use."""
        with self._lock:
            self._free.clear()

    def take_back(self, block: _Bytes) -> None:
        """An array that lay in ``block`` is gone."""
        with self._lock:
            self._free.append(block)

    def _taken(self, nbytes: int) -> _Bytes:
        with self._lock:
            for place, block in enumerate(self._free):
                if nbytes <= block.nbytes <= nbytes + nbytes // _WASTE:
                    return self._free.pop(place)
            # What is new takes the place of as much that does not fit.
            left = nbytes
            while self._free and left > 0:
                left -= self._free.pop(0).nbytes
        return np.empty(nbytes, np.uint8)


class _Lease:
    """Holds a block for the arrays that lie in it, by the buffer protocol of PEP 688."""

    def __init__(self, recycler: Recycler, block: _Bytes) -> None:
        self._recycler = recycler
        self._block = block

    def __buffer__(self, flags: int) -> memoryview:
        return self._block.data

    def __del__(self) -> None:
        self._recycler.take_back(self._block)


regions = Recycler()
"""For the samples of whole regions, which are all of a few sizes."""


def release_memory() -> None:
    """Give freed memory back to the system, where the allocator keeps it otherwise.

    glibc keeps blocks below 32 MiB for later: a build of 512 MiB ended with 321 MiB
    kept, and 98 with this call after each region, which takes 10 ms.
    """
    regions.give_up()
    if _malloc_trim is not None:
        _malloc_trim(0)


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (OSError, AttributeError, TypeError):
        return None  # another C library than glibc


_malloc_trim = _find_malloc_trim()
