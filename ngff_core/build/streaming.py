"""One pass over the levels: read, compute, store; each sample is decoded once.

The driver's thread starts three kinds of jobs and keeps track of them; the executor's
threads do them. *Load* reads the samples of a region. *Tile* computes from them what can be
computed of the next level. *Store* encodes and writes a region and returns its receipt.
Tiles go before stores and stores before loads, so that samples leave memory as soon as
they can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ngff_core.blocks import Block, BlockedArray, PlacedBlock, assemble
from ngff_core.build.in_flight import MemoryAccount, RegionAssembly, TileInputs
from ngff_core.geometry import Region, Shape, blocks, intersection, is_box, within
from ngff_core.kernels.contract import Kernel
from ngff_core.memory import ScratchBuffer, release_memory
from ngff_core.plan.dependencies import LevelLink, Tile
from ngff_core.plan.schedule import PassPlan, PassRequirements
from ngff_core.records.ledger import Receipt
from ngff_core.storage.page_cache import write_behind


class LevelIO(Protocol):
    """How a pass reads and stores one level. Threads call `load`, `read` and `store`."""

    @property
    def done(self) -> Collection[int]:
        """Regions that are stored now; a snapshot, which later stores do not change."""
        ...

    def load(self, region: int) -> BlockedArray:
        """Samples of a region that is not stored, computed from the level's parent."""
        ...

    def read(self, region: int) -> BlockedArray:
        """Samples of a region that is stored."""
        ...

    def store(self, region: int, samples: BlockedArray) -> Receipt:
        """Store a region that is not stored yet."""
        ...

    def record(self, receipt: Receipt) -> None:
        """Record that a region is stored; called in the driver's thread only."""
        ...


class TooMuchHeldError(Exception):
    """A pass holds as much memory as it may, and can release none of it."""


class LevelFailedError(Exception):
    """A job of a level failed; ``__cause__`` is the error that the job raised."""

    def __init__(self, level: int) -> None:
        super().__init__(f"level {level} failed")
        self.level = level


@dataclass(frozen=True)
class _Job:
    """Work for a thread, and what the driver does with its result."""

    level: int
    work: Callable[[], object]
    then: Callable[[object], None]
    loads: int = 0
    """Bytes that it brings into memory."""


@dataclass(frozen=True)
class PassLimits:
    """How many jobs a pass runs at once, and how many bytes of samples it may hold."""

    in_flight: int
    held_bytes: int


