"""Each policy of retries: attempts, pauses, the budget of a region, and what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from ngff_core.config import config
from ngff_core.errors import StoredDataError, TransientError
from ngff_core.storage import retry
from ngff_core.storage.retry import (
    ATTEMPTS,
    EXPIRED_ATTEMPTS,
    RetryBudget,
    count_retry,
    counting_retries,
    given_up,
    one_budget,
    request_pause,
    requested_pause,
    retries_by_kind,
    retrying,
    retrying_request,
)
from tests.core.storage.conftest import Pauses
from tests.core.storage.failures import (
    Scripted,
    always_fails,
    caused_by,
    fails,
    google_error,
    s3_error,
)

DOUBLING = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]


def retry_request(work: Scripted) -> Any:
    """The work as one request of an asynchronous client."""
    return asyncio.run(retrying_request(work.request))


@pytest.fixture(params=[retrying, retry_request])
def attempt(request: pytest.FixtureRequest) -> Callable[[Scripted], Any]:
    """Retries of plain work, and of a request in a client's event loop."""
    return request.param  # type: ignore[no-any-return]


# attempts


@pytest.mark.parametrize("times", range(8))
def test_transient_errors_are_retried_until_they_pass(
    attempt: Callable[[Scripted], Any], times: int, pauses: Pauses
) -> None:
    """One attempt more than there are failures. The pauses double, up to 30 s."""
    work = fails(times)
    assert attempt(work) == "done"
    assert work.calls == times + 1
    assert pauses.taken == DOUBLING[:times]


def test_eight_attempts_are_made_and_the_last_error_is_raised(
    attempt: Callable[[Scripted], Any], pauses: Pauses
) -> None:
    """The very error, not one of tenacity's; with its pauses it took 62 s at most."""
    work = fails(99)
    with pytest.raises(TimeoutError) as caught:
        attempt(work)
    assert caught.value is work.errors[7]
    assert work.calls == ATTEMPTS == 8
    assert pauses.taken == DOUBLING
    assert sum(pauses.taken) == 61.5


@pytest.mark.parametrize(
    "error",
    [PermissionError("no"), FileNotFoundError(), StoredDataError("bad"), ValueError("503")],
    ids=repr,
)
def test_other_errors_are_raised_at_once(
    attempt: Callable[[Scripted], Any], error: Exception, pauses: Pauses
) -> None:
    """A retry would only delay the answer."""
    work = always_fails(error)
    with pytest.raises(type(error)):
        attempt(work)
    assert work.calls == 1
    assert pauses.taken == []
    assert not given_up(error)


@pytest.mark.parametrize("error", [google_error(501), s3_error(501)], ids=["gs", "s3"])
def test_501_is_not_retried(error: Exception, pauses: Pauses) -> None:
    """A service that does not implement a request will not do so a second later."""
    work = always_fails(error)
    with pytest.raises(type(error)):
        retrying(work)
    assert work.calls == 1


@pytest.mark.parametrize(
    "error",
    [google_error(401), s3_error(401), s3_error(403, "ExpiredToken")],
    ids=["gs 401", "s3 401", "s3 code"],
)
def test_expired_credentials_are_retried_for_seconds_only(error: Exception, pauses: Pauses) -> None:
    """Another token may help; a missing permission is reported after 3.5 s at most."""
    work = always_fails(error)
    with pytest.raises(type(error)):
        retrying(work)
    assert work.calls == EXPIRED_ATTEMPTS == 4
    assert pauses.taken == [0.5, 1.0, 2.0]
    assert given_up(error)


def test_credentials_that_expire_late_get_no_extra_attempts(pauses: Pauses) -> None:
    """After five other failures there were more attempts than expired credentials get."""
    work = Scripted([*fails(5).errors, google_error(401)], forever=True)
    with pytest.raises(Exception, match="401"):
        retrying(work)
    assert work.calls == 6


def test_arguments_are_passed_on(pauses: Pauses) -> None:
    def work(a: int, *, b: int) -> tuple[int, int]:
        return a, b

    assert retrying(work, 1, b=2) == (1, 2)


# pauses that the service asks for


@pytest.mark.parametrize(
    ("header", "pause"),
    [("7", 7.0), ("0.25", 0.25), ("100000", 120.0), ("-5", 0.0), ("Fri, 1 Jan 2027", 0.0)],
)
def test_retry_after_is_honoured_and_capped(header: str, pause: float, pauses: Pauses) -> None:
    """On top of our own pause; at most two minutes, and a date is ignored."""
    work = Scripted([s3_error(503, headers={"retry-after": header})])
    retrying(work)
    assert pauses.taken == [0.5 + pause]


