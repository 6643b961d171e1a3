"""The driver: what it writes of a build, in which attempts, and what it leaves for the next."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity
import zarr

from ngff_core import BuildOptions
from ngff_core.build.driver import Driver
from ngff_core.build.pass_runner import PassRunner
from ngff_core.build.planning import PlannedBuild, plan_opened
from ngff_core.build.session import Session
from ngff_core.build.source_check import CheckedSource
from ngff_core.build.waiting import StoppedError
from ngff_core.config import config
from ngff_core.errors import LeaseLostError, SourceChangedError
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan import costs
from ngff_core.progress import Event, Finished, Started
from ngff_core.sources import Source, open_source
from ngff_core.storage import ObjectStore
from tests.support.folders import files
from tests.support.passes import computed
from tests.support.plans import plan_of
from tests.support.targets import Place

SHAPE = (40, 48)
PLAN = plan_of("yx", SHAPE, chunks=4, shards=8, scale_factors=[2, 4])
LEVELS = computed(PLAN)
REGIONS = [30, 9, 4]


class Run:
    """A run of a driver on a place, as `Build` puts it together."""

    def __init__(
        self,
        place: Place,
        *,
        stream: bool = True,
        in_flight: int = 1,
        source: Any = None,
        **options: Any,
    ) -> None:
        chosen = BuildOptions(
            chunks=4, shards=8, scale_factors=[2, 4], workers=in_flight, cache="never", **options
        )
        given = LEVELS[0] if source is None else source
        self.source: Source = open_source(given)
        self.planned: PlannedBuild = plan_opened(self.source, given, place.uri, chosen)
        if not stream:
            cost = replace(self.planned.projection, streamed=(), held_bytes=0)
            self.planned = replace(self.planned, projection=cost)
        self.place = place
        self.heard: list[Event] = []
        self.retries = Counter[str]()
        self.session = Session(place.wanted(self.planned.plan), self.heard.append)
        self.session.take(overwrite=False)
        self.executor = ThreadPoolExecutor(in_flight)
        self.reopened = 0
        self.driver = Driver(
            self.session,
            self.planned,
            CheckedSource(self.source, self._reopen),
            PassRunner(kernel_for(PLAN.method), self.executor, in_flight),
            self.heard.append,
            self.retries,
        )

    def _reopen(self) -> Source:
        self.reopened += 1
        return open_source(self.source_path)

    source_path: Any = None

    def close(self) -> None:
        self.driver.stop()
        self.executor.shutdown()
        self.session.release()
        self.source.close()

    def write_all(self) -> None:
        for level in self.planned.plan.levels:
            self.driver.wait_for(level.index)

    @property
    def written(self) -> list[str]:
        """The objects of samples that were put, in their order."""
        return [r.removeprefix("write ") for r in self.place.target.requests("write */c/*")]

    @property
    def finished(self) -> list[str]:
        """The phases whose end was reported, once for each report."""
        return sorted(event.phase for event in self.heard if isinstance(event, Finished))

    def done(self) -> list[int]:
        """Regions with a receipt, by level."""
        return [len(ledger.receipts) for ledger in self.session.stored.ledgers]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once; receipts are written down when a pass ends."""
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(config, "receipt_seconds", 1e9)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run_on() -> Iterator[Callable[..., Run]]:
    """Makes runs, and closes them."""
    runs: list[Run] = []

    def make(place: Place, **how: Any) -> Run:
        place.forget()
        runs.append(Run(place, **how))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ngff")]


def assert_right(place: Place) -> None:
    """Every level has the samples that it has when it is computed in one piece."""
    for level, samples in zip(PLAN.levels, LEVELS, strict=True):
        array = zarr.open_array(place.uri, path=level.path, mode="r")
        np.testing.assert_array_equal(np.asarray(array[:]), samples)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_every_region_is_written_once(
    place: Place, run_on: Callable[..., Run], stream: bool, in_flight: int
) -> None:
    """Streamed from level to level, or each level computed from its stored parent."""
    run = run_on(place, stream=stream, in_flight=in_flight)
    run.write_all()
    assert run.done() == REGIONS
    assert len(run.written) == len(set(run.written)) == sum(REGIONS)
    assert all(run.driver.is_complete(level) for level in range(3))
    assert_right(place)
    assert sorted(run.driver.progress.seconds) == [0, 1, 2]


def test_the_first_wait_writes_all_levels(place: Place, run_on: Callable[..., Run]) -> None:
    """Whichever level it is for; the other waits find theirs complete."""
    run = run_on(place)
    run.driver.wait_for(2)
    written = len(run.written)
    assert written == sum(REGIONS)
    run.write_all()
    assert len(run.written) == written


