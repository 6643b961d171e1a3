"""What a plan will cost: requests, bytes, and the memory that its regions take."""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ngff_core.errors import MemoryLimitError
from ngff_core.geometry import Region, Shape, blocks_touched, ceil_div, window_of
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.compressors import PART_BYTES
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.halos import LevelHalos, level_halos
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.schedule import held_bytes, slow_to_fast
from ngff_core.plan.source_cache import cache_plan

PROCESS_BYTES = 128 * 2**20
"""What a process takes beside its regions, over a bare interpreter with the packages
imported: codec and thread stacks, the allocator's slack. After the levels of 1 to 4 GiB of
noise 80 to 210 MiB were left, codecs' rooms included, and the peaks of ``make test-memory``
were 0.4 to 0.9 of the projection with 128."""

_MIB = 2**20
_READ = 1.0
_OWN_READ = 2.0
"""Objects of our own on the local disk that zarr has in memory for each of the machine's cores:
its fused pipeline reads one in a thread, as stored and what is decoded of it. Counted as if all
of a window were decoded at once, a window of 16 GiB's level 0 was 1.8 GiB, and 445 MiB measured."""
_CODEC = 3.0
"""Bytes for each byte of a chunk: its copy, what it is compressed to and a codec's room."""
_RECEIVED = 2.0
"""Bytes for each byte that comes over a network: a body's parts, and what they are joined to."""
_SENT = 4.0
"""Bytes for each byte that goes over one: the encoded object, the request that it is copied
into, and the connection's part of it, copied once more. With 8 shards of noise in flight
to ``gs://`` 120 MiB more were taken than was projected without."""


@dataclass(frozen=True)
class Remote:
    """What lies behind a network."""

    source: bool = False
    target: bool = False


@dataclass(frozen=True)
class PhaseCost:
    """The cost of a level, or of the cache pass."""

    phase: str
    regions: int
    objects: int
    reads: int
    bytes_read: int
    bytes_written: int
    region_bytes: int
    """Memory that one region in flight takes at most."""
    kept_bytes: int = 0
    """Memory that each thread keeps for windows of streamed levels, the largest counting."""
    held_bytes: int = 0
    """Memory for what waits of the parent's samples and of its own, where the level is
    streamed: computed from its parent's samples while they are in memory."""
    halo_objects: int = 0
    """Objects kept beside the target until the level is whole: strips of its parent's regions."""
    halo_bytes: int = 0
    """Bytes of these: written, and read once, which ``bytes_read`` has."""


@dataclass(frozen=True)
class Projection:
    """The cost of a build on this machine. Bytes are raw: before compression."""

    phases: tuple[PhaseCost, ...]
    in_flight: int
    memory_limit: int
    streamed: tuple[int, ...] = ()
    """Levels that are computed together with their parent, which is not read again."""
    held_bytes: int = 0
    """Memory at most for samples on their way from level to level."""

    @property
    def peak_bytes(self) -> int:
        """Memory over that of an interpreter with the packages imported, at most."""
        return _peak(self.phases, self.in_flight, self.held_bytes)

    @property
    def objects(self) -> int:
        return sum(phase.objects + phase.halo_objects for phase in self.phases)

    @property
    def requests(self) -> int:
        return self.objects + sum(phase.reads for phase in self.phases)

    @property
    def bytes_read(self) -> int:
        return sum(phase.bytes_read for phase in self.phases)

    @property
    def bytes_written(self) -> int:
        return sum(phase.bytes_written + phase.halo_bytes for phase in self.phases)


def project(
    plan: PyramidPlan,
    read_unit: Shape,
    *,
    cached: bool,
    workers: int,
    memory_limit: int,
    stream: bool = True,
    remote: Remote = Remote(),
) -> Projection:
    """What building ``plan`` costs from a source whose unit of decoding is ``read_unit``.

    The number of regions in flight is the largest, up to ``workers``, with which the build
    stays within ``memory_limit``; a MemoryLimitError names the need where not even one
    fits. With that many, each level is streamed from its parent if there is memory for what
    then waits, and otherwise computed from what its parent has stored; without ``stream``
    all are. Bodies of requests under way count where source or target are ``far``.
    """
    first = []
    beside = Remote(remote.target, remote.target)
    if cached:
        whole = cache_plan(plan, read_unit)
        first.append(_cost("cache", whole, whole.levels[0], read_unit, read_unit, remote))
        read_unit = whole.levels[0].chunks
    # What is read in place, like an array in memory, takes one reading a region.
    container = read_unit if math.prod(read_unit) > 1 else plan.levels[0].block
    near = beside if cached else remote
    first.append(_cost("level-0", plan, plan.levels[0], read_unit, container, near))
    kept = level_halos(plan, streamed=())
    apart = [
        _from_store(plan, level, read_unit, remote, kept.get(level.index))
        for level in plan.levels[1:]
    ]
    # Made once: of a petabyte their tables are most of what projecting takes.
    links = _links(plan) if stream else {}

    def within(limit: int, in_flight: int) -> Projection | None:
        most = limit if stream else 0
        phases = _phases(plan, first, apart, links, in_flight, most, remote.target)
        held = _held_at_once(plan, phases)
        if _peak(phases, in_flight, held) > limit:
            return None
        streamed = (
            level.index
            for level, phase in zip(plan.levels[1:], phases[len(first) :], strict=True)
            if phase.held_bytes
        )
        return Projection(phases, in_flight, memory_limit, tuple(streamed), held)

    for in_flight in range(workers, 0, -1):
        found = within(memory_limit, in_flight)
        if found is not None:
            return found
    worst = max((*first, *apart), key=lambda phase: phase.region_bytes)
    enough = range(ceil_div(_peak((*first, *apart), 1, 0), _MIB) + 1)
    least = bisect_left(enough, True, key=lambda n: within(n * _MIB, 1) is not None)
    raise MemoryLimitError(
        f"memory_limit: {mebibytes(memory_limit)} is too little; one region of {worst.phase} "
        f"at a time needs {least}MiB{_hint(worst.phase)}"
    )