class Pass:
    """A pass over the levels of ``pass_plan``; `run` returns when all of them are complete.

    ``level_ios`` has the storage of each level by its index. ``check`` is called before
    jobs are started, and raises where the work must stop.
    """

    def __init__(
        self,
        pass_plan: PassPlan,
        level_ios: Mapping[int, LevelIO],
        kernel: Kernel,
        *,
        executor: Executor,
        limits: PassLimits,
        check: Callable[[], None],
    ) -> None:
        self._pass_plan = pass_plan
        self._level_ios = level_ios
        self._kernel = kernel
        self._executor = executor
        self._in_flight = limits.in_flight
        self._held_limit = limits.held_bytes
        self._check = check
        self._requirements = PassRequirements(
            pass_plan, {k: level_io.done for k, level_io in level_ios.items()}
        )
        self._account = MemoryAccount()
        self._tile_inputs = {
            link.child.index: TileInputs(
                link, partial(self._requirements.wants_tile, link), self._account
            )
            for link in pass_plan.links
        }
        self._assemblies = {
            link.child.index: RegionAssembly(link.child, pass_plan.plan.dtype, self._account)
            for link in pass_plan.links
        }
        self._loads = self._load_jobs()
        self._next_load: _Job | None = None
        self._tiles: list[tuple[LevelLink, int]] = []
        self._stores: deque[_Job] = deque()
        self._at_hand: list[BlockedArray] = []
        self._running: dict[Future[object], _Job] = {}

    def run(self) -> None:
        """Do what remains of the levels.

        If a job fails, no other is started; those under way are waited for, what they stored
        is recorded, and LevelFailedError is raised. The same happens if ``check`` raises,
        and its own error is raised then. Raises TooMuchHeldError if the limits allow no job.
        """
        try:
            while self._start_jobs():
                self._end_jobs()
        except BaseException:
            self._drain()
            raise
        finally:
            # Once for each pass: after each region it only made the same pages come back.
            release_memory()
            write_behind.settle()

    def _start_jobs(self) -> bool:
        """Start the jobs that the limits allow; whether any job is under way."""
        self._check()
        while len(self._running) < self._in_flight:
            job = self._next()
            if job is None:
                break
            self._running[self._executor.submit(job.work)] = job
        if not self._running and self._next_load is not None:
            raise TooMuchHeldError
        return bool(self._running)

    def _next(self) -> _Job | None:
        if self._tiles:
            return self._tile_job(*self._tiles.pop())
        if self._stores:
            return self._stores.popleft()
        if self._next_load is None:
            self._next_load = next(self._loads, None)
        job = self._next_load
        if job is None or not self._may_load(job):
            return None
        self._next_load = None
        return job

    def _may_load(self, job: _Job) -> bool:
        # If no level is streamed, each region is stored next, since stores go before loads.
        if not self._pass_plan.links or not self._held:
            return True
        # Other loads do not pile up behind one that takes long: the projection relies on the
        # number of regions that are held, and on the number that are open in the next level.
        loading = sum(job.loads > 0 for job in self._running.values())
        return (
            self._held + job.loads <= self._held_limit
            and len(self._at_hand) + loading < 2 * self._in_flight
        )

    @property
    def _held(self) -> int:
        return self._account.nbytes + sum(job.loads for job in self._running.values())

    def _end_jobs(self) -> None:
        # A method of its own: a future left in a variable of the loop would keep its samples.
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            self._end(future)
        self._at_hand = [samples for samples in self._at_hand if self._account.has(samples)]

    def _end(self, future: Future[object]) -> None:
        job = self._running.pop(future)
        try:
            result = future.result()
        except BaseException as error:
            raise LevelFailedError(job.level) from error
        job.then(result)

    def _drain(self) -> None:
        """Wait for the jobs under way, and record what they stored."""
        for future in self._running:
            future.cancel()
        for future in wait(self._running).done:
            if not future.cancelled() and future.exception() is None:
                result = future.result()
                if isinstance(result, Receipt):
                    self._level_ios[self._running[future].level].record(result)
        self._running = {}

    def _load_jobs(self) -> Iterator[_Job]:
        itemsize = self._pass_plan.plan.dtype.itemsize
        for level, region in self._requirements.loads():
            level_io = self._level_ios[level]
            stored = self._requirements.is_done(level, region)
            yield _Job(
                level,
                partial(level_io.read if stored else level_io.load, region),
                partial(self._loaded, level, region, stored),
                loads=self._pass_plan.plan.levels[level].region(region).size * itemsize,
            )

    def _loaded(self, level: int, region: int, stored: bool, samples: object) -> None:
        assert isinstance(samples, BlockedArray)
        self._at_hand.append(samples)
        self._take(level, region, samples, stored=stored)

    def _take(self, level: int, region: int, samples: BlockedArray, *, stored: bool) -> None:
        """Plan the jobs that need a region's samples, which are in memory now."""
        if not stored:
            self._account.hold(samples)
            self._stores.append(
                _Job(
                    level,
                    partial(self._level_ios[level].store, region, samples),
                    partial(self._stored, level, samples),
                )
            )
        for link in self._pass_plan.links_from(level):
            ready = self._tile_inputs[link.child.index].offer(region, samples)
            self._tiles.extend((link, tile) for tile in ready)

    def _stored(self, level: int, samples: BlockedArray, receipt: object) -> None:
        assert isinstance(receipt, Receipt)
        self._account.release(samples)
        self._level_ios[level].record(receipt)

    def _tile_job(self, link: LevelLink, index: int) -> _Job:
        child, tile = link.child, link.tile(index)
        pieces = self._tile_inputs[child.index].pieces(index)
        parts = {
            region: (intersection(child.region(region), tile.out), child.region(region))
            for region in link.children_of(index)
            if not self._requirements.is_done(child.index, region)
        }
        assembly = self._assemblies[child.index]
        targets = [
            (part, assembly.buffer(region)[within(part, box)])
            for region, (part, box) in parts.items()
        ]
        counts = {region: part.size for region, (part, _) in parts.items()}
        return _Job(
            child.index,
            partial(_compute, self._kernel, link, tile, pieces, targets),
            partial(self._computed, link, index, counts),
        )

    def _computed(self, link: LevelLink, tile: int, counts: Mapping[int, int], _: object) -> None:
        child = link.child.index
        self._tile_inputs[child].used(tile)
        for region, count in counts.items():
            samples = self._assemblies[child].filled(region, count)
            if samples is not None:
                self._take(child, region, samples, stored=False)


_windows = ScratchBuffer()


def _compute(
    kernel: Kernel,
    link: LevelLink,
    tile: Tile,
    pieces: Sequence[PlacedBlock],
    targets: Sequence[tuple[Region, Block]],
) -> None:
    step = link.child.step
    for out, window, offset in _parts(link, tile, pieces):
        samples = kernel.reduce(window, offset, step, out.shape)
        for part, target in targets:
            common = intersection(part, out)
            if is_box(common):
                target[within(common, part)] = samples[within(common, out)]


def _parts(
    link: LevelLink, tile: Tile, pieces: Sequence[PlacedBlock]
) -> Iterator[tuple[Region, Block, Shape]]:
    """Boxes that cover a tile, the window of each in the parent, and the window's offset.

    If each bin lies in one piece (a box and its array), the windows are views of the pieces.
    Otherwise, and for kernels with a halo, windows are copied together; each is small enough
    to be still in the processor's cache when the kernel reads it.
    """
    box, step = tile.window.box, link.child.step
    if not any(link.halo):
        cuts = [(intersection(region, box), region, block) for region, block in pieces]
        cuts = [(cut, region, block) for cut, region, block in cuts if is_box(cut)]
        if all(_in_phase(cut, step) for cut, _, _ in cuts):
            for cut, region, block in cuts:
                out = Region(_divided(cut.start, step), _divided(cut.stop, step))
                yield out, block[within(cut, region)], (0,) * len(step)
            return
    for out in blocks(tile.out, link.part(pieces[0][1].itemsize)):
        window = link.window(out)
        yield out, assemble(window.box, pieces, _windows), window.offset


def _in_phase(cut: Region, step: Shape) -> bool:
    """Whether a box begins and ends at edges of bins."""
    return not any(a % k for at in (cut.start, cut.stop) for a, k in zip(at, step, strict=True))


def _divided(at: Shape, step: Shape) -> Shape:
    return tuple(a // k for a, k in zip(at, step, strict=True))
