"""Builds on buckets whose requests fail, or answer late: the tables of docs/reliability.md.

Run: ``make bench-reliability``, or ``.venv/bin/python -m benchmarks.reliability --help``.
Emulated stores, and the proxy before them that makes the trouble, have a process of their
own. Results are kept in ``benchmarks/reliability.json``; ``--write-docs`` puts them into
the docs.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import zarr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import ngff_core
from ngff_core.build.report import bytes_text
from ngff_core.errors import TransientError
from ngff_core.progress import Advanced
from ngff_core.storage import open_store
from ngff_core.storage.retry import retries_by_kind
from tests.servers.proxy import Fault

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "reliability.json"
STORES = ("gs", "s3")
CHANCE = 0.05
LATENCY = 0.05
WRITES = "PUT|POST"
OWN_CHUNKS = r"\.ome\.zarr/scale\d.*/c/"
BODIES = {"gs": r"alt=media", "s3": r"^/[^?]+$"}
"""Downloads of objects, and not of listings."""

SMALL = (64, 256, 256)
SMALL_OPTIONS: dict[str, Any] = {
    "method": "itkwasm_bin_shrink",
    "chunks": 32,
    "shards": 32,
    "scale_factors": [2, 4],
    "workers": 2,
}
LARGE = (128, 1024, 1024)
LARGE_OPTIONS: dict[str, Any] = {"workers": 2, "memory_limit": "4GiB"}
RUNS = 3

console = Console()


def kinds(store: str) -> dict[str, list[Fault]]:
    """What may happen to a request, by the name it has in the table."""
    single = {
        "429": Fault("status", status=429),
        "500": Fault("status", status=500),
        "503": Fault("status", status=503),
        "503 with `Retry-After: 1`": Fault("status", status=503, retry_after="1"),
        "connection reset": Fault("reset"),
        "stall past the timeout": Fault("stall", seconds=20),
        "truncated download": Fault("truncate", method="GET"),
        "broken upload": Fault("reset upload", method=WRITES),
        "401, as of an expired token": Fault("status", status=401),
        "response lost, write done": Fault("drop reply", method=WRITES),
        "404 of a chunk that is there": Fault("status", status=404, method="GET", path=OWN_CHUNKS),
        "corrupted download": Fault("flip download", method="GET", path=BODIES[store]),
        "corrupted upload of a chunk": Fault("flip upload", method=WRITES, path="/c/"),
    }
    for fault in single.values():
        fault.chance = CHANCE
    mix = [_with_chance(fault, CHANCE / len(single)) for fault in single.values()]
    return {name: [fault] for name, fault in single.items()} | {"all of these": mix}


def _with_chance(fault: Fault, chance: float) -> Fault:
    fields = {k: v for k, v in asdict(fault).items() if k != "met"}
    return Fault(**{**fields, "chance": chance})


def serve(store: str, pipe: Connection) -> None:
    """A store and the proxy before it, in a process of their own, until told to end."""
    from tests.servers.gcs import gcs_server
    from tests.servers.proxy import proxy
    from tests.servers.s3 import s3_server

    server = gcs_server() if store == "gs" else s3_server()
    with server as behind, proxy(behind.url, seed=11, xml=store == "s3") as between:
        pipe.send((between.url, behind.make_bucket()))
        while (wanted := pipe.recv()) is not None:
            counts = (sum(between.seen.values()), dict(between.injected))
            between.script(*wanted)
            pipe.send(counts)


@dataclass
class Place:
    """A bucket of an emulated store behind its proxy."""

    store: str
    url: str
    bucket: str
    pipe: Connection

    @property
    def options(self) -> dict[str, Any]:
        """How to get there; a stall is given up after two seconds, not a minute."""
        if self.store == "s3":
            quick = {"read_timeout": 2}
            return {"endpoint_url": self.url, "key": "a", "secret": "b", "config_kwargs": quick}
        import aiohttp

        quick = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=2)
        return {"endpoint_url": self.url, "token": "anon", "requests_timeout": quick}

    def script(self, faults: list[Fault]) -> tuple[int, dict[str, int]]:
        """From now on these happen; requests and injected faults since the last script."""
        self.pipe.send(faults)
        counts: tuple[int, dict[str, int]] = self.pipe.recv()
        return counts

    def uri(self, name: str) -> str:
        return f"{self.store}://{self.bucket}/{name}"

    def put_source(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> str:
        """Photon noise on a slope, as a zarr array."""
        store = open_store(self.uri("source.zarr"), self.options)
        array = zarr.create_array(
            store.zarr(read_only=False), shape=shape, chunks=chunks, dtype="u2", overwrite=True
        )
        rng = np.random.default_rng(3)
        for z in range(0, shape[0], chunks[0]):
            block = (min(chunks[0], shape[0] - z), *shape[1:])
            slope = np.linspace(100, 900, block[-1], dtype="f4")
            array[z : z + block[0]] = rng.normal(slope, np.sqrt(slope), block).astype("u2")
        return store.uri

    def objects(self, target: str) -> dict[str, bytes | None]:
        """Everything that a build stored but the times and tokens beside it."""
        found: dict[str, bytes | None] = {}
        for root, prefix in ((target, ""), (f"{target}.build", "ledger")):
            store = open_store(root, self.options)
            found |= {f"{root[-6:]}/{key}": store.read(key) for key in store.objects(prefix)}
        return found

    def remove(self, target: str) -> None:
        for root in (target, f"{target}.build"):
            open_store(root, self.options).delete_tree()


@contextmanager
def place(store: str) -> Iterator[Place]:
    """An empty bucket of an emulated store."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(store, there), daemon=True)
    process.start()
    try:
        url, bucket = here.recv()
        yield Place(store, url, bucket, here)
    finally:
        here.send(None)
        process.join()


