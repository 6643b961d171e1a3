"""The cost of one phase: the requests, bytes and memory for a level, or for the cache pass.

Windows, decoding units and stored objects all lie on grids, so each figure of a level is a
product of figures of its axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ngff_core.geometry import Region, Shape, blocks_touched, ceil_div, window_of
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.compressors import PART_BYTES
from ngff_core.plan.dependencies import LevelLink
from ngff_core.plan.halos import LevelHalos
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.schedule import held_bytes, slow_to_fast

_READ = 1.0
"""Bytes in memory for each decoded byte, beside the window that the samples are copied to."""
_CODEC = 3.0
"""Bytes for each byte of a chunk that is encoded: its copy, the compressed chunk, and the
codec's working memory."""
_RECEIVED = 2.0
"""Bytes for each byte received over a network: the parts of a response's body, and the body
that they are joined to."""
_FEW = 4096
"""Blocks of an axis that are counted one by one."""
_SENT = 4.0
"""Bytes for each byte sent over a network: the encoded object, the request that it is copied
into, and the connection's part of it, copied once more. With 8 shards of noise in flight to
``gs://`` a build took 120 MiB more than was projected without this."""


@dataclass(frozen=True)
class PhaseTransfers:
    """What a phase reads and writes of samples. Bytes are raw: before compression."""

    objects: int
    """Objects written for the level's samples."""
    reads: int
    """Read requests, those for halo strips included."""
    bytes_read: int
    """Bytes decoded, halo strips included."""
    bytes_written: int
    """Bytes of the level's samples."""


@dataclass(frozen=True)
class PhaseMemory:
    """Memory at most that a phase takes, in bytes."""

    region_bytes: int
    """Of one region in flight."""
    thread_bytes: int = 0
    """Kept by each thread for the windows of a streamed level. One buffer serves all levels, so
    only the largest counts."""
    held_bytes: int = 0
    """For samples of a streamed level and its parent that wait for others. A level is streamed
    if it is computed from its parent's samples while these are in memory."""


@dataclass(frozen=True)
class StripCost:
    """Halo strips of the parent's regions, kept beside the target until the level is complete."""

    halo_objects: int = 0
    """Objects that the strips are stored in."""
    halo_bytes: int = 0
    """Raw bytes of the strips. They are written once and read once; `PhaseTransfers` counts the
    reading."""


@dataclass(frozen=True)
class PhaseCost:
    """The cost of a phase: of a level, or of the cache pass. Bytes are raw."""

    phase: str
    """``level-0``, ``level-1`` … or ``cache``."""
    regions: int
    transfers: PhaseTransfers
    memory: PhaseMemory
    strips: StripCost = StripCost()

    @property
    def objects(self) -> int:
        """Objects written for the level's samples."""
        return self.transfers.objects

    @property
    def reads(self) -> int:
        """Read requests."""
        return self.transfers.reads

    @property
    def bytes_read(self) -> int:
        """Bytes decoded."""
        return self.transfers.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes of the level's samples."""
        return self.transfers.bytes_written

    @property
    def region_bytes(self) -> int:
        """Memory that one region in flight takes at most."""
        return self.memory.region_bytes

    @property
    def thread_bytes(self) -> int:
        """Memory that each thread keeps for windows."""
        return self.memory.thread_bytes

    @property
    def held_bytes(self) -> int:
        """Memory for samples that wait for others; 0 for a level that is not streamed."""
        return self.memory.held_bytes

    @property
    def halo_objects(self) -> int:
        """Objects with halo strips of the parent's regions."""
        return self.strips.halo_objects

    @property
    def halo_bytes(self) -> int:
        """Bytes of these halo strips."""
        return self.strips.halo_bytes

    def to_dict(self) -> dict[str, Any]:
        """The cost as JSON values, all figures side by side."""
        return {
            "phase": self.phase,
            "regions": self.regions,
            **asdict(self.transfers),
            **asdict(self.memory),
            **asdict(self.strips),
        }