def test_a_pause_asked_for_in_a_response_is_honoured(pauses: Pauses) -> None:
    """gcsfs's errors have no headers, so its middleware notes the pause."""

    async def work() -> str:
        request_pause(0.0)
        if not pauses.taken:
            request_pause(3.0)
            raise google_error(503)
        return "done"

    assert asyncio.run(retrying_request(work)) == "done"
    assert pauses.taken == [3.5]


def test_the_longer_of_two_requested_pauses_counts(pauses: Pauses) -> None:
    error = s3_error(503, headers={"retry-after": "7"})
    request_pause(3.0)
    assert requested_pause(error) == 7.0
    assert requested_pause(caused_by(OSError(), error)) == 7.0
    assert requested_pause(None) == requested_pause(OSError()) == 3.0


# retries inside retries


@pytest.mark.parametrize("wrapped", [False, True])
def test_nested_retries_do_not_multiply(wrapped: bool, pauses: Pauses) -> None:
    """The outer one does not repeat what the inner one gave up, even if it was wrapped."""
    work = always_fails()

    def inner() -> None:
        try:
            retrying(work)
        except TimeoutError as error:
            if wrapped:
                raise TransientError("where it was") from error
            raise

    with pytest.raises((TimeoutError, TransientError)) as caught:
        retrying(retrying, inner)
    assert work.calls == 8
    assert given_up(caught.value)


def test_a_request_inside_a_request_is_retried_by_the_outer_one(pauses: Pauses) -> None:
    """As when a client's method that we wrap calls another one that we wrap."""
    work = always_fails()

    async def outer() -> Any:
        return await retrying_request(work.request)

    with pytest.raises(TimeoutError):
        asyncio.run(retrying_request(outer))
    assert work.calls == 8


def test_requests_one_after_the_other_are_each_retried(pauses: Pauses) -> None:
    """The second one is not inside the first, whether that succeeded or failed."""
    first, second = always_fails(), fails(2)

    async def both() -> Any:
        with pytest.raises(TimeoutError):
            await retrying_request(first.request)
        return await retrying_request(second.request)

    assert asyncio.run(both()) == "done"
    assert (first.calls, second.calls) == (8, 3)


def test_an_error_is_given_up_if_its_cause_is() -> None:
    inner = TimeoutError()
    outer = caused_by(OSError(), caused_by(TransientError("x"), inner))
    assert not given_up(outer)
    assert not given_up(None)
    assert caught_by(always_fails(inner)) is inner
    assert given_up(outer)


def caught_by(work: Scripted) -> BaseException:
    """The error of work that no retry is allowed for."""
    budget = RetryBudget(0, 300)
    token = retry._shared_budget.set(budget)
    try:
        retrying(work)
    except Exception as error:  # noqa: BLE001 - it is what the caller asks for
        return error
    finally:
        retry._shared_budget.reset(token)
    raise AssertionError("the work succeeded")


# the budget of a region


@pytest.fixture
def three_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "region_retries", 3)


@pytest.mark.usefixtures("three_retries")
def test_a_region_has_a_budget_of_retries(pauses: Pauses) -> None:
    """Whichever of its requests spend it: then each further failure is final."""
    passing, failing, last = fails(2), always_fails(), always_fails()
    with one_budget() as budget:
        assert retrying(passing) == "done"
        assert not budget.is_spent
        for work in (failing, last):
            with pytest.raises(TimeoutError):
                retrying(work)
        assert (budget.retries, budget.is_spent) == (3, True)
        assert retrying(fails(0)) == "done"
    assert (passing.calls, failing.calls, last.calls) == (3, 2, 1)
    assert budget.retries_by_kind == {"TimeoutError": 3}


@pytest.mark.usefixtures("three_retries")
def test_each_region_has_a_budget_of_its_own(pauses: Pauses) -> None:
    """Nothing that one region spends is missing in the next."""
    for _ in range(2):
        work = always_fails()
        with one_budget(), pytest.raises(TimeoutError):
            retrying(work)
        assert work.calls == 4
    work = always_fails()
    with pytest.raises(TimeoutError):
        retrying(work)
    assert work.calls == 8


