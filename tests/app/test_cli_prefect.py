"""The command `ngff-flows` with Prefect: run pages, clusters, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr

from ngff_core import BuildOptions
from ngff_flows.cli.run_flow import run_flow
from tests.support.command import SMALL, Command, through_prefect
from tests.support.folders import contents


def test_json_of_a_build_through_prefect(prefect_server: None, source: Path, target: Path) -> None:
    """Prefect's log goes to standard error, so the document stands alone with a run page too."""
    answer = through_prefect(
        source.parent, "build", source.name, target.name, "--chunks", "[[16], [16]]", "--json"
    )
    assert answer.status == 0, answer.err
    assert answer.document["verified"] is True
    assert answer.document["target"] == str(target)
    assert "Beginning flow run 'build-pyramid/out.ome.zarr'" in answer.err


@pytest.fixture
def running() -> Iterator[Any]:
    """A running cluster of one worker."""
    from ngff_core.build.distributed_compat import load_distributed

    with load_distributed().LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as local:
        yield local


def test_clusters_build_through_prefect(
    prefect_server: None,
    run: Command,
    source: Path,
    target: Path,
    running: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes started for it, and a cluster that runs already: the bytes of one process."""
    run("build", source, target, "--no-prefect", *SMALL)
    begun = source.with_name("begun.py")
    begun.write_text(f"import os\nopen({str(begun)!r} + f'-{{os.getpid()}}', 'w').close()\n")
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str(begun))
    for name, where in (
        ("started", "--dask-workers=2"),
        ("running", f"--dask-address={running.scheduler_address}"),
    ):
        built = target.with_name(f"{name}.ome.zarr")
        answer = through_prefect(source.parent, "build", source, built, *SMALL, where)
        assert answer.status == 0, answer.err
        assert "20 regions written in " in answer.out
        assert "Task run 'level-0' - level-0: 16 regions in " in answer.err
        assert "Traceback" not in answer.err
        assert contents(built) == contents(target)
    assert len(list(source.parent.glob("begun.py-*"))) == 2
    assert running.scheduler.transition_counter >= 20


def test_run_page_shows_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run's page names can be found from any folder, and so can a worker's retry."""
    given: list[str] = []

    class Ended:
        state_details = SimpleNamespace(flow_run_id="7")

        def result(self) -> str:
            return "report"

    def flow(source: str, target: str, *_: object, **__: object) -> Ended:
        given.extend((source, target))
        return Ended()

    for name in ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    monkeypatch.setattr("flows.build_pyramid.build_pyramid", flow)
    monkeypatch.chdir(tmp_path)
    assert run_flow("image.npy", "gs://ward/out.ome.zarr", BuildOptions()) == ("report", "7")
    assert given == [str(tmp_path / "image.npy"), "gs://ward/out.ome.zarr"]


def test_refusal_by_prefect_is_a_line_too(
    prefect_server: None, tmp_path: Path, target: Path
) -> None:
    """A source that turns out to be broken is reported in one line, without a traceback."""
    broken = tmp_path / "broken.zarr"
    zarr.save_array(broken, np.arange(4096, dtype=np.uint16).reshape(64, 64))
    [chunk] = [path for path in (broken / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(b"not what zstd would write")
    answer = through_prefect(tmp_path, "build", broken, target)
    assert answer.status == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert answer.err.splitlines()[-1].startswith(f"ngff-flows: {broken}: cannot decode the box [")
