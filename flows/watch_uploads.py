"""The flow `watch-uploads`: every new upload becomes a pyramid, once for each version.

It runs each minute, and for one upload where a notification tells of it. Two of them at
once do no harm: a build is asked for under an idempotency key that names the upload, its
version, what is to be made of it and the attempt, and Prefect has one run for a key. An
automation cannot give such a key, and events come twice; so an event never starts a build
by itself, but a look at the upload that it tells of.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from flows.options import PyramidOptions
from ngff_core.errors import NgffError
from ngff_core.storage import is_transient
from ngff_core.uploads import inbox
from ngff_core.uploads.decisions import Decision, Policy, Record, Seen, decide_all, unsettled
from ngff_core.uploads.inbox import Inbox
from ngff_core.uploads.patterns import Names, digest
from tasks import runs
from tasks.credentials import storage_options

BUILD_DEPLOYMENT = "build-pyramid/on-upload"

# How a pyramid is made, and not what it is: a change of these builds nothing anew.
_NO_BYTE = (
    "workers",
    "memory_limit",
    "cache",
    "overwrite",
    "dask_address",
    "dask_workers",
    "public_url",
)

_ROWS = 500
_NAMED = 3


class UploadPrefix(BaseModel):
    """A place where uploads arrive, and where their pyramids go."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(description="Path or URI below which uploads arrive, such as gs://in/scans.")
    target: str = Field(
        description="Path or URI for the pyramids. A plain one keeps the uploads' folders; a "
        "template has {path} (folders and name without its ending), {folder}, {name} or {file} "
        "in it, such as gs://out/{name}.ome.zarr."
    )
    include: list[str] = Field(
        default=["*.tif", "*.tiff", "*.npy", "*.zarr"],
        description="Globs of what is an upload. Without a slash a glob is held against the name, "
        "with one against the path below the prefix; ** spans folders.",
    )
    exclude: list[str] = Field(
        default=[], description="Globs of what is none, and of folders not to look into."
    )
    folders: list[str] = Field(
        default=["*.zarr"], description="Globs of folders that are one upload each."
    )
    marker: str | None = Field(
        default=None,
        description="An object that uploaders put into such a folder last, such as _SUCCESS. The "
        "folder is then complete when, and new whenever, the marker is; without one its whole "
        "listing must be still.",
    )
    options: PyramidOptions = Field(
        default_factory=PyramidOptions,
        description="How the pyramids are made. A change that changes their bytes builds "
        "every pyramid of this prefix anew.",
    )
    state: str | None = Field(
        default=None,
        description="Path or URI for what the watcher remembers, with parked uploads below "
        "parked/. By default .ngff-flows below the prefix.",
    )
    storage_block: str | list[str] | None = Field(
        default=None,
        description="A saved block with the credentials, such as gcs-bucket/lab, or several of "
        "them; the watcher and the builds that it starts use them. By default the environment's.",
    )

    def to_inbox(self) -> Inbox:
        """The prefix as the tasks take it."""
        made = self.options.model_dump(mode="json", exclude=set(_NO_BYTE))
        names = Names(tuple(self.include), tuple(self.exclude), tuple(self.folders), self.target)
        return Inbox(
            uri=self.uri,
            names=names,
            work=lambda target: digest([target, made]),
            state=self.state,
            marker=self.marker,
        )

    def parameters(self, decision: Decision) -> dict[str, Any]:
        """The parameters of the run that does what was decided."""
        options = self.options.model_dump(mode="json")
        options["overwrite"] = options["overwrite"] or decision.overwrite
        upload = decision.upload
        parameters = {"source": upload.uri, "target": upload.target, "options": options}
        if self.storage_block is not None:
            parameters["storage_block"] = self.storage_block
        return parameters


class Patience(BaseModel):
    """How long the watcher waits, and how often it tries again."""

    model_config = ConfigDict(extra="forbid")

    settle_seconds: float = Field(
        default=60.0, ge=0, description="Size and version of an upload must be still this long."
    )
    attempts: int = Field(
        default=4, ge=1, description="Failed builds of one version after which it is parked."
    )
    pauses_seconds: list[float] = Field(
        default=[60.0, 600.0, 3600.0],
        description="Pause after the first failure, the second, and so on; the last repeats.",
    )
    starts_per_look: int = Field(
        default=100, ge=1, description="Builds started in one look; the next one goes on."
    )

    def to_policy(self) -> Policy:
        """The same as the planner takes it."""
        return Policy(
            settle_seconds=self.settle_seconds,
            attempts=self.attempts,
            pauses=tuple(self.pauses_seconds),
            starts=self.starts_per_look,
        )


class LookFailedError(NgffError, RuntimeError):
    """A part of a look failed; the rest was done, and the next look tries all of it again."""


def _run_name() -> str:
    """The one upload that is looked at, or the prefixes."""
    given = flow_run.parameters
    one = given.get("only")
    uris = [one] if one else [UploadPrefix.model_validate(p).uri for p in given["prefixes"]]
    names = [runs.last_part(uri) for uri in uris[:_NAMED]]
    more = f" and {len(uris) - _NAMED} more" if len(uris) > _NAMED else ""
    return f"watch-uploads/{', '.join(names)}{more}"


