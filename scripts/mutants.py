"""Change the code in small ways, one at a time, and see whether its own tests notice.

    python -m scripts.mutants ngff_core/records --sample 100 --seed 1

Each change (a *mutant*) comes from Cosmic Ray's operators and is made in a copy of the tree below
`.mutants/`, never in the tree itself. First the tests of the package run once on unchanged code,
and note which lines each of them runs and how long it takes. A mutant is then run against
the tests that run its line, the fastest first, until one fails: it is *killed*. A mutant that no
test notices has *survived*, and is listed with its place and its diff.

Each run is forked from a process that has imported numpy, zarr and the like already: that takes
8 seconds of computing otherwise, for every mutant. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutants"
TREE = WORK / "tree"

# The tests that must notice a fault of a package: its own, and those that kill and resume
# builds for the packages that promise to survive it. The package itself is for its doctests.
TESTS = {
    "ngff_core/storage": ("tests/core/storage", "tests/servers"),
    "ngff_core/records": ("tests/core/records", "tests/resume"),
    "ngff_core/build": ("tests/core/build", "tests/resume"),
}

# Costly to import, and without threads once imported, so that a fork has them ready.
PREPARED = (
    "numpy",
    "numba",
    "zarr",
    "dask.array",
    "fsspec",
    "gcsfs",
    "s3fs",
    "moto.server",
    "hypothesis.strategies",
    "hypothesis.extra.numpy",
    "ome_zarr_models",
    "tifffile",
    "rich.progress",
)


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    line: int
    operator: str
    before: str = field(repr=False)
    after: str = field(repr=False)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def diff(self) -> str:
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), n=1, lineterm=""
        )
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``killed``, ``timeout``, ``survived`` or ``no test``."""

    mutant: Mutant
    state: str
    seconds: float
    detail: str = ""

    @property
    def is_killed(self) -> bool:
        return self.state in ("killed", "timeout")


class Coverage:
    """Seconds of each test of a package, and the tests that run each line of its files."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.failed: list[str] = document["failed"]
        self._seconds: dict[str, float] = document["seconds"]
        self._lines: dict[str, dict[str, list[str]]] = document["lines"]

    def tests_of(self, mutant: Mutant, limit: float) -> list[str]:
        """Tests that run the statement of ``mutant``, fastest first, ``limit`` seconds of them.

        A statement that runs at import (a constant, a class attribute) is everybody's: for it these
        are all tests that run any line of the file.
        """
        lines = self._lines.get(mutant.file, {})
        first, last = statement(mutant.before, mutant.line)
        found = {test for line in range(first, last + 1) for test in lines.get(str(line), ())}
        if "" in found:
            found.update(test for tests in lines.values() for test in tests)
        usable = (found & self._seconds.keys()) - set(self.failed)
        chosen: list[str] = []
        total = 0.0
        for test in sorted(usable, key=lambda test: (self._seconds[test], test)):
            total += self._seconds[test]
            if chosen and total > limit:
                break
            chosen.append(test)
        return chosen

    def seconds_of(self, tests: Sequence[str]) -> float:
        return sum(self._seconds[test] for test in tests)


class Recorder:
    """A plugin of pytest that notes which lines of ``package`` each test runs."""

    def __init__(self, package: str, answer: Path) -> None:
        import coverage

        self._answer = answer
        self._coverage = coverage.Coverage(data_file=None, include=[f"{TREE}/{package}/*"])
        self._seconds: dict[str, float] = defaultdict(float)
        self._failed: list[str] = []
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._coverage.switch_context(item.nodeid)
        started = time.monotonic()
        try:
            return (yield)
        finally:
            self._seconds[item.nodeid] = time.monotonic() - started

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        lines = {
            str(Path(file).relative_to(TREE)): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }
        document = {"seconds": self._seconds, "failed": self._failed, "lines": lines}
        self._answer.write_text(json.dumps(document), "utf-8")


class Chosen:
    """A plugin of pytest that runs only ``tests``, in that order, and notes the first to fail."""

    def __init__(self, tests: Sequence[str], answer: Path) -> None:
        self._rank = {test: rank for rank, test in enumerate(tests)}
        self._answer = answer

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank),
            key=lambda item: self._rank[item.nodeid],
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._answer.write_text(report.nodeid, "utf-8")


def statement(source: str, line: int) -> tuple[int, int]:
    """First and last line of the statement at ``line``; of a compound one, of its head."""
    first, last = line, line
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno
            if end is not None and line <= max(end, node.lineno):
                first, last = node.lineno, max(end, node.lineno)
    return first, last


class Mutations:
    """All places in a file where Cosmic Ray can change something, and how."""

    def __init__(self, file: str) -> None:
        from cosmic_ray.ast import ast_nodes, get_ast

        self.file = file
        self.source = (ROOT / file).read_text("utf-8")
        self._nodes = list(ast_nodes(get_ast(self.source)))

    @cached_property
    def places(self) -> list[tuple[int, list[tuple[str, int]]]]:
        """For each place its line and its changes, an operator and a number each.

        Sampling places first gives a `+`, which can become eleven other operators, no more
        weight than a `True`. Annotations are left out: nothing evaluates them.
        """
        found: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
        for name, operator in operators().items():
            count = 0
            for node in self._nodes:
                for start, _ in operator.mutation_positions(node):
                    if not is_annotation(node):
                        found[start].append((name, count))
                    count += 1
        return [(line, changes) for (line, _), changes in sorted(found.items())]

    def mutant(self, line: int, changes: Sequence[tuple[str, int]]) -> Mutant | None:
        """The first of the changes that compiles and makes a difference."""
        from cosmic_ray.mutating import mutate_code

        for name, number in changes:
            after = mutate_code(self.source, operators()[name], number)
            try:
                same = after is None or ast.dump(ast.parse(after)) == ast.dump(
                    ast.parse(self.source)
                )
            except SyntaxError:
                continue
            if not same:
                return Mutant(self.file, line, name, self.source, after)
        return None


def operators() -> dict[str, Any]:
    """Cosmic Ray's operators that need no arguments, and our own, by name."""
    if not _OPERATORS:
        import cosmic_ray.plugins

        for name in sorted(cosmic_ray.plugins.operator_names()):
            operator = cosmic_ray.plugins.get_operator(name)
            if not operator.arguments():
                _OPERATORS[name.removeprefix("core/")] = operator()
        _OPERATORS["DeleteCall"] = DeleteCall()
    return _OPERATORS


