"""Prepare a server: create its work pool, queues, deployments and automations.

    python -m deployments.prepare [--prefect-file FILE] [--builds N]

Running it again updates only what differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from deployments import automations

ROOT = Path(__file__).resolve().parent.parent
PREFECT_FILE = ROOT / "deployments" / "prefect.yaml"

BUILDS_AT_ONCE = 2
"""Each build uses all cores; two keep them busy while one waits for storage."""


def prepare(prefect_file: Path = PREFECT_FILE, builds: int = BUILDS_AT_ONCE) -> list[str]:
    """Prepare the server at PREFECT_API_URL; one line for each thing that was set up."""
    from prefect.client.orchestration import get_client

    pool = pool_of(prefect_file)
    kind = pool.partition("-")[2] or "process"
    _prefect("work-pool", "create", pool, "--type", kind, "--overwrite")
    with get_client(sync_client=True) as client:
        _limit_builds(client, pool, builds)
        _prefect("--no-prompt", "deploy", "--prefect-file", str(prefect_file), "--all")
        applied = automations.apply(client)
    return [
        f"work pool {pool}, at most {builds} builds at once",
        *(f"automation {what}: {name}" for name, what in applied.items()),
    ]


def pool_of(prefect_file: Path) -> str:
    """The name of the work pool of a file's deployments."""
    document = yaml.safe_load(prefect_file.read_text("utf-8"))
    (name,) = {deployment["work_pool"]["name"] for deployment in document["deployments"]}
    return str(name)


def _limit_builds(client: Any, pool: str, builds: int) -> None:
    from prefect.exceptions import ObjectNotFound

    try:
        queue = client.read_work_queue_by_name("builds", work_pool_name=pool)
    except ObjectNotFound:
        client.create_work_queue("builds", concurrency_limit=builds, work_pool_name=pool)
    else:
        client.update_work_queue(queue.id, concurrency_limit=builds)


def _prefect(*arguments: str) -> None:
    """Run Prefect's own command; its output is shown only where it fails."""
    from prefect.settings import get_current_settings

    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=ROOT,
        # includes settings of this process that do not come from its environment
        env=os.environ | get_current_settings().to_environment_variables(exclude_unset=True),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"prefect {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Prepare the server, and print what was set up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--prefect-file", type=Path, default=PREFECT_FILE)
    parser.add_argument("--builds", type=int, default=BUILDS_AT_ONCE, help="builds at once")
    options = parser.parse_args()
    for line in prepare(options.prefect_file.resolve(), options.builds):
        print(line)


if __name__ == "__main__":
    main()
