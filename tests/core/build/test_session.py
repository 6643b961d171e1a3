"""One run's use of a target: begun, resumed or replaced, under a lease, and released."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ngff_core.build.session import Session
from ngff_core.build.streaming import LevelFailedError
from ngff_core.config import config
from ngff_core.errors import (
    LeaseLostError,
    SourceChangedError,
    SourceFormatError,
    TargetExistsError,
    TransientError,
)
from ngff_core.progress import Event, Message
from ngff_core.pyramid.publish import create_arrays, group_documents
from ngff_core.records.lease import current_holder
from ngff_core.records.ledger import Receipt, StoredObject
from ngff_core.records.stored_build import StoredBuild
from tests.support.folders import files
from tests.support.plans import plan_of
from tests.support.targets import Place

PLAN = plan_of("yx", (32, 32), chunks=8, shards=16, scale_factors=[2])


class Run:
    """A run on a target, with what it reported."""

    def __init__(self, place: Place, plan: Any = PLAN) -> None:
        self.place = place
        self.heard: list[Event] = []
        self.session = Session(place.wanted(plan), self.heard.append)

    def take(self, *, overwrite: bool = False) -> Session:
        self.session.take(overwrite=overwrite)
        return self.session

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.heard if isinstance(event, Message)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run(place: Place) -> Iterator[Run]:
    found = Run(place)
    yield found
    found.session.release()


GROUP = b'{"zarr_format": 3, "node_type": "group"}'


def begun(place: Place, *regions: int, published: bool = False) -> None:
    """A build of `PLAN` with receipts for some regions of level 0, as a killed run leaves it."""
    place.beside.write("plan.json", PLAN.to_json())
    create_arrays(place.target, PLAN)
    ledger = place.wanted(PLAN).ledgers[0].load()
    for region in regions:
        place.target.write(f"0/c/{region // 2}/{region % 2}", b"x")
        ledger.record(Receipt(region, 0, (stored(region),)))
    ledger.flush()
    if published:
        for key, document in group_documents(PLAN).items():
            place.target.write(key, document)
    place.forget()


def stored(region: int) -> StoredObject:
    """The object of a region of level 0."""
    return StoredObject(f"c/{region // 2}/{region % 2}", 1, 0)


# ---------------------------------------------------------------- taking


def test_a_free_target_is_begun(place: Place, run: Run) -> None:
    """Its plan is stored, under a lease, and nothing is read that cannot be there."""
    session = run.take()
    assert (session.begun_here, session.finished, session.recorded) == (True, False, (0, 0))
    assert place.plan == PLAN
    assert place.beside.asked == ["read plan.json", "create lease/000001.json", "create plan.json"]
    assert place.target.asked == ["is_empty "]
    holder = current_holder(place.beside)
    assert holder is not None
    assert holder.is_live
    assert run.heard == []


def test_a_begun_build_is_resumed_with_its_receipts(place: Place, run: Run) -> None:
    begun(place, 0, 3)
    session = run.take()
    assert (session.begun_here, session.finished, session.recorded) == (False, False, (2, 0))
    assert sorted(session.stored.ledgers[0].receipts) == [0, 3]
    assert run.heard == []


def test_a_finished_build_is_read_without_a_lease(place: Place) -> None:
    """Nobody has to wait for it, and nothing is written: it may be on a read-only disk."""
    place.built()
    run = Run(place, place.plan)
    place.forget()
    before = files(place.uri.parent)
    session = run.take()
    assert (session.begun_here, session.finished, session.recorded) == (False, True, (4, 1))
    assert files(place.uri.parent) == before
    assert place.beside.kinds == {"read": 3}
    session.check()
    session.release()
    assert files(place.uri.parent) == before


def test_overwriting_a_finished_build_of_the_same_plan_keeps_what_is_right(place: Place) -> None:
    """It is checked and repaired, under a lease, rather than built from nothing."""
    place.built()
    (place.uri / "0/c/1/1").unlink()
    run = Run(place, place.plan)
    session = run.take(overwrite=True)
    assert (session.begun_here, session.finished, session.recorded) == (False, False, (3, 1))
    assert session.stored.ledgers[0].remaining == [3]
    assert len(run.texts) == 1
    assert "1 region" in run.texts[0]
    session.release()


def test_something_else_is_replaced_only_on_demand(place: Place, run: Run) -> None:
    place.target.write("zarr.json", GROUP)
    place.target.write("other/zarr.json", GROUP)
    with pytest.raises(TargetExistsError):
        run.take()
    assert list(files(place.target.root)) == ["other/zarr.json", "zarr.json"]
    assert files(place.beside.root) == {}
    session = Run(place)
    session.take(overwrite=True)
    assert session.session.begun_here
    assert session.texts == [f"removing what is at {place.target.uri}"]
    assert files(place.target.root) == {}
    assert place.plan == PLAN
    session.session.release()


def test_the_stored_plan_is_the_one_that_is_built(place: Place) -> None:
    """It names the versions of packages with which the build was begun."""
    begun(place, 1)
    place.beside.write("plan.json", replace(PLAN, method_version="old").to_json())
    run = Run(place, replace(PLAN, method_version="new"))
    assert run.take().stored.plan.method_version == "old"
    run.session.release()


def arriving(place: Place, request: str, what: Callable[[], None]) -> None:
    """Have ``what`` happen just before the first request of this kind."""
    left = [what]

    def happen(asked: str) -> None:
        if asked.startswith(request) and left:
            left.pop()()

    place.beside.before = happen


def test_a_build_that_another_run_begins_in_between_is_resumed(place: Place, run: Run) -> None:
    """Between looking at the target and having the lease."""

    def other() -> None:
        begun(place, 2)
        place.beside.write("lease/000001.json", b'{"released": true}')

    arriving(place, "create lease/000001", other)
    session = run.take()
    assert (session.begun_here, session.recorded) == (False, (1, 0))
    assert current_holder(place.beside) is not None
    assert "lease/000002.json" in files(place.beside.root)


def test_a_build_that_another_run_finishes_in_between_is_finished(place: Place) -> None:
    """It waited for that run's lease, and there is nothing left to do."""
    place.built()
    plan = place.plan
    document = (place.uri / "zarr.json").read_bytes()
    (place.uri / "zarr.json").unlink()
    run = Run(place, plan)
    arriving(place, "create lease/", lambda: place.target.write("zarr.json", document))
    session = run.take()
    assert (session.finished, session.begun_here, session.recorded) == (True, False, (4, 1))
    session.release()


