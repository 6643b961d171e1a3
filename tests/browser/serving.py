"""`make serve` as an operator has it: started, asked through its API, ended by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import tenacity

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240
END_SECONDS = 60

COMMAND = (sys.executable, "-m", "deployments.serve")


@dataclass
class Served:
    """A server with its worker, and a client of its API."""

    url: str
    home: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @tenacity.retry(
        # what Prefect's own clients try again too: its database was locked
        retry=tenacity.retry_if_exception(
            lambda error: (
                isinstance(error, httpx.HTTPStatusError)
                and error.response.status_code == httpx.codes.SERVICE_UNAVAILABLE
            )
        ),
        wait=tenacity.wait_fixed(1),
        stop=tenacity.stop_after_delay(60),
        reraise=True,
    )
    def ask(self, method: str, path: str, **given: Any) -> Any:
        """The server's answer to a request, as JSON."""
        answer = httpx.request(method, f"{self.url}/api{path}", timeout=30, **given)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/deployments/name/{name}")
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{run_id}")
        return found

    def states(self, run_id: str) -> list[dict[str, Any]]:
        found = self.ask("GET", "/flow_run_states/", params={"flow_run_id": run_id})
        return sorted(found, key=lambda state: str(state["timestamp"]))

    def logs(self, run_id: str) -> list[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        return [line["message"] for line in self.ask("POST", "/logs/filter", json=wanted)]

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        found: list[dict[str, Any]] = self.ask("POST", "/artifacts/filter", json=wanted)
        return found

    def family(self) -> list[psutil.Process]:
        """All processes that it consists of."""
        whole = psutil.Process(self.process.pid)
        return [whole, *whole.children(recursive=True)]

    def end(self) -> int:
        """Ctrl-C, which a terminal sends to make and to what it started; the exit status."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.stdout is not None
        self.said += self.process.stdout.read().splitlines()
        return self.process.wait(END_SECONDS)


@contextmanager
def serving(
    home: Path,
    *arguments: str,
    command: tuple[str, ...] = COMMAND,
    folder: Path = ROOT,
    **environment: str,
) -> Iterator[Served]:
    """A server that listens at a port of its own, ready; ended with the block."""
    with subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=os.environ
        | {"PREFECT_HOME": str(home), "PYTHONPATH": f"{folder}{os.pathsep}{_path()}"}
        | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        served = Served("", home, process)
        try:
            served.url = _address(served)
            yield served
        finally:
            served.end()


def _path() -> str:
    return os.environ.get("PYTHONPATH", "")


def _address(served: Served) -> str:
    """Where it is ready, as it says."""
    assert served.process.stdout is not None
    for line in served.process.stdout:
        served.said.append(line.rstrip())
        if found := re.match(r"Ready: (http://\S+)", line):
            return found[1]
    logs = [path.read_text() for path in served.home.glob("*.log")]
    raise AssertionError("\n".join(["it did not start", *served.said, *logs]))


def until[T](question: Any, seconds: float = 180) -> T:
    """The first answer of ``question`` that holds; it fails by AssertionError until then."""
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(seconds),
        wait=tenacity.wait_fixed(0.25),
        retry=tenacity.retry_if_exception_type((AssertionError, OSError, httpx.HTTPError)),
        reraise=True,
    ):
        with attempt:
            answer: T = question()
    return answer
