"""Imports point one way: flows, then tasks, then ngff_core, and there from room to room.

The checks read the source, so they see imports inside functions and under
``TYPE_CHECKING`` too. They take the folder to look at, so that the last tests can hold
them against made-up trees with mistakes in them.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("flows", "tasks", "ngff_core")

# A room may import the rooms that stand before it, never those that come after.
ROOMS = (
    "errors",
    "memory",
    "write_behind",
    "config",
    "axes",
    "orientation",
    "image",
    "geometry",
    "scale_factors",
    "kernels",
    "methods",
    "multiscales",
    "codecs",
    "layout",
    "plan",
    "samples",
    "tiles",
    "schedule",
    "borders",
    "cache",
    "projection",
    "pricing",
    "options",
    "metadata",
    "progress",
    "trouble",
    "retry",
    "gcs",
    "s3",
    "store",
    "foreign_store",
    "sources",
    "planning",
    "receipts",
    "ledger",
    "lease",
    "encoding",
    "arrays",
    "border_files",
    "engine",
    "exchange",
    "stream",
    "pipeline",
    "level",
    "publish",
    "verify",
    "target",
    "claim",
    "workshop",
    "cluster",
    "driver",
    "report",
    "thumbnail",
    "audit",
    "build",
    "repair",
    "survey",
    "pieces",
    "lazy",
    "lazy_input",
    "kept_copies",
    "large_image",
    "to_multiscales",
    "ngff_zarr_io",
)

# Whoever uses ngff_core in a notebook installs no server and starts none.
FORBIDDEN_IN_CORE = {"prefect", "tasks", "flows", "deployments", "tests", "typer"}

# These are slow to import, so few places do it, and late. Sources ask dask for the token
# that tells one array from another, progress registers itself with dask's schedulers.
ONLY_IN_ROOMS = {
    "dask": {"cluster", "lazy", "lazy_input", "ngff_zarr_io", "progress", "sources"},
    "distributed": {"cluster"},
    "itkwasm": {"kernels"},
    "itkwasm_downsample": {"kernels"},
}


def imports(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of all that ``file`` imports, wherever in it."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*base, *([node.module] if node.module else ())))
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def all_imports(root: Path, package: str) -> Iterator[tuple[str, Path, str]]:
    """``file:line``, the file and the imported name, for each import of a package."""
    for file in sorted((root / package).rglob("*.py")):
        for line, name in imports(file, root):
            yield f"{file.relative_to(root).as_posix()}:{line}", file, name


def room_of(file: Path, root: Path) -> str:
    """The room that a file of ngff_core lies in; ``__init__`` for the package's door."""
    return Path(file.relative_to(root / "ngff_core").parts[0]).stem


def is_room(name: str, root: Path) -> bool:
    """Whether a name stands in the list, or is a module that ought to."""
    core = root / "ngff_core"
    return name in ROOMS or (core / f"{name}.py").exists() or (core / name / "__init__.py").exists()


def wrong_packages(root: Path) -> list[str]:
    """Imports against the order flows, tasks, ngff_core."""
    forbidden = {"ngff_core": FORBIDDEN_IN_CORE, "tasks": {"flows", "deployments", "tests"}}
    return [
        f"{where}: {package} must not import {name}"
        for package, names in forbidden.items()
        for where, _, name in all_imports(root, package)
        if name.split(".")[0] in names
    ]


def unlisted_rooms(root: Path) -> list[str]:
    """Modules of ngff_core whose place in the order is not known."""
    found = {room_of(file, root) for file in (root / "ngff_core").rglob("*.py")}
    return [
        f"ngff_core/{room} is not in the list ROOMS of tests/test_architecture.py: add it "
        "there, after the rooms it imports and before those that import it"
        for room in sorted(found - {"__init__", *ROOMS})
    ]


def wrong_rooms(root: Path) -> list[str]:
    """Imports inside ngff_core that do not point to an earlier room."""
    wrong = []
    for where, file, name in all_imports(root, "ngff_core"):
        importer, parts = room_of(file, root), name.split(".")
        # the package's door may show any room
        if parts[0] != "ngff_core" or importer == "__init__":
            continue
        imported = parts[1] if len(parts) > 1 else ""
        if imported.startswith("__") or imported == importer:
            continue
        if not is_room(imported, root):
            wrong.append(f"{where}: import {name} from the room where it lives")
        elif {importer, imported} <= set(ROOMS) and ROOMS.index(imported) > ROOMS.index(importer):
            wrong.append(f"{where}: {importer} must not import {imported}, which comes after it")
    return wrong


def costly_imports(root: Path) -> list[str]:
    """Costly packages imported elsewhere than in the rooms meant for them."""
    return [
        f"{where}: only {' and '.join(sorted(rooms))} may import {name}"
        for where, file, name in all_imports(root, "ngff_core")
        if (rooms := ONLY_IN_ROOMS.get(name.split(".")[0])) and room_of(file, root) not in rooms
    ]


def hiding_names(root: Path) -> list[str]:
    """Files named like a package of ours.

    Prefect may put a file's folder first on the path; a ``flows/tasks.py`` would then be
    found in the place of the package ``tasks``.
    """
    return [
        f"{file.relative_to(root).as_posix()}: a file of this name hides a package"
        for package in PACKAGES
        for file in sorted((root / package).rglob("*.py"))
        if file.stem in PACKAGES
    ]


@cache
def distributions() -> Mapping[str, list[str]]:
    """Which distributions each importable name comes from; it takes a while."""
    return packages_distributions()


