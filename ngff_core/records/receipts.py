"""Receipts in memory: some 40 bytes for a region of one object.

A petabyte has thirty million regions. As Python objects their receipts took 460 bytes each, so
the ledger alone would have filled a machine.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np

_HEAD = struct.Struct("<IH")
_OBJECT = struct.Struct("<QIH")
_BATCH = 65_536
"""Regions that are looked at together."""

# The same two for many receipts at once.
_HEAD_DTYPE = np.dtype([("samples_crc32c", "<u4"), ("count", "<u2")])
_OBJECT_DTYPE = np.dtype([("size", "<u8"), ("crc", "<u4"), ("length", "<u2")])

type _Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class StoredObject:
    """One stored object: its key below its array, its size in bytes, the CRC-32C of its bytes."""

    key: str
    size: int
    crc32c: int


@dataclass(frozen=True)
class Receipt:
    """One stored region: its number, the checksum of its samples, its objects.

    ``samples_crc32c`` is the CRC-32C of the samples as `LevelEncoder.checksum` computes it.
    """

    region: int
    samples_crc32c: int
    objects: tuple[StoredObject, ...]

    @property
    def stored_bytes(self) -> int:
        """Bytes of its objects."""
        return sum(stored.size for stored in self.objects)


type _UInt32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
type _Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ObjectRow(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A `StoredObject` in a line of the ledger."""

    key: str
    size: _Int64
    crc32c: _UInt32


class Row(msgspec.Struct, gc=False):
    """A `Receipt` as a line of the ledger.

    Reading a million rows takes some 1.4 s, half of it for decoding. Decoded by json, and packed
    one by one, they took twice that.
    """

    region: _Int64
    samples_crc32c: _UInt32 = msgspec.field(name="samples")
    objects: tuple[ObjectRow, ...]


class Regions(Collection[int]):
    """Some regions of a level at one moment. It takes one byte for each region of the level."""

    def __init__(self, flags: bytes, count: int) -> None:
        self._flags = flags
        self._count = count

    def __contains__(self, region: object) -> bool:
        return (
            isinstance(region, int) and 0 <= region < len(self._flags) and self._flags[region] > 0
        )

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return (region for region, flag in enumerate(self._flags) if flag)


class Receipts(Mapping[int, Receipt]):
    """Receipts by region, in the order of the regions, for a level of ``total`` regions."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.stored_bytes = 0
        """Bytes of all objects that the receipts name."""
        self._count = 0
        self._packed = bytearray()
        # Where the receipt of each region ends in `_packed`, 0 where there is none. The system
        # has no pages for zeros that were never written, so a level not begun takes no memory.
        self._ends = np.zeros(total, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the receipts take."""
        return len(self._packed) + self._ends.nbytes

    def put(self, receipt: Receipt) -> None:
        """Take a receipt; it replaces an earlier one of the same region.

        Raises ValueError for a region that the level does not have, and for a checksum, a size
        or a key that does not fit where it is packed.
        """
        self._check(receipt.region, receipt.region)
        try:
            # The head comes last: one number for each region, where it ends, finds a receipt.
            parts = []
            for stored in receipt.objects:
                key = stored.key.encode()
                parts += [key, _OBJECT.pack(stored.size, stored.crc32c, len(key))]
            parts.append(_HEAD.pack(receipt.samples_crc32c, len(receipt.objects)))
        except struct.error as error:
            raise ValueError(str(error)) from error
        self.discard(receipt.region)
        self._packed += b"".join(parts)
        self._ends[receipt.region] = len(self._packed)
        self._count += 1
        self.stored_bytes += receipt.stored_bytes

    def put_rows(self, rows: Sequence[Row]) -> list[int]:
        """Take many receipts at once, and return their regions.

        A receipt replaces an earlier one of the same region, also an earlier one in ``rows``.
        Raises ValueError as `put` does; then no receipt is taken.
        """
        if not rows:
            return []
        regions = _column(rows, "region")
        self._check(int(regions.min()), int(regions.max()))
        packed, ends, sizes = _packed(rows)
        for region in np.unique(regions[self._ends[regions] != 0]).tolist():
            self.discard(region)
        ends += len(self._packed)
        self._packed += packed
        self._ends[regions] = ends
        latest = self._ends[regions] == ends
        self._count += int(latest.sum())
        self.stored_bytes += int(sizes[latest].sum())
        numbers: list[int] = regions.tolist()
        return numbers

    def _check(self, first: int, last: int) -> None:
        if first < 0 or last >= self.total:
            raise ValueError(f"it has a region that is none of the {self.total} of this plan")

    def discard(self, region: int) -> None:
        """Forget the receipt of a region, if there is one."""
        if region in self:
            # Its bytes stay in `_packed`: this is rare, and a list of holes would cost more.
            self.stored_bytes -= self[region].stored_bytes
            self._ends[region] = 0
            self._count -= 1

    def missing(self) -> list[int]:
        """Regions without a receipt, in order."""
        missing: list[int] = np.flatnonzero(self._ends == 0).tolist()
        return missing

    def snapshot(self) -> Regions:
        """The regions that have a receipt now."""
        return Regions((self._ends != 0).tobytes(), self._count)

    def between(self, first: int, last: int) -> Iterator[Receipt]:
        """The receipts of the regions from ``first`` up to and without ``last``, in order."""
        return map(self.__getitem__, self._regions(first, last))

    def __contains__(self, region: object) -> bool:
        return isinstance(region, int) and 0 <= region < self.total and bool(self._ends[region])

    def __getitem__(self, region: int) -> Receipt:
        if region not in self:
            raise KeyError(region)
        at = int(self._ends[region]) - _HEAD.size
        samples_crc32c, count = _HEAD.unpack_from(self._packed, at)
        objects = []
        for _ in range(count):
            at -= _OBJECT.size
            size, crc, length = _OBJECT.unpack_from(self._packed, at)
            at -= length
            objects.append(StoredObject(self._packed[at : at + length].decode(), size, crc))
        return Receipt(region, samples_crc32c, tuple(reversed(objects)))

    def __iter__(self) -> Iterator[int]:
        return self._regions(0, self.total)

    def __len__(self) -> int:
        return self._count

    def _regions(self, first: int, last: int) -> Iterator[int]:
        for start in range(first, min(last, self.total), _BATCH):
            ends = self._ends[start : min(start + _BATCH, last)]
            yield from (np.flatnonzero(ends) + start).tolist()


