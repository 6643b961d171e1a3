"""Progress and retries of each level, in all attempts of one run."""

from __future__ import annotations

from typing import Any

import pytest

from ngff_core.build.level_progress import LevelProgress, PhaseCount
from ngff_core.progress import Advanced, Event, Finished, PhaseProgress, Started
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from tests.support.plans import plan_of
from tests.support.targets import Place

PLAN = plan_of("yx", (32, 32), chunks=8, shards=16, scale_factors=[2])


class Levels:
    """The progress of `PLAN`'s levels, and what was heard of it."""

    def __init__(self, folder: Any) -> None:
        self.heard: list[Event] = []
        place = Place(folder)
        self.build = StoredBuild.begin(place.target, place.beside, PLAN)
        self.progress = LevelProgress(PLAN.levels, self.build.ledgers, self.heard.append)

    def record(self, level: int, *regions: int) -> None:
        for region in regions:
            self.build.ledgers[level].record(Receipt(region, 0, ()))

    def complete(self, level: int) -> None:
        self.record(level, *self.build.ledgers[level].remaining)
        self.build.ledgers[level].finish()


@pytest.fixture
def levels(tmp_path: Any) -> Levels:
    return Levels(tmp_path)


def test_a_region_is_reported_with_all_retries_so_far() -> None:
    """Of any kind."""
    heard: list[Event] = []
    count = PhaseCount(PhaseProgress(heard.append, "cache", 2))
    count.retries["503"] += 2
    count.advance(10)
    count.retries["429"] += 1
    count.advance(20)
    assert heard[1:] == [Advanced("cache", 1, 2, 10, 2), Advanced("cache", 2, 2, 20, 3)]


def test_counts_are_apart_unless_they_are_given_one_counter() -> None:
    one, other = (PhaseCount(PhaseProgress(lambda event: None, "a", 1)) for _ in range(2))
    one.retries["503"] += 1
    assert other.retries == {}


def test_a_level_starts_where_an_earlier_run_stopped(levels: Levels) -> None:
    levels.record(0, 1, 3)
    levels.progress.start(0)
    assert levels.heard == [Started("level-0", 2, 4)]


def test_a_level_starts_again_with_each_attempt(levels: Levels) -> None:
    """From what is recorded by then; its retries are those of all attempts."""
    first = levels.progress.start(0)
    first.retries["503"] += 1
    levels.record(0, 0)
    first.advance(1)
    second = levels.progress.start(0)
    assert levels.heard[-1] == Started("level-0", 1, 4)
    second.advance(1)
    assert levels.heard[-1] == Advanced("level-0", 2, 4, 1, 1)
    assert levels.progress.retries == {0: {"503": 1}, 1: {}}


def test_a_level_that_was_completed_by_this_run_does_not_start_again(levels: Levels) -> None:
    """A later attempt at the other levels asks for it too."""
    first = levels.progress.start(0)
    levels.complete(0)
    levels.progress.finish(0)
    heard = len(levels.heard)
    assert levels.progress.start(0) is first
    assert len(levels.heard) == heard


def test_a_level_that_was_complete_before_is_reported_once(levels: Levels) -> None:
    levels.complete(0)
    for _ in range(2):
        levels.progress.report_complete(0)
    started, finished = levels.heard
    assert started == Started("level-0", 4, 4)
    assert isinstance(finished, Finished)
    assert (finished.total, finished.fresh) == (4, 0)
    assert levels.progress.seconds == {}


def test_a_level_that_is_not_complete_is_not_reported_as_such(levels: Levels) -> None:
    levels.record(0, 0, 1, 2, 3)
    levels.progress.report_complete(0)
    levels.progress.report_complete(1)
    assert levels.heard == []


def test_a_level_that_this_run_completed_is_not_reported_again(levels: Levels) -> None:
    levels.progress.start(0)
    levels.complete(0)
    levels.progress.finish(0)
    heard = len(levels.heard)
    levels.progress.report_complete(0)
    assert len(levels.heard) == heard


def test_seconds_are_of_the_levels_that_this_run_finished(levels: Levels) -> None:
    levels.progress.start(1)
    levels.complete(1)
    levels.progress.finish(1)
    assert list(levels.progress.seconds) == [1]
    finished = levels.heard[-1]
    assert isinstance(finished, Finished)
    assert finished.seconds == levels.progress.seconds[1]


def test_another_listener_hears_of_one_level_alone(levels: Levels) -> None:
    """Whether that has begun or not, and what went before."""
    late: list[Event] = []
    levels.progress.start(0).advance(5)
    levels.progress.listen(0, late.append)
    assert late == [Started("level-0", 0, 4), Advanced("level-0", 1, 4, 5)]
    levels.progress.start(1)
    assert len(late) == 2
    other: list[Event] = []
    levels.progress.listen(1, other.append)
    assert other == [Started("level-1", 0, 1)]


def test_a_listener_may_come_before_its_level(levels: Levels) -> None:
    early: list[Event] = []
    levels.progress.listen(1, early.append)
    assert early == []
    levels.progress.start(1)
    assert early == [Started("level-1", 0, 1)]
    assert levels.heard == []
