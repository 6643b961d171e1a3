"""`make serve` on a machine where nothing was before."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.browser.serving import COMMAND, ROOT, Served, serving, until

pytestmark = pytest.mark.e2e

CLONE = ("Makefile", "pyproject.toml", "deployments", "flows", "tasks", "ngff_core", "scripts")
# The interpreter of the tests has all that it needs: nothing is installed.
MAKE = ("make", "--old-file=.venv/.installed-demo", f"VENV={sys.executable}", "serve")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has of it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in CLONE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def check_ready(served: Served) -> None:
    pool = served.ask("GET", "/work_pools/pyramids")
    assert pool["type"] == "process"
    workers = served.ask("POST", "/work_pools/pyramids/workers/filter", json={})
    assert [worker["name"] for worker in workers] == ["serve"]
    deployments = served.ask("POST", "/deployments/filter", json={})
    assert len(deployments) == 6
    automations = served.ask("POST", "/automations/filter", json={})
    assert sum(one["name"].startswith("ngff: ") for one in automations) == 2


def check_scheduled(served: Served) -> None:
    """The nightly audit has runs to come: the server's scheduler is at work."""
    nightly = served.deployment("audit-pyramids/nightly")["id"]
    wanted = {"deployments": {"id": {"any_": [nightly]}}}
    runs = served.ask("POST", "/flow_runs/filter", json=wanted)
    assert {run["state_name"] for run in runs} == {"Scheduled"}


def ended(served: Served) -> list[psutil.Process]:
    """The processes that outlive Ctrl-C, out of a whole family."""
    family = served.family()
    assert len(family) >= 3
    served.end()
    assert "Ending" in served.said
    return psutil.wait_procs(family, timeout=10)[1]


def test_serve_begins_ends_and_goes_on(clone: Path) -> None:
    """`make serve` gives server, worker, receiver, deployments and automations; Ctrl-C leaves no
    process; the second time it continues with the first one's state, at any port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    secret = {"NGFF_RECEIVER_SECRET": "s" * 32, "NGFF_RECEIVER_PORT": port}
    own = {"command": MAKE, "folder": clone}
    with serving(clone / "not here", "PORT=0", **own, **secret) as served:
        until(lambda: check_ready(served))
        until(lambda: check_scheduled(served))
        served.ask("POST", "/variables/", json={"name": "kept", "value": "yes"})
        until(lambda: socket.create_connection(("127.0.0.1", int(port))).close())
        assert ended(served) == []
    assert (clone / ".prefect" / "prefect.db").exists()
    assert not (clone / "not here").exists()
    with serving(clone / "not here", "PORT=0", **own) as served:
        until(lambda: check_ready(served))
        assert served.ask("GET", "/variables/name/kept")["value"] == "yes"
        # Without settings of its own the receiver has a secret made for it, kept for next time.
        secret_file = clone / ".prefect" / "receiver-secret"
        assert secret_file.stat().st_mode & 0o777 == 0o600
        assert any("Notifications" in line and str(secret_file) in line for line in served.said)
        assert ended(served) == []


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """Where another program has the port, the message says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port],
            cwd=ROOT,
            env={"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"port {port} is taken: end the program that listens there")
