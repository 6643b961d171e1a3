"""A build on a dask cluster: the same bytes, whatever happens to its processes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr

import ngff_core
from ngff_core import BuildOptions, build_pyramid, build_status, check_build
from ngff_core.build import cluster, worker
from ngff_core.build.build import Build
from ngff_core.build.cluster import Cluster
from ngff_core.build.distributed_compat import load_distributed
from ngff_core.errors import (
    ClusterError,
    ClusterUnfitError,
    InvalidOptionError,
    MemoryLimitError,
    SourceFormatError,
)
from ngff_core.progress import Advanced, Event, Finished, Started
from tests.support.folders import files

OPTIONS: dict[str, Any] = {"chunks": 16, "shards": 32, "scale_factors": [2, 4]}
REGIONS = [18, 4, 1]
QUIET: dict[str, Any] = {
    "dashboard_address": None,
    "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
}
"""No page, and no warning where another cluster has its port."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zarr array in a folder."""
    path = tmp_path_factory.mktemp("source") / "image.zarr"
    array = zarr.create_array(path, shape=(64, 96, 96), chunks=(32, 32, 32), dtype="uint16")
    array[:] = np.random.default_rng(0).integers(0, 4000, array.shape)
    return path


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pyramid as one process builds it."""
    target = tmp_path_factory.mktemp("alone") / "image.ome.zarr"
    report = build_pyramid(source, target, **OPTIONS)
    assert [level.regions for level in report.levels] == REGIONS
    return target


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A cluster of two processes with a thread each."""
    before = processes()
    with load_distributed().LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as local:
        yield local
    assert wait_until(lambda: processes() <= before)