def _held_at_once(plan: PyramidPlan, phases: Sequence[PhaseCost]) -> int:
    """What the streamed levels of one pass hold together; passes come one after another."""
    root_of: dict[int | None, int] = {}
    held: Counter[int] = Counter()
    for level, phase in zip(plan.levels, phases[-len(plan.levels) :], strict=True):
        root_of[level.index] = root_of[level.parent] if phase.held_bytes else level.index
        held[root_of[level.index]] += phase.held_bytes
    return max(held.values())


def _peak(phases: Sequence[PhaseCost], in_flight: int, held: int) -> int:
    at_work = max(phase.region_bytes * min(in_flight, phase.regions) for phase in phases)
    kept = in_flight * max(phase.kept_bytes for phase in phases)
    return PROCESS_BYTES + at_work + kept + held


def _phases(
    plan: PyramidPlan,
    first: Sequence[PhaseCost],
    apart: Sequence[PhaseCost],
    links: Mapping[int, LevelLink],
    in_flight: int,
    memory_limit: int,
    sent: bool,
) -> tuple[PhaseCost, ...]:
    """All phases, each level streamed if the whole then fits, or needs less than without."""
    phases = [*first, *apart]
    for place, level in enumerate(plan.levels[1:], len(first)):
        if level.parent is None or not memory_limit:
            continue
        streamed = _from_memory(plan, links[level.index], phases[place], in_flight, sent)
        other = [*phases[:place], streamed, *phases[place + 1 :]]
        need, before = (
            _peak(some, in_flight, _held_at_once(plan, some)) for some in (other, phases)
        )
        if need <= max(memory_limit, before - 1):
            phases = other
    return tuple(phases)


def _from_store(
    plan: PyramidPlan, level: LevelPlan, read_unit: Shape, remote: Remote, halos: LevelHalos | None
) -> PhaseCost:
    """The cost of a level that is computed from what its parent has stored.

    Of a pyramid that was put together by hand any level may come from elsewhere.
    """
    if level.parent is None:
        return _cost(f"level-{level.index}", plan, level, read_unit, read_unit, remote)
    parent, own = plan.levels[level.parent], Remote(remote.target, remote.target)
    at_once = None
    if not remote.target:
        at_once = round(_OWN_READ * (os.cpu_count() or 1)) * math.prod(parent.write_unit)
    found = _cost(
        f"level-{level.index}", plan, level, parent.chunks, parent.write_unit, own, at_once
    )
    return found if halos is None else _with_strips(found, plan, halos)


def _with_strips(cost: PhaseCost, plan: PyramidPlan, halos: LevelHalos) -> PhaseCost:
    """The same with strips: each chunk of the parent is read once, and each strip."""
    strips = halos.size * plan.dtype.itemsize
    return replace(
        cost,
        reads=halos.readings * (1 if halos.parent.shards is None else 2) + halos.parts,
        bytes_read=halos.decoded * plan.dtype.itemsize + strips,
        halo_objects=halos.objects,
        halo_bytes=strips,
    )


def _links(plan: PyramidPlan) -> dict[int, LevelLink]:
    """The way to each level from its parent, by the level's number."""
    kernel = kernel_for(plan.method)
    return {
        level.index: LevelLink(plan.levels[level.parent], level, kernel.halo(level.step))
        for level in plan.levels
        if level.parent is not None
    }


