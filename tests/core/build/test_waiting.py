"""Whoever waits for a level gets it, or hears why not; no one waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ngff_core.build.streaming import LevelFailedError
from ngff_core.build.waiting import Pipeline, StoppedError


class TroubleError(Exception):
    """What a driver raises."""


class Levels:
    """A driver's work: levels that become whole one after another."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        self.whole: set[int] = set()
        self.count, self.seconds = count, seconds
        self.drives = 0
        self.fails: list[BaseException | None] = []
        self.gate: threading.Event | None = None
        self.ends: list[str] = []
        self.pipeline = Pipeline(self.work, self.whole.__contains__)

    def work(self, check: Callable[[], None]) -> None:
        self.drives += 1
        try:
            for level in range(self.count):
                while self.gate is not None and not self.gate.wait(0.002):
                    check()
                check()
                time.sleep(self.seconds)
                if level in self.whole:
                    continue
                error = self.fails.pop(0) if self.fails else None
                if error is not None:
                    raise error
                self.whole.add(level)
                self.pipeline.tell()
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("done")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Each driver ends with its test."""
    yield
    deadline = time.monotonic() + 5
    while any(t.name == "ngff-driver" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def outcome(pipeline: Pipeline, level: int) -> Any:
    try:
        pipeline.wait_for(level)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return error
    return level


@pytest.mark.parametrize("slots", [1, 2, 5, 40])
def test_levels_come_with_any_number_of_slots(slots: int) -> None:
    """Forty that wait for five levels, in the worst order: one driver, and no deadlock."""
    levels = Levels(5, seconds=0.001)
    asked = [4, 3, 2, 1, 0] * 8
    with ThreadPoolExecutor(slots) as pool:
        futures = [pool.submit(levels.pipeline.wait_for, level) for level in asked]
        for future in futures:
            assert future.result(timeout=10) is None
    assert levels.drives == 1


def test_a_level_returns_when_it_is_whole_and_not_when_all_are() -> None:
    """Who waits for the first goes on while the last is made."""
    levels = Levels(3, seconds=0.05)
    levels.pipeline.wait_for(0)
    assert 2 not in levels.whole
    levels.pipeline.wait_for(2)
    assert levels.whole == {0, 1, 2}


def test_a_whole_level_returns_at_once_and_starts_nothing() -> None:
    """Not even a thread."""
    levels = Levels(2)
    levels.whole.add(1)
    levels.pipeline.wait_for(1)
    assert levels.drives == 0
    levels.pipeline.stop()


def test_all_that_wait_hear_of_a_failure_and_the_next_starts_another() -> None:
    """The very error, for each level that is not whole; those that are go on."""
    error = TroubleError()
    levels = Levels(4, seconds=0.001)
    levels.gate = threading.Event()
    levels.fails = [None, error]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(outcome, levels.pipeline, level) for level in range(4)]
        time.sleep(0.05)
        levels.gate.set()
        assert [f.result(timeout=10) for f in futures] == [0, error, error, error]
    assert levels.drives == 1
    levels.pipeline.wait_for(3)
    assert levels.drives == 2
    assert levels.whole == {0, 1, 2, 3}


def test_a_level_not_told_of_a_failure_is_told_first() -> None:
    """It is not tried again in silence, however late it comes; once it was told, it is."""
    error = TroubleError()
    levels = Levels(3)
    levels.fails = [error]
    assert outcome(levels.pipeline, 2) is error
    assert outcome(levels.pipeline, 0) is error
    assert levels.drives == 1
    assert outcome(levels.pipeline, 0) == 0
    assert levels.drives == 2
    assert outcome(levels.pipeline, 1) == 1
    assert outcome(levels.pipeline, 2) == 2
    assert levels.drives == 2


def test_what_failed_a_level_is_told_and_not_which_level_it_was() -> None:
    """The cause is what a caller can act upon."""
    levels = Levels(1)
    failed = LevelFailedError(0)
    failed.__cause__ = OSError("disk")
    levels.fails = [failed]
    assert outcome(levels.pipeline, 0) is failed.__cause__


def test_an_interrupted_waiter_stops_the_driver_and_all_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control-C in one task: nothing is begun after, and a later call goes on."""
    levels = Levels(3)
    levels.gate = threading.Event()
    inner = threading.Condition.wait_for
    me = threading.get_ident()

    def interrupted(self: Any, predicate: Any, timeout: Any = None) -> Any:
        if threading.get_ident() == me:
            raise KeyboardInterrupt
        return inner(self, predicate, timeout)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(outcome, levels.pipeline, 2)
        time.sleep(0.03)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Condition, "wait_for", interrupted)
            with pytest.raises(KeyboardInterrupt):
                levels.pipeline.wait_for(1)
        assert levels.ends == ["StoppedError"]
        assert isinstance(other.result(timeout=10), StoppedError)
    levels.gate.set()
    levels.pipeline.wait_for(1)
    levels.pipeline.wait_for(2)
    assert levels.drives == 2
    assert levels.ends == ["StoppedError", "done"]


def test_stopping_waits_for_the_driver_and_may_be_asked_twice() -> None:
    """When a build is closed while others wait."""
    levels = Levels(2)
    levels.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(outcome, levels.pipeline, 1)
        while not levels.drives:
            time.sleep(0.002)
        levels.pipeline.stop()
        assert levels.ends == ["StoppedError"]
        levels.pipeline.stop()
        assert isinstance(waiting.result(timeout=10), StoppedError)


def test_a_driver_that_leaves_a_level_undone_is_told() -> None:
    """Better than to wait for ever."""
    levels = Levels(2)
    with pytest.raises(AssertionError, match="level 7 is not whole"):
        levels.pipeline.wait_for(7)