@dataclass(frozen=True)
class Input:
    """How the samples that a phase reads are stored."""

    unit: Shape
    """The box that is decoded at once."""
    container: Shape
    """The box that one stored object holds."""
    remote: bool
    """Whether they are read over a network."""
    most_decoded: int | None = None
    """Number of samples that are decoded at the same time at most; None for a whole window."""


def stored_cost(
    phase: str, plan: PyramidPlan, level: LevelPlan, given: Input, remote_target: bool
) -> PhaseCost:
    """The cost of a phase that reads its input, region by region, from storage.

    The input of a level with a parent is the parent's samples; otherwise it is the source.
    """
    itemsize = plan.dtype.itemsize
    kernel = None if level.parent is None else kernel_for(plan.method)
    parent_shape = level.shape if level.parent is None else plan.levels[level.parent].shape
    halo = kernel.halo(level.step) if kernel else (0,) * len(level.step)
    axes = [_axis_cost(axis, level, parent_shape, halo, given) for axis in range(len(halo))]
    window = tuple(axis.window for axis in axes)
    window_bytes = math.prod(window) * itemsize
    decoded = math.prod(axis.decoded for axis in axes)
    if given.most_decoded is not None:
        decoded = min(decoded, given.most_decoded)
    reading = (_READ + _RECEIVED * given.remote) * decoded * itemsize
    computing = kernel.workspace(window, plan.dtype, level.step) if kernel else 0
    out = raw_samples(level.block, level.shape) * itemsize
    # Of a shard its index and its chunks are read, an object without shards in one request.
    requests = 1 if given.unit == given.container or math.prod(given.unit) == 1 else 2
    transfers = PhaseTransfers(
        objects=level.objects,
        reads=math.prod(axis.containers for axis in axes) * requests,
        bytes_read=math.prod(axis.total_decoded for axis in axes) * itemsize,
        bytes_written=math.prod(level.shape) * itemsize,
    )
    # A region is read, computed and stored in turn: the largest of the three counts.
    region_bytes = max(
        window_bytes + reading,
        window_bytes + computing + out,
        out + storing_bytes(level, itemsize, remote_target),
    )
    return PhaseCost(phase, level.regions, transfers, PhaseMemory(round(region_bytes)))


def with_halo_strips(cost: PhaseCost, plan: PyramidPlan, halos: LevelHalos) -> PhaseCost:
    """The cost where the parent's regions save halo strips for the level.

    Each chunk of the parent is then read once, and so is each strip.
    """
    strips = StripCost(halos.objects, halos.size * plan.dtype.itemsize)
    transfers = replace(
        cost.transfers,
        reads=halos.readings * (1 if halos.parent.shards is None else 2) + halos.parts,
        bytes_read=halos.decoded * plan.dtype.itemsize + strips.halo_bytes,
    )
    return replace(cost, transfers=transfers, strips=strips)


def streamed_cost(
    plan: PyramidPlan, link: LevelLink, stored: PhaseCost, in_flight: int, remote_target: bool
) -> PhaseCost:
    """The cost of a level that is computed from its parent's samples while they are in memory.

    ``stored`` is its cost where it reads them from storage.
    """
    parent, level = link.parent, link.child
    kernel, itemsize = kernel_for(plan.method), plan.dtype.itemsize
    block = clipped(parent.block, parent.shape)
    window = tuple(
        min(n, b + link.reach(i)) for i, (n, b) in enumerate(zip(parent.shape, block, strict=True))
    )
    # The samples themselves count as held, or as each thread's windows. A window that needs no
    # copy is not cut into parts, so the result of a complete window counts here.
    out = math.prod(window) * itemsize // math.prod(level.step)
    tile = kernel.workspace(window, plan.dtype, level.step) + out
    memory = PhaseMemory(
        region_bytes=max(tile, storing_bytes(level, itemsize, remote_target)),
        thread_bytes=link.part_bytes(itemsize),
        held_bytes=held_bytes(link, slow_to_fast(plan), itemsize, in_flight),
    )
    transfers = replace(stored.transfers, reads=0, bytes_read=0)
    return PhaseCost(stored.phase, stored.regions, transfers, memory)


