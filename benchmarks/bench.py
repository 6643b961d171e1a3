"""Pyramids beside other tools: all in one run, one after another in rounds; prints the table.

Run ``make bench``, or ``.venv/bin/python -m benchmarks.bench --help``. Each time is saved in
``benchmarks/results.json`` as soon as it is measured, so an interrupted bench continues. Once
complete it only shows its table, until ``--fresh`` is given or a version of anything changes.

``--baseline CHECKOUT`` measures only our own builds, of this checkout and of an earlier one.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.pyramids.contest import (
    REPEATS,
    Comparison,
    Contestant,
    comparisons,
    contestants,
    duel,
    duel_rows,
)
from benchmarks.pyramids.images import DATA, IMAGES, TINY, make
from benchmarks.pyramids.results import (
    Results,
    installed,
    markdown,
    rich_table,
    rows,
    same_pixels,
)
from benchmarks.pyramids.running import FailedError, on_few_cores, prefect_server, run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"

Size = Literal["full", "small"]
console = Console()


def main(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only contestants whose name contains this; may be repeated."),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Runs of each contestant; slow tools take fewer.")
    ] = REPEATS,
    size: Annotated[
        Size, typer.Option(help="Size of the images; small is for working on the benchmark.")
    ] = "full",
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard earlier results.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the contestants and exit.")] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Checkout of an earlier commit: measure only our own builds, now and then.",
        ),
    ] = None,
    write_docs: Annotated[
        bool,
        typer.Option("--write-docs", help="Only write the saved results into docs/performance.md."),
    ] = False,
) -> None:
    """Measure our builds, plain copies and other tools, and print one table of ratios."""
    if write_docs:
        return _write_docs(_path("full"))
    # Ending the bench also ends the contestant and the server, and removes unfinished pyramids.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    on_few_cores()
    images = IMAGES[size]
    everybody = duel(images, baseline.resolve()) if baseline else contestants(images)
    chosen = [c for c in everybody if not only or any(o in c.key for o in only)]
    if show:
        return print(*(c.key for c in chosen), sep="\n")
    for image in {c.image.name: c.image for c in chosen}.values():
        with console.status(f"Making the {image.name} image, unless it is there"):
            make(TINY[image.name])
            make(image)
    path = DATA / f"baseline-{size}.json" if baseline else _path(size)
    table = duel_rows() if baseline else comparisons()
    results = Results(path, images, fresh=fresh or baseline is not None)
    _compete(chosen, repeats, results, table)
    console.print(rich_table(rows(results, table)))
    if not baseline:
        for name in ("3-D", "2-D"):
            console.print(same_pixels(results, name))
    return None


def _compete(
    chosen: list[Contestant], repeats: int, results: Results, table: list[Comparison]
) -> None:
    """Run the contestants in rounds, each once a round until it has all its runs."""
    wanted = {c.key: min(repeats, c.repeats or repeats) for c in chosen}
    todo = {c.key: max(0, wanted[c.key] - len(results.seconds(c.key))) for c in chosen}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=console))
        environment: dict[str, str] | None = None
        task = bar.add_task("", total=sum(todo.values()))
        while any(todo.values()):
            for contestant in chosen:
                if not todo[contestant.key]:
                    continue
                bar.update(task, description=contestant.key)
                if contestant.module == "our_flow" and environment is None:
                    environment = stack.enter_context(prefect_server())
                done = _turn(contestant, environment or {}, results, table)
                gone = 1 if done else todo[contestant.key]
                todo[contestant.key] -= gone
                bar.advance(task, gone)


def _turn(
    contestant: Contestant,
    environment: dict[str, str],
    results: Results,
    table: list[Comparison],
) -> bool:
    """Run one contestant once; False where another run would fail the same way."""
    failed = None
    if contestant.package and installed(contestant.package) is None:
        failed = f"{contestant.package} is not installed"
    else:
        try:
            look = not results.seconds(contestant.key)
            results.note(contestant, run(contestant, environment, look=look))
        except FailedError as error:
            failed = str(error)
    if failed:
        results.note_failure(contestant, failed)
        console.print(f"{contestant.key}: {failed}", style="red", markup=False)
    results.save(rows(results, table))
    return failed is None


def _path(size: Size) -> Path:
    return ROOT / "benchmarks/results.json" if size == "full" else DATA / f"results-{size}.json"


def _write_docs(path: Path) -> None:
    text = DOCS.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = markdown(json.loads(path.read_text()))
    DOCS.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


if __name__ == "__main__":
    typer.run(main)
