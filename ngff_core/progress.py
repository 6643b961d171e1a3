"""Events: how the core reports its progress to a listener.

An event is sent after a unit of work is done, never before. Counts never decrease, and the last
one equals the total.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A phase began; earlier runs did ``done`` of its ``total`` units of work."""

    phase: str
    done: int
    total: int
    unit: str = "regions"


@dataclass(frozen=True)
class Advanced:
    """One more unit of a phase is done and recorded; ``nbytes`` are its uncompressed bytes.

    ``retries`` counts the requests of the phase so far that failed with a transient error and
    were repeated.
    """

    phase: str
    done: int
    total: int
    nbytes: int
    retries: int = 0


@dataclass(frozen=True)
class Finished:
    """All units of a phase are done, ``fresh`` of them by this run."""

    phase: str
    total: int
    fresh: int
    seconds: float
    retries: int = 0


@dataclass(frozen=True)
class Message:
    """A sentence for the person who watches the build."""

    text: str


@dataclass(frozen=True)
class Waiting(Message):
    """A sentence that says which other process the work is waiting for."""


Event = Started | Advanced | Finished | Message
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener that ignores every event."""


class Relay:
    """A listener that forwards events to another one, which may be replaced during a phase."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, event: Event) -> None:
        self._listener(event)

    def tell(self, listener: Listener, progress: PhaseProgress | None) -> None:
        """Forward to another listener, and report to it how far ``progress`` is, if it began."""
        self._listener = listener
        if progress is not None:
            progress.repeat()


class PhaseProgress:
    """Counts the units of work of one phase and reports them to a listener. Thread-safe."""

    def __init__(
        self, listener: Listener, phase: str, total: int, done: int = 0, unit: str = "regions"
    ) -> None:
        self._listener = listener
        self._phase = phase
        self._total = total
        self._before = done
        self._done = done
        self._lock = threading.Lock()
        self._unit = unit
        self._nbytes = 0
        self._retries = 0
        self._seconds: float | None = None
        self._began = time.monotonic()
        listener(Started(phase, done, total, unit))

    def advance(self, nbytes: int = 0, retries: int = 0) -> None:
        """Report one more unit done; ``retries`` are those of all units so far."""
        with self._lock:
            self._done += 1
            self._nbytes += nbytes
            self._retries = retries
            self._listener(Advanced(self._phase, self._done, self._total, nbytes, retries))

    def finish(self) -> float:
        """Report the end of the phase; returns its duration in seconds."""
        with self._lock:
            self._seconds = time.monotonic() - self._began
            self._finished()
            return self._seconds

    def repeat(self) -> None:
        """Report again how far the phase is, for a listener that was added late."""
        with self._lock:
            self._listener(Started(self._phase, self._before, self._total, self._unit))
            if self._done > self._before:
                self._listener(
                    Advanced(self._phase, self._done, self._total, self._nbytes, self._retries)
                )
            if self._seconds is not None:
                self._finished()

    def _finished(self) -> None:
        fresh = self._done - self._before
        seconds = self._seconds or 0.0
        self._listener(Finished(self._phase, self._total, fresh, seconds, self._retries))