def test_something_else_that_comes_in_between_is_not_overwritten(place: Place, run: Run) -> None:
    """A free target had an old lease beside it; by now another build is there."""
    place.beside.write("lease/000001.json", b'{"released": true}')
    other = plan_of("yx", (32, 32), chunks=16, scale_factors=[2])
    arriving(place, "create lease/000002", lambda: place.beside.write("plan.json", other.to_json()))
    with pytest.raises(TargetExistsError, match="chunks"):
        run.take()
    assert place.plan == other


def test_a_plan_that_comes_with_the_very_lease_is_read(place: Place, run: Run) -> None:
    """Two runs with equal plans: the plan that is stored counts."""
    older = replace(PLAN, method_version="old")
    arriving(place, "create plan", lambda: place.beside.write("plan.json", older.to_json()))
    assert run.take().stored.plan.method_version == "old"


# ---------------------------------------------------------------- what is gone is built again


def test_a_level_that_was_removed_is_built_again(place: Place, run: Run) -> None:
    begun(place, 0, 1)
    (place.uri / "0/zarr.json").unlink()
    session = run.take()
    assert session.recorded == (0, 0)
    assert len(run.texts) == 1
    assert run.texts[0].startswith("0: ")
    assert session.stored.ledgers[0].remaining == [0, 1, 2, 3]


def test_regions_that_lost_objects_are_built_again(place: Place, run: Run) -> None:
    begun(place, 0, 1, 2)
    (place.uri / "0/c/0/1").unlink()
    (place.uri / "0/c/1/0").write_bytes(b"longer")
    session = run.take()
    assert session.recorded == (1, 0)
    assert len(run.texts) == 1
    assert run.texts[0].startswith("2 regions")
    assert sorted(session.stored.ledgers[0].receipts) == [0]


def test_without_receipts_nothing_is_looked_for(place: Place, run: Run) -> None:
    """Only whether the build is published, before the lease and with it."""
    begun(place)
    run.take()
    assert place.target.asked == ["read zarr.json"] * 2


# ---------------------------------------------------------------- releasing


def test_releasing_gives_the_target_free_once(place: Place, run: Run) -> None:
    session = run.take()
    session.release()
    holder = current_holder(place.beside)
    assert holder is not None
    assert holder.released
    place.forget()
    session.release()
    assert place.asked == []


def test_a_session_that_took_nothing_releases_nothing(place: Place, run: Run) -> None:
    run.session.check()
    run.session.release()
    assert place.asked == []


