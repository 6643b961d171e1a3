"""Access to a gzip file, or a zlib stream inside a file, in ranges of its inflated bytes.

Gzip can be inflated from its start only. So the inflater's state is kept every few MiB of output
(a mark of about 50 KB: its window and some input), and a later read begins at the mark before it.
Bytes that no read has reached yet are inflated once, in file order, whatever the order in which
threads ask for them.
"""

from __future__ import annotations

import itertools
import math
import threading
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError, SourceNotFoundError
from ngff_core.geometry import Shape
from ngff_core.sources.ranged import RangedArray
from ngff_core.storage import LocalFiles, ObjectStore

MARK_BYTES = 4 << 20
"""Inflated bytes between two marks, in files that are not very long."""

_MOST_MARKS = 256
"""With more of them every second one is dropped, and their distance doubles."""
_KEPT = 16
"""Reads behind the front of which the end is kept, as another one often begins there."""
_PART = 16 << 10
"""Compressed bytes given to the inflater at a time."""
_STEP = 256 << 10
"""Inflated bytes at a time, however small their compressed form."""
_LOCAL_REQUEST = 256 << 10
_REMOTE_REQUEST = 1 << 20
"""Compressed bytes read at a time."""
_WBITS = {"gzip": 31, "zlib": 15}
"""zlib's ``wbits`` for header and trailer of a form; zlib compares the checksum there."""
_MAGIC = b"\x1f\x8b"
_MOST_RATIO = 1032
"""Deflate makes no more out of a byte than this."""


class _Inflater:
    """A position in the inflated bytes, for one thread at a time."""

    def __init__(self, tape: GzipTape) -> None:
        self.at = 0
        self._tape = tape
        self._inflate: Any = zlib.decompressobj(_WBITS[tape.form])
        self._given = tape.begin
        """Compressed bytes taken from the file."""
        self._left = b""
        """Those of them that the inflater has not used."""
        self._fetched = (0, b"")

    def copy(self) -> _Inflater:
        other = _Inflater(self._tape)
        other.at, other._inflate = self.at, self._inflate.copy()
        other._given, other._left = self._given, self._left
        return other

    def step(self, most: int) -> bytes:
        """The next inflated bytes, ``most`` of them or fewer; none at the end of the stream."""
        uri = self._tape.store.uri
        while True:
            if self._inflate.eof and not self._begin_member():
                return b""
            given = self._left or self._next_part()
            try:
                found: bytes = self._inflate.decompress(given, min(most, _STEP))
            except zlib.error as error:
                where = f"the {self._tape.form} stream is damaged after {self.at} inflated bytes"
                text = f"{uri}: {where}: {error}"
                raise SourceFormatError(text) from None
            ended = self._inflate.eof
            self._left = self._inflate.unused_data if ended else self._inflate.unconsumed_tail
            self.at += len(found)
            if found:
                return found
            if not given and not ended:
                raise self.truncated()

    def _begin_member(self) -> bool:
        """Whether another gzip member follows; zeros between and behind them do not count."""
        if self._tape.form != "gzip":
            return False
        self._left = self._left.lstrip(b"\0")
        while len(self._left) < len(_MAGIC):
            part = self._next_part()
            if not part:
                return False
            self._left = (self._left + part).lstrip(b"\0")
        if not self._left.startswith(_MAGIC):
            return False
        self._inflate = zlib.decompressobj(_WBITS["gzip"])
        return True

    def truncated(self) -> SourceFormatError:
        return SourceFormatError(
            f"{self._tape.store.uri}: truncated: its {self._tape.form} stream ends after "
            f"{self.at} inflated bytes, before the last sample"
        )

    def _next_part(self) -> bytes:
        start, data = self._fetched
        offset = self._given - start
        if not 0 <= offset < len(data):
            start, offset, data = self._given, 0, self._tape.compressed(self._given)
            self._fetched = (start, data)
        part = data[offset : offset + _PART]
        self._given += len(part)
        return part


class _Range(NamedTuple):
    """What one read asks for; ordered by where it begins."""

    start: int
    number: int
    stop: int