def test_a_complete_build_is_reported_and_not_touched(
    place: Place, run_on: Callable[..., Run]
) -> None:
    first = run_on(place)
    first.write_all()
    first.close()
    again = run_on(place)
    before = files(place.uri)
    again.write_all()
    again.write_all()
    assert place.target.requests("write *") == []
    assert files(place.uri) == before
    assert [event for event in again.heard if isinstance(event, Started)] == [
        Started(f"level-{k}", total, total) for k, total in enumerate(REGIONS)
    ]
    assert [(e.phase, e.fresh) for e in again.heard if isinstance(e, Finished)] == [
        (f"level-{k}", 0) for k in range(3)
    ]
    assert again.driver.progress.seconds == {}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("request_", "after"), [("write 0/c/2/3", 15), ("write 1/c/1/1", 0)])
def test_what_a_failed_run_wrote_is_not_written_again(
    place: Place, run_on: Callable[..., Run], stream: bool, request_: str, after: int
) -> None:
    """A region fails for good; the next run writes that one, and those not yet written."""
    first = run_on(place, stream=stream)
    place.target.fail(request_, PermissionError("full"))
    with pytest.raises(PermissionError, match="full"):
        first.driver.wait_for(2)
    first.close()
    failed = request_.removeprefix("write ")
    put = set(first.written) - {failed}
    assert len(put) >= after
    second = run_on(place, stream=stream)
    assert second.session.recorded == tuple(first.done())
    assert sum(second.session.recorded) == len(put)
    second.write_all()
    assert (
        set(second.written)
        == {
            f"{level.path}/{PLAN.object_key(at)}"
            for level in PLAN.levels
            for region in range(level.regions)
            for at in level.object_positions(level.region(region))
        }
        - put
    )
    assert len(second.written) == sum(REGIONS) - len(put)
    assert_right(place)


def test_a_failure_is_raised_by_each_level_before_it_is_tried_again(
    place: Place, run_on: Callable[..., Run]
) -> None:
    run = run_on(place)
    place.target.fail("write 0/c/0/0", PermissionError("full"))
    for level in range(3):
        with pytest.raises(PermissionError):
            run.driver.wait_for(level)
    assert len(run.written) == 1
    run.write_all()
    assert run.done() == REGIONS


def test_requests_that_are_tried_again_count_for_their_level(
    place: Place, run_on: Callable[..., Run]
) -> None:
    """Those of arrays' documents belong to no level."""
    run = run_on(place)
    slow = TimeoutError("slow")
    place.target.fail("write 1/c/0/0", slow, times=3)
    place.target.fail("write 2/c/0/1", slow)
    place.target.fail("write *zarr.json", slow, times=2)
    run.write_all()
    assert run.driver.progress.retries == {0: {}, 1: {"TimeoutError": 3}, 2: {"TimeoutError": 1}}
    assert run.retries == {"TimeoutError": 2}
    assert_right(place)


def test_a_level_whose_last_region_was_written_by_a_killed_run_is_only_finished(
    place: Place, run_on: Callable[..., Run]
) -> None:
    """It has all of its receipts, and they are not one document yet."""
    first = run_on(place)
    place.beside.fail("write ledger/2/complete.jsonl", PermissionError("killed"))
    with pytest.raises(PermissionError):
        first.write_all()
    first.close()
    assert first.done() == REGIONS
    second = run_on(place)
    assert second.session.recorded == tuple(REGIONS)
    assert not second.driver.is_complete(2)
    second.write_all()
    assert second.written == []
    assert second.driver.is_complete(2)
    assert list(second.driver.progress.seconds) == [2]
    assert second.finished == ["level-0", "level-1", "level-2"]


def test_levels_that_an_earlier_run_finished_are_not_finished_again(
    place: Place, run_on: Callable[..., Run], stored_source: Path
) -> None:
    """Though they take part in the pass of those that remain: each is reported once, and the
    source, of which nothing is read, is not checked."""
    first = run_on(place, source=stored_source)
    first.source_path = stored_source
    place.target.fail("write 2/c/1/1", PermissionError("full"))
    with pytest.raises(PermissionError):
        first.write_all()
    first.close()
    assert [first.driver.is_complete(level) for level in range(3)] == [True, True, False]
    second = run_on(place, source=stored_source)
    second.source_path = stored_source
    for level in (2, 0, 1):
        second.driver.wait_for(level)
    assert second.reopened == 0
    assert list(second.driver.progress.seconds) == [2]
    assert second.finished == ["level-0", "level-1", "level-2"]


