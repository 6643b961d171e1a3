"""What a plan will cost: exact against a count by hand, refused where memory is short."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import MemoryLimitError
from ngff_core.geometry import Region, window_of
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.halos import level_halos
from ngff_core.plan.projection import PROCESS_BYTES, Projection, project
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.source_cache import cache_plan
from tests.support.plans import plan_of

GIB = 2**30


def projected(plan: PyramidPlan, unit: tuple[int, ...], **given_options: Any) -> Projection:
    """Its projection where memory is plenty."""
    options = {"cached": False, "workers": 2, "memory_limit": 100 * GIB}
    return project(plan, unit, **options | given_options)


def boxes_met(box: Region, cell: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """Samples of each cell of a grid that ``box`` meets; cells are cut at ``shape``."""
    spans = [
        [c for c in range(-(-n // u)) if c * u < b and (c + 1) * u > a]
        for a, b, u, n in zip(box.start, box.stop, cell, shape, strict=True)
    ]
    sizes = [
        [min((c + 1) * u, n) - c * u for c in span]
        for span, u, n in zip(spans, cell, shape, strict=True)
    ]
    return [math.prod(combination) for combination in _combinations(sizes)]


def _combinations(axes: list[list[int]]) -> list[list[int]]:
    if not axes:
        return [[]]
    return [[n, *rest] for n in axes[0] for rest in _combinations(axes[1:])]


def counted(plan: PyramidPlan, level: LevelPlan, unit: tuple[int, ...]) -> tuple[int, int]:
    """Bytes decoded and requests made for a level, region by region, cell by cell."""
    decoded = requests = 0
    for index in range(level.regions):
        region = level.region(index)
        if level.parent is None:
            box, shape, chunks, container = region, level.shape, unit, unit
        else:
            parent = plan.levels[level.parent]
            halo = kernel_for(plan.method).halo(level.step)
            box = window_of(region, level.step, halo, parent.shape).box
            shape, chunks, container = parent.shape, parent.chunks, parent.write_unit
        decoded += sum(boxes_met(box, chunks, shape)) * plan.dtype.itemsize
        # A shard costs its index and its chunks, an object without shards one request.
        requests += len(boxes_met(box, container, shape)) * (1 if container == chunks else 2)
    return decoded, requests


def counted_with_strips(plan: PyramidPlan, level: LevelPlan) -> tuple[int, int]:
    """The same where each region decodes its own bins, and reads strips for the rest."""
    assert level.parent is not None
    parent = plan.levels[level.parent]
    halo = kernel_for(plan.method).halo(level.step)
    read = requests = 0
    for index in range(level.regions):
        region = level.region(index)
        window = window_of(region, level.step, halo, parent.shape).box
        stop = [
            w if b == n else b * k
            for w, b, n, k in zip(window.stop, region.stop, level.shape, level.step, strict=True)
        ]
        bins = Region(
            tuple(a * k for a, k in zip(region.start, level.step, strict=True)), tuple(stop)
        )
        read += (sum(boxes_met(bins, parent.chunks, parent.shape)) + window.size - bins.size) * 2
        requests += len(boxes_met(bins, parent.write_unit, parent.shape)) * (
            1 if parent.shards is None else 2
        )
        for giver in range(parent.regions):
            box = parent.region(giver)
            inside = np.zeros(parent.shape, bool)
            inside[window.slices] = True
            inside[bins.slices] = False
            requests += bool(inside[box.slices].any())
    return read, requests


@st.composite
def small_plans(draw: st.DrawFn) -> tuple[PyramidPlan, tuple[int, ...]]:
    """A plan of some regions, and the unit in which its source decodes."""
    dims = draw(st.sampled_from(["yx", "cyx", "zyx"]))
    shape = tuple(draw(st.integers(1, 40 if d in "zyx" else 3)) for d in dims)
    shortest = min(n for d, n in zip(dims, shape, strict=True) if d in "zyx")
    chunks = draw(st.integers(3, 12))
    plan = plan_of(
        dims,
        shape,
        chunks=chunks,
        shards=chunks * draw(st.integers(1, 3)),
        scale_factors=[f for f in (2, 6) if f <= shortest],
        method=draw(st.sampled_from(["itkwasm_gaussian", "itkwasm_bin_shrink"])),
    )
    unit = tuple(draw(st.integers(1, n)) for n in shape)
    return plan, unit


@given(small_plans())
def test_bytes_and_requests_are_those_counted_by_hand(
    case: tuple[PyramidPlan, tuple[int, ...]],
) -> None:
    """Every region's window, halo and all, against every chunk and shard it meets."""
    plan, unit = case
    found = projected(plan, unit, stream=False)
    assert [phase.phase for phase in found.phases] == [
        f"level-{i}" for i in range(len(plan.levels))
    ]
    kept = level_halos(plan, ())
    for phase, level in zip(found.phases, plan.levels, strict=True):
        if level.index in kept:
            decoded, requests = counted_with_strips(plan, level)
            assert phase.halo_objects == kept[level.index].objects > 0
            assert phase.halo_bytes == kept[level.index].size * 2 > 0
        else:
            decoded, requests = counted(plan, level, unit)
            assert phase.halo_objects == phase.halo_bytes == 0
        assert phase.bytes_read == decoded
        if level.parent is not None or math.prod(unit) > 1:
            assert phase.reads == requests
        assert phase.bytes_written == math.prod(level.shape) * 2
        assert (phase.regions, phase.objects) == (level.regions, level.objects)
    assert found.bytes_read == sum(phase.bytes_read for phase in found.phases)
    strips = sum(phase.halo_bytes for phase in found.phases)
    assert found.bytes_written == plan.raw_bytes + strips
    assert found.objects == sum(
        level.objects + phase.halo_objects
        for level, phase in zip(plan.levels, found.phases, strict=True)
    )
    assert found.requests == found.objects + sum(phase.reads for phase in found.phases)


