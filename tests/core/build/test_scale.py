"""Planning, and finding what remains, must not grow with the number of regions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ngff_core import BuildOptions
from ngff_core.build.planning import PlannedBuild, plan_pyramid
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.pricing import price
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.schedule import PassPlan, PassRequirements, in_order, passes, slow_to_fast
from ngff_core.pyramid import inventory
from ngff_core.pyramid.inventory import find_lost
from ngff_core.records.ledger import Ledger, Receipt, StoredObject
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectStore
from tests.memory.measure import status
from tests.support.plans import plan_of


@dataclass(frozen=True)
class Found:
    """The plan of a petabyte, and what planning it took."""

    planned: PlannedBuild
    regions_asked: int
    tables: int
    peak_bytes: int
    """Peak memory, over what the process had before."""


def planned_petabyte(folder: Path) -> Found:
    """The plan of 1 PB; to be called in a process of its own, which is patched for it."""
    for name, shape in (("tiny", (50, 100, 100)), ("source", (50_000, 100_000, 100_000))):
        zarr.create_array(folder / f"{name}.zarr", shape=shape, chunks=(128,) * 3, dtype="u2")
    options = BuildOptions(workers=200, memory_limit="16GiB")
    # What is imported and kept for any plan is none of the petabyte's.
    plan_pyramid(folder / "tiny.zarr", folder / "tiny.ome.zarr", options)
    asked, tables = [], []
    region, axes = LevelPlan.region, LevelLink._axes.func
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LevelPlan, "region", lambda *of: (asked.append(of), region(*of))[1])
        patch.setattr(LevelLink._axes, "func", lambda link: (tables.append(link), axes(link))[1])
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        planned = plan_pyramid(folder / "source.zarr", folder / "out.ome.zarr", options)
    return Found(planned, len(asked), len(tables), status("VmHWM") - before)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells of its peak")
def test_a_petabyte_is_planned_without_going_through_its_regions(tmp_path: Path) -> None:
    """Its memory is that of tables along the axes, however many workers are tried.

    As the kernel counts it: tracing each allocation took six times as long as planning.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        found = apart.submit(planned_petabyte, tmp_path).result()
    assert found.peak_bytes < 20e6
    plan, projection = found.planned.plan, found.planned.projection
    assert plan.levels[0].regions > 29_000_000
    assert found.regions_asked == 0
    assert found.tables == len(plan.levels) - 1
    cost = price(plan, projection)
    strips = sum(phase.halo_bytes for phase in projection.phases)
    assert cost.bytes_written == plan.raw_bytes + strips < 1.02 * plan.raw_bytes
    assert cost.lists * 1000 >= 2 * cost.objects


@st.composite
def resumed(draw: st.DrawFn) -> tuple[PassPlan, dict[int, frozenset[int]]]:
    """A pass, and which regions of its levels are done."""
    dims = draw(st.sampled_from(["yx", "cyx", "zyx"]))
    shape = tuple(draw(st.integers(4, 20 if d in "zyx" else 2)) if d != "c" else 2 for d in dims)
    plan = plan_of(
        dims,
        shape,
        chunks=draw(st.integers(2, 5)),
        shards=None,
        ome_zarr_version="0.5",
        scale_factors=[2, 4],
        method=draw(st.sampled_from(["itkwasm_gaussian", "itkwasm_bin_shrink"])),
    )
    pass_plan = draw(st.sampled_from(passes(plan, draw(st.sets(st.sampled_from([1, 2]))))))
    done = {
        level.index: frozenset(
            draw(st.sets(st.integers(0, level.regions - 1)))
            if draw(st.booleans())
            else range(level.regions)
        )
        for level in pass_plan.levels
    }
    return pass_plan, done


@given(resumed())
def test_needs_of_all_regions_are_those_found_one_by_one(
    case: tuple[PassPlan, dict[int, frozenset[int]]],
) -> None:
    """The plain way: a tile is wanted for a region that is not done, a region for a tile."""
    pass_plan, done = case
    requirements = PassRequirements(pass_plan, done)
    for link in pass_plan.links:
        for tile in range(link.parent.regions):
            plain = any(child not in done[link.child.index] for child in link.children_of(tile))
            assert requirements.wants_tile(link, tile) == plain
    loads = []
    for level in pass_plan.levels:
        for region in in_order(_grid(level), slow_to_fast(pass_plan.plan)):
            stored = region in done[level.index]
            plain = not stored or any(
                requirements.wants_tile(link, tile)
                for link in pass_plan.links_from(level.index)
                for tile in link.tiles_reading(region)
            )
            assert requirements.is_done(level.index, region) == stored
            assert requirements.wants(level.index, region) == plain
            if plain and (stored or level.index == pass_plan.root):
                loads.append((level.index, region))
    assert sorted(requirements.loads()) == sorted(loads)
    for level in pass_plan.levels:
        ours = [region for index, region in requirements.loads() if index == level.index]
        assert ours == [region for index, region in loads if index == level.index]


def _grid(level: LevelPlan) -> tuple[int, ...]:
    return tuple(-(-n // b) for n, b in zip(level.shape, level.block, strict=True))


def recorded(store: ObjectStore, plan: PyramidPlan) -> Iterator[Ledger]:
    """Ledgers of a build of which every object is one byte."""
    for level in plan.levels:
        found = Ledger(store, str(level.index), plan.digest, level.regions)
        for region in range(level.regions):
            keys = map(plan.object_key, level.object_positions(level.region(region)))
            stored = tuple(StoredObject(key, 1, 0) for key in keys)
            for one in stored:
                store.write(f"{level.path}/{one.key}", b"x")
            found.record(Receipt(region, 0, stored))
        yield found


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dims", ["yx", "tcyx"])
def test_a_large_level_is_listed_folder_by_folder(
    store: ObjectStore, version: str, dims: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same findings as of one listing, and no listing of a whole level."""
    shape = (1,) * (len(dims) - 2) + (13, 10)
    plan = plan_of(dims, shape, chunks=2, scale_factors=[2], ome_zarr_version=version)
    plan = _small_blocks(plan)
    build = StoredBuild(store, store, plan, tuple(recorded(store, plan)))
    base = plan.levels[0]
    gone = list(store.objects(base.path))[3]
    store.delete(gone)
    store.write(list(store.objects(base.path))[-1], b"longer")
    whole = list(find_lost(build))
    assert [finding.what for finding in whole] == ["missing", "6 bytes, 1 recorded"]
    monkeypatch.setattr(inventory, "LISTED_TOGETHER", 0)
    monkeypatch.setattr(inventory, "_OBJECTS_PER_FOLDER", 0)
    most = []
    objects = store.objects
    monkeypatch.setattr(
        store, "objects", lambda prefix="": (found := objects(prefix), most.append(len(found)))[0]
    )
    assert list(find_lost(build)) == whole
    assert max(most) <= base.objects // 3


def _small_blocks(plan: PyramidPlan) -> PyramidPlan:
    """The plan with regions of two rows of objects; defaults would make each level one."""
    levels = (
        replace(
            level,
            shards=None,
            block=(*level.chunks[:-2], 2 * level.chunks[-2], level.chunks[-1]),
        )
        for level in plan.levels
    )
    return replace(plan, levels=tuple(levels))
