"""The ledger: receipts of what is done, beside the target.

A receipt is written down only after its objects are stored, so what the ledger says is
done is done. The driver appends receipts in numbered segments, some seconds of work
each; a finished level's segments become one document, sorted, so that two builds of
one plan end with equal ledgers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, StoredDataError
from ngff_core.store import Store, retrying


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


class Ledger:
    """Receipts of one phase of one plan (a level, or the cache pass)."""

    def __init__(self, store: Store, phase: str, digest: str, total: int) -> None:
        self._store = store
        self._folder = f"ledger/{phase}"
        self._digest = digest
        self.total = total
        self._segment = 0
        self._pending: list[Receipt] = []
        self._written_at = time.monotonic()
        self._receipts: dict[int, Receipt] = {}
        self._complete = False

    @property
    def receipts(self) -> Mapping[int, Receipt]:
        """Every receipt known, by region."""
        return self._receipts

    @property
    def complete(self) -> bool:
        """Whether the phase is finished and its receipts are one document."""
        return self._complete

    @property
    def remaining(self) -> list[int]:
        """Regions without a receipt, in order."""
        return [region for region in range(self.total) if region not in self._receipts]

    def load(self) -> Ledger:
        """Read what earlier runs recorded: one request if complete, else one a segment."""
        document = retrying(self._store.read, self._complete_key)
        if document is not None:
            self._take(document, self._complete_key)
            self._complete = not self.remaining
            return self
        # Listed, not guessed one after another: where one was removed for its damage, or
        # by an overwrite that was killed, those after it count, and keep their names.
        for key in retrying(self._store.objects, self._segments):
            name, _, ending = key.removeprefix(f"{self._segments}/").partition(".")
            segment = retrying(self._store.read, key) if ending == "jsonl" else None
            if segment is not None:
                self._take(segment, key)
                self._segment = int(name) + 1
        return self

    def record(self, receipt: Receipt) -> None:
        """Take a receipt; it is written down within `config.receipt_seconds` of work."""
        self._receipts[receipt.region] = receipt
        self._pending.append(receipt)
        if time.monotonic() - self._written_at >= config.receipt_seconds:
            self.flush()

    def flush(self) -> None:
        """Write down what was taken since the last segment."""
        self._written_at = time.monotonic()
        if not self._pending:
            return
        if not retrying(self._store.create, self._segment_key, self._document(self._pending)):
            raise LeaseLostError(
                f"{self._store.uri}/{self._segment_key} was written by another process, "
                "which builds this target now; this one stops"
            )
        self._pending = []
        self._segment += 1

    def finish(self) -> None:
        """Turn the segments of a finished phase into one document."""
        if self.remaining:
            raise StoredDataError(f"{self._folder}: {len(self.remaining)} regions have no receipt")
        if self._complete:
            return
        ordered = [self._receipts[region] for region in sorted(self._receipts)]
        retrying(self._store.write, self._complete_key, self._document(ordered))
        self._complete = True
        self._pending = []
        self.tidy()

    def tidy(self) -> None:
        """Remove the segments of a finished phase, which its one document stands for."""
        retrying(self._store.delete_tree, self._segments)

    def drop(self, regions: Collection[int]) -> None:
        """Take back the receipts of some regions, whose objects are not there any more."""
        if not regions:
            return
        self._receipts = {
            region: receipt for region, receipt in self._receipts.items() if region not in regions
        }
        if self._complete:
            # Segments again, before the one document goes: a kill between loses nothing.
            self.tidy()
            self._complete, self._segment = False, 0
            self._pending = list(self._receipts.values())
            self.flush()
            retrying(self._store.delete, self._complete_key)

    def replace(self, receipts: Collection[Receipt]) -> None:
        """Take receipts in the place of those of the same regions, of a finished phase."""
        changed = [found for found in receipts if self._receipts.get(found.region) != found]
        if not changed:
            return
        self._receipts.update({receipt.region: receipt for receipt in changed})
        ordered = [self._receipts[region] for region in sorted(self._receipts)]
        retrying(self._store.write, self._complete_key, self._document(ordered))

    def forget(self) -> None:
        """Remove the phase's receipts."""
        retrying(self._store.delete_tree, self._folder)
        self._receipts, self._segment, self._complete = {}, 0, False
        self._pending = []

    @property
    def _complete_key(self) -> str:
        return f"{self._folder}/complete.jsonl"

    @property
    def _segment_key(self) -> str:
        return f"{self._segments}/{self._segment:06}.jsonl"

    @property
    def _segments(self) -> str:
        return f"{self._folder}/segments"

    def _document(self, receipts: Iterable[Receipt]) -> bytes:
        header = {"plan": self._digest, "regions": self.total}
        rows = (_to_row(receipt) for receipt in receipts)
        return "".join(json.dumps(row) + "\n" for row in (header, *rows)).encode()

    def _take(self, document: bytes, key: str) -> None:
        try:
            header, *rows = [json.loads(line) for line in document.splitlines()]
            ours = header["plan"] == self._digest
            receipts = [_from_row(row) for row in rows]
            if ours and any(not 0 <= receipt.region < self.total for receipt in receipts):
                raise ValueError(f"a region beyond the {self.total} of this plan")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise StoredDataError(
                f"{self._store.uri}/{key} is damaged ({error}); remove that object and run "
                "the same command again: its regions will be built anew"
            ) from error
        if not ours:
            raise StoredDataError(
                f"{self._store.uri}/{key} belongs to another plan; build with overwrite"
            )
        self._receipts.update({receipt.region: receipt for receipt in receipts})


def _to_row(receipt: Receipt) -> dict[str, object]:
    return {
        "region": receipt.region,
        "samples": receipt.samples,
        "objects": [[found.key, found.size, found.crc32c] for found in receipt.objects],
    }


def _from_row(row: Mapping[str, object]) -> Receipt:
    objects = row["objects"]
    if not isinstance(objects, list):
        raise TypeError("objects is not a list")
    return Receipt(
        int(str(row["region"])),
        int(str(row["samples"])),
        tuple(StoredObject(str(key), int(size), int(crc)) for key, size, crc in objects),
    )
