"""Two processes at one target, and leases that the dead leave behind."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.resume.harness import (
    REGIONS,
    Builders,
    Run,
    assert_ended_undisturbed,
    assert_resumes,
    beside,
    read_log,
)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builders]:
    """Builders beside the usual ones, so that two processes are at work at once."""
    others = Builders(tmp_path_factory.mktemp("others"))
    yield others
    others.close()


def messages_of(job: dict[str, Any]) -> list[str]:
    """What the process at work on ``job`` has said so far."""
    return read_log(job, Run(0, 0)).messages


def until(true: Callable[[], bool]) -> None:
    """Wait for what must come; the limit only ends a test that has failed."""
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def at_gate(gate: Path) -> Path:
    """A folder at which a build stops until `open` is in it."""
    gate.mkdir()
    return gate


def test_one_builds_and_the_other_waits(builders, others, source, undisturbed, tmp_path):
    """The same command twice at once: one builds, one says that it waits, both end fine."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    gate = at_gate(tmp_path / "gate")
    first = builders.job(source, target, gate=str(gate))
    second = others.job(source, target, deep=True)
    with ThreadPoolExecutor(2) as both:
        try:
            one = both.submit(builders.run_job, first)
            until(lambda: one.done() or (gate / "reached").exists())
            two = both.submit(others.run_job, second)
            until(lambda: two.done() or bool(messages_of(second)))
        finally:
            (gate / "open").touch()
    runs = [one.result(), two.result()]
    assert [run.code for run in runs] == [0, 0]
    assert [run.result["fresh_by_level"] for run in runs] == [REGIONS, [0, 0, 0]]
    assert runs[1].messages[0].startswith(f"waiting: process {runs[0].pid} on ")
    assert Counter(runs[0].chunk_writes) == Counter(whole.run.chunk_writes)
    assert runs[1].chunk_writes == []
    assert runs[1].result["findings"] == []
    assert_ended_undisturbed(target, whole)


def test_the_one_that_waits_takes_over(builders, others, source, undisturbed, tmp_path):
    """The builder dies while another waits for it: the other does what remains."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    gate = at_gate(tmp_path / "gate")
    n = whole.number_of("create beside:ledger/0/segments/", 9)
    die = {"n": n, "how": "after"}
    first = builders.job(source, target, gate=str(gate), die=die)
    second = others.job(source, target, deep=True)
    with ThreadPoolExecutor(2) as both:
        try:
            one = both.submit(builders.run_job, first)
            until(lambda: one.done() or (gate / "reached").exists())
            two = both.submit(others.run_job, second)
            until(lambda: two.done() or bool(messages_of(second)))
        finally:
            (gate / "open").touch()
    assert one.result().killed
    run = two.result()
    assert run.code == 0, run.result
    before = Counter(op.split("/")[1] for op in one.result().operations if "/segments/" in op)
    done = [before[str(level)] for level in range(len(REGIONS))]
    assert done[0] == 10
    assert run.result["fresh_by_level"] == [n - d for n, d in zip(REGIONS, done, strict=True)]
    assert run.result["findings"] == []
    assert_ended_undisturbed(target, whole)


def test_a_race_has_one_winner(builders, others, source, undisturbed, tmp_path):
    """Two processes started at the same moment write no object twice."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    with ThreadPoolExecutor(2) as both:
        runs = list(both.map(lambda who: who.run(source, target), (builders, others)))
    assert [run.code for run in runs] == [0, 0], [run.result for run in runs]
    assert sum(run.result["fresh"] for run in runs) == sum(REGIONS)
    written = Counter(key for run in runs for key in run.chunk_writes)
    assert written == Counter(whole.run.chunk_writes)
    assert_ended_undisturbed(target, whole)


def test_a_dead_builder_is_not_waited_for(builders, source, undisturbed, tmp_path):
    """A builder that was killed, and that its parent has not buried yet, holds nobody up."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    n = whole.number_of("create beside:ledger/1/segments/", 2)
    dead = builders.run(source, target, die={"n": n, "how": "after"}, unburied=True)
    assert dead.killed
    assert Path(f"/proc/{dead.pid}").exists() or not Path("/proc").exists(), "a zombie"
    assert_resumes(builders, source, target, whole)
    leases = sorted(path.name for path in (beside(target) / "lease").iterdir())
    assert leases == ["000001.json", "000002.json"]
