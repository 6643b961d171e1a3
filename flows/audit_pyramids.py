"""The flow `audit-pyramids`: checks published pyramids against their checksums, as every night."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ngff_core import find_targets
from tasks import maintenance
from tasks.credentials import storage_options
from tasks.maintenance import Audit
from tasks.reporting.progress import counted


@flow(name="audit-pyramids", validate_parameters=True)
def audit_pyramids(
    prefixes: list[str],
    deep_every: int = 30,
    repair: bool = False,
    storage_block: str | list[str] | None = None,
) -> State[list[Audit]]:
    """Verify every pyramid below some prefixes; fail where one is damaged.

    Most days a pyramid is checked by listing its objects. One day in `deep_every` all its bytes
    are read; which day depends on its name, so each day a share of the pyramids is read. A
    damaged pyramid sends the event ngff.pyramid.damaged.

    Args:
        prefixes: Paths or URIs below which pyramids are published, such as gs://images/published.
        deep_every: Days within which every byte is read once; 1 reads all bytes in each run.
        repair: Compute damaged regions again, from the source or the larger level.
        storage_block: A saved block with the credentials, such as gcs-bucket/lab, or several
            blocks. By default the worker's environment.
    """
    today = datetime.now(UTC).date()
    audits = []
    options = storage_options(storage_block)
    for target in (target for prefix in prefixes for target in find_targets(prefix, options)):
        deep = maintenance.is_deep_day(target, deep_every, today)
        state = maintenance.audit(target, deep, repair, storage_block, return_state=True)
        audit = _result(target, state)
        if audit.damaged:
            maintenance.emit_damaged(audit)
        audits.append(audit)
    maintenance.show_audits(audits)
    return _state(audits, repair)


def _result(target: str, state: State[Any]) -> Audit:
    if state.is_completed():
        audit: Audit = state.result()
        return audit
    # One pyramid whose storage fails does not stop the audit of the others.
    return Audit(target, "could not be checked", (str(state.message),))


def _state(audits: list[Audit], repair: bool) -> State[list[Audit]]:
    damaged = [one for one in audits if not one.ok]
    if not damaged:
        finished = sum(one.finished for one in audits)
        repaired = sum(one.repaired for one in audits)
        parts = [f"{counted(finished, 'pyramids')} undamaged"]
        parts += [f"{len(audits) - finished} not finished"] if finished < len(audits) else []
        parts += [f"{repaired} regions or documents repaired"] if repaired else []
        return Completed(message=", ".join(parts), data=audits)
    remedy = "" if repair else "; run with repair, or: ngff-flows verify --repair TARGET"
    return Failed(
        message=f"{len(damaged)} of {counted(len(audits), 'pyramids')} damaged, the first is "
        f"{damaged[0].target} ({damaged[0].findings[0]}){remedy}",
        data=audits,
    )
