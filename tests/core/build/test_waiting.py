"""Waiting for a level returns when it is written, or raises why not; no wait is for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ngff_core.build.streaming import LevelFailedError
from ngff_core.build.waiting import LevelFutures, StoppedError


class TroubleError(Exception):
    """What a driver raises."""


class Levels:
    """A driver's work: levels that become complete one after another."""

    def __init__(self, count: int, seconds: float = 0.0) -> None:
        self.complete_levels: set[int] = set()
        self.count, self.seconds = count, seconds
        self.drives = 0
        self.fails: list[BaseException | None] = []
        self.gate: threading.Event | None = None
        self.ends: list[str] = []
        self.waiting = LevelFutures(self.work, self.complete_levels.__contains__)

    def work(self, check: Callable[[], None]) -> None:
        self.drives += 1
        try:
            for level in range(self.count):
                while self.gate is not None and not self.gate.wait(0.002):
                    check()
                check()
                time.sleep(self.seconds)
                if level in self.complete_levels:
                    continue
                error = self.fails.pop(0) if self.fails else None
                if error is not None:
                    raise error
                self.complete_levels.add(level)
                self.waiting.complete(level)
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


def outcome(waiting: LevelFutures, level: int) -> Any:
    try:
        waiting.wait_for(level)
    except Exception as error:  # noqa: BLE001 - any error is compared
        return error
    return level


@pytest.mark.parametrize("slots", [1, 2, 5, 40])
def test_levels_are_written_with_any_number_of_slots(slots: int) -> None:
    """Forty waits for five levels, in the worst order: one driver, and no deadlock."""
    levels = Levels(5, seconds=0.001)
    asked = [4, 3, 2, 1, 0] * 8
    with ThreadPoolExecutor(slots) as pool:
        futures = [pool.submit(levels.waiting.wait_for, level) for level in asked]
        for future in futures:
            assert future.result(timeout=10) is None
    assert levels.drives == 1


def test_a_wait_returns_when_its_level_is_complete_and_not_when_all_are() -> None:
    """A thread that waits for the first level continues while the last one is written."""
    levels = Levels(3, seconds=0.05)
    levels.waiting.wait_for(0)
    assert 2 not in levels.complete_levels
    levels.waiting.wait_for(2)
    assert levels.complete_levels == {0, 1, 2}


def test_waiting_for_a_complete_level_returns_at_once_and_starts_nothing() -> None:
    """Not even a thread."""
    levels = Levels(2)
    levels.complete_levels.add(1)
    levels.waiting.wait_for(1)
    assert levels.drives == 0
    levels.waiting.stop()


def test_all_waits_raise_a_failure_and_the_next_wait_starts_another_driver() -> None:
    """The same error object, for each level that is not complete; the others return."""
    error = TroubleError()
    levels = Levels(4, seconds=0.001)
    levels.gate = threading.Event()
    levels.fails = [None, error]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(outcome, levels.waiting, level) for level in range(4)]
        time.sleep(0.05)
        levels.gate.set()
        assert [f.result(timeout=10) for f in futures] == [0, error, error, error]
    assert levels.drives == 1
    levels.waiting.wait_for(3)
    assert levels.drives == 2
    assert levels.complete_levels == {0, 1, 2, 3}


def test_each_level_reports_a_failure_before_it_is_tried_again() -> None:
    """However late it is waited for; once its error was raised, the next wait tries again."""
    error = TroubleError()
    levels = Levels(3)
    levels.fails = [error]
    assert outcome(levels.waiting, 2) is error
    assert outcome(levels.waiting, 0) is error
    assert levels.drives == 1
    assert outcome(levels.waiting, 0) == 0
    assert levels.drives == 2
    assert outcome(levels.waiting, 1) == 1
    assert outcome(levels.waiting, 2) == 2
    assert levels.drives == 2


def test_the_cause_of_a_failed_level_is_raised_and_not_its_number() -> None:
    """The cause is what a caller can act upon."""
    levels = Levels(1)
    failed = LevelFailedError(0)
    failed.__cause__ = OSError("disk")
    levels.fails = [failed]
    assert outcome(levels.waiting, 0) is failed.__cause__


def test_an_interrupted_wait_stops_the_driver_and_all_other_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control-C in one task: nothing is started after it, and a later call continues."""
    levels = Levels(3)
    levels.gate = threading.Event()
    inner = threading.Condition.wait
    me = threading.get_ident()

    def interrupted(self: Any, timeout: Any = None) -> Any:
        if threading.get_ident() == me:
            raise KeyboardInterrupt
        return inner(self, timeout)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(outcome, levels.waiting, 2)
        time.sleep(0.03)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Condition, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                levels.waiting.wait_for(1)
        assert levels.ends == ["StoppedError"]
        assert isinstance(other.result(timeout=10), StoppedError)
    levels.gate.set()
    levels.waiting.wait_for(1)
    levels.waiting.wait_for(2)
    assert levels.drives == 2
    assert levels.ends == ["StoppedError", "done"]


def test_stopping_waits_for_the_driver_and_may_be_called_twice() -> None:
    """When a build is closed while others wait."""
    levels = Levels(2)
    levels.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(outcome, levels.waiting, 1)
        while not levels.drives:
            time.sleep(0.002)
        levels.waiting.stop()
        assert levels.ends == ["StoppedError"]
        levels.waiting.stop()
        assert isinstance(waiting.result(timeout=10), StoppedError)


def test_a_driver_that_leaves_a_level_undone_is_an_error() -> None:
    """Better than waiting for ever."""
    levels = Levels(2)
    with pytest.raises(AssertionError, match="level 7 is not complete"):
        levels.waiting.wait_for(7)