def storing_bytes(level: LevelPlan, itemsize: int, remote_target: bool) -> int:
    """Memory for encoding and writing a region, beside its samples.

    The largest of: a chunk in the encoder and a part of encoded chunks; the body of a
    request, whose objects are sent one after another; a copy of the samples for halo strips.
    """
    chunk = _CODEC * math.prod(level.chunks) * itemsize + PART_BYTES
    body = _SENT * math.prod(level.write_unit) * itemsize if remote_target else 0.0
    return round(max(chunk, body, raw_samples(level.block, level.shape) * itemsize))


def raw_samples(block: Shape, shape: Shape) -> int:
    """Samples of the largest region of a level of ``shape`` that is cut into ``block``."""
    return math.prod(clipped(block, shape))


def clipped(shape: Shape, limit: Shape) -> Shape:
    """``shape``, on each axis no longer than ``limit``."""
    return tuple(min(a, b) for a, b in zip(shape, limit, strict=True))


@dataclass(frozen=True)
class _AxisCost:
    """Figures of one axis."""

    window: int
    """Samples of the longest window."""
    decoded: int
    """Samples that are decoded for a window, at most."""
    total_decoded: int
    """Samples that are decoded for all windows together."""
    containers: int
    """Stored objects that are read for all windows together."""


def _axis_cost(
    axis: int, level: LevelPlan, parent_shape: Shape, halo: Shape, given: Input
) -> _AxisCost:
    n, block, parent_n = level.shape[axis], level.block[axis], parent_shape[axis]
    unit, container = given.unit[axis], given.container[axis]
    # A unit at the array's end is cut there, or else is larger than all of the array.
    end = max(parent_n, unit)

    def figures(number: int) -> tuple[int, int, int]:
        """Samples of a block's window, those decoded for it, and the objects they lie in."""
        region = Region((number * block,), (min((number + 1) * block, n),))
        window = window_of(region, (level.step[axis],), (halo[axis],), (parent_n,)).box
        start, stop = window.start[0], window.stop[0]
        decoded = min(ceil_div(stop, unit) * unit, end) - start // unit * unit
        return stop - start, decoded, blocks_touched(window, (container,))

    # A unit of the whole axis lies alike for every block.
    grids = [size for size in (unit, container) if size < parent_n]
    stride = block * level.step[axis]
    period = math.lcm(stride, *grids) // stride
    found = repeated(figures, ceil_div(n, block), period, halo[axis])
    return _AxisCost(
        window=max(window for (window, _, _), _ in found),
        decoded=max(decoded for (_, decoded, _), _ in found),
        total_decoded=sum(decoded * times for (_, decoded, _), times in found),
        containers=sum(containers * times for (_, _, containers), times in found),
    )


def repeated(
    figures: Callable[[int], tuple[int, ...]], count: int, period: int, halo: int
) -> list[tuple[tuple[int, ...], int]]:
    """The figures of ``count`` blocks along an axis, and of how many blocks each are.

    Blocks a whole ``period`` apart lie alike on all grids, but those near the ends of the axis,
    which a halo of that many samples may reach over. So an axis of billions costs a few.
    """
    ends = period * (2 + halo)
    if count <= max(2 * ends + period, _FEW):
        return [(figures(number), 1) for number in range(count)]
    middle = (count - 2 * ends) // period
    first = [(figures(number), 1) for number in range(ends)]
    inner = [(figures(number), middle) for number in range(ends, ends + period)]
    last = [(figures(number), 1) for number in range(ends + middle * period, count)]
    return first + inner + last
