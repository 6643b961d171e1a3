"""A cluster by its client: what is asked of the workers, how often, and what their answers mean."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import BuildOptions, build_pyramid
from ngff_core.build import build as build_module
from ngff_core.build import cluster as cluster_module
from ngff_core.build.build import Build
from ngff_core.build.cluster import Cluster
from ngff_core.build.worker import WorkOrder, WorkSource
from ngff_core.errors import ClusterError, ClusterUnfitError, TargetExistsError
from ngff_core.progress import Event, Finished, Started

ORDER = WorkOrder("token", WorkSource("/in.npy", (8, 8), False), "/out", "digest", 1)
OPTIONS = BuildOptions(dask_address="tcp://10.0.0.1:8786")
SMALL: dict[str, Any] = {"chunks": 16, "shards": 16, "scale_factors": [2]}


class FakeClient:
    """A client of dask's, as far as builds use it."""

    status = "running"

    def __init__(self, answers: dict[str, BaseException | None] | None = None) -> None:
        self.answers = answers or {}
        self.calls: list[str] = []
        self.threads = {"a": 2, "b": 3}
        self.no_workers = False

    def wait_for_workers(self, count: int, timeout: float) -> None:
        self.calls.append(f"wait for {count}")
        if self.no_workers:
            raise TimeoutError

    def nthreads(self) -> dict[str, int]:
        self.calls.append("count")
        return self.threads

    def run(self, function: Any, *args: Any, **options: Any) -> dict[str, BaseException | None]:
        self.calls.append(function.__name__)
        return self.answers


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test changes."""
    now = [1000.0]
    monkeypatch.setattr(cluster_module.time, "monotonic", lambda: now[0])
    return now


def test_workers_are_waited_for_before_they_open_a_build(clock: list[float]) -> None:
    """Once for each build: who comes later opens it with the first region."""
    client = FakeClient({"a": None})
    cluster = Cluster(OPTIONS, client, None)
    cluster.open_build(ORDER, needs_source=True)
    assert client.calls == ["wait for 1", "count", "check_worker"]
    cluster.open_build(ORDER, needs_source=True)
    assert client.calls.count("check_worker") == 1
    assert client.calls.count("wait for 1") == 2


def test_no_workers_is_said_in_one_line(clock: list[float]) -> None:
    """With what to do."""
    client = FakeClient()
    client.no_workers = True
    with pytest.raises(ClusterError, match=r"has no workers; start workers and run the same"):
        Cluster(OPTIONS, client, None).open_build(ORDER, needs_source=True)


@pytest.mark.parametrize("error", [ClusterUnfitError("no"), ValueError("bad"), KeyError("x")])
def test_what_a_worker_refuses_is_raised(clock: list[float], error: Exception) -> None:
    """And the build does not count as opened."""
    client = FakeClient({"a": None, "b": error})
    cluster = Cluster(OPTIONS, client, None)
    with pytest.raises(type(error)):
        cluster.open_build(ORDER, needs_source=True)
    client.answers = {"a": None}
    cluster.open_build(ORDER, needs_source=True)
    assert client.calls.count("check_worker") == 2


def test_a_worker_that_died_while_it_was_asked_is_no_refusal(clock: list[float]) -> None:
    """The others do its work."""
    client = FakeClient({"a": OSError("gone"), "b": None})
    cluster = Cluster(OPTIONS, client, None)
    cluster.open_build(ORDER, needs_source=True)
    cluster.open_build(ORDER, needs_source=True)
    assert client.calls.count("check_worker") == 1


def test_threads_are_counted_every_two_seconds(clock: list[float]) -> None:
    """Not with every look at the cluster, which comes twice a second."""
    client = FakeClient()
    cluster = Cluster(OPTIONS, client, None)
    for seconds, counts in ((0.0, 1), (1.9, 1), (2.1, 2), (3.0, 2), (4.2, 3)):
        clock[0] = 1000.0 + seconds
        cluster.check_workers()
        assert client.calls.count("count") == counts, seconds
    assert cluster.threads == 5


def test_a_minute_without_workers_ends_the_wait(clock: list[float]) -> None:
    """A worker in between begins the minute anew."""
    client = FakeClient()
    client.threads = {}
    cluster = Cluster(OPTIONS, client, None)
    cluster.check_workers()
    clock[0] += 59
    cluster.check_workers()
    client.threads = {"a": 1}
    clock[0] += 3
    cluster.check_workers()
    client.threads = {}
    clock[0] += 3
    cluster.check_workers()
    clock[0] += 59
    cluster.check_workers()
    clock[0] += 3
    with pytest.raises(ClusterError, match="has had no worker for 60 s"):
        cluster.check_workers()


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """Each connection to a cluster, which ends the build with a ClusterError."""
    asked: list[BuildOptions] = []

    def connect(options: BuildOptions) -> Cluster:
        asked.append(options)
        raise ClusterError("no cluster in this test")

    monkeypatch.setattr(build_module.Cluster, "connect", connect)
    return asked


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(64 * 64, dtype="u2").reshape(64, 64))
    return tmp_path / "a.npy"


def open_on_cluster(source: Path, target: Path, **options: Any) -> None:
    chosen = BuildOptions(dask_workers=1, **SMALL, **options)
    with ExitStack() as stack:
        stack.enter_context(Build.open(source, target, chosen))


@pytest.mark.parametrize(("begun", "overwrite"), [(False, False), (True, False), (True, True)])
def test_a_cluster_is_needed_where_something_remains(
    tmp_path: Path, source: Path, connected: list[BuildOptions], begun: bool, overwrite: bool
) -> None:
    """A new target, one that was begun, and one that is to be replaced."""
    target = tmp_path / "a.ome.zarr"
    if begun:
        build_pyramid(source, target, **SMALL)
        if not overwrite:
            (target / "zarr.json").unlink()
    with pytest.raises(ClusterError):
        open_on_cluster(source, target, overwrite=overwrite)
    assert len(connected) == 1


def test_a_finished_target_needs_no_cluster(
    tmp_path: Path, source: Path, connected: list[BuildOptions]
) -> None:
    """The same command again only looks."""
    build_pyramid(source, tmp_path / "a.ome.zarr", **SMALL)
    open_on_cluster(source, tmp_path / "a.ome.zarr")
    assert connected == []


def test_a_target_of_another_is_refused_before_a_cluster_is_started(
    tmp_path: Path, source: Path, connected: list[BuildOptions]
) -> None:
    """Starting processes takes seconds, and starts code."""
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr/notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError):
        open_on_cluster(source, tmp_path / "a.ome.zarr")
    assert connected == []


def test_a_listener_of_one_level_hears_that_level(source: Path, tmp_path: Path) -> None:
    """Given with the call that writes it."""
    heard: list[Event] = []
    with Build.open(source, tmp_path / "a.ome.zarr", BuildOptions(**SMALL)) as build:
        build.write_level(1, heard.append)
        build.write_level(0)
    phases = {event.phase for event in heard if isinstance(event, Started | Finished)}
    assert phases == {"level-1"}
