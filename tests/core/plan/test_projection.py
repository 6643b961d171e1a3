"""The projected cost of a plan: exact figures, and an error where memory is too little."""

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
from ngff_core.plan.projection import PROCESS_BYTES, Projection, Remote, project
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.source_cache import cache_plan
from tests.support.plans import plan_of

GIB = 2**30


def projected(plan: PyramidPlan, unit: tuple[int, ...], **given_options: Any) -> Projection:
    """The projection of a plan with plenty of memory."""
    options = {"cached": False, "workers": 2, "memory_limit": 100 * GIB}
    return project(plan, unit, **options | given_options)


def boxes_overlapped(box: Region, cell: tuple[int, ...], shape: tuple[int, ...]) -> list[int]:
    """Samples of each cell of a grid that ``box`` overlaps; cells are cut at ``shape``."""
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
        decoded += sum(boxes_overlapped(box, chunks, shape)) * plan.dtype.itemsize
        # A shard costs its index and its chunks, an object without shards one request.
        requests += len(boxes_overlapped(box, container, shape)) * (1 if container == chunks else 2)
    return decoded, requests


def counted_with_strips(plan: PyramidPlan, level: LevelPlan) -> tuple[int, int]:
    """The same where each region decodes its own bins only, and reads halo strips."""
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
        read += (
            sum(boxes_overlapped(bins, parent.chunks, parent.shape)) + window.size - bins.size
        ) * 2
        requests += len(boxes_overlapped(bins, parent.write_unit, parent.shape)) * (
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
    """Each region's window, halo included, against every chunk and shard that it overlaps."""
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
    """Its parent's samples are in memory already; samples that wait there are counted."""
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
def test_too_little_memory_is_refused_with_the_memory_needed(method: str) -> None:
    """One region must fit; the message says how much that is, and that much does."""
    plan = plan_of("zyx", (512, 1024, 1024), method=method)
    with pytest.raises(MemoryLimitError) as caught:
        projected(plan, (1, 1, 1), memory_limit=2**20)
    message = str(caught.value)
    assert "memory_limit: " in message
    assert "level-" in message
    assert "raise the limit, or choose smaller shards or chunks" in message
    need = int(message.partition(" needs ")[2].partition("MiB")[0]) * 2**20
    assert projected(plan, (1, 1, 1), memory_limit=need).in_flight == 1
    with pytest.raises(MemoryLimitError):
        projected(plan, (1, 1, 1), memory_limit=need - 2**20)


def test_a_source_that_decodes_all_at_once_is_named_as_the_reason() -> None:
    """Smaller chunks of the pyramid would not help there."""
    with pytest.raises(
        MemoryLimitError, match=r"region of cache at a time needs .* only be decoded together"
    ):
        projected(VOLUME, (512, 1024, 1024), cached=True, memory_limit=GIB)


@given(st.integers(1, 50), st.integers(600, 20_000))
def test_as_many_regions_are_in_flight_as_fit(workers: int, mebibytes: int) -> None:
    """Up to the number of workers; the projected peak fits, and one more region would not."""
    found = projected(VOLUME, (1, 1, 1), workers=workers, memory_limit=mebibytes * 2**20)
    assert found.peak_bytes <= found.memory_limit
    assert 1 <= found.in_flight <= workers
    more = projected(VOLUME, (1, 1, 1), workers=workers, memory_limit=2 * mebibytes * 2**20)
    assert found.in_flight <= more.in_flight
    assert set(found.streamed) <= set(more.streamed) or found.in_flight < more.in_flight
    if found.in_flight < workers:
        # Without streaming it takes least, and even so one more is too much.
        apart = projected(VOLUME, (1, 1, 1), workers=found.in_flight + 1, stream=False)
        assert apart.peak_bytes > found.memory_limit


def test_a_level_of_one_region_counts_once_however_many_workers() -> None:
    """A region that cannot be in flight twice takes its memory once."""
    plan = plan_of("yx", (100, 100), scale_factors=[])
    one, many = (projected(plan, (1, 1), workers=n).peak_bytes for n in (1, 8))
    assert one == many == PROCESS_BYTES + projected(plan, (1, 1)).phases[0].region_bytes


# ---------------------------------------------------------------- figures computed by hand

MIB = 2**20


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of one core: two of a build's own objects are decoded at a time."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def plane(**options: Any) -> PyramidPlan:
    """Two levels of 2-byte samples: 2 x 3 shards of 8 MiB, and 1 x 2.

    Chunks of 512 x 512 are 0.5 MiB. Nearest has no halo, and works in 8192 samples, 16 kiB.
    """
    given_options = {
        "chunks": 512,
        "shards": 2048,
        "scale_factors": [2],
        "method": "dask_image_nearest",
    }
    return plan_of("yx", (4096, 6144), **given_options | options)


ROWS = (1, 6144)
"""A source in strips of one row: for a region of 2048 rows 2048 x 6144 samples, 24 MiB."""


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        # Reading: the window, 8 MiB, and the decoded rows, 24.
        (Remote(), 32),
        # Of rows that come over a network also the body and its parts: 8 + 3 * 24.
        (Remote(source=True), 80),
        # Writing: the region, 8, and four times its one object of 8: 8 + 4 * 8.
        (Remote(target=True), 40),
        (Remote(source=True, target=True), 80),
    ],
)
def test_memory_for_a_region_of_level_0(remote: Remote, expected: int) -> None:
    """The larger of reading and writing; bodies of requests count on a network only."""
    level_0 = projected(plane(), ROWS, remote=remote).phases[0]
    assert level_0.region_bytes == expected * MIB


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        # The window, 4096 x 4096 samples or 32 MiB, and two of its four shards at a time.
        (Remote(), 48),
        (Remote(source=True), 48),
        # All four shards are decoded, and their bodies in memory: 32 + 3 * 32.
        (Remote(target=True), 128),
        (Remote(source=True, target=True), 128),
    ],
)
@pytest.mark.usefixtures("one_core")
def test_memory_for_a_region_that_reads_its_parent_back(remote: Remote, expected: int) -> None:
    """It is read from the target, so that alone decides; on a disk each core decodes some."""
    level_1 = projected(plane(), ROWS, stream=False, remote=remote).phases[1]
    assert level_1.region_bytes == expected * MIB


