"""Deployments: the files agree with each other, and a real server takes them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names

from deployments import automations, serve
from deployments.prepare import PREFECT_FILE, pool_of, prepare

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "deployments").glob("prefect*.yaml"))
NAMES = {
    "build-pyramid/on-demand",
    "build-pyramid/on-upload",
    "watch-uploads/every-minute",
    "watch-uploads/on-notification",
    "audit-pyramids/nightly",
    "clean-builds/weekly",
}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def named(document: Any) -> dict[str, Any]:
    """A file's deployments by the names that people use, without their pools."""
    found = {}
    for deployment in document["deployments"]:
        flow = deployment["entrypoint"].rpartition(".")[2].replace("_", "-")
        rest = {key: value for key, value in deployment.items() if key != "work_pool"}
        queue = deployment["work_pool"]["work_queue_name"]
        found[f"{flow}/{deployment['name']}"] = {**rest, "queue": queue}
    return found


def test_files_differ_in_nothing_but_the_pool() -> None:
    """A move from processes to containers keeps the same deployments."""
    assert len(FILES) == 3
    first, *others = [named(load(path)) for path in FILES]
    assert set(first) == NAMES
    assert all(other == first for other in others)
    assert {pool_of(path) for path in FILES} == {
        "pyramids",
        "pyramids-docker",
        "pyramids-kubernetes",
    }


def test_watching_waits_for_prefixes() -> None:
    """A look at no prefix each minute would only fill the list of runs."""
    watch = named(load(PREFECT_FILE))["watch-uploads/every-minute"]
    assert watch["schedules"] == [{"interval": 60, "active": False}]
    assert watch["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert watch["parameters"]["prefixes"] == []


# --- a real server -----------------------------------------------------------------------

with_all_flows = pytest.mark.skipif(
    importlib.util.find_spec("flows.watch_uploads") is None,
    reason="flows/watch_uploads.py comes with another change",
)


@with_all_flows
def test_a_server_is_made_ready_twice(prefect_server: None) -> None:
    """All deployments, the queue with its limit, the automations: once each, also after the
    second time."""
    for builds in (2, 3):
        said = prepare(PREFECT_FILE, builds)
        assert f"at most {builds} builds at once" in said[0]
    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        found = client.read_deployments()
        ours = {f"{flows[d.flow_id]}/{d.name}": d for d in found if "ngff" in d.tags}
        queue = client.read_work_queue_by_name("builds", work_pool_name="pyramids")
        applied = [a for a in client.read_automations() if a.name.startswith("ngff: ")]
    assert set(ours) == NAMES
    assert queue.concurrency_limit == 3
    assert len(applied) == 2
    assert not any(schedule.active for schedule in ours["watch-uploads/every-minute"].schedules)
    assert ours["audit-pyramids/nightly"].schedules[0].active
    assert ours["clean-builds/weekly"].parameters["dry_run"] is True
    assert ours["build-pyramid/on-upload"].global_concurrency_limit.limit == 2


@with_all_flows
def test_schedules_make_runs(prefect_server: None) -> None:
    """As the server's own service asks for; with some databases' libraries it cannot."""
    prepare(PREFECT_FILE)
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("audit-pyramids/nightly")
        client.request(
            "POST", "/deployments/{id}/schedule", path_params={"id": nightly.id}, json={}
        )
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[nightly.id]))
        runs = client.read_flow_runs(deployment_filter=wanted)
    assert runs
    assert all(run.auto_scheduled for run in runs)


def test_automations_are_known_by_name(prefect_server: None) -> None:
    """Applied again they are updated; duplicates, and those with former names, are removed."""
    with get_client(sync_client=True) as client:
        automations.apply(client)
        for automation in automations.wanted():
            client.create_automation(automation)
        (former,) = automations._FORMER_NAMES
        client.create_automation(automation.model_copy(update={"name": former}))
        assert set(automations.apply(client).values()) == {"updated"}
        names = [a.name for a in client.read_automations() if a.name.startswith("ngff: ")]
    assert sorted(names) == sorted(automation.name for automation in automations.wanted())


