"""Receipts as they are kept in memory: some 40 bytes for a region of one object.

A petabyte has thirty million regions. As Python objects their receipts took 460 bytes
each, so that the ledger alone would have filled a machine.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

_HEAD = struct.Struct("<IH")
_OBJECT = struct.Struct("<QIH")
_RUN = 65_536


@dataclass(frozen=True)
class StoredObject:
    """One object as it was stored: key below its array, size, CRC-32C of its bytes."""

    key: str
    size: int
    crc32c: int


@dataclass(frozen=True)
class Receipt:
    """One region as it was written: CRC-32C of its samples (C order), its objects."""

    region: int
    samples: int
    objects: tuple[StoredObject, ...]

    @property
    def stored_bytes(self) -> int:
        return sum(found.size for found in self.objects)


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
        self.put_row(
            receipt.region,
            receipt.samples,
            [(found.key, found.size, found.crc32c) for found in receipt.objects],
        )

    def put_row(self, region: int, samples: int, objects: Collection[tuple[str, int, int]]) -> None:
        """The same, from a receipt's parts."""
        if not 0 <= region < self.total:
            raise ValueError(f"a region beyond the {self.total} of this plan")
        try:
            # Written from its end to its start, so that one number a region finds it.
            parts, size = [], 0
            for key, nbytes, crc in objects:
                name = key.encode()
                parts += [name, _OBJECT.pack(nbytes, crc, len(name))]
                size += nbytes
            parts.append(_HEAD.pack(samples, len(objects)))
        except struct.error as error:
            raise ValueError(str(error)) from error
        if self._ends[region]:
            self.discard(region)
        self._packed += b"".join(parts)
        self._ends[region] = len(self._packed)
        self._count += 1
        self.stored_bytes += size

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
