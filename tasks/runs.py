"""Builds of uploads as Prefect's flow runs: started under an idempotency key, found by a tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import batched
from typing import Any, cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from ngff_core.errors import NgffError
from ngff_core.uploads.decisions import Decision, Job, Outcome, Run, Upload
from ngff_core.uploads.patterns import digest

TAG = "upload"
_BEFORE_REASON = re.compile(r"^Flow run encountered an exception: (\w+: )?")
_URIS_PER_REQUEST = 40
_PAGE = 200

_OUTCOMES: dict[str, Outcome] = {
    "COMPLETED": "done",
    "FAILED": "failed",
    "CRASHED": "failed",
    "CANCELLED": "cancelled",
}


class NoSuchDeploymentError(NgffError, LookupError):
    """Prefect has no deployment of the name that builds pyramids."""


class PrefectRequestError(NgffError, OSError):
    """A request to Prefect's API failed."""


@dataclass(frozen=True)
class PrefectBuilds:
    """The builds of one watched prefix: runs of ``deployment``."""

    deployment: str
    parameters: Callable[[Decision], dict[str, Any]]
    """The parameters of the flow run that carries out a decision."""

    def find(self, uploads: Iterable[Upload]) -> tuple[Run, ...]:
        """All runs that were ever started for ``uploads``, with their outcomes."""
        with _request_errors():
            return find_runs(uploads)

    def start(self, decision: Decision) -> str:
        """Ask Prefect for a run of the decision's job, without waiting for it; the run's id."""
        with _request_errors():
            return start_build(decision, self.deployment, self.parameters(decision))


@contextmanager
def _request_errors() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise PrefectRequestError(f"Prefect's API: {error}") from error


def upload_tag(uri: str) -> str:
    """The tag of all runs of one upload."""
    return f"{TAG}:{digest(uri)}"


def find_runs(uploads: Iterable[Upload]) -> tuple[Run, ...]:
    """All runs that were ever started for these uploads, with their outcomes."""
    tags = sorted({upload_tag(upload.uri) for upload in uploads})
    with get_client(sync_client=True) as client:
        return tuple(
            run
            for some in batched(tags, _URIS_PER_REQUEST)
            for found in _pages(client, some)
            if (run := run_of(found)) is not None
        )


def run_of(found: FlowRun) -> Run | None:
    """A flow run as `ngff_core.uploads.decisions` takes it; None where no watcher started it."""
    job = Job.parse(found.idempotency_key or "")
    if job is None:
        return None
    kind = found.state.type.value if found.state is not None else "SCHEDULED"
    ended = found.end_time.timestamp() if found.end_time is not None else 0.0
    reason = plain_reason((found.state.message or "") if found.state is not None else "")
    return Run(job, _OUTCOMES.get(kind, "running"), str(found.id), ended, reason[:500])


def plain_reason(message: str) -> str:
    """The first line of a state's message, without the words that Prefect puts before it.

    >>> plain_reason("Flow run encountered an exception: SourceFormatError: a.tif: truncated")
    'a.tif: truncated'
    """
    line = next(iter(message.strip().splitlines()), "")
    return _BEFORE_REASON.sub("", line)


def start_build(decision: Decision, deployment: str, parameters: dict[str, Any]) -> str:
    """Ask Prefect for a run of the decision's job, without waiting for it; the run's id."""
    job = decision.job
    if job is None:
        raise ValueError(f"the decision for {decision.upload.uri} has no job to start")
    try:
        run = run_deployment(
            deployment,
            parameters=parameters,
            # The name that the run gives itself when it begins, so the list of runs always has it.
            flow_run_name=f"{deployment.partition('/')[0]}/{last_part(decision.upload.target)}",
            idempotency_key=job.key(),
            tags=[TAG, upload_tag(job.uri)],
            timeout=0,
            # A run of its own, which outlives the run of the watcher.
            as_subflow=False,
        )
    except ObjectNotFound as error:
        raise NoSuchDeploymentError(
            f"Prefect has no deployment {deployment}: deploy it, or name another one in the "
            "parameter `deployment` of watch-uploads"
        ) from error
    return str(cast(FlowRun, run).id)


def last_part(uri: str) -> str:
    """The last part of a path or URI, which runs are named after."""
    return uri.rstrip("/").rpartition("/")[2]


def _pages(client: SyncPrefectClient, tags: Sequence[str]) -> Iterator[FlowRun]:
    wanted = FlowRunFilter(tags=FlowRunFilterTags(any_=list(tags)))
    offset = 0
    while True:
        # In an order that new runs do not change: otherwise a run could be on two pages.
        page = client.read_flow_runs(
            flow_run_filter=wanted,
            limit=_PAGE,
            offset=offset,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        )
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE
