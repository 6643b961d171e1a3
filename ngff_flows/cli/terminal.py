"""Output for a terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ngff_core import BuildReport, BuildStatus, InspectedImage, Inspection, PlannedBuild, Repair
from ngff_core.build.report import bytes_text, shape_text, voxel_text
from ngff_core.plan.pricing import Price
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.progress import Advanced, Event, Finished, Listener, Message, Started
from ngff_core.pyramid.verify import Verification
from ngff_core.sources import Note
from tasks.reporting.progress import counted

_PLAIN_SECONDS = 2.0


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener that shows progress: bars on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield Bars(bars)


class Bars:
    """One rich progress bar per phase."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Started(phase, done, total, unit):
                self._tasks[phase] = self._bars.add_task(
                    phase, completed=done, total=total, unit=unit
                )
            case Advanced(phase, done):
                self._bars.update(self._tasks[phase], completed=done)
            case Finished(phase, total):
                self._bars.update(self._tasks[phase], completed=total)
            case Message(text):
                self._bars.console.print(text)


class PlainLines:
    """Writes a line when a phase begins and ends, and every two seconds between."""

    def __init__(self) -> None:
        self._written_at = 0.0
        self._unit = "regions"

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case Started(phase, done, total, unit):
                self._unit, self._written_at = unit, now
                before = f", {done} already done" if done else ""
                self._write(f"{phase}: {counted(total, unit)}{before}")
            case Advanced(phase, done, total) if now - self._written_at >= _PLAIN_SECONDS:
                self._written_at = now
                self._write(f"{phase}: {done}/{total} {self._unit}")
            case Finished(phase, _, fresh, seconds):
                self._write(f"{phase}: {counted(fresh, self._unit)} in {seconds:.1f} s")
            case Message(text):
                self._write(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def show_inspection(found: Inspection) -> None:
    """Print the images of a source, what is known of each, and what a build would take."""
    console = _console()
    console.print(f"{found.source}: {found.format}", soft_wrap=True, highlight=False)
    table = _table("series", "name", "shape", "dtype", "voxel size", "channels", "role")
    for image in found.images:
        table.add_row(*_inspected_row(image))
    console.print(table)
    for image in found.images:
        for line in _inspected_lines(image):
            console.print(f"  {image.number}: {line}", soft_wrap=True, highlight=False)
    if found.reason is not None:
        console.print(f"build asks which one: {found.reason}", soft_wrap=True, highlight=False)
    elif len(found.images) > 1:
        console.print(f"build takes series {found.default} unless --series says otherwise")


def _inspected_row(image: InspectedImage) -> tuple[str, ...]:
    described = image.description
    placement = described.placement
    sizes = ", ".join(
        f"{axis} {size:g} {placement.units.get(axis, '')}".rstrip()
        for axis, size in placement.scale.items()
    )
    channels = ", ".join(
        f"{channel.name or '?'}{f' #{channel.color}' if channel.color else ''}"
        for channel in described.channels[:_SHOWN_CHANNELS]
    )
    if len(described.channels) > _SHOWN_CHANNELS:
        channels += ", …"
    return (
        str(image.number),
        described.name or "",
        shape_text(described.axes, described.shape),
        str(np.dtype(described.dtype)),
        sizes or "unknown",
        channels,
        "labels" if described.labels else described.role,
    )


def _inspected_lines(image: InspectedImage) -> Iterator[str]:
    described = image.description
    origins = ", ".join(f"{what} from {where}" for what, where in described.origins.items())
    if origins:
        yield origins
    if image.dims and image.dims != described.axes:
        yield f"axes are built as {', '.join(image.dims)}"
    for position, unit in described.placement.translation.items():
        if unit:
            yield f"position on {position}: {unit:g} {described.placement.units.get(position, '')}"
    for note in described.notes:
        yield str(note)
    if image.refusal is not None:
        yield f"refused: {image.refusal}"


_SHOWN_CHANNELS = 6


def show_notes(notes: Sequence[Note]) -> None:
    """Print what was assumed, converted, left out, overruled or could not be known."""
    console = _console()
    for note in notes:
        console.print(str(note), soft_wrap=True, highlight=False)


def show_report(report: BuildReport) -> None:
    """Print the levels of a build and the result of its verification."""
    console = _console()
    table = _table("level", "shape", "voxel size", "raw", "stored", "regions", "written now")
    for level in report.levels:
        table.add_row(
            str(level.index),
            shape_text(report.dims, level.shape),
            voxel_text(report.dims, level.scale, report.units),
            bytes_text(level.raw_bytes),
            bytes_text(level.stored_bytes),
            str(level.regions),
            str(level.fresh),
        )
    console.print(table)
    done = (
        f"{counted(report.fresh, 'regions')} written"
        if report.fresh
        else "nothing was left to write"
    )
    show_notes(report.about.notes)
    console.print(f"{report.target}", soft_wrap=True)
    console.print(f"{done} in {report.seconds:.1f} s; {_verdict(report.verification)}")


def show_plan(planned: PlannedBuild, price: Price) -> None:
    """Print the phases of a build, and what they cost."""
    console, plan, cost = _console(), planned.plan, planned.projection
    console.print(f"{planned.source}\n  to {planned.target}", soft_wrap=True)
    console.print(
        f"  {plan.method}, OME-Zarr {plan.ome_zarr_version}, {plan.compressor}, {plan.dtype}, "
        f"plan {plan.digest[:16]}"
    )
    show_notes(planned.about.notes)
    table = _table("phase", "shape", "chunks", "shards", "regions", "objects", "read", "written")
    for phase in cost.phases:
        layout = _layout(plan, phase.phase)
        table.add_row(
            phase.phase,
            *layout,
            str(phase.regions),
            str(phase.objects),
            bytes_text(phase.bytes_read),
            bytes_text(phase.bytes_written),
        )
    console.print(table)
    console.print(
        f"{cost.objects} objects, about {cost.requests} requests; {bytes_text(cost.bytes_read)} "
        f"read and {bytes_text(cost.bytes_written)} written, before compression"
    )
    console.print(
        f"{price.puts} PUT, {price.gets} GET, {price.lists} list requests; about "
        f"{bytes_text(price.bytes_stored)} stored, at a compression of {price.compression:g}"
    )
    console.print(
        f"{price.worker_hours:.1f} worker-hours at {price.throughput:g} MB/s read and written"
    )
    console.print(
        f"{cost.in_flight} regions in flight; memory at most {bytes_text(cost.peak_bytes)} "
        f"of {bytes_text(cost.memory_limit)} allowed"
    )


def show_status(status: BuildStatus) -> None:
    """Print how much of a build is done."""
    console = _console()
    console.print(f"{status.source}\n  to {status.target}", soft_wrap=True)
    table = _table("phase", "done", "of", "stored")
    for level in status.levels:
        table.add_row(
            level.phase, str(level.done), str(level.total), bytes_text(level.stored_bytes)
        )
    console.print(table)
    if status.finished:
        console.print("finished and published")
    elif status.builder is not None:
        console.print(f"being built by {status.builder}")
    else:
        console.print(
            "not finished, and no process is building it; "
            "run the same build command again to continue"
        )


def show_verification(target: str, found: Verification) -> None:
    """Print the findings of a verification."""
    console = _console()
    for finding in found.findings:
        console.print(f"{finding.key}: {finding.what}", soft_wrap=True, highlight=False)
    console.print(f"{target}: {_verdict(found)}", soft_wrap=True)


def show_repair(done: Repair) -> None:
    """Print what a repair repaired, and what it could not repair and why."""
    console = _console()
    lines = [f"{finding.key}: {finding.what}: repaired" for finding in done.repaired]
    lines += [f"{left.finding.key}: {left.finding.what}: {left.why}" for left in done.left]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    counts = f"{len(done.repaired)} repaired, {len(done.left)} not repaired"
    summary = counts if lines else "nothing to repair"
    console.print(f"{done.target}: {summary}; {_verdict(done.verification)}", soft_wrap=True)


def _verdict(found: Verification | None) -> str:
    if found is None:
        return "not verified"
    if found.ok:
        how = "read and decoded, all as recorded" if found.deep else "counted, all as recorded"
        what = f"{counted(found.regions, 'regions')} and {found.objects} objects"
        unlisted = "; the store cannot be listed, so extra objects are not checked"
        return f"verified: {what} {how}{'' if found.listed else unlisted}"
    return f"{counted(len(found.findings), 'findings')}: it differs from its plan and checksums"


def _layout(plan: PyramidPlan, phase: str) -> tuple[str, str, str]:
    dims = plan.image.dims
    if phase == "cache":
        return shape_text(dims, plan.levels[0].shape), "", ""
    level = plan.levels[int(phase.removeprefix("level-"))]
    shards = shape_text(dims, level.shards) if level.shards else ""
    return shape_text(dims, level.shape), shape_text(dims, level.chunks), shards


_LEFT = ("shape", "phase", "level", "series", "name", "channels", "role")
"""Columns of text; the others hold numbers."""


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in _LEFT else "right")
    return table


def _console() -> Console:
    # Without a terminal rich would wrap at 80 columns, and cut the table.
    return Console() if sys.stdout.isatty() else Console(width=200, force_terminal=False)
