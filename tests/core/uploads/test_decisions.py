"""What a watcher decides about uploads: once for each version, and not before it is still."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.uploads.decisions import (
    FORGET_SECONDS,
    Decision,
    Job,
    Outcome,
    Outlook,
    Policy,
    Record,
    Revision,
    Run,
    Seen,
    Upload,
    decide_all,
    unsettled,
)
from ngff_core.uploads.patterns import Names, matches

POLICY = Policy(settle_seconds=60, attempts=3, pauses=(10, 100))
A = Upload("gs://in/a.tif", "a.tif", "gs://out/a.ome.zarr", "generation:1", "w")


def look(now: float = 0, *uploads: Upload, before: Outlook | None = None, **known: Any) -> Outlook:
    """One look; what the one before it remembered is known."""
    records = before.records if before is not None else {}
    return decide_all(Seen(uploads or (A,), now, records, **known), POLICY)


def only(outlook: Outlook) -> Decision:
    (decision,) = outlook.decisions
    return decision


def ran(attempt: int, outcome: Outcome, ended: float = 0, upload: Upload = A) -> Run:
    job = Job(upload.uri, upload.version, upload.work, attempt)
    return Run(job, outcome, f"run-{attempt}", ended, "it broke" if outcome == "failed" else "")


def test_new_upload_waits_until_it_was_still() -> None:
    """The first look starts nothing; the first one after the settle time does."""
    first = look(0)
    assert only(first).action == "wait"
    second = look(59, before=first)
    assert only(second).action == "wait"
    third = look(60, before=second)
    assert only(third).action == "start"
    assert only(third).job == Job(A.uri, "generation:1", "w", 1)
    assert not only(third).overwrite


def test_change_begins_the_wait_anew() -> None:
    """Bytes that still arrive put the start off."""
    first = look(0)
    second = look(59, replace(A, version="generation:2"), before=first)
    third = look(70, replace(A, version="generation:2"), before=second)
    assert only(third).action == "wait"


def test_upload_that_is_complete_starts_at_once() -> None:
    """An upload that storage guarantees to be complete needs no second look."""
    assert only(look(0, replace(A, complete=True))).action == "start"


def test_upload_that_lacks_its_marker_waits_however_still_it_is() -> None:
    lacking = replace(A, lacks="zarr.json is not there yet")
    outlook = look(0, lacking)
    later = look(1e6, lacking, before=outlook)
    assert only(later).action == "wait"
    assert "zarr.json" in only(later).reason


def test_running_build_is_waited_for() -> None:
    started = look(60, before=look(0))
    decision = only(look(120, before=started, runs=(ran(1, "running"),)))
    assert (decision.action, decision.run) == ("wait", "run-1")


def test_built_upload_is_left_alone() -> None:
    """Once its run has completed, even Prefect's forgetting it starts nothing."""
    started = look(60, before=look(0))
    done = look(120, before=started, runs=(ran(1, "done"),))
    assert only(done).action == "skip"
    assert done.records[A.uri].phase == "done"
    assert only(look(180, before=done)).action == "skip"
    assert unsettled([A], done.records) == []


def test_new_version_replaces_the_pyramid() -> None:
    """A changed upload is built once more, over what was built of the earlier one."""
    done = look(120, before=look(60, before=look(0)), runs=(ran(1, "done"),))
    changed = replace(A, version="generation:2")
    seen = look(180, changed, before=done, runs=(ran(1, "done"),))
    decision = only(look(240, changed, before=seen, runs=(ran(1, "done"),)))
    assert decision.action == "start"
    assert decision.overwrite
    assert decision.job == Job(A.uri, "generation:2", "w", 1)


def test_new_version_waits_for_the_build_of_the_earlier_one() -> None:
    """Two builds of one target would fight for it."""
    started = look(60, before=look(0))
    changed = replace(A, version="generation:2")
    seen = look(120, changed, before=started, runs=(ran(1, "running"),))
    decision = only(look(500, changed, before=seen, runs=(ran(1, "running"),)))
    assert decision.action == "wait"
    assert "earlier version" in decision.reason
    after = only(look(560, changed, before=seen, runs=(ran(1, "failed", 550),)))
    assert (after.action, after.overwrite) == ("start", True)


