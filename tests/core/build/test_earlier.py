"""What an earlier version built, or began, is continued as it was planned then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from ngff_core import BuildOptions, NgffImage, build_pyramid, check_build, verify_pyramid
from ngff_core.build import planning
from ngff_core.errors import SourceChangedError, TargetExistsError
from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.scale_factors import factors_from_min_length
from ngff_core.progress import Message
from tests.support.folders import files

SAMPLES = np.random.default_rng(7).integers(0, 4000, (250, 320)).astype("u2")
IMAGE = NgffImage(SAMPLES, "yx", name="cells")
ONE_BY_ONE = [(250, 320), (125, 160), (125, 80)]
TOGETHER = [(250, 320), (125, 160), (62, 80)]


def planned_by_earlier_version(*args: Any, **options: Any) -> PyramidPlan:
    """`make_plan` as it was when paths had the name as it is."""
    options |= {"halving": factors_from_min_length}
    plan = make_plan(*args, **options)
    paths = [f"scale{level.index}/{plan.image.name}" for level in plan.levels]
    levels = [replace(each, path=path) for each, path in zip(plan.levels, paths, strict=True)]
    return replace(plan, levels=tuple(levels))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a.ome.zarr"


@pytest.fixture
def earlier(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An earlier version, until it is undone."""
    monkeypatch.setattr(planning, "make_plan", planned_by_earlier_version)
    return monkeypatch


def shapes(report: Any) -> list[tuple[int, ...]]:
    return [level.shape for level in report.levels]


OPTIONS: dict[str, Any] = {"chunks": 64}


def test_a_finished_pyramid_stays_as_it_is(target: Path, earlier: pytest.MonkeyPatch) -> None:
    """The same command writes nothing, and says of which levels it is."""
    before = build_pyramid(IMAGE, target, **OPTIONS)
    earlier.undo()
    stored, heard = files(target), []
    again = build_pyramid(IMAGE, target, progress=heard.append, **OPTIONS)
    assert shapes(before) == shapes(again) == ONE_BY_ONE
    assert again.levels[0].path == "scale0/cells"
    assert (again.fresh, again.verified, files(target)) == (0, True, stored)
    assert again.plan_digest == before.plan_digest
    texts = [event.text for event in heard if isinstance(event, Message)]
    assert any("as an earlier version planned it" in text for text in texts)
    assert [note.kind for note in again.about.notes if "level 2" in note.text] == ["limited"]


def test_an_interrupted_build_is_continued(target: Path, earlier: pytest.MonkeyPatch) -> None:
    """Only what is missing is written, where it belongs."""
    build_pyramid(IMAGE, target, **OPTIONS)
    earlier.undo()
    whole = files(target)
    (target / "zarr.json").unlink()
    (target / "scale2/cells/c/0/0").unlink()
    check = check_build(IMAGE, target, BuildOptions(**OPTIONS))
    report = build_pyramid(IMAGE, target, **OPTIONS)
    assert check.plan == report.plan
    assert (report.fresh, report.verified, files(target)) == (1, True, whole)
    assert verify_pyramid(target, deep=True).ok


def test_overwriting_builds_by_the_new_layout(target: Path, earlier: pytest.MonkeyPatch) -> None:
    build_pyramid(IMAGE, target, **OPTIONS)
    earlier.undo()
    report = build_pyramid(IMAGE, target, overwrite=True, **OPTIONS)
    assert (shapes(report), report.fresh) == (TOGETHER, 3)
    assert [level.path for level in report.levels] == ["0", "1", "2"]
    assert not (target / "scale0").exists()


def test_given_factors_leave_only_the_paths_to_differ(
    target: Path, earlier: pytest.MonkeyPatch
) -> None:
    """And these are taken from the stored plan as well."""
    options = OPTIONS | {"scale_factors": [2]}
    build_pyramid(IMAGE, target, **options)
    earlier.undo()
    assert build_pyramid(IMAGE, target, **options).fresh == 0


def test_a_file_without_a_name_is_continued(
    tmp_path: Path, target: Path, earlier: pytest.MonkeyPatch
) -> None:
    """It was called image, and is called like its file now."""
    np.save(tmp_path / "brain.npy", SAMPLES)
    with earlier.context() as patch:
        patch.setattr(planning, "_image_info", _called(planning._image_info, "image"))
        build_pyramid(tmp_path / "brain.npy", target, **OPTIONS)
    earlier.undo()
    again = build_pyramid(tmp_path / "brain.npy", target, **OPTIONS)
    assert (again.fresh, again.levels[0].path) == (0, "scale0/image")
    fresh = build_pyramid(tmp_path / "brain.npy", tmp_path / "b.ome.zarr", **OPTIONS)
    assert fresh.plan.image.name == "brain"


def test_a_file_whose_image_has_a_name_is_continued(
    tmp_path: Path, target: Path, earlier: pytest.MonkeyPatch
) -> None:
    """Its paths hold characters that this version puts into none."""
    about = {"axes": "YX", "Name": "Field #1"}
    tifffile.imwrite(tmp_path / "a.ome.tif", SAMPLES, ome=True, metadata=about)
    build_pyramid(tmp_path / "a.ome.tif", target, **OPTIONS)
    earlier.undo()
    again = build_pyramid(tmp_path / "a.ome.tif", target, **OPTIONS)
    assert (again.fresh, again.levels[0].path) == (0, "scale0/Field #1")


def _called(image_info: Any, name: str) -> Any:
    return lambda opened: replace(image_info(opened), name=name)


def test_other_options_are_refused_by_their_own_names(
    target: Path, earlier: pytest.MonkeyPatch
) -> None:
    """Not by what only this version does otherwise."""
    build_pyramid(IMAGE, target, **OPTIONS)
    earlier.undo()
    with pytest.raises(TargetExistsError, match=r"other options \(compressor: [^;]*\)"):
        build_pyramid(IMAGE, target, compressor="none", **OPTIONS)
    with pytest.raises(TargetExistsError, match=r"checksums: True there, False now"):
        build_pyramid(IMAGE, target, checksums=False, **OPTIONS)


def test_a_changed_source_is_named_as_such(target: Path, earlier: pytest.MonkeyPatch) -> None:
    build_pyramid(IMAGE, target, **OPTIONS)
    earlier.undo()
    with pytest.raises(SourceChangedError, match="has changed since"):
        build_pyramid(replace(IMAGE, data=SAMPLES + 1), target, **OPTIONS)


def test_names_in_paths_are_not_given_up_for_flat_ones(target: Path) -> None:
    """What this version laid out flat is another build than one with named paths."""
    build_pyramid(IMAGE, target, **OPTIONS)
    with pytest.raises(TargetExistsError, match="level_paths: flat there, named now"):
        build_pyramid(IMAGE, target, level_paths="named", **OPTIONS)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_cluster_continue_it_too(
    tmp_path: Path, target: Path, earlier: pytest.MonkeyPatch, workers: int
) -> None:
    """They open the build by its stored plan."""
    pytest.importorskip("distributed")
    source = tmp_path / "cells.npy"
    np.save(source, SAMPLES)
    with earlier.context() as patch:
        patch.setattr(planning, "_image_info", _called(planning._image_info, "image"))
        build_pyramid(str(source), target, **OPTIONS)
    earlier.undo()
    (target / "zarr.json").unlink()
    (target / "scale1/image/c/0/0").unlink()
    report = build_pyramid(str(source), target, dask_workers=workers, **OPTIONS)
    assert (report.fresh, report.verified) == (1, True)
