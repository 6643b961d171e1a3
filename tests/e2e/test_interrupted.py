"""Builds that lose their machine, their server or their storage, or are cancelled on the way."""

from __future__ import annotations

import io
import json
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ngff_core
from ngff_core.storage import open_store
from tests.e2e.conftest import IN, OUT
from tests.e2e.site import until
from tests.servers.proxy import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

BUILD = "build-pyramid/on-demand"
LIMITED = "build-pyramid/on-upload"
"""A deployment with a limit of runs at once."""
PIXELS = np.random.default_rng(0).integers(0, 999, (64, 256, 256)).astype("u2")
OPTIONS = {
    "method": "itkwasm_bin_shrink",
    "chunks": 32,
    "shards": 64,
    "scale_factors": [2],
    "workers": 1,
}
REGIONS = 20
"""Of both levels together, with these options."""


REST_SECONDS = 20
SHORTEST_REST_SECONDS = 10
"""Prefect takes no shorter one; too short where a worker reports a crash twice."""


@pytest.fixture(scope="module")
def source(running_site: Site) -> str:
    """An image in the bucket, and automations that let a crash rest for less than a minute."""
    file = io.BytesIO()
    np.save(file, PIXELS)
    open_store(IN).write("image.npy", file.getvalue())
    let_crashes_rest(running_site, REST_SECONDS)
    return f"{IN}/image.npy"


