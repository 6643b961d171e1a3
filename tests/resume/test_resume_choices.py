"""Running the command again with other choices, on another source, or to overwrite."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ngff_core
from ngff_core.errors import SourceChangedError, TargetExistsError
from tests.resume.harness import (
    OPTIONS,
    REGIONS,
    Builders,
    Undisturbed,
    assert_ended_undisturbed,
    assert_resumes,
    assert_whole_or_no_image,
    beside,
    is_image,
    regions_without_receipt,
    write_tiff,
)
from tests.support.folders import dated_contents, files

LABELS = {"method": "itkwasm_label_image", "scale_factors": [2], "chunks": 20, "shards": 40}
"""Options that another image than the usual is built with."""


def killed_at(
    builders: Builders, source: Path, target: Path, whole: Undisturbed, operation: str, nth: int
) -> None:
    """Leave at ``target`` what the command leaves when killed after that operation."""
    die = {"n": whole.number_of(operation, nth), "how": "after"}
    assert builders.run(source, target, **whole.job, die=die).killed


@pytest.mark.parametrize(
    "other",
    [
        {"workers": 2, "memory_limit": "2GiB"},
        {"workers": 3, "cache": "never"},
    ],
    ids=["workers and memory", "without the cache"],
)
@pytest.mark.parametrize(
    ("operation", "nth"),
    [("create beside:ledger/cache/segments/", 4), ("create beside:ledger/0/segments/", 12)],
    ids=["cache", "level 0"],
)
def test_workers_memory_and_cache_may_change(
    builders, source, undisturbed, tmp_path, other, operation, nth
):
    """What decides no pixel may differ when I run it again: it goes on all the same."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    killed_at(builders, source, target, whole, operation, nth)
    left = regions_without_receipt(target, whole)
    run = builders.run(source, target, deep=True, options=other)
    assert run.code == 0, run.result
    assert run.result["fresh_by_level"] == left
    assert run.result["findings"] == []
    assert_ended_undisturbed(target, whole)


def test_a_changed_source_is_told_and_nothing_is_touched(builders, undisturbed, tmp_path):
    """I edited the image between two runs: I am told so, and decide myself to overwrite."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    source = write_tiff(tmp_path / "image.tif", seed=1)
    killed_at(builders, source, target, whole, "create beside:ledger/0/segments/", 12)
    before = dated_contents(tmp_path)
    write_tiff(source, seed=2)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    with pytest.raises(SourceChangedError) as caught:
        ngff_core.build_pyramid(source, target, **OPTIONS)
    assert str(source) in str(caught.value)
    assert "mtime" in str(caught.value)
    assert "overwrite" in str(caught.value)
    after = dated_contents(tmp_path)
    assert after.pop("image.tif") != before.pop("image.tif")
    assert after == before

    undisturbed = builders.undisturbed(source, tmp_path / "undisturbed.ome.zarr")
    run = builders.run(source, target, deep=True, options={"overwrite": True})
    assert run.code == 0, run.result
    assert run.result["fresh_by_level"] == REGIONS
    assert_ended_undisturbed(target, undisturbed)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("method", "itkwasm_label_image"),
        ("scale_factors", [2]),
        ("chunks", 8),
        ("shards", 48),
        ("compressor", "zstd:3"),
        ("ome_zarr_version", "0.4"),
    ],
)
def test_other_options_are_named(builders, source, undisturbed, tmp_path, option, value):
    """Other options on the same target: the error says which, and nothing is touched."""
    whole = undisturbed()
    before = dated_contents(whole.target.parent)
    options = {**OPTIONS, option: value}
    if value == "0.4":
        del options["shards"]
    with pytest.raises(TargetExistsError, match=f"{option}: ") as caught:
        ngff_core.build_pyramid(source, whole.target, **options)
    assert "overwrite" in str(caught.value)
    assert dated_contents(whole.target.parent) == before


def test_another_source_is_named(undisturbed, source, tmp_path):
    """Another image onto the same target: the error names both sources."""
    other = shutil.copy2(source, tmp_path / "other.tif")
    with pytest.raises(TargetExistsError) as caught:
        ngff_core.build_pyramid(other, undisturbed().target, **OPTIONS)
    assert str(source) in str(caught.value)
    assert str(other) in str(caught.value)


OVERWRITING = [
    ("delete target:zarr.json", 0, "after"),
    ("delete_tree beside:ledger", 0, "half"),
    ("delete_tree target:", 0, "half"),
    ("delete_tree target:", 0, "after"),
    ("delete beside:plan.json", 0, "after"),
    ("create beside:plan.json", 0, "after"),
    ("write target:0/c/", 5, "torn"),
    ("write target:zarr.json", 0, "torn"),
]


@pytest.fixture(scope="module")
def overwriting(builders, source, undisturbed, tmp_path_factory) -> Undisturbed:
    """The usual image overwritten by labels, with nothing to disturb it."""
    target = copied(undisturbed(), tmp_path_factory.mktemp("overwriting"))
    return builders.undisturbed(source, target, options={**LABELS, "overwrite": True})


def copied(whole: Undisturbed, folder: Path) -> Path:
    """A finished image of one's own, with all that stands beside it."""
    target = folder / "image.ome.zarr"
    shutil.copytree(whole.target, target)
    shutil.copytree(beside(whole.target), beside(target))
    return target


