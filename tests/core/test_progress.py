"""Events: sent after a piece is done, counting up, the last one equal to the total."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.lazy.progress import NgffProgressCallback
from ngff_core.progress import (
    Advanced,
    Event,
    Finished,
    Message,
    PhaseProgress,
    Relay,
    Started,
    silent,
)
from tests.support.doubles import Bar


@given(st.integers(0, 30), st.integers(0, 30))
def test_counts_go_up_by_one_from_what_was_done_to_the_total(before: int, fresh: int) -> None:
    """A resumed phase begins where the earlier run ended."""
    events: list[Event] = []
    total = before + fresh
    progress = PhaseProgress(events.append, "level-1", total, before)
    for i in range(fresh):
        progress.advance(nbytes=i)
    seconds = progress.finish()
    assert events[0] == Started("level-1", before, total, "regions")
    advances = [event for event in events if isinstance(event, Advanced)]
    assert [event.done for event in advances] == list(range(before + 1, total + 1))
    assert [event.nbytes for event in advances] == list(range(fresh))
    assert all(event.total == total for event in advances)
    assert events[-1] == Finished("level-1", total, fresh, seconds)
    assert len(events) == fresh + 2
    assert seconds >= 0


def test_threads_may_share_it_and_the_listener_sees_order() -> None:
    """Eight threads, and never a count that is not one more than the last."""
    events: list[Event] = []
    progress = PhaseProgress(events.append, "verify", 800, unit="levels")
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda _: progress.advance(), range(800)))
    progress.finish()
    counts = [event.done for event in events if isinstance(event, Advanced)]
    assert counts == list(range(1, 801))


def test_events_cannot_be_changed_by_a_listener() -> None:
    """The next listener sees what was sent."""
    for event, field in ((Started("a", 0, 1), "done"), (Message("hello"), "text")):
        with pytest.raises(FrozenInstanceError):
            setattr(event, field, None)


def test_nobody_needs_to_listen() -> None:
    """The silent listener takes any event."""
    progress = PhaseProgress(silent, "cache", 1)
    progress.advance()
    assert progress.finish() >= 0


# ------------------------------------------------------------------ a callback of dask's


def test_a_computation_is_counted_task_by_task() -> None:
    """Within the context, up to the number of tasks; neither before it nor after."""
    array = da.ones((40, 40), chunks=10) + 1
    bar = Bar()
    callback = NgffProgressCallback(bar)
    array.compute()
    with callback as entered:
        assert entered is callback
        array.compute()
    array.compute()
    (total,), (counts,) = bar.totals, bar.counts
    assert total >= 16
    assert counts == sorted(counts)
    assert counts[-1] == total
    assert bar.visible == [False]


def test_registered_is_until_it_is_unregistered() -> None:
    """As with any callback of dask's; once more than needed is no error."""
    callback = NgffProgressCallback(bar := Bar())
    callback.register()
    callback.register()
    try:
        da.ones(8, chunks=2).sum().compute()
        da.ones(8, chunks=2).sum().compute(scheduler="synchronous")
    finally:
        callback.unregister()
        callback.unregister()
    da.ones(8, chunks=2).sum().compute()
    assert [counts[-1] for counts in bar.counts] == bar.totals
    assert len(bar.totals) == 2


def test_the_piece_at_hand_counts_the_computation_that_makes_it() -> None:
    """The first one; what is computed beside it has a bar of its own, which goes."""
    callback = NgffProgressCallback(bar := Bar())
    with callback:
        callback.add_callback_task("a piece")
        da.ones(8, chunks=2).compute()
        da.ones(8, chunks=2).compute()
        callback.add_callback_task("a counted piece")
        callback.update_callback_task_completed(0, 7)
        da.ones(8, chunks=2).compute()
        callback.update_callback_task_completed(1, 7)
    assert bar.descriptions == ["a piece", "Computing", "a counted piece", "Computing"]
    assert bar.visible == [False, False, True, False]
    assert bar.counts[2] == [0, 1]
    assert [bar.counts[i][-1] for i in (0, 1, 3)] == [bar.totals[i] for i in (0, 1, 3)]


def test_a_computation_that_fails_raises_its_error_and_its_bar_goes() -> None:
    """And the next one is counted as if nothing had been."""

    def fail(block: object) -> object:
        raise ZeroDivisionError

    failing = da.ones(8, chunks=2).map_blocks(fail, meta=np.empty(0))
    with NgffProgressCallback(bar := Bar()) as callback:
        with pytest.raises(ZeroDivisionError):
            failing.compute()
        da.ones(8, chunks=2).compute()
    assert bar.visible == [False, False]
    assert bar.counts[1][-1] == bar.totals[1]
    assert not callback._computing


def test_computations_of_several_threads_are_not_mixed() -> None:
    """Each counts to its own total."""
    arrays = [da.ones(4 * n, chunks=2) + 1 for n in range(1, 9)]
    callback = NgffProgressCallback(bar := Bar())
    with callback, dask.config.set(scheduler="synchronous"), ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda array: array.compute(), arrays))
    assert all(counts == sorted(counts) for counts in bar.counts)
    assert [counts[-1] for counts in bar.counts] == bar.totals


def test_a_listener_that_comes_late_hears_how_far_it_is() -> None:
    """What earlier runs did, what this one has done since, and the end where it is over."""
    first: list[Event] = []
    late: list[Event] = []
    relay = Relay(first.append)
    progress = PhaseProgress(relay, "level-1", 5, 2)
    progress.advance(10)
    progress.advance(20)
    relay.tell(late.append, progress)
    assert late == [Started("level-1", 2, 5), Advanced("level-1", 4, 5, 30)]
    progress.advance(30)
    seconds = progress.finish()
    end = [Advanced("level-1", 5, 5, 30), Finished("level-1", 5, 3, seconds)]
    assert late[2:] == end
    assert len(first) == 3, "the one before hears no more"
    last: list[Event] = []
    relay.tell(last.append, progress)
    assert last == [Started("level-1", 2, 5), Advanced("level-1", 5, 5, 60), end[1]]
