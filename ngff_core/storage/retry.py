"""Retries: a number of attempts for each request, one budget for all requests of a region.

The clients' own retries are switched off (`ngff_core.storage.gcs`, `ngff_core.storage.s3`).
All retries of requests happen here, so attempts and pauses do not multiply.
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
from ngff_core.storage.transient import credentials_expired, is_transient, kind_of, retry_after

ATTEMPTS = 8
"""For one request. The pauses between them add up to 31 s on average, and to 62 s at most."""

EXPIRED_ATTEMPTS = 4
"""For one request whose credentials the service calls expired: they may have been renewed just
now. The pauses add up to 3.5 s at most, so a missing permission is reported in seconds."""

LONGEST_PAUSE = 30.0
"""Seconds. Upper bound of the random pauses, which double with each attempt."""

_GIVEN_UP = "_ngff_given_up"
"""Attribute of an error whose attempts are used up: outer retries do not try again."""


class RetryBudget:
    """Retries and seconds that a piece of work may still spend on transient errors.

    Its threads and requests share it. The seconds count while at least one of its requests
    is failing; work that succeeds costs none.
    """

    def __init__(self, retries: int, seconds: float) -> None:
        self._retries = retries
        self._seconds = seconds
        self._lock = threading.Lock()
        self._failing = 0
        self._failing_since = 0.0
        self._seconds_before = 0.0
        self.retries_by_kind: Counter[str] = Counter()
        """Retries so far by the kind of their error (`ngff_core.storage.transient.kind_of`)."""

    @property
    def retries(self) -> int:
        """How many retries there were so far."""
        return sum(self.retries_by_kind.values())

    @property
    def seconds(self) -> float:
        """How long at least one request was failing."""
        with self._lock:
            now = time.monotonic() - self._failing_since if self._failing else 0.0
            return self._seconds_before + now

    @property
    def is_spent(self) -> bool:
        """Whether no further retry is allowed."""
        return self.retries >= self._retries or self.seconds >= self._seconds

    @property
    def summary(self) -> str:
        """What was spent, for an error's message: ``5 retries in 12 s (429: 1, 503: 4)``."""
        kinds = ", ".join(f"{kind}: {n}" for kind, n in sorted(self.retries_by_kind.items()))
        return f"{self.retries} retries in {self.seconds:.0f} s" + (f" ({kinds})" if kinds else "")

    def start_failing(self) -> None:
        """One more request is failing."""
        with self._lock:
            if not self._failing:
                self._failing_since = time.monotonic()
            self._failing += 1

    def stop_failing(self) -> None:
        """One failing request has ended: it succeeded, or was given up."""
        with self._lock:
            self._failing -= 1
            if not self._failing:
                self._seconds_before += time.monotonic() - self._failing_since


_shared_budget: ContextVar[RetryBudget | None] = ContextVar("ngff_retry_budget", default=None)
_in_request: ContextVar[bool] = ContextVar("ngff_in_request", default=False)


@contextmanager
def one_budget() -> Iterator[RetryBudget]:
    """All retries inside share one budget, whatever thread or event loop makes them.

    The budget is ``config.region_retries`` and ``config.region_seconds``.
    """
    budget = _new_budget()
    token = _shared_budget.set(budget)
    try:
        with counting_retries(budget.retries_by_kind):
            yield budget
    finally:
        _shared_budget.reset(token)


def _new_budget() -> RetryBudget:
    return RetryBudget(config.region_retries, config.region_seconds)


def retrying[**P, T](work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``work(...)``; after a transient error try again, after a growing, random pause.

    Raises the last error when the attempts or the budget are used up, and every other error
    at once.
    """
    attempts = _Attempts()
    with attempts:
        return tenacity.Retrying(**attempts.policy)(work, *args, **kwargs)


async def retrying_request[T](work: Callable[[], Awaitable[T]]) -> T:
    """The same for one request of an asynchronous client.

    A request made inside another request's retries is not retried by itself: the outer one
    tries again.
    """
    if _in_request.get():
        return await work()

    async def once() -> T:
        # tenacity awaits only what it recognizes as a coroutine function, and not a lambda.
        return await work()

    attempts = _Attempts()
    token = _in_request.set(True)
    try:
        with attempts:
            return await tenacity.AsyncRetrying(**attempts.policy)(once)
    finally:
        _in_request.reset(token)


def given_up(error: BaseException | None) -> bool:
    """Whether the retries that ``error`` is worth were used up, for it or for one of its causes."""
    while error is not None:
        if getattr(error, _GIVEN_UP, False):
            return True
        error = error.__cause__
    return False


class _Attempts:
    """The attempts at one piece of work, and their share of the budget."""

    def __init__(self) -> None:
        self._budget = _shared_budget.get() or _new_budget()
        self._failing = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._failing:
            self._budget.stop_failing()
        if error is not None and _may_pass(error):
            setattr(error, _GIVEN_UP, True)

    @property
    def policy(self) -> dict[str, Any]:
        """Arguments for tenacity."""
        return {
            "stop": self._is_last,
            "wait": tenacity.wait_combine(
                tenacity.wait_random_exponential(multiplier=0.5, max=LONGEST_PAUSE),
                _requested_by_service,
            ),
            "before_sleep": self._before_pause,
            "retry": tenacity.retry_if_exception(_is_worth_a_retry),
            "reraise": True,
        }

    def _is_last(self, state: tenacity.RetryCallState) -> bool:
        error = _error_of(state)
        expired = error is not None and credentials_expired(error)
        most = EXPIRED_ATTEMPTS if expired else ATTEMPTS
        return state.attempt_number >= most or self._budget.is_spent

    def _before_pause(self, state: tenacity.RetryCallState) -> None:
        if not self._failing:
            self._failing = True
            self._budget.start_failing()
        error = _error_of(state)
        if error is not None:
            count_retry(kind_of(error))


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _may_pass(error: BaseException) -> bool:
    return is_transient(error) or credentials_expired(error)


def _is_worth_a_retry(error: BaseException) -> bool:
    return _may_pass(error) and not given_up(error)


def _requested_by_service(retry_state: tenacity.RetryCallState) -> float:
    return requested_pause(_error_of(retry_state))


_pause: ContextVar[float] = ContextVar("ngff_requested_pause", default=0.0)


def request_pause(seconds: float) -> None:
    """Note that the service asked for this pause before the current request is retried."""
    _pause.set(seconds)


def requested_pause(error: BaseException | None) -> float:
    """The pause in seconds that the service asked for with ``error``; 0 if it did not.

    gcsfs drops the answer's headers, so its middleware notes the pause (`request_pause`). s3fs
    keeps them in the error.
    """
    return max(_pause.get(), retry_after(error))


_process_retries: Counter[str] = Counter()
_counters: ContextVar[tuple[Counter[str], ...]] = ContextVar("ngff_retry_counters", default=())
_counters_lock = threading.Lock()


def count_retry(kind: str) -> None:
    """Count a retry that is about to be made after an error of this kind."""
    with _counters_lock:
        for counter in (_process_retries, *_counters.get()):
            counter[kind] += 1


@contextmanager
def counting_retries(counter: Counter[str]) -> Iterator[None]:
    """Count the retries inside in ``counter`` too, by the kind of their error.

    This includes retries in the event loops of clients: a coroutine keeps the context of the
    code that submitted it.
    """
    token = _counters.set((*_counters.get(), counter))
    try:
        yield
    finally:
        _counters.reset(token)


def retries_by_kind() -> Counter[str]:
    """The retries of this process since it began, by the kind of their error."""
    with _counters_lock:
        return Counter(_process_retries)