@pytest.fixture
def client(local: Any) -> Iterator[Any]:
    """A look at the cluster from outside of the build; its workers are all there again."""
    with load_distributed().Client(local, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
        yield client


def processes() -> set[int]:
    """Children of this process but for multiprocessing's own helper."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "resource_tracker" not in " ".join(child.cmdline())
    }


def wait_until(true: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def records(target: Path) -> dict[str, bytes]:
    """What lies beside a target, but for the lease, which names a process."""
    found = files(target.with_name(f"{target.name}.build"))
    return {key: data for key, data in found.items() if not key.startswith("lease/")}


def same(target: Path, other: Path) -> bool:
    """Whether two builds are equal to the byte, ledgers and group document included."""
    return files(target) == files(other) and records(target) == records(other)


class At:
    """A listener that does something once a level has so many regions, and keeps all events."""

    def __init__(self, phase: str, done: int, what: Callable[[], None]) -> None:
        self.events: list[Event] = []
        self._when = (phase, done)
        self._what = what

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Advanced) and (event.phase, event.done) == self._when:
            self._what()


@pytest.mark.parametrize(
    "given", [{}, {"cache": "always"}, {"ome_zarr_version": "0.4", "shards": None}]
)
def test_a_cluster_writes_the_bytes_that_one_process_writes(
    given: dict[str, Any], source: Path, local: Any, tmp_path: Path
) -> None:
    """Objects, ledgers and group document, with a cache pass and without."""
    options = OPTIONS | given
    build_pyramid(source, tmp_path / "one.ome.zarr", **options)
    report = build_pyramid(
        source, tmp_path / "two.ome.zarr", dask_address=local.scheduler_address, **options
    )
    assert report.verified
    assert same(tmp_path / "two.ome.zarr", tmp_path / "one.ome.zarr")


def test_levels_are_reported_as_they_are_by_one_process(
    source: Path, local: Any, tmp_path: Path
) -> None:
    """Each level starts, advances region by region, and ends, one level after another."""
    events: list[Event] = []
    build_pyramid(
        source,
        tmp_path / "image.ome.zarr",
        dask_address=local.scheduler_address,
        progress=events.append,
        **OPTIONS,
    )
    levels = [event for event in events if str(getattr(event, "phase", "")).startswith("level")]
    expected: list[tuple[type[Any], str]] = []
    for index, regions in enumerate(REGIONS):
        name = f"level-{index}"
        expected += [(Started, name), *[(Advanced, name)] * regions, (Finished, name)]
    assert [(type(event), event.phase) for event in levels] == expected  # type: ignore[union-attr]


def test_the_scheduler_has_only_a_few_regions_at_a_time(
    source: Path, local: Any, tmp_path: Path
) -> None:
    """Two for each thread, and those released a moment ago; none at the end."""
    known: list[int] = []

    def count(event: Event) -> None:
        if isinstance(event, Advanced):
            known.append(len(local.scheduler.tasks))

    build_pyramid(
        source,
        tmp_path / "image.ome.zarr",
        dask_address=local.scheduler_address,
        progress=count,
        **OPTIONS,
    )
    assert 0 < max(known) <= 2 * 4 < REGIONS[0]
    assert wait_until(lambda: not local.scheduler.tasks)


def test_workers_import_the_core_only(local: Any, client: Any, alone: Path) -> None:
    """Neither Prefect nor the flows, so a worker's machine need not have them."""
    client.run(worker.versions)
    for loaded in client.run(lambda: {name.partition(".")[0] for name in sys.modules}).values():
        assert "ngff_core" in loaded
        assert not loaded & {"prefect", "tasks", "flows", "typer"}


def test_regions_of_a_killed_worker_are_built_elsewhere(
    source: Path, alone: Path, local: Any, client: Any, tmp_path: Path
) -> None:
    """A worker killed in the middle of a region loses nothing that is recorded."""
    victim, pid = next(iter(client.run(os.getpid).items()))
    killed: list[float] = []

    def kill(event: Event) -> None:
        if not isinstance(event, Advanced) or killed:
            return
        # Frozen first, so that it dies with regions that it was given and has not returned.
        os.kill(pid, signal.SIGSTOP)
        if local.scheduler.workers[victim].processing:
            os.kill(pid, signal.SIGKILL)
            killed.append(time.monotonic())
        else:
            # It holds what it has done until that is fetched.
            os.kill(pid, signal.SIGCONT)

    report = build_pyramid(
        source,
        tmp_path / "image.ome.zarr",
        dask_address=local.scheduler_address,
        progress=kill,
        **OPTIONS,
    )
    assert killed
    assert report.verified
    assert same(tmp_path / "image.ome.zarr", alone)


def test_a_lost_scheduler_ends_the_build_and_the_next_call_continues_it(
    source: Path, alone: Path, tmp_path: Path
) -> None:
    """It ends in seconds, with an error of our own, and what was done stays done."""
    target = tmp_path / "image.ome.zarr"
    with own_cluster(tmp_path / "scheduler.json") as (address, scheduler):
        killed: list[float] = []

        def kill() -> None:
            scheduler.kill()
            killed.append(time.monotonic())

        at = At("level-0", 5, kill)
        with pytest.raises(ClusterError, match="run the same command again"):
            build_pyramid(source, target, dask_address=address, progress=at, **OPTIONS)
        assert time.monotonic() - killed[0] < 25
    done = build_status(target).levels[0].done
    assert done >= 5
    report = build_pyramid(source, target, **OPTIONS)
    assert report.levels[0].fresh == REGIONS[0] - done
    assert same(target, alone)


@contextmanager
def own_cluster(where: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and a worker in processes of their own; the scheduler may be killed."""
    options = ["--scheduler-file", str(where), "--no-dashboard"]
    with ExitStack() as running:
        scheduler = start("dask_scheduler", *options, "--port", "0", "--host", "127.0.0.1")
        running.callback(end, scheduler)
        assert wait_until(where.exists, seconds=120)
        running.callback(end, start("dask_worker", *options, "--nthreads", "1", "--no-nanny"))
        yield json.loads(where.read_text())["address"], scheduler


def start(module: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_a_region_that_fails_ends_the_build_with_its_error(
    source: Path, local: Any, client: Any, tmp_path: Path
) -> None:
    """The error of the worker; what others finished is recorded, and secrets are not logged."""
    broken = tmp_path / "broken.zarr"
    shutil.copytree(source, broken)
    chunk = max(broken.glob("c/*/*/*"))
    chunk.write_bytes(chunk.read_bytes()[:-9])
    earlier = tmp_path / "image.ome.zarr"
    options = BuildOptions(**OPTIONS, dask_address=local.scheduler_address)
    secret = {"token": "s3cr3t"}
    with Build.open(broken, earlier, options, storage_options=secret) as build:
        build._session.begun_here = False  # as if an earlier run had begun it, so that it is kept
        with pytest.raises(SourceFormatError, match="cannot decode"):
            build.write_level(0)
        assert 0 < len(build._session.stored.ledgers[0].receipts) < REGIONS[0]
    told = str(client.get_worker_logs()) + str(client.get_scheduler_logs())
    assert "build_region" in told, "dask tells of the task that failed"
    assert "s3cr3t" not in told


def test_started_processes_do_the_work_and_are_gone_afterwards(
    source: Path, alone: Path, tmp_path: Path
) -> None:
    """No process and no thread of dask's loops is left, and no pyramid differs."""
    before, threads = processes(), set(threading.enumerate())
    report = build_pyramid(source, tmp_path / "image.ome.zarr", dask_workers=1, **OPTIONS)
    assert report.verified
    assert same(tmp_path / "image.ome.zarr", alone)
    assert wait_until(lambda: processes() <= before)

    def left() -> list[str]:
        # An executor of dask's, and one of asyncio's, are kept for the next cluster.
        kept = ("Dask-Offload", "asyncio_", "zarr_io")
        new = set(threading.enumerate()) - threads
        return [thread.name for thread in new if not thread.name.startswith(kept)]

    assert wait_until(lambda: not left()), left()


def test_nothing_is_started_for_a_finished_build(source: Path, alone: Path) -> None:
    """There is nothing to do for a cluster, so not even its scheduler is asked."""
    report = build_pyramid(source, alone, dask_address="tcp://127.0.0.1:9", **OPTIONS)
    assert report.fresh == 0


def test_memory_is_counted_for_each_process(source: Path, local: Any, tmp_path: Path) -> None:
    """A region for each thread, no level streamed, and a limit that is too small refused."""
    options = BuildOptions(**OPTIONS, dask_address=local.scheduler_address, memory_limit="1GiB")
    with Build.open(source, tmp_path / "image.ome.zarr", options) as build:
        cost = build.planned.projection
        assert (cost.in_flight, cost.streamed, cost.memory_limit) == (1, (), 2**30)
    small = dataclasses.replace(options, memory_limit="1MiB")
    with pytest.raises(MemoryLimitError):
        check_build(source, tmp_path / "other.ome.zarr", small)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"dask_workers": 1, "dask_address": "tcp://a:1"}, "give one of them"),
        ({"dask_workers": 0}, "dask_workers: 0 is not a positive"),
        ({"dask_address": "10.0.0.1"}, "not the address of a scheduler"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    given: dict[str, Any], what: str, source: Path, tmp_path: Path
) -> None:
    """Before anything is connected to or written."""
    with pytest.raises(InvalidOptionError, match=what):
        check_build(source, tmp_path / "image.ome.zarr", BuildOptions(**given))


