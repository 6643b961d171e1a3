"""Damage small files of every format and see that each is read whole or refused in one line.

    python -m scripts.fuzz_sources --total 10000 --workers 2
    python -m scripts.fuzz_sources --only npy --number 17      # one mutant, with its message

Each damaged file is inspected, opened and read in a process that is watched: 10 seconds, 1 GiB, no
crash. Failures are printed with the number that makes the same mutant again. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.support.judging import MIB, Verdict, judge
from tests.support.seed_files import MAKERS, Seed, make

_MARK = "## Last run"


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge mutants, print the table; 1 if any of them failed."""
    options = _parser().parse_args(arguments)
    names = [name for name in MAKERS if not options.only or name.startswith(tuple(options.only))]
    seeds = [_seed(name) for name in names]
    each = -(-options.total // len(seeds))
    numbers = range(options.first, options.first + each)
    if options.number is not None:
        numbers = range(options.number, options.number + 1)
    work = [(seed, number) for number in numbers for seed in seeds]
    verdicts = list(judge(work, options.workers))
    _print_failures(verdicts)
    if options.messages:
        for verdict in verdicts:
            sys.stdout.write(f"{verdict.seed} {verdict.number} {verdict.outcome}: {verdict.text}\n")
    table = _table(verdicts, numbers)
    sys.stdout.write(table)
    if options.table:
        _store(options.table, table)
    return int(any(verdict.outcome == "failed" for verdict in verdicts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total", type=int, default=10_000, help="mutants of all seeds together")
    parser.add_argument("--first", type=int, default=0, help="number of the first of each seed")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="beginnings of names of seeds")
    parser.add_argument("--number", type=int, help="only the mutant of this number")
    parser.add_argument("--messages", action="store_true", help="print how each one ended")
    parser.add_argument("--table", type=Path, help="file for the table")
    return parser


def _seed(name: str) -> Seed:
    with tempfile.TemporaryDirectory() as folder:
        return make(name, Path(folder))


def _print_failures(verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        if verdict.outcome == "failed":
            sys.stdout.write(
                f"FAILED {verdict.seed} {verdict.number} ({verdict.how}) {verdict.text}\n"
            )


def _table(verdicts: Sequence[Verdict], numbers: range) -> str:
    """One row for each seed, in Markdown."""
    rows: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        rows[verdict.seed].append(verdict)
    text = f"Mutants {numbers[0]} to {numbers[-1]} of each.\n\n"
    text += "| seed | mutants | read | refused | failed | longest, s | most memory, MiB |\n"
    text += "|---|---|---|---|---|---|---|\n"
    for name in (name for name in MAKERS if name in rows):
        text += _row(name, rows[name])
    return text + _row("all", verdicts)


def _store(path: Path, table: str) -> None:
    """Put the table at the end of a document, in place of the one that is there."""
    before = path.read_text().partition(_MARK)[0] if path.exists() else ""
    path.write_text(f"{before}{_MARK}\n\n{table}")


def _row(name: str, verdicts: Sequence[Verdict]) -> str:
    count = Counter(verdict.outcome for verdict in verdicts)
    seconds = max(verdict.seconds for verdict in verdicts)
    memory = max(verdict.memory for verdict in verdicts) / MIB
    cells = (len(verdicts), count["read"], count["refused"], count["failed"])
    return f"| {name} | {' | '.join(map(str, cells))} | {seconds:.1f} | {memory:.0f} |\n"


if __name__ == "__main__":
    sys.exit(main())
