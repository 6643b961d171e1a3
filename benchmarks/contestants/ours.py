"""This project's core, without Prefect."""

from __future__ import annotations

from benchmarks.contestants.harness import Job, compete
from ngff_core import BuildOptions, build_pyramid


def options(job: Job) -> BuildOptions:
    """The job as our options."""
    given = {"method": job.method, "compressor": job.compressor}
    return BuildOptions(
        scale_factors=list(job.factors),
        chunks=job.chunks,
        shards=job.shards,
        workers=job.workers or job.threads,
        **{name: value for name, value in given.items() if value is not None},
    )


def work(job: Job) -> None:
    """A whole build: plan, ledger, verification and all."""
    report = build_pyramid(job.source, job.target, **vars(options(job)))
    assert report.verified


if __name__ == "__main__":
    compete(work)
