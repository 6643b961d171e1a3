"""What a level is computed from: its parent, the cache or the source, and which halo files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ngff_core.blocks import ArrayLike
from ngff_core.build.level_inputs import LevelFiles, open_parent
from ngff_core.plan.source_cache import cache_plan
from ngff_core.pyramid.publish import create_arrays
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.stored_build import StoredBuild
from tests.support.plans import plan_of
from tests.support.targets import IMAGE, Place

PLAN = plan_of("yx", (64, 64), chunks=4, shards=8, scale_factors=[2, 4], method="itkwasm_gaussian")


def no_source() -> ArrayLike:
    raise AssertionError("the source is not opened")


@pytest.fixture
def halos(tmp_path: Path) -> dict[int, HaloFiles]:
    """Halo files for each level that is computed from what its parent stored."""
    return HaloFiles.of(Place(tmp_path).beside, PLAN, ())


def test_a_level_reads_its_own_halo_files_and_writes_those_of_its_children(
    halos: dict[int, HaloFiles],
) -> None:
    first, middle, last = (LevelFiles.of(halos, index) for index in (0, 1, 2))
    assert (first.halos, first.written) == (None, [halos[1]])
    assert (middle.halos, middle.written) == (halos[1], [halos[2]])
    assert (last.halos, last.written) == (halos[2], [])


def test_no_halo_files_are_written_for_a_complete_child(halos: dict[int, HaloFiles]) -> None:
    """Nothing will read them; a level's own are still read."""
    found = LevelFiles.of(halos, 1, None, {2}.__contains__)
    assert (found.halos, found.written) == (halos[1], [])
    assert LevelFiles.of(halos, 1, None, {1}.__contains__).written == [halos[2]]


def test_without_halo_files_none_are_read_or_written() -> None:
    assert LevelFiles.of({}, 1) == LevelFiles(None, [])
    assert list(LevelFiles().written) == []


@pytest.mark.parametrize("cached", [False, True])
def test_a_level_is_computed_from_its_parent(tmp_path: Path, cached: bool) -> None:
    place = Place(tmp_path)
    build = StoredBuild.begin(place.target, place.beside, PLAN)
    create_arrays(place.target, PLAN)
    cache = cache_plan(PLAN, (1, 1)) if cached else None
    found = open_parent(build, PLAN.levels[2], cache, no_source)
    assert found.shape == PLAN.levels[1].shape
    assert found.dtype == PLAN.dtype


def test_level_0_is_read_from_the_source(tmp_path: Path) -> None:
    place = Place(tmp_path)
    build = StoredBuild.begin(place.target, place.beside, PLAN)
    assert open_parent(build, PLAN.levels[0], None, lambda: IMAGE) is IMAGE


def test_level_0_is_read_from_the_cache_where_there_is_one(tmp_path: Path) -> None:
    """Which lies beside the target."""
    place = Place(tmp_path)
    build = StoredBuild.begin(place.target, place.beside, PLAN)
    cache = cache_plan(PLAN, (64, 64))
    create_arrays(place.beside, cache)
    found = open_parent(build, PLAN.levels[0], cache, no_source)
    assert found.shape == (64, 64)
    assert not (place.target.root).exists()
    with pytest.raises(Exception, match="c/0/0"):
        np.asarray(found[:4, :4])
