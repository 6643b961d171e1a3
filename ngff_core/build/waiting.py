"""Waiting for the levels of a build, which one driver thread writes side by side.

The first thread that waits for a level starts the driver; others that wait share it. One
task for each level therefore works with any number of task slots: with a single slot the
levels are waited for one after another, and the later ones are already written then.
A driver that fails, or that is stopped because a waiting thread was interrupted, fails all
levels that are waited for. The next wait starts another driver, which does what remains.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from ngff_core.build.streaming import LevelFailedError


class StoppedError(Exception):
    """Raised in the driver's thread when its work is no longer wanted."""


class _Driving(threading.Thread):
    """One run of the driver: a future for each level waited for, and one for its end."""

    def __init__(self, work: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(name="ngff-driver", daemon=True)
        self._work = work
        self._stopping = threading.Event()
        self.levels: dict[int, Future[None]] = {}
        self.ended: Future[None] = Future()
        self.reported: set[int] = set()
        """Levels whose waiting threads have already raised how this run ended."""

    def run(self) -> None:
        try:
            self._work(self._check)
        except LevelFailedError as error:
            self.ended.set_exception(error.__cause__ or error)
        except BaseException as error:  # noqa: BLE001 - the waiting threads raise it
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def stop(self) -> None:
        """Start nothing more, and wait for what is under way."""
        self._stopping.set()
        self.join()

    def _check(self) -> None:
        if self._stopping.is_set():
            raise StoppedError


class LevelFutures:
    """A future for each level of a build; starts the driver where one is needed.

    ``work`` writes what remains of all levels. It is passed a function to call before it
    starts anything, which raises `StoppedError` to stop it. ``is_complete`` says whether
    nothing remains to be done of a level. Threads may share this object.
    """

    def __init__(
        self, work: Callable[[Callable[[], None]], None], is_complete: Callable[[int], bool]
    ) -> None:
        self._work = work
        self._is_complete = is_complete
        self._lock = threading.Lock()
        self._driving: _Driving | None = None

    def wait_for(self, level: int) -> None:
        """Return when a level is complete; raise what the driver raised if it failed."""
        if self._is_complete(level):
            return
        with self._lock:
            driving = self._driver_for(level)
            written = driving.levels.setdefault(level, Future())
        try:
            wait((written, driving.ended), return_when=FIRST_COMPLETED)
        except BaseException:
            # The interrupted caller knows: its next call is meant to start another driver.
            driving.reported.add(level)
            driving.stop()
            raise
        if self._is_complete(level):
            return
        driving.reported.add(level)
        driving.ended.result()
        raise AssertionError(f"level {level} is not complete, although its driver ended")

    def _driver_for(self, level: int) -> _Driving:
        """The driver that a level waits for, started if necessary.

        A driver that failed is waited for as well, by levels that have not reported its error
        yet: otherwise the work that failed would be tried again without anyone knowing.
        """
        driving = self._driving
        if driving is None or (driving.ended.done() and level in driving.reported):
            driving = self._driving = _Driving(self._work)
            driving.start()
        return driving

    def complete(self, level: int) -> None:
        """Wake the threads that wait for a level, which is complete now."""
        with self._lock:
            if self._driving is None:
                return
            written = self._driving.levels.setdefault(level, Future())
            if not written.done():
                written.set_result(None)

    def stop(self) -> None:
        """Stop the driver, if one runs, and wait for its end."""
        if self._driving is not None and not self._driving.ended.done():
            self._driving.stop()
