"""One look at a watched prefix: list uploads, decide, start or park builds, save the state.

The workflow system that runs builds is behind `Builds`, so nothing here knows which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

from ngff_core.errors import NgffError
from ngff_core.storage import is_transient
from ngff_core.uploads import inbox as inboxes
from ngff_core.uploads.decisions import (
    Decision,
    Policy,
    Record,
    Run,
    Seen,
    Upload,
    decide_all,
    unsettled,
)
from ngff_core.uploads.inbox import Inbox


class Builds(Protocol):
    """The builds that a workflow system runs for the uploads of one prefix."""

    def find(self, uploads: Sequence[Upload]) -> tuple[Run, ...]:
        """All runs that were ever started for ``uploads``, with their outcomes."""

    def start(self, decision: Decision) -> str:
        """Start the decision's job once, however often it is asked for; the run's id."""


@dataclass(frozen=True)
class Scope:
    """The part of a prefix to look at, and the parked uploads to try again."""

    only: str | None = None
    """URI of the one upload to look at; None for all."""
    release: tuple[str, ...] = ()
    """URIs of parked uploads, or globs of URIs."""


@dataclass(frozen=True)
class ActionResult:
    """A decision, and the result of carrying it out."""

    decision: Decision
    run: str = ""
    """Id of the run that was started or decided the matter."""
    note: str = ""
    """What else a person should know, such as how to release a parked upload."""
    error: str = ""
    """Why the decision could not be carried out; the next look tries again."""


@dataclass
class LookResult:
    """What one look did about each upload, and the errors that occurred."""

    actions: list[ActionResult] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def look(inbox: Inbox, policy: Policy, builds: Builds, scope: Scope, now: float) -> LookResult:
    """List the uploads of a prefix and do what is due for each; ``now`` is in epoch seconds.

    An error with one upload, or with the prefix, does not stop the others: it is in the
    result, and the next look tries again.
    """
    result = LookResult()
    try:
        _look(inbox, policy, builds, scope, now, result)
    except Exception as error:
        if not _concerns_storage(error):
            raise
        result.errors.append(f"{inbox.uri}: {error}")
    return result


def _look(
    inbox: Inbox, policy: Policy, builds: Builds, scope: Scope, now: float, result: LookResult
) -> None:
    before = inboxes.load_records(inbox)
    parked = inboxes.find_parked(inbox)
    seen = _see(inbox, builds, scope, before, parked, now)
    outlook = decide_all(seen, policy)
    for uri in parked:
        if uri in seen.release or uri not in seen.parked:
            inboxes.unpark(inbox, uri)
    records = dict(outlook.records)
    for decision in outlook.decisions:
        action = _carry_out(inbox, builds, decision, now)
        result.actions.append(action)
        if action.error:
            uri = decision.upload.uri
            result.errors.append(f"{uri}: {action.error}")
            records[uri] = before.get(uri) or replace(records[uri], attempt=0, phase="open")
    if records != before:
        inboxes.save_records(inbox, records)


def _see(
    inbox: Inbox,
    builds: Builds,
    scope: Scope,
    before: Mapping[str, Record],
    parked: Mapping[str, Any],
    now: float,
) -> Seen:
    """Everything that the decisions depend on."""
    one = scope.only
    uploads = inboxes.find_uploads(inbox) if one is None else inboxes.find_upload(inbox, one)
    seen = Seen(uploads, now, before, partial=one is not None)
    return replace(
        seen,
        runs=builds.find(unsettled(uploads, before)),
        parked=frozenset(parked).difference(inboxes.stale_parked(seen, parked)),
        release=frozenset(uri for uri in parked if _is_released(uri, scope.release)),
    )


def _carry_out(inbox: Inbox, builds: Builds, decision: Decision, now: float) -> ActionResult:
    """Start or park the upload where that was decided."""
    try:
        if decision.action == "start":
            return ActionResult(decision, builds.start(decision))
        if decision.action == "park":
            marker = inboxes.park(inbox, decision, now)
            return ActionResult(decision, decision.run, f"remove {marker} to release it")
    except Exception as error:
        if not _concerns_storage(error):
            raise
        return ActionResult(decision, decision.run, f"not done: {error}", str(error))
    return ActionResult(decision, decision.run)


def _is_released(uri: str, release: Sequence[str]) -> bool:
    return any(uri == asked or fnmatchcase(uri, asked) for asked in release)


def _concerns_storage(error: Exception) -> bool:
    """Whether the other uploads are still looked at: False for a fault of this program."""
    return isinstance(error, NgffError | OSError) or is_transient(error)
