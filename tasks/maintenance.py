"""Maintenance of pyramids as Prefect tasks: audits, repairs, and clean-up after dead builds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from ngff_core import Leftover, build_status, clean_build, repair_pyramid, verify_pyramid
from ngff_core.build.report import bytes_text
from ngff_core.errors import NgffError
from ngff_core.pyramid.inventory import Finding
from ngff_core.storage import is_transient
from tasks.credentials import Blocks, storage_options
from tasks.pyramid import RETRIES
from tasks.reporting.progress import RunLog, counted

DAMAGED = "ngff.pyramid.damaged"


@dataclass(frozen=True)
class Audit:
    """The result of auditing one pyramid: its damage, and what was repaired."""

    target: str
    verdict: str
    findings: tuple[str, ...] = ()
    """The damage that is still there."""
    repaired: int = 0
    """Number of regions and documents that were repaired."""
    finished: bool = True

    @property
    def damaged(self) -> bool:
        """Whether the pyramid is damaged, or was until the repair."""
        return bool(self.findings) or self.repaired > 0

    @property
    def ok(self) -> bool:
        """Whether the pyramid is undamaged now."""
        return not self.findings


def is_deep_day(target: str, every: int, day: date) -> bool:
    """Whether all bytes of a pyramid are read on ``day``: one day in any ``every`` days.

    >>> days = [date(2030, 1, n) for n in range(1, 8)]
    >>> sum(is_deep_day("gs://images/brain.ome.zarr", 7, day) for day in days)
    1
    """
    turn = int.from_bytes(hashlib.sha256(target.encode()).digest()[:8])
    return (turn + day.toordinal()) % every == 0


@task(name="audit", task_run_name="audit-{target}", cache_policy=NO_CACHE, **RETRIES)
def audit(target: str, deep: bool, repair: bool, storage_block: Blocks = None) -> Audit:
    """Check one pyramid against its plan and checksums; repair it where ``repair`` is true."""
    log = RunLog(get_run_logger())
    # Read from the block here: Prefect shows the parameters of a task.
    options = storage_options(storage_block)
    try:
        status = build_status(target, storage_options=options)
        if not all(level.done == level.total for level in status.levels):
            return Audit(target, _unfinished(status.builder is not None), finished=False)
        checked = verify_pyramid(target, deep=deep, progress=log, storage_options=options)
        if checked.ok or not repair:
            return Audit(target, _verdict(checked.deep, checked.findings), _texts(checked.findings))
        # The repair reads every byte first: a check by listing may not find all damage.
        done = repair_pyramid(target, progress=log, storage_options=options)
    except NgffError as error:
        if is_transient(error):
            raise
        return Audit(target, "cannot be verified", (str(error),))
    left = tuple(f"{one.finding.key}: {one.finding.what}: {one.why}" for one in done.left)
    verdict = f"{len(done.repaired)} repaired, {len(left)} not repaired"
    return Audit(target, verdict, left, len(done.repaired))


def emit_damaged(audit: Audit) -> None:
    """Emit ``ngff.pyramid.damaged``, on which automations can send mail or open a ticket."""
    emit_event(
        DAMAGED,
        resource={
            "prefect.resource.id": audit.target,
            "prefect.resource.name": audit.target.rpartition("/")[2],
            "ngff.target": audit.target,
        },
        payload={
            "verdict": audit.verdict,
            "repaired": audit.repaired,
            "findings": list(audit.findings[:20]),
        },
    )


def show_audits(audits: Sequence[Audit]) -> None:
    """Create the table of audits, damaged pyramids first."""
    create_table_artifact(
        key="audit",
        table=[
            {
                "pyramid": one.target,
                "verdict": one.verdict,
                "first finding": one.findings[0] if one.findings else "",
            }
            for one in sorted(audits, key=lambda one: (one.ok, not one.damaged, one.target))
        ],
        description=f"{counted(len(audits), 'pyramids')} audited",
    )


@task(name="clean", task_run_name="clean-{target}", cache_policy=NO_CACHE, **RETRIES)
def clean(
    target: str, older_than_days: float, dry_run: bool, storage_block: Blocks = None
) -> Leftover:
    """Remove the leftovers of a dead build at one target; with ``dry_run`` only report them."""
    leftover = clean_build(
        target,
        older_than_days=older_than_days,
        dry_run=dry_run,
        storage_options=storage_options(storage_block),
    )
    if leftover.kind:
        get_run_logger().info(f"{target}: {_fate(leftover)}")
    return leftover


def show_leftovers(leftovers: Sequence[Leftover], dry_run: bool) -> None:
    """Create the table of leftovers: removed, to be removed, or kept with the reason."""
    removable = [one for one in leftovers if one.kind and not one.kept]
    nbytes = bytes_text(sum(one.nbytes for one in removable))
    action = "would be removed (a dry run)" if dry_run else "removed"
    create_table_artifact(
        key="leftovers",
        table=[
            {
                "target": one.target,
                "what": one.kind,
                "fate": _fate(one),
                "size": bytes_text(one.nbytes),
                "objects": one.objects,
                "days": "" if one.days is None else round(one.days, 1),
            }
            for one in sorted(leftovers, key=lambda one: -one.nbytes)
            if one.kind or one.kept
        ],
        description=f"{counted(len(removable), 'leftovers')}, {nbytes} {action}",
    )


def _fate(leftover: Leftover) -> str:
    if leftover.kept:
        return f"kept: {leftover.kept}"
    return f"{leftover.kind} removed" if leftover.removed else f"{leftover.kind} would be removed"


def _unfinished(held: bool) -> str:
    return "being built" if held else "not finished: build it again, or clean it up"


def _verdict(deep: bool, findings: Sequence[Finding]) -> str:
    if findings:
        return counted(len(findings), "findings")
    return "undamaged, every byte read" if deep else "undamaged, objects counted"


def _texts(findings: Sequence[Any]) -> tuple[str, ...]:
    return tuple(f"{finding.key}: {finding.what}" for finding in findings)
