"""Boxes that storage decodes at once: a small cache of them, and arrays that are cut from them."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape

CACHE_BYTES = 64 * 2**20
"""Decoded bytes that one opened image keeps at most, beside the boxes being decoded."""


class Sized(Protocol):
    """Something decoded that knows its bytes: a numpy array, or arrays that belong together."""

    @property
    def nbytes(self) -> int: ...


class DecodedCache:
    """The boxes that were decoded last, by key, up to a number of bytes.

    Threads that want one box at the same time wait for one of them to decode it; all share what
    they get, so nobody may change it. A larger box than the limit is given, and not kept.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        self._bytes = 0

    def get[T: Sized](self, key: Hashable, decode: Callable[[], T]) -> T:
        """The box of that key, which ``decode`` makes where it is not kept.

        An error of ``decode`` reaches every thread that waits for the box; the next call decodes
        again.
        """
        with self._lock:
            future = self._found.get(key)
            if future is None:
                mine = self._found[key] = Future()
            else:
                self._found.move_to_end(key)
        if future is not None:
            waited: T = future.result()
            return waited
        try:
            block = decode()
        except BaseException as error:
            with self._lock:
                del self._found[key]
            mine.set_exception(error)
            raise
        mine.set_result(block)
        self._count(block.nbytes)
        return block

    def _count(self, added: int) -> None:
        """Add bytes, and forget the boxes that were used longest ago while they are too many."""
        with self._lock:
            self._bytes += added
            for key, future in list(self._found.items()):
                if self._bytes <= self._limit:
                    return
                if future.done():
                    self._bytes -= future.result().nbytes
                    del self._found[key]


@dataclass(frozen=True, eq=False)
class FrameArray:
    """An array of frames, each of which is decoded at once.

    Attributes
    ----------
    shape, dtype
        Of the whole array.
    frame
        The axes that make a frame, ascending; each other axis counts frames.
    read
        Decodes the frame at a position on the axes that are not in ``frame``.
    cache
        The frames that were decoded last.
    """

    shape: Shape
    dtype: np.dtype[Any]
    frame: tuple[int, ...]
    read: Callable[[Shape], Block]
    cache: DecodedCache

    @property
    def read_unit(self) -> Shape:
        """One frame, as a shape of the array."""
        return tuple(n if i in self.frame else 1 for i, n in enumerate(self.shape))

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        result = np.empty(tuple(s.stop - s.start for s in key), self.dtype)
        outer = [i for i in range(len(key)) if i not in self.frame]
        inside = tuple(key[i] for i in self.frame)
        for position in itertools.product(*(range(key[i].start, key[i].stop) for i in outer)):
            into: list[Any] = [slice(None)] * len(key)
            for axis, at in zip(outer, position, strict=True):
                into[axis] = at - key[axis].start
            result[tuple(into)] = self._frame(position)[inside]
        return result

    def _frame(self, position: Shape) -> Block:
        frame = self.cache.get(position, lambda: self.read(position))
        expected = tuple(self.shape[i] for i in self.frame)
        if frame.shape != expected:
            raise ValueError(f"the frame {position} has the shape {frame.shape}, not {expected}")
        return frame