@pytest.mark.usefixtures("three_retries")
def test_threads_and_event_loops_of_a_region_share_its_budget(pauses: Pauses) -> None:
    """They run in a copy of its context."""
    with one_budget() as budget, ThreadPoolExecutor(1) as executor:
        retrying(fails(1))
        executor.submit(copy_context().run, retrying, fails(1)).result()
        executor.submit(copy_context().run, retry_request, fails(1)).result()
        assert budget.is_spent


def test_a_region_has_a_budget_of_seconds(monkeypatch: pytest.MonkeyPatch, pauses: Pauses) -> None:
    """While one of its requests fails: work that succeeds may take as long as it likes."""
    monkeypatch.setattr(config, "region_seconds", 10.0)
    with one_budget() as budget:
        pauses.now += 3600
        retrying(fails(2))
        assert budget.seconds == 0.5 + 1.0
        pauses.now += 3600
        assert not budget.is_spent
        work = always_fails()
        with pytest.raises(TimeoutError):
            retrying(work)
        # 1.5 s before; then pauses of 0.5, 1, 2, 4 and 8 s
        assert (work.calls, budget.seconds) == (6, 17.0)
        assert budget.is_spent


def test_work_without_a_region_has_a_budget_of_seconds_too(
    monkeypatch: pytest.MonkeyPatch, pauses: Pauses
) -> None:
    monkeypatch.setattr(config, "region_seconds", 2.0)
    work = always_fails()
    with pytest.raises(TimeoutError):
        retrying(work)
    assert work.calls == 4


def test_requests_that_fail_together_spend_their_time_once(pauses: Pauses) -> None:
    """From the first that fails until the last that ends."""
    budget = RetryBudget(100, 10)
    budget.start_failing()
    pauses.now += 2
    budget.start_failing()
    pauses.now += 3
    budget.stop_failing()
    assert budget.seconds == 5
    pauses.now += 4
    budget.stop_failing()
    pauses.now += 100
    assert budget.seconds == 9
    assert not budget.is_spent
    budget.start_failing()
    pauses.now += 1
    assert budget.seconds == 10
    assert budget.is_spent


def test_a_budget_of_no_retries_allows_none(pauses: Pauses) -> None:
    assert RetryBudget(0, 10).is_spent
    assert RetryBudget(10, 0).is_spent
    assert not RetryBudget(1, 1).is_spent
    work = always_fails()
    assert given_up(caught_by(work))
    assert work.calls == 1


def test_the_summary_names_retries_seconds_and_kinds(pauses: Pauses) -> None:
    budget = RetryBudget(9, 9)
    assert budget.summary == "0 retries in 0 s"
    budget.start_failing()
    pauses.now += 12.4
    budget.retries_by_kind.update({"503": 2, "429": 1})
    assert budget.retries == 3
    assert budget.summary == "3 retries in 12 s (429: 1, 503: 2)"


# what is counted


def test_retries_are_counted_by_kind(pauses: Pauses) -> None:
    """In every counter around them and for the process; failures that end them are not."""
    before, outer, inner = retries_by_kind(), Counter[str](), Counter[str]()
    with counting_retries(outer):
        retrying(Scripted([google_error(503), TimeoutError(), google_error(503)]))
        with counting_retries(inner):
            retrying(Scripted([google_error(429)]))
            with pytest.raises(PermissionError):
                retrying(always_fails(PermissionError()))
        retrying(fails(1, ConnectionError))
    retrying(fails(1, BrokenPipeError))
    assert inner == {"429": 1}
    assert outer == {"503": 2, "TimeoutError": 1, "429": 1, "ConnectionError": 1}
    assert retries_by_kind() - before == {**outer, "BrokenPipeError": 1}


def test_the_counts_of_the_process_are_a_copy() -> None:
    retries_by_kind()["503"] += 1000
    before = retries_by_kind()["503"]
    count_retry("503")
    assert retries_by_kind()["503"] == before + 1


def test_counting_ends_where_work_fails(pauses: Pauses) -> None:
    counter = Counter[str]()
    with pytest.raises(ValueError, match="x"), counting_retries(counter):
        raise ValueError("x")
    with pytest.raises(ValueError, match="x"), one_budget() as budget:
        raise ValueError("x")
    retrying(fails(1))
    assert counter == budget.retries_by_kind == {}
    assert retry._shared_budget.get() is None
