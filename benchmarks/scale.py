"""A build of a million regions without its pixels, and the plan of a petabyte: docs/scale.md.

Run: ``make bench-scale`` (some ten minutes). The pass, its order, its tiles and its ledger
are the real ones; regions are of 4³ samples, every load gives the same array, no kernel is
called and nothing is encoded. Jobs run where they are submitted, so that the seconds of the
driver can be told from theirs. The build is stopped near its end and resumed.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from ngff_core import BuildOptions
from ngff_core.build.planning import PlannedBuild, plan_pyramid
from ngff_core.build.report import bytes_text
from ngff_core.build.streaming import Pass, PassLimits
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.make import make_plan
from ngff_core.plan.pricing import price
from ngff_core.plan.pyramid_plan import ImageInfo, LevelPlan, PyramidPlan, SourcePin
from ngff_core.plan.schedule import PassRequirements, passes
from ngff_core.records.ledger import Ledger, Receipt, StoredObject
from ngff_core.storage import ObjectStore, open_store

BLOCK = 4
METHOD = "itkwasm_gaussian"
PETABYTE = (50_000, 100_000, 100_000)
DOCUMENT = Path(__file__).parent.parent / "docs" / "scale.md"
SECTIONS = ("plan", "simulation")


class StoppedError(Exception):
    """The simulated build is interrupted."""


class NoKernel:
    """Gives each tile the same samples."""

    samples = np.ones((2 * BLOCK,) * 3, "<u2")

    def reduce(self, _window: Any, _lead: Any, _step: Any, out: tuple[int, ...]) -> np.ndarray:
        return self.samples[tuple(map(slice, out))]


class InPlace(Executor):
    """Does each job where it is submitted, and adds up the seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        began = time.thread_time()
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        self.seconds += time.thread_time() - began
        return future


@dataclass
class SimulatedLevel:
    """A level of which nothing is stored but the receipts."""

    plan: PyramidPlan
    level: LevelPlan
    ledger: Ledger

    @property
    def done(self) -> Collection[int]:
        return self.ledger.receipts.snapshot()

    def load(self, region: int) -> np.ndarray:
        return NoKernel.samples[tuple(map(slice, self.level.region(region).shape))]

    read = load

    def store(self, region: int, _samples: np.ndarray) -> Receipt:
        """A receipt as of a shard of some 30 MB."""
        (at,) = self.level.object_positions(self.level.region(region))
        crc = region * 2_654_435_761 % 2**32
        stored = StoredObject(self.plan.object_key(at), 30_000_000 + region, crc)
        return Receipt(region, crc ^ 0xFFFF, (stored,))

    def record(self, receipt: Receipt) -> None:
        self.ledger.record(receipt)


class Simulation:
    """A build of ``grid``³ regions at level 0 and two levels above; its ledger is in ``store``."""

    def __init__(self, store: ObjectStore, grid: int) -> None:
        info = ImageInfo(
            ("z", "y", "x"), (grid * BLOCK,) * 3, "<u2", (1.0,) * 3, (0.0,) * 3, (None,) * 3
        )
        self.plan = make_plan(
            SourcePin("simulated"),
            info,
            method=METHOD,
            scale_factors=[2, 4],
            chunks=BLOCK,
            shards=BLOCK,
        )
        (self.pass_plan,) = passes(self.plan, (1, 2))
        self.store = store
        self.regions = sum(level.regions for level in self.plan.levels)
        self.load()

    def load(self) -> None:
        """Read the ledger, as a process that resumes does."""
        self.ledgers = [
            Ledger(self.store, str(level.index), self.plan.digest, level.regions).load()
            for level in self.plan.levels
        ]
        self.level_ios = {
            level.index: SimulatedLevel(self.plan, level, ledger)
            for level, ledger in zip(self.plan.levels, self.ledgers, strict=True)
        }

    @property
    def done(self) -> int:
        return sum(len(ledger.receipts) for ledger in self.ledgers)

    def first_load(self) -> tuple[int, int]:
        """What remains to be done first: a level and one of its regions."""
        requirements = PassRequirements(
            self.pass_plan, {index: level_io.done for index, level_io in self.level_ios.items()}
        )
        return next(requirements.loads())

    def run(self, executor: Executor, in_flight: int, until: int | None = None) -> int:
        """Do what remains, or stop once so many regions are done; how many were done."""
        before = self.done

        def check() -> None:
            if until is not None and self.done >= until:
                raise StoppedError

        with suppress(StoppedError):
            Pass(
                self.pass_plan,
                self.level_ios,
                NoKernel(),  # type: ignore[arg-type]  # all that a pass asks of one
                executor=executor,
                limits=PassLimits(in_flight, held_bytes=2**40),
                check=check,
            ).run()
        for ledger in self.ledgers:
            ledger.flush()
        return self.done - before