def undeclared(root: Path) -> list[str]:
    """Imports of packages that pyproject.toml does not ask for.

    A package that only comes along with another goes when that one drops it.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["cluster"], *extras["demo"]]
    declared = {canonical(re.split(r"[^\w.-]", requirement)[0]) for requirement in asked}
    installed = distributions()
    return [
        f"{where}: {name} is not among the dependencies in pyproject.toml"
        for package in PACKAGES
        for where, _, name in all_imports(root, package)
        if (top := name.split(".")[0]) not in {*sys.stdlib_module_names, *PACKAGES}
        and declared.isdisjoint(map(canonical, installed.get(top, [top])))
    ]


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


CHECKS = (wrong_packages, unlisted_rooms, wrong_rooms, costly_imports, hiding_names, undeclared)


@pytest.mark.parametrize("check", CHECKS)
def test_source_keeps_the_order(check: Callable[[Path], list[str]]) -> None:
    assert (ROOT / "ngff_core" / "__init__.py").is_file()
    findings = check(ROOT)
    assert not findings, "\n".join(findings)


def test_the_map_has_every_room() -> None:
    """In the order of the imports, as `ngff_core/README.md` says it is."""
    map_of_rooms = (ROOT / "ngff_core" / "README.md").read_text("utf-8")
    assert tuple(re.findall(r"^\| `(\w+)` \|", map_of_rooms, re.MULTILINE)) == ROOMS


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter loads for ``statement``."""
    log = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stderr
    lines = (line for line in log.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


def test_importing_the_core_loads_nothing_costly() -> None:
    """``import ngff_core`` costs a notebook neither Prefect nor dask nor a WASM engine."""
    loaded = loaded_by("import ngff_core")
    assert "ngff_core" in loaded
    assert not loaded & {"prefect", "dask", "distributed", "itkwasm", "itkwasm_downsample"}


def test_command_line_starts_without_prefect() -> None:
    """``ngff-flows --help`` answers at once; Prefect is loaded where a flow runs."""
    loaded = loaded_by("import ngff_flows.cli.main")
    assert "flows" in loaded
    assert "prefect" not in loaded


def made_up_tree(root: Path, file: str, source: str) -> None:
    """A project of one file."""
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(source, "utf-8")
    shutil.copy(ROOT / "pyproject.toml", root)


@pytest.mark.parametrize(
    ("check", "file", "source"),
    [
        (wrong_packages, "ngff_core/plan/pyramid_plan.py", "from prefect import flow"),
        (wrong_packages, "ngff_core/plan/pyramid_plan.py", "def f():\n    import tasks.level"),
        (wrong_packages, "tasks/level.py", "from flows.build_pyramid import build_pyramid"),
        (unlisted_rooms, "ngff_core/attic.py", ""),
        (unlisted_rooms, "ngff_core/attic/__init__.py", ""),
        (
            wrong_rooms,
            "ngff_core/geometry.py",
            "from ngff_core.plan.pyramid_plan import PyramidPlan",
        ),
        (wrong_rooms, "ngff_core/geometry.py", "import ngff_core.plan.pyramid_plan"),
        (wrong_rooms, "ngff_core/geometry.py", "from . import plan"),
        (wrong_rooms, "ngff_core/geometry.py", "from .plan import PyramidPlan"),
        (wrong_rooms, "ngff_core/kernels/bins.py", "from ..methods import Methods"),
        (wrong_rooms, "ngff_core/geometry.py", "from ngff_core import PyramidPlan"),
        (wrong_rooms, "ngff_core/geometry.py", "import ngff_core"),
        (
            wrong_rooms,
            "ngff_core/geometry.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from .plan import PyramidPlan",
        ),
        (costly_imports, "ngff_core/pyramid/level_io.py", "def f():\n    import dask.array as da"),
        (
            costly_imports,
            "ngff_core/kernels/methods.py",
            "from itkwasm_downsample import downsample",
        ),
        (hiding_names, "flows/tasks.py", ""),
        (undeclared, "ngff_core/store.py", "import surely_not_declared.part"),
        (undeclared, "tasks/level.py", "def f():\n    from pytest import fixture"),
    ],
)
def test_a_wrong_import_is_found(
    check: Callable[[Path], list[str]], file: str, source: str, tmp_path: Path
) -> None:
    """Each check sees the mistake it is there for, in the file that has it."""
    made_up_tree(tmp_path, file, source)
    (finding,) = check(tmp_path)
    assert str(Path(file).with_suffix("")).removesuffix("/__init__") in finding


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ngff_core/__init__.py", "from ngff_core.build.build import build_pyramid"),
        ("ngff_core/plan/pyramid_plan.py", "from ngff_core import __version__, geometry"),
        ("ngff_core/plan/pyramid_plan.py", "from .geometry import Region\nimport numpy as np"),
        (
            "ngff_core/kernels/bins.py",
            "from .contract import Kernel\nfrom ..errors import NgffError",
        ),
        ("ngff_core/kernels/wasm.py", "def f():\n    import itkwasm_downsample"),
        ("ngff_core/lazy/dask_levels.py", "def f():\n    import dask.array as da"),
        (
            "tasks/level.py",
            "from prefect import task\nfrom ngff_core.pyramid.level_io import build_level",
        ),
        ("flows/build_pyramid.py", "from tasks.level import level_task\nimport ngff_core"),
    ],
)
def test_a_right_import_passes(file: str, source: str, tmp_path: Path) -> None:
    made_up_tree(tmp_path, file, source)
    assert [finding for check in CHECKS for finding in check(tmp_path)] == []
