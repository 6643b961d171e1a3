"""Events: sent after a piece is done, counting up, the last one equal to the total."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.progress import Advanced, Event, Finished, Message, PhaseProgress, Started, silent


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
