"""Everything that builds use of `distributed` beyond its documented interface, run once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ngff_core.build.distributed_compat import (
    FinishedFutures,
    is_connected,
    load_distributed,
    state_of,
    worker_limits,
    workers_killed,
)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A client of a cluster of one process with two threads and a limit of 1 GiB."""
    distributed = load_distributed()
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            memory_limit=2**30,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0", "allowed_failures": 0},
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        yield client


def wait_for(finished: FinishedFutures, count: int) -> list[Any]:
    """So many futures that finish within half a minute."""
    found: list[Any] = []
    until = time.monotonic() + 30
    while len(found) < count and time.monotonic() < until:
        found += finished.wait(0.5)
    return found


def fail() -> None:
    raise ValueError("no")


def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_tell_their_threads_and_memory(client: Any) -> None:
    """In bytes, for every worker."""
    assert worker_limits(client) == [(2, 2**30)]


def test_finished_futures_come_once_and_in_the_order_in_which_they_finish(client: Any) -> None:
    """Also one that is added later, and one that failed."""
    finished = FinishedFutures(client)
    event = load_distributed().Event("go", client=client)
    slow = client.submit(event.wait, 30, pure=False)
    good = client.submit(len, "ab", pure=False)
    bad = client.submit(fail, pure=False)
    for future in (slow, good):
        finished.add(future)
    assert wait_for(finished, 1) == [good]
    finished.add(bad)
    assert wait_for(finished, 1) == [bad]
    assert [state_of(future) for future in (slow, good, bad)] == ["pending", "finished", "error"]
    event.set()
    assert wait_for(finished, 1) == [slow]
    assert finished.wait(0.0) == []


def test_a_wait_without_news_ends_after_its_seconds(client: Any) -> None:
    """The waiting code can check other things in between."""
    finished = FinishedFutures(client)
    event = load_distributed().Event("never", client=client)
    future = client.submit(event.wait, 30, pure=False)
    finished.add(future)
    assert finished.wait(0.01) == []
    finished.clear()
    event.set()
    client.gather([future])
    assert finished.wait(0.0) == []


def test_a_cancelled_future_comes_too(client: Any) -> None:
    """It counts as cancelled, as does one whose scheduler is lost."""
    finished = FinishedFutures(client)
    event = load_distributed().Event("blocks", client=client)
    future = client.submit(event.wait, 30, pure=False)
    finished.add(future)
    threading.Timer(0.05, client.cancel, [[future]]).start()
    assert wait_for(finished, 1) == [future]
    assert state_of(future) == "cancelled"
    event.set()


def test_a_task_that_kills_its_workers_is_known(client: Any) -> None:
    """With the number of workers; other errors are none of these."""
    future = client.submit(kill_worker, pure=False)
    error = future.exception(timeout=60)
    assert workers_killed(error) == 1
    assert workers_killed(ValueError()) is None
    client.wait_for_workers(1, timeout=60)


def test_a_closed_client_is_not_connected(client: Any) -> None:
    """As is one whose scheduler is gone."""
    other = load_distributed().Client(client.scheduler.address, set_as_default=False)
    assert is_connected(other)
    other.close()
    assert not is_connected(other)