def let_crashes_rest(site: Site, seconds: float) -> None:
    """Apply the automations as they are deployed, but for how long a crash rests."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from deployments import automations

    with (
        pytest.MonkeyPatch.context() as patch,
        site.client() as client,
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}),
    ):
        patch.setattr(automations, "REST", timedelta(seconds=seconds))
        automations.apply(client)


class Builds:
    """Builds of one image, each at a target of its own."""

    def __init__(self, site: Site, source: str) -> None:
        self.site = site
        self.source = source

    def start(self, name: str, deployment: str = BUILD) -> UUID:
        parameters = {"source": self.source, "target": target(name), "options": OPTIONS}
        return self.site.run(deployment, **parameters)

    def start_held(self, name: str, seconds: float = 3600, deployment: str = BUILD) -> UUID:
        """Start one, and wait until it has recorded some regions and is held at others.

        It goes on after so many seconds at each, or with the proxy's next script. What comes
        after the first regions is slow too, since the ledger is written when a region is done
        and two seconds went by.
        """
        shard = rf"{name}\.ome\.zarr/0/.*c/"
        self.site.proxy.script(
            Fault("delay", "POST", shard, nth=range(6, 10), seconds=2.5),
            Fault("delay", "POST", shard, nth=range(10, 1000), seconds=seconds),
        )
        run = self.start(name, deployment)
        self.site.until_run(run, "some regions are recorded", lambda: recorded(name) >= 4)
        return run

    def written_by(self, run: UUID) -> int:
        """Regions that the last process of a run wrote, as its table of levels says."""
        return sum(int(row["written now"]) for row in self.site.table("levels", run))


@pytest.fixture
def builds(site: Site, source: str) -> Builds:
    return Builds(site, source)


def target(name: str) -> str:
    return f"{OUT}/{name}.ome.zarr"


def status(name: str) -> ngff_core.BuildStatus | None:
    try:
        return ngff_core.build_status(target(name))
    except ngff_core.errors.TargetNotFoundError:
        return None


def recorded(name: str) -> int:
    """How many regions the ledger in the bucket has."""
    found = status(name)
    return sum(level.done for level in found.levels) if found is not None else 0


def lease(name: str) -> dict[str, Any]:
    """The last lease on a target, as any machine reads it."""
    store = open_store(f"{target(name)}.build")
    document = store.read(max(store.objects("lease")))
    assert document is not None
    found: dict[str, Any] = json.loads(document)
    return found


def assert_whole(name: str) -> None:
    """Published, right to the byte, and nothing else."""
    assert ngff_core.verify_pyramid(target(name), deep=True).ok
    levels = ngff_core.from_ngff_zarr(target(name)).images
    np.testing.assert_array_equal(np.asarray(levels[0].data), PIXELS)
    assert len(levels) == 2


def test_lost_machine_is_noticed_and_its_build_goes_on(site: Site, builds: Builds) -> None:
    """Worker and run die unheard: silence makes the run Crashed, and another worker resumes."""
    run = builds.start_held("lost")
    site.lose_worker()
    before = recorded("lost")
    assert 0 < before < REGIONS
    site.proxy.script()
    site.start_worker()
    site.finish(run, after="Crashed")
    assert builds.written_by(run) == REGIONS - before
    assert_whole("lost")
    assert site.history(run).count("AwaitingRetry") == 1


@pytest.fixture
def hasty_site(site: Site, source: str) -> Iterator[Site]:
    """A site where crashed builds go on as soon as Prefect can have it, and nobody runs them."""
    site.stop_worker()
    let_crashes_rest(site, SHORTEST_REST_SECONDS)
    yield site
    let_crashes_rest(site, REST_SECONDS)


def test_crash_loop_ends(hasty_site: Site, builds: Builds) -> None:
    """A build that crashes each time goes on three times, and then waits for a person."""
    looping, control = builds.start("looping"), builds.start("control")
    for _ in range(3):
        hasty_site.crash(looping)
        hasty_site.wait(looping, "AwaitingRetry")
    hasty_site.crash(looping)
    # Twice, so that the automation had its turn for all that crashed before.
    for _ in range(2):
        hasty_site.crash(control)
        hasty_site.wait(control, "AwaitingRetry")
    assert hasty_site.state(looping).name == "Crashed"
    assert hasty_site.history(looping).count("AwaitingRetry") == 3
    hasty_site.report(control, "CANCELLED")


def test_cancelled_build_stops_and_is_retried(site: Site, builds: Builds) -> None:
    """No process is left, nothing is published; the same run then does what remains."""
    # The process waits for its requests, and after 30 s Prefect does not wait for the process.
    run = builds.start_held("cancelled", seconds=12)
    assert site.processes(run)
    began = time.monotonic()
    site.press_cancel(run)
    site.until_run(run, "its processes are gone", lambda: not site.processes(run))
    gone = time.monotonic() - began
    site.wait(run, "Cancelled")
    seconds = time.monotonic() - began
    sys.stdout.write(f"cancelled: no process after {gone:.1f} s, told after {seconds:.1f} s\n")
    before = recorded("cancelled")
    found = status("cancelled")
    assert found is not None
    assert not found.published
    assert found.builder is None
    assert lease("cancelled")["released"], "a builder on another machine would wait it out"
    assert 0 < before < REGIONS

    site.proxy.script()
    site.command("-m", "prefect", "flow-run", "retry", str(run))
    site.finish(run)
    assert builds.written_by(run) == REGIONS - before
    assert_whole("cancelled")


def test_two_runs_on_one_target(site: Site, builds: Builds) -> None:
    """One builds; the other says in its log that it waits, and then has nothing to do. A third
    run waits for its turn in the queue, and shows as late."""
    first = builds.start_held("shared")
    second, third = builds.start("shared"), builds.start("other")
    site.until_run(
        second,
        "it says that it waits",
        lambda: any(line.startswith("waiting: process ") for line in site.log(second)),
    )
    site.wait(third, "Late")
    assert site.state(first).is_running()
    assert site.state(second).is_running()
    site.proxy.script()
    for run in (first, second, third):
        site.finish(run)
    assert [builds.written_by(run) for run in (first, second, third)] == [REGIONS, 0, REGIONS]
    assert_whole("shared")
    assert_whole("other")


def test_server_restarts_in_mid_build(site: Site, builds: Builds) -> None:
    """The server knows again what it knew, so that the build may keep its slot; without the
    server the build goes on, and the same run ends well."""
    run = builds.start_held("restarted", deployment=LIMITED)
    site.lose_server()
    site.start_server()
    site.renew_slot(run)
    site.lose_server()
    before = recorded("restarted")
    site.proxy.script()
    until("it goes on without a server", lambda: recorded("restarted") > before)
    site.start_server()
    site.finish(run)
    assert_whole("restarted")
    assert site.history(run).count("Completed") == 1


def test_server_restarts_before_a_build_begins(site: Site, builds: Builds) -> None:
    """What was asked for is asked for still, once."""
    site.stop_worker()
    run = builds.start("asked")
    site.lose_server()
    site.start_server()
    site.start_worker()
    site.finish(run)
    assert builds.written_by(run) == REGIONS
    assert_whole("asked")


def test_task_is_retried_by_prefect(site: Site, builds: Builds) -> None:
    """Storage in trouble for longer than the core is patient: the level's task tries again, and
    writes what the ledger has not."""
    # 507, since gcsfs itself tries half a minute where a status below 505 is answered
    shard = r"retried\.ome\.zarr/0/.*c/"
    refused = Fault("status", "POST", shard, nth=range(6, 1000), status=507)
    site.proxy.script(refused)
    run = builds.start("retried")
    site.until_run(
        run,
        "its task waits",
        lambda: (task := site.tasks(run).get("level-0")) and task.state_name == "AwaitingRetry",
    )
    before = recorded("retried")
    assert before > 0
    site.proxy.script()
    site.finish(run)
    assert builds.written_by(run) == REGIONS
    assert site.tasks(run)["level-0"].run_count == 2
    assert_whole("retried")