def _from_memory(
    plan: PyramidPlan, link: LevelLink, apart: PhaseCost, in_flight: int, sent: bool
) -> PhaseCost:
    """The cost of a level that is computed from its parent's samples on their way."""
    parent, level = link.parent, link.child
    kernel, itemsize = kernel_for(plan.method), plan.dtype.itemsize
    block = _clip(parent.block, parent.shape)
    window = tuple(
        min(n, b + link.reach(i)) for i, (n, b) in enumerate(zip(parent.shape, block, strict=True))
    )
    # The samples themselves, of the tile's windows and of what is stored, are held or kept. A
    # window that nothing needs to be copied for is not cut, so its result counts whole.
    out = math.prod(window) * itemsize // math.prod(level.step)
    tile = kernel.workspace(window, plan.dtype, level.step) + out
    return replace(
        apart,
        reads=0,
        bytes_read=0,
        halo_objects=0,
        halo_bytes=0,
        region_bytes=max(tile, _storing_bytes(level, itemsize, sent)),
        kept_bytes=link.part_bytes(itemsize),
        held_bytes=held_bytes(link, slow_to_fast(plan), itemsize, in_flight),
    )


def _storing_bytes(level: LevelPlan, itemsize: int, sent: bool) -> int:
    """Memory for encoding a region and putting it, beside its samples, of which strips may be
    copied. Objects are put one after another."""
    chunk = _CODEC * math.prod(level.chunks) * itemsize + PART_BYTES
    body = _SENT * math.prod(level.write_unit) * itemsize if sent else 0.0
    return round(max(chunk, body, _raw(level.block, level.shape) * itemsize))


def _raw(block: Shape, shape: Shape) -> int:
    return math.prod(_clip(block, shape))


def mebibytes(nbytes: int) -> str:
    """Bytes as people read them in memory limits, rounded up."""
    return f"{ceil_div(nbytes, 2**20)}MiB"


def _hint(phase: str) -> str:
    if phase == "cache":
        return ", since that much of the source can only be decoded together"
    return "; smaller shards or chunks need less"


def _cost(
    phase: str,
    plan: PyramidPlan,
    level: LevelPlan,
    unit: Shape,
    container: Shape,
    remote: Remote,
    at_once: int | None = None,
) -> PhaseCost:
    """What a phase takes; no more than ``at_once`` samples are decoded beside its window."""
    itemsize = plan.dtype.itemsize
    kernel = None if level.parent is None else kernel_for(plan.method)
    parent_shape = level.shape if level.parent is None else plan.levels[level.parent].shape
    halo = kernel.halo(level.step) if kernel else (0,) * len(level.step)
    axes = [
        _axis_cost(n, block, step=step, halo=h, parent_n=parent_n, unit=u, container=c)
        for n, block, step, h, parent_n, u, c in zip(
            level.shape, level.block, level.step, halo, parent_shape, unit, container, strict=True
        )
    ]
    window = tuple(axis.window for axis in axes)
    out = math.prod(_clip(level.block, level.shape)) * itemsize
    window_bytes = math.prod(window) * itemsize
    decoded = math.prod(axis.decoded for axis in axes)
    decoded_bytes = (decoded if at_once is None else min(decoded, at_once)) * itemsize
    working = kernel.workspace(window, plan.dtype, level.step) if kernel else 0
    return PhaseCost(
        phase=phase,
        regions=level.regions,
        objects=level.objects,
        reads=math.prod(axis.containers for axis in axes)
        * (1 if unit == container or math.prod(unit) == 1 else 2),
        bytes_read=math.prod(axis.total_decoded for axis in axes) * itemsize,
        bytes_written=math.prod(level.shape) * itemsize,
        region_bytes=round(
            max(
                window_bytes + (_READ + _RECEIVED * remote.source) * decoded_bytes,
                window_bytes + working + out,
                out + _storing_bytes(level, itemsize, remote.target),
            )
        ),
    )


@dataclass(frozen=True)
class _AxisCost:
    """Along one axis: the longest window and what decoding it takes, and the sums of
    decoded samples and of touched objects over all regions. Windows, units and objects
    lie on grids, so a box's figure is the product of its axes' figures."""

    window: int
    decoded: int
    total_decoded: int
    containers: int


def _axis_cost(
    n: int, block: int, *, step: int, halo: int, parent_n: int, unit: int, container: int
) -> _AxisCost:
    windows = [
        window_of(Region((a,), (min(a + block, n),)), (step,), (halo,), (parent_n,)).box
        for a in range(0, n, block)
    ]
    decoded = [
        min(ceil_div(w.stop[0], unit) * unit, parent_n) - w.start[0] // unit * unit for w in windows
    ]
    return _AxisCost(
        window=max(w.shape[0] for w in windows),
        decoded=max(decoded),
        total_decoded=sum(decoded),
        containers=sum(blocks_touched(w, (container,)) for w in windows),
    )


def _clip(shape: Shape, to: Shape) -> Shape:
    return tuple(min(a, b) for a, b in zip(shape, to, strict=True))