def test_an_unknown_kind_of_address_is_refused(source: Path, tmp_path: Path) -> None:
    """The message quotes it."""
    with pytest.raises(InvalidOptionError, match="http://a:1"):
        build_pyramid(source, tmp_path / "image.ome.zarr", dask_address="http://a:1")
    assert not list(tmp_path.iterdir())


def test_what_workers_cannot_see_is_refused(
    source: Path, tmp_path: Path, memory_filesystem: Any
) -> None:
    """Arrays of this process, and what lies in its memory; the message says what to do."""
    two = BuildOptions(dask_workers=2)
    image = np.zeros((32, 32), "u1")
    with pytest.raises(InvalidOptionError, match="save it first"):
        check_build(image, tmp_path / "image.ome.zarr", two)
    with pytest.raises(InvalidOptionError, match="target: memory://"):
        check_build(source, "memory://a/image.ome.zarr", two)
    ngff_core.build_pyramid(image, "memory://a/built.ome.zarr")
    with pytest.raises(InvalidOptionError, match="source: memory://"):
        check_build("memory://a/built.ome.zarr", tmp_path / "image.ome.zarr", two)


def test_threads_of_this_process_may_use_its_memory(source: Path, memory_filesystem: Any) -> None:
    """A cluster without processes sees what its builder sees."""
    with load_distributed().LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, **QUIET
    ) as threads:
        report = build_pyramid(
            source,
            "memory://a/threads.ome.zarr",
            dask_address=threads.scheduler_address,
            **OPTIONS,
        )
    assert report.verified


