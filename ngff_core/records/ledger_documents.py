"""The documents of a ledger: a header line, then one line of JSON for each receipt.

::

    {"plan": "<digest>", "regions": 512}
    {"region": 0, "samples": 123, "objects": [["c/0/0/0", 4096, 456]]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from ngff_core.records.receipts import Receipt, Row

READ_ERRORS = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError),
    msgspec.MsgspecError,
)
"""What reading a damaged document raises."""

_ROWS = msgspec.json.Decoder(Row)

_BATCH_BYTES = 2**19
"""Bytes of lines that are decoded together. Decoding a large document at once takes half as long
again, since all its rows do not fit the processor's cache."""


@dataclass(frozen=True)
class Header:
    """The first line of a document.

    ``plan`` is the digest of the plan that the receipts belong to, ``parts`` the number of
    documents that hold the receipts, 0 where this document holds them itself.
    """

    plan: str
    parts: int = 0


def write_document(plan: str, regions: int, receipts: Iterable[Receipt], parts: int = 0) -> bytes:
    """A document with these receipts; ``regions`` is the number of regions of the phase."""
    header = {"plan": plan, "regions": regions} | ({"parts": parts} if parts else {})
    # Encoded line by line: encoded as one text first, it would be in memory twice more.
    document = bytearray(line(header))
    for receipt in receipts:
        document += line(_fields(receipt))
    return bytes(document)


def read_header(document: bytes) -> Header:
    """The header of a document. Raises one of `READ_ERRORS` where it is damaged."""
    end = document.find(b"\n")
    fields = json.loads(document[:end] if end >= 0 else document)
    return Header(fields["plan"], int(fields.get("parts", 0)))


def read_rows(document: bytes) -> Iterator[list[Row]]:
    """The receipts of a document in batches. Raises one of `READ_ERRORS` where it is damaged."""
    start = document.find(b"\n") + 1 or len(document)
    while start < len(document):
        end = document.find(b"\n", start + _BATCH_BYTES) + 1 or len(document)
        yield _ROWS.decode_lines(document[start:end])
        start = end


def line(fields: Mapping[str, object]) -> bytes:
    """One line of JSON."""
    return f"{json.dumps(fields)}\n".encode()


def _fields(receipt: Receipt) -> dict[str, object]:
    return {
        "region": receipt.region,
        "samples": receipt.samples_crc32c,
        "objects": [[stored.key, stored.size, stored.crc32c] for stored in receipt.objects],
    }