def test_upload_that_was_put_back_is_built_again() -> None:
    """Its own run is done, but what lies at the target was built of the version between."""
    between = replace(A, version="generation:2")
    runs = (ran(1, "done", 100), ran(1, "done", 200, between))
    before = Outlook(
        (), {A.uri: Record(Revision("generation:2", "w"), 150, attempt=1, phase="done")}
    )
    seen = look(300, before=before, runs=runs)
    started = look(360, before=seen, runs=runs)
    assert only(started).job == Job(A.uri, A.version, A.work, 2)
    assert only(started).overwrite
    assert only(look(400, before=started, runs=(*runs, ran(2, "running")))).action == "wait"
    done = look(500, before=started, runs=(*runs, ran(2, "done", 490)))
    assert only(done).reason == "built by attempt 2"


def test_clock_that_was_ahead_keeps_nothing_waiting() -> None:
    """Neither the settle time nor a pause is counted from a time in the future."""
    ahead = look(100_000)
    back = look(1000, before=ahead)
    assert only(back).action == "wait"
    assert only(look(1060, before=back)).action == "start"
    failed = (ran(1, "failed", ended=100_000),)
    decision = only(look(1060, before=back, runs=failed))
    assert decision.reason == "attempt 1 failed: it broke; the next in 10 s"


def test_earlier_attempt_that_was_retried_by_hand_counts() -> None:
    """An operator may retry any run in Prefect: while it runs nothing is started or parked."""
    outlook = look(60, before=look(0))
    first, second = ran(1, "failed"), ran(2, "failed")
    outlook = look(120, before=outlook, runs=(first, second))
    assert only(look(500, before=outlook, runs=(ran(1, "running"), second))).action == "wait"
    assert only(look(500, before=outlook, runs=(ran(1, "done"), second))).action == "skip"


def test_other_options_build_anew_without_waiting_for_stillness() -> None:
    done = look(120, before=look(60, before=look(0)), runs=(ran(1, "done"),))
    other = replace(A, work="other")
    decision = only(look(180, other, before=done, runs=(ran(1, "done"),)))
    assert (decision.action, decision.overwrite) == ("start", True)


def test_failures_are_tried_again_with_growing_pauses_then_parked() -> None:
    """10 s after the first failure, 100 s after the second, and no more after the third."""
    outlook = look(60, before=look(0))
    runs: tuple[Run, ...] = (ran(1, "failed", ended=100),)
    assert only(look(109, before=outlook, runs=runs)).action == "wait"
    outlook = look(110, before=outlook, runs=runs)
    assert only(outlook).job == Job(A.uri, A.version, A.work, 2)
    runs += (ran(2, "failed", ended=200),)
    assert only(look(299, before=outlook, runs=runs)).action == "wait"
    outlook = look(300, before=outlook, runs=runs)
    assert only(outlook).job == Job(A.uri, A.version, A.work, 3)
    runs += (ran(3, "failed", ended=400),)
    outlook = look(401, before=outlook, runs=runs)
    assert only(outlook).action == "park"
    assert only(outlook).reason == "3 attempts failed, the last with: it broke"


def parked() -> tuple[Outlook, tuple[Run, ...]]:
    runs = tuple(ran(attempt, "failed") for attempt in (1, 2, 3))
    outlook = look(500, before=look(0), runs=runs)
    assert only(outlook).action == "park"
    return outlook, runs


def test_parked_upload_stays_so() -> None:
    outlook, runs = parked()
    decision = only(look(1e6, before=outlook, runs=runs, parked=frozenset({A.uri})))
    assert (decision.action, decision.run) == ("skip", "run-3")