def test_without_the_package_the_error_names_the_extra(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    monkeypatch.setattr("ngff_core.build.planning.find_spec", lambda name: None)
    with pytest.raises(InvalidOptionError, match=r"ngff-flows\[cluster\]"):
        check_build(source, tmp_path / "image.ome.zarr", BuildOptions(dask_workers=1))


def test_no_scheduler_is_an_error_that_may_pass(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where nobody answers, and nothing is written."""
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(ClusterError, match="no dask scheduler answers at tcp://127"):
        build_pyramid(source, tmp_path / "image.ome.zarr", dask_address="tcp://127.0.0.1:9")
    assert not list(tmp_path.iterdir())


def test_workers_with_other_versions_are_refused(
    source: Path, local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names what differs, and nothing is written."""
    ours = worker._version
    monkeypatch.setattr(worker, "_version", lambda of: "0.1" if of == "numcodecs" else ours(of))
    with pytest.raises(ClusterUnfitError, match=r"numcodecs 0\S+ instead of 0\.1,"):
        build_pyramid(source, tmp_path / "image.ome.zarr", dask_address=local.scheduler_address)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def work_order(source: Path, tmp_path: Path) -> Iterator[worker.WorkOrder]:
    """The work order of a build that was begun."""
    options = BuildOptions(**OPTIONS)
    with Build.open(source, tmp_path / "image.ome.zarr", options) as build:
        yield worker.WorkOrder(
            token="test",
            source=worker.WorkSource(str(source), (32, 32, 32), cached=False),
            target=str(tmp_path / "image.ome.zarr"),
            digest=build.plan.digest,
            at_once=1,
            storage_options={"token": "s3cr3t"},
        )
    worker.close_build("test")


def test_a_worker_that_sees_another_place_says_so(
    work_order: worker.WorkOrder, tmp_path: Path
) -> None:
    """Paths of a machine that does not share them: no plan, another one, another source."""
    worker.check_worker(work_order, needs_source=True)
    worker.close_build("test")
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), chunks=(8, 8), dtype="u1")
    array[:] = 1

    def source_at(path: Path) -> worker.WorkSource:
        return dataclasses.replace(work_order.source, uri=str(path))

    for change, what in (
        ({"target": str(tmp_path / "elsewhere")}, "finds no plan at"),
        ({"digest": "0" * 64}, "finds another plan at"),
        ({"source": source_at(tmp_path / "nowhere")}, "cannot read the source"),
        ({"source": source_at(tmp_path / "a.zarr")}, "sees another"),
        ({"versions": {"zarr": "2.0"}}, "zarr 3.* instead of 2.0"),
    ):
        with pytest.raises(ClusterUnfitError, match=what):
            worker.check_worker(dataclasses.replace(work_order, **change), needs_source=True)
        worker.close_build("test")


def test_secrets_are_not_shown(work_order: worker.WorkOrder) -> None:
    """Dask logs the arguments of a task that fails."""
    assert "s3cr3t" not in repr(work_order)


def test_processes_that_are_started_take_no_orders_of_strangers() -> None:
    """Who can reach a scheduler can run code; without the keys of this run nobody can."""
    distributed = pytest.importorskip("distributed")
    cluster = Cluster.connect(BuildOptions(dask_workers=1, workers=1))
    try:
        address = cluster._local.scheduler_address
        assert address.startswith("tls://127.0.0.1:")
        plain = address.replace("tls://", "tcp://")
        with pytest.raises((OSError, TypeError, ValueError)):
            distributed.Client(plain, timeout=3, set_as_default=False)
        stranger = distributed.security.Security.temporary()
        with pytest.raises((OSError, TypeError, ValueError)):
            distributed.Client(address, timeout=3, set_as_default=False, security=stranger)
    finally:
        cluster.close()
