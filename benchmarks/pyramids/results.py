"""Results on disk, saved after every run, and the table made from them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.pyramids.contest import REPEATS, THREADS, Comparison, Contestant
from benchmarks.pyramids.images import Image

PACKAGES = (
    *("numpy", "zarr", "numcodecs", "imagecodecs", "numba", "prefect", "dask", "tensorstore"),
    *("ome-zarr-pyramid", "ngff-zarr", "itkwasm-downsample", "ome-zarr"),
)
ROOT = Path(__file__).parents[2]


def installed(package: str) -> str | None:
    """Version of a package, or None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def circumstances(images: dict[str, Image]) -> dict[str, Any]:
    """What must be equal for results to be in one table: images, machine, versions."""
    return {
        "source": _git("rev-parse", "HEAD:ngff_core"),
        "changed since": bool(_git("status", "--porcelain", "ngff_core", "flows", "tasks")),
        "machine": _machine(),
        "threads": THREADS,
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "images": {name: list(image.shape) for name, image in images.items()},
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _machine() -> dict[str, Any]:
    import psutil

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


class Results:
    """Every run so far; empty where circumstances have changed."""

    def __init__(self, path: Path, images: dict[str, Image], *, fresh: bool = False) -> None:
        self.path = path
        self.of = circumstances(images)
        kept = json.loads(path.read_text()) if path.exists() and not fresh else {}
        self.runs: dict[str, dict[str, Any]] = {}
        if kept.get("of") == self.of:
            self.runs = kept["runs"]

    def seconds(self, key: str) -> list[float]:
        """All single times of a contestant."""
        return self.runs.get(key, {}).get("seconds", [])

    def note(self, contestant: Contestant, found: dict[str, Any]) -> None:
        """Add one run."""
        entry = self.runs.setdefault(contestant.key, {"seconds": []})
        entry.pop("failed", None)
        entry["seconds"].append(found.pop("seconds"))
        entry.update(found)

    def note_failure(self, contestant: Contestant, why: str) -> None:
        """Record a failure and its reason."""
        self.runs.setdefault(contestant.key, {"seconds": []})["failed"] = why

    def save(self, rows: list[Row]) -> None:
        """Write all results atomically."""
        document = {
            "of": self.of,
            "table": [vars(row) for row in rows],
            "pixels": [same_pixels(self, image) for image in ("3-D", "2-D")],
            "runs": self.runs,
        }
        for entry in self.runs.values():
            if entry["seconds"]:
                entry["median"] = statistics.median(entry["seconds"])
        partial = self.path.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        partial.replace(self.path)


@dataclass(frozen=True)
class Row:
    """One line of the table, as text, and whether its target was met."""

    image: str
    what: str
    one: str
    other: str
    ratio: str
    target: str
    met: str

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.image, self.what, self.one, self.other, self.ratio, self.target, self.met)


HEADINGS = ("image", "comparison", "A", "B", "A / B", "target", "reached")


def rows(results: Results, comparisons: list[Comparison]) -> list[Row]:
    """The table; a row that lacks a measurement says which."""
    return [_row(results, comparison) for comparison in comparisons]


def _row(results: Results, row: Comparison) -> Row:
    one, other = (_fastest(results, keys) for keys in (row.one, row.other))
    said = [_side(results, key, keys, row) for key, keys in ((one, row.one), (other, row.other))]
    target = _target(row)
    if one is None or other is None:
        return Row(row.image, row.what, *said, "", target, "")
    if row.kind == "bytes":
        value = results.runs[one]["stored_bytes"] / results.runs[other]["stored_bytes"]
    else:
        a, b = (statistics.median(results.seconds(key)) for key in (one, other))
        value = a - b if row.kind == "seconds more" else a / b
    return Row(row.image, row.what, *said, f"{value:.2f}", target, _met(row, value))


def _fastest(results: Results, keys: tuple[str, ...]) -> str | None:
    measured = [key for key in keys if results.seconds(key)]
    return min(measured, key=lambda key: statistics.median(results.seconds(key)), default=None)


def _side(results: Results, key: str | None, keys: tuple[str, ...], row: Comparison) -> str:
    if key is None:
        reasons = [results.runs.get(k, {}).get("failed", "not run") for k in keys]
        return "; ".join(reason[:100] for reason in dict.fromkeys(reasons))
    if row.kind == "bytes":
        return f"{results.runs[key]['stored_bytes'] / 2**20:.0f} MiB"
    times = results.seconds(key)
    fewer = f" (of {len(times)})" if len(times) < REPEATS else ""
    return f"{statistics.median(times):.2f} s{fewer}"


def _target(row: Comparison) -> str:
    if row.at_most is not None:
        unit = " s" if row.kind == "seconds more" else ""
        return f"≤ {row.at_most:g}{unit}"
    return "" if row.at_least is None else f"≥ {row.at_least:g}"


def _met(row: Comparison, value: float) -> str:
    if row.at_most is not None:
        return "yes" if value <= row.at_most else "no"
    if row.at_least is not None:
        return "yes" if value >= row.at_least else "no"
    return ""


def same_pixels(results: Results, image: str) -> str:
    """Whether our Gaussian's levels equal ngff-zarr's."""
    keys = (f"{image} ours, Gaussian", f"{image} ngff-zarr, Gaussian")
    wrote = [results.runs.get(key, {}).get("wrote") for key in keys]
    if not all(wrote):
        return f"{image}: not compared"
    pairs = zip(*(found["checksums"] for found in wrote if found), strict=True)
    equal = [str(level) for level, (a, b) in enumerate(pairs) if a == b]
    other = [str(level) for level in range(len(wrote[0]["levels"])) if str(level) not in equal]
    if not other:
        return f"{image}: our Gaussian's samples equal ngff-zarr's at all {len(equal)} levels"
    return f"{image}: our Gaussian's samples differ from ngff-zarr's at level {', '.join(other)}"


def rich_table(found: list[Row]) -> Table:
    """The table for a terminal."""
    table = Table(*HEADINGS, title="Side by side: medians")
    for row, following in zip(found, [*found[1:], None], strict=True):
        style = {"yes": "green", "no": "red"}.get(row.met)
        ends = following is None or following.image != row.image
        table.add_row(*row.cells, style=style, end_section=ends)
    return table


def markdown(document: dict[str, Any]) -> str:
    """The table for docs/performance.md, from what `Results.save` wrote."""
    of, found = document["of"], [Row(**row) for row in document["table"]]
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    lines += [f"| {' | '.join(row.cells)} |" for row in found]
    machine = of["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in of["versions"].items() if number)
    images = ", ".join(f"{name} {'×'.join(map(str, n))}" for name, n in of["images"].items())
    under = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; Python {of['python']}; {versions}. uint16 images: {images}."
    )
    lines += ["", *(f"{said}." for said in document["pixels"]), "", under]
    return "\n".join(lines)