def test_resuming_is_bounded_by_the_count_of_runs() -> None:
    """A build that crashes each time is not begun for ever, nor one that never began."""
    match = automations.crashed_builds().trigger.match.root
    assert match["prefect.run-count"] == ["1", "2", "3"]


# --- containers --------------------------------------------------------------------------


def test_compose_names_what_there_is() -> None:
    """Files, volumes and services that the services refer to exist."""
    compose = load(ROOT / "deployments/compose.yaml")
    services = compose["services"]
    assert set(services) == {"database", "server", "prepare", "worker", "receive-notifications"}
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            name = volume.partition(":")[0]
            assert name in compose["volumes"] or name.startswith(("$", "."))
    build = services["server"]["build"]
    context = ROOT / "deployments" / build["context"]
    assert (context / build["dockerfile"]).is_file()
    assert all(
        port.startswith("127.0.0.1:") for s in services.values() for port in s.get("ports", [])
    )


def test_the_receivers_container_starts_the_receiver() -> None:
    """With every setting that the receiver reads; without a secret it says what to set."""
    service = load(ROOT / "deployments/compose.yaml")["services"]["receive-notifications"]
    program, *arguments = service["command"]
    assert program == "python"
    code = (ROOT / "ngff_flows/receiver.py").read_text("utf-8")
    read = {f"NGFF_RECEIVER_{name}" for name in re.findall(r'(?:text|listed)\("(\w+)"', code)}
    assert set(service["environment"]) == read
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={n: v for n, v in os.environ.items() if not n.startswith("NGFF_RECEIVER_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "NGFF_RECEIVER_SECRET" in done.stderr


def test_compose_needs_a_password_and_holds_none() -> None:
    """It comes from a file that is not committed."""
    text = (ROOT / "deployments/compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", text)) == {"POSTGRES_PASSWORD", "NGFF_DATA"}
    assert "deployments/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_settings_are_prefects() -> None:
    """A misspelt setting would be ignored in silence."""
    lines = (ROOT / "deployments/server.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    dockerfile = (ROOT / "deployments/Dockerfile").read_text()
    compose = (ROOT / "deployments/compose.yaml").read_text()
    asked = {
        *given,
        *serve._environment(Path(), "x"),
        *re.findall(r"PREFECT_[A-Z_]+", dockerfile + compose),
    }
    assert asked - {"DO_NOT_TRACK"} <= _get_valid_setting_names(Settings)


def test_image_copies_what_there_is() -> None:
    """Each path that the Dockerfile copies is in the clone, and let through .dockerignore."""
    dockerfile = (ROOT / "deployments/Dockerfile").read_text()
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [
        source
        for line in dockerfile.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {*packages, "deployments"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source.partition('/')[0]}" in let_through, source


# --- serve -------------------------------------------------------------------------------


def test_two_never_serve_from_one_home(tmp_path: Path) -> None:
    """The second says where the first is."""
    with serve._alone(tmp_path, "http://127.0.0.1:4200"):
        code = "from pathlib import Path; from deployments import serve\n"
        code += f"with serve._alone(Path({str(tmp_path)!r}), 'x'): pass"
        second = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert second.returncode == 1
    assert second.stderr.strip().endswith(f"already serving from {tmp_path}: http://127.0.0.1:4200")
    with serve._alone(tmp_path, "again"):
        assert (tmp_path / "serve.lock").read_text() == "again"


def test_ending_takes_grandchildren_along() -> None:
    """A worker's runs do not outlive it."""
    child = "import subprocess, sys, time; "
    child += "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    child += "print(p.pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        assert psutil.pid_exists(grandchild)
        serve._end(process)
    assert process.returncode is not None
    assert not psutil.pid_exists(grandchild)
