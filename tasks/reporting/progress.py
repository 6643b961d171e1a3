"""Progress of a build in Prefect: lines in the run's log, and progress artifacts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from ngff_core.progress import (
    Advanced,
    Event,
    Finished,
    Listener,
    Message,
    Started,
    Waiting,
    silent,
)

LogLike = logging.Logger | logging.LoggerAdapter[logging.Logger]

logger = logging.getLogger(__name__)

_LOG_SECONDS = 10.0
_LOG_PERCENT = 10
_ARTIFACT_SECONDS = 1.0


@dataclass
class _Terminal:
    """A second listener of one run's events, such as the bars of a terminal."""

    listener: Listener = silent


_terminal: ContextVar[_Terminal | None] = ContextVar("terminal of a run", default=None)


@contextmanager
def listener_of_run(listener: Listener) -> Iterator[None]:
    """Send the events of runs started within this context to ``listener`` too."""
    terminal = _Terminal(listener)
    token = _terminal.set(terminal)
    try:
        yield
    finally:
        _terminal.reset(token)
        terminal.listener = silent


class RunLog:
    """Logs the first and the last region of a phase, and every 10 % or 10 s between.

    ``artifact`` is called with the percentage done, at most once a second and at the end.
    """

    def __init__(
        self,
        logger: LogLike,
        artifact: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._artifact = artifact
        self._clock = clock
        # Taken here, in the run's context: events come from the engine's threads, which have none.
        self._terminal = _terminal.get() or _Terminal()
        self._began = self._logged_at = self._shown_at = clock()
        self._logged_percent = 0
        self._before = 0
        self._nbytes = 0
        self._unit = "regions"

    def write_to(self, logger: LogLike) -> None:
        """Log to ``logger`` from now on; the counts continue."""
        self._logger = logger

    def __call__(self, event: Event) -> None:
        self._terminal.listener(event)
        match event:
            case Started():
                self._start(event)
            case Advanced():
                self._advance(event)
            case Finished():
                self._finish(event)
            case Waiting(text):
                # A warning stands out among the lines of progress.
                self._logger.warning(text)
            case Message(text):
                self._logger.info(text)

    def _start(self, event: Started) -> None:
        self._began = self._logged_at = self._shown_at = self._clock()
        self._before, self._nbytes = event.done, 0
        self._logged_percent = _percent(event.done, event.total)
        before = f", {event.done} already done" if event.done else ""
        self._unit = event.unit
        self._logger.info(f"{event.phase}: {counted(event.total, event.unit)}{before}")
        self._show(self._logged_percent)

    def _advance(self, event: Advanced) -> None:
        now = self._clock()
        self._nbytes += event.nbytes
        percent = _percent(event.done, event.total)
        due = now - self._logged_at >= _LOG_SECONDS
        first = event.done == self._before + 1
        if event.done < event.total and (
            first or due or percent >= self._logged_percent + _LOG_PERCENT
        ):
            self._logged_at, self._logged_percent = now, percent
            self._logger.info(self._line(event, percent, now - self._began))
        if now - self._shown_at >= _ARTIFACT_SECONDS:
            self._shown_at = now
            self._show(percent)

    def _line(self, event: Advanced, percent: int, seconds: float) -> str:
        rate = f"{_rate(self._nbytes, seconds)}, " if self._nbytes and seconds else ""
        fresh = event.done - self._before
        left = seconds / fresh * (event.total - event.done)
        return (
            f"{event.phase}: {event.done}/{event.total} {self._unit} ({percent} %), "
            f"{rate}{left:.0f} s left{_retried(event.retries)}"
        )

    def _finish(self, event: Finished) -> None:
        timed = self._nbytes and event.seconds
        rate = f", {_rate(self._nbytes, event.seconds)}" if timed else ""
        done = f"{counted(event.fresh, self._unit)} in {event.seconds:.1f} s{rate}"
        done += _retried(event.retries)
        self._logger.info(
            f"{event.phase}: {done if event.fresh else 'already done by an earlier run'}"
        )
        self._show(100.0)

    def _show(self, percent: float) -> None:
        if self._artifact is not None:
            self._artifact(percent)


def progress_artifact(key: str, description: str) -> Callable[[float], None]:
    """Create a progress artifact of the current run; call the result with the percentage.

    Any thread may call it: it uses the client of the run that is current now. Where the server
    cannot be reached, the artifact is missing or stale; the build continues.
    """
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    best_effort = BestEffort()
    artifacts: list[UUID] = []
    context = copy_context()

    def create() -> None:
        artifact = create_progress_artifact(0.0, key=key, description=description)
        artifacts.append(cast(UUID, artifact))

    def show(percent: float) -> None:
        if artifacts:
            # Outside a run's context Prefect opens a connection each time and leaves it open.
            best_effort.call(
                lambda: context.copy().run(update_progress_artifact, artifacts[0], percent)
            )

    best_effort.call(create)
    return show


class BestEffort:
    """Calls that may fail, such as requests to a server; failures cost little time.

    Prefect's client tries for a minute to reach a server that it reached before. After a
    failure, calls are left out for ten times as long as it took.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until = -math.inf

    def call(self, function: Callable[[], object]) -> None:
        """Call ``function``, unless a call failed a short time ago; a failure is only logged."""
        began = self._clock()
        if began < self._silent_until:
            return
        try:
            function()
        except Exception as error:  # noqa: BLE001 - no failed report may fail the build
            now = self._clock()
            self._silent_until = now + 10 * (now - began)
            logger.warning("progress could not be sent to the server: %s", error)


def counted(number: int, unit: str) -> str:
    """A number with its unit, in the singular for 1.

    >>> counted(1, "regions"), counted(2, "regions")
    ('1 region', '2 regions')
    """
    return f"{number} {unit.removesuffix('s') if number == 1 else unit}"


def _retried(retries: int) -> str:
    return f", {retries} {'retry' if retries == 1 else 'retries'}" if retries else ""


def _rate(nbytes: int, seconds: float) -> str:
    megabytes = nbytes / seconds / 1e6
    return f"{megabytes:.0f} MB/s" if megabytes >= 10 else f"{megabytes:.1f} MB/s"


def _percent(done: int, total: int) -> int:
    return 100 * done // total if total else 100
