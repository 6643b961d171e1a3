"""Builds as Prefect knows them: asked for under an idempotency key, and found again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import batched
from typing import Any, cast

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
    """The deployment that builds pyramids is not there."""


def upload_tag(uri: str) -> str:
    """The tag by which the runs of one upload are found."""
    return f"{TAG}:{digest(uri)}"


def find_runs(uploads: Iterable[Upload]) -> tuple[Run, ...]:
    """All runs that were ever started for these uploads, and what became of them."""
    tags = sorted({upload_tag(upload.uri) for upload in uploads})
    with get_client(sync_client=True) as client:
        return tuple(
            run
            for some in batched(tags, _URIS_PER_REQUEST)
            for found in _pages(client, some)
            if (run := run_of(found)) is not None
        )


def run_of(found: FlowRun) -> Run | None:
    """A flow run as the planner sees it; None where no watcher started it."""
    job = Job.parse(found.idempotency_key or "")
    if job is None:
        return None
    kind = found.state.type.value if found.state is not None else "SCHEDULED"
    ended = found.end_time.timestamp() if found.end_time is not None else 0.0
    reason = plain_reason((found.state.message or "") if found.state is not None else "")
    return Run(job, _OUTCOMES.get(kind, "running"), str(found.id), ended, reason[:500])


def plain_reason(message: str) -> str:
    """The first line of a state's message, without what Prefect and Python put before it.

    >>> plain_reason("Flow run encountered an exception: SourceFormatError: a.tif: truncated")
    'a.tif: truncated'
    """
    line = next(iter(message.strip().splitlines()), "")
    return _BEFORE_REASON.sub("", line)


def start_build(
    decision: Decision, deployment: str, parameters: Callable[[Decision], dict[str, Any]]
) -> str:
    """Ask Prefect for the decision's job, without waiting for it; the id of its run."""
    job = decision.job
    if job is None:
        raise ValueError(f"{decision.upload.uri} is not to be started")
    try:
        run = run_deployment(
            deployment,
            parameters=parameters(decision),
            # As the build calls itself once it begins: until then the list of runs has it too.
            flow_run_name=f"{deployment.partition('/')[0]}/{last_part(decision.upload.target)}",
            idempotency_key=job.key(),
            tags=[TAG, upload_tag(job.uri)],
            timeout=0,
            # A run of its own: it outlives the look that started it.
            as_subflow=False,
        )
    except ObjectNotFound as error:
        raise NoSuchDeploymentError(
            f"Prefect has no deployment {deployment}: deploy it, or name another one in the "
            "parameter `deployment`"
        ) from error
    return str(cast(FlowRun, run).id)


def last_part(uri: str) -> str:
    """What runs are named after: the name of a pyramid, an upload or a prefix, and no path."""
    return uri.rstrip("/").rpartition("/")[2]


def _pages(client: SyncPrefectClient, tags: Sequence[str]) -> Iterator[FlowRun]:
    wanted = FlowRunFilter(tags=FlowRunFilterTags(any_=list(tags)))
    offset = 0
    while True:
        # In an order that new runs do not change, or a page would show some twice.
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
