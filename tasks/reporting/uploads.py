"""What a run of `watch-uploads` shows: the table `uploads`, and lines in the run's log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from ngff_core.uploads.decisions import Action
from ngff_core.uploads.look import ActionResult
from tasks.reporting.progress import counted

_ROWS = 500
_ORDER: tuple[Action, ...] = ("start", "park", "wait", "skip")


def show_uploads(actions: Sequence[ActionResult], errors: Sequence[str]) -> dict[str, int]:
    """Create the table, starts first, and log a summary; the number of uploads by action."""
    logger = get_run_logger()
    counts = Counter(action.decision.action for action in actions)
    rows = [_row(a) for a in sorted(actions, key=lambda a: _ORDER.index(a.decision.action))]
    for row in rows:
        if row["what"] in ("start", "park"):
            logger.info(f"{row['what']}: {row['upload']}: {row['why']}")
    for error in errors:
        logger.error(error)
    summary = ", ".join(f"{counts[action]} {action}" for action in _ORDER)
    cut = f"; the first {_ROWS} of {len(rows)}" if len(rows) > _ROWS else ""
    description = f"Uploads: {summary}{cut}"
    create_table_artifact(key="uploads", table=rows[:_ROWS], description=description)
    logger.info(f"{counted(len(rows), 'uploads')}: {summary}")
    return {str(action): counts[action] for action in _ORDER}


def _row(action: ActionResult) -> dict[str, Any]:
    decision = action.decision
    note = f" ({action.note})" if action.note else ""
    return {
        "upload": decision.upload.uri,
        "what": decision.action,
        "why": decision.reason + note,
        "attempt": decision.job.attempt if decision.job is not None else "",
        "run": action.run,
        "target": decision.upload.target,
        "version": decision.upload.version,
    }
