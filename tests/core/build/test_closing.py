"""Closing a build releases all that it opened, in reverse, whatever step of it fails."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import BuildOptions, build_status
from ngff_core.build import build as build_module
from ngff_core.build.build import Build
from ngff_core.build.cluster import Cluster
from ngff_core.build.driver import Driver
from ngff_core.errors import TargetExistsError
from ngff_core.records.lease import Lease
from ngff_core.sources import Source

SMALL: dict[str, Any] = {"chunks": 16, "shards": 16, "scale_factors": [2]}
THREADS = ("ngff-driver", "ngff-region", "ngff-finish", "ngff-lease")


class BrokenError(Exception):
    """What a step of closing raises."""


class FakeCluster(Cluster):
    """A cluster without workers: enough to open a build on it."""

    def __init__(self) -> None:
        self.at_once, self.memory_limit = 1, 2**30

    def close_build(self, token: str) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def array(tmp_path: Path) -> Path:
    """A source that every process sees."""
    np.save(tmp_path / "in.npy", np.arange(4096, dtype="u2").reshape(64, 64))
    return tmp_path / "in.npy"


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was released, in order."""
    found: list[str] = []

    def watch(owner: type, name: str, step: str) -> None:
        inner = getattr(owner, name)

        def released(self: Any, *given: Any) -> Any:
            found.append(step)
            return inner(self, *given)

        monkeypatch.setattr(owner, name, released)

    watch(Driver, "stop", "driver")
    watch(FakeCluster, "close", "cluster")
    watch(Lease, "__exit__", "lease")
    watch(Source, "close", "source")
    monkeypatch.setattr(Cluster, "connect", classmethod(lambda cls, options: FakeCluster()))
    return found


def steps(closed: list[str]) -> list[str]:
    """The steps without repetitions."""
    return list(dict.fromkeys(closed))


def opened(array: Path, target: Path) -> Build:
    return Build.open(array, target, BuildOptions(**SMALL, dask_address="tcp://127.0.0.1:1"))


def nothing_left(target: Path) -> bool:
    """Whether nobody holds the target, and no thread of a build is left."""
    threads = [t.name for t in threading.enumerate() if t.name.startswith(THREADS)]
    return build_status(target).builder is None and not threads


def test_a_build_closes_the_cluster_before_the_lease_and_the_source_last(
    array: Path, tmp_path: Path, closed: list[str]
) -> None:
    """A worker that still writes must not write beside another builder."""
    with opened(array, tmp_path / "out.ome.zarr"):
        assert closed == []
    assert steps(closed) == ["driver", "cluster", "lease", "source"]
    assert nothing_left(tmp_path / "out.ome.zarr")


@pytest.mark.parametrize(
    ("owner", "step"),
    [(Driver, "stop"), (FakeCluster, "close_build"), (FakeCluster, "close"), (Lease, "__exit__")],
)
def test_a_step_of_closing_that_fails_skips_no_other(
    owner: type, step: str, array: Path, tmp_path: Path, closed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its error is raised all the same, after lease, threads and source are released."""
    inner = getattr(owner, step)

    def broken(self: Any, *given: Any) -> None:
        inner(self, *given)
        raise BrokenError

    monkeypatch.setattr(owner, step, broken)
    build = opened(array, tmp_path / "out.ome.zarr")
    with pytest.raises(BrokenError):
        build.close()
    assert steps(closed) == ["driver", "cluster", "lease", "source"]
    assert nothing_left(tmp_path / "out.ome.zarr")


def test_a_build_may_be_closed_twice(array: Path, tmp_path: Path, closed: list[str]) -> None:
    """The second time does nothing."""
    build = opened(array, tmp_path / "out.ome.zarr")
    build.close()
    before = list(closed)
    build.close()
    assert closed == before


def test_a_build_that_cannot_be_opened_keeps_nothing_open(
    array: Path, tmp_path: Path, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the target is refused, nor where the last step of opening fails."""
    taken = tmp_path / "taken.ome.zarr"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(TargetExistsError):
        opened(array, taken)
    assert steps(closed) == ["source"]
    closed.clear()

    def broken(self: Any, *given: Any, **named: Any) -> None:
        raise BrokenError

    monkeypatch.setattr(build_module.Driver, "__init__", broken)
    with pytest.raises(BrokenError):
        opened(array, tmp_path / "out.ome.zarr")
    assert steps(closed) == ["cluster", "lease", "source"]
    assert nothing_left(tmp_path / "out.ome.zarr")
