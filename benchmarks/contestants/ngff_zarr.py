"""ngff-zarr: lazily by dask, on threads, written by its own engine."""

from __future__ import annotations

import dask
import dask.array
from ngff_zarr import Methods, to_multiscales, to_ngff_image, to_ngff_zarr

from benchmarks.contestants.harness import Job, blosc, compete


def work(job: Job) -> None:
    """A pyramid by one of its methods, in its own layout or in ours."""
    from zarr.codecs import BloscCodec

    layout = {}
    if job.chunks and job.shards and job.compressor:
        counts = (s // c for s, c in zip(job.shards, job.chunks, strict=True))
        layout = {
            "chunks_per_shard": dict(zip(job.dims, counts, strict=True)),
            "compressors": [BloscCodec(**blosc(job.compressor))],
        }
    with dask.config.set(scheduler="threads", num_workers=job.threads):
        image = to_ngff_image(dask.array.from_zarr(job.source), dims=tuple(job.dims))
        method = Methods(job.method) if job.method else None
        pyramid = to_multiscales(image, list(job.factors), method, chunks=job.chunks)
        to_ngff_zarr(job.target, pyramid, version="0.5", **layout)


if __name__ == "__main__":
    compete(work)