@pytest.mark.parametrize(
    "known",
    [{"parked": frozenset({A.uri}), "release": frozenset({A.uri})}, {"parked": frozenset()}],
    ids=["by name", "by removing the object"],
)
def test_released_upload_has_all_its_attempts_again(known: dict[str, Any]) -> None:
    """With numbers, and so keys, that were never used."""
    outlook, runs = parked()
    outlook = look(600, before=outlook, runs=runs, **known)
    for attempt in (4, 5, 6):
        assert only(outlook).job == Job(A.uri, A.version, A.work, attempt)
        runs += (ran(attempt, "failed", ended=600),)
        outlook = look(600 + 1000 * attempt, before=outlook, runs=runs)
    assert only(outlook).action == "park"


def test_parked_upload_that_changes_is_a_new_one() -> None:
    outlook, runs = parked()
    changed = replace(A, version="generation:2", complete=True)
    assert only(look(600, changed, before=outlook, runs=runs)).action == "start"


def test_cancelled_build_is_parked_at_once() -> None:
    """Somebody did not want it: to start it again would be to argue."""
    decision = only(look(60, before=look(0), runs=(ran(1, "cancelled"),)))
    assert decision.action == "park"
    assert "cancelled" in decision.reason


def test_two_uploads_with_one_target_are_told_apart() -> None:
    """The first by name is built; the decision about the other says why it is not."""
    twin = replace(A, uri="gs://in/a.npy", path="a.npy", complete=True)
    twin_first, other = look(0, replace(A, complete=True), twin).decisions
    assert (twin_first.upload.path, twin_first.action) == ("a.npy", "start")
    assert (other.action, "same target" in other.reason) == ("skip", True)


def test_what_lies_at_a_target_is_no_upload() -> None:
    made = Upload(A.target, "a.ome.zarr", "gs://out/a2.ome.zarr", "1", complete=True)
    decisions = {decision.upload.uri: decision.action for decision in look(0, A, made).decisions}
    assert decisions == {A.uri: "wait", A.target: "skip"}


def test_one_look_starts_no_more_than_allowed() -> None:
    """The others are not marked as tried, and the next look starts them."""
    many = [
        Upload(f"gs://in/{i}.tif", f"{i}.tif", f"gs://out/{i}", "1", complete=True)
        for i in range(5)
    ]
    policy = replace(POLICY, starts=2)
    first = decide_all(Seen(tuple(many), 0), policy)
    assert [decision.action for decision in first.decisions] == ["start"] * 2 + ["wait"] * 3
    assert [record.attempt for record in first.records.values()] == [1, 1, 0, 0, 0]
    runs = tuple(Run(d.job, "running") for d in first.decisions if d.job is not None)
    second = decide_all(Seen(tuple(many), 60, first.records, runs), policy)
    assert [d.upload.path for d in second.decisions if d.action == "start"] == ["2.tif", "3.tif"]


def test_gone_upload_is_remembered_for_a_while() -> None:
    """What was built of it is overwritten when it comes again."""
    done = look(120, before=look(60, before=look(0)), runs=(ran(1, "done"),))
    other = replace(A, uri="gs://in/b.tif", target="gs://out/b")
    gone = look(200, other, before=done)
    assert gone.records[A.uri].gone == 200
    again = look(300, replace(A, version="generation:9", complete=True), before=gone)
    assert only(again).overwrite
    assert A.uri not in look(200 + FORGET_SECONDS, other, before=gone).records
    assert look(200, other, before=done, partial=True).records[A.uri].gone is None


# ── whatever happens ─────────────────────────────────────────────────────────────────


