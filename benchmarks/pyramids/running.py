"""Running contestants: one process each, whose output is examined and removed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pyramids.contest import THREADS, Contestant
from benchmarks.pyramids.images import DATA, TINY
from benchmarks.pyramids.outcome import examine, stored_bytes

ROOT = Path(__file__).parents[2]
LIMIT = 3600
"""Seconds after which a contestant counts as failed."""


class FailedError(Exception):
    """A contestant failed; the message is the last line of its error output."""


def on_few_cores() -> None:
    """Pin this process and its children to as many cores as contestants have threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def run(contestant: Contestant, environment: dict[str, str], *, look: bool) -> dict[str, Any]:
    """One timed run; with ``look``, also what `examine` finds in its output."""
    with tempfile.TemporaryDirectory(dir=DATA, prefix="out-") as folder:
        target = Path(folder, "target.ome.zarr")
        found = _process(contestant, _job(contestant, target), environment)
        found["stored_bytes"] = stored_bytes(target)
        if look:
            try:
                found["wrote"] = examine(target, contestant.image)
            except AssertionError as error:
                raise FailedError(str(error)) from error
    return found


def _job(contestant: Contestant, target: Path) -> str:
    image = contestant.image
    given = {
        "source": str(image.path),
        "target": str(target),
        "tiny": str(TINY[image.name].path),
        "dims": image.dims,
        "factors": image.factors,
        "threads": THREADS,
    }
    return json.dumps(given | contestant.options)


def _process(contestant: Contestant, job: str, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.contestants.{contestant.module}", job]
    try:
        done = subprocess.run(
            command,
            cwd=contestant.checkout or ROOT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"not done after {LIMIT} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise FailedError(lines[-1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@contextlib.contextmanager
def prefect_server() -> Iterator[dict[str, str]]:
    """Start a Prefect server with its own database; yields the environment variables to use it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    with tempfile.TemporaryDirectory() as home:
        environment = {
            "PREFECT_HOME": home,
            "PREFECT_API_URL": address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
        server = subprocess.Popen(
            command,
            cwd=home,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for(f"{address}/health", server)
            yield environment
        finally:
            # The command starts the actual server as another process.
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(360):
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.5)
    raise FailedError("the Prefect server did not start")
