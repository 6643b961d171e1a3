"""ome-zarr-py: lazily by dask, on threads, all else as its own defaults have it."""

from __future__ import annotations

import dask
import dask.array
from ome_zarr.scale import Methods
from ome_zarr.writer import write_image

from benchmarks.contestants.harness import Job, compete


def work(job: Job) -> None:
    """A pyramid; its list of plain factors would leave z as it is, hence the names."""
    with dask.config.set(scheduler="threads", num_workers=job.threads):
        write_image(
            dask.array.from_zarr(job.source),
            job.target,
            scale_factors=[dict.fromkeys(job.dims, factor) for factor in job.factors],
            method=Methods(job.method) if job.method else None,
            axes=list(job.dims),
        )


if __name__ == "__main__":
    compete(work)