@dataclass
class World:
    """An upload, a watcher and a Prefect, to which things happen."""

    upload: Upload = A
    real: float = 1000.0
    skew: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    generation: int = 1
    parked: set[str] = field(default_factory=set)

    @property
    def seen(self) -> Seen:
        return Seen(
            (self.upload,),
            self.real + self.skew,
            dict(self.records),
            tuple(self.runs.values()),
            frozenset(self.parked),
        )

    def look(self, forgetful: bool = False) -> Decision:
        """A look, perhaps one that is killed before it remembers."""
        seen = self.seen
        outlook = decide_all(seen, POLICY)
        decision = only(outlook)
        assert seen.records.get(A.uri, None) == self.records.get(A.uri, None)
        if decision.action == "start":
            assert decision.job is not None
            self._start(decision.job)
        if decision.action == "park":
            self.parked.add(A.uri)
        if not forgetful:
            # as JSON, the way it is stored
            told = json.loads(json.dumps(outlook.records[A.uri].to_dict()))
            self.records = {A.uri: Record.from_dict(told)}
            assert self.records[A.uri] == outlook.records[A.uri]
        return decision

    def _start(self, job: Job) -> None:
        self.asked.append(job.key())
        # what the idempotency key is for
        if job.key() not in self.runs:
            others = [run for run in self.runs.values() if run.outcome == "running"]
            assert not others, "two builds of one target at once"
            earlier = [
                r for r in self.runs.values() if r.job == replace(job, attempt=job.attempt - 1)
            ]
            assert job.attempt == 1 or earlier[0].outcome == "failed"
            self.runs[job.key()] = Run(job, "running")

    def end(self, outcome: Outcome) -> None:
        for key, run in self.runs.items():
            if run.outcome == "running":
                self.runs[key] = replace(run, outcome=outcome, ended=self.real)

    def change(self) -> None:
        self.generation += 1
        self.upload = replace(self.upload, version=f"generation:{self.generation}")
        self.parked.clear()

    def forget(self) -> None:
        self.records = {}


STEPS: dict[str, Callable[[World], Any]] = {
    "look": World.look,
    "killed look": lambda world: world.look(forgetful=True),
    "fails": lambda world: world.end("failed"),
    "done": lambda world: world.end("done"),
    "changes": World.change,
    "forgets": World.forget,
    "released": lambda world: world.parked.clear(),
    "clock ahead": lambda world: setattr(world, "skew", 300.0),
    "clock behind": lambda world: setattr(world, "skew", -300.0),
}


def happen(world: World, steps: Iterable[tuple[str, float]]) -> None:
    for step, seconds in steps:
        world.real += seconds
        STEPS[step](world)


steps = st.lists(
    st.tuples(st.sampled_from(sorted(STEPS)), st.floats(0, 200)), min_size=1, max_size=40
)


@given(steps)
def test_each_attempt_is_one_run_whatever_happens(steps: list[tuple[str, float]]) -> None:
    """One build of a version succeeds, each attempt follows a failure, never two at once.

    `World` asserts the latter two where a run begins.
    """
    world = World()
    happen(world, steps)
    done: dict[str, int] = {}
    for run in world.runs.values():
        done[run.job.version] = done.get(run.job.version, 0) + (run.outcome == "done")
    assert all(number <= 1 for number in done.values())


@given(steps, st.floats(1, 60))
def test_still_upload_is_started_within_settle_time_and_one_tick(
    steps: list[tuple[str, float]], tick: float
) -> None:
    """Whatever came before: of a new version that stays, a build begins in time."""
    world = World()
    happen(world, steps)
    world.end("failed")
    world.change()
    world.skew = 0.0
    world.look()
    seen_at = world.real
    while world.look().action != "start":
        assert world.real <= seen_at + POLICY.settle_seconds
        world.real += tick
    assert world.real <= seen_at + POLICY.settle_seconds + tick


@given(st.lists(st.floats(0, 59), max_size=30))
def test_growing_upload_is_never_started(pauses: list[float]) -> None:
    """As long as looks see it change within each settle time."""
    world = World()
    for pause in pauses:
        world.real += pause
        world.change()
        assert world.look().action == "wait"


