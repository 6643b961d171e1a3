"""One look at a prefix, without any workflow system: what is started, parked and remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ngff_core.errors import NgffError
from ngff_core.uploads import inbox as inboxes
from ngff_core.uploads.decisions import Decision, Job, Outcome, Policy, Run, Upload
from ngff_core.uploads.inbox import Inbox
from ngff_core.uploads.look import LookResult, Scope, look
from ngff_core.uploads.patterns import Names

POLICY = Policy(settle_seconds=0, attempts=1)


class FakeBuilds:
    """Builds that never run; their outcomes are set by the test."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.fail: Exception | None = None
        self.asked: list[tuple[str, ...]] = []

    def find(self, uploads: Sequence[Upload]) -> tuple[Run, ...]:
        self.asked.append(tuple(upload.path for upload in uploads))
        uris = {upload.uri for upload in uploads}
        return tuple(run for run in self.runs.values() if run.job.uri in uris)

    def start(self, decision: Decision) -> str:
        if self.fail is not None:
            raise self.fail
        assert decision.job is not None
        return self.runs.setdefault(decision.job.key(), Run(decision.job, "running", "run-1")).id

    def end(self, outcome: Outcome, reason: str = "") -> None:
        self.runs = {
            key: replace(run, outcome=outcome, reason=reason) for key, run in self.runs.items()
        }

    @property
    def jobs(self) -> list[Job]:
        return [run.job for run in self.runs.values()]


@pytest.fixture
def builds() -> FakeBuilds:
    return FakeBuilds()


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """A folder with one upload."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tif").write_bytes(b"samples")
    names = Names(("*.tif",), (), (), str(tmp_path / "out"))
    return Inbox(str(tmp_path / "in"), names, lambda _target: "work")


def at(
    inbox: Inbox, builds: FakeBuilds, now: float = 1.0, scope: Scope | None = None
) -> LookResult:
    return look(inbox, POLICY, builds, scope or Scope(), now)


def actions(result: LookResult) -> list[str]:
    return [f"{each.decision.upload.path}: {each.decision.action}" for each in result.actions]


def test_new_upload_is_started_once(inbox: Inbox, builds: FakeBuilds) -> None:
    """The next looks wait for its run, and ask no more about it once it is built."""
    first = at(inbox, builds)
    assert actions(first) == ["a.tif: start"]
    assert (first.actions[0].run, first.errors) == ("run-1", [])
    assert actions(at(inbox, builds)) == ["a.tif: wait"]
    builds.end("done")
    assert actions(at(inbox, builds)) == ["a.tif: skip"]
    at(inbox, builds)
    assert builds.asked[-1] == ()
    assert len(builds.jobs) == 1


def test_failed_upload_is_parked_until_it_is_released(inbox: Inbox, builds: FakeBuilds) -> None:
    """The result says which object to remove; a glob releases it too, with the next attempt."""
    at(inbox, builds)
    builds.end("failed", "it is no TIFF")
    (parked,) = at(inbox, builds).actions
    assert parked.decision.action == "park"
    (document,) = Path(inbox.uri, ".ngff-flows/parked").iterdir()
    assert parked.note == f"remove {document} to release it"
    assert actions(at(inbox, builds)) == ["a.tif: skip"]
    released = at(inbox, builds, scope=Scope(release=(f"{inbox.uri}/*",)))
    assert actions(released) == ["a.tif: start"]
    assert [job.attempt for job in builds.jobs] == [1, 2]
    assert not document.exists()


def test_refused_start_is_tried_again(inbox: Inbox, builds: FakeBuilds) -> None:
    """Nothing is remembered as started; the error is in the result, and stops no other upload."""
    Path(inbox.uri, "b.tif").write_bytes(b"more")
    builds.fail = NgffError("no deployment")
    result = at(inbox, builds)
    assert actions(result) == ["a.tif: start", "b.tif: start"]
    assert [each.error for each in result.actions] == ["no deployment"] * 2
    assert result.errors == [f"{inbox.uri}/{name}.tif: no deployment" for name in "ab"]
    assert {record.attempt for record in inboxes.load_records(inbox).values()} == {0}
    builds.fail = None
    assert at(inbox, builds).errors == []
    assert [job.attempt for job in builds.jobs] == [1, 1]


def test_fault_of_the_program_is_not_hidden(inbox: Inbox, builds: FakeBuilds) -> None:
    """Only storage and refusals are collected as errors."""
    builds.fail = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        at(inbox, builds)


def test_prefix_that_cannot_be_read_is_an_error_of_the_result(builds: FakeBuilds) -> None:
    """So that the caller goes to the next prefix."""
    broken = Inbox("nosuchscheme://in", Names(("*",), (), (), "out"), lambda _target: "work")
    result = at(broken, builds)
    assert actions(result) == []
    (error,) = result.errors
    assert error.startswith("nosuchscheme://in: ")


def test_one_upload_alone_is_looked_at(inbox: Inbox, builds: FakeBuilds) -> None:
    """The others keep their records."""
    Path(inbox.uri, "b.tif").write_bytes(b"more")
    at(inbox, builds)
    before = inboxes.load_records(inbox)
    result = at(inbox, builds, 2.0, Scope(only=f"{inbox.uri}/b.tif"))
    assert actions(result) == ["b.tif: wait"]
    assert inboxes.load_records(inbox) == before
