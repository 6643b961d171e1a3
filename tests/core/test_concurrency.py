"""Many items of work, a bounded number in flight, and no result lost where one fails."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.concurrency import run_bounded


class Here(Executor):
    """Runs each item at once, in the caller's thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - an executor keeps any error
            future.set_exception(error)
        return future


class Gauge:
    """How many items are worked on at once, and the largest number so far."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.now -= 1


@given(st.integers(0, 40), st.integers(1, 5))
def test_every_item_is_worked_on_once(count: int, in_flight: int) -> None:
    """And its result is delivered once."""
    done: list[int] = []
    with ThreadPoolExecutor(4) as executor:
        run_bounded(range(count), lambda i: i * i, executor, in_flight, done.append)
    assert sorted(done) == [i * i for i in range(count)]


@pytest.mark.parametrize("in_flight", [1, 3, 4])
def test_no_more_items_are_in_flight_than_allowed(in_flight: int) -> None:
    """Though the executor has more threads; and as many as allowed, while there are items."""
    gauge = Gauge()
    together = threading.Barrier(in_flight)

    def work(item: int) -> int:
        with gauge:
            together.wait(timeout=60)
            return item

    done: list[int] = []
    with ThreadPoolExecutor(16) as executor:
        run_bounded(range(5 * in_flight), work, executor, in_flight, done.append)
    assert gauge.most == in_flight
    assert sorted(done) == list(range(5 * in_flight))


def test_items_are_requested_only_when_one_can_start() -> None:
    """Millions of regions never become a list."""
    asked, done = [], []

    def items() -> Any:
        for i in range(10):
            asked.append(i)
            assert len(asked) - len(done) <= 2
            yield i

    run_bounded(items(), lambda i: i, Here(), 2, done.append)
    assert len(done) == 10


def test_results_are_delivered_in_the_callers_thread() -> None:
    """The ledger therefore needs no lock."""
    threads = set()
    with ThreadPoolExecutor(4) as executor:
        run_bounded(
            range(20), lambda i: i, executor, 4, lambda _: threads.add(threading.get_ident())
        )
    assert threads == {threading.get_ident()}


def test_a_failure_stops_new_work_and_keeps_what_succeeded() -> None:
    """Items in flight are waited for and their results delivered; then the error is raised."""
    started, done = [], []
    failed, may_end = threading.Event(), threading.Event()

    def work(item: int) -> int:
        started.append(item)
        if item == 2:
            failed.set()
            raise OSError("the disk is full")
        if item > 2:
            raise AssertionError("new work was started after the failure")
        failed.wait(timeout=60)
        may_end.wait(timeout=60)
        return item

    with ThreadPoolExecutor(3) as executor:
        threading.Timer(0.2, may_end.set).start()
        with pytest.raises(OSError, match="the disk is full"):
            run_bounded(range(100), work, executor, 3, done.append)
    assert sorted(started) == [0, 1, 2]
    assert sorted(done) == [0, 1]


def test_the_first_error_is_the_one_that_is_raised() -> None:
    """A second item that fails meanwhile does not hide it."""

    def work(item: int) -> int:
        if item:
            time.sleep(0.1)
        raise ValueError(f"item {item}")

    with ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match="item 0"):
        run_bounded(range(2), work, executor, 2, lambda _: None)


def test_an_interruption_keeps_results_of_items_in_flight() -> None:
    """Ctrl-C ends the run, and the regions in flight still get their receipts."""
    done: list[int] = []
    both = threading.Barrier(2)
    first = threading.Event()

    def work(item: int) -> int:
        both.wait(timeout=60)
        if item == 1:
            first.wait(timeout=60)
        return item

    def take(item: int) -> None:
        done.append(item)
        if item == 0:
            first.set()
            raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as executor, pytest.raises(KeyboardInterrupt):
        run_bounded(range(50), work, executor, 2, take)
    assert sorted(done) == [0, 1]


def test_an_error_in_on_done_stops_the_run() -> None:
    """After a lost lease, noticed at a result, no further region is started."""
    started: list[int] = []

    def take(item: int) -> None:
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        run_bounded(range(50), started.append, Here(), 1, take)
    assert started == [0]


def test_without_items_the_run_ends_at_once() -> None:
    """As for a level with nothing left to do."""
    run_bounded([], lambda i: i, Here(), 4, lambda _: pytest.fail("nothing was done"))
