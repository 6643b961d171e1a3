"""The same job by the Prefect flow, on the server that PREFECT_API_URL names."""

from __future__ import annotations

from benchmarks.contestants.harness import Job, compete
from benchmarks.contestants.ours import options
from ngff_flows.cli.run_flow import run_flow


def work(job: Job) -> None:
    """One flow run."""
    report, _ = run_flow(job.source, job.target, options(job))
    assert report.verified


if __name__ == "__main__":
    compete(work)
