"""Finding builds below a prefix, and removing what dead builds left, never more."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import Build, BuildOptions, build_pyramid, clean_build, find_targets
from ngff_core.storage import open_store
from tests.support.folders import contents

DAY = 86400.0
SAMPLES = np.arange(64 * 64, dtype="u2").reshape(64, 64)
OPTIONS: dict[str, Any] = {"scale_factors": [2], "chunks": 16, "shards": 32}


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A finished pyramid."""
    build_pyramid(SAMPLES, tmp_path / "done.ome.zarr", **OPTIONS)
    return tmp_path / "done.ome.zarr"


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A build that ended after its first level."""
    build_pyramid(SAMPLES, tmp_path / "half.ome.zarr", **OPTIONS)
    (tmp_path / "half.ome.zarr/zarr.json").unlink()
    shutil.rmtree(tmp_path / "half.ome.zarr.build/ledger/1")
    return tmp_path / "half.ome.zarr"


def age(target: Path, days: float) -> None:
    """Make a target and its build folder look so many days old."""
    moment = time.time() - days * DAY
    for folder in (target, target.with_name(f"{target.name}.build")):
        for path in folder.rglob("*"):
            os.utime(path, (moment, moment))


def test_targets_are_found_wherever_they_lie(published: Path, half: Path, tmp_path: Path) -> None:
    """By the plan beside them: not other images, not a folder that only has such a name."""
    (tmp_path / "deep/er").mkdir(parents=True)
    for name in ("done.ome.zarr", "done.ome.zarr.build"):
        shutil.copytree(tmp_path / name, tmp_path / "deep/er" / name)
    (tmp_path / "my.build").mkdir()
    (tmp_path / "other.zarr/deep/x.build").mkdir(parents=True)
    (tmp_path / "other.zarr/zarr.json").write_text("{}")
    (tmp_path / "other.zarr/deep/x.build/plan.json").write_text("{}")
    found = list(find_targets(str(tmp_path)))
    assert found == [
        f"{tmp_path}/deep/er/done.ome.zarr",
        f"{tmp_path}/done.ome.zarr",
        f"{tmp_path}/half.ome.zarr",
    ]
    assert list(find_targets(str(published))) == [str(published)]
    assert list(find_targets(str(tmp_path / "missing"))) == []


def test_targets_are_found_in_buckets(memory_filesystem: object) -> None:
    """The same by fsspec."""
    build_pyramid(SAMPLES, "memory://lab/a/one.ome.zarr", **OPTIONS)
    build_pyramid(SAMPLES, "memory://lab/two.ome.zarr", **OPTIONS)
    assert list(find_targets("memory://lab")) == [
        "memory://lab/a/one.ome.zarr",
        "memory://lab/two.ome.zarr",
    ]
    (info, *_) = open_store("memory://lab/two.ome.zarr").objects().values()
    assert info.modified is not None
    assert abs(info.modified - time.time()) < 600


def test_summaries_that_a_killed_build_left_are_removed(published: Path) -> None:
    """The windows made from them stay."""
    beside = published.with_name(f"{published.name}.build")
    (beside / "display").mkdir()
    (beside / "display/000000").write_bytes(b"counts")
    age(published, 3)
    found = clean_build(published, older_than_days=1, dry_run=False)
    assert (found.kind, found.objects, found.removed) == ("cache", 1, True)
    assert not (beside / "display/000000").exists()
    assert (beside / "windows.json").exists()


def test_a_dry_run_removes_nothing(half: Path) -> None:
    """It says what would be removed, and how much."""
    age(half, 30)
    before = contents(half.parent)
    found = clean_build(half, older_than_days=14)
    assert contents(half.parent) == before
    assert (found.kind, found.kept, found.removed) == ("half a build", "", False)
    assert found.nbytes > 0
    assert found.days == pytest.approx(30, abs=0.1)


def test_an_old_half_build_is_removed_completely(half: Path, published: Path) -> None:
    """With its build folder; the same name is then free for another build."""
    age(half, 30)
    others = {k: v for k, v in contents(half.parent).items() if k.startswith("done")}
    assert clean_build(half, older_than_days=14, dry_run=False).removed
    assert contents(half.parent) == others
    assert build_pyramid(SAMPLES + 1, half, **OPTIONS).verified


def test_a_published_pyramid_stays(published: Path) -> None:
    """However old it is, and whatever became of its metadata or its ledger."""
    age(published, 1000)
    assert clean_build(published, older_than_days=1, dry_run=False).kind == ""
    (published / "zarr.json").write_text("{}")
    before = contents(published)
    assert clean_build(published, older_than_days=0, dry_run=False).kind == ""
    (published / "zarr.json").unlink()
    assert clean_build(published, older_than_days=0, dry_run=False).kind == ""
    (published / "zarr.json").write_text("{}")
    shutil.rmtree(published.with_name("done.ome.zarr.build") / "ledger/0")
    assert clean_build(published, older_than_days=0, dry_run=False).kind == ""
    assert contents(published) == before


def test_an_unreadable_plan_keeps_all(half: Path) -> None:
    """What is not understood is for a person."""
    plan = half.with_name("half.ome.zarr.build") / "plan.json"
    plan.write_text(plan.read_text()[:100])
    age(half, 30)
    before = contents(half.parent)
    assert "plan cannot be read" in clean_build(half, older_than_days=1, dry_run=False).kept
    assert contents(half.parent) == before


@pytest.mark.parametrize("folder", ["cache/c", "halos-1/0", "borders-1/0"])
def test_a_forgotten_cache_goes_and_the_pyramid_stays(published: Path, folder: str) -> None:
    """It outlives a build only where the process was killed while tidying up; so do strips."""
    whole = contents(published.parent)
    cache = published.with_name("done.ome.zarr.build") / folder
    cache.mkdir(parents=True)
    (cache / "0").write_bytes(b"x" * 1000)
    age(published, 30)
    found = clean_build(published, older_than_days=14, dry_run=False)
    assert (found.kind, found.removed, found.nbytes) == ("cache", True, 1000)
    left = {k: v for k, v in contents(published.parent).items() if "lease" not in k}
    assert left == {k: v for k, v in whole.items() if "lease" not in k}


def test_what_is_young_is_kept(half: Path) -> None:
    """By its newest object: somebody may continue the build tomorrow."""
    age(half, 30)
    (half / "0/c/0/0").touch()
    found = clean_build(half, older_than_days=14, dry_run=False)
    assert found.kept == "younger than 14 days"
    assert half.exists()


def test_what_is_being_built_is_kept(half: Path) -> None:
    """A live process holds it."""
    age(half, 30)
    with Build.open(SAMPLES, half, BuildOptions(**OPTIONS)):
        found = clean_build(half, older_than_days=0, dry_run=False)
    assert "is building it" in found.kept
    assert half.exists()


def test_a_strangers_object_keeps_all(half: Path) -> None:
    """Somebody put notes into the half-built folder."""
    (half / "notes.txt").write_text("mine")
    age(half, 30)
    found = clean_build(half, older_than_days=1, dry_run=False)
    assert found.kept.startswith("notes.txt is not of this build")
    assert (half / "notes.txt").exists()


def test_files_of_others_in_the_build_folder_stay(half: Path) -> None:
    """Other programs make folders called NAME.build too."""
    other = half.with_name(f"{half.name}.build") / "app.o"
    other.write_bytes(b"code")
    age(half, 8)
    assert clean_build(half, older_than_days=7, dry_run=False).removed
    assert not half.exists()
    assert contents(other.parent) == {"app.o": b"code"}
