"""A pass over the levels: which regions it stores, when it stops, and its state then."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngff_core import build_pyramid
from ngff_core.build import streaming
from ngff_core.build.streaming import LevelFailedError, Pass, PassLimits, TooMuchHeldError
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan import costs
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.schedule import PassPlan, passes
from ngff_core.records.ledger import Receipt
from tests.support.folders import files
from tests.support.passes import ORDERS, Shelf, computed, held_limit, plans, run_scripted, shelves
from tests.support.plans import plan_of

Array = np.ndarray[Any, Any]


def work_of(
    pass_plan: PassPlan,
    level_ios: dict[int, Shelf],
    executor: Executor,
    *,
    in_flight: int = 2,
    limit: int = 2**40,
    check: Callable[[], None] = lambda: None,
    kernel: Kernel | None = None,
) -> Pass:
    return Pass(
        pass_plan,
        level_ios,
        kernel or kernel_for(pass_plan.plan.method),
        executor=executor,
        limits=PassLimits(in_flight, limit),
        check=check,
    )


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=plans(),
    in_flight=st.integers(1, 4),
    order=st.sampled_from(list(ORDERS)),
    seed=st.integers(0, 99),
    share=st.sampled_from([0, 0.2, 0.8]),
    streamed=st.sets(st.integers(1, 3)),
    cell=st.none() | st.tuples(*[st.integers(1, 12)] * 5),
)
def test_what_is_missing_is_stored_once_and_right(
    plan: PyramidPlan,
    in_flight: int,
    order: str,
    seed: int,
    share: float,
    streamed: set[int],
    cell: tuple[int, ...] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever was done before, whichever levels are streamed, whichever job ends first, and
    whatever arrays the samples of the source come in."""
    rng, levels = random.Random(seed), computed(plan)
    done = {lv.index: [r for r in range(lv.regions) if rng.random() < share] for lv in plan.levels}
    level_ios = shelves(plan, levels, done)
    level_ios[0].cell = cell and cell[: len(plan.image.dims)]
    for pass_plan in passes(plan, streamed):
        limit = held_limit(plan, pass_plan, in_flight)
        run_scripted(
            pass_plan,
            level_ios,
            in_flight=in_flight,
            limit=limit,
            order=order,
            seed=seed,
            monkeypatch=monkeypatch,
        )
    for level, samples in zip(plan.levels, levels, strict=True):
        level_io = level_ios[level.index]
        assert sorted(level_io.recorded) == sorted(set(range(level.regions)) - level_io.before)
        np.testing.assert_array_equal(level_io.stored, samples)
        assert len(set(level_io.loaded)) == len(level_io.loaded)
        assert len(set(level_io.was_read)) == len(level_io.was_read)
        assert not set(level_io.loaded) & level_io.before or level.index in streamed


@settings(max_examples=15)
@given(plans(), st.integers(1, 4))
def test_threads_give_the_same(plan: PyramidPlan, in_flight: int) -> None:
    """Real ones, on real time."""
    levels = computed(plan)
    (pass_plan,) = passes(plan, range(1, len(plan.levels)))
    level_ios = shelves(plan, levels)
    with ThreadPoolExecutor(in_flight) as executor:
        work = work_of(pass_plan, level_ios, executor, in_flight=in_flight)
        work.run()
    for level, samples in zip(plan.levels, levels, strict=True):
        np.testing.assert_array_equal(level_ios[level.index].stored, samples)
    assert work._held == 0


PLAN = plan_of("yx", (96, 96), chunks=16, shards=16, scale_factors=[2, 4], dtype="<u2")
(PASS_PLAN,) = passes(PLAN, [1, 2])
LEVELS = computed(PLAN)


class TroubleError(Exception):
    """What a test raises."""


class FailingKernel:
    """The plan's kernel until its ``left`` runs out."""

    def __init__(self, left: int) -> None:
        self.left, self._kernel = left, kernel_for(PLAN.method)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def reduce(self, window: Array, *given: Any) -> Array:
        self.left -= 1
        if self.left == 0:
            raise TroubleError("tile")
        return self._kernel.reduce(window, *given)


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize(
    ("kind", "level"), [("load", 0), ("store", 0), ("store", 1), ("store", 2), ("tile", None)]
)
def test_a_job_that_fails_names_its_level_and_nothing_is_begun_after(
    kind: str, level: int | None, in_flight: int
) -> None:
    """What was stored by then is recorded, what was under way too."""
    level_ios = shelves(PLAN, LEVELS)
    failed, begun_after, calls = threading.Event(), [], []
    for level_io in level_ios.values():
        for name in ("load", "store"):
            inner = getattr(level_io, name)

            def job(
                region: int,
                *rest: Any,
                inner: Any = inner,
                name: str = name,
                level_io: Any = level_io,
            ) -> Any:
                if failed.is_set():
                    begun_after.append((level_io.level.index, name, region))
                if (name, level_io.level.index) == (kind, level):
                    calls.append(region)
                    if len(calls) == 3:
                        failed.set()
                        raise TroubleError(name)
                time.sleep(0.003)
                return inner(region, *rest)

            setattr(level_io, name, job)
    kernel: Any = FailingKernel(9 if kind == "tile" else 0)
    with ThreadPoolExecutor(in_flight) as executor:
        work = work_of(PASS_PLAN, level_ios, executor, in_flight=in_flight, kernel=kernel)
        with pytest.raises(LevelFailedError) as caught:
            work.run()
    assert isinstance(caught.value.__cause__, TroubleError)
    assert str(caught.value.__cause__) == kind
    assert caught.value.level == level or (level is None and caught.value.level in (1, 2))
    # Each slot may have begun one more before the driver heard of it.
    assert len(begun_after) < in_flight
    for level_io in level_ios.values():
        assert sorted(level_io.recorded) == sorted(level_io.begun)
    assert len(level_ios[2].recorded) < PLAN.levels[2].regions


