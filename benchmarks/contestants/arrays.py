"""Bare arrays, for the contestants that know nothing of OME-Zarr."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any

import zarr

from benchmarks.contestants.harness import Job
from ngff_core.plan.compressors import Compressor

Box = tuple[slice, ...]


def create_level(job: Job, level: int, source: zarr.Array[Any]) -> zarr.Array[Any]:
    """An empty array for one level, laid out as the job says."""
    assert job.chunks
    assert job.shards
    assert job.compressor
    shape = job.shape(level, source.shape)
    chunks = tuple(min(c, n) for c, n in zip(job.chunks, shape, strict=True))
    cover = (-(-n // c) for n, c in zip(shape, chunks, strict=True))
    counts = (s // c for s, c in zip(job.shards, job.chunks, strict=True))
    return zarr.create_array(
        f"{job.target}/{level}",
        shape=shape,
        chunks=chunks,
        shards=tuple(
            min(count, most) * c for count, most, c in zip(counts, cover, chunks, strict=True)
        ),
        dtype=source.dtype,
        compressors=Compressor.parse(job.compressor).v3_codecs(),
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def boxes(shape: tuple[int, ...], size: tuple[int, ...] | None) -> Iterator[Box]:
    """The array cut into boxes of that size."""
    starts = (range(0, n, s) for n, s in zip(shape, size or shape, strict=True))
    for corner in itertools.product(*starts):
        ends = (min(a + s, n) for a, s, n in zip(corner, size or shape, shape, strict=True))
        yield tuple(slice(a, b) for a, b in zip(corner, ends, strict=True))


def open_tensorstore(path: str, threads: int) -> Any:
    """The array at a path as tensorstore sees it."""
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    return tensorstore.open(spec, context=_context(threads)).result()


@cache
def _context(threads: int) -> Any:
    """One for all arrays, or each would have threads of its own."""
    import tensorstore

    return tensorstore.Context({"data_copy_concurrency": {"limit": threads}})


def write_boxes(source: Any, target: Any, size: tuple[int, ...] | None, threads: int) -> None:
    """Copy box by box between tensorstores; enough under way that no thread waits for work."""
    under_way: deque[Any] = deque()
    for box in boxes(tuple(target.shape), size):
        if len(under_way) == 2 * threads:
            under_way.popleft().result()
        under_way.append(target[box].write(source[box]))
    for write in under_way:
        write.result()
