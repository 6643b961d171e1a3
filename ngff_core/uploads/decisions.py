"""What to do about uploads, decided from what is known and from nothing else.

`decide_all` takes the uploads that a listing shows, what was remembered of them, the runs
that Prefect knows, the parked ones and the time; it gives decisions and what to remember
next. It reads and starts nothing, and the same input always gives the same answer.

Three rules hold, whatever was lost, run twice, or clocked wrongly in between:

- A build is named by its `Job`: upload, version, work and attempt. The job's text is the
  idempotency key, so two watchers that decide alike start one run.
- An attempt has a number one higher than the last, and only after that one ended.
- An upload is started only while its listing has been still for the settle time, as seen
  in two looks at least, or where its storage says that it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

Outcome = Literal["running", "done", "failed", "cancelled"]
Action = Literal["start", "wait", "skip", "park"]

FORGET_SECONDS = 30 * 24 * 3600.0
"""What is remembered of an upload that is gone stays this long: it may come again."""


@dataclass(frozen=True)
class Policy:
    """How patient a watcher is."""

    settle_seconds: float = 60.0
    attempts: int = 4
    pauses: tuple[float, ...] = (60.0, 600.0, 3600.0)
    """Seconds after the first failure, the second, and so on; the last one repeats."""
    starts: int = 100
    """Builds begun in one look."""

    def pause(self, failures: int) -> float:
        """The pause after so many failures.

        >>> [Policy(pauses=(1, 5)).pause(failures) for failures in (1, 2, 3)]
        [1, 5, 5]
        """
        return self.pauses[min(failures, len(self.pauses)) - 1] if self.pauses else 0.0


@dataclass(frozen=True)
class Upload:
    """An object or a folder that a listing shows, which is to become one pyramid."""

    uri: str
    path: str
    """Below its prefix."""
    target: str
    version: str
    """Changes with every change of the upload."""
    work: str = ""
    """Changes with the target and with every option that decides a stored byte."""
    size: int = 0
    objects: int = 1
    whole: bool = False
    """Known to be complete, without waiting for stillness."""
    lacks: str = ""
    """What must appear before it can be complete."""


@dataclass(frozen=True)
class Job:
    """One attempt at one version of one upload."""

    uri: str
    version: str
    work: str
    attempt: int

    def key(self) -> str:
        """The idempotency key: Prefect starts one run for it, however often it is asked.

        >>> Job("gs://in/a b@1.tif", "generation:7", "c0ffee", 2).key()
        'gs://in/a b@1.tif@generation:7@c0ffee@2'
        """
        return f"{self.uri}@{self.version}@{self.work}@{self.attempt}"

    @classmethod
    def parse(cls, key: str) -> Job | None:
        """The job of a key, or None for the key of something else."""
        parts = key.rsplit("@", 3)
        if len(parts) != 4 or not parts[3].isdecimal():
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]))


@dataclass(frozen=True)
class Run:
    """What Prefect knows of a job."""

    job: Job
    outcome: Outcome
    id: str = ""
    ended: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Record:
    """What is remembered of an upload from look to look."""

    version: str
    work: str
    since: float
    """When this version was first seen."""
    attempt: int = 0
    """The last attempt at this version and work."""
    forgiven: int = 0
    """Attempts that do not count any more, because the upload was released."""
    done: bool = False
    parked: bool = False
    replaces: bool = False
    """Whether an earlier version was begun, whose pyramid may lie at the target."""
    gone: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """What `dataclasses.asdict` gave, perhaps of another version of this software."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values, without what has not been touched."""
        plain = {each.name: each.default for each in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != plain[name]}


@dataclass(frozen=True)
class Decision:
    """What to do about an upload, and why."""

    upload: Upload
    action: Action
    reason: str
    job: Job | None = None
    """To start, where the action is start; the one that was last tried, where it is park."""
    overwrite: bool = False
    run: str = ""