def test_a_projection_that_was_too_low_costs_time_and_no_byte(
    place: Place, run_on: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Levels are then read back from what is stored."""
    monkeypatch.setattr(costs, "held_bytes", lambda *_: 400)
    run = run_on(place)
    assert run.planned.projection.streamed == (1, 2)
    run.write_all()
    assert run.done() == REGIONS
    assert len(run.written) == len(set(run.written))
    assert_right(place)


def test_nothing_is_written_after_the_lease_is_lost(
    place: Place, run_on: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the documents of the arrays."""
    run = run_on(place)

    def lost() -> None:
        raise LeaseLostError("lost")

    monkeypatch.setattr(run.session, "check", lost)
    with pytest.raises(LeaseLostError):
        run.driver.wait_for(0)
    assert place.target.requests("write *") == []
    assert run.driver.progress.seconds == {}


def test_a_lease_lost_in_mid_pass_writes_no_receipt(
    place: Place, run_on: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is the other builder's by then."""
    run = run_on(place)

    def check() -> None:
        if len(run.written) >= 5:
            raise LeaseLostError("lost")

    monkeypatch.setattr(run.session, "check", check)
    with pytest.raises(LeaseLostError):
        run.driver.wait_for(0)
    assert len(run.written) == 5
    assert place.beside.requests("create ledger/*") == []


# ---------------------------------------------------------------- halo files


def halo_requests(place: Place, kind: str) -> list[str]:
    """Requests for halo files: for all that is neither plan, lease, ledger nor summary."""
    known = ("plan.json", "lease/*", "ledger*", "cache*", "display/*", "")
    found = [request.split(" ", 1) for request in place.beside.asked]
    return [key for k, key in found if k == kind and not any(fnmatch(key, p) for p in known)]


def test_levels_that_are_read_back_keep_halo_files_for_as_long(
    place: Place, run_on: Callable[..., Run]
) -> None:
    """For each level that is computed from a stored one, gone soon after it is complete."""
    run = run_on(place, stream=False)
    assert not run.driver.wrote_halos
    run.write_all()
    assert run.driver.wrote_halos
    assert len([key for key in halo_requests(place, "write") if key.endswith("begun.json")]) == 2
    run.driver.stop()
    left = {key.partition("/")[0] for key in files(place.beside.root)}
    assert left == {"display", "ledger", "lease", "plan.json"}


def test_streamed_levels_keep_none(place: Place, run_on: Callable[..., Run]) -> None:
    run = run_on(place)
    run.write_all()
    assert not run.driver.wrote_halos
    assert halo_requests(place, "write") == []


def test_none_are_kept_for_levels_that_are_complete(
    place: Place, run_on: Callable[..., Run]
) -> None:
    first = run_on(place)
    first.write_all()
    first.close()
    place.beside.delete("ledger/0/complete.jsonl")
    (place.uri / "0/zarr.json").unlink()
    second = run_on(place, stream=False)
    assert second.session.recorded == (0, 9, 4)
    second.write_all()
    assert second.done() == REGIONS
    # Level 1 is complete: of level 0 nothing more is looked at from outside.
    assert not [key for key in halo_requests(place, "write") if not key.endswith("begun.json")]


# ---------------------------------------------------------------- the source


@pytest.fixture
def stored_source(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", LEVELS[0])
    return tmp_path / "in.npy"


def test_the_source_is_checked_when_it_has_been_read(
    place: Place, run_on: Callable[..., Run], stored_source: Path
) -> None:
    """Once, for level 0: no other level is read from it."""
    run = run_on(place, source=stored_source)
    run.source_path = stored_source
    run.write_all()
    assert run.reopened == 1
    assert_right(place)


def test_what_was_read_from_a_source_that_changed_is_not_recorded(
    place: Place, run_on: Callable[..., Run], stored_source: Path
) -> None:
    """Neither of level 0 nor of the levels that were computed from it."""
    run = run_on(place, source=stored_source)
    run.source_path = stored_source
    np.save(stored_source.with_name("new.npy"), LEVELS[0] + 1)
    stored_source.with_name("new.npy").replace(stored_source)
    with pytest.raises(SourceChangedError):
        run.write_all()
    assert run.done() == [0, 0, 0]
    assert [key for key in files(place.beside.root) if key.startswith("ledger/")] == []


# ---------------------------------------------------------------- stopping


def test_stopping_starts_nothing_more_and_keeps_what_is_done(
    place: Place, run_on: Callable[..., Run]
) -> None:
    run = run_on(place)
    stopping: list[threading.Thread] = []

    def stop(request: str) -> None:
        if request == "write 0/c/1/0" and not stopping:
            stopping.append(threading.Thread(target=run.driver.stop))
            stopping[0].start()
            while not run.driver._levels._driving._stopping.is_set():  # type: ignore[union-attr]
                pass

    place.target.before = stop
    with pytest.raises(StoppedError):
        run.driver.wait_for(0)
    stopping[0].join()
    done = run.done()
    assert 0 < sum(done) < sum(REGIONS)
    run.close()
    place.target.before = lambda request: None
    again = run_on(place)
    assert list(again.session.recorded) == done
    again.write_all()
    assert len(again.written) == sum(REGIONS) - sum(done)
    assert_right(place)


def test_a_store_is_all_that_a_driver_writes_to(place: Place) -> None:
    """Tests of this file count every request: the store of `Place` passes none by."""
    missing = {
        name
        for name in vars(ObjectStore)
        if not name.startswith("_") and callable(getattr(ObjectStore, name))
    } - set(vars(type(place.target)))
    assert missing <= {"zarr", "child", "sibling", "parent"}
