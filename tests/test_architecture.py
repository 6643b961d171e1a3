"""Imports point one way: ngff_flows, flows, tasks, ngff_core, and there from package to package.

The checks read the source, so they see imports inside functions and under
``TYPE_CHECKING`` too. They take the folder to look at, so that the last tests can run
them on made-up trees with mistakes in them. One check is not of imports: no constructor
has more than seven parameters.
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
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path
from textwrap import indent

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ngff_flows", "flows", "tasks", "ngff_core")

# The packages of ngff_core, from the ground up: each may import those before it, never those
# after it. ROOT stands for the modules that lie directly in ngff_core.
ROOT_MODULES = "(root)"
PACKAGE_ORDER = (
    ROOT_MODULES,
    "model",
    "kernels",
    "storage",
    "plan",
    "sources",
    "records",
    "uploads",
    "pyramid",
    "build",
    "lazy",
    "maintain",
)

# Public functions that share their module's name stay where callers import them from.
DOORS = {"__init__", "to_multiscales"}

# A notebook that uses ngff_core installs no server and starts none.
FORBIDDEN = {
    "ngff_core": {"prefect", "typer", "tasks", "flows", "ngff_flows", "deployments", "tests"},
    "tasks": {"flows", "ngff_flows", "deployments", "tests"},
    "flows": {"ngff_flows", "deployments", "tests"},
}

# These are slow to import, so few packages do it, and late. Sources ask dask for the token
# that tells one array from another.
ONLY_IN = {
    "dask": {"build", "lazy", "sources"},
    "distributed": {"build"},
    "itkwasm": {"kernels"},
    "itkwasm_downsample": {"kernels"},
}


# What may import the packages of an extra: all else must work without it, as in a notebook
# after `pip install ngff-flows`.
EXTRAS = {
    "flows": {
        "flows",
        "tasks",
        "ngff_core/uploads/authentication.py",
        "ngff_flows/cli/run_flow.py",
        "ngff_flows/receiver.py",
    },
    "cluster": {"ngff_core/build"},
    "demo": {"ngff_flows/demo.py"},
    "hdf5": {"ngff_core/sources/hdf5/reader.py", "ngff_core/sources/hdf5/files.py"},
    "n5": {
        "ngff_core/sources/volumes/precomputed.py",
        "ngff_core/sources/volumes/tensorstore_chunks.py",
    },
    "medical": {
        "ngff_core/sources/dicom/frames.py",
        "ngff_core/sources/dicom/headers.py",
        "ngff_core/sources/nifti/reader.py",
    },
    "microscopy": {
        "ngff_core/sources/microscopy/czi.py",
        "ngff_core/sources/microscopy/czi_mosaic.py",
        "ngff_core/sources/microscopy/lif.py",
        "ngff_core/sources/microscopy/nd2_compat.py",
        "ngff_core/sources/microscopy/nd2_file.py",
        "ngff_core/sources/microscopy/oif.py",
        "ngff_core/sources/microscopy/oir.py",
        "ngff_core/sources/microscopy/oirfile_compat.py",
    },
}

# More than this many values belong together in groups that have names.
MOST_PARAMETERS = 7

# Classes whose constructor may have more, each with the reason. Kernels may have more too. Forms
# of pydantic are options, and define no constructor that the check would see.
LONG_CONSTRUCTORS = {
    # Options: one field for each option that a caller may set.
    "ngff_core.plan.options.BuildOptions",
    # The shape of a peer's public class, as its docstring says.
    "ngff_core.lazy.multiscales.Metadata",
    # The stored document `plan.json`: the fields are its keys, the digest is taken over them, and
    # pydantic reads the document straight into them. Groups would need a second description of
    # the document, for writing and for reading, that could differ from the first.
    "ngff_core.plan.pyramid_plan.ImageInfo",
    "ngff_core.plan.pyramid_plan.LevelPlan",
    "ngff_core.plan.pyramid_plan.PyramidPlan",
    # What a reader says of one image. A dozen readers fill it in by keyword, each only what its
    # format knows; groups would only add names to find it under.
    "ngff_core.sources.contract.ImageDescription",
    # What a listing says of one upload, filled in by keyword where it is found.
    "ngff_core.uploads.decisions.Upload",
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


def modules(root: Path) -> dict[str, Path]:
    """Dotted name of every module of ours, and its file."""
    found = {}
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def package_of_module(name: str, root: Path) -> str | None:
    """The package of ngff_core that a dotted name lies in, None for anything else."""
    parts = name.split(".")
    if parts[0] != "ngff_core" or len(parts) < 2:
        return None
    if parts[1] in PACKAGE_ORDER or (root / "ngff_core" / parts[1]).is_dir():
        return parts[1]
    return ROOT_MODULES if (root / "ngff_core" / f"{parts[1]}.py").exists() else None


def dotted(file: Path, root: Path) -> str:
    return ".".join(file.relative_to(root).with_suffix("").parts)


def wrong_directions(root: Path) -> list[str]:
    """Imports against the order ngff_flows, flows, tasks, ngff_core."""
    return [
        f"{where}: {package} must not import {name}"
        for package, names in FORBIDDEN.items()
        for where, _, name in all_imports(root, package)
        if name.split(".")[0] in names
    ]


def unlisted_packages(root: Path) -> list[str]:
    """Packages of ngff_core whose place in the order is not known."""
    found = {file.parent.name for file in (root / "ngff_core").glob("*/__init__.py")}
    return [
        f"ngff_core/{package} is not in PACKAGE_ORDER of tests/test_architecture.py: add it there, "
        "after the packages it imports and before those that import it"
        for package in sorted(found - {*PACKAGE_ORDER})
    ]


def upward_imports(root: Path) -> list[str]:
    """Imports inside ngff_core that do not point to the same package or an earlier one."""
    wrong = []
    for where, file, name in all_imports(root, "ngff_core"):
        importer = package_of_module(dotted(file, root), root)
        if file.stem in DOORS and importer == ROOT_MODULES:
            continue
        if name.split(".")[0] != "ngff_core" or name.startswith("ngff_core.__"):
            continue
        imported = package_of_module(name, root)
        if imported is None:
            wrong.append(f"{where}: import {name} from the module that defines it")
        elif {importer, imported} <= {*PACKAGE_ORDER} and PACKAGE_ORDER.index(
            imported
        ) > PACKAGE_ORDER.index(str(importer)):
            wrong.append(f"{where}: {importer} must not import {imported}, which comes after it")
    return wrong


def imported_modules(root: Path) -> dict[str, set[str]]:
    """For each module of ours, those of ours that it imports."""
    known = modules(root)
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, file in known.items():
        for _, target in imports(file, root):
            found = target if target in known else target.rpartition(".")[0]
            if found in known and found != name:
                graph[name].add(found)
    return graph


def circles(root: Path) -> list[str]:
    """Modules that import each other in a circle, inside packages included."""
    try:
        tuple(TopologicalSorter(imported_modules(root)).static_order())
    except CycleError as error:
        return [f"a circle of imports: {' -> '.join(error.args[1])}"]
    return []


def costly_imports(root: Path) -> list[str]:
    """Costly packages imported elsewhere than in the packages meant for them."""
    return [
        f"{where}: only {' and '.join(sorted(allowed))} may import {name}"
        for where, file, name in all_imports(root, "ngff_core")
        if (allowed := ONLY_IN.get(name.split(".")[0]))
        and package_of_module(dotted(file, root), root) not in allowed
    ]


def unsafe_xml(root: Path) -> list[str]:
    """Parsers of XML that follow entities: files of strangers are parsed by defusedxml alone."""
    return [
        f"{where}: parse XML with defusedxml, not {name}"
        for package in PACKAGES
        for where, _, name in all_imports(root, package)
        if name.split(".")[0] in ("xml", "lxml", "pyexpat")
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

    A package that is installed only because another one needs it goes when that one drops it. The
    base of the project must be enough for ngff_core and the command line; a file may need an extra
    only if it is in EXTRAS.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    installed = distributions()
    findings = []
    for package in PACKAGES:
        for where, file, name in all_imports(root, package):
            top = name.split(".")[0]
            if top in {*sys.stdlib_module_names, *PACKAGES}:
                continue
            allowed = extras_of(file.relative_to(root))
            asked = [*project["dependencies"], *(r for extra in allowed for r in extras[extra])]
            declared = {canonical(re.split(r"[^\w.-]", requirement)[0]) for requirement in asked}
            if declared.isdisjoint(map(canonical, installed.get(top, [top]))):
                beside = f" or its extra {' or '.join(allowed)}" if allowed else ""
                findings.append(
                    f"{where}: {name} is not among the dependencies in pyproject.toml{beside}"
                )
    return findings


def extras_of(file: Path) -> tuple[str, ...]:
    """The extras that a file may need: those of its own path or of a folder above it."""
    paths = {path.as_posix() for path in (file, *file.parents)}
    return tuple(extra for extra, places in EXTRAS.items() if not paths.isdisjoint(places))


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def classes(root: Path) -> dict[str, ast.ClassDef]:
    """Every class of ours by its dotted name, those inside functions and classes included."""
    return {
        f"{module}.{node.name}": node
        for module, file in modules(root).items()
        for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file)))
        if isinstance(node, ast.ClassDef)
    }


def parameters(node: ast.ClassDef, known: Mapping[str, ast.ClassDef]) -> set[str] | None:
    """Parameters of a class's constructor besides ``self``; None if the class defines none.

    They are those of its ``__init__``, or the fields of a dataclass and of the dataclasses that
    it inherits from. ``known`` finds the latter by their names.
    """
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            given = member.args
            every = (*given.posonlyargs, *given.args, *given.kwonlyargs)
            return {each.arg for each in every[1:]}
    decorators = (ast.unparse(each).partition("(")[0] for each in node.decorator_list)
    if not {"dataclass", "dataclasses.dataclass"}.intersection(decorators):
        return None
    own = {
        ast.unparse(member.target)
        for member in node.body
        if isinstance(member, ast.AnnAssign) and is_parameter(member)
    }
    bases = (known.get(ast.unparse(base).rpartition(".")[2]) for base in node.bases)
    return own.union(
        *(parameters(base, known) or () for base in bases if base and base is not node)
    )


def is_parameter(field: ast.AnnAssign) -> bool:
    """Whether an annotated name in a dataclass is a parameter of its constructor."""
    kind, value = ast.unparse(field.annotation), ast.unparse(field.value or ast.Constant(None))
    return not re.match(r"(\w+\.)?(ClassVar|KW_ONLY)\b", kind) and "init=False" not in value


def long_constructors(root: Path) -> list[str]:
    """Constructors with more than `MOST_PARAMETERS` parameters, kernels and exceptions apart."""
    every = classes(root)
    known = {name.rpartition(".")[2]: node for name, node in every.items()}
    return [
        f"{name}: its constructor has {len(found)} parameters, more than {MOST_PARAMETERS}; "
        "group those that belong together into a frozen dataclass"
        for name, node in every.items()
        if (found := parameters(node, known))
        and len(found) > MOST_PARAMETERS
        and name not in LONG_CONSTRUCTORS
        and not name.startswith("ngff_core.kernels.")
    ]


CHECKS = (
    wrong_directions,
    unlisted_packages,
    upward_imports,
    circles,
    costly_imports,
    unsafe_xml,
    hiding_names,
    undeclared,
    long_constructors,
)


@pytest.mark.parametrize("check", CHECKS)
def test_source_keeps_the_order(check: Callable[[Path], list[str]]) -> None:
    assert (ROOT / "ngff_core" / "__init__.py").is_file()
    findings = check(ROOT)
    assert not findings, "\n".join(findings)


def test_the_map_has_every_package() -> None:
    """In the order of the imports, as `ngff_core/README.md` says it is."""
    map_of_packages = (ROOT / "ngff_core" / "README.md").read_text("utf-8")
    assert tuple(re.findall(r"^\| `(\w+)/` \|", map_of_packages, re.MULTILINE)) == PACKAGE_ORDER[1:]


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
    assert "ngff_flows" in loaded
    assert "prefect" not in loaded


def made_up_tree(root: Path, files: Mapping[str, str]) -> None:
    """A project of a few files."""
    for file, source in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(source, "utf-8")
    shutil.copy(ROOT / "pyproject.toml", root)


@pytest.mark.parametrize(
    ("check", "file", "source"),
    [
        (wrong_directions, "ngff_core/plan/layout.py", "from prefect import flow"),
        (wrong_directions, "ngff_core/plan/layout.py", "def f():\n    import tasks.level"),
        (wrong_directions, "tasks/level.py", "from flows.build_pyramid import build_pyramid"),
        (wrong_directions, "flows/build_pyramid.py", "from ngff_flows.cli import main"),
        (unlisted_packages, "ngff_core/attic/__init__.py", ""),
        (upward_imports, "ngff_core/geometry.py", "from ngff_core.plan.layout import Layout"),
        (upward_imports, "ngff_core/geometry.py", "import ngff_core.plan"),
        (upward_imports, "ngff_core/geometry.py", "from . import plan"),
        (upward_imports, "ngff_core/geometry.py", "from .plan.layout import Layout"),
        (upward_imports, "ngff_core/kernels/bins.py", "from ..plan.layout import Layout"),
        (upward_imports, "ngff_core/geometry.py", "from ngff_core import PyramidPlan"),
        (upward_imports, "ngff_core/geometry.py", "import ngff_core"),
        (
            upward_imports,
            "ngff_core/geometry.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from .plan.layout import Layout",
        ),
        (costly_imports, "ngff_core/pyramid/level.py", "def f():\n    import dask.array as da"),
        (costly_imports, "ngff_core/plan/methods.py", "from itkwasm_downsample import downsample"),
        (unsafe_xml, "ngff_core/geometry.py", "import xml.etree.ElementTree as ET"),
        (unsafe_xml, "ngff_core/geometry.py", "def f():\n    from xml.dom import minidom"),
        (unsafe_xml, "tasks/level.py", "from lxml import etree"),
        (hiding_names, "flows/tasks.py", ""),
        (undeclared, "ngff_core/storage/base.py", "import surely_not_declared.part"),
        (undeclared, "tasks/level.py", "def f():\n    from pytest import fixture"),
        (undeclared, "ngff_flows/cli/options.py", "def f():\n    import uvicorn"),
        (undeclared, "ngff_core/uploads/notifications.py", "from google.auth import exceptions"),
        (undeclared, "ngff_core/pyramid/level.py", "def f():\n    import distributed"),
    ],
)
def test_a_wrong_import_is_found(
    check: Callable[[Path], list[str]], file: str, source: str, tmp_path: Path
) -> None:
    """Each check sees the mistake it is there for, in the file that has it."""
    made_up_tree(tmp_path, {file: source})
    (finding,) = check(tmp_path)
    assert str(Path(file).with_suffix("")).removesuffix("/__init__") in finding


SEVEN = "\n".join(f"    field_{number}: int = 0" for number in range(7))


@pytest.mark.parametrize(
    "source",
    [
        "class Offender:\n    def __init__(self, a, b, c, d, e, f, g, h): ...",
        "class Offender:\n    def __init__(self, a, b, c, d, e, f, /, g=1, *, h=2): ...",
        f"@dataclass\nclass Offender:\n{SEVEN}\n    last: int = 0",
        f"@dataclasses.dataclass(frozen=True)\nclass Offender:\n{SEVEN}\n    last: int = 0",
        f"@dataclass\nclass Base:\n{SEVEN}\n@dataclass\nclass Offender(Base):\n    last: int = 0",
        f"def f():\n  @dataclass\n  class Offender:\n{indent(SEVEN, '  ')}\n      last: int = 0",
    ],
)
@pytest.mark.parametrize("package", PACKAGES)
def test_a_long_constructor_is_found(package: str, source: str, tmp_path: Path) -> None:
    """Written out, made by ``dataclass``, or with inherited fields; in any package."""
    made_up_tree(tmp_path, {f"{package}/made_up.py": source})
    (finding,) = long_constructors(tmp_path)
    assert finding.startswith(f"{package}.made_up.Offender: its constructor has 8 parameters")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("tasks/made_up.py", f"@dataclass\nclass Fits:\n{SEVEN}"),
        ("tasks/made_up.py", "class Fits:\n    def __init__(self, a, b, c, d, e, f, g): ..."),
        ("tasks/made_up.py", f"@dataclass\nclass Fits:\n{SEVEN}\n    kind: ClassVar[int] = 0"),
        ("tasks/made_up.py", f"@dataclass\nclass Fits:\n{SEVEN}\n    a: int = field(init=False)"),
        ("ngff_core/kernels/made_up.py", f"@dataclass\nclass Kernel:\n{SEVEN}\n    last: int = 0"),
        ("ngff_core/plan/options.py", f"@dataclass\nclass BuildOptions:\n{SEVEN}\n    a: int = 0"),
    ],
)
def test_a_short_or_excepted_constructor_passes(file: str, source: str, tmp_path: Path) -> None:
    made_up_tree(tmp_path, {file: source})
    assert long_constructors(tmp_path) == []


def test_each_exception_is_still_needed() -> None:
    """A class that was shortened, renamed or moved leaves the list of exceptions."""
    every = classes(ROOT)
    assert set(every) >= LONG_CONSTRUCTORS
    for name in LONG_CONSTRUCTORS:
        assert len(parameters(every[name], {}) or ()) > MOST_PARAMETERS, name


def test_a_circle_inside_a_package_is_found(tmp_path: Path) -> None:
    """Also one that is closed by an import inside a function."""
    made_up_tree(
        tmp_path,
        {
            "ngff_core/plan/layout.py": "from ngff_core.plan.chunks import Chunks",
            "ngff_core/plan/chunks.py": "def f():\n    from ngff_core.plan import layout",
        },
    )
    (finding,) = circles(tmp_path)
    assert "ngff_core.plan.layout" in finding
    assert "ngff_core.plan.chunks" in finding


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("ngff_core/__init__.py", "from ngff_core.build.api import build_pyramid"),
        ("ngff_core/to_multiscales.py", "from ngff_core.lazy.levels import levels"),
        ("ngff_core/plan/layout.py", "from ngff_core import __version__"),
        ("ngff_core/plan/layout.py", "from ..storage import base\nimport numpy as np"),
        ("ngff_core/kernels/bins.py", "from .contract import Kernel"),
        ("ngff_core/kernels/wasm.py", "def f():\n    import itkwasm_downsample"),
        ("ngff_core/lazy/levels.py", "def f():\n    import dask.array as da"),
        ("tasks/level.py", "from prefect import task\nfrom ngff_core.build.api import run"),
        ("flows/build_pyramid.py", "from tasks.level import level_task\nimport ngff_core"),
        ("ngff_flows/cli/main.py", "from flows.build_pyramid import build_pyramid"),
        ("ngff_flows/cli/run_flow.py", "def f():\n    from prefect.logging import handlers"),
        ("ngff_core/build/cluster.py", "def f():\n    import distributed"),
    ],
)
def test_a_right_import_passes(file: str, source: str, tmp_path: Path) -> None:
    made_up_tree(tmp_path, {file: source})
    assert [finding for check in CHECKS for finding in check(tmp_path)] == []