@dataclass(frozen=True)
class Seen:
    """What a watcher knows of one prefix at one moment."""

    uploads: tuple[Upload, ...]
    now: float
    records: Mapping[str, Record] = field(default_factory=dict)
    """By URI, as the last look left them; nothing where that was lost."""
    runs: tuple[Run, ...] = ()
    parked: frozenset[str] = frozenset()
    """URIs that have a parked object."""
    release: frozenset[str] = frozenset()
    """URIs whose failures are to be forgiven."""
    partial: bool = False
    """Whether the listing was of some uploads only, so that others are not gone."""


@dataclass(frozen=True)
class Outlook:
    """What to do about each upload, in order of their URIs, and what to remember."""

    decisions: tuple[Decision, ...]
    records: Mapping[str, Record]


def decide_all(seen: Seen, policy: Policy) -> Outlook:
    """A decision for every upload, and the records for the next look."""
    records = _remember_gone(seen)
    runs = _by_uri(seen.runs)
    owners: dict[str, str] = {}
    decisions: list[Decision] = []
    started = 0
    targets = {upload.target for upload in seen.uploads}
    for upload in sorted(seen.uploads, key=lambda upload: upload.uri):
        if upload.uri in targets:
            decisions.append(Decision(upload, "skip", "it lies where a pyramid is to be"))
            continue
        owner = owners.setdefault(upload.target, upload.uri)
        if owner != upload.uri:
            reason = f"{owner} has the same target; give them names that differ"
            decisions.append(Decision(upload, "skip", reason))
            continue
        decision, record = decide(upload, seen, runs.get(upload.uri, ()), policy)
        if decision.action == "start" and started >= policy.starts:
            reason = f"{started} builds were started in this look; the next one goes on"
            decision = Decision(upload, "wait", reason)
            record = replace(record, attempt=_last_attempt(seen, upload, runs))
        started += decision.action == "start"
        decisions.append(decision)
        records[upload.uri] = record
    return Outlook(tuple(decisions), records)


def decide(
    upload: Upload, seen: Seen, runs: Sequence[Run], policy: Policy
) -> tuple[Decision, Record]:
    """What to do about one upload, and what to remember of it."""
    record = _record(upload, seen, runs)
    last = _last(upload, runs, record)
    if record.done or (last is not None and last.outcome == "done"):
        reason = "built" if record.done else f"built by attempt {record.attempt}"
        return _told(upload, "skip", reason, last), replace(record, done=True, parked=False)
    if upload.lacks:
        return Decision(upload, "wait", upload.lacks), record
    if last is not None and last.outcome == "running":
        return _told(upload, "wait", f"attempt {record.attempt} is building", last), record
    if upload.uri in seen.parked and not _released(upload, seen):
        reason = "parked; release it, or upload it again"
        return _told(upload, "skip", reason, last), replace(record, parked=True)
    for run in runs:
        if run.outcome == "running":
            reason = f"the build of an earlier version still runs: attempt {run.job.attempt}"
            return Decision(upload, "wait", reason, run=run.id), record
    if (moving := _moving(upload, record, seen.now, policy)) is not None:
        return Decision(upload, "wait", moving), record
    if last is None:
        # The run of an attempt that Prefect forgot is asked for again, under the same key.
        again = any(run.job.attempt == record.attempt for run in _own(upload, runs))
        return _start(upload, record, record.attempt + 1 if again else max(record.attempt, 1))
    return _after_failure(upload, record, last, seen, policy)


def _after_failure(
    upload: Upload, record: Record, last: Run, seen: Seen, policy: Policy
) -> tuple[Decision, Record]:
    failures = record.attempt - record.forgiven
    if failures <= 0:
        return _start(upload, record, record.attempt + 1)
    # the upload's own name stands beside this already
    said = last.reason.removeprefix(f"{upload.uri}: ")
    why = f": {said}" if said else ""
    if last.outcome == "cancelled":
        reason = f"attempt {record.attempt} was cancelled{why}"
        return _park(upload, record, last, reason)
    if failures >= policy.attempts:
        with_what = f", the last with{why}" if failures > 1 and why else why
        return _park(upload, record, last, f"{_attempts(failures)} failed{with_what}")
    # No clock of another machine makes the pause longer than it is.
    waited = seen.now - min(last.ended, seen.now)
    pause = policy.pause(failures)
    if waited < pause:
        reason = f"attempt {record.attempt} failed{why}; the next in {pause - waited:.0f} s"
        return _told(upload, "wait", reason, last), record
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
        replace(record, attempt=attempt, parked=False),
    )


