"""The phases of a build as Prefect tasks: what is tried again, and what that costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Buffer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType

from ngff_core import Build, BuildOptions, LevelReport, build_pyramid, verify_pyramid
from ngff_core.errors import (
    InvalidOptionError,
    LeaseLostError,
    MemoryLimitError,
    SourceChangedError,
    SourceFormatError,
    StoredDataError,
    TargetBusyError,
    TargetExistsError,
    TransientError,
)
from ngff_core.storage import LocalFiles, retrying
from tasks import pyramid

# Level 0 has 16 regions of one object each, level 1 has 4; one is written at a time.
OPTIONS = BuildOptions(scale_factors=[2], chunks=16, shards=16, workers=1, compressor="none")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("peer went away"),
        TimeoutError("no answer"),
        TransientError("the bucket is busy"),
        TargetBusyError("process 7 is building this target"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_transient_error_is_retried(error: Exception) -> None:
    """After a network error Prefect runs the task again."""
    assert pyramid.retry_if_transient(pyramid.plan, None, failed(error))


@pytest.mark.parametrize(
    "error",
    [
        InvalidOptionError("chunks: 0 is not positive"),
        MemoryLimitError("memory_limit: 1MiB is too little"),
        SourceFormatError("not a TIFF"),
        SourceChangedError("the upload was replaced"),
        TargetExistsError("not ours"),
        StoredDataError("the ledger is damaged"),
        FileNotFoundError("no such file"),
        PermissionError("not yours"),
        ZeroDivisionError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_refusals_are_told_at_once(error: Exception) -> None:
    """What would be refused again in a minute is not tried again for a minute."""
    assert not pyramid.retry_if_transient(pyramid.plan, None, failed(error))


def test_builder_that_was_taken_for_dead_stops() -> None:
    """A lease that is lost is not got back by trying: another process builds the target."""
    error = LeaseLostError("another process took over this target")
    assert not pyramid.retry_if_transient(pyramid.plan, None, failed(error))


def test_success_is_not_tried_again() -> None:
    """A state without an error is no reason to run anything twice."""
    assert not pyramid.retry_if_transient(
        pyramid.plan, None, State(type=StateType.COMPLETED, data=None)
    )


@pytest.mark.parametrize(
    "name", ["plan", "cache_source", "write_level", "write_metadata", "verify"]
)
def test_every_phase_retries_by_type_and_never_by_cache(name: str) -> None:
    """No phase uses Prefect's cached results; each is retried after transient errors."""
    task = getattr(pyramid, name)
    assert task.retries == 3
    assert task.retry_delay_seconds == [10, 20, 40]
    assert task.retry_jitter_factor == 0.5
    assert task.retry_condition_fn is pyramid.retry_if_transient
    assert task.cache_policy == pyramid.NO_CACHE


@flow(name="levels", log_prints=False)
def write_levels(source: str, target: str) -> list[LevelReport]:
    """All levels of a build, and nothing after them."""
    with pyramid.plan(source, target, OPTIONS) as build:
        return [pyramid.write_level(build, level.index) for level in build.plan.levels]


def test_a_level_survives_transient_errors_and_keeps_its_regions(
    prefect_server: None, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of a level's tries die of a dead connection, the third does only what remains.

    Each of the level's 4 objects is stored exactly once; the broken one took 8 attempts
    in the first try, 8 in the second, and one in the third.
    """
    target = tmp_path / "out.ome.zarr"
    broken = "1/c/1/0"
    writes = scripted(monkeypatch, target, broken, failures=16)
    monkeypatch.setattr(pyramid.write_level, "retry_delay_seconds", [0, 0, 0])
    state = write_levels(source, str(target), return_state=True)
    assert [report.regions for report in state.result()] == [16, 4]
    assert [report.fresh for report in state.result()] == [16, 4]
    assert writes.pop(broken) == 17
    level_0 = {f"0/c/{y}/{x}" for y in range(4) for x in range(4)}
    level_1 = {f"1/c/{y}/{x}" for y in range(2) for x in range(2)}
    assert writes == Counter(dict.fromkeys(level_0 | level_1 - {broken}, 1))
    # Levels are written side by side, so the one that waits for level 0 fails with it.
    counts = run_counts(state)
    assert counts.keys() == {"plan", "level-0", "level-1"}
    assert counts["level-0"] + counts["level-1"] - 2 in (2, 3)
    # and the very same pixels as a build that met no trouble
    report = build_pyramid(source, target, **chosen(OPTIONS))
    assert report.fresh == 0
    assert verify_pyramid(target, deep=True).ok


def test_refusal_in_mid_level_is_not_tried_again(
    prefect_server: None, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that turns out to be undecodable fails the run at its first try."""
    tries = []

    def refuse(*_: Any) -> None:
        tries.append(1)
        raise SourceFormatError("cannot decode the box [0:16, 0:16]")

    monkeypatch.setattr(Build, "write_level", refuse)
    monkeypatch.setattr(pyramid.write_level, "retry_delay_seconds", [0, 0, 0])
    state = write_levels(source, str(tmp_path / "out.ome.zarr"), return_state=True)
    assert state.is_failed()
    assert "cannot decode the box" in state.message
    assert len(tries) == 1


@pytest.fixture
def source(tmp_path: Path) -> str:
    samples = np.random.default_rng(5).integers(0, 256, (64, 64), dtype=np.uint8)
    np.save(tmp_path / "image.npy", samples)
    return str(tmp_path / "image.npy")


def failed(error: Exception) -> State[Any]:
    """The state that a task is in after raising ``error``."""
    return State(type=StateType.FAILED, data=error)


def scripted(
    monkeypatch: pytest.MonkeyPatch, target: Path, broken: str, failures: int
) -> Counter[str]:
    """Counts attempts to store samples; those of ``broken`` fail so many times."""
    attempts: Counter[str] = Counter()
    write = LocalFiles.write

    def scripted_write(store: LocalFiles, key: str, data: Buffer) -> None:
        if store.root == target and "/c/" in key:
            attempts[key] += 1
            if key == broken and attempts[key] <= failures:
                raise ConnectionResetError(f"{key}: peer went away")
        write(store, key, data)

    monkeypatch.setattr(LocalFiles, "write", scripted_write)
    # the pauses of the core's own attempts, of which there are 8
    monkeypatch.setattr(tenacity, "wait_random_exponential", lambda **_: tenacity.wait_none())
    assert count_attempts() == 8
    return attempts


def count_attempts() -> int:
    """How often the core tries one request before it gives up."""
    tries = []

    def work() -> None:
        tries.append(1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        retrying(work)
    return len(tries)


def chosen(options: BuildOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in BuildOptions.__dataclass_fields__}


def run_counts(state: State[Any]) -> dict[str, int]:
    """How often each task of a finished flow run was run, once the server knows."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(60),
        wait=tenacity.wait_fixed(0.1),
        retry=tenacity.retry_if_exception_type(AssertionError),
        reraise=True,
    ):
        with attempt, get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=wanted)
            # task runs reach the database as events, a little after the flow has ended
            assert len(runs) == 3
            assert all(run.state is not None and run.state.is_final() for run in runs)
    return {run.name: run.run_count for run in runs}