def simulate(folder: str, grid: int) -> dict[str, str]:
    """The rows of the table."""
    process, store = psutil.Process(), open_store(folder)
    kernel_for(METHOD)
    resident = process.memory_info().rss
    build = Simulation(store, grid)
    executor = InPlace()
    began, wall = time.thread_time(), time.perf_counter()
    count = build.run(executor, 8, until=build.regions * 99 // 100)
    driver = time.thread_time() - began - executor.seconds
    wall = time.perf_counter() - wall
    memory = process.memory_info().rss - resident
    objects = store.objects()
    stored = sum(found.size for found in objects.values())
    packed = sum(ledger.receipts.nbytes for ledger in build.ledgers)

    began = time.perf_counter()
    build.load()
    loaded = time.perf_counter() - began
    build.first_load()
    left = sum(len(ledger.remaining) for ledger in build.ledgers)
    known = time.perf_counter() - began
    build.run(executor, 8)
    assert all(ledger.has_all_receipts for ledger in build.ledgers)
    began = time.perf_counter()
    for ledger in build.ledgers:
        ledger.finish()
    finished = time.perf_counter() - began
    after = store.objects()

    return {
        "regions, of three levels": f"{build.regions:,}",
        "driver, per region": f"{driver / count * 1e6:.0f} µs of computing",
        "the whole run, jobs included": f"{wall:.0f} s for {count:,} regions",
        "memory taken by the run": bytes_text(memory),
        "of which receipts": f"{bytes_text(packed)}, {packed / count:.0f} bytes a region",
        "ledger's objects when stopped": f"{len(objects)}, {bytes_text(stored)}",
        "reading them on resume": f"{loaded:.1f} s",
        f"finding the {left:,} regions that remain": f"{known:.1f} s, reading included",
        "writing the finished ledger": f"{finished:.1f} s",
        "ledger's objects when finished": (
            f"{len(after)}, {bytes_text(sum(found.size for found in after.values()))}"
        ),
    }


def handing_over(jobs: int = 20_000) -> float:
    """Seconds that giving a thread a job and hearing of its end take."""
    with ThreadPoolExecutor(2) as executor:
        began = time.perf_counter()
        for _ in range(jobs):
            executor.submit(int).result()
        return (time.perf_counter() - began) / jobs


def planned(folder: str) -> tuple[PlannedBuild, float, int]:
    """The plan of 1 PB of uint16, its seconds, and the bytes allocated at most."""
    source = f"{folder}/source.zarr"
    zarr.create_array(
        source, shape=PETABYTE, chunks=(128,) * 3, dtype="u2", dimension_names=("z", "y", "x")
    )
    options = BuildOptions(workers=8, memory_limit="16GiB")
    plan_pyramid(source, f"{folder}/warm.ome.zarr", options)
    began = time.perf_counter()
    found = plan_pyramid(source, f"{folder}/out.ome.zarr", options)
    seconds = time.perf_counter() - began
    tracemalloc.start()
    plan_pyramid(source, f"{folder}/out.ome.zarr", options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, seconds, peak


def plan_table(folder: str) -> str:
    found, seconds, peak = planned(folder)
    cost = price(found.plan, found.projection)
    lines = [
        "| level | shape | regions | objects | read | written |",
        "|---|---|---|---|---|---|",
        *(
            f"| {level.index} | {' × '.join(f'{n:,}' for n in level.shape)} | {phase.regions:,} "
            f"| {phase.objects:,} | {bytes_text(phase.bytes_read)} "
            f"| {bytes_text(phase.bytes_written)} |"
            for level, phase in zip(found.plan.levels, found.projection.phases, strict=True)
        ),
        "",
        (
            f"{cost.objects:,} objects; {cost.puts:,} PUT, {cost.gets:,} GET and {cost.lists:,} "
            f"list requests; {bytes_text(cost.bytes_read)} read and "
            f"{bytes_text(cost.bytes_written)} written, raw; "
            f"{bytes_text(cost.bytes_stored)} stored at {cost.compression:g} to 1; "
            f"{cost.worker_hours:,.0f} worker-hours at {cost.throughput:g} MB/s. "
            f"Planned in {seconds:.2f} s with {peak / 2**20:.1f} MiB allocated at most."
        ),
    ]
    return "\n".join(lines)


def simulation_table(folder: str, grid: int) -> str:
    rows = simulate(folder, grid)
    rows["handing a job to a thread"] = f"{handing_over() * 1e6:.0f} µs, three times a region"
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows.items())]
    )


def write(section: str, text: str) -> None:
    """Put a table between its marks in the document."""
    document = DOCUMENT.read_text()
    head, begin, rest = document.partition(f"<!-- {section} -->")
    _, end, tail = rest.partition(f"<!-- end of {section} -->")
    assert end, f"{DOCUMENT} has no marks for {section}"
    DOCUMENT.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}")


def main() -> None:
    grid = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        tables = (plan_table(folder), simulation_table(f"{folder}/ledger", grid))
    for section, text in zip(SECTIONS, tables, strict=True):
        print(text, end="\n\n")
        if grid == 100:
            write(section, text)


if __name__ == "__main__":
    main()
