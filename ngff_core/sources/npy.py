"""Files written by ``numpy.save``, read in ranges of bytes."""

from __future__ import annotations

import ast
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.blocks import ArrayLike, Block
from ngff_core.errors import SourceFormatError, SourceNotFoundError, TransientError
from ngff_core.geometry import Shape
from ngff_core.model.image import TransposedArray
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.storage import Bucket, LocalFiles, ObjectInfo, ObjectStore

_MAX_HEADER = 1 << 16
"""Largest header in bytes. numpy's limit is 10 000; a plain dtype needs a few hundred."""

_LONG_ROW = 1 << 16
"""Bytes of a row from which on only the part that is needed is read from a local disk."""


@dataclass(frozen=True)
class _Header:
    """Where the samples of a .npy file begin, and their layout."""

    offset: int
    """Bytes before the first sample."""
    shape: Shape
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def end(self) -> int:
        """Bytes of a complete file."""
        return self.offset + int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class _RangedArray:
    """C-ordered samples in a file; a box is read plane by plane.

    All rows of a plane that the box needs are read complete, in one request: one request for
    each row would cost a hundred times the latency to save a few bytes. Only where rows are
    long and the file is on a local disk, just the part that is needed is read, row by row.
    The file is not memory-mapped: mapped pages count as this process's memory, and a build's
    memory grew to nearly twice the size of its source.
    """

    store: Bucket | LocalFiles
    offset: int
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
        first = number * int(np.prod(plane))
        if len(inner) == 1:
            return self._samples(first + inner[0].start, first + inner[0].stop)
        rows, columns = inner
        width = plane[1]
        if isinstance(self.store, LocalFiles) and width * self.dtype.itemsize > _LONG_ROW:
            starts = (first + row * width for row in range(rows.start, rows.stop))
            parts = [self._samples(s + columns.start, s + columns.stop) for s in starts]
            return np.stack(parts)
        flat = self._samples(first + rows.start * width, first + rows.stop * width)
        return flat.reshape(-1, width)[:, columns]

    def _samples(self, start: int, stop: int) -> Block:
        size = self.dtype.itemsize
        data = self._bytes(self.offset + start * size, self.offset + stop * size)
        if len(data) != (stop - start) * size:
            message = (
                f"{self.store.uri}: truncated: {len(data)} of {(stop - start) * size} bytes read"
            )
            # An object in a bucket was long enough when it was opened. So the response was cut
            # short, or the object was replaced, which the next run finds out.
            raise (SourceFormatError if isinstance(self.store, LocalFiles) else TransientError)(
                message
            )
        return np.frombuffer(data, self.dtype)

    def _bytes(self, start: int, stop: int) -> bytes:
        found = self.store.read_part("", start, stop - start)
        if found is None:
            raise SourceNotFoundError(
                f"{self.store.uri}: the file was there when it was opened, and cannot be found now"
            )
        return found


def open_images(store: ObjectStore) -> SourceImages:
    """The array in the .npy file that ``store`` names; only its header is read.

    Raises `SourceFormatError` for a truncated file, and for samples that are not numbers.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    header = _read_header(store)
    check_array(header.shape, header.dtype, store.uri)
    if info.size < header.end:
        raise SourceFormatError(
            f"{store.uri}: truncated: {info.size} bytes, but its array ends at {header.end}"
        )
    reader = Reader(_array(store, header), store.uri, header.shape, header.dtype)
    image = ImageDescription(
        name=None,
        axes=(UNNAMED,) * len(header.shape),
        shape=header.shape,
        dtype=header.dtype.str,
    )
    return SourceImages(
        identity=_identity(store, info),
        kind="npy",
        format="a NumPy file",
        images=(image,),
        open_image=lambda _: Samples(reader, _unit(store, header)),
    )


def _read_header(store: ObjectStore) -> _Header:
    with as_format_error(f"{store.uri}: not a readable .npy header"), store.open("") as file:
        start = file.read(12)
        major = start[6]
        # The header's length has two bytes in version 1, four in later versions.
        width = 2 if major == 1 else 4
        length = int.from_bytes(start[8 : 8 + width], "little")
        if major > 3 or length > _MAX_HEADER:
            raise ValueError(f"version {major} with a header of {length} bytes")
        file.seek(8 + width)
        text = file.read(length)
        if len(text) < length:
            raise ValueError(f"truncated: {len(text)} bytes of a header of {length}")
        return _parse_header(text.decode("utf-8" if major == 3 else "latin1"), 8 + width + length)


def _parse_header(text: str, offset: int) -> _Header:
    content = ast.literal_eval(text.strip())
    shape = tuple(int(n) for n in content["shape"])
    dtype = np.lib.format.descr_to_dtype(content["descr"])
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return _Header(offset, shape, dtype, bool(content["fortran_order"]))


def _array(store: ObjectStore, header: _Header) -> ArrayLike:
    # Fortran order is C order with the axes reversed.
    order = tuple(reversed(range(len(header.shape))))
    stored = tuple(header.shape[i] for i in order) if header.fortran else header.shape
    data = _c_ordered(store, header, stored)
    return TransposedArray(data, order) if header.fortran else data


def _c_ordered(store: ObjectStore, header: _Header, shape: Shape) -> ArrayLike:
    if isinstance(store, Bucket | LocalFiles):
        return _RangedArray(store, header.offset, shape, header.dtype)
    raise TypeError(
        f"cannot read ranges of bytes from {store!r}; copy the file to a disk or bucket"
    )


def _unit(store: ObjectStore, header: _Header) -> Shape:
    """One sample of a local file; one row of a remote one, whose rows are read complete."""
    unit = [1] * len(header.shape)
    if not isinstance(store, LocalFiles):
        fastest = 0 if header.fortran else -1
        unit[fastest] = header.shape[fastest]
    return tuple(unit)


def _identity(store: ObjectStore, info: ObjectInfo) -> SourceIdentity:
    return SourceIdentity(store.uri, (("size", str(info.size)), ("version", info.version)))