def _park(upload: Upload, record: Record, last: Run, reason: str) -> tuple[Decision, Record]:
    decision = Decision(upload, "park", reason, last.job, run=last.id)
    return decision, replace(record, parked=True)


def _told(upload: Upload, action: Action, reason: str, run: Run | None) -> Decision:
    return Decision(upload, action, reason, run=run.id if run is not None else "")


def _moving(upload: Upload, record: Record, now: float, policy: Policy) -> str | None:
    """Why the upload is not still yet, or None."""
    if upload.whole or policy.settle_seconds <= 0:
        return None
    # The look that first sees a version dates it, so that a later one must see it again.
    left = policy.settle_seconds - (now - record.since)
    return f"new or changed; to be still for another {left:.0f} s" if left > 0 else None


def _record(upload: Upload, seen: Seen, runs: Sequence[Run]) -> Record:
    """What is known of this very version, from memory and from Prefect's runs."""
    before = seen.records.get(upload.uri)
    others = any(not _is_of(run.job, upload) for run in runs)
    if before is None or before.version != upload.version or before.gone is not None:
        begun = before is not None and (before.replaces or before.attempt > 0)
        record = Record(upload.version, upload.work, seen.now, replaces=begun or others)
    elif before.work != upload.work:
        # Still for as long as before, and to be built in another way.
        begun = before.replaces or before.attempt > 0 or others
        record = Record(upload.version, upload.work, before.since, replaces=begun)
    else:
        record = replace(before, replaces=before.replaces or others)
    # A clock that was ahead must not keep an upload waiting for it to come again.
    record = replace(record, since=min(record.since, seen.now))
    attempts = [run.job.attempt for run in _own(upload, runs)]
    record = replace(record, attempt=max([record.attempt, *attempts]))
    return replace(record, forgiven=record.attempt) if _released(upload, seen) else record


def _released(upload: Upload, seen: Seen) -> bool:
    """Whether somebody asked for it, or removed the object that kept it parked."""
    if upload.uri in seen.release:
        return True
    before = seen.records.get(upload.uri)
    same = before is not None and _is_same(before, upload)
    return same and before is not None and before.parked and upload.uri not in seen.parked


def _last(upload: Upload, runs: Sequence[Run], record: Record) -> Run | None:
    """The run of the last attempt; a run that did it, if there is any."""
    own = _own(upload, runs)
    # Where a file was put back to what it was, the target has another version by now.
    others = [run.ended for run in runs if run not in own and run.outcome == "done"]
    own = [run for run in own if run.outcome != "done" or run.ended >= max(others, default=0.0)]
    done = [run for run in own if run.outcome == "done"]
    latest = [run for run in own if run.job.attempt == record.attempt]
    running = [run for run in own if run.outcome == "running"]
    return next(iter(done or running or latest), None)


def _own(upload: Upload, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if _is_of(run.job, upload)]


def _last_attempt(seen: Seen, upload: Upload, runs: Mapping[str, Sequence[Run]]) -> int:
    return _record(upload, seen, runs.get(upload.uri, ())).attempt


def _is_of(job: Job, upload: Upload) -> bool:
    return (job.version, job.work) == (upload.version, upload.work)


def _is_same(record: Record, upload: Upload) -> bool:
    return (record.version, record.work) == (upload.version, upload.work)


def _by_uri(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.job.uri, []).append(run)
    return found


def _remember_gone(seen: Seen) -> dict[str, Record]:
    """The records of uploads that this listing does not show, but for very old ones."""
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
    """The uploads whose runs matter: all but those that are known to be built."""
    return [
        upload
        for upload in uploads
        if (record := records.get(upload.uri)) is None
        or not record.done
        or record.gone is not None
        or not _is_same(record, upload)
    ]


# ── which names are uploads ──────────────────────────────────────────────────────────
