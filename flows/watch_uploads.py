"""The flow `watch-uploads`: builds a pyramid of every new upload, once for each version.

It runs every minute, and for a single upload when a notification arrives. Two runs at the same
time are safe: each asks for a build under an idempotency key that names the upload, its version,
the options and the attempt, and Prefect starts one run for each key. An automation cannot give
such a key, and events can arrive twice. So an event never starts a build, only a run of this
flow for its upload.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.upload_options import Patience, UploadPrefix
from ngff_core.errors import NgffError
from ngff_core.uploads.decisions import Policy
from ngff_core.uploads.look import LookResult, Scope, look
from tasks.reporting.uploads import show_uploads
from tasks.runs import PrefectBuilds, last_part

BUILD_DEPLOYMENT = "build-pyramid/on-upload"

_NAMED = 3
_ERRORS = 5


class LookFailedError(NgffError, RuntimeError):
    """Part of a look failed; the rest was done, and the next look tries that part again."""


def _run_name() -> str:
    """Named after the one upload, or after the prefixes."""
    given: dict[str, Any] = flow_run.parameters
    one = given.get("only")
    uris = [one] if one else [UploadPrefix.model_validate(p).uri for p in given["prefixes"]]
    names = [last_part(uri) for uri in uris[:_NAMED]]
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
    """Look at the uploads, and start a build for each new version that is complete.

    Running it again, or twice at the same time, starts nothing twice.

    Args:
        prefixes: Where uploads arrive, and where their pyramids go.
        patience: How long an upload must stay unchanged, and how failed builds are repeated.
        only: URI of the one upload to look at, as notifications give it. By default all.
        release: URIs of parked uploads to try again, or glob patterns of URIs.
        deployment: The deployment that builds one pyramid.
    """
    scope = Scope(only, tuple(release or ()))
    policy = patience.to_policy()
    results = [
        _look(prefix, policy, deployment, scope)
        for prefix in prefixes
        if only is None or prefix.holds(only)
    ]
    errors = [error for result in results for error in result.errors]
    counts = show_uploads([action for result in results for action in result.actions], errors)
    if errors:
        raise LookFailedError("; ".join(errors[:_ERRORS]))
    return counts


def _look(prefix: UploadPrefix, policy: Policy, deployment: str, scope: Scope) -> LookResult:
    builds = PrefectBuilds(deployment, prefix.parameters)
    try:
        inbox = prefix.to_inbox()
    except NgffError as error:
        # Its block cannot be used; the other prefixes are looked at all the same.
        return LookResult(errors=[f"{prefix.uri}: {error}"])
    return look(inbox, policy, builds, scope, time.time())
