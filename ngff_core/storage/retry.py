"""Trying again: each request some times, and all requests of one region within a budget.

The clients' own retries are switched off (`ngff_core.storage.gcs`, `ngff_core.storage.s3`), so
no request is tried again without this module, and pauses do not multiply.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tenacity

from ngff_core.config import config
from ngff_core.storage.transient import is_transient, kind_of, retry_after, was_expired

ATTEMPTS = 8
"""Of one request. Their pauses add up to 31 s on average, and to 62 s at most."""

EXPIRED_ATTEMPTS = 4
"""Of one whose credentials the service calls expired: they may just have been renewed. All
pauses together take 3.5 s at most, so that who has no permission hears of it in seconds."""

_MARK = "_ngff_given_up"


class Effort:
    """What a piece of work may still spend on trouble; its threads and requests share it."""

    def __init__(self, retries: int, seconds: float) -> None:
        self._retries = retries
        self._seconds = seconds
        self._turn = threading.Lock()
        self._struggling = 0
        self._since = 0.0
        self._lost = 0.0
        self.met: Counter[str] = Counter()
        """Retries by kind of trouble."""

    @property
    def retries(self) -> int:
        return sum(self.met.values())

    @property
    def seconds(self) -> float:
        """How long at least one of its requests was in trouble."""
        with self._turn:
            return self._lost + (time.monotonic() - self._since if self._struggling else 0.0)

    @property
    def is_spent(self) -> bool:
        return self.retries >= self._retries or self.seconds >= self._seconds

    @property
    def told(self) -> str:
        """What was met, for an error's message."""
        kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(self.met.items()))
        return f"{self.retries} retries in {self.seconds:.0f} s" + (f" ({kinds})" if kinds else "")

    def enter(self) -> None:
        """One more request is in trouble."""
        with self._turn:
            if not self._struggling:
                self._since = time.monotonic()
            self._struggling += 1

    def leave(self) -> None:
        """One of them is out of it, this way or the other."""
        with self._turn:
            self._struggling -= 1
            if not self._struggling:
                self._lost += time.monotonic() - self._since


_current: ContextVar[Effort | None] = ContextVar("ngff_effort", default=None)
_under_way: ContextVar[bool] = ContextVar("ngff_retrying", default=False)


@contextmanager
def one_budget() -> Iterator[Effort]:
    """Whatever is tried again inside, in whichever loop or thread it began, shares a budget."""
    effort = Effort(config.region_retries, config.region_seconds)
    token = _current.set(effort)
    try:
        with counting_retries(effort.met):
            yield effort
    finally:
        _current.reset(token)


def retrying[**P, T](work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """``work(...)``, tried again with growing, jittered pauses while its trouble may pass."""
    attempt = _Attempts()
    with attempt:
        return tenacity.Retrying(**attempt.policy)(work, *args, **kwargs)


async def retrying_request[T](work: Callable[[], Awaitable[T]]) -> T:
    """The same for one request of an asynchronous client.

    Where one request is part of another's retries, it is the outer one that tries again.
    """
    if _under_way.get():
        return await work()

    async def once() -> T:
        # tenacity awaits what it can see to be a coroutine function, and a lambda is none
        return await work()

    attempt = _Attempts()
    token = _under_way.set(True)
    try:
        with attempt:
            return await tenacity.AsyncRetrying(**attempt.policy)(once)
    finally:
        _under_way.reset(token)


def given_up(error: BaseException | None) -> bool:
    """Whether ``error`` was tried again, or would have been, as often as was worth it."""
    while error is not None:
        if getattr(error, _MARK, False):
            return True
        error = error.__cause__
    return False


class _Attempts:
    """The attempts at one piece of work, and their part in the budget."""

    def __init__(self) -> None:
        self._effort = _current.get() or Effort(config.region_retries, config.region_seconds)
        self._struggling = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._struggling:
            self._effort.leave()
        if error is not None and (is_transient(error) or was_expired(error)):
            setattr(error, _MARK, True)

    @property
    def policy(self) -> dict[str, Any]:
        return {
            "stop": self._is_last,
            "wait": tenacity.wait_combine(
                tenacity.wait_random_exponential(multiplier=0.5, max=30), _as_asked
            ),
            "before_sleep": self._take_note,
            "retry": tenacity.retry_if_exception(_is_worth_another),
            "reraise": True,
        }

    def _is_last(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        expired = error is not None and was_expired(error)
        most = EXPIRED_ATTEMPTS if expired else ATTEMPTS
        return state.attempt_number >= most or self._effort.is_spent

    def _take_note(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if not self._struggling:
            self._struggling = True
            self._effort.enter()
        if error is not None:
            count_retry(kind_of(error))


def _is_worth_another(error: BaseException) -> bool:
    return (is_transient(error) or was_expired(error)) and not given_up(error)


def _as_asked(state: tenacity.RetryCallState) -> float:
    """As long as the service asked for."""
    return asked_pause(state.outcome.exception() if state.outcome else None)


_met: Counter[str] = Counter()


_turn = threading.Lock()


_noting: ContextVar[tuple[Counter[str], ...]] = ContextVar("ngff_noting", default=())


_asked: ContextVar[float] = ContextVar("ngff_asked", default=0.0)


def ask_for_pause(seconds: float) -> None:
    """The request at hand was answered by a wish to be left alone for so long."""
    _asked.set(seconds)


def asked_pause(error: BaseException | None) -> float:
    """What the service asked for when ``error`` came of it, whichever client tells."""
    return max(_asked.get(), retry_after(error))


def count_retry(kind: str) -> None:
    """Count trouble that is about to be passed over."""
    with _turn:
        for counter in (_met, *_noting.get()):
            counter[kind] += 1


@contextmanager
def counting_retries(counter: Counter[str]) -> Iterator[None]:
    """Trouble that is passed over inside is counted in ``counter`` too.

    Also in the loops of clients: a coroutine keeps the context of who handed it over.
    """
    token = _noting.set((*_noting.get(), counter))
    try:
        yield
    finally:
        _noting.reset(token)


def met() -> Counter[str]:
    """Trouble that was passed over since the process began, by kind."""
    with _turn:
        return Counter(_met)
