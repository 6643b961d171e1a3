"""The projected cost of a build: requests, bytes, and the memory that it takes.

Projecting also decides how many regions are in flight at once, and which levels are
streamed, so that the build stays within its memory limit.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ngff_core.errors import MemoryLimitError
from ngff_core.geometry import Shape, ceil_div
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.costs import Input, PhaseCost, stored_cost, streamed_cost, with_halo_strips
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.halos import level_halos
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.source_cache import cache_plan

PROCESS_BYTES = 128 * 2**20
"""Memory of a process beside its regions, above that of an interpreter with the packages
imported: stacks of codecs and threads, the allocator's slack. After the levels of 1 to 4 GiB
of noise 80 to 210 MiB were left, the codecs' buffers included. With 128 the peaks of
``make test-memory`` were 0.4 to 0.9 of the projection."""

_MIB = 2**20
_OWN_READ = 2.0
"""Objects of this build on the local disk that zarr has in memory for each core of the machine:
its fused pipeline reads one object in a thread, as stored and what is decoded of it. With the
whole window counted as decoded at once instead, a window of level 0 of a 16 GiB image was
projected at 1.8 GiB, and 445 MiB were measured."""


@dataclass(frozen=True)
class Remote:
    """Whether source and target are read and written over a network."""

    source: bool = False
    target: bool = False


@dataclass(frozen=True)
class Projection:
    """The cost of a build on this machine. Bytes are raw: before compression."""

    phases: tuple[PhaseCost, ...]
    """In order: the cache pass if there is one, then each level."""
    in_flight: int
    """Regions in flight at once."""
    memory_limit: int
    streamed: tuple[int, ...] = ()
    """Numbers of the levels that are computed while their parent's samples are in memory."""
    held_bytes: int = 0
    """Memory at most for samples that wait between a level and the levels streamed from it."""

    @property
    def peak_bytes(self) -> int:
        """Memory at most, above that of an interpreter with the packages imported."""
        return _peak(self.phases, self.in_flight, self.held_bytes)

    @property
    def objects(self) -> int:
        """Objects written, halo strips included."""
        return sum(phase.objects + phase.halo_objects for phase in self.phases)

    @property
    def requests(self) -> int:
        """Requests for writing and reading samples."""
        return self.objects + sum(phase.reads for phase in self.phases)

    @property
    def bytes_read(self) -> int:
        """Bytes decoded in all phases."""
        return sum(phase.bytes_read for phase in self.phases)

    @property
    def bytes_written(self) -> int:
        """Bytes written in all phases, halo strips included."""
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
    """The cost of building ``plan`` from a source that decodes in boxes of ``read_unit``.

    The number of regions in flight is the largest, up to ``workers``, with which the build
    stays within ``memory_limit`` bytes. With that many, each level is streamed from its
    parent if there is memory for the samples that wait meanwhile, and otherwise computed from
    what its parent has stored; with ``stream`` false, all levels are. ``cached`` says whether
    the source is rewritten to a cache first. ``remote`` says which of source and target are
    on a network, where the bodies of requests in flight take memory too.

    Raises `MemoryLimitError`, with the memory needed, if not even one region at a time fits.
    """
    costs = _BuildCosts.of(plan, read_unit, cached=cached, stream=stream, remote=remote)
    for in_flight in range(workers, 0, -1):
        projection = costs.within(memory_limit, in_flight)
        if projection is not None:
            return projection
    raise costs.refusal(memory_limit)


def mebibytes(nbytes: int) -> str:
    """Bytes as a memory limit is written, such as ``512MiB``; rounded up."""
    return f"{ceil_div(nbytes, _MIB)}MiB"


