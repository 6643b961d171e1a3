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
    """Another piece of a phase is done and recorded; ``nbytes`` are its raw bytes."""

    phase: str
    done: int
    total: int
    nbytes: int


@dataclass(frozen=True)
class Finished:
    """All pieces of a phase are done, ``fresh`` of them by this run."""

    phase: str
    total: int
    fresh: int
    seconds: float


@dataclass(frozen=True)
class Message:
    """A sentence for whoever watches."""

    text: str


Event = Started | Advanced | Finished | Message
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener that does nothing."""


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
        self._began = time.monotonic()
        listener(Started(phase, done, total, unit))

    def advance(self, nbytes: int = 0) -> None:
        """One more piece is done."""
        with self._lock:
            self._done += 1
            self._listener(Advanced(self._phase, self._done, self._total, nbytes))

    def finish(self) -> float:
        """The phase is over; returns the seconds it took."""
        seconds = time.monotonic() - self._began
        self._listener(Finished(self._phase, self._total, self._done - self._before, seconds))
        return seconds
