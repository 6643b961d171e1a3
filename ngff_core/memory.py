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


class Room(threading.local):
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


def release_memory() -> None:
    """Give freed memory back to the system, where the allocator keeps it otherwise.

    glibc keeps blocks below 32 MiB for later: a build of 512 MiB ended with 321 MiB
    kept, and 98 with this call after each region, which takes 10 ms.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)


def _find_malloc_trim() -> Callable[[int], int] | None:
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (OSError, AttributeError, TypeError):
        return None  # another C library than glibc


_malloc_trim = _find_malloc_trim()
