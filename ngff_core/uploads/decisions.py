"""Decides what to do about each upload. Pure: reads nothing and starts nothing.

`decide_all` takes the uploads of a listing, the records of the last look, the runs of builds,
the parked uploads and the time; it returns decisions and the records for the next look. A *look*
is one run of the watcher.

Three rules hold even where records are lost, looks overlap, or clocks are wrong:

- A build is identified by its `Job`: upload, version, work and attempt. The job's text is the
  idempotency key, so two watchers with the same decision start one run.
- The next attempt has the next number, and is made only after the last attempt ended.
- A build is started only after the upload has stayed unchanged for the settle time, as seen in
  at least two looks, or where its storage guarantees that it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

Outcome = Literal["running", "done", "failed", "cancelled"]
Action = Literal["start", "wait", "skip", "park"]
Phase = Literal["open", "done", "parked"]

FORGET_SECONDS = 30 * 24 * 3600.0
"""The record of an upload that disappeared is kept for so long: the upload may come back."""


@dataclass(frozen=True)
class Policy:
    """How long a watcher waits, and how often it tries again."""

    settle_seconds: float = 60.0
    attempts: int = 4
    pauses: tuple[float, ...] = (60.0, 600.0, 3600.0)
    """Seconds to wait after the first failure, the second, and so on; the last number repeats."""
    starts: int = 100
    """The most builds that one look starts."""

    def pause(self, failures: int) -> float:
        """The pause in seconds after this number of failures.

        >>> [Policy(pauses=(1, 5)).pause(failures) for failures in (1, 2, 3)]
        [1, 5, 5]
        """
        return self.pauses[min(failures, len(self.pauses)) - 1] if self.pauses else 0.0


@dataclass(frozen=True)
class Revision:
    """What a build depends on: a version of an upload, and what is made of it."""

    version: str
    work: str


@dataclass(frozen=True)
class Upload:
    """An object or a folder in a listing, of which one pyramid is built."""

    uri: str
    path: str
    """Path below the prefix."""
    target: str
    version: str
    """Changes with every change of the upload."""
    work: str = ""
    """Digest of the target and of every option that decides a stored byte."""
    complete: bool = False
    """Whether it is known to be complete, so that nothing need be waited for."""
    lacks: str = ""
    """Why it cannot be complete yet; empty where it can."""
    refused: str = ""
    """Why it must never be built as it is; empty for all but hostile or mistaken names."""

    @property
    def revision(self) -> Revision:
        """What a build of it depends on."""
        return Revision(self.version, self.work)


@dataclass(frozen=True)
class Job:
    """One attempt at one version of one upload."""

    uri: str
    version: str
    work: str
    attempt: int

    @property
    def revision(self) -> Revision:
        """What the attempt builds."""
        return Revision(self.version, self.work)

    def key(self) -> str:
        """The idempotency key: Prefect starts one run for a key, however often it is asked.

        >>> Job("gs://in/a b@1.tif", "generation:7", "c0ffee", 2).key()
        'gs://in/a b@1.tif@generation:7@c0ffee@2'
        """
        return f"{self.uri}@{self.version}@{self.work}@{self.attempt}"

    @classmethod
    def parse(cls, key: str) -> Job | None:
        """The job of a key; None for a key that is not of a job."""
        parts = key.rsplit("@", 3)
        if len(parts) != 4 or not parts[3].isdecimal():
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]))


@dataclass(frozen=True)
class Run:
    """A run of a job, as Prefect reports it."""

    job: Job
    outcome: Outcome
    id: str = ""
    ended: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """What one look records about an upload for the next."""

    revision: Revision
    since: float
    """Epoch seconds at which this version was first seen."""
    attempt: int = 0
    """Number of the last attempt at this version and work; 0 before the first."""
    forgiven: int = 0
    """Attempts up to this number do not count as failures: the upload was released after them."""
    phase: Phase = "open"
    """Whether it is built, or given up until it is released; open otherwise."""
    replaces: bool = False
    """Whether a build of an earlier version was started, whose pyramid may be at the target."""
    gone: float | None = None
    """Epoch seconds at which a listing first lacked the upload; None while it is there."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """From `to_dict`; fields of other versions of this software are ignored."""
        plain = {each.name for each in fields(cls)} - {"revision", "phase"}
        done, parked = values.get("done"), values.get("parked")
        return cls(
            Revision(values["version"], values["work"]),
            phase="done" if done else "parked" if parked else "open",
            **{name: value for name, value in values.items() if name in plain},
        )

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values, without fields that have their defaults."""
        defaults = {each.name: each.default for each in fields(self)}
        values = {n: v for n, v in asdict(self).items() if n not in defaults or v != defaults[n]}
        phase = {values.pop("phase"): True} if "phase" in values else {}
        return {**values.pop("revision"), **values, **phase}


