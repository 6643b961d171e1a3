"""The ledger: receipts of what is done, beside the target.

A receipt is written down only after its objects are stored, so what the ledger says is
done is done. The driver appends receipts in numbered segments, some seconds of work
each, and joins what segments there are into longer ones, so that a build of a month has
hundreds of them and not a million. A finished level's segments become one document,
sorted, so that two builds of one plan end with equal ledgers; that of a level of more
than `PART` regions lies in parts beside it.

Segments are found by listing them. Where the store does not list, an index beside them has
their names: each is put down there before it is created, so that the index may name a
segment that is not there, and never lacks one that is.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, StoredDataError, UnlistableError
from ngff_core.geometry import ceil_div
from ngff_core.records.receipts import Receipt, Receipts, Row, StoredObject
from ngff_core.storage import ObjectStore, delete_below, retrying

__all__ = ["PART", "SHORT_SEGMENTS", "Ledger", "Receipt", "StoredObject"]

PART = 65_536
"""Receipts of a document of the ledger where a level has many: about 5 MB."""

SHORT_SEGMENTS = 64
"""So many segments are joined into one. Joining costs writing `PART` receipts at most, so
the more seldom the better; and each that is left is a request for who resumes."""

_ROWS = msgspec.json.Decoder(Row)

_PIECE = 2**19
"""Bytes of lines that are decoded together: a whole document takes half as long again, since
all its rows do not fit the processor's cache."""


@dataclass
class _Segment:
    """A segment as it is stored; ``first`` differs from ``last`` where several were joined."""

    first: int
    last: int
    regions: array[int]

    @property
    def name(self) -> str:
        ends = (self.first,) if self.first == self.last else (self.first, self.last)
        return "-".join(f"{end:06}" for end in ends) + ".jsonl"