@dataclass
class Row:
    """What became of a build under one kind of faults."""

    kind: str
    store: str
    requests: int
    injected: int
    retried: int
    commands: int
    survived: bool
    differing: int
    seconds: float
    met: dict[str, int] = field(default_factory=dict)


def build_through(place: Place, source: str, faults: list[Fault], kind: str) -> Row:
    """Build, interrupted in mid-level so that stored regions are read back too; compare."""
    target = place.uri("image.ome.zarr")
    expected = place.objects(place.uri("whole.ome.zarr"))
    before, began = retries_by_kind(), time.monotonic()
    place.script(faults)
    commands, survived, interrupted = 0, False, False
    while not survived and commands < 5:
        commands += 1
        with suppress(KeyboardInterrupt, TransientError):
            build(place, source, target, SMALL_OPTIONS, None if interrupted else half_way)
            deep = ngff_core.verify_pyramid(
                target, deep=True, workers=2, storage_options=place.options
            )
            survived = deep.ok
        interrupted = True
    seconds = time.monotonic() - began
    requests, injected = place.script([])
    met = retries_by_kind() - before
    found = place.objects(target)
    differing = sum(found.get(key) != expected.get(key) for key in {*found, *expected})
    place.remove(target)
    return Row(
        kind,
        place.store,
        requests,
        sum(injected.values()),
        sum(met.values()),
        commands,
        survived,
        differing,
        seconds,
        dict(met),
    )


def half_way(event: Any) -> None:
    """Interrupt level 0 in its middle."""
    if isinstance(event, Advanced) and event.phase == "level-0" and event.done * 2 >= event.total:
        raise KeyboardInterrupt


def build(
    place: Place,
    source: str,
    target: str,
    options: dict[str, Any],
    listener: Callable[[Any], None] | None = None,
) -> ngff_core.BuildReport:
    return ngff_core.build_pyramid(
        source, target, **options, storage_options=place.options, progress=listener
    )


def fault_rows(stores: list[str], only: list[str], bar: Progress) -> Iterator[Row]:
    """A row for each kind and store."""
    for store in stores:
        with place(store) as at:
            source = at.put_source(SMALL, (32, 32, 32))
            build(at, source, at.uri("whole.ome.zarr"), SMALL_OPTIONS)
            chosen = {
                k: f for k, f in kinds(store).items() if not only or any(o in k for o in only)
            }
            task = bar.add_task(store, total=len(chosen))
            for kind, faults in chosen.items():
                bar.update(task, description=f"{store}: {kind}")
                yield build_through(at, source, faults, kind)
                bar.advance(task)


@dataclass
class Late:
    """Seconds of builds without and with latency."""

    store: str
    plain: list[float]
    late: list[float]
    requests: int

    @property
    def ratio(self) -> float:
        return statistics.median(self.late) / statistics.median(self.plain)


def latency_rows(
    stores: list[str], runs: int, shape: tuple[int, ...], bar: Progress
) -> Iterator[Late]:
    """Whole builds through the proxy, taking turns without and with latency."""
    for store in stores:
        with place(store) as at:
            source = at.put_source(shape, (128, 128, 128))
            row = Late(store, [], [], 0)
            task = bar.add_task(f"{store}: latency", total=2 * runs)
            build(at, source, at.uri("warm.ome.zarr"), LARGE_OPTIONS)
            for _ in range(runs):
                for faults, seconds in (
                    ([], row.plain),
                    ([Fault("delay", seconds=LATENCY)], row.late),
                ):
                    target = at.uri("late.ome.zarr")
                    at.remove(target)
                    at.script(faults)
                    began = time.monotonic()
                    build(at, source, target, LARGE_OPTIONS)
                    seconds.append(time.monotonic() - began)
                    row.requests, _ = at.script([])
                    bar.advance(task)
            yield row