def _packed(rows: Sequence[Row]) -> tuple[bytes, _Array, _Array]:
    """Pack rows one after another, each as `Receipts.put` packs a receipt.

    Returns the bytes, where each row ends in them, and the bytes of the objects of each row.
    """
    objects = list(chain.from_iterable(map(attrgetter("objects"), rows)))
    keys = [stored.key.encode() for stored in objects]
    lengths = np.fromiter(map(len, keys), np.int64, len(objects))
    counts = np.fromiter(map(len, map(attrgetter("objects"), rows)), np.int64, len(rows))
    if max(counts.max(), lengths.max(initial=0)) >= 2**16:
        raise ValueError("a receipt has more objects, or a longer key, than any can have")
    sizes = _column(objects, "size")
    tails, heads = np.empty(len(objects), _OBJECT_DTYPE), np.empty(len(rows), _HEAD_DTYPE)
    tails["size"], tails["crc"], tails["length"] = sizes, _column(objects, "crc32c"), lengths
    heads["samples_crc32c"], heads["count"] = _column(rows, "samples_crc32c"), counts

    # An object ends after the keys and records of all objects up to it, and the heads of the
    # rows before its own.
    reach = np.cumsum(lengths + _OBJECT.size)
    last = np.cumsum(counts)
    object_ends = reach + np.repeat(np.arange(len(rows)), counts) * _HEAD.size
    ends = _sums_until(reach, last) + np.arange(1, len(rows) + 1) * _HEAD.size
    packed = _filled(int(ends[-1]), b"".join(keys), ((tails, object_ends), (heads, ends)))
    return packed, ends, np.diff(_sums_until(np.cumsum(sizes), last), prepend=0)


def _filled(size: int, keys: bytes, records: Sequence[tuple[_Array, _Array]]) -> bytes:
    """Bytes with each of ``records`` where it ends, and ``keys`` in the bytes between them."""
    buffer, is_key = np.empty(size, np.uint8), np.ones(size, np.bool_)
    for values, ends in records:
        _at_any_byte(buffer, values.dtype)[ends - values.itemsize] = values
        _at_any_byte(is_key, values.dtype)[ends - values.itemsize] = np.zeros((), values.dtype)
    buffer[is_key] = np.frombuffer(keys, np.uint8)
    return buffer.tobytes()


def _sums_until(sums: _Array, last: _Array) -> _Array:
    """The running sums ``sums`` after the first ``last`` numbers, 0 after none."""
    return np.concatenate(([0], sums))[last]


def _at_any_byte(buffer: _Array, dtype: np.dtype[Any]) -> _Array:
    """A view of ``buffer`` as records, one beginning at each of its bytes."""
    # A row without objects is shorter than an object's record.
    count = max(0, len(buffer) - dtype.itemsize + 1)
    return np.ndarray((count,), dtype, buffer=buffer, strides=(1,))


def _column(rows: Sequence[Any], name: str) -> _Array:
    return np.fromiter(map(attrgetter(name), rows), np.int64, len(rows))