def test_no_more_is_decoded_at_once_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 16 cores, 32 shards could be; the window has four: 32 + 32 MiB."""
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    level_1 = projected(plane(), ROWS, stream=False).phases[1]
    assert level_1.region_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        # A copy of the region's samples, 8 MiB, is more than encoding takes: a tile of 1024 x 1024
        # samples is 2 MiB; three times a chunk and 1 MiB of encoded chunks are 2.5.
        (Remote(), 8),
        (Remote(source=True), 8),
        # Four times the object of 8 MiB.
        (Remote(target=True), 32),
    ],
)
def test_memory_for_a_region_of_a_streamed_level(remote: Remote, expected: int) -> None:
    """Its samples are counted as held; here is what storing takes beside them."""
    level_1 = projected(plane(), ROWS, remote=remote).phases[1]
    assert level_1.region_bytes == expected * MIB


@pytest.mark.parametrize(
    ("remote", "expected"),
    # The region is one chunk of 32 MiB. Three times that and 1 MiB are 97 MiB for encoding; on
    # a network the body takes four times that, 128 MiB. The region itself comes on top.
    [(Remote(), 32 + 97), (Remote(target=True), 32 + 128)],
)
def test_memory_for_encoding_a_large_chunk(remote: Remote, expected: int) -> None:
    """An image without shards, whose chunks are large."""
    plan = plane(chunks=4096, shards=None, ome_zarr_version="0.4", scale_factors=[])
    (level_0,) = projected(plan, (1, 1), remote=remote).phases
    assert level_0.region_bytes == expected * MIB


@pytest.mark.parametrize(
    ("workers", "remote", "expected"),
    [
        # The process, 128; a region of level 0, 32; a thread's window of 2 (256 x 1024 bins); held
        # are both regions of level 1, 16, and of level 0 three at hand, 24.
        (1, Remote(), 128 + 32 + 2 + 16 + 24),
        # Two regions, two threads; five at hand.
        (2, Remote(), 128 + 2 * 32 + 2 * 2 + 16 + 40),
        # Bodies of responses: 80 a region.
        (2, Remote(source=True), 128 + 2 * 80 + 2 * 2 + 16 + 40),
        # Bodies of requests: 40 a region of level 0.
        (2, Remote(target=True), 128 + 2 * 40 + 2 * 2 + 16 + 40),
        # Level 0 has six regions, which are all that can be in flight or at hand.
        (9, Remote(), 128 + 6 * 32 + 9 * 2 + 16 + 48),
    ],
)
def test_the_peak_of_a_streamed_build(workers: int, remote: Remote, expected: int) -> None:
    """All that is in memory at once, to the byte."""
    found = projected(plane(), ROWS, workers=workers, remote=remote)
    assert found.streamed == (1,)
    assert found.peak_bytes == expected * MIB


@pytest.mark.usefixtures("one_core")
def test_bodies_of_requests_reduce_the_regions_in_flight() -> None:
    """A limit that is enough for two regions on a disk is enough for one on a network."""
    limit = (128 + 2 * 40 + 2 * 2 + 16 + 40) * MIB - 1
    assert projected(plane(), ROWS, memory_limit=limit).in_flight == 2
    far = projected(plane(), ROWS, memory_limit=limit, remote=Remote(target=True))
    assert far.in_flight == 1


@pytest.mark.usefixtures("one_core")
def test_the_memory_limit_decides_what_is_streamed() -> None:
    """A level is streamed if that fits, and read back if only that does."""
    streamed, stored = 128 + 32 + 2 + 16 + 24, 128 + 48
    found = projected(plane(), ROWS, workers=1, memory_limit=streamed * MIB)
    assert (found.streamed, found.peak_bytes) == ((1,), streamed * MIB)
    found = projected(plane(), ROWS, workers=1, memory_limit=streamed * MIB - 1)
    assert (found.streamed, found.peak_bytes) == ((), stored * MIB)
    assert projected(plane(), ROWS, workers=1, memory_limit=stored * MIB).in_flight == 1
    with pytest.raises(MemoryLimitError, match=rf"region of level-1 at a time needs {stored}MiB"):
        projected(plane(), ROWS, workers=1, memory_limit=stored * MIB - 1)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        # The image in the window, and decoded.
        (Remote(), 2 * 48),
        # Over a network also the body and its parts: 48 + 3 * 48.
        (Remote(source=True), 4 * 48),
        # The body of a request is four times a chunk, 2 MiB: less than a copy of the region.
        (Remote(target=True), 2 * 48),
    ],
)
def test_memory_of_the_cache_pass(remote: Remote, expected: int) -> None:
    """The image, 48 MiB, is one region of the pass, which takes up to 64 MiB at a time."""
    cache, level_0 = projected(plane(), ROWS, cached=True, remote=remote).phases[:2]
    assert cache.regions == 1
    assert cache.region_bytes == expected * MIB
    # Level 0 reads the cache's chunks. On a disk: the window and what is decoded, 8 + 8. On a
    # network the region and the body of its object are more: 8 + 4 * 8.
    assert level_0.region_bytes == (40 if remote.target else 16) * MIB


def test_a_phase_is_one_flat_document() -> None:
    """Scripts read ``plan --json``: names and their order stay, however the cost is grouped."""
    plan = plan_of("yx", (96, 80), chunks=16, scale_factors=[2], method="itkwasm_gaussian")
    for phase in projected(plan, (1, 80), stream=False).phases:
        values = phase.to_dict()
        assert list(values) == [
            *("phase", "regions", "objects", "reads", "bytes_read", "bytes_written"),
            *("region_bytes", "thread_bytes", "held_bytes", "halo_objects", "halo_bytes"),
        ]
        assert values == {name: getattr(phase, name) for name in values}
