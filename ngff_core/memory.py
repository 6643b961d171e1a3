"""Available memory, buffers that are used again, and returning freed memory to the system."""

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

_SLACK_DIVISOR = 8
"""A pooled buffer may be larger than the array in it by 1/8 of the array's bytes."""

type _Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]


def available_memory() -> int:
    """Bytes that this process can still use: the system's available memory, or what is left
    below the memory limit of its cgroup, whichever is less."""
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
    """One buffer per thread for a short-lived array, used again by the thread's next array.

    Memory that is new to the process costs more than copying samples into it. The buffer
    grows to the largest array asked for and never shrinks.
    """

    _bytes: Any = None

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """An uninitialised array, valid until this thread's next call."""
        nbytes = math.prod(shape) * dtype.itemsize
        if self._bytes is None or self._bytes.nbytes < nbytes:
            self._bytes = None  # frees the smaller buffer before the larger one is made
            self._bytes = np.empty(nbytes, np.uint8)
        array: np.ndarray[Any, Any] = self._bytes[:nbytes].view(dtype).reshape(shape)
        return array


class MemoryPool:
    """Arrays that use the memory of earlier arrays again. Threads may share a pool.

    An array's memory returns to the pool by itself, when the last reference to the array
    or to a view of it is gone. It is used again for arrays of the same number of bytes, or
    of up to 1/9 fewer: a buffer may exceed its array by 1/8 of the array's bytes. When no
    buffer fits, a new one is made, and unused ones of at least as many bytes together are
    freed, the oldest first. So in use and unused together, a pool never holds more than
    the largest amount that was in use at once, and 1/8 of it.

    The system clears every page that is new to a process: with a new array for each
    32 MiB region that took a seventh of a build's processor time.
    """

    def __init__(self) -> None:
        self._unused: list[_Bytes] = []
        # Reentrant: garbage collection may return a buffer while this thread holds the lock.
        self._lock = threading.RLock()

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """An uninitialised array; no other array shares its memory while it is referenced."""
        nbytes = math.prod(shape) * dtype.itemsize
        loan = _Loan(self, self._take(nbytes))
        array: np.ndarray[Any, Any] = np.frombuffer(loan, np.uint8, nbytes)
        return array.view(dtype).reshape(shape)

    @property
    def unused_bytes(self) -> int:
        """Bytes of the buffers that no array uses."""
        with self._lock:
            return sum(buffer.nbytes for buffer in self._unused)

    def free_unused(self) -> None:
        """Free the buffers that no array uses."""
        with self._lock:
            self._unused.clear()

    def _give_back(self, buffer: _Bytes) -> None:
        with self._lock:
            self._unused.append(buffer)

    def _take(self, nbytes: int) -> _Bytes:
        with self._lock:
            for index, buffer in enumerate(self._unused):
                if nbytes <= buffer.nbytes <= nbytes + nbytes // _SLACK_DIVISOR:
                    return self._unused.pop(index)
            # The new buffer replaces unused ones of as many bytes that do not fit.
            to_free = nbytes
            while self._unused and to_free > 0:
                to_free -= self._unused.pop(0).nbytes
        return np.empty(nbytes, np.uint8)


class _Loan:
    """Owner of the memory of one array (buffer protocol, PEP 688); returns it to the pool
    when the array and all views of it are gone."""

    def __init__(self, pool: MemoryPool, buffer: _Bytes) -> None:
        self._pool = pool
        self._buffer = buffer

    def __buffer__(self, flags: int) -> memoryview:
        return self._buffer.data

    def __del__(self) -> None:
        self._pool._give_back(self._buffer)


region_memory = MemoryPool()
"""Memory for the samples of regions, which are of a few sizes only."""


def release_memory() -> None:
    """Return freed memory to the system: unused region memory, and what the allocator keeps.

    glibc keeps freed blocks below 32 MiB for later: a build of 512 MiB ended with 321 MiB
    kept, and 98 with this call after each region, which takes 10 ms.
    """
    region_memory.free_unused()
    if _malloc_trim is not None:
        _malloc_trim(0)


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (OSError, AttributeError, TypeError):
        return None  # a C library other than glibc


_malloc_trim = _find_malloc_trim()
