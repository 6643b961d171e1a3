"""Shared by all contestants: a job from the command line, warmed up, timed, printed as JSON.

``python -m benchmarks.contestants.NAME JOB`` where JOB is the JSON of a `Job`. The last
line of standard output is ``{"seconds": …}``.
"""

# ruff: noqa: T201 - the last line printed is the result

from __future__ import annotations

import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

_TOUCHED_BYTES = 3 * 2**30


@dataclass(frozen=True)
class Job:
    """One pyramid to write. Fields that are None are left to the tool's own defaults."""

    source: str
    target: str
    tiny: str
    """An image of the same kind, for the warm-up that is not timed."""
    dims: str
    factors: tuple[int, ...]
    """Of each level: relative to the full image, the same for all axes."""
    threads: int
    workers: int | None = None
    """Workers of our build, where they differ from ``threads``."""
    method: str | None = None
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    compressor: str | None = None

    @classmethod
    def parse(cls, text: str) -> Job:
        """Read a job from the JSON of the command line."""
        given = json.loads(text)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})

    @property
    def steps(self) -> list[int]:
        """Factor of each level relative to the one before."""
        return [b // a for a, b in zip((1, *self.factors), self.factors, strict=False)]

    def shape(self, level: int, full: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a level."""
        factor = (1, *self.factors)[level]
        return tuple(n // factor for n in full)


def blosc(compressor: str) -> dict[str, str | int]:
    """The settings in ``blosc:CODEC:LEVEL:SHUFFLE``, by the names that all tools know."""
    _, codec, level, shuffle = compressor.split(":")
    return {"cname": codec, "clevel": int(level), "shuffle": shuffle}


def _touch_memory() -> None:
    """Use 3 GiB of memory once before the clock starts, for every contestant alike.

    A hypervisor may take back free memory. The first use of a page after some idle seconds
    then costs five to ten times the second: writing 400 MiB into the page cache took 0.15 s or
    1.2 s by chance, which is more than the contestants differ by.
    """
    with mmap.mmap(-1, _TOUCHED_BYTES) as memory:
        for page in range(0, _TOUCHED_BYTES, mmap.PAGESIZE):
            memory[page] = 1


def compete(work: Callable[[Job], object]) -> None:
    """Do the job of the command line and print how long it took.

    Imports, compilation and first calls are not counted, since the same work is done on a tiny
    image first. Unwritten pages of earlier processes are flushed first, and the source is read
    into the page cache.
    """
    job = Job.parse(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        work(replace(job, source=job.tiny, target=f"{folder}/tiny.ome.zarr", factors=(2,)))
    for file in Path(job.source).rglob("*"):
        if file.is_file():
            file.read_bytes()
    os.sync()
    _touch_memory()
    began = time.perf_counter()
    work(job)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": round(seconds, 4)}))
