"""Passes over small arrays in memory, their jobs ended in any order one likes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from ngff_core.blocks import BlockedArray, carve
from ngff_core.build import streaming
from ngff_core.build.streaming import Pass, PassLimits
from ngff_core.geometry import Region, Shape, window_of, within
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.schedule import PassPlan, held_bytes, slow_to_fast
from ngff_core.records.ledger import Receipt
from tests.support.plans import plan_of

Array = np.ndarray[Any, Any]


def with_blocks(plan: PyramidPlan, blocks: Sequence[Shape]) -> PyramidPlan:
    """The plan with each level cut into blocks of another shape, odd ones too."""
    levels = (
        dataclasses.replace(level, block=block, chunks=block, shards=None)
        for level, block in zip(plan.levels, blocks, strict=True)
    )
    return dataclasses.replace(plan, levels=tuple(levels))


@st.composite
def plans(draw: st.DrawFn, most: int = 40, methods: Sequence[str] = ()) -> PyramidPlan:
    """Some levels of some regions: chains, skipped levels, uneven steps, several t and c."""
    dims = draw(st.sampled_from(["yx", "zyx", "cyx", "tczyx"]))
    longest = {2: 3 * most, 3: most, 5: most // 2}[len(dims)]
    shape = tuple(draw(st.integers(8, longest) if d in "zyx" else st.integers(1, 3)) for d in dims)
    factors = draw(
        st.sampled_from(
            [
                [2],
                [2, 4],
                [2, 4, 8],
                [3],
                [2, 3, 6],
                [2, 3, 4],
                [5],
                [{"y": 2, "x": 1}, {"y": 4, "x": 2}],
                [{"y": 1, "x": 3}, {"y": 4, "x": 3}],
            ]
        )
    )
    methods = methods or ("itkwasm_gaussian", "itkwasm_bin_shrink")
    plan = plan_of(dims, shape, scale_factors=factors, method=draw(st.sampled_from(methods)))
    blocks = [
        tuple(draw(st.integers(1 if d in "tc" else 3, max(4, n // 2))) if n > 4 else
              draw(st.integers(1, n)) for d, n in zip(dims, level.shape, strict=True))
        for level in plan.levels
    ]  # fmt: skip
    return with_blocks(plan, blocks)


def computed(plan: PyramidPlan, seed: int = 0) -> list[Array]:
    """Every level in one piece, from noise."""
    rng = np.random.default_rng(seed)
    levels = [rng.integers(0, 60_000, plan.levels[0].shape).astype(plan.dtype)]
    kernel = kernel_for(plan.method)
    for level in plan.levels[1:]:
        assert level.parent is not None
        parent = levels[level.parent]
        levels.append(kernel.reduce(parent, (0,) * parent.ndim, level.step, level.shape))
    return levels


def cut(box: Region, block: Array, cell: Shape | None) -> BlockedArray:
    """A box's samples in arrays of ``cell``, or in one."""
    if cell is None:
        return BlockedArray.of(box, block)
    memory = np.empty(block.size, block.dtype)
    made = carve(box, cell, memory)
    for part, place in made:
        place[...] = block[within(part, box)]
    return BlockedArray(box, cell, tuple(place for _, place in made))


class Shelf:
    """A level's storage in memory; counts what is done, and does not forgive doing it twice."""

    def __init__(self, level: LevelPlan, dtype: np.dtype[Any], load: Callable[[int], Array]):
        self.level = level
        self.stored = np.zeros(level.shape, dtype)
        self.recorded: list[int] = []
        self.begun: list[int] = []
        self.loaded: list[int] = []
        self.was_read: list[int] = []
        self.before: frozenset[int] = frozenset()
        self._load = load
        self.cell: Shape | None = None
        """Of the arrays that a region comes in, as from a source's chunks."""

    @property
    def done(self) -> frozenset[int]:
        return self.before

    def load(self, region: int) -> BlockedArray:
        self.loaded.append(region)
        return cut(self.level.region(region), self._load(region), self.cell)

    def read(self, region: int) -> BlockedArray:
        assert region in self.before
        self.was_read.append(region)
        box = self.level.region(region)
        return BlockedArray.of(box, self.stored[box.slices].copy())

    def store(self, region: int, samples: BlockedArray) -> Receipt:
        self.begun.append(region)
        for box, block in samples.placed_blocks:
            self.stored[box.slices] = block
        return Receipt(region, 0, ())

    def record(self, receipt: Receipt) -> None:
        assert receipt.region not in self.before
        assert receipt.region not in self.recorded
        self.recorded.append(receipt.region)


