"""Tensorstore's downsample driver: level after level, each from the one before."""

from __future__ import annotations

import tensorstore
import zarr

from benchmarks.contestants.arrays import create_level, open_tensorstore, write_boxes
from benchmarks.contestants.harness import Job, compete


def work(job: Job) -> None:
    """Level 0 is a copy, the others are means of bins."""
    full = zarr.open_array(job.source, mode="r")
    source = open_tensorstore(job.source, job.threads)
    for level, step in enumerate((1, *job.steps)):
        if level:
            source = tensorstore.downsample(source, [step] * full.ndim, "mean")
        shards = create_level(job, level, full).shards
        target = open_tensorstore(f"{job.target}/{level}", job.threads)
        write_boxes(source, target, shards, job.threads)
        source = target


if __name__ == "__main__":
    compete(work)
