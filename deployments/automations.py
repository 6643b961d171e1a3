"""Automations of the server: dead runs are noticed, and crashed builds go on by themselves.

Applying them again changes nothing but what differs: an automation is known by its name.
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
"""A build that crashed so often once more is left for a person to look at."""

REST = timedelta(seconds=60)
"""A crash rests so long before the run goes on. A process worker reports one twice, some ten
seconds apart; where the run was under way again by then, the second report crashed it
again, and two processes came to run it."""

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
    """A run whose heartbeat stops becomes Crashed: its process cannot say so any more."""
    return AutomationCore(
        name="ngff: dead runs become crashed",
        description="A flow run that sent heartbeats, sends none any more and did not end.",
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
                message="No heartbeat any more: its process or machine died. What it did is kept.",
            )
        ],
    )


def crashed_builds() -> AutomationCore:
    """A crashed build runs again, as often as its count of runs allows.

    A run that crashed before it began counts none, and is not begun again: there is no
    bound to how often its infrastructure may fail.
    """
    return AutomationCore(
        name="ngff: crashed builds go on",
        description=f"At most {RESUMES} times; the ledger beside the target has what was done.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Crashed"},
            # whoever is quicker, a person or a worker, is left to it
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
                message="Crashed, and goes on from its ledger.",
            )
        ],
    )


def wanted() -> tuple[AutomationCore, ...]:
    """The automations as they should be, for heartbeats as often as this environment says."""
    often = get_current_settings().flows.heartbeat_frequency or 180
    # Two may be late or lost on the way.
    return dead_runs(timedelta(seconds=2.5 * often)), crashed_builds()


def apply(client: SyncPrefectClient) -> dict[str, str]:
    """Create or update each automation; what was done, by its name."""
    done = {}
    for automation in wanted():
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
        for first in found[:1]:
            client.update_automation(first.id, automation)
        for double in found[1:]:
            client.delete_automation(double.id)
        done[automation.name] = "updated" if found else "created"
    return done


def main() -> None:
    """Apply the automations to the server that PREFECT_API_URL names."""
    with get_client(sync_client=True) as client:
        for name, what in apply(client).items():
            print(f"{what}  {name}")


if __name__ == "__main__":
    main()