class Ledger:
    """Receipts of one phase of one plan (a level, or the cache pass)."""

    def __init__(self, store: ObjectStore, phase: str, digest: str, total: int) -> None:
        self._store = store
        self._folder = f"ledger/{phase}"
        self._digest = digest
        self.total = total
        self._next = 0
        self._stored: list[_Segment] = []
        """The segments that may still be joined with later ones."""
        self._index: list[str] | None = None
        """Names of all segments, where the store does not list; else None."""
        self._knows_listing = False
        self._pending = array("q")
        self._oldest = 0.0
        """When the first of the pending receipts was taken."""
        self._receipts = Receipts(total)
        self._complete = False

    @property
    def receipts(self) -> Receipts:
        """Every receipt known, by region."""
        return self._receipts

    @property
    def complete(self) -> bool:
        """Whether the phase is finished and its receipts are one document."""
        return self._complete

    @property
    def whole(self) -> bool:
        """Whether every region has a receipt."""
        return len(self._receipts) == self.total

    @property
    def remaining(self) -> list[int]:
        """Regions without a receipt, in order."""
        return self._receipts.missing()

    def load(self) -> Ledger:
        """Read what earlier runs recorded.

        If complete, that is one request, or one for each `PART` regions; else one a segment.
        """
        document = retrying(self._store.read, self._complete_key)
        if document is not None:
            header = self._take(document, self._complete_key)
            for part in range(header.get("parts", 0)):
                key = self._part_key(part)
                rows = retrying(self._store.read, key)
                if rows is not None:
                    self._take(rows, key)
            self._complete = self.whole
        if not self._complete:
            self._load_segments()
        return self

    def _load_segments(self) -> None:
        # Listed, not guessed one after another: where one was removed for its damage, or
        # by an overwrite that was killed, those after it count, and keep their names.
        found = []
        for key in self._segment_keys():
            name, _, ending = key.removeprefix(f"{self._segments}/").partition(".")
            if ending == "jsonl":
                first, _, last = name.partition("-")
                found.append((int(last or first), -int(first)))
        # One that was joined comes after those that it was made of, and before later ones.
        for end, start in sorted(found):
            self._load_segment(-start, end)
            self._next = end + 1
        if self._index is not None:
            # Where two builders wrote one index, the later one's segments may be missing in
            # it; and no name may be given twice.
            while self._load_segment(self._next, self._next):
                self._index.append(self._stored[-1].name)
        self._stored = [segment for segment in self._stored if len(segment.regions) < PART]

    def _segment_keys(self) -> Iterable[str]:
        self._knows_listing = True
        try:
            return retrying(self._store.objects, self._segments)
        except UnlistableError:
            self._index = self._read_index()
            return [f"{self._segments}/{name}" for name in self._index]

    def _read_index(self) -> list[str]:
        document = retrying(self._store.read, self._index_key)
        return [] if document is None else self._indexed(document)

    def _indexed(self, document: bytes) -> list[str]:
        try:
            return [str(name) for name in json.loads(document)["segments"]]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(self._index_key, error) from error

    def _load_segment(self, first: int, last: int) -> bool:
        segment = _Segment(first, last, array("q"))
        key = f"{self._segments}/{segment.name}"
        document = retrying(self._store.read, key)
        if document is None:
            return False
        self._take(document, key, segment.regions)
        self._stored.append(segment)
        self._next = last + 1
        return True

    def record(self, receipt: Receipt) -> None:
        """Take a receipt; it is written down within `config.receipt_seconds` of work.

        Not the last one: `finish` is next, and writes them all.
        """
        if not self._pending:
            self._oldest = time.monotonic()
        self._receipts.put(receipt)
        self._pending.append(receipt.region)
        waited = time.monotonic() - self._oldest
        if waited >= config.receipt_seconds and not self.whole:
            self.flush()

    def flush(self) -> None:
        """Write down what was taken since the last segment."""
        while self._pending:
            self._append(self._next, self._pending[:PART])
            self._next += 1
            del self._pending[:PART]
        receipts = sum(len(segment.regions) for segment in self._stored)
        if len(self._stored) > 1 and (len(self._stored) >= SHORT_SEGMENTS or receipts >= PART):
            self._join()
        if receipts >= PART:
            self._stored = []

    def _append(self, first: int, regions: array[int]) -> None:
        segment = _Segment(first, self._next, regions)
        key = f"{self._segments}/{segment.name}"
        if not self._knows_listing:
            # Of a build that has just been begun nothing was loaded.
            self._segment_keys()
        if self._index is not None:
            self._put_index([*self._index, segment.name])
        # What was dropped since has none, and is left out where segments are joined.
        receipts = (self._receipts[region] for region in regions if region in self._receipts)
        if not retrying(self._store.create, key, self._document(receipts)):
            raise LeaseLostError(
                f"{self._store.uri}/{key} was written by another process, "
                "which builds this target now; this one stops"
            )
        self._stored.append(segment)

    def _join(self) -> None:
        """Make one segment of those that may be joined.

        Its name is that of the last, which this process has just created, so nobody else
        has it; and until those that it was made of are gone they say the same.
        """
        short, self._stored = self._stored, []
        regions = sorted({region for segment in short for region in segment.regions})
        self._next -= 1
        self._append(min(segment.first for segment in short), array("q", regions))
        self._next += 1
        for segment in short:
            retrying(self._store.delete, f"{self._segments}/{segment.name}")
        if self._index is not None:
            gone = {segment.name for segment in short}
            self._put_index([name for name in self._index if name not in gone])

    def _put_index(self, names: list[str]) -> None:
        self._index = names
        retrying(self._store.write, self._index_key, _line({"segments": names}))

    def finish(self) -> None:
        """Turn the segments of a finished phase into one document."""
        if not self.whole:
            left = self.total - len(self._receipts)
            raise StoredDataError(f"{self._folder}: {left} regions have no receipt")
        if self._complete:
            return
        self._put_down(range(ceil_div(self.total, PART)))
        self._complete = True
        self._pending = array("q")
        if self._next:
            # else there never was a segment: the level took less than `receipt_seconds`
            self.tidy()

    def _put_down(self, parts: Iterable[int]) -> None:
        """Write the document of a finished phase, and some of the parts of a long one."""
        long = self.total > PART
        for part in parts if long else ():
            rows = self._receipts.between(part * PART, (part + 1) * PART)
            retrying(self._store.write, self._part_key(part), self._document(rows))
        # Last, since it is what says that the phase is finished.
        rows = iter(()) if long else self._receipts.between(0, self.total)
        document = self._document(rows, self._count_parts())
        retrying(self._store.write, self._complete_key, document)

    def tidy(self) -> None:
        """Remove the segments of a finished phase, which its one document stands for."""
        delete_below(self._store, self._segments, self._named_segments)
        if self._index is not None:
            # Last, since it is what tells of the others.
            retrying(self._store.delete, self._index_key)
            self._index = []
        self._stored = []

    def _named_segments(self) -> Iterator[str]:
        if self._index is None:
            self._index = self._read_index()
        yield from (f"{self._segments}/{name}" for name in self._index)

    def _named_parts(self) -> Iterator[str]:
        yield from (self._part_key(part) for part in range(self._count_parts()))

    def _count_parts(self) -> int:
        return ceil_div(self.total, PART) if self.total > PART else 0

    def drop(self, regions: Collection[int]) -> None:
        """Take back the receipts of some regions, whose objects are not there any more."""
        if not regions:
            return
        for region in regions:
            self._receipts.discard(region)
        if self._complete:
            # Segments again, before the one document goes: a kill between loses nothing.
            self.tidy()
            self._complete, self._next = False, 0
            self._pending = array("q", self._receipts)
            self.flush()
            retrying(self._store.delete, self._complete_key)
            delete_below(self._store, self._parts, self._named_parts)

    def replace(self, receipts: Collection[Receipt]) -> None:
        """Take receipts in the place of those of the same regions, of a finished phase."""
        changed = [found for found in receipts if self._receipts.get(found.region) != found]
        if not changed:
            return
        for receipt in changed:
            self._receipts.put(receipt)
        self._put_down({receipt.region // PART for receipt in changed})

    def forget(self) -> None:
        """Remove the phase's receipts."""
        try:
            retrying(self._store.delete_tree, self._folder)
        except UnlistableError:
            self.tidy()
            retrying(self._store.delete, self._complete_key)
            delete_below(self._store, self._parts, self._named_parts)
        self._receipts, self._next, self._complete = Receipts(self.total), 0, False
        self._stored, self._pending = [], array("q")

    @property
    def _complete_key(self) -> str:
        return f"{self._folder}/complete.jsonl"

    @property
    def _parts(self) -> str:
        return f"{self._folder}/complete"

    def _part_key(self, part: int) -> str:
        return f"{self._parts}/{part:06}.jsonl"

    @property
    def _segments(self) -> str:
        return f"{self._folder}/segments"

    @property
    def _index_key(self) -> str:
        return f"{self._folder}/segments.json"

    def _document(self, receipts: Iterable[Receipt], parts: int = 0) -> bytes:
        header = {"plan": self._digest, "regions": self.total} | ({"parts": parts} if parts else {})
        # Encoded line by line: as one text first, it would be in memory twice more.
        document = bytearray(_line(header))
        for receipt in receipts:
            document += _line(_to_row(receipt))
        return bytes(document)

    def _take(
        self, document: bytes, key: str, regions: array[int] | None = None
    ) -> Mapping[str, Any]:
        """Take a document's receipts, and add their regions to ``regions``; its header."""
        try:
            first, _, lines = document.partition(b"\n")
            header = json.loads(first)
            if header["plan"] == self._digest:
                for rows in _rows(lines):
                    taken = self._receipts.put_rows(rows)
                    if regions is not None:
                        regions.extend(taken)
                return {"parts": int(header.get("parts", 0))}
        except (
            *(ValueError, KeyError, TypeError, IndexError, AttributeError),
            msgspec.MsgspecError,
        ) as error:
            raise self._damaged(key, error) from error
        raise StoredDataError(
            f"{self._store.uri}/{key} belongs to another plan; build with overwrite"
        )

    def _damaged(self, key: str, error: Exception) -> StoredDataError:
        return StoredDataError(
            f"{self._store.uri}/{key} is damaged ({error}); remove that object and run "
            "the same command again: its regions will be built anew"
        )


def _to_row(receipt: Receipt) -> dict[str, object]:
    return {
        "region": receipt.region,
        "samples": receipt.samples,
        "objects": [[found.key, found.size, found.crc32c] for found in receipt.objects],
    }


def _line(fields: Mapping[str, object]) -> bytes:
    return f"{json.dumps(fields)}\n".encode()


def _rows(lines: bytes) -> Iterator[list[Row]]:
    """The receipts of a document, some at a time."""
    start = 0
    while start < len(lines):
        end = lines.find(b"\n", start + _PIECE) + 1 or len(lines)
        yield _ROWS.decode_lines(lines[start:end])
        start = end
