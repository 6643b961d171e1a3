"""Artifacts of a build in Prefect's UI: a table of levels, a report, a thumbnail."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from ngff_core import BuildReport, LevelReport
from ngff_core.build.report import bytes_text, retries_text, shape_text, voxel_text
from tasks.reporting.progress import counted

_KEY_LENGTH = 40


def artifact_key(what: str, target: str) -> str:
    """The key of an artifact, different for each target.

    Prefect's page of a key then lists the builds of one pyramid, not those of all pyramids.

    >>> artifact_key("report", "gs://lab/Brain 7.ome.zarr")
    'report-brain-7-a659f2'
    """
    target = target.rstrip("/")
    name = target.rpartition("/")[2].lower()
    words = "-".join(re.findall("[a-z0-9]+", re.sub(r"(\.ome)?\.zarr$", "", name)))
    mark = sha256(target.encode()).hexdigest()[:6]
    parts = (what, words[:_KEY_LENGTH].strip("-"), mark)
    return "-".join(part for part in parts if part)


def show_levels(report: BuildReport) -> None:
    """Create the table of levels."""
    create_table_artifact(
        key=artifact_key("levels", report.target),
        table=[_row(report, level) for level in report.levels],
        description=f"Levels of {report.target}",
    )


def show_report(
    report: BuildReport,
    public_url: str | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> None:
    """Create the report, as markdown; ``chosen`` are options other than the defaults."""
    create_markdown_artifact(
        key=artifact_key("report", report.target),
        markdown=report_markdown(report, public_url, chosen),
        description=f"Build of {report.target}",
    )


def show_thumbnail(report: BuildReport, picture: str) -> None:
    """Create the image of the smallest level, which needs no public bucket: ``picture`` is data."""
    create_image_artifact(
        image_url=picture,
        key=artifact_key("thumbnail", report.target),
        description=f"Smallest level of {report.target}, contrast stretched",
    )


def viewer_links(target: str, ome_zarr_version: str, public_url: str | None) -> dict[str, str]:
    """Addresses of viewers that show a pyramid, by name; none without a ``public_url``.

    ``public_url`` is the address at which browsers can read the target; ``derive`` makes it from
    a gs:// target.

    >>> viewer_links("gs://lab/brain.ome.zarr", "0.5", "derive")["vizarr"]
    'https://hms-dbmi.github.io/vizarr/?source=https://storage.googleapis.com/lab/brain.ome.zarr'
    """
    url = _derived(target) if public_url == "derive" else public_url
    if url is None:
        return {}
    url = url.rstrip("/")
    source = quote(url, safe=":/")
    links = {}
    if ome_zarr_version != "0.6":
        # Neuroglancer 2.41.2 shows a black page for OME-Zarr 0.6, which it does not know yet.
        zarr = "zarr2" if ome_zarr_version == "0.4" else "zarr3"
        scene = {"layers": [{"name": url.rpartition("/")[2], "source": f"{url}/|{zarr}:"}]}
        address = f"https://neuroglancer-demo.appspot.com/#!{quote(json.dumps(scene))}"
        links["Neuroglancer"] = address
    return links | {
        "vizarr": f"https://hms-dbmi.github.io/vizarr/?source={source}",
        "ome-ngff-validator": f"https://ome.github.io/ome-ngff-validator/?source={source}",
    }


def _derived(target: str) -> str | None:
    scheme, _, path = target.partition("://")
    if scheme not in ("gs", "gcs"):
        return None
    return f"https://storage.googleapis.com/{quote(path)}"


def report_markdown(
    report: BuildReport,
    public_url: str | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> str:
    """The report of a build as markdown; ``chosen`` are options other than the defaults."""
    checked = report.verification
    if checked is None:
        verdict = "not verified"
    elif checked.ok:
        verdict = (
            f"verified: {counted(checked.regions, 'regions')} in {checked.objects} objects, "
            "and the metadata match plan and checksums"
        )
        verdict += (
            ""
            if checked.listed
            else "; the store cannot be listed, so extra objects are not checked"
        )
    else:
        found = counted(len(checked.findings), "findings")
        verdict = f"**{found}**: run `ngff-flows verify --repair {report.target}`"
    facts = {
        "Source": f"`{report.source}`" + (" (through a cache)" if report.cached else ""),
        "Target": f"`{report.target}`",
        "Method": f"`{report.method}`",
        "Options": _options(chosen),
        "Read as": _read_as(report),
        "Image": f"{shape_text(report.dims, report.levels[0].shape)} {report.dtype}",
        "Format": f"OME-Zarr {report.ome_zarr_version}, {report.compressor}",
        "Bytes": f"{bytes_text(report.stored_bytes)} stored, {bytes_text(report.raw_bytes)} raw, "
        f"ratio {_ratio(report)}",
        "Time": f"{report.seconds:.1f} s, {counted(report.fresh, 'regions')} written by this run",
        "Retries": _retries(report),
        "Plan": f"`{report.plan_digest[:16]}`",
        "Versions": ", ".join(f"{name} {version(name)}" for name in ("ngff-flows", "zarr")),
    }
    if report.absent_chunks:
        facts["Absent"] = (
            f"{report.absent_chunks} of {counted(report.source_chunks or 0, 'chunks')} of the "
            "source are not stored; they were read as its fill value"
        )
    links = viewer_links(report.target, report.ome_zarr_version, public_url)
    if links:
        facts["View it"] = ", ".join(f"[{name}]({url})" for name, url in links.items())
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    notes = _notes(report)
    name = report.target.rstrip("/").rpartition("/")[2]
    # Markdown has no table without a header row, so the verdict is the header.
    head = f"# {name}\n\n| Verdict | {verdict} |\n|---|---|\n{rows}\n"
    return f"{head}\n{notes}## Levels\n\n{_levels(report)}\n\n{_SIDE_BY_SIDE}\n"


_SIDE_BY_SIDE = "Levels are written at the same time, so their times overlap."


def _read_as(report: BuildReport) -> str:
    series, images = report.about.series
    return report.about.format + (f", image {series} of {images}" if images > 1 else "")


def _notes(report: BuildReport) -> str:
    """Remarks on how the source was read, for users of the pyramid; empty for none."""
    if not report.about.notes:
        return ""
    lines = (f"- **{note.kind}**: {note.text}" for note in report.about.notes)
    return "## How the source was read\n\n" + "\n".join(lines) + "\n\n"


def _options(chosen: Mapping[str, Any] | None) -> str:
    given = {name: value for name, value in (chosen or {}).items() if name != "method"}
    # A bar would begin another cell of the table.
    texts = (f"`{name}={json.dumps(value)}`".replace("|", "\\|") for name, value in given.items())
    return ", ".join(texts) or "the defaults"


def _levels(report: BuildReport) -> str:
    head = "| level | shape | chunks | shards | stored | ratio | regions | seconds |"
    rows = (
        f"| {level.index} | {_shape(report, level.shape)} | {_shape(report, level.chunks)} "
        f"| {_shape(report, level.shards) if level.shards else 'none'} "
        f"| {_unbroken(bytes_text(level.stored_bytes))} | {_ratio(level)} "
        f"| {level.regions} | {level.seconds:.1f} |"
        for level in report.levels
    )
    return "\n".join((head, "|---:|---|---|---|---:|---:|---:|---:|", *rows))


def _shape(report: BuildReport, shape: tuple[int, ...]) -> str:
    """A shape that breaks into lines between axes only: the page's columns are narrow."""
    return ", ".join(_unbroken(axis) for axis in shape_text(report.dims, shape).split(", "))


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _ratio(of: BuildReport | LevelReport) -> str:
    return f"{of.raw_bytes / of.stored_bytes:.2f}" if of.stored_bytes else "1.00"


def _retries(report: BuildReport) -> str:
    """All retries by kind, and then by level."""
    if not report.retries:
        return "none"
    by_part = {f"in level {level.index}": level.retries for level in report.levels}
    by_part["outside the levels"] = report.retries_beside
    parts = (f"{sum(kinds.values())} {part}" for part, kinds in by_part.items() if kinds)
    return f"{retries_text(report.retries)}; {', '.join(parts)}"


def _row(report: BuildReport, level: LevelReport) -> dict[str, Any]:
    # The page shows about seven columns without scrolling: the most important come first.
    return {
        "level": level.index,
        "shape": shape_text(report.dims, level.shape),
        "stored": bytes_text(level.stored_bytes),
        "regions": level.regions,
        "written now": level.fresh,
        "seconds": round(level.seconds, 2),
        "retries": retries_text(level.retries),
        "voxel size": voxel_text(report.dims, level.scale, report.units),
        "chunks": shape_text(report.dims, level.chunks),
        "shards": shape_text(report.dims, level.shards) if level.shards else "",
        "path": level.path,
    }