@dataclass(frozen=True)
class Decision:
    """The action for one upload, and its reason."""

    upload: Upload
    action: Action
    reason: str
    job: Job | None = None
    """The job to start, for the action start; the job that failed last, for park."""
    overwrite: bool = False
    run: str = ""


@dataclass(frozen=True)
class Seen:
    """Everything that the decisions about one prefix depend on."""

    uploads: tuple[Upload, ...]
    now: float
    records: Mapping[str, Record] = field(default_factory=dict)
    """By URI, from the last look; empty where they were lost."""
    runs: tuple[Run, ...] = ()
    parked: frozenset[str] = frozenset()
    """URIs of uploads that have an object below ``parked/``."""
    release: frozenset[str] = frozenset()
    """URIs of uploads that somebody asked to try again."""
    partial: bool = False
    """Whether the listing has some uploads only, so that the others still exist."""


@dataclass(frozen=True)
class Outlook:
    """A decision for each upload, ordered by URI, and the records for the next look."""

    decisions: tuple[Decision, ...]
    records: Mapping[str, Record]


def decide_all(seen: Seen, policy: Policy) -> Outlook:
    """A decision for every upload, and the records for the next look."""
    records = _records_of_missing(seen)
    runs = _by_uri(seen.runs)
    owners: dict[str, str] = {}
    decisions: list[Decision] = []
    started = 0
    targets = {upload.target for upload in seen.uploads}
    for upload in sorted(seen.uploads, key=lambda upload: upload.uri):
        if upload.refused:
            decisions.append(_refuse(upload, seen))
            records[upload.uri] = Record(upload.revision, seen.now, phase="parked")
            continue
        if upload.uri in targets:
            decisions.append(
                Decision(upload, "skip", "its URI is the target of an upload's pyramid")
            )
            continue
        owner = owners.setdefault(upload.target, upload.uri)
        if owner != upload.uri:
            reason = f"{owner} has the same target; rename one of them"
            decisions.append(Decision(upload, "skip", reason))
            continue
        decision, record = decide(upload, seen, runs.get(upload.uri, ()), policy)
        if decision.action == "start" and started >= policy.starts:
            reason = f"this look has started its {started} builds; the next look starts more"
            decision = Decision(upload, "wait", reason)
            record = replace(record, attempt=_last_attempt(seen, upload, runs))
        started += decision.action == "start"
        decisions.append(decision)
        records[upload.uri] = record
    return Outlook(tuple(decisions), records)


def _refuse(upload: Upload, seen: Seen) -> Decision:
    """Park an upload that no release makes fit; only another name or content does."""
    if upload.uri in seen.parked:
        return Decision(upload, "skip", f"parked: {upload.refused}")
    return Decision(upload, "park", upload.refused)


def decide(
    upload: Upload, seen: Seen, runs: Sequence[Run], policy: Policy
) -> tuple[Decision, Record]:
    """The decision about one upload, and its record for the next look."""
    record = _record(upload, seen, runs)
    last = _last(upload, runs, record)
    if record.phase == "done" or (last is not None and last.outcome == "done"):
        reason = "built" if record.phase == "done" else f"built by attempt {record.attempt}"
        return _with_run(upload, "skip", reason, last), replace(record, phase="done")
    if upload.lacks:
        return Decision(upload, "wait", upload.lacks), record
    if last is not None and last.outcome == "running":
        return _with_run(upload, "wait", f"attempt {record.attempt} is building", last), record
    if upload.uri in seen.parked and not _released(upload, seen):
        reason = "parked; release it, or upload a new version"
        return _with_run(upload, "skip", reason, last), replace(record, phase="parked")
    for run in runs:
        if run.outcome == "running":
            reason = f"a build of an earlier version is still running: attempt {run.job.attempt}"
            return Decision(upload, "wait", reason, run=run.id), record
    if (unsettled_reason := _why_unsettled(upload, record, seen.now, policy)) is not None:
        return Decision(upload, "wait", unsettled_reason), record
    if last is None:
        # Prefect has deleted the run of this attempt: ask for it again, under the same key.
        again = any(run.job.attempt == record.attempt for run in _own(upload, runs))
        return _start(upload, record, record.attempt + 1 if again else max(record.attempt, 1))
    return _after_failure(upload, record, last, seen, policy)


def _after_failure(
    upload: Upload, record: Record, last: Run, seen: Seen, policy: Policy
) -> tuple[Decision, Record]:
    failures = record.attempt - record.forgiven
    if failures <= 0:
        return _start(upload, record, record.attempt + 1)
    # The table shows the upload's name already.
    cause = last.reason.removeprefix(f"{upload.uri}: ")
    why = f": {cause}" if cause else ""
    if last.outcome == "cancelled":
        reason = f"attempt {record.attempt} was cancelled{why}"
        return _park(upload, record, last, reason)
    if failures >= policy.attempts:
        with_what = f", the last with{why}" if failures > 1 and why else why
        return _park(upload, record, last, f"{_attempts(failures)} failed{with_what}")
    # A run may end in the future, by the clock of another machine; the pause must not grow.
    waited = seen.now - min(last.ended, seen.now)
    pause = policy.pause(failures)
    if waited < pause:
        reason = f"attempt {record.attempt} failed{why}; the next in {pause - waited:.0f} s"
        return _with_run(upload, "wait", reason, last), record
    return _start(upload, record, record.attempt + 1)


