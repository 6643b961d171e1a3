"""Automations of the server: dead runs become Crashed, and crashed builds are resumed.

Automations are identified by their names; applying them again updates what differs.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, EventTrigger
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Posture
from prefect.settings import get_current_settings

RESUMES = 3
"""A build is resumed this often; after that a person has to look at it."""

REST = timedelta(seconds=60)
"""Time from a crash until the run is resumed. A process worker reports a crash twice, some ten
seconds apart; when the run had been resumed in between, the second report crashed it again, and
two processes ran it."""

_FORMER_NAMES = ("ngff: crashed builds go on",)

_RUN = "prefect.flow-run.*"
_MOVED = (
    "Scheduled",
    "AwaitingRetry",
    "Pending",
    "Submitting",
    "Running",
    "Cancelled",
    "Completed",
)
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "AwaitingRetry")


def dead_runs(silence: timedelta) -> AutomationCore:
    """Marks a run as Crashed when its heartbeats stop: its process is dead and cannot report it."""
    return AutomationCore(
        name="ngff: dead runs become crashed",
        description="A flow run stopped sending heartbeats, and did not end.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={
                "prefect.flow-run.heartbeat",
                *(f"prefect.flow-run.{name}" for name in _ENDED),
            },
            match={"prefect.resource.id": _RUN},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name=None,
                force=False,
                message="No more heartbeats: the process or machine died. Finished work is kept.",
            )
        ],
    )


def crashed_builds() -> AutomationCore:
    """Resumes a crashed build, up to `RESUMES` times by its count of runs.

    A run that crashed before it began has the count 0, and is not resumed: nothing would limit
    how often its infrastructure may fail.
    """
    return AutomationCore(
        name="ngff: crashed builds are resumed",
        description=f"At most {RESUMES} times; a build continues from the ledger at its target.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Crashed"},
            # not where a person or a worker has already rescheduled or ended the run
            expect={f"prefect.flow-run.{name}" for name in _MOVED},
            match={
                "prefect.resource.id": _RUN,
                "prefect.run-count": [str(count) for count in range(1, RESUMES + 1)],
            },
            match_related={
                "prefect.resource.role": "flow",
                "prefect.resource.name": "build-pyramid",
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=REST,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED,
                name="AwaitingRetry",
                force=False,
                message="Resumed after a crash; continues where it stopped.",
            )
        ],
    )


def wanted() -> tuple[AutomationCore, ...]:
    """The automations, for the frequency of heartbeats that this environment sets."""
    often = get_current_settings().flows.heartbeat_frequency or 180
    # Two heartbeats may be late or lost.
    return dead_runs(timedelta(seconds=2.5 * often)), crashed_builds()


def apply(client: SyncPrefectClient) -> dict[str, str]:
    """Create or update each automation; "created" or "updated", by name."""
    changes = {}
    for automation in wanted():
        existing = client.read_automations_by_name(automation.name)
        if not existing:
            client.create_automation(automation)
        for first in existing[:1]:
            client.update_automation(first.id, automation)
        for duplicate in existing[1:]:
            client.delete_automation(duplicate.id)
        changes[automation.name] = "updated" if existing else "created"
    _delete_renamed(client)
    return changes


def _delete_renamed(client: SyncPrefectClient) -> None:
    """Remove automations of earlier versions that have another name now."""
    for name in _FORMER_NAMES:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)


def main() -> None:
    """Apply the automations to the server at PREFECT_API_URL."""
    with get_client(sync_client=True) as client:
        for name, what in apply(client).items():
            print(f"{what}  {name}")


if __name__ == "__main__":
    main()
