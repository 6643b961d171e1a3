"""Chunks of N5 and precomputed volumes: fetched through our stores, decoded by tensorstore.

Tensorstore has stores of its own, which would need credentials of their own, and which take a
chunk that they do not find for one that was never written. So a read fetches the chunks that it
needs, puts them into a store in memory, and tensorstore reads from there.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import as_format_error
from ngff_core.storage import ObjectStore, for_each

_GZIP = b"\x1f\x8b"
_LARGER = 64 << 10
"""Bytes by which an encoded chunk may be larger than its samples."""


@dataclass(frozen=True)
class ChunkGrid:
    """The chunks of one array, in the order of its own axes, fastest first.

    Attributes
    ----------
    shape, chunk
        Of the array and of a chunk.
    key
        Name of a chunk, by its position on the grid.
    gzipped
        Whether chunks may be stored as gzip files, also under names that end in ``.gz``.
    """

    shape: Shape
    chunk: Shape
    key: Callable[[Shape], str]
    gzipped: bool = False

    @property
    def count(self) -> int:
        """Number of all chunks."""
        return math.prod(-(-n // size) for n, size in zip(self.shape, self.chunk, strict=True))

    def positions(self, box: tuple[slice, ...]) -> Iterator[Shape]:
        """Those of the chunks that a box of the array lies in."""
        spans = zip(box, self.chunk, strict=True)
        return itertools.product(*(range(s.start // n, -(-s.stop // n)) for s, n in spans))


@dataclass(frozen=True)
class Decoder:
    """How tensorstore opens an array.

    Attributes
    ----------
    driver
        Name of tensorstore's driver.
    document
        Name of the metadata document.
    metadata
        Its content, without what the array does not need.
    """

    driver: str
    document: str
    metadata: Mapping[str, Any]

    def open(self, chunks: Mapping[str, bytes], uri: str) -> Any:
        """The array as tensorstore has it, of which only ``chunks`` are there."""
        import tensorstore as ts

        with as_format_error(f"{uri}: cannot be opened by tensorstore"):
            context = ts.Context()
            memory = ts.KvStore.open({"driver": "memory"}, context=context).result()
            for key, value in {**chunks, self.document: _dump(self.metadata)}.items():
                memory.write(key, value).result()
            spec = {"driver": self.driver, "kvstore": {"driver": "memory"}}
            return ts.open(spec, context=context, read=True, open=True).result()


@dataclass(frozen=True, eq=False)
class ChunkedArray:
    """Samples in chunks, with the axes of the array reversed: slowest first.

    Attributes
    ----------
    store
        The folder below which the chunks lie.
    grid, decoder
        See `ChunkGrid` and `Decoder`.
    """

    store: ObjectStore
    grid: ChunkGrid
    decoder: Decoder

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        box = tuple(reversed(key))
        keys = [self.grid.key(position) for position in self.grid.positions(box)]
        found = for_each(self.store, self._fetch, keys) if len(keys) > 1 else map(self._fetch, keys)
        chunks = {name: data for name, data in zip(keys, found, strict=True) if data is not None}
        array = self.decoder.open(chunks, self.store.uri)
        with as_format_error(f"{self.store.uri}: cannot decode the chunks {', '.join(keys[:8])}"):
            return read_reversed(array, key)

    def _fetch(self, key: str) -> bytes | None:
        data = self.store.read(key)
        if not self.grid.gzipped:
            return data
        if data is None:
            data = self.store.read(f"{key}.gz")
        return None if data is None else self._plain(data, key)

    def _plain(self, data: bytes, key: str) -> bytes:
        """A chunk that was stored as a gzip file; samples may begin like one by chance."""
        expected = int(np.prod(self.grid.chunk)) * 8
        if not data.startswith(_GZIP):
            return data
        inflate = zlib.decompressobj(31)
        try:
            plain = inflate.decompress(data, expected + _LARGER)
        except zlib.error:
            return data
        if not inflate.eof:
            raise SourceFormatError(
                f"{self.store.uri}/{key}: truncated, or of more than {expected + _LARGER} bytes"
            )
        return plain


def read_reversed(array: Any, key: tuple[slice, ...]) -> Block:
    """A box of one of tensorstore's arrays, whose axes ``key`` and the result have reversed."""
    bounds = zip(reversed(key), array.domain.origin, strict=True)
    inner = tuple(slice(s.start + origin, s.stop + origin) for s, origin in bounds)
    return np.asarray(array[inner].read().result()).T


def _dump(metadata: Mapping[str, Any]) -> bytes:
    return json.dumps(metadata).encode()


def reader_pin() -> tuple[str, str]:
    """The decoder, for the identity of a source."""
    from importlib.metadata import version

    return ("reader", f"tensorstore {version('tensorstore')}")