def _attempts(number: int) -> str:
    return "1 attempt" if number == 1 else f"{number} attempts"


def _start(upload: Upload, record: Record, attempt: int) -> tuple[Decision, Record]:
    job = Job(upload.uri, upload.version, upload.work, attempt)
    reason = "new version" if record.replaces else "new upload"
    if attempt > 1:
        reason = f"attempt {attempt}"
    overwrite = record.replaces
    return (
        Decision(upload, "start", reason, job, overwrite),
        replace(record, attempt=attempt, phase="open"),
    )


def _park(upload: Upload, record: Record, last: Run, reason: str) -> tuple[Decision, Record]:
    decision = Decision(upload, "park", reason, last.job, run=last.id)
    return decision, replace(record, phase="parked")


def _with_run(upload: Upload, action: Action, reason: str, run: Run | None) -> Decision:
    return Decision(upload, action, reason, run=run.id if run is not None else "")


def _why_unsettled(upload: Upload, record: Record, now: float, policy: Policy) -> str | None:
    """Why the upload does not count as unchanged yet, or None."""
    if upload.complete or policy.settle_seconds <= 0:
        return None
    # The look that first sees a version sets `since`, so a later look must see it again.
    left = policy.settle_seconds - (now - record.since)
    return f"new or changed; must stay unchanged for another {left:.0f} s" if left > 0 else None


def _record(upload: Upload, seen: Seen, runs: Sequence[Run]) -> Record:
    """The record of this version and work, from the last look and from the runs."""
    before = seen.records.get(upload.uri)
    others = any(run.job.revision != upload.revision for run in runs)
    if before is None or before.revision.version != upload.version or before.gone is not None:
        begun = before is not None and (before.replaces or before.attempt > 0)
        record = Record(upload.revision, seen.now, replaces=begun or others)
    elif before.revision != upload.revision:
        # Unchanged since then, but to be built with other options or at another target.
        begun = before.replaces or before.attempt > 0 or others
        record = Record(upload.revision, before.since, replaces=begun)
    else:
        record = replace(before, replaces=before.replaces or others)
    # `since` may lie in the future, by the clock of another machine; do not wait for that time.
    record = replace(record, since=min(record.since, seen.now))
    attempts = [run.job.attempt for run in _own(upload, runs)]
    record = replace(record, attempt=max([record.attempt, *attempts]))
    return replace(record, forgiven=record.attempt) if _released(upload, seen) else record


def _released(upload: Upload, seen: Seen) -> bool:
    """Whether somebody asked to try it again, or removed its object below ``parked/``."""
    if upload.uri in seen.release:
        return True
    before = seen.records.get(upload.uri)
    if before is None or before.revision != upload.revision:
        return False
    return before.phase == "parked" and upload.uri not in seen.parked


def _last(upload: Upload, runs: Sequence[Run], record: Record) -> Run | None:
    """The run of the last attempt, or a successful run where there is one."""
    own = _own(upload, runs)
    # Where an old version was uploaded again, the target holds a later version by now.
    others = [run.ended for run in runs if run not in own and run.outcome == "done"]
    own = [run for run in own if run.outcome != "done" or run.ended >= max(others, default=0.0)]
    done = [run for run in own if run.outcome == "done"]
    latest = [run for run in own if run.job.attempt == record.attempt]
    running = [run for run in own if run.outcome == "running"]
    return next(iter(done or running or latest), None)


def _own(upload: Upload, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.job.revision == upload.revision]


def _last_attempt(seen: Seen, upload: Upload, runs: Mapping[str, Sequence[Run]]) -> int:
    return _record(upload, seen, runs.get(upload.uri, ())).attempt


def _by_uri(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.job.uri, []).append(run)
    return found


def _records_of_missing(seen: Seen) -> dict[str, Record]:
    """The records of uploads that are missing from the listing, without very old ones."""
    shown = {upload.uri for upload in seen.uploads}
    kept = {uri: record for uri, record in seen.records.items() if uri not in shown}
    if seen.partial:
        return kept
    dated = {
        uri: record if record.gone is not None else replace(record, gone=seen.now)
        for uri, record in kept.items()
    }
    return {
        uri: record
        for uri, record in dated.items()
        if record.gone is not None and seen.now - record.gone < FORGET_SECONDS
    }


def unsettled(uploads: Iterable[Upload], records: Mapping[str, Record]) -> list[Upload]:
    """The uploads whose runs are needed for a decision: all that are not recorded as built."""
    return [
        upload
        for upload in uploads
        if (record := records.get(upload.uri)) is None
        or record.phase != "done"
        or record.gone is not None
        or record.revision != upload.revision
    ]