def shelves(
    plan: PyramidPlan, levels: Sequence[Array], done: Mapping[int, Collection[int]] = {}
) -> dict[int, Shelf]:
    """Storage of all levels, in which the regions ``done`` lie already."""
    made = {}
    for level in plan.levels:
        made[level.index] = shelf = Shelf(level, plan.dtype, _loader(plan, level, levels))
        shelf.before = frozenset(done.get(level.index, ()))
        for region in shelf.before:
            box = level.region(region).slices
            shelf.stored[box] = levels[level.index][box]
    return made


def _loader(plan: PyramidPlan, level: LevelPlan, levels: Sequence[Array]) -> Callable[[int], Array]:
    def load(index: int) -> Array:
        region = level.region(index)
        if level.parent is None:
            return levels[0][region.slices].copy()
        kernel, parent = kernel_for(plan.method), levels[level.parent]
        window = window_of(region, level.step, kernel.halo(level.step), parent.shape)
        return kernel.reduce(parent[window.box.slices], window.offset, level.step, region.shape)

    return load


class Waited(NamedTuple):
    """What `concurrent.futures.wait` returns."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


class Scripted:
    """An executor without threads: a wait ends one job, whichever ``choose`` names."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose
        self.pending: dict[Future[Any], Callable[[], Any]] = {}
        self.before: Callable[[], None] = lambda: None

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.pending[future] = work
        return future

    def wait(self, running: Collection[Future[Any]], return_when: str = "") -> Waited:
        """One job ends, or all of those that were not cancelled."""
        self.before()
        for future in [f for f in self.pending if f.cancelled()]:
            del self.pending[future]
        while self.pending:
            future = list(self.pending)[self.choose(len(self.pending))]
            work = self.pending.pop(future)
            future.set_running_or_notify_cancel()
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - as an executor does
                future.set_exception(error)
            if return_when:
                break
        done = {future for future in running if future.done()}
        return Waited(done, set(running) - done)


ORDERS: dict[str, Callable[[random.Random], Callable[[int], int]]] = {
    "first begun": lambda _: lambda n: 0,
    "last begun": lambda _: lambda n: n - 1,
    "any": lambda rng: rng.randrange,
    # one job is left behind for as long as there is another
    "one is slow": lambda rng: lambda n: 0 if n == 1 else rng.randrange(1, n),
}


def held_limit(plan: PyramidPlan, pass_plan: PassPlan, in_flight: int) -> int:
    """What the projection grants a pass."""
    order, itemsize = slow_to_fast(plan), plan.dtype.itemsize
    return sum(held_bytes(link, order, itemsize, in_flight) for link in pass_plan.links)


def run_scripted(
    pass_plan: PassPlan,
    level_ios: Mapping[int, Shelf],
    *,
    in_flight: int,
    limit: int,
    order: str,
    seed: int,
    monkeypatch: Any,
) -> int:
    """Run a pass, its jobs ended in an order of `ORDERS`; the most bytes that it held."""
    executor = Scripted(ORDERS[order](random.Random(seed)))
    work = Pass(
        pass_plan,
        level_ios,
        kernel_for(pass_plan.plan.method),
        executor=executor,  # type: ignore[arg-type]
        limits=PassLimits(in_flight, limit),
        check=lambda: None,
    )
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, work._held)

    executor.before = look
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "wait", executor.wait)
        patch.setattr(streaming, "release_memory", lambda: None)
        work.run()
    assert not executor.pending
    return most
