"""A site as an operator runs it: Prefect's server, a worker and a bucket, each a process.

The bucket's emulator is behind a proxy, which can make chosen requests slow or fail. What
happens is asked of the server's API and of the bucket, and of nothing inside the flows.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import requests
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from deployments import serve
from deployments.prepare import PREFECT_FILE, pool_of
from tests.servers.places import storage_environment
from tests.servers.proxy import Proxy, proxy

ROOT = Path(__file__).resolve().parent.parent.parent

PATIENCE_SECONDS = 300.0
"""After so long what was waited for counts as never to happen."""

ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


def until[T](what: str, look: Callable[[], T | None]) -> T:
    """What ``look`` gives, once that is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited in vain until {what}")


class Site:
    """The processes, and what an operator does with them."""

    def __init__(self, folder: Path, bucket_url: str, between: Proxy) -> None:
        self.folder = folder
        self.bucket_url = bucket_url
        self.proxy = between
        self.address = f"http://127.0.0.1:{_free_port()}"
        self.environment = (
            os.environ
            | serve._environment(folder, self.address)
            | storage_environment(between.url, "")
            # a second, where a site with more runs has ten
            | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        )
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self._workers = 0

    # ── processes ────────────────────────────────────────────────────────────────────

    def start_server(self) -> None:
        """Start the server on its port and database, and wait for it."""
        port = self.address.rpartition(":")[2]
        server = self._start("server", "server", "start", "--host", "127.0.0.1", "--port", port)
        self.server = server
        until("the server is healthy", lambda: server.poll() is not None or self._healthy())
        assert server.poll() is None, self.logs

    def prepare(self, **uploads: Any) -> None:
        """Deploy everything, with an operator's own copy of the deployments' file."""
        document = yaml.safe_load(PREFECT_FILE.read_text("utf-8"))
        for deployment in document["deployments"]:
            if deployment["entrypoint"].endswith(".watch_uploads"):
                deployment["parameters"] |= uploads
        own = self.folder / PREFECT_FILE.name
        own.write_text(yaml.safe_dump(document), "utf-8")
        self.command("-m", "deployments.prepare", "--prefect-file", str(own))

    def start_worker(self) -> None:
        """Start a worker, under a name that none had before: on another machine, as it were."""
        self._workers += 1
        name = f"worker-{self._workers}"
        self.worker = self._start(
            name, "worker", "start", "--pool", pool_of(PREFECT_FILE), "--name", name
        )

    def lose_worker(self) -> None:
        """End worker and runs as the loss of their machine does: at once, and unheard."""
        family = [self.worker.pid, *(p.pid for p in _family(self.worker))]
        for how in (signal.SIGSTOP, signal.SIGKILL):
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
        self.worker.wait()
        self.worker = None

    def stop_worker(self) -> None:
        """End the worker in order."""
        serve._end(self.worker)
        self.worker = None

    def lose_server(self) -> None:
        """End the server at once."""
        self.server.kill()
        self.server.wait()
        self.server = None

    def end(self) -> None:
        for process in (self.worker, self.server):
            if process is not None:
                serve._end(process)

    def command(self, *arguments: str) -> str:
        """Run a Python command as the operator, and give what it says."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.address}/api/health") as answer:
            return bool(answer.status == 200)
        return False

    @property
    def logs(self) -> str:
        """The ends of the logs of all processes."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"── {f.name}\n{f.read_text(errors='replace')[-5000:]}" for f in files)

    # ── the bucket ───────────────────────────────────────────────────────────────────

    def make_bucket(self, name: str) -> str:
        requests.post(f"{self.bucket_url}/storage/v1/b", json={"name": name}, timeout=30)
        return f"gs://{name}"

    # ── runs ─────────────────────────────────────────────────────────────────────────

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        with (
            temporary_settings({PREFECT_API_URL: f"{self.address}/api", PREFECT_HOME: self.folder}),
            get_client(sync_client=True) as client,
        ):
            yield client

    def run(self, deployment: str, **parameters: Any) -> UUID:
        """Ask for a run of a deployment, as the button does; its id."""
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def state(self, run: UUID) -> State[Any]:
        with self.client() as client:
            state = client.read_flow_run(run).state
        assert state is not None
        return state

    def runs(self, deployment: str) -> list[FlowRun]:
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[found.id])),
                limit=200,
            )

    @contextmanager
    def schedule(self, deployment: str, seconds: float) -> Iterator[None]:
        """Make a deployment's schedule active for a while, as its switch in the UI does."""
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            (its,) = found.schedules
            often = IntervalSchedule(interval=timedelta(seconds=seconds))
            client.update_deployment_schedule(found.id, its.id, active=True, schedule=often)
        yield
        with self.client() as client:
            client.update_deployment_schedule(found.id, its.id, active=False)
        # One that is late would look at the next test's uploads.
        self._end_runs(deployment)

    def _end_runs(self, deployment: str) -> None:
        """Remove the runs of a deployment that have not begun, and wait for the others."""
        for run in self.runs(deployment):
            state = self.state(run.id).type
            if state is StateType.SCHEDULED:
                with self.client() as client, suppress(ObjectNotFound):
                    client.delete_flow_run(run.id)
            elif state.value not in ENDED:
                self.end_of(run.id)

    def renew_slot(self, run: UUID) -> None:
        """Keep a run's place among those that its deployment may have at once.

        The run's own process does so every few minutes, and ends where the server refuses.
        """
        lease = self.state(run).state_details.deployment_concurrency_lease_id
        assert lease is not None
        with self.client() as client:
            client.renew_concurrency_lease(lease_id=lease, lease_duration=300)

    def until_run(self, run: UUID, what: str, look: Callable[[], Any]) -> None:
        """Wait for something that a run brings about; it must not end badly meanwhile."""

        def looked() -> bool:
            return bool(look()) or (self._healthy() and self._failed(run))

        try:
            until(f"{what}, by run {run}", looked)
            assert look(), f"the run ended before {what}"
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(run)}\n{self.logs}") from None

    def wait(self, run: UUID, *names: str) -> None:
        """Wait until a run has a state of one of these names."""
        self.until_run(run, f"it is {' or '.join(names)}", lambda: self.state(run).name in names)

    def finish(self, run: UUID, after: str = "") -> None:
        """Wait until a run ended well, perhaps only after it was in another state."""
        if after:
            self.until_run(run, f"it was {after}", lambda: after in self.history(run))
            self.until_run(run, f"it left {after}", lambda: self.state(run).name != after)
        self.wait(run, "Completed")

    def end_of(self, run: UUID) -> str:
        """Wait until a run ended in any way; the name of its state."""
        until(f"run {run} ended", lambda: self.state(run).type.value in ENDED)
        return str(self.state(run).name)

    def _failed(self, run: UUID) -> bool:
        return self.state(run).type.value == "FAILED"

    def press_cancel(self, run: UUID) -> None:
        """What the UI's button does."""
        self.report(run, "CANCELLING")

    def crash(self, run: UUID) -> None:
        """Report that a run began and crashed, as a worker would; there must be none."""
        self.report(run, "PENDING", "RUNNING", "CRASHED")

    def report(self, run: UUID, *states: str) -> None:
        """Give a run states of these types, one after the other; the server must accept each."""
        with self.client() as client:
            for state in states:
                answer = client.set_flow_run_state(run, State(type=StateType(state)))
                assert answer.status.value == "ACCEPT", answer

    def story(self, run: UUID) -> str:
        """A run's states, and the end of its log."""
        return "\n".join([f"{self.state(run)!r}", *self.history(run), *self.log(run)[-30:]])

    def log(self, run: UUID) -> list[str]:
        """A run's log, as its page shows it."""
        with self.client() as client:
            wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
            rows = client.read_logs(wanted, limit=200)
        return [row.message for row in sorted(rows, key=lambda row: row.timestamp)]

    def table(self, key: str, run: UUID | None = None) -> list[dict[str, Any]]:
        """The rows of the newest table whose key begins so, perhaps of one run."""
        wanted = ArtifactFilter(key=ArtifactFilterKey(like_=f"{key}%"))
        if run is not None:
            wanted.flow_run_id = ArtifactFilterFlowRunId(any_=[run])
        with self.client() as client:
            (found,) = client.read_artifacts(
                artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC, limit=1
            )
        rows: list[dict[str, Any]] = json.loads(str(found.data))
        return rows

    def history(self, run: UUID) -> list[str]:
        """The names of a run's states, in their order."""
        with self.client() as client:
            states = client.read_flow_run_states(run)
        return [str(s.name) for s in sorted(states, key=lambda s: s.timestamp)]

    def tasks(self, run: UUID) -> dict[str, TaskRun]:
        """The tasks of a run by name; the last one where it ran again."""
        with self.client() as client:
            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])), limit=200
            )
        ordered = sorted(found, key=lambda task: str(task.created))
        return {task.name: task for task in ordered}

    @staticmethod
    def processes(run: UUID) -> list[psutil.Process]:
        """The live processes on this machine that work for a run."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                of = process.environ().get("PREFECT__FLOW_RUN_ID", "")
                dead = process.status() == psutil.STATUS_ZOMBIE
                if of.replace("-", "") == run.hex and not dead:
                    found.append(process)
        return found


@contextmanager
def new_site(folder: Path) -> Iterator[Site]:
    """A site with a server; all of its processes end with the block."""
    with _emulator() as url, proxy(url) as between:
        site = Site(folder, url, between)
        try:
            site.start_server()
            yield site
        finally:
            site.end()


@contextmanager
def _emulator() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.gcs"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        # Its standard input is closed with the block, which ends it.


def _family(process: subprocess.Popen[bytes]) -> Sequence[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