@flow(name="watch-uploads", flow_run_name=_run_name, validate_parameters=True)
def watch_uploads(
    prefixes: list[UploadPrefix],
    patience: Patience = Patience(),  # noqa: B008 - frozen by use
    only: str | None = None,
    release: list[str] | None = None,
    deployment: str = BUILD_DEPLOYMENT,
) -> dict[str, int]:
    """Look at the uploads, and start a build for each version of each that is still.

    The same look again, or two at once, start nothing twice.

    Args:
        prefixes: Where uploads arrive, and where their pyramids go.
        patience: How long an upload must be still, and how failures are tried again.
        only: The URI of one upload to look at, as a notification tells it; by default all.
        release: URIs of parked uploads, or globs of them, to be tried again.
        deployment: The deployment that builds one pyramid.
    """
    looks: list[Look] = []
    troubles: list[str] = []
    for prefix in prefixes:
        look = Look(prefix, patience.to_policy(), deployment)
        if only is not None and not look.inbox.holds(only):
            continue
        looks.append(look)
        try:
            look.run(only, release or [], time.time())
        except Exception as error:
            if not _is_of_storage(error):
                raise
            look.troubles.append(f"{prefix.uri}: {error}")
        troubles += look.troubles
    rows = [row for look in looks for row in look.rows]
    counts = _show(rows, troubles)
    if troubles:
        raise LookFailedError("; ".join(troubles[:5]))
    return counts


class Look:
    """One look at one prefix."""

    def __init__(self, prefix: UploadPrefix, policy: Policy, deployment: str) -> None:
        self.prefix = prefix
        self.inbox = prefix.to_inbox()
        self.policy = policy
        self.deployment = deployment
        self.rows: list[dict[str, Any]] = []
        self.troubles: list[str] = []

    def run(self, only: str | None, release: Sequence[str], now: float) -> None:
        """See, decide, do, remember."""
        options = storage_options(self.prefix.storage_block)
        self.inbox = replace(self.inbox, storage_options=options)
        before = inbox.load_records(self.inbox)
        parked = inbox.find_parked(self.inbox)
        seen = self._see(before, parked, only, release, now)
        outlook = decide_all(seen, self.policy)
        self._unpark(seen, parked)
        records = dict(outlook.records)
        for decision in outlook.decisions:
            if not self._do(decision, now):
                _restore(records, before, decision.upload.uri)
        if records != before:
            inbox.save_records(self.inbox, records)

    def _see(
        self,
        before: Mapping[str, Record],
        parked: Mapping[str, Any],
        only: str | None,
        release: Sequence[str],
        now: float,
    ) -> Seen:
        one = only is not None
        uploads = (
            inbox.find_uploads(self.inbox) if only is None else inbox.find_upload(self.inbox, only)
        )
        seen = Seen(uploads, now, before, partial=one)
        stale = inbox.stale_parked(seen, parked)
        return replace(
            seen,
            runs=runs.find_runs(unsettled(uploads, before)),
            parked=frozenset(parked).difference(stale),
            release=frozenset(uri for uri in parked if _asked(uri, release)),
        )

    def _unpark(self, seen: Seen, parked: Mapping[str, Any]) -> None:
        for uri in parked:
            if uri in seen.release or uri not in seen.parked:
                inbox.unpark(self.inbox, uri)

    def _do(self, decision: Decision, now: float) -> bool:
        """Start or park what was decided to be; False where Prefect or storage refused."""
        told = ""
        run = decision.run
        try:
            if decision.action == "start":
                run = runs.start_build(decision, self.deployment, self.prefix.parameters)
            elif decision.action == "park":
                told = f" (remove {inbox.park(self.inbox, decision, now)} to release it)"
        except Exception as error:
            if not _is_of_storage(error):
                raise
            self.troubles.append(f"{decision.upload.uri}: {error}")
            told = f" (not done: {error})"
        self.rows.append(_row(decision, run, told))
        return not told.startswith(" (not done")


def _row(decision: Decision, run: str, told: str) -> dict[str, Any]:
    upload = decision.upload
    return {
        "upload": upload.uri,
        "what": decision.action,
        "why": decision.reason + told,
        "attempt": decision.job.attempt if decision.job is not None else "",
        "run": run,
        "target": upload.target,
        "version": upload.version,
    }


def _restore(records: dict[str, Record], before: Mapping[str, Record], uri: str) -> None:
    """Remember of an upload what was remembered before: nothing was done about it."""
    if uri in before:
        records[uri] = before[uri]
    else:
        records[uri] = replace(records[uri], attempt=0, parked=False)


def _show(rows: Sequence[dict[str, Any]], troubles: Sequence[str]) -> dict[str, int]:
    """The artifact `uploads`, news first, and a line of it all in the log."""
    logger = get_run_logger()
    counts = Counter(str(row["what"]) for row in rows)
    order = ("start", "park", "wait", "skip")
    ranked = sorted(rows, key=lambda row: order.index(row["what"]))
    for row in ranked:
        if row["what"] in ("start", "park"):
            logger.info(f"{row['what']}: {row['upload']}: {row['why']}")
    for trouble in troubles:
        logger.error(trouble)
    said = ", ".join(f"{counts[what]} {what}" for what in order)
    more = f"; the first {_ROWS} of {len(rows)}" if len(rows) > _ROWS else ""
    create_table_artifact(key="uploads", table=ranked[:_ROWS], description=f"Uploads: {said}{more}")
    logger.info(f"{len(rows)} uploads: {said}")
    return {what: counts[what] for what in order}


def _asked(uri: str, release: Sequence[str]) -> bool:
    return any(uri == asked or fnmatchcase(uri, asked) for asked in release)


def _is_of_storage(error: Exception) -> bool:
    """Whether other uploads and prefixes may fare better."""
    return isinstance(error, NgffError | OSError | httpx.HTTPError) or is_transient(error)
