"""Receipts as they are kept in memory: some 40 bytes for a region of one object.

A petabyte has thirty million regions. As Python objects their receipts took 460 bytes
each, so that the ledger alone would have filled a machine.
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
_RUN = 65_536

# The same two, of many receipts.
_SUMMARY = np.dtype([("samples", "<u4"), ("count", "<u2")])
_TAIL = np.dtype([("size", "<u8"), ("crc", "<u4"), ("length", "<u2")])

type _Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class StoredObject:
    """One object as it was stored: key below its array, size, CRC-32C of its bytes."""

    key: str
    size: int
    crc32c: int


@dataclass(frozen=True)
class Receipt:
    """One region as it was written: checksum of its samples (`LevelEncoder`'s), its objects."""

    region: int
    samples: int
    objects: tuple[StoredObject, ...]

    @property
    def stored_bytes(self) -> int:
        return sum(found.size for found in self.objects)


type _UInt32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
type _Int64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ObjectRow(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A `StoredObject` as a line of the ledger has it."""

    key: str
    size: _Int64
    crc32c: _UInt32


class Row(msgspec.Struct, gc=False):
    """A `Receipt` as a line of the ledger has it.

    Reading a million takes some 1.4 s so, half of it for decoding. Decoded by json, and packed
    one by one, they took twice that.
    """

    region: _Int64
    samples: _UInt32
    objects: tuple[ObjectRow, ...]


class Regions(Collection[int]):
    """Some of a level's regions, as they were at one moment: a byte for each of the level."""

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
    """Receipts by region, of a level that has ``total``; in the order of the regions."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.stored_bytes = 0
        """Bytes of all objects that the receipts name."""
        self._count = 0
        self._packed = bytearray()
        # Where each region's receipt ends, 0 where there is none. Of zeros that were never
        # written the system has no pages, so a level not begun takes nothing.
        self._ends = np.zeros(total, np.int64)

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return len(self._packed) + self._ends.nbytes

    def put(self, receipt: Receipt) -> None:
        """Take a receipt, in place of an earlier one of its region.

        Raises ValueError for a region that the level does not have, or a number that no
        checksum or size can be.
        """
        self._check(receipt.region, receipt.region)
        try:
            # Written from its end to its start, so that one number a region finds it.
            parts = []
            for found in receipt.objects:
                name = found.key.encode()
                parts += [name, _OBJECT.pack(found.size, found.crc32c, len(name))]
            parts.append(_HEAD.pack(receipt.samples, len(receipt.objects)))
        except struct.error as error:
            raise ValueError(str(error)) from error
        self.discard(receipt.region)
        self._packed += b"".join(parts)
        self._ends[receipt.region] = len(self._packed)
        self._count += 1
        self.stored_bytes += receipt.stored_bytes

    def put_rows(self, rows: Sequence[Row]) -> list[int]:
        """The same of many at once, a later one of a region in place of an earlier one.

        Their regions.
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
            raise ValueError(f"a region beyond the {self.total} of this plan")

    def discard(self, region: int) -> None:
        """Forget the receipt of a region, if there is one."""
        if region in self:
            # Its bytes stay: that is rare, and a list of holes would cost more.
            self.stored_bytes -= self[region].stored_bytes
            self._ends[region] = 0
            self._count -= 1

    def missing(self) -> list[int]:
        """Regions without a receipt, in order."""
        found: list[int] = np.flatnonzero(self._ends == 0).tolist()
        return found

    def snapshot(self) -> Regions:
        """The regions that have a receipt now."""
        return Regions((self._ends != 0).tobytes(), self._count)

    def between(self, first: int, last: int) -> Iterator[Receipt]:
        """The receipts of the regions from ``first`` up to but without ``last``, in order."""
        return map(self.__getitem__, self._regions(first, last))

    def __contains__(self, region: object) -> bool:
        return isinstance(region, int) and 0 <= region < self.total and bool(self._ends[region])

    def __getitem__(self, region: int) -> Receipt:
        if region not in self:
            raise KeyError(region)
        at = int(self._ends[region]) - _HEAD.size
        samples, count = _HEAD.unpack_from(self._packed, at)
        objects = []
        for _ in range(count):
            at -= _OBJECT.size
            size, crc, length = _OBJECT.unpack_from(self._packed, at)
            at -= length
            objects.append(StoredObject(self._packed[at : at + length].decode(), size, crc))
        return Receipt(region, samples, tuple(reversed(objects)))

    def __iter__(self) -> Iterator[int]:
        return self._regions(0, self.total)

    def __len__(self) -> int:
        return self._count

    def _regions(self, first: int, last: int) -> Iterator[int]:
        for start in range(first, min(last, self.total), _RUN):
            ends = self._ends[start : min(start + _RUN, last)]
            yield from (np.flatnonzero(ends) + start).tolist()


def _packed(rows: Sequence[Row]) -> tuple[bytes, _Array, _Array]:
    """Rows one after another, as `Receipts.put` packs each; their ends, and stored bytes."""
    objects = list(chain.from_iterable(map(attrgetter("objects"), rows)))
    tails, heads = np.empty(len(objects), _TAIL), np.empty(len(rows), _SUMMARY)
    names = b"".join(encoded := [found.key.encode() for found in objects])
    lengths = np.fromiter(map(len, encoded), np.int64, len(objects))
    counts = np.fromiter(map(len, map(attrgetter("objects"), rows)), np.int64, len(rows))
    if max(counts.max(), lengths.max(initial=0)) >= 2**16:
        raise ValueError("a receipt of more objects, or of a longer key, than any can have")
    tails["size"], tails["crc"] = _column(objects, "size"), _column(objects, "crc32c")
    tails["length"], heads["samples"], heads["count"] = lengths, _column(rows, "samples"), counts

    # An object ends after all names and objects up to it and the heads of earlier rows.
    reach = np.cumsum(lengths + _OBJECT.size)
    last = np.cumsum(counts)
    object_ends = reach + np.repeat(np.arange(len(rows)), counts) * _HEAD.size
    ends = _summed(reach, last) + np.arange(1, len(rows) + 1) * _HEAD.size
    room, is_name = np.empty(int(ends[-1]), np.uint8), np.ones(int(ends[-1]), np.bool_)
    for records, at in ((tails, object_ends), (heads, ends)):
        _anywhere(room, records.dtype)[at - records.itemsize] = records
        _anywhere(is_name, records.dtype)[at - records.itemsize] = np.zeros((), records.dtype)
    room[is_name] = np.frombuffer(names, np.uint8)
    stored = _summed(np.cumsum(tails["size"].astype(np.int64)), last)
    return room.tobytes(), ends, np.diff(stored, prepend=0)


def _summed(sums: _Array, last: _Array) -> _Array:
    """Of running sums those over so many first numbers each."""
    return np.concatenate(([0], sums))[last]


def _anywhere(room: _Array, dtype: np.dtype[Any]) -> _Array:
    """``room`` as records that may begin at any of its bytes."""
    # A row without objects is shorter than an object's record.
    places = max(0, len(room) - dtype.itemsize + 1)
    return np.ndarray((places,), dtype, buffer=room, strides=(1,))


def _column(rows: Sequence[Any], name: str) -> _Array:
    return np.fromiter(map(attrgetter(name), rows), np.int64, len(rows))
