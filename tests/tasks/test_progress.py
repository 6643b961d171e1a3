"""A run's log and its progress artifact, made from the core's events."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.progress import Advanced, Event, Finished, Message, Started, Waiting
from tasks.reporting.progress import BestEffort, RunLog, counted, listener_of_run


class Lines(list[str]):
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def info(self, line: str) -> None:
        self.append(line)

    def warning(self, line: str) -> None:
        self.append(line)
        self.warnings.append(line)


class Watched:
    """A RunLog with a clock that moves only when the test moves it."""

    def __init__(self, began: float = 1000.0) -> None:
        self.now = began
        self.lines = Lines()
        self.shown: list[tuple[float, float]] = []
        self.log = RunLog(
            self.lines, lambda percent: self.shown.append((self.now, percent)), lambda: self.now
        )

    def run(self, events: Iterator[Event], seconds: float) -> None:
        """Send events, ``seconds`` apart."""
        for event in events:
            self.log(event)
            self.now += seconds


@pytest.fixture
def watched() -> Watched:
    return Watched()


def phase(total: int, before: int = 0, nbytes: int = 0, seconds: float = 1.0) -> Iterator[Event]:
    """All the events of one phase."""
    yield Started("level-0", before, total)
    for done in range(before + 1, total + 1):
        yield Advanced("level-0", done, total, nbytes)
    yield Finished("level-0", total, total - before, seconds)


def test_log_has_the_first_the_last_and_every_tenth(watched: Watched) -> None:
    """A fast phase of 1000 regions is 12 lines: the total, the first, each 10 %, the end."""
    watched.run(phase(1000), seconds=0.001)
    assert watched.lines[0] == "level-0: 1000 regions"
    assert [line.partition(", ")[0] for line in watched.lines[1:-1]] == [
        "level-0: 1/1000 regions (0 %)",
        *(f"level-0: {n}00/1000 regions ({n}0 %)" for n in range(1, 10)),
    ]
    assert watched.lines[-1] == "level-0: 1000 regions in 1.0 s"


def test_log_that_moves_to_another_logger_continues_counting(watched: Watched) -> None:
    """The task of a level takes over in the middle; its rate is that of the entire level."""
    events = list(phase(10, nbytes=1_000_000))
    watched.run(iter(events[:10]), seconds=1.0)
    own = Lines()
    watched.log.write_to(own)
    watched.run(iter(events[10:]), seconds=1.0)
    assert own == ["level-0: 10 regions in 1.0 s, 10 MB/s"]


def test_log_of_a_slow_phase_has_a_line_every_ten_seconds(watched: Watched) -> None:
    """Where 10 % take an hour, a line every 10 s still says that it is alive."""
    events = phase(1000)
    watched.run((next(events) for _ in range(51)), seconds=1.0)
    done = [int(line.split("/")[0].rpartition(" ")[2]) for line in watched.lines[1:]]
    assert done == [1, 11, 21, 31, 41]


def test_lines_show_rate_and_time_left(watched: Watched) -> None:
    """The rate is in uncompressed bytes; the time left comes from the regions of this run."""
    watched.log(Started("level-0", 50, 100))
    watched.now += 2
    watched.log(Advanced("level-0", 51, 100, 8_000_000))
    assert watched.lines[-1] == "level-0: 51/100 regions (51 %), 4.0 MB/s, 98 s left"


def test_lines_show_retries_where_there_were_any(watched: Watched) -> None:
    """The line that shows a slow rate shows storage's retries too."""
    watched.log(Started("level-0", 0, 4))
    watched.now += 2
    watched.log(Advanced("level-0", 1, 4, 8_000_000, retries=1))
    assert watched.lines[-1].endswith("4.0 MB/s, 6 s left, 1 retry")
    watched.log(Finished("level-0", 4, 4, 8.0, retries=12))
    assert watched.lines[-1] == "level-0: 4 regions in 8.0 s, 1.0 MB/s, 12 retries"


def test_resumed_phase_shows_what_was_already_done(watched: Watched) -> None:
    """A resumed level counts from what is there, and its end counts only what is new."""
    watched.run(phase(20, before=15, nbytes=1_000_000), seconds=0.1)
    assert watched.lines[0] == "level-0: 20 regions, 15 already done"
    assert watched.lines[1].startswith("level-0: 16/20 regions (80 %), ")
    assert watched.lines[-1] == "level-0: 5 regions in 1.0 s, 5.0 MB/s"
    assert watched.shown[0][1] == 75


def test_finished_phase_says_so(watched: Watched) -> None:
    """Of a level that an earlier run finished the log says just that."""
    watched.run(phase(4, before=4, seconds=0.0), seconds=0.0)
    assert watched.lines == [
        "level-0: 4 regions, 4 already done",
        "level-0: already done by an earlier run",
    ]