_OPERATORS: dict[str, Any] = {}


class DeleteCall:
    """Leave out a call whose result nobody uses: a close, a flush, a release, a notification."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        call = node.type in ("atom_expr", "power") and node.parent.type == "simple_stmt"
        if call and node.get_last_leaf().value == ")":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        from parso.python.tree import Name

        return Name("None", node.start_pos, prefix=node.get_first_leaf().prefix)


def is_annotation(node: Any) -> bool:
    """Whether a parso node lies in a type annotation, or in the alias of a type."""
    child, parent = node, node.parent
    while parent is not None:
        if parent.type == "annassign":
            return child is parent.children[1]
        if parent.type == "tfpdef":
            return child is parent.children[2]
        if parent.type == "param" and child is getattr(parent, "annotation", None):
            return True
        if parent.type == "funcdef" and child is parent.annotation:
            return True
        child, parent = parent, parent.parent
    return False


def drawn(package: str, count: int | None, seed: int) -> list[Mutant]:
    """Mutants of a package: one at each place, or at ``count`` places drawn at random."""
    files = sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / package).rglob("*.py"))
    places = [
        (mutations, line, changes)
        for mutations in map(Mutations, files)
        for line, changes in mutations.places
    ]
    chance = random.Random(f"{seed} {package}")
    chance.shuffle(places)
    mutants: list[Mutant] = []
    for mutations, line, changes in places:
        mutant = mutations.mutant(line, chance.sample(changes, len(changes)))
        if mutant is not None:
            mutants.append(mutant)
        if len(mutants) == count:
            break
    return mutants


def copy_tree() -> None:
    """Copy what git knows or would add, and bytecode is made there once."""
    shutil.rmtree(TREE, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)


def forked(work: Callable[[], int], timeout: float | None, log: Path) -> int | None:
    """Run ``work`` in a fork; its exit status, None where it was ended after ``timeout``."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with log.open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        status = 70
        try:
            os.chdir(TREE)
            status = work()
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's stack
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if deadline is not None and time.monotonic() > deadline:
                return None
            time.sleep(0.02)
    finally:
        # the processes that a test started, too
        try:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except (ProcessLookupError, PermissionError, ChildProcessError):
            pass


def run_pytest(tests: Sequence[str], plugin: object) -> int:
    """Run tests of the copied tree in this process."""
    temporary = TREE.parent / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    os.environ |= {"CI": "true", "PYTHONPATH": str(TREE), "TMPDIR": str(temporary)}
    sys.path[:] = [str(TREE), *(path for path in sys.path if path not in ("", str(ROOT)))]
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    options = ["-q", "-x", "--no-header", "--tb=short", "-p", "no:randomly", "-p", "no:xdist"]
    if isinstance(plugin, Recorder):
        options.remove("-x")
    # hypothesis has been imported before the fork, and rewrites no asserts of ours
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    return int(pytest.main([*options, *tests], plugins=[plugin]))


