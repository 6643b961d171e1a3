"""The flow `audit-pyramids`: published pyramids held against their ledgers, night after night."""

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

    Each is looked at by its listing, and on one day in so many read whole: a share of them
    each day, by their names. A pyramid that is damaged sends the event ngff.pyramid.damaged.

    Args:
        prefixes: Paths or URIs to look below, such as gs://images/published.
        deep_every: Days in which every byte is read once; 1 reads all of them in each run.
        repair: Build damaged regions anew, from the source or the level below.
        storage_block: A saved block with the credentials, such as gcs-bucket/lab, or several of
            them. By default those of the environment.
    """
    today = datetime.now(UTC).date()
    audits = []
    options = storage_options(storage_block)
    for target in (target for prefix in prefixes for target in find_targets(prefix, options)):
        deep = maintenance.is_deep_day(target, deep_every, today)
        state = maintenance.audit(target, deep, repair, storage_block, return_state=True)
        found = _result(target, state)
        if found.damaged:
            maintenance.tell_damage(found)
        audits.append(found)
    maintenance.show_audits(audits)
    return _state(audits, repair)


def _result(target: str, state: State[Any]) -> Audit:
    if state.is_completed():
        found: Audit = state.result()
        return found
    # Trouble with one pyramid's storage leaves the others their audit.
    return Audit(target, "could not be looked at", (str(state.message),))


def _state(audits: list[Audit], repair: bool) -> State[list[Audit]]:
    bad = [one for one in audits if not one.ok]
    if not bad:
        finished = sum(one.finished for one in audits)
        repaired = sum(one.repaired for one in audits)
        told = [f"{counted(finished, 'pyramids')} right"]
        told += [f"{len(audits) - finished} not finished"] if finished < len(audits) else []
        told += [f"{repaired} regions or documents mended"] if repaired else []
        return Completed(message=", ".join(told), data=audits)
    remedy = "" if repair else "; run with repair, or: ngff-flows verify --repair TARGET"
    return Failed(
        message=f"{len(bad)} of {counted(len(audits), 'pyramids')} damaged, the first is "
        f"{bad[0].target} ({bad[0].findings[0]}){remedy}",
        data=audits,
    )
