"""The ledger: the receipts of the regions that are stored, kept in the build folder.

A receipt is recorded only after the objects of its region are stored, so a region with a
receipt is done. The driver appends receipts in numbered segments, each of some seconds of
work, and joins segments into longer ones: a build of a month has hundreds of segments and
not a million. When a level is finished, one sorted document replaces its segments, so two
builds of one plan end with equal ledgers. For a level of more than `PART` regions that
document lies in parts.

Segments are found by listing their folder. Where the store does not list, an index holds
their names. A name is added to the index before its segment is created, so the index may name
a segment that does not exist, but never lacks one that does.
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, StoredDataError, UnlistableError
from ngff_core.geometry import ceil_div
from ngff_core.records import build_folder
from ngff_core.records.ledger_documents import (
    READ_ERRORS,
    Header,
    line,
    read_header,
    read_rows,
    write_document,
)
from ngff_core.records.receipts import Receipt, Receipts, StoredObject
from ngff_core.storage import ObjectStore, delete_below, retrying

__all__ = ["PART", "SHORT_SEGMENTS", "Ledger", "Receipt", "StoredObject"]

PART = 65_536
"""Receipts in one document of the ledger at most: about 5 MB."""

SHORT_SEGMENTS = 64
"""Number of segments that are joined into one. Joining writes `PART` receipts at most, so it
should be rare; but each segment that is left costs a request when a build resumes."""


@dataclass
class _Segment:
    """A segment as it is stored; ``first`` and ``last`` differ where segments were joined."""

    first: int
    last: int
    regions: array[int]

    @property
    def name(self) -> str:
        return build_folder.segment_name(self.first, self.last)


class Ledger:
    """Receipts of one phase of one plan.

    A phase is a level, named by its number, or the cache pass. ``store`` is the build folder,
    ``digest`` that of the plan, and ``total`` the number of regions of the phase.
    """

    def __init__(self, store: ObjectStore, phase: str, digest: str, total: int) -> None:
        self._store = store
        self._phase = phase
        self._digest = digest
        self.total = total
        self._next = 0
        """Number of the next segment."""
        self._stored: list[_Segment] = []
        """The segments that may still be joined with later ones."""
        self._index: list[str] | None = None
        """Names of all segments where the store does not list, else None."""
        self._knows_listing = False
        self._pending = array("q")
        """Regions whose receipts are not written yet."""
        self._oldest = 0.0
        """When the first of the pending receipts was recorded."""
        self._receipts = Receipts(total)
        self._complete = False

    @property
    def receipts(self) -> Receipts:
        """Every receipt known, by region."""
        return self._receipts

    @property
    def complete(self) -> bool:
        """Whether the phase is finished, with its receipts in one document."""
        return self._complete

    @property
    def has_all_receipts(self) -> bool:
        """Whether every region has a receipt; `finish` may still be to come."""
        return len(self._receipts) == self.total

    @property
    def remaining(self) -> list[int]:
        """Regions without a receipt, in order."""
        return self._receipts.missing()

    def load(self) -> Ledger:
        """Read what earlier runs recorded, and return this ledger.

        For a finished phase this is one request, or one for each `PART` regions; else one for
        each segment. Raises StoredDataError where a document is damaged or of another plan.
        """
        key = build_folder.complete_key(self._phase)
        document = retrying(self._store.read, key)
        if document is not None:
            header = self._take(document, key)
            for part in range(header.parts):
                self._load_part(part)
            self._complete = self.has_all_receipts
        if not self._complete:
            self._load_segments()
        return self

    def _load_part(self, part: int) -> None:
        key = build_folder.part_key(self._phase, part)
        document = retrying(self._store.read, key)
        if document is not None:
            self._take(document, key)

    def _load_segments(self) -> None:
        # Listed, not guessed by counting: where one was removed because it was damaged, or by
        # an overwrite that was killed, the later ones still count and keep their names.
        numbers = []
        for key in self._segment_keys():
            ends = build_folder.segment_ends(key.removeprefix(f"{self._segments}/"))
            if ends is not None:
                first, last = ends
                numbers.append((last, -first))
        # A joined segment is read after those that it was made of, and before later ones.
        for last, first in sorted(numbers):
            self._load_segment(-first, last)
            self._next = last + 1
        if self._index is not None:
            # Where two builders wrote one index, it may lack segments of the later builder;
            # and no name may be used twice.
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
        key = build_folder.segments_index_key(self._phase)
        document = retrying(self._store.read, key)
        if document is None:
            return []
        try:
            return [str(name) for name in json.loads(document)["segments"]]
        except READ_ERRORS as error:
            raise self._damaged(key, error) from error

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
        """Take a receipt; it is written within `config.receipt_seconds` of work.

        The last one is not written here: `finish` comes next, and writes them all.
        """
        if not self._pending:
            self._oldest = time.monotonic()
        self._receipts.put(receipt)
        self._pending.append(receipt.region)
        waited = time.monotonic() - self._oldest
        if waited >= config.receipt_seconds and not self.has_all_receipts:
            self.flush()

    def flush(self) -> None:
        """Write the receipts that were recorded since the last segment."""
        while self._pending:
            self._append(self._next, self._pending[:PART])
            self._next += 1
            del self._pending[:PART]
            self._join_short_ones()

    def _join_short_ones(self) -> None:
        """Join the short segments once there are enough of them, or of their receipts."""
        receipts = sum(len(segment.regions) for segment in self._stored)
        if len(self._stored) > 1 and (len(self._stored) >= SHORT_SEGMENTS or receipts >= PART):
            self._join()
        if receipts >= PART:
            self._stored = []

    def _append(self, first: int, regions: array[int]) -> None:
        segment = _Segment(first, self._next, regions)
        key = f"{self._segments}/{segment.name}"
        if not self._knows_listing:
            # A build that has just begun has not loaded anything.
            self._segment_keys()
        if self._index is not None:
            self._put_index([*self._index, segment.name])
        # A receipt that was dropped since is left out where segments are joined.
        receipts = (self._receipts[region] for region in regions if region in self._receipts)
        if not retrying(self._store.create, key, self._document(receipts)):
            raise LeaseLostError(
                f"{self._store.uri}/{key} was written by another process, "
                "which builds this target now; this one stops"
            )
        self._stored.append(segment)

    def _join(self) -> None:
        """Make one segment of those that may be joined.

        It takes the number of the last one, which this process has just created, so no other
        process has it. Until the joined segments are removed, they hold the same receipts.
        """
        short, self._stored = self._stored, []
        regions = sorted({region for segment in short for region in segment.regions})
        self._next -= 1
        self._append(min(segment.first for segment in short), array("q", regions))
        self._next += 1
        for segment in short:
            retrying(self._store.delete, f"{self._segments}/{segment.name}")
        if self._index is not None:
            removed = {segment.name for segment in short}
            self._put_index([name for name in self._index if name not in removed])

    def _put_index(self, names: list[str]) -> None:
        self._index = names
        key = build_folder.segments_index_key(self._phase)
        retrying(self._store.write, key, line({"segments": names}))

    def finish(self) -> None:
        """Replace the segments of a finished phase by one document.

        Raises StoredDataError where a region has no receipt.
        """
        if not self.has_all_receipts:
            missing = self.total - len(self._receipts)
            raise StoredDataError(f"{self._folder}: {missing} regions have no receipt")
        if self._complete:
            return
        self._write_complete(range(self._count_parts()))
        self._complete = True
        self._pending = array("q")
        if self._next:
            # Else there never was a segment: the level took less than `receipt_seconds`.
            self.tidy()

    def _write_complete(self, parts: Iterable[int]) -> None:
        """Write the document of a finished phase, and these of its parts, if it has any."""
        count = self._count_parts()
        for part in parts if count else ():
            receipts = self._receipts.between(part * PART, (part + 1) * PART)
            key = build_folder.part_key(self._phase, part)
            retrying(self._store.write, key, self._document(receipts))
        # Last, since this document says that the phase is finished.
        receipts = iter(()) if count else self._receipts.between(0, self.total)
        key = build_folder.complete_key(self._phase)
        retrying(self._store.write, key, self._document(receipts, count))

    def tidy(self) -> None:
        """Remove the segments of a finished phase, which its document has replaced."""
        delete_below(self._store, self._segments, self._named_segments)
        if self._index is not None:
            # Last, since it names the others.
            retrying(self._store.delete, build_folder.segments_index_key(self._phase))
            self._index = []
        self._stored = []

    def _named_segments(self) -> Iterator[str]:
        if self._index is None:
            self._index = self._read_index()
        yield from (f"{self._segments}/{name}" for name in self._index)

    def _count_parts(self) -> int:
        """Number of the parts of the finished phase's document, 0 for a document without."""
        return ceil_div(self.total, PART) if self.total > PART else 0

    def drop(self, regions: Collection[int]) -> None:
        """Take back the receipts of regions whose objects do not exist any more."""
        if not regions:
            return
        for region in regions:
            self._receipts.discard(region)
        if self._complete:
            # Back to segments before the document is removed: a kill between loses nothing.
            self.tidy()
            self._complete, self._next = False, 0
            self._pending = array("q", self._receipts)
            self.flush()
            self._remove_complete()

    def replace(self, receipts: Collection[Receipt]) -> None:
        """Replace receipts of a finished phase by others of the same regions."""
        changed = [one for one in receipts if self._receipts.get(one.region) != one]
        if not changed:
            return
        for receipt in changed:
            self._receipts.put(receipt)
        self._write_complete({receipt.region // PART for receipt in changed})

    def forget(self) -> None:
        """Remove all receipts of the phase, stored ones too."""
        try:
            retrying(self._store.delete_tree, self._folder)
        except UnlistableError:
            self.tidy()
            self._remove_complete()
        self._receipts, self._next, self._complete = Receipts(self.total), 0, False
        self._stored, self._pending = [], array("q")

    def _remove_complete(self) -> None:
        retrying(self._store.delete, build_folder.complete_key(self._phase))
        parts = range(self._count_parts())
        keys = (build_folder.part_key(self._phase, part) for part in parts)
        delete_below(self._store, build_folder.parts_folder(self._phase), lambda: keys)

    @property
    def _folder(self) -> str:
        return build_folder.ledger_folder(self._phase)

    @property
    def _segments(self) -> str:
        return build_folder.segments_folder(self._phase)

    def _document(self, receipts: Iterable[Receipt], parts: int = 0) -> bytes:
        return write_document(self._digest, self.total, receipts, parts)

    def _take(self, document: bytes, key: str, regions: array[int] | None = None) -> Header:
        """Take the receipts of a document, add their regions to ``regions``; its header."""
        try:
            header = read_header(document)
            if header.plan == self._digest:
                for rows in read_rows(document):
                    taken = self._receipts.put_rows(rows)
                    if regions is not None:
                        regions.extend(taken)
                return header
        except READ_ERRORS as error:
            raise self._damaged(key, error) from error
        raise StoredDataError(
            f"{self._store.uri}/{key} belongs to another plan; build with overwrite"
        )

    def _damaged(self, key: str, error: Exception) -> StoredDataError:
        return StoredDataError(
            f"{self._store.uri}/{key} is damaged ({error}); remove that object and run "
            "the same command again: it builds the regions of that object again"
        )