def test_what_a_check_raises_goes_through_after_stores_under_way_are_recorded() -> None:
    """It is asked before each beginning."""
    level_ios = shelves(PLAN, LEVELS)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 12:
            raise TroubleError

    before = set(threading.enumerate())
    with ThreadPoolExecutor(2) as executor, pytest.raises(TroubleError):
        work_of(PASS_PLAN, level_ios, executor, check=check).run()
    assert set(threading.enumerate()) == before
    assert asked == 12
    assert any(level_io.recorded for level_io in level_ios.values())
    for level_io in level_ios.values():
        assert sorted(level_io.recorded) == sorted(level_io.begun)


def test_receipts_are_recorded_in_the_thread_of_the_driver() -> None:
    """A ledger is not made for several threads."""
    level_ios, here = shelves(PLAN, LEVELS), threading.get_ident()
    recording = set()
    for level_io in level_ios.values():
        inner = level_io.record

        def record(receipt: Receipt, inner: Callable[[Receipt], None] = inner) -> None:
            recording.add(threading.get_ident())
            inner(receipt)

        level_io.record = record  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as executor:
        work_of(PASS_PLAN, level_ios, executor, in_flight=3).run()
    assert recording == {here}


@pytest.mark.parametrize("limit", [1, 600, 3000])
def test_too_little_memory_to_continue_is_an_error(limit: int) -> None:
    """What was stored by then is right, and recorded."""
    level_ios = shelves(PLAN, LEVELS)
    with ThreadPoolExecutor(2) as executor, pytest.raises(TooMuchHeldError):
        work_of(PASS_PLAN, level_ios, executor, limit=limit).run()
    for level, level_io in zip(PLAN.levels, level_ios.values(), strict=True):
        assert sorted(level_io.recorded) == sorted(level_io.begun)
        for region in level_io.recorded:
            box = level.region(region).slices
            np.testing.assert_array_equal(level_io.stored[box], LEVELS[level.index][box])


@pytest.mark.parametrize("in_flight", [1, 2, 3, 4])
def test_loads_do_not_pile_up_behind_a_slow_one(
    in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regions of all that is begun after it do not pile up, however much memory there is."""
    plan = plan_of("zyx", (40, 40, 40), chunks=8, shards=8, scale_factors=[2])
    (pass_plan,) = passes(plan, [1])
    level_ios = shelves(plan, computed(plan))
    held = run_scripted(
        pass_plan,
        level_ios,
        in_flight=in_flight,
        limit=2**40,
        order="one is slow",
        seed=1,
        monkeypatch=monkeypatch,
    )
    assert held <= held_limit(plan, pass_plan, in_flight)


def test_a_projection_that_was_wrong_costs_time_and_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build continues from what is stored."""
    image = computed(plan_of("zyx", (40, 50, 60), scale_factors=[]))[0]
    options: dict[str, Any] = {"scale_factors": [2, 4], "chunks": 8, "shards": 16}
    build_pyramid(image, tmp_path / "right.zarr", **options)
    refused = []
    run = Pass.run

    def counted(self: Pass) -> None:
        try:
            run(self)
        except TooMuchHeldError:
            refused.append(self)
            raise

    monkeypatch.setattr(Pass, "run", counted)
    monkeypatch.setattr(costs, "held_bytes", lambda *_: 9000)
    report = build_pyramid(image, tmp_path / "wrong.zarr", **options)
    assert len(refused) == 1
    assert report.verified
    assert files(tmp_path / "wrong.zarr") == files(tmp_path / "right.zarr")
    assert not [t for t in threading.enumerate() if t.name.startswith("ngff")]


def test_a_source_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    """Neither the driver nor the regions'."""

    class Broken:
        shape, dtype, ndim = (64, 64), np.dtype("u2"), 2

        def __getitem__(self, key: Any) -> Array:
            raise PermissionError("no")

        def __dask_tokenize__(self) -> str:
            return "broken"

    with pytest.raises(PermissionError):
        build_pyramid(Broken(), tmp_path / "a.zarr", scale_factors=[2], chunks=16)
    assert not [t for t in threading.enumerate() if t.name.startswith("ngff")]


def test_memory_is_given_back_once_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after each region, which then had the same pages brought back."""
    calls: list[int] = []
    monkeypatch.setattr(streaming, "release_memory", lambda: calls.append(1))
    with ThreadPoolExecutor(2) as executor:
        work_of(PASS_PLAN, shelves(PLAN, LEVELS), executor).run()
    assert calls == [1]