def test_one_region_is_in_the_singular(watched: Watched) -> None:
    """A level of one region has one region, and two lines."""
    watched.run(phase(1), seconds=0.0)
    assert watched.lines == ["level-0: 1 region", "level-0: 1 region in 1.0 s"]
    assert counted(0, "levels") == "0 levels"


def test_phase_too_fast_for_the_clock_has_no_rate(watched: Watched) -> None:
    """No rate is shown where no time passed."""
    watched.run(phase(3, nbytes=10, seconds=0.0), seconds=0.0)
    assert watched.lines[-1] == "level-0: 3 regions in 0.0 s"


def test_messages_are_lines(watched: Watched) -> None:
    """A message is in the log as it is."""
    watched.log(Message("removing what is at out.ome.zarr"))
    assert watched.lines == ["removing what is at out.ome.zarr"]
    assert watched.lines.warnings == []


def test_waiting_is_a_warning(watched: Watched) -> None:
    """That a run stands still, and for whom, is seen at once among the lines of its log."""
    watched.log(Waiting("waiting: process 7 on ward is building this target"))
    assert watched.lines.warnings == ["waiting: process 7 on ward is building this target"]
    assert watched.shown == []


def test_unit_of_the_phase_is_shown(watched: Watched) -> None:
    """Verification counts levels, not regions."""
    watched.log(Started("verify", 0, 3, "levels"))
    watched.log(Advanced("verify", 1, 3, 0))
    watched.log(Finished("verify", 3, 3, 0.5))
    assert watched.lines == [
        "verify: 3 levels",
        "verify: 1/3 levels (33 %), 0 s left",
        "verify: 3 levels in 0.5 s",
    ]


def test_log_without_an_artifact(watched: Watched) -> None:
    """The artifact is a choice; the log is the same without."""
    lines = Lines()
    plain = RunLog(lines, clock=lambda: 0.0)
    for event in phase(30):
        plain(event)
        watched.log(event)
    assert [line.partition(",")[0] for line in lines] == [
        line.partition(",")[0] for line in watched.lines
    ]


def test_artifact_is_updated_once_a_second(watched: Watched) -> None:
    """100 regions in 10 s update the artifact about 10 times, and not 100."""
    watched.run(phase(100), seconds=0.1)
    assert 10 <= len(watched.shown) <= 12
    assert watched.shown[-1][1] == 100


@given(
    total=st.integers(1, 300),
    before=st.integers(0, 300),
    seconds=st.floats(0.0, 30.0),
)
def test_artifact_and_log_hold_their_promises(total: int, before: int, seconds: float) -> None:
    """Whatever the pace: never twice a second, never backwards, and 100 at the end; a line
    for the first region, no region twice, and no silence of more than 10 s and a region."""
    watched = Watched(began=0.0)
    before = min(before, total)
    watched.run(phase(total, before), seconds)
    times, percents = zip(*watched.shown, strict=True)
    assert list(percents) == sorted(percents)
    assert percents[-1] == 100
    between = times[:-1]  # the end is shown whenever it comes
    assert all(b - a >= 1.0 for a, b in pairwise(between))
    done = [int(line.split("/")[0].rpartition(" ")[2]) for line in watched.lines[1:-1]]
    assert len(set(done)) == len(done)
    if total - before > 1:
        assert done[0] == before + 1
        steps = zip(done, [*done[1:], total], strict=True)
        assert all((b - a - 1) * seconds < 10.0 for a, b in steps)
        assert all(100 * (b - a - 1) / total < 11 for a, b in pairwise(done))


def test_a_terminal_gets_the_same_events() -> None:
    """Bars on a terminal get the events of the run's log, and only while the run lasts."""
    heard: list[Event] = []
    events = [
        Started("level-0", 0, 1),
        Advanced("level-0", 1, 1, 8),
        Finished("level-0", 1, 1, 0.1),
    ]
    with listener_of_run(heard.append):
        log = RunLog(logging.getLogger("test"))
        for event in events:
            log(event)
    log(events[0])
    assert heard == events


def test_server_that_is_away_costs_a_build_little() -> None:
    """A minute of trying is followed by ten of silence, and then by the next try."""
    now = 0.0
    tried: list[float] = []

    def away() -> None:
        nonlocal now
        tried.append(now)
        now += 60.0
        raise ConnectionError("no server")

    best_effort = BestEffort(lambda: now)
    while now < 2000.0:
        best_effort.call(away)
        now += 1.0
    assert tried == [0.0, 660.0, 1320.0, 1980.0]
    now = 3000.0
    best_effort.call(lambda: tried.append(now))
    best_effort.call(lambda: tried.append(now))
    assert tried[-2:] == [3000.0, 3000.0]
