"""What a plan will cost: requests, bytes, and the memory that its regions take."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ngff_core.cache import cache_plan
from ngff_core.errors import MemoryLimitError
from ngff_core.geometry import Region, Shape, blocks_touched, ceil_div, window_of
from ngff_core.methods import kernel_for
from ngff_core.plan import LevelPlan, PyramidPlan

PROCESS_BYTES = 192 * 2**20
"""What a process takes beside its regions, over a bare interpreter with the packages
imported: the compiled WebAssembly module, codec and thread stacks, the allocator's slack."""

_READ = 1.0
_ENCODE = 4.0


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


@dataclass(frozen=True)
class Projection:
    """The cost of a build on this machine. Bytes are raw: before compression."""

    phases: tuple[PhaseCost, ...]
    in_flight: int
    memory_limit: int

    @property
    def peak_bytes(self) -> int:
        """Memory over that of an interpreter with the packages imported, at most."""
        return PROCESS_BYTES + max(
            phase.region_bytes * min(self.in_flight, phase.regions) for phase in self.phases
        )

    @property
    def objects(self) -> int:
        return sum(phase.objects for phase in self.phases)

    @property
    def requests(self) -> int:
        return sum(phase.objects + phase.reads for phase in self.phases)

    @property
    def bytes_read(self) -> int:
        return sum(phase.bytes_read for phase in self.phases)

    @property
    def bytes_written(self) -> int:
        return sum(phase.bytes_written for phase in self.phases)


def project(
    plan: PyramidPlan, read_unit: Shape, *, cached: bool, workers: int, memory_limit: int
) -> Projection:
    """What building ``plan`` costs from a source whose unit of decoding is ``read_unit``.

    The number of regions in flight is the largest, up to ``workers``, whose memory stays
    within ``memory_limit``; a MemoryLimitError names the need where not even one fits.
    """
    phases = []
    if cached:
        whole = cache_plan(plan, read_unit)
        phases.append(_cost("cache", whole, whole.levels[0], read_unit, read_unit))
        read_unit = whole.levels[0].chunks
    for level in plan.levels:
        unit = read_unit
        # What is read in place, like an array in memory, takes one reading a region.
        container = unit if math.prod(unit) > 1 else level.block
        if level.parent is not None:
            parent = plan.levels[level.parent]
            unit, container = parent.chunks, parent.write_unit
        phases.append(_cost(f"level-{level.index}", plan, level, unit, container))
    worst = max(phases, key=lambda phase: phase.region_bytes)
    in_flight = min(workers, (memory_limit - PROCESS_BYTES) // worst.region_bytes)
    if in_flight < 1:
        raise MemoryLimitError(
            f"memory_limit: {mebibytes(memory_limit)} is too little; one region of "
            f"{worst.phase} needs {mebibytes(PROCESS_BYTES + worst.region_bytes)}"
            f"{_hint(worst.phase)}"
        )
    return Projection(tuple(phases), in_flight, memory_limit)


def mebibytes(nbytes: int) -> str:
    """Bytes as people read them in memory limits, rounded up."""
    return f"{ceil_div(nbytes, 2**20)}MiB"


def _hint(phase: str) -> str:
    if phase == "cache":
        return ", since that much of the source can only be decoded together"
    return "; smaller shards or chunks need less"


def _cost(
    phase: str, plan: PyramidPlan, level: LevelPlan, unit: Shape, container: Shape
) -> PhaseCost:
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
    decoded_bytes = math.prod(axis.decoded for axis in axes) * itemsize
    working = kernel.workspace(window, plan.dtype, level.step) if kernel else 0
    unit_bytes = math.prod(level.write_unit) * itemsize
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
                window_bytes + _READ * decoded_bytes,
                window_bytes + working + out,
                out + _ENCODE * max(out, unit_bytes),
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