@pytest.mark.parametrize("moment", OVERWRITING, ids=lambda m: f"{m[2]} {m[0]}")
def test_a_killed_overwrite(builders, source, undisturbed, overwriting, tmp_path, moment):
    """Killed while it overwrites: the same command again gives the new image; the old
    command gives the old image or an error, and never a mixture."""
    old, (operation, nth, how) = undisturbed(), moment
    target = copied(old, tmp_path)
    die = {"n": overwriting.number_of(operation, nth), "how": how}
    assert builders.run(source, target, **overwriting.job, die=die).killed
    assert not is_image(target)
    (tmp_path / "twin").mkdir()
    twin = tmp_path / "twin/image.ome.zarr"
    shutil.copytree(beside(target), beside(twin))
    if target.exists():
        shutil.copytree(target, twin)

    run = builders.run(source, target, deep=True, **overwriting.job)
    assert run.code == 0, run.result
    assert run.result["findings"] == []
    assert_ended_undisturbed(target, overwriting)

    run = builders.run(source, twin, deep=True)
    if run.code == 0:
        assert run.result["findings"] == []
        assert_ended_undisturbed(twin, old)
    else:
        assert run.result["error"] == "TargetExistsError"
        assert not is_image(twin)


def test_an_overwrite_of_a_half_built_image(builders, source, undisturbed, overwriting, tmp_path):
    """A half-built image is overwritten like a whole one, also where that is killed."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    killed_at(builders, source, target, whole, "create beside:ledger/0/segments/", 12)
    die = {"n": overwriting.number_of("delete_tree beside:ledger", 0), "how": "half"}
    assert builders.run(source, target, **overwriting.job, die=die).killed
    run = builders.run(source, target, **overwriting.job)
    assert run.code == 0, run.result
    assert_ended_undisturbed(target, overwriting)


def test_the_old_command_after_such_an_overwrite(
    builders, source, undisturbed, overwriting, tmp_path
):
    """After a killed overwrite the first command can be run again: it builds what is missing."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    killed_at(builders, source, target, whole, "create beside:ledger/0/segments/", 12)
    die = {"n": overwriting.number_of("delete_tree beside:ledger", 0), "how": "half"}
    assert builders.run(source, target, **overwriting.job, die=die).killed
    # Half of the receipts are gone, and not only the latest.
    (beside(target) / "ledger/0/segments/000003.jsonl").unlink(missing_ok=True)
    assert_whole_or_no_image(target, whole)
    assert_resumes(builders, source, target, whole)


def test_what_others_built_is_not_touched(builders, source, undisturbed, tmp_path):
    """A zarr group that is not ours is left alone, unless I say overwrite."""
    target = tmp_path / "image.ome.zarr"
    target.mkdir()
    (target / ".zgroup").write_text('{"zarr_format": 2}')
    before = files(tmp_path)
    with pytest.raises(TargetExistsError, match="not built by ngff-flows"):
        ngff_core.build_pyramid(source, target, **OPTIONS)
    assert files(tmp_path) == before
    run = builders.run(source, target, options={"overwrite": True})
    assert run.code == 0, run.result
    assert_ended_undisturbed(target, undisturbed())


def test_a_target_that_was_removed_is_built_anew(tmp_path):
    """Who removes the pyramid and keeps what stands beside it gets it back by the same command."""
    image = np.random.default_rng(3).integers(0, 900, (40, 96, 96)).astype(np.uint16)
    target = tmp_path / "a.ome.zarr"
    options: dict[str, Any] = {"method": "itkwasm_bin_shrink", "chunks": 16, "scale_factors": [2]}
    first = ngff_core.build_pyramid(image, target, **options)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    shutil.rmtree(target)
    again = ngff_core.build_pyramid(image, target, **options)
    assert again.fresh == first.fresh
    assert again.verified
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


def test_a_level_that_was_removed_is_built_anew(tmp_path):
    """Of an unpublished pyramid only the level that somebody removed is written again."""
    image = np.random.default_rng(3).integers(0, 900, (40, 96, 96)).astype(np.uint16)
    target = tmp_path / "a.ome.zarr"
    options: dict[str, Any] = {"method": "itkwasm_bin_shrink", "chunks": 16, "scale_factors": [2]}
    ngff_core.build_pyramid(image, target, **options)
    (target / "zarr.json").unlink()
    shutil.rmtree(target / "1")
    again = ngff_core.build_pyramid(image, target, **options)
    assert [level.fresh for level in again.levels] == [0, again.levels[1].regions]
    assert again.verified
