"""Ways in which a pyramid could be silently wrong or data lost, each once seen."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import ngff_core
from ngff_core import BuildOptions, NgffImage, build_pyramid, verify_pyramid
from ngff_core.build.build import Build
from ngff_core.errors import (
    InvalidOptionError,
    LeaseLostError,
    SourceChangedError,
    SourceFormatError,
    StoredDataError,
)
from ngff_core.plan.layout import LevelPaths
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.progress import Advanced, Event
from ngff_core.pyramid.publish import group_documents
from ngff_core.records.ledger import Ledger
from ngff_core.storage import open_store

QUICK: dict[str, Any] = {
    "method": "itkwasm_bin_shrink",
    "chunks": 16,
    "shards": 32,
    "scale_factors": [2, 4],
}


def noise(seed: int = 0, shape: tuple[int, ...] = (64, 96, 96)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.uint16)


def pixels(target: Path, level: int = 0) -> np.ndarray:
    return np.asarray(zarr.open_array(target, path=f"{level}", mode="r")[:])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A zarr array in a folder."""
    path = tmp_path / "source.zarr"
    array = zarr.create_array(path, shape=(64, 96, 96), chunks=(32, 32, 32), dtype="uint16")
    array[:] = noise()
    return path


@pytest.mark.parametrize("spelling", ["{0}", "{0}/../{1}", "{0}/", "{0}/inner.ome.zarr", "link"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_no_spelling_of_the_source_is_a_target(
    source: Path, spelling: str, overwrite: bool, tmp_path: Path
) -> None:
    """Naming the source as target, however it is spelled, leaves the source as it is."""
    (tmp_path / "link").symlink_to(source, target_is_directory=True)
    name = tmp_path / "link" if spelling == "link" else spelling.format(source, source.name)
    with pytest.raises(InvalidOptionError, match="overlap"):
        build_pyramid(str(source), str(name), overwrite=overwrite, **QUICK)
    assert (zarr.open_array(source, mode="r")[:] == noise()).all()


def test_the_build_folder_of_a_target_is_no_source(tmp_path: Path) -> None:
    """A build writes into TARGET.build, so that cannot be read from."""
    beside = tmp_path / "a.ome.zarr.build"
    zarr.create_array(beside, shape=(64, 64), chunks=(64, 64), dtype="uint8")
    with pytest.raises(InvalidOptionError, match="overlap"):
        build_pyramid(beside, tmp_path / "a.ome.zarr", **QUICK)


def test_slashes_do_not_hide_the_source_in_memory(memory_filesystem: Any) -> None:
    """One place has many URIs."""
    zarr.create_array(
        open_store("memory://b/s").zarr(read_only=False), shape=(64, 64), dtype="uint8"
    )
    with pytest.raises(InvalidOptionError, match="overlap"):
        build_pyramid("memory://b/s", "memory:///b//s", overwrite=True, **QUICK)


def test_overwriting_a_name_with_wildcards_spares_its_neighbours(memory_filesystem: Any) -> None:
    """Names are names, also where a filesystem would read them as patterns."""
    build_pyramid(noise(1), "memory://n/scanA.ome.zarr", **QUICK)
    for seed in (2, 3):
        report = build_pyramid(noise(seed), "memory://n/scan?.ome.zarr", overwrite=True, **QUICK)
        assert report.verified
    assert verify_pyramid("memory://n/scanA.ome.zarr", deep=True).ok
    named = NgffImage(noise(4), dims="zyx", name="S [1]")
    for _ in range(2):
        assert build_pyramid(named, "memory://n/s[1].ome.zarr", overwrite=True, **QUICK).verified


@pytest.mark.parametrize("cache", ["never", "always"])
@pytest.mark.parametrize("far", [False, True])
def test_a_source_that_changes_while_it_is_read_is_not_published(
    tmp_path: Path, memory_filesystem: Any, cache: str, far: bool
) -> None:
    """Half old and half new samples are no image; nothing of them stays recorded.

    Where the target is far away levels are finished beside each other.
    """
    source = tmp_path / "a.npy"
    target = "memory://changed/a.ome.zarr" if far else str(tmp_path / "a.ome.zarr")
    np.save(source, noise(1))

    def replace(event: Event) -> None:
        if isinstance(event, Advanced) and event.phase != "verify" and event.done == 1:
            np.save(tmp_path / "next.npy", noise(2))
            os.replace(tmp_path / "next.npy", source)

    with pytest.raises(SourceChangedError, match="changed while it was read"):
        build_pyramid(source, target, cache=cache, progress=replace, **QUICK)
    assert open_store(target).read("zarr.json") is None
    assert open_store(f"{target}.build").objects("ledger") == {}
    with pytest.raises(SourceChangedError, match="overwrite"):
        build_pyramid(source, target, cache=cache, **QUICK)
    assert build_pyramid(source, target, cache=cache, overwrite=True, **QUICK).verified
    assert (pixels(target) == noise(2)).all()


def lose(target: Path, how: str) -> None:
    victim = target / "0/c/1/1/1"
    victim.unlink() if how == "missing" else victim.write_bytes(b"")


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_an_object_lost_before_a_resume_is_written_again(tmp_path: Path, how: str) -> None:
    """A receipt counts for as long as its objects are there."""
    target = tmp_path / "a.ome.zarr"
    build_pyramid(noise(), target, **QUICK)
    (target / "zarr.json").unlink()
    lose(target, how)
    report = build_pyramid(noise(), target, **QUICK)
    assert [level.fresh for level in report.levels] == [1, 0, 0]
    assert report.verified
    assert verify_pyramid(target, deep=True).ok


def test_overwrite_repairs_a_finished_pyramid(tmp_path: Path) -> None:
    """The same command says what is wrong; with overwrite it builds just that again."""
    target = tmp_path / "a.ome.zarr"
    build_pyramid(noise(), target, **QUICK)
    lose(target, "missing")
    assert not build_pyramid(noise(), target, **QUICK).verified
    report = build_pyramid(noise(), target, overwrite=True, **QUICK)
    assert [level.fresh for level in report.levels] == [1, 0, 0]
    assert verify_pyramid(target, deep=True).ok


def test_an_object_lost_during_a_build_is_reported_and_then_written_again(tmp_path: Path) -> None:
    """The next level cannot be computed; the message says that the same command repairs it."""
    target = tmp_path / "a.ome.zarr"

    def damage(event: Event) -> None:
        if isinstance(event, Advanced) and event.phase == "level-0" and event.done == event.total:
            lose(target, "missing")

    with pytest.raises(StoredDataError, match="run the same command again"):
        build_pyramid(noise(), target, progress=damage, **QUICK)
    assert build_pyramid(noise(), target, **QUICK).verified


def test_nothing_is_published_with_an_object_missing(tmp_path: Path) -> None:
    """Lost after the last level and before publishing: no image appears."""
    target = tmp_path / "a.ome.zarr"
    with Build.open(noise(), target, BuildOptions(**QUICK)) as build:
        for level in build.plan.levels:
            build.write_level(level.index)
        shutil.rmtree(target / "2/c")
        with pytest.raises(StoredDataError, match="nothing is published"):
            build.publish()
    assert not (target / "zarr.json").exists()
    assert build_pyramid(noise(), target, **QUICK).verified


def test_a_builder_that_lost_its_lease_writes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither samples nor receipts: they would be the other builder's now."""
    target = tmp_path / "a.ome.zarr"
    beside = open_store(tmp_path / "a.ome.zarr.build")
    flushed = []
    monkeypatch.setattr(Ledger, "flush", flushed.append)
    with Build.open(noise(), target, BuildOptions(**QUICK, workers=1)) as build:
        beside.write("lease/000002.json", b"{}")
        monkeypatch.setattr(build._session._lease, "_renewed_at", 0.0)
        with pytest.raises(LeaseLostError):
            build.write_level(0)
    assert not list(target.rglob("c/*/*/*"))
    assert not flushed


def test_another_patch_of_a_package_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published metadata names the versions of its day, and stays valid."""
    target = tmp_path / "a.ome.zarr"
    build_pyramid(noise(), target, **QUICK)
    monkeypatch.setattr("ngff_core.kernels.methods.version", lambda package: "9.9.9")
    assert verify_pyramid(target).ok
    report = build_pyramid(noise(), target, **QUICK)
    assert report.fresh == 0
    assert report.verified


def test_metadata_spelled_otherwise_is_no_damage(tmp_path: Path) -> None:
    """JSON may be indented by taste."""
    target = tmp_path / "a.ome.zarr"
    build_pyramid(noise(), target, **QUICK)
    plan = PyramidPlan.from_json((tmp_path / "a.ome.zarr.build/plan.json").read_bytes())
    document = target / next(iter(group_documents(plan)))
    document.write_text(document.read_text().replace("\n", " "))
    assert verify_pyramid(target).ok


@pytest.mark.parametrize(
    "name", ["zarr.json", ".zattrs", "a" * 300, "a\0b", "a\nb", "a/b", "..", "Field #1"]
)
@pytest.mark.parametrize("paths", ["flat", "named"])
def test_any_name_is_written_and_none_becomes_a_path(
    tmp_path: Path, name: str, paths: LevelPaths
) -> None:
    """Also where the paths are made of names."""
    image = NgffImage(noise(), dims="zyx", name=name)
    report = build_pyramid(image, tmp_path / "a.ome.zarr", level_paths=paths, **QUICK)
    assert report.verified
    document = json.loads((tmp_path / "a.ome.zarr/zarr.json").read_bytes())
    assert document["attributes"]["ome"]["multiscales"][0]["name"] == name
    for level in report.levels:
        assert re.fullmatch(r"[0-9]|scale[0-9]/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", level.path)


@pytest.mark.parametrize(("chunks", "shards"), [(2048, 1000), (256, 700), (16, 64)])
def test_shards_longer_than_the_image_hold_all_of_it(
    tmp_path: Path, chunks: int, shards: int
) -> None:
    """One object per level where one shard covers it."""
    image = noise(shape=(60, 70))
    report = ngff_core.build_pyramid(
        image, tmp_path / "a.ome.zarr", chunks=chunks, shards=shards, scale_factors=[2]
    )
    assert report.verified
    assert [level.regions for level in report.levels] == ([1, 1] if shards > 64 else [2, 1])


@pytest.mark.parametrize("cache", ["never", "always"])
def test_nothing_is_left_of_a_source_that_cannot_be_decoded(
    source: Path, cache: str, tmp_path: Path
) -> None:
    """A broken chunk shows only when it is read; the repaired source is built from scratch."""
    victim = source / "c/1/2/2"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceFormatError, match="cannot decode"):
        build_pyramid(source, tmp_path / "a.ome.zarr", cache=cache, **QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["source.zarr"]
    victim.write_bytes(whole)
    assert build_pyramid(source, tmp_path / "a.ome.zarr", cache=cache, **QUICK).verified


def test_a_source_that_breaks_later_costs_nothing_that_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building one lost object again from a broken source leaves the rest of the pyramid."""
    source, target = tmp_path / "a.npy", tmp_path / "a.ome.zarr"
    np.save(source, noise())
    build_pyramid(source, target, **QUICK)
    lose(target, "missing")
    before = sorted(path for path in target.rglob("*") if path.is_file())

    def broken(self: Any, key: Any) -> Any:
        raise SourceFormatError("cannot decode")

    with monkeypatch.context() as patch:
        patch.setattr("ngff_core.sources.base.Reader.region", broken)
        with pytest.raises(SourceFormatError):
            build_pyramid(source, target, overwrite=True, **QUICK)
    assert sorted(path for path in target.rglob("*") if path.is_file()) == before
    assert build_pyramid(source, target, overwrite=True, **QUICK).verified