def measured(package: str) -> Coverage:
    """Lines and seconds of the package's tests; run again only if something changed."""
    tests = [test for test in (*TESTS[package], package) if (TREE / test).exists()]
    changed = hashlib.sha256(repr(tests).encode())
    for file in sorted(TREE.rglob("*.py")):
        changed.update(file.read_bytes())
    answer = WORK / f"{package.replace('/', '-')}-{changed.hexdigest()[:16]}.json"
    if not answer.exists():
        print(f"{package}: running its tests once on unchanged code", flush=True)
        log = answer.with_suffix(".log")
        forked(lambda: run_pytest(tests, Recorder(package, answer)), None, log)
        if not answer.exists():
            sys.exit(f"the tests of {package} did not run to their end: see {log}")
    coverage = Coverage(json.loads(answer.read_text("utf-8")))
    for test in coverage.failed:
        print(f"fails on unchanged code, and is left out: {test}")
    return coverage


def tried(mutant: Mutant, coverage: Coverage, limit: float) -> Outcome:
    """Run the tests of ``mutant``'s line against it."""
    tests = coverage.tests_of(mutant, limit)
    if not tests:
        return Outcome(mutant, "no test", 0.0)
    answer = WORK / "first-failure"
    answer.unlink(missing_ok=True)
    files = sorted({test.partition("::")[0] for test in tests})
    target = TREE / mutant.file
    started = time.monotonic()
    target.write_text(mutant.after, "utf-8")
    # Bytecode is valid for a size and a second, which a mutant may share with the original.
    shutil.rmtree(target.parent / "__pycache__", ignore_errors=True)
    sys.dont_write_bytecode = True
    try:
        status = forked(
            lambda: run_pytest(files, Chosen(tests, answer)),
            60 + 4 * coverage.seconds_of(tests),
            WORK / "mutant.log",
        )
    finally:
        target.write_text(mutant.before, "utf-8")
    seconds = time.monotonic() - started
    if status is None:
        return Outcome(mutant, "timeout", seconds)
    if status == 0:
        return Outcome(mutant, "survived", seconds, f"{len(tests)} tests")
    detail = answer.read_text("utf-8") if answer.exists() else f"exit status {status}"
    return Outcome(mutant, "killed", seconds, detail)


def report(outcomes: Sequence[Outcome]) -> None:
    """List survivors, and the score of each package."""
    for outcome in outcomes:
        if not outcome.is_killed:
            head = f"{outcome.mutant.where}: {outcome.state}, {outcome.mutant.operator}"
            print(f"\n{head} ({outcome.detail})\n{outcome.mutant.diff}")
    print(f"\n{'package':24}{'mutants':>9}{'killed':>9}{'timeout':>9}{'survived':>9}{'no test':>9}")
    packages = sorted({outcome.mutant.file.rpartition("/")[0] for outcome in outcomes})
    for package in packages:
        states = Counter(
            outcome.state for outcome in outcomes if outcome.mutant.file.startswith(f"{package}/")
        )
        score = (states["killed"] + states["timeout"]) / states.total()
        counts = (
            states.total(),
            *(states[s] for s in ("killed", "timeout", "survived", "no test")),
        )
        print(f"{package:24}{''.join(f'{count:9}' for count in counts)}   {score:.0%} killed")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts/mutants.py")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of each package")
    parser.add_argument("--seed", type=int, default=0, help="which sample (default: 0)")
    parser.add_argument(
        "--limit",
        type=float,
        default=60.0,
        help="seconds of tests for each mutant, the fastest tests first (default: 60)",
    )
    return parser.parse_args()


def main() -> None:
    """Try the mutants of the packages asked for."""
    asked = arguments()
    packages = [package.strip("/") for package in asked.packages] or list(TESTS)
    if unknown := set(packages) - TESTS.keys():
        sys.exit(f"{', '.join(sorted(unknown))}: the tests are known of {', '.join(TESTS)} only")
    copy_tree()
    for module in PREPARED:
        __import__(module)
    outcomes: list[Outcome] = []
    for package in packages:
        coverage = measured(package)
        mutants = drawn(package, asked.sample, asked.seed)
        for number, mutant in enumerate(mutants, 1):
            outcome = tried(mutant, coverage, asked.limit)
            outcomes.append(outcome)
            head = f"{number}/{len(mutants)} {outcome.state:8} {outcome.seconds:5.1f} s"
            print(f"{head}  {mutant.where}  {mutant.operator}  {outcome.detail}", flush=True)
    report(outcomes)


if __name__ == "__main__":
    main()
