"""Files of ``numpy.save``, read in ranges."""

from __future__ import annotations

import ast
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.blocks import ArrayLike, Block
from ngff_core.errors import (
    InvalidOptionError,
    SourceFormatError,
    SourceNotFoundError,
    TransientError,
)
from ngff_core.geometry import Shape
from ngff_core.model.axes import default_dims
from ngff_core.model.image import NgffImage, TransposedArray
from ngff_core.sources.base import (
    Reader,
    Source,
    SourceIdentity,
    check_array,
    make_source,
    refusing,
)
from ngff_core.storage import Bucket, LocalFiles, ObjectInfo, ObjectStore

MAGIC = b"\x93NUMPY"

_MAX_HEADER = 1 << 16
"""numpy itself stops at 10 000 bytes; a plain dtype needs some hundred."""

_LONG_ROW = 1 << 16


@dataclass(frozen=True)
class _Header:
    """Where the samples of a .npy file begin, and how they lie."""

    offset: int
    shape: Shape
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def end(self) -> int:
        return self.offset + int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class _RangedArray:
    """C-ordered samples of a file; a box is read plane by plane.

    Of each plane the whole rows from the first to the last that the box needs come in
    one request: a request per row would cost a hundred times the latency for less bytes.
    Only of long rows on a local disk the part that is needed is read for itself. Nothing
    is mapped: mapped pages count as this process's memory, and a build's grew to nearly
    twice its source.
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
            told = f"{self.store.uri}: truncated: {len(data)} bytes of {(stop - start) * size}"
            # A bucket's object was long enough when it was opened: so this is an answer that
            # broke off, or another object, which the next run will tell.
            raise (SourceFormatError if isinstance(self.store, LocalFiles) else TransientError)(
                told
            )
        return np.frombuffer(data, self.dtype)

    def _bytes(self, start: int, stop: int) -> bytes:
        found = self.store.read_part("", start, stop - start)
        if found is None:
            raise SourceNotFoundError(
                f"{self.store.uri}: the file was there when it was opened, and cannot be found now"
            )
        return found


def open_npy(store: ObjectStore) -> Source:
    """The array in the .npy file that ``store`` names; only its header is read.

    Raises `SourceFormatError` for a truncated file, and for samples that are no numbers.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    header = _read_header(store)
    check_array(header.shape, header.dtype, store.uri)
    if info.size < header.end:
        raise SourceFormatError(
            f"{store.uri}: truncated: {info.size} bytes, and its array ends at {header.end}"
        )
    data = _array(store, header)
    reader = Reader(data, store.uri, header.shape, header.dtype)
    image = NgffImage(reader, dims=_dims(header, store.uri))
    return make_source(image, _identity(store, info), _unit(store, header), "npy")


def _read_header(store: ObjectStore) -> _Header:
    with refusing(f"{store.uri}: not a readable .npy header"), store.open("") as file:
        start = file.read(12)
        major = start[6]
        # Version 1 counts its header in two bytes, the later ones in four.
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
    # Fortran order is C order with the axes the other way round.
    order = tuple(reversed(range(len(header.shape))))
    stored = tuple(header.shape[i] for i in order) if header.fortran else header.shape
    data = _c_ordered(store, header, stored)
    return TransposedArray(data, order) if header.fortran else data


def _c_ordered(store: ObjectStore, header: _Header, shape: Shape) -> ArrayLike:
    if isinstance(store, Bucket | LocalFiles):
        return _RangedArray(store, header.offset, shape, header.dtype)
    raise TypeError(f"no way to read ranges of {store!r}")


def _dims(header: _Header, uri: str) -> tuple[str, ...]:
    try:
        return default_dims(len(header.shape))
    except InvalidOptionError as error:
        raise SourceFormatError(f"{uri}: {error}") from error


def _unit(store: ObjectStore, header: _Header) -> Shape:
    """A sample where the file is local; a row where it is fetched, for rows come whole."""
    unit = [1] * len(header.shape)
    if not isinstance(store, LocalFiles):
        fastest = 0 if header.fortran else -1
        unit[fastest] = header.shape[fastest]
    return tuple(unit)


def _identity(store: ObjectStore, info: ObjectInfo) -> SourceIdentity:
    return SourceIdentity(store.uri, (("size", str(info.size)), ("version", info.version)))
