"""What the core tells of its work: small events, sent to whoever listens.

An event is sent after a piece is done, never before; counts never go backwards, and
the last one equals the total.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A phase began; ``done`` of its ``total`` pieces were done by an earlier run."""

    phase: str
    done: int
    total: int
    unit: str = "regions"


@dataclass(frozen=True)
class Advanced:
    """Another piece of a phase is done and recorded; ``nbytes`` are its raw bytes.

    ``retries`` are those of the phase so far: failed requests that were tried again.
    """

    phase: str
    done: int
    total: int
    nbytes: int
    retries: int = 0


@dataclass(frozen=True)
class Finished:
    """All pieces of a phase are done, ``fresh`` of them by this run."""

    phase: str
    total: int
    fresh: int
    seconds: float
    retries: int = 0


@dataclass(frozen=True)
class Message:
    """A sentence for whoever watches."""

    text: str


@dataclass(frozen=True)
class Waiting(Message):
    """A sentence that says for whom the work is standing still."""


Event = Started | Advanced | Finished | Message
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener that does nothing."""


class Relay:
    """A listener that hands on to another one, which may take its turn in mid-phase."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, event: Event) -> None:
        self._listener(event)

    def tell(self, listener: Listener, progress: PhaseProgress | None) -> None:
        """Tell another listener from now on, and how far the phase is, where it began."""
        self._listener = listener
        if progress is not None:
            progress.repeat()


class PhaseProgress:
    """Counts the pieces of one phase and tells a listener; threads may share it."""

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
        """One more piece is done; ``retries`` are those of all pieces up to now."""
        with self._lock:
            self._done += 1
            self._nbytes += nbytes
            self._retries = retries
            self._listener(Advanced(self._phase, self._done, self._total, nbytes, retries))

    def finish(self) -> float:
        """The phase is over; returns the seconds it took."""
        with self._lock:
            self._seconds = time.monotonic() - self._began
            self._finished()
            return self._seconds

    def repeat(self) -> None:
        """Tell once more how far the phase is, for a listener that came late."""
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