@dataclass
class Requests:
    """Requests of a build, and of the same command again."""

    store: str
    levels: int
    regions: int
    built: int
    again: int


def request_rows(stores: list[str]) -> Iterator[Requests]:
    for store in stores:
        with place(store) as at:
            source = at.put_source(SMALL, (32, 32, 32))
            target = at.uri("image.ome.zarr")
            at.script([])
            report = build(at, source, target, SMALL_OPTIONS)
            built, _ = at.script([])
            build(at, source, target, SMALL_OPTIONS)
            again, _ = at.script([])
            yield Requests(store, len(report.levels), report.fresh, built, again)


def fault_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| kind of fault | store | requests | injected | retried | survived | differing objects |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        more = row["commands"] - 2
        # The second command is the one that goes on after the interruption.
        survived = "no" if not row["survived"] else f"with {more} more" if more > 0 else "yes"
        lines.append(
            f"| {row['kind']} | {row['store']} | {row['requests']} | {row['injected']} "
            f"| {row['retried']} | {survived} | {row['differing']} |"
        )
    return "\n".join(lines)


def latency_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| store | without | with {LATENCY * 1000:.0f} ms | ratio | requests |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        plain, late = (statistics.median(row[name]) for name in ("plain", "late"))
        lines.append(
            f"| {row['store']} | {plain:.1f} s (of {len(row['plain'])}) "
            f"| {late:.1f} s (of {len(row['late'])}) | {late / plain:.2f} | {row['requests']} |"
        )
    return "\n".join(lines)


def request_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| store | levels | regions | requests of a build | of the same command again |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['store']} | {r['levels']} | {r['regions']} | {r['built']} | {r['again']} |"
        for r in rows
    ]
    return "\n".join(lines)


TABLES = {"faults": fault_table, "latency": latency_table, "requests": request_table}


def main(
    section: Annotated[
        list[str] | None, typer.Option(help="faults, latency, requests; all without it.")
    ] = None,
    store: Annotated[list[str] | None, typer.Option(help="gs or s3; both without it.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Kinds of faults whose name contains this.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Builds with latency, and without.")] = RUNS,
    size: Annotated[int, typer.Option(help="MiB of the image that answers late.")] = 256,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="Only put the results into docs/reliability.md.")
    ] = False,
) -> None:
    """Build on emulated buckets under faults and latency, and print what became of it."""
    if write_docs:
        return _write_docs()
    stores = store or list(STORES)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        plane = max(128, int(math.sqrt(size * 2**20 / 2 / LARGE[0])))
        rows: dict[str, Iterator[Any]] = {
            "faults": fault_rows(stores, only or [], bar),
            "latency": latency_rows(stores, runs, (LARGE[0], plane, plane), bar),
            "requests": request_rows(stores),
        }
        for name in section or list(TABLES):
            kept: list[dict[str, Any]] = []
            for row in rows[name]:
                kept.append(asdict(row))
                if not only:
                    # As soon as it is measured: an interrupted run keeps the others' rows.
                    others = [r for r in results.get(name, []) if not _same(r, kept)]
                    results[name] = sorted([*others, *kept], key=_order)
                    results["image"] = bytes_text(math.prod((LARGE[0], plane, plane)) * 2)
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            bar.console.print(_shown(TABLES[name](kept)))
    return None


def _same(row: dict[str, Any], kept: list[dict[str, Any]]) -> bool:
    return any((row["store"], row.get("kind")) == (r["store"], r.get("kind")) for r in kept)


def _order(row: dict[str, Any]) -> tuple[int, str]:
    names = list(kinds("gs"))
    return (names.index(row["kind"]) if row.get("kind") in names else 0, row["store"])


def _shown(markdown: str) -> Table:
    head, _, *rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in markdown.split("\n")
    ]
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    return table


def _write_docs() -> None:
    text, results = DOCS.read_text(), json.loads(RESULTS.read_text())
    for name, table in TABLES.items():
        before, begin, rest = text.partition(f"<!-- {name} -->")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        assert end, f"{DOCS} has no marks for {name}"
        text = f"{before}{begin}\n\n{table(results[name])}\n\n{end}{after}"
    DOCS.write_text(text)


if __name__ == "__main__":
    typer.run(main)
