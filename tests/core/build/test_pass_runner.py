"""One pass, run by the threads of this process or by a cluster."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ngff_core.build import pass_runner
from ngff_core.build.pass_runner import PassRunner
from ngff_core.build.streaming import TooMuchHeldError
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.schedule import passes
from tests.support.passes import computed, shelves
from tests.support.plans import plan_of

PLAN = plan_of("yx", (48, 48), chunks=8, shards=8, scale_factors=[2])
(PASS,) = passes(PLAN, [1])
KERNEL = kernel_for(PLAN.method)


def nothing() -> None:
    """A check that finds nothing wrong."""


def run_pass(runner: PassRunner, level_ios: Any, held_bytes: int = 2**30, **how: Any) -> None:
    check = how.pop("check", nothing)
    runner.run(PASS, level_ios, held_bytes=held_bytes, reads_source=True, check=check, **how)


def test_threads_write_all_levels_of_a_pass() -> None:
    levels = computed(PLAN)
    level_ios = shelves(PLAN, levels)
    with ThreadPoolExecutor(2) as executor:
        run_pass(PassRunner(KERNEL, executor, 2), level_ios)
    for index, samples in enumerate(levels):
        np.testing.assert_array_equal(level_ios[index].stored, samples)


def test_threads_hold_no_more_than_they_are_allowed() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(TooMuchHeldError):
        run_pass(PassRunner(KERNEL, executor, 1), shelves(PLAN, computed(PLAN)), held_bytes=1)


def test_threads_have_as_many_regions_in_flight_as_they_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits: list[Any] = []
    inner = pass_runner.Pass

    def made(*given: Any, **named: Any) -> Any:
        limits.append(named["limits"])
        return inner(*given, **named)

    monkeypatch.setattr(pass_runner, "Pass", made)
    with ThreadPoolExecutor(1) as executor:
        run_pass(PassRunner(KERNEL, executor, 3), shelves(PLAN, computed(PLAN)), held_bytes=2**20)
    assert [(limit.in_flight, limit.held_bytes) for limit in limits] == [(3, 2**20)]


def test_what_a_check_raises_stops_the_pass() -> None:
    def stop() -> None:
        raise InterruptedError

    level_ios = shelves(PLAN, computed(PLAN))
    with ThreadPoolExecutor(1) as executor, pytest.raises(InterruptedError):
        run_pass(PassRunner(KERNEL, executor, 1), level_ios, check=stop)
    assert level_ios[0].begun == []


class FakeCluster:
    """A cluster that notes what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.ran = 0

    def work(self, *given: Any, **named: Any) -> FakeCluster:
        self.given.append((given, named))
        return self

    def run(self) -> None:
        self.ran += 1


@pytest.mark.parametrize("is_cache", [True, False])
def test_a_cluster_runs_the_pass_in_place_of_threads(is_cache: bool) -> None:
    level_ios = shelves(PLAN, computed(PLAN))
    cluster: Any = FakeCluster()
    with ThreadPoolExecutor(1) as executor:
        run_pass(PassRunner(KERNEL, executor, 1, cluster), level_ios, is_cache=is_cache)
    named = {"reads_source": True, "is_cache": is_cache, "check": nothing}
    assert cluster.given == [((PASS, level_ios), named)]
    assert cluster.ran == 1
    assert level_ios[0].begun == []