@given(small_plans())
def test_a_cache_is_a_phase_of_its_own(case: tuple[PyramidPlan, tuple[int, ...]]) -> None:
    """The source is decoded once by the pass, and level 0 reads what the pass wrote."""
    plan, unit = case
    found = projected(plan, unit, cached=True)
    whole = cache_plan(plan, unit)
    cache, base = found.phases[:2]
    assert cache.phase == "cache"
    assert cache.bytes_read == cache.bytes_written == math.prod(plan.image.shape) * 2
    assert cache.objects == whole.levels[0].objects
    assert base.bytes_read == counted(plan, plan.levels[0], whole.levels[0].chunks)[0]


VOLUME = plan_of("zyx", (512, 1024, 1024), method="itkwasm_bin_shrink")


@given(small_plans())
def test_a_streamed_level_reads_nothing(case: tuple[PyramidPlan, tuple[int, ...]]) -> None:
    """Its parent's samples are in memory already; what waits there is counted."""
    plan, unit = case
    found, apart = projected(plan, unit), projected(plan, unit, stream=False)
    assert found.streamed == tuple(range(1, len(plan.levels)))
    assert apart.streamed == ()
    assert found.phases[0] == apart.phases[0]
    for phase in found.phases[1:]:
        assert (phase.reads, phase.bytes_read) == (0, 0)
        assert phase.held_bytes > 0
    strips = sum(phase.halo_bytes for phase in apart.phases)
    assert found.bytes_written + strips == apart.bytes_written


@pytest.mark.parametrize("method", ["itkwasm_bin_shrink", "itkwasm_gaussian"])
def test_too_little_memory_is_refused_with_the_need_named(method: str) -> None:
    """One region must fit; the message says how much that is, and that much does."""
    plan = plan_of("zyx", (512, 1024, 1024), method=method)
    with pytest.raises(MemoryLimitError) as caught:
        projected(plan, (1, 1, 1), memory_limit=2**20)
    message = str(caught.value)
    assert "memory_limit: " in message
    assert "level-" in message
    assert "smaller shards or chunks need less" in message
    need = int(message.partition(" needs ")[2].partition("MiB")[0]) * 2**20
    assert projected(plan, (1, 1, 1), memory_limit=need).in_flight == 1
    with pytest.raises(MemoryLimitError):
        projected(plan, (1, 1, 1), memory_limit=need - 2**20)


def test_a_source_that_decodes_as_one_piece_is_named_as_the_reason() -> None:
    """Smaller chunks would not help there."""
    with pytest.raises(
        MemoryLimitError, match=r"region of cache at a time needs .* only be decoded together"
    ):
        projected(VOLUME, (512, 1024, 1024), cached=True, memory_limit=GIB)


@given(st.integers(1, 50), st.integers(600, 20_000))
def test_as_many_regions_are_in_flight_as_fit(workers: int, mebibytes: int) -> None:
    """Up to the workers; one more would not fit, and the projected peak does."""
    found = projected(VOLUME, (1, 1, 1), workers=workers, memory_limit=mebibytes * 2**20)
    assert found.peak_bytes <= found.memory_limit
    assert 1 <= found.in_flight <= workers
    more = projected(VOLUME, (1, 1, 1), workers=workers, memory_limit=2 * mebibytes * 2**20)
    assert found.in_flight <= more.in_flight
    assert set(found.streamed) <= set(more.streamed) or found.in_flight < more.in_flight
    if found.in_flight < workers:
        # read back from storage it takes least, and one more is too much even so
        apart = projected(VOLUME, (1, 1, 1), workers=found.in_flight + 1, stream=False)
        assert apart.peak_bytes > found.memory_limit


def test_a_level_of_one_region_counts_once_however_many_workers() -> None:
    """What cannot be in flight twice takes no memory twice."""
    plan = plan_of("yx", (100, 100), scale_factors=[])
    one, many = (projected(plan, (1, 1), workers=n).peak_bytes for n in (1, 8))
    assert one == many == PROCESS_BYTES + projected(plan, (1, 1)).phases[0].region_bytes