class GzipTape:
    """The inflated bytes of a gzip file, a `ranged.ByteRanges`.

    Attributes
    ----------
    store
        The compressed file.
    size
        Its bytes.
    begin, form
        Bytes before the stream, which goes on to the end of the file, and its form.
    inflated
        Bytes inflated so far; those inflated again count again.
    """

    partial_rows = False

    def __init__(
        self, store: ObjectStore, size: int, begin: int = 0, form: Literal["gzip", "zlib"] = "gzip"
    ) -> None:
        self.store = store
        self.size = size
        self.begin = begin
        self.form: Literal["gzip", "zlib"] = form
        self.inflated = 0
        self._front = _Inflater(self)
        self._marks = [(0, self._front.copy())]
        self._distance = MARK_BYTES
        self._length: int | None = None
        """Bytes after which the stream is read on to its checksum."""
        self._ends: list[_Inflater] = []
        # Lock for the fields below; notified when a waiting read may go on.
        self._turn = threading.Condition()
        self._reads: list[_Range] = []
        self._numbers = itertools.count()
        self._moving = False

    def check_complete(self, length: int) -> None:
        """Refuse a file with fewer than ``length`` inflated bytes.

        The length modulo 2**32 stands at the end of the file. Where it is another (of a truncated
        file, of one with several members) all of the file is inflated once, which sets marks.
        A zlib stream does not have its length, so of one only the possible is checked.
        """
        if length > self.size * _MOST_RATIO:
            raise SourceFormatError(
                f"{self.store.uri}: truncated: {self.size} compressed bytes cannot hold the "
                f"{length} that its header asks for"
            )
        self._length = length
        if self.form != "gzip":
            return
        end = self.store.read_part("", max(0, self.size - 4), 4)
        if end is None or int.from_bytes(end, "little") != length % 2**32:
            self.read(length - 1, 1)

    def read(self, start: int, size: int) -> bytearray:
        """Exactly ``size`` inflated bytes from ``start`` on."""
        result = bytearray()
        with self._turn:
            own = _Range(start, next(self._numbers), start + size)
            self._reads.append(own)
        try:
            while len(result) < size:
                at = start + len(result)
                if self._take_front(at, own):
                    self._move_front(at, own, result)
                else:
                    self._read_again(at, own.stop, result)
        finally:
            with self._turn:
                self._reads.remove(own)
                self._turn.notify_all()
        return result

    def compressed(self, start: int) -> bytes:
        """Some bytes of the compressed file from ``start`` on; none at its end."""
        most = _LOCAL_REQUEST if isinstance(self.store, LocalFiles) else _REMOTE_REQUEST
        most = min(most, self.size - start)
        data = self.store.read_part("", start, most) if most > 0 else b""
        if data is None:
            raise SourceNotFoundError(
                f"{self.store.uri}: the file was there when it was opened, and cannot be found now"
            )
        return data

    def _take_front(self, at: int, own: _Range) -> bool:
        """Wait for one's turn to move the front; False if it is past ``at``."""
        with self._turn:
            self._turn.wait_for(
                lambda: at < self._front.at or (not self._moving and self._is_first(own))
            )
            if at < self._front.at:
                return False
            self._moving = True
            return True

    def _is_first(self, own: _Range) -> bool:
        """Whether no read that begins earlier still needs what the front comes to."""
        return not any(each < own and each.stop > self._front.at for each in self._reads)

    def _move_front(self, at: int, own: _Range, result: bytearray) -> None:
        """Inflate up to the end of a read; on the way to ``at`` earlier reads go first."""
        front = self._front
        try:
            while front.at < own.stop:
                before = front.at
                found = _step(front, at, own.stop)
                if before >= at:
                    result += found
                with self._turn:
                    self.inflated += len(found)
                    self._mark()
                    if front.at < at and not self._is_first(own):
                        return
            if front.at == self._length:
                front.step(_STEP)
        finally:
            with self._turn:
                self._moving = False
                self._turn.notify_all()

    def _mark(self) -> None:
        if self._front.at - self._marks[-1][0] < self._distance:
            return
        self._marks.append((self._front.at, self._front.copy()))
        if len(self._marks) > _MOST_MARKS:
            del self._marks[1::2]
            self._distance *= 2

    def _read_again(self, at: int, stop: int, result: bytearray) -> None:
        """Inflate once more what the front has passed."""
        with self._turn:
            stop = min(stop, self._front.at)
            inflater = self._before(at)
        begun = inflater.at
        while inflater.at < stop:
            before = inflater.at
            found = _step(inflater, at, stop)
            if before >= at:
                result += found
        with self._turn:
            self.inflated += inflater.at - begun
            self._ends = [inflater, *self._ends][:_KEPT]

    def _before(self, at: int) -> _Inflater:
        """An inflater of one's own at ``at``, or as near before it as there is one."""
        number = bisect_right(self._marks, at, key=lambda mark: mark[0]) - 1
        position, mark = self._marks[number]
        ends = [end for end in self._ends if position < end.at <= at]
        if not ends:
            return mark.copy()
        nearest = max(ends, key=lambda end: end.at)
        self._ends.remove(nearest)
        return nearest


@dataclass(frozen=True, eq=False)
class TapeArray(RangedArray):
    """C-ordered samples in a gzip file; a box that is one range of it is read as one."""

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        box = tuple(s.stop - s.start for s in key)
        partial = [axis for axis, n in enumerate(box) if n != self.shape[axis]]
        if any(n != 1 for n in box[: max(partial, default=0)]):
            return super().__getitem__(key)
        first = 0
        for part, n in zip(key, self.shape, strict=True):
            first = first * n + part.start
        size = self.dtype.itemsize
        data = self.stored.read(self.offset + first * size, math.prod(box) * size)
        return np.frombuffer(data, self.dtype).reshape(box)

    def unit(self) -> Shape:
        """Shape of about what lies between two marks: the last axes whole, one of them in part."""
        unit = [1] * len(self.shape)
        for axis in reversed(range(len(unit))):
            room = MARK_BYTES // (math.prod(unit) * self.dtype.itemsize)
            # A plane is inflated as a whole, however large it is.
            whole = axis >= len(unit) - 2
            unit[axis] = self.shape[axis] if whole else max(1, min(self.shape[axis], room))
        return tuple(unit)


def _step(inflater: _Inflater, at: int, stop: int) -> bytes:
    """The next bytes up to ``at``, or from there up to ``stop``, or a part of these."""
    found = inflater.step((at if inflater.at < at else stop) - inflater.at)
    if not found:
        raise inflater.truncated()
    return found
