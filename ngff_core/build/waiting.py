"""The levels of a build, written side by side by one driver in a thread of its own.

Whoever wants a level written waits for it here, and the first to come starts the driver.
So one task a level works with any number of task slots: with one, the levels are asked for
in turn, and the later ones are then done already. A driver that fails, or is stopped
because one of those who wait was interrupted, fails all of them; the next to come starts
another, which goes on with what remains.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ngff_core.build.streaming import LevelFailedError


class StoppedError(Exception):
    """Raised in the driver's thread where its work is no longer wanted."""


class _Drive(threading.Thread):
    """One run of the driver, and how it ended."""

    def __init__(self, work: Callable[[Callable[[], None]], None], news: threading.Condition):
        super().__init__(name="ngff-driver", daemon=True)
        self._work = work
        self._news = news
        self._stopping = threading.Event()
        self.error: BaseException | None = None
        self.told: set[int] = set()
        self.ended = False

    def run(self) -> None:
        try:
            self._work(self._check)
        except LevelFailedError as error:
            self.error = error.__cause__
        except BaseException as error:  # noqa: BLE001 - those who wait raise it
            self.error = error
        finally:
            with self._news:
                self.ended = True
                self._news.notify_all()

    def stop(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stopping.set()
        self.join()

    def _check(self) -> None:
        if self._stopping.is_set():
            raise StoppedError


class Pipeline:
    """Starts the driver where it is needed; threads may share it.

    ``work`` writes what remains of all levels, and calls what it is given before it
    begins anything.
    """

    def __init__(
        self, work: Callable[[Callable[[], None]], None], is_whole: Callable[[int], bool]
    ) -> None:
        self._work = work
        self._is_whole = is_whole
        self._news = threading.Condition()
        self._drive: _Drive | None = None

    def wait_for(self, level: int) -> None:
        """Return when a level is whole; raise what the driver raised where it failed."""
        with self._news:
            drive = self._drive_for(level)
        if drive is None:
            return
        try:
            with self._news:
                self._news.wait_for(lambda: self._is_whole(level) or drive.ended)
        except BaseException:
            drive.told.add(level)  # it knows: that it comes again means to go on
            drive.stop()
            raise
        if self._is_whole(level):
            return
        drive.told.add(level)
        if drive.error is not None:
            raise drive.error
        raise AssertionError(f"level {level} is not whole, although its driver came to an end")

    def _drive_for(self, level: int) -> _Drive | None:
        """The driver that a level is to wait for, started where need be.

        One that failed is waited for too, by a level that was not told yet: otherwise its
        trouble would be tried again in silence.
        """
        if self._is_whole(level):
            return None
        if self._drive is None or (self._drive.ended and level in self._drive.told):
            self._drive = _Drive(self._work, self._news)
            self._drive.start()
        return self._drive

    def tell(self) -> None:
        """A level has become whole."""
        with self._news:
            self._news.notify_all()

    def stop(self) -> None:
        """End the driver, where one is at work."""
        if self._drive is not None and not self._drive.ended:
            self._drive.stop()
