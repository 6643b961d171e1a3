"""Uncompressed samples at an offset in a file, read in ranges of bytes from any store."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ngff_core.blocks import ArrayLike, Block
from ngff_core.errors import SourceFormatError, SourceNotFoundError, TransientError
from ngff_core.geometry import Shape
from ngff_core.model.image import TransposedArray
from ngff_core.storage import Bucket, LocalFiles, ObjectStore

_LONG_ROW = 1 << 16
"""Bytes of a row from which on only the part that is needed is read from a local disk."""


class ByteRanges(Protocol):
    """Bytes that are read in ranges, by several threads at once."""

    @property
    def partial_rows(self) -> bool:
        """Whether the part of a long row costs less than the row."""
        ...

    def read(self, start: int, size: int) -> bytes | bytearray:
        """Exactly ``size`` bytes from ``start`` on; an error where they are not there."""
        ...


@dataclass(frozen=True, eq=False)
class StoredBytes:
    """The bytes of one stored file.

    The file is not memory-mapped: mapped pages count as this process's memory, and a build's
    memory grew to nearly twice the size of its source.
    """

    store: Bucket | LocalFiles

    @property
    def partial_rows(self) -> bool:
        return isinstance(self.store, LocalFiles)

    def read(self, start: int, size: int) -> bytes:
        found = self.store.read_part("", start, size)
        if found is None:
            raise SourceNotFoundError(
                f"{self.store.uri}: the file was there when it was opened, and cannot be found now"
            )
        if len(found) != size:
            message = f"{self.store.uri}: truncated: {len(found)} of {size} bytes read"
            # An object in a bucket was long enough when it was opened. So the response was cut
            # short, or the object was replaced, which the next run finds out.
            raise (SourceFormatError if isinstance(self.store, LocalFiles) else TransientError)(
                message
            )
        return found


@dataclass(frozen=True, eq=False)
class RangedArray:
    """C-ordered samples in ranges of bytes; a box is read plane by plane.

    All rows of a plane that the box needs are read complete, in one request: one request for
    each row would cost a hundred times the latency to save a few bytes. Only where rows are
    long and the file is on a local disk, just the part that is needed is read, row by row.
    """

    stored: ByteRanges
    offset: int
    """Bytes before the first sample."""
    shape: Shape
    dtype: np.dtype[Any]

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        result = np.empty(tuple(s.stop - s.start for s in key), self.dtype)
        outer, inner = key[:-2], key[-2:]
        for index in itertools.product(*(range(s.stop - s.start) for s in outer)):
            position = tuple(i + s.start for i, s in zip(index, outer, strict=True))
            result[index] = self._plane(position, inner)
        return result

    def _plane(self, position: Shape, inner: tuple[slice, ...]) -> Block:
        plane = self.shape[-len(inner) :]
        number = 0
        for i, n in zip(position, self.shape, strict=False):
            number = number * n + i
        first = number * math.prod(plane)
        if len(inner) == 1:
            return self._samples(first + inner[0].start, first + inner[0].stop)
        rows, columns = inner
        width = plane[1]
        if self.stored.partial_rows and width * self.dtype.itemsize > _LONG_ROW:
            starts = (first + row * width for row in range(rows.start, rows.stop))
            parts = [self._samples(s + columns.start, s + columns.stop) for s in starts]
            return np.stack(parts)
        flat = self._samples(first + rows.start * width, first + rows.stop * width)
        return flat.reshape(-1, width)[:, columns]

    def _samples(self, start: int, stop: int) -> Block:
        size = self.dtype.itemsize
        data = self.stored.read(self.offset + start * size, (stop - start) * size)
        return np.frombuffer(data, self.dtype)


def end_of_array(offset: int, shape: Shape, dtype: np.dtype[Any]) -> int:
    """Bytes of a file in which an array at ``offset`` is complete."""
    return offset + math.prod(shape) * dtype.itemsize


def ranged_array(
    store: ObjectStore, offset: int, shape: Shape, dtype: np.dtype[Any], fortran: bool = False
) -> ArrayLike:
    """The array of ``shape`` at ``offset`` in the file of ``store``, in C or Fortran order.

    Wrap it in a `Reader`, and compare `end_of_array` with the file's size first.
    """
    if not isinstance(store, Bucket | LocalFiles):
        raise TypeError(
            f"cannot read ranges of bytes from {store!r}; copy the file to a disk or bucket"
        )
    # Fortran order is C order with the axes reversed.
    order = tuple(reversed(range(len(shape))))
    stored = tuple(shape[i] for i in order) if fortran else shape
    data = RangedArray(StoredBytes(store), offset, stored, dtype)
    return TransposedArray(data, order) if fortran else data


def ranged_unit(store: ObjectStore, shape: Shape, fortran: bool = False) -> Shape:
    """One sample of a local file; one row of a remote one, whose rows are read complete."""
    unit = [1] * len(shape)
    if not isinstance(store, LocalFiles):
        fastest = 0 if fortran else -1
        unit[fastest] = shape[fastest]
    return tuple(unit)