def test_the_work_must_stop_when_the_lease_is_lost(
    place: Place, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another builder took over while this process was asleep."""
    session = run.take()
    session.check()
    place.beside.write("lease/000002.json", b"{}")
    monkeypatch.setattr(config, "lease_seconds", 1e-9)
    with pytest.raises(LeaseLostError):
        session.check()


# ---------------------------------------------------------------- broken sources


def failed(cause: BaseException) -> LevelFailedError:
    error = LevelFailedError(0)
    error.__cause__ = cause
    return error


BROKEN = [SourceFormatError("broken"), failed(SourceFormatError("broken"))]
OTHERS = [
    TransientError("slow"),
    failed(TransientError("slow")),
    SourceChangedError("changed"),
    failed(SourceChangedError("changed")),
]


def fail(session: Session, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, session.discarding():
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", BROKEN)
def test_nothing_is_left_of_a_build_whose_source_is_broken(
    place: Place, run: Run, error: Exception
) -> None:
    """No later run could finish it: a repaired source is another one."""
    session = run.take()
    create_arrays(place.target, PLAN)
    fail(session, error)
    assert files(place.target.root) == {}
    assert list(files(place.beside.root)) == ["lease/000001.json"]
    session.release()
    assert files(place.beside.root) == {}


def test_the_lease_of_a_builder_that_came_after_stays(place: Place, run: Run) -> None:
    """It found the target free once the broken build was removed."""
    session = run.take()
    fail(session, BROKEN[0])
    place.beside.write("lease/000002.json", b"{}")
    session.release()
    assert "lease/000002.json" in files(place.beside.root)


def test_where_nothing_can_be_listed_old_leases_stay(tmp_path: Path) -> None:
    """They say nothing, and cost nothing."""
    place = Place(tmp_path, listed=False)
    run = Run(place)
    session = run.take()
    fail(session, BROKEN[0])
    session.release()
    assert list(files(place.beside.root)) == ["lease/000001.json"]


@pytest.mark.parametrize("error", BROKEN)
def test_what_earlier_runs_built_stays_when_the_source_breaks(
    place: Place, run: Run, error: Exception
) -> None:
    """They could read it, so the fault may lie with the disk."""
    begun(place, 0)
    session = run.take()
    fail(session, error)
    session.release()
    assert "0/c/0/0" in files(place.target.root)
    assert place.plan == PLAN


@pytest.mark.parametrize("error", OTHERS)
def test_after_any_other_error_what_is_done_stays(place: Place, run: Run, error: Exception) -> None:
    session = run.take()
    create_arrays(place.target, PLAN)
    fail(session, error)
    session.release()
    assert "0/zarr.json" in files(place.target.root)
    assert place.plan == PLAN


# ---------------------------------------------------------------- tidying


def complete(place: Place) -> None:
    """Both levels finished, the segments of level 1 left by a kill."""
    build = StoredBuild.begin(place.target, place.beside, PLAN)
    for ledger in build.ledgers:
        for region in range(ledger.total):
            ledger.record(Receipt(region, 0, (stored(region),)))
        ledger.finish()
    place.beside.write("ledger/1/segments/000000.jsonl", json.dumps({}).encode())
    place.forget()


@pytest.mark.parametrize("listed", [True, False])
def test_segments_of_finished_levels_are_removed(tmp_path: Path, listed: bool) -> None:
    """What a listing shows, or all where there is none."""
    place = Place(tmp_path, listed=listed)
    place.beside.write("plan.json", PLAN.to_json())
    create_arrays(place.target, PLAN)
    for region in range(4):
        place.target.write(f"0/c/{region // 2}/{region % 2}", b"x")
    place.target.write("1/c/0/0", b"x")
    complete(place)
    place.beside.write("ledger/1/segments.json", b'{"segments": ["000000.jsonl"]}')
    run = Run(place)
    session = run.take()
    assert session.recorded == (4, 1)
    place.forget()
    session.tidy()
    left = [key for key in files(place.beside.root) if key.startswith("ledger/")]
    assert [key for key in left if "/segments/" in key] == []
    assert {"ledger/0/complete.jsonl", "ledger/1/complete.jsonl"} <= set(left)
    if listed:
        assert place.beside.asked == ["objects ledger", "delete_tree ledger/1/segments"]
    session.release()


def test_a_build_that_this_run_began_has_nothing_to_tidy(place: Place, run: Run) -> None:
    """Not one request."""
    session = run.take()
    place.forget()
    session.tidy()
    assert place.asked == []
