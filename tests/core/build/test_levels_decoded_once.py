"""Builds whose levels are computed from stored parents: each chunk is decoded once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest

from ngff_core import NgffImage, build_pyramid
from ngff_core.build import planning
from ngff_core.build.build import Build
from ngff_core.plan.halos import level_halos
from ngff_core.plan.options import BuildOptions
from ngff_core.plan.projection import project
from ngff_core.records.build_folder import read_plan, target_stores
from ngff_core.records.halo_files import HaloFiles
from tests.support.folders import files

GIVEN: dict[str, Any] = {"chunks": 8, "shards": 16, "scale_factors": [2, 4]}
IMAGE = np.random.default_rng(3).integers(0, 2**16, (70, 66, 90), "u2")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of the chunks that were decoded, one by one."""
    found: list[int] = []
    inner = numcodecs.Blosc.decode

    def decode(self: Any, *given: Any) -> Any:
        chunk = inner(self, *given)
        found.append(len(memoryview(chunk).cast("B")))
        return chunk

    monkeypatch.setattr(numcodecs.Blosc, "decode", decode)
    return found


def no_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all levels computed from what their parents have stored."""
    monkeypatch.setattr(
        planning, "project", lambda *given, **named: project(*given, **named | {"stream": False})
    )


def parents_bytes(build: Build) -> int:
    """Bytes of the chunks of all levels that others are computed from."""
    parents = [build.plan.levels[level.parent or 0] for level in build.plan.levels[1:]]
    return sum(
        math.prod(-(-n // c) * c for n, c in zip(level.shape, level.chunks, strict=True)) * 2
        for level in parents
    )


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("shape", [(70, 66, 90), (64, 64, 96), (130, 150)])
def test_levels_read_back_are_decoded_once(
    shape: Any, version: str, workers: int, tmp_path: Path, decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each chunk of each level once, for a kernel with a halo; and the bytes are the same."""
    image = NgffImage(
        np.random.default_rng(3).integers(0, 2**16, shape, "u2"), "zyx"[-len(shape) :]
    )
    given = {"chunks": 8, "scale_factors": [2, 4], "ome_zarr_version": version}
    monkeypatch.setattr("ngff_core.plan.layout.BLOCK_BYTES", 2 * 16 ** len(shape))
    build_pyramid(image, tmp_path / "streamed", **given)
    assert decoded == []
    no_streams(monkeypatch)
    with Build.open(image, tmp_path / "apart", BuildOptions(**given, workers=workers)) as build:
        assert set(level_halos(build.plan, ())) == {1, 2}
        for index in range(3):
            build.write_level(index)
        assert sum(decoded) == parents_bytes(build)
        cost = build.planned.projection
        strips = sum(phase.halo_bytes for phase in cost.phases)
        apart = sum(phase.bytes_read for phase in cost.phases[1:]) - strips
        raw = sum(math.prod(build.plan.levels[k].shape) * 2 for k in (0, 1))
        assert raw == apart <= sum(decoded)
        build.publish()
        assert build.verify().ok
    assert files(tmp_path / "streamed") == files(tmp_path / "apart")
    assert not list((tmp_path / "apart.build").glob("halos-*"))


