"""Plain copies of level 0 with our chunks, shards and compressor; method is who copies.

Shard by shard, as many at once as there are threads: nobody can do with less.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import zarr

from benchmarks.contestants.arrays import boxes, create_level, open_tensorstore, write_boxes
from benchmarks.contestants.harness import Job, compete
from ngff_core.storage import fused_pipeline


def by_zarr(job: Job) -> None:
    """zarr-python with its fused pipeline, from threads."""
    with fused_pipeline():
        source = zarr.open_array(job.source, mode="r")
        target = create_level(job, 0, source)

    def copy(box: tuple[slice, ...]) -> None:
        target[box] = source[box]

    with ThreadPoolExecutor(job.threads) as pool:
        for _ in pool.map(copy, boxes(target.shape, target.shards)):
            pass


def by_tensorstore(job: Job) -> None:
    """Tensorstore, which copies in threads of its own."""
    target = create_level(job, 0, zarr.open_array(job.source, mode="r"))
    write_boxes(
        open_tensorstore(job.source, job.threads),
        open_tensorstore(f"{job.target}/0", job.threads),
        target.shards,
        job.threads,
    )


def work(job: Job) -> None:
    """The copy by whom the job names."""
    {"zarr": by_zarr, "tensorstore": by_tensorstore}[str(job.method)](job)


if __name__ == "__main__":
    compete(work)