@dataclass(frozen=True)
class _BuildCosts:
    """The costs of a build's phases where every level is stored first and then read again."""

    plan: PyramidPlan
    first: tuple[PhaseCost, ...]
    """The cache pass, if there is one, and level 0."""
    stored: tuple[PhaseCost, ...]
    """The levels from 1 on, each computed from what its parent has stored."""
    links: Mapping[int, LevelLink]
    """By level number, the link from its parent; empty if no level may be streamed."""
    remote_target: bool

    @classmethod
    def of(
        cls, plan: PyramidPlan, read_unit: Shape, *, cached: bool, stream: bool, remote: Remote
    ) -> _BuildCosts:
        first, base = [], plan.levels[0]
        if cached:
            cache = cache_plan(plan, read_unit)
            source = Input(read_unit, read_unit, remote.source)
            first.append(stored_cost("cache", cache, cache.levels[0], source, remote.target))
            read_unit = cache.levels[0].chunks
        # A source without a unit of decoding, such as an array in memory, is read once a region.
        container = read_unit if math.prod(read_unit) > 1 else base.block
        # The cache is beside the target.
        given = Input(read_unit, container, remote.target if cached else remote.source)
        first.append(stored_cost("level-0", plan, base, given, remote.target))
        halos = level_halos(plan, streamed=())
        stored = []
        for level in plan.levels[1:]:
            cost = _stored_level(plan, level, read_unit, remote)
            if level.parent is not None and level.index in halos:
                cost = with_halo_strips(cost, plan, halos[level.index])
            stored.append(cost)
        # Made once: for a petabyte their tables are most of the time that projecting takes.
        links = _links(plan) if stream else {}
        return cls(plan, tuple(first), tuple(stored), links, remote.target)

    def within(self, memory_limit: int, in_flight: int) -> Projection | None:
        """The projection with this many regions in flight; None if it exceeds the limit."""
        phases = self._phases(memory_limit, in_flight)
        held = _held_at_once(self.plan, phases)
        if _peak(phases, in_flight, held) > memory_limit:
            return None
        streamed = tuple(
            level.index
            for level, phase in zip(self.plan.levels[1:], phases[len(self.first) :], strict=True)
            if phase.held_bytes
        )
        return Projection(phases, in_flight, memory_limit, streamed, held)

    def _phases(self, memory_limit: int, in_flight: int) -> tuple[PhaseCost, ...]:
        """All phases; a level is streamed if the build then fits, or needs less than without."""
        phases = [*self.first, *self.stored]
        for place, level in enumerate(self.plan.levels[1:], len(self.first)):
            if level.index not in self.links:
                continue
            link = self.links[level.index]
            streamed = streamed_cost(self.plan, link, phases[place], in_flight, self.remote_target)
            changed = [*phases[:place], streamed, *phases[place + 1 :]]
            need, before = (
                _peak(some, in_flight, _held_at_once(self.plan, some)) for some in (changed, phases)
            )
            if need <= max(memory_limit, before - 1):
                phases = changed
        return tuple(phases)

    def refusal(self, memory_limit: int) -> MemoryLimitError:
        """The error for a limit that is too low, with the least limit that is enough."""
        worst = max((*self.first, *self.stored), key=lambda phase: phase.region_bytes)
        enough = range(ceil_div(_peak((*self.first, *self.stored), 1, 0), _MIB) + 1)
        least = bisect_left(enough, True, key=lambda n: self.within(n * _MIB, 1) is not None)
        return MemoryLimitError(
            f"memory_limit: {mebibytes(memory_limit)} is too little; one region of {worst.phase} "
            f"at a time needs {least}MiB{_advice(worst.phase)}"
        )


def _advice(phase: str) -> str:
    if phase == "cache":
        return (
            ", because that much of the source can only be decoded together; "
            "raise the limit, or store the source in smaller chunks, strips or tiles"
        )
    return "; raise the limit, or choose smaller shards or chunks"


def _stored_level(
    plan: PyramidPlan, level: LevelPlan, read_unit: Shape, remote: Remote
) -> PhaseCost:
    """The cost of a level above 0 that is computed from what its parent has stored."""
    phase = f"level-{level.index}"
    if level.parent is None:
        # In a pyramid that was assembled by hand, any level may come from elsewhere.
        given = Input(read_unit, read_unit, remote.source)
        return stored_cost(phase, plan, level, given, remote.target)
    parent = plan.levels[level.parent]
    most_decoded = None
    if not remote.target:
        most_decoded = round(_OWN_READ * (os.cpu_count() or 1)) * math.prod(parent.write_unit)
    given = Input(parent.chunks, parent.write_unit, remote.target, most_decoded)
    return stored_cost(phase, plan, level, given, remote.target)


def _links(plan: PyramidPlan) -> dict[int, LevelLink]:
    """By level number, the link from its parent to the level."""
    kernel = kernel_for(plan.method)
    return {
        level.index: LevelLink(plan.levels[level.parent], level, kernel.halo(level.step))
        for level in plan.levels
        if level.parent is not None
    }


def _held_at_once(plan: PyramidPlan, phases: Sequence[PhaseCost]) -> int:
    """Bytes held by the streamed levels of one pass together; passes run one after another."""
    root_of: dict[int | None, int] = {}
    held: Counter[int] = Counter()
    for level, phase in zip(plan.levels, phases[-len(plan.levels) :], strict=True):
        root_of[level.index] = root_of[level.parent] if phase.held_bytes else level.index
        held[root_of[level.index]] += phase.held_bytes
    return max(held.values())


def _peak(phases: Sequence[PhaseCost], in_flight: int, held: int) -> int:
    """Bytes at most: the process, its regions in flight, each thread's buffer, what is held."""
    regions = max(phase.region_bytes * min(in_flight, phase.regions) for phase in phases)
    threads = in_flight * max(phase.thread_bytes for phase in phases)
    return PROCESS_BYTES + regions + threads + held