def test_a_cluster_decodes_levels_once(
    tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one worker stores a region and another reads it for the next level."""
    distributed = pytest.importorskip("distributed")
    np.save(tmp_path / "in.npy", IMAGE)
    build_pyramid(tmp_path / "in.npy", tmp_path / "one", **GIVEN)
    assert decoded == []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as local:
        options = BuildOptions(**GIVEN, dask_address=local.scheduler_address)
        with Build.open(tmp_path / "in.npy", tmp_path / "two", options) as build:
            for index in range(3):
                build.write_level(index)
            assert sum(decoded) == parents_bytes(build)
            build.publish()
            build.clean()
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not list((tmp_path / "two.build").glob("halos-*"))


class StoppedError(Exception):
    """A test stops a build."""


def stop_at(monkeypatch: pytest.MonkeyPatch, index: int, after: int) -> None:
    """Have a level's store fail once so many of its regions are stored."""
    from ngff_core.build.level_writer import LevelWriter

    stored, done = LevelWriter.store, []

    def store(self: LevelWriter, region: int, samples: Any) -> Any:
        if self._level.index == index:
            if len(done) == after:
                raise StoppedError
            done.append(region)
        return stored(self, region, samples)

    monkeypatch.setattr(LevelWriter, "store", store)


@pytest.mark.parametrize("lost", ["none", "some", "all"])
def test_a_resumed_build_reads_the_halo_strips_that_are_left(
    lost: str, tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of them each chunk is decoded once, with fewer more are; nothing else differs."""
    image = NgffImage(IMAGE, "zyx")
    build_pyramid(image, tmp_path / "one", **GIVEN)
    with monkeypatch.context() as patch:
        no_streams(patch)
        with patch.context() as stopped:
            stop_at(stopped, 1, after=2)
            with pytest.raises(StoppedError):
                build_pyramid(image, tmp_path / "two", workers=1, **GIVEN)
        strips = sorted(p for p in (tmp_path / "two.build/halos-1").rglob("*") if p.is_file())
        assert len(strips) == 1 + level_halos(plan_two(tmp_path), ())[1].objects
        for path in strips[:: {"none": len(strips) + 1, "some": 3, "all": 1}[lost]]:
            path.unlink() if lost != "none" else None
        decoded.clear()
        with Build.open(image, tmp_path / "two", BuildOptions(**GIVEN)) as build:
            whole = parents_bytes(build)
        report = build_pyramid(image, tmp_path / "two", **GIVEN)
    assert report.verified
    assert report.levels[0].fresh == 0
    assert (sum(decoded) <= whole) is (lost == "none")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not list((tmp_path / "two.build").glob("halos-*"))


def plan_two(folder: Path) -> Any:
    return read_plan(*target_stores(str(folder / "two"), None))


def test_halo_strips_of_a_run_with_less_memory_are_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun without streaming, finished with it: none of them stays in the build folder."""
    image = NgffImage(IMAGE, "zyx")
    with monkeypatch.context() as patch:
        no_streams(patch)
        stop_at(patch, 1, after=2)
        with pytest.raises(StoppedError):
            build_pyramid(image, tmp_path / "two", **GIVEN)
    assert list((tmp_path / "two.build").glob("halos-*"))
    assert build_pyramid(image, tmp_path / "two", **GIVEN).verified
    assert not list((tmp_path / "two.build").glob("halos-*"))


def test_halo_strips_that_cannot_be_removed_at_once_are_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their level is finished all the same."""

    def refuse(self: HaloFiles) -> None:
        raise OSError("not now")

    monkeypatch.setattr(HaloFiles, "remove", refuse)
    no_streams(monkeypatch)
    assert build_pyramid(NgffImage(IMAGE, "zyx"), tmp_path / "two", **GIVEN).verified
    assert not list((tmp_path / "two.build").glob("halos-*"))


def test_a_run_that_finds_the_build_finished_removes_no_halo_strips(tmp_path: Path) -> None:
    """They may be those of another builder, which has begun again meanwhile."""
    image = NgffImage(IMAGE, "zyx")
    build_pyramid(image, tmp_path / "two", **GIVEN)
    strip = tmp_path / "two.build/halos-1/0/0/0"
    strip.parent.mkdir(parents=True)
    strip.write_bytes(b"strip")
    assert build_pyramid(image, tmp_path / "two", **GIVEN).verified
    assert strip.exists()


def test_overwriting_removes_halo_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an abandoned build, before another one begins there."""
    image = NgffImage(IMAGE, "zyx")
    with monkeypatch.context() as patch:
        no_streams(patch)
        stop_at(patch, 1, after=2)
        with pytest.raises(StoppedError):
            build_pyramid(image, tmp_path / "two", **GIVEN)
    other = GIVEN | {"scale_factors": []}
    build_pyramid(image, tmp_path / "two", overwrite=True, **other)
    assert not list((tmp_path / "two.build").glob("halos-*"))
