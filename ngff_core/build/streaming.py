"""One pass over the levels: read, compute, store, each sample decoded once.

The driver hands out three kinds of jobs and keeps the books; the executor's threads do
them. *Load* brings a region's samples, *tile* computes from them what can be computed of
the next level, *store* encodes and writes a region and gives its receipt. Tiles go before
stores and stores before loads, so that what is in memory leaves it as soon as it can.
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
    """What a pass asks of a level's storage. Loading and storing are done by threads."""

    @property
    def done(self) -> Collection[int]:
        """Regions that were stored before; what is stored later does not join them."""
        ...

    def load(self, region: int) -> BlockedArray:
        """Samples of a region that is not stored, from what the level is computed from."""
        ...

    def read(self, region: int) -> BlockedArray:
        """Samples of a region that is stored."""
        ...

    def store(self, region: int, samples: BlockedArray) -> Receipt:
        """Store a region that is not stored yet."""
        ...

    def record(self, receipt: Receipt) -> None:
        """A region is stored; called by the driver."""
        ...


class TooMuchHeldError(Exception):
    """What a pass holds has reached its limit, and nothing it holds can be let go of."""


class LevelFailedError(Exception):
    """A job of a level failed; the cause is what it raised."""

    def __init__(self, level: int) -> None:
        super().__init__(f"level {level} failed")
        self.level = level


@dataclass(frozen=True)
class _Job:
    """A piece of work for a thread, and what the driver does with its result."""

    level: int
    work: Callable[[], object]
    then: Callable[[object], None]
    loads: int = 0
    """Bytes that it brings into memory."""


class Pass:
    """A pass under way; `run` ends when all its levels are whole."""

    def __init__(
        self,
        pass_plan: PassPlan,
        level_ios: Mapping[int, LevelIO],
        kernel: Kernel,
        *,
        executor: Executor,
        in_flight: int,
        held_limit: int,
        check: Callable[[], None],
    ) -> None:
        self._pass_plan = pass_plan
        self._level_ios = level_ios
        self._kernel = kernel
        self._executor = executor
        self._in_flight = in_flight
        self._held_limit = held_limit
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

        Where a job fails nothing more is begun; what is under way is waited for and
        counted, and LevelFailedError raised then. What ``check`` raises, called before each
        beginning, goes through after the same.
        """
        try:
            while self._begin():
                self._end_some()
        except BaseException:
            self._drain()
            raise
        finally:
            # Once a pass: after each region it only had the same pages brought back.
            release_memory()
            write_behind.settle()

    def _begin(self) -> bool:
        """Start what fits; whether anything is under way."""
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
        if job is None or not self._has_room(job):
            return None
        self._next_load = None
        return job

    def _has_room(self, job: _Job) -> bool:
        # Where nothing is streamed, regions are stored at once: stores go before loads.
        if not self._pass_plan.links or not self._held:
            return True
        # Behind a load that takes long the others do not pile up: what they all hold, and
        # the regions that they open, is what the projection counts on.
        loading = sum(job.loads > 0 for job in self._running.values())
        return (
            self._held + job.loads <= self._held_limit
            and len(self._at_hand) + loading < 2 * self._in_flight
        )

    @property
    def _held(self) -> int:
        return self._account.nbytes + sum(job.loads for job in self._running.values())

    def _end_some(self) -> None:
        # A method of its own: a future that stayed in the driver's loop would keep its samples.
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
        """Let what is under way end, and count what was stored."""
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
        self._have(level, region, samples, stored=stored)

    def _have(self, level: int, region: int, samples: BlockedArray, *, stored: bool) -> None:
        """A region's samples are in memory: they are to be stored, and used by tiles."""
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
                self._have(child, region, samples, stored=False)


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
    """Boxes that tile the tile, the window of each, and its lead.

    Where each bin lies in one piece of the parent the pieces are read where they lie;
    otherwise, and for what looks beyond its bin, windows are copied together, each small
    enough to be in the processor's cache when it is read.
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
    """Whether a box consists of whole bins."""
    return not any(a % k for at in (cut.start, cut.stop) for a, k in zip(at, step, strict=True))


def _divided(at: Shape, step: Shape) -> Shape:
    return tuple(a // k for a, k in zip(at, step, strict=True))