@given(steps)
def test_lost_memory_starts_no_double(steps: list[tuple[str, float]]) -> None:
    """Of two watchers, one of which lost its memory, both ask for the same key, or one waits."""
    world = World()
    happen(world, steps)
    complete = replace(world.seen, uploads=(replace(world.upload, complete=True),))
    jobs = {
        only(decide_all(seen, POLICY)).job
        for seen in (complete, replace(complete, records={}))
        if only(decide_all(seen, POLICY)).action == "start"
    }
    assert len(jobs) <= 1


texts = st.text(min_size=1).filter(lambda text: "@" not in text)


@given(st.text(min_size=1), texts, texts, st.integers(0, 99))
def test_key_says_which_job_it_is_of(uri: str, version: str, work: str, attempt: int) -> None:
    """An @ in a name does not mislead."""
    job = Job(uri, version, work, attempt)
    assert Job.parse(job.key()) == job


@pytest.mark.parametrize("key", ["", "nightly", "a@b@c@d", "a@b@3"])
def test_key_of_something_else_is_no_job(key: str) -> None:
    assert Job.parse(key) is None


# ── names ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "pattern", "matched"),
    [
        ("a.tif", "*.tif", True),
        ("x/y/a.tif", "*.tif", True),
        ("x/a.tif", "x/*.tif", True),
        ("x/y/a.tif", "x/*.tif", False),
        ("x/y/a.tif", "x/**", True),
        ("x/y/a.tif", "**/y/*", True),
        ("y/a.tif", "**/y/*", True),
        ("a.TIF", "*.tif", False),
        ("x/a[1].tif", "x/a[[]1].tif", True),
    ],
)
def test_globs(path: str, pattern: str, matched: bool) -> None:
    assert matches(path, pattern) is matched


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        ("gs://out/", "a/b.zarr", "gs://out/a/b.ome.zarr"),
        ("/data/out", "b.npy", "/data/out/b.ome.zarr"),
        ("s3://out/{folder}/{file}.ome.zarr", "b.npy", "s3://out/b.npy.ome.zarr"),
        ("memory://out/{name}.zarr", "a/b.ome.tiff", "memory://out/b.zarr"),
    ],
)
def test_targets(target: str, path: str, expected: str) -> None:
    assert Names((), (), (), target).target_of(path) == expected


@pytest.mark.parametrize(
    ("record", "stored"),
    [
        (Record(Revision("1", "w"), 3.5), {"version": "1", "work": "w", "since": 3.5}),
        (
            Record(Revision("1", "w"), 3.5, attempt=2, phase="done", gone=7.0),
            {"version": "1", "work": "w", "since": 3.5, "attempt": 2, "gone": 7.0, "done": True},
        ),
        (
            Record(Revision("1", "w"), 3.5, attempt=2, forgiven=1, phase="parked", replaces=True),
            {"version": "1", "work": "w", "since": 3.5, "attempt": 2, "forgiven": 1}
            | {"replaces": True, "parked": True},
        ),
    ],
)
def test_record_is_stored_as_watchers_of_earlier_versions_read_it(
    record: Record, stored: dict[str, Any]
) -> None:
    """Watchers of two versions may share one state; unknown fields are ignored."""
    assert record.to_dict() == stored
    assert Record.from_dict(stored | {"of another version": 1}) == record


def test_upload_with_a_hostile_name_is_parked_and_never_built() -> None:
    """However long it is still, and also when somebody releases it."""
    hostile = replace(A, target="", refused="upload: the name '../a' is refused")
    first = look(0, hostile)
    assert (only(first).action, only(first).reason) == ("park", hostile.refused)
    later = look(1000, hostile, before=first, parked=frozenset({hostile.uri}))
    assert only(later).action == "skip"
    released = look(2000, hostile, before=later, release=frozenset({hostile.uri}))
    assert only(released).action == "park"


def test_two_hostile_names_are_two_decisions() -> None:
    """Neither counts as the owner of a target."""
    hostile = [replace(A, uri=uri, target="", refused="no") for uri in ("gs://in/a", "gs://in/b")]
    assert [each.action for each in look(0, *hostile).decisions] == ["park", "park"]
