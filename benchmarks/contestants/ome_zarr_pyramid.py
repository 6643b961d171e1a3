"""ome_zarr_pyramid: all levels from one reading of the source, written by tensorstore."""

from __future__ import annotations

import zarr
from ome_zarr_pyramid import Pyramid, io

from benchmarks.contestants.harness import Job, blosc, compete


def work(job: Job) -> None:
    """A pyramid of means, in its own chunks."""
    source = zarr.open_array(job.source, mode="r")
    pyramid = Pyramid().from_array(source, axis_order=job.dims)
    plan = pyramid.downscale(
        n_layers=len(job.factors) + 1,
        scale_factor=[job.factors[0]] * source.ndim,
        downscale_method="mean",
    )
    given = {}
    if job.compressor:
        given = {"compressor": "blosc", "compressor_params": blosc(job.compressor)}
    io.write_pyramid(plan, job.target, max_threads=job.threads, chunk_shape=job.chunks, **given)


if __name__ == "__main__":
    compete(work)
