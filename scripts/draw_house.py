"""Draw the packages and their imports into docs/house.md, from the source itself.

    python -m scripts.draw_house

An arrow is drawn from a package to each one that it imports, unless a longer way of arrows
says the same: so the picture has the fewest arrows from which all imports can be read.
A test compares docs/house.md with what this script makes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "house.md"
START, END = "<!-- picture: made by scripts/draw_house.py -->", "<!-- end of picture -->"

Graph = Mapping[str, frozenset[str]]

CORE = "ngff_core"
PACKAGES = ("ngff_flows", "flows", "tasks", CORE)
# ngff_core's own modules, which lie in no package of it
ROOT_MODULES = f"{CORE}/*.py"
# the modules that callers import names from, which may import every package
PUBLIC = f"{CORE}/public"
PUBLIC_MODULES = ("__init__", "to_multiscales")

# A second line for the boxes, where the name alone does not say it.
ROLES = {
    "ngff_flows": "command line, receiver",
    "flows": "Prefect flows",
    "tasks": "Prefect tasks",
    f"{CORE}/maintain": "status, repair, clean-up",
    f"{CORE}/build": "a build from start to end",
    f"{CORE}/lazy": "dask arrays",
    f"{CORE}/collections": "series, plates, label groups",
    f"{CORE}/pyramid": "regions, verification",
    f"{CORE}/records": "plan, ledger, lease",
    f"{CORE}/plan": "layout, schedule",
    f"{CORE}/sources": "image formats",
    f"{CORE}/uploads": "inbox, notifications",
    f"{CORE}/kernels": "downsampling",
    f"{CORE}/model": "axes, metadata",
    f"{CORE}/storage": "files and buckets",
    ROOT_MODULES: "errors, geometry, memory",
    PUBLIC: "all public names",
}


def package_of(parts: tuple[str, ...], root: Path) -> str | None:
    """The box of a dotted name: ngff_core's packages have one each. None if it is not ours."""
    if not parts or parts[0] not in PACKAGES:
        return None
    if parts[0] != CORE:
        return parts[0]
    if len(parts) > 1 and (root / CORE / parts[1] / "__init__.py").is_file():
        return f"{CORE}/{parts[1]}"
    if len(parts) == 1 or parts[1] in PUBLIC_MODULES:
        return PUBLIC
    # names of ngff_core/__init__.py are no modules
    is_module = (root / CORE / f"{parts[1]}.py").is_file()
    return ROOT_MODULES if is_module else PUBLIC


def imported(file: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """Dotted names, in parts, of all that a file imports."""
    folder = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            origin = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*origin, alias.name) for alias in node.names)


def imports(root: Path) -> Graph:
    """For each package those that it imports, itself left out."""
    graph: dict[str, set[str]] = {}
    for top in PACKAGES:
        for file in sorted((root / top).rglob("*.py")):
            box = package_of(file.relative_to(root).with_suffix("").parts, root)
            if box is None:
                continue
            found = graph.setdefault(box, set())
            for names in imported(file, root):
                other = package_of(names, root)
                if other is not None and other != box:
                    found.add(other)
    return {box: frozenset(found) for box, found in graph.items()}


def reached(graph: Graph, start: str) -> set[str]:
    """Everything that ``start`` imports, by way of others too."""
    found: set[str] = set()
    open_ = list(graph[start])
    while open_:
        box = open_.pop()
        if box not in found:
            found.add(box)
            open_ += graph[box]
    return found


def reduced(graph: Graph) -> Graph:
    """The same imports with the fewest arrows: those that no longer way replaces."""
    return {
        box: frozenset(
            other
            for other in direct
            if not any(other in reached(graph, via) for via in direct - {other})
        )
        for box, direct in graph.items()
    }


def ranked(graph: Graph) -> list[str]:
    """Boxes from top to bottom: by the longest way down, then by name."""
    depth: dict[str, int] = {}

    def depth_of(box: str) -> int:
        if box not in depth:
            depth[box] = 1 + max(map(depth_of, graph[box]), default=0)
        return depth[box]

    return sorted(graph, key=lambda box: (-depth_of(box), box))


def label(box: str) -> str:
    """A box's text: the folder, and what lies in it."""
    names = {ROOT_MODULES: f"{CORE}/*.py", PUBLIC: "import ngff_core"}
    name = names.get(box, f"{box}/".removeprefix(f"{CORE}/"))
    return f"{name}<br>{ROLES[box]}" if box in ROLES else name


def picture(graph: Graph) -> str:
    """The graph in Mermaid's language."""
    fewest = reduced(graph)
    order = ranked(graph)
    names = {box: box.rpartition("/")[2].replace("*.py", "modules") for box in order}
    core = [box for box in order if box.startswith(CORE)]
    lines = ["flowchart TD"]
    lines += [f'    {names[box]}["{label(box)}"]:::application' for box in order if box not in core]
    lines += [f'    subgraph core ["{CORE}/"]']
    lines += [f'        {names[box]}["{label(box)}"]' for box in core]
    lines += ["    end"]
    lines += [
        f"    {names[box]} --> {names[other]}"
        for box in order
        for other in sorted(fewest[box], key=order.index)
    ]
    lines += ["    classDef application stroke-width:3px", "    style core fill:none"]
    return "\n".join(lines)


def page(old: str, root: Path = ROOT) -> str:
    """The page with its picture replaced by today's."""
    before, rest = old.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n```mermaid\n{picture(imports(root))}\n```\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
