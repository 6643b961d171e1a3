"""What all tests share: hypothesis profiles, one Prefect server, an empty memory store."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fsspec.implementations.memory import MemoryFileSystem

    from tests.servers.gcs import GcsServer
    from tests.servers.places import Places
    from tests.servers.s3 import S3Server

# Asserts outside of test files explain themselves only when asked to.
pytest.register_assert_rewrite("tests.support.oracles", "tests.support.command")

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: seconds on a shared machine say nothing about an example.
# print_blob: a failure in a log, here or in CI, can be run again with its own example.
settings.register_profile("local", deadline=None, print_blob=True)
# In CI a change is judged by the same examples each time; new ones are found at home.
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


# What shares a costly fixture, by a part of its tests' names: each group has one process.
GROUPS = {
    "tests/flows/test_build_pyramid.py": "prefect",
    "tests/flows/test_watch_uploads.py": "prefect",
    "tests/app/test_receiver.py": "prefect",
    "tests/tasks/test_events.py": "prefect",
    "tests/deployments/test_deployments.py": "prefect",
    "tests/flows/test_maintenance.py": "prefect",
    "tests/flows/test_secrets.py": "prefect",
    "tests/tasks/test_pyramid.py": "prefect",
    "::test_json_of_a_build_through_prefect": "prefect",
    "::test_clusters_build_through_prefect": "prefect",
    "::test_refusal_by_prefect_is_a_line_too": "prefect",
    # Its last test needs what the others have found.
    "tests/core/sources/test_formats_page.py": "formats page",
    # Each has a server and a worker of its own, as processes.
    "::test_crash_loop_ends": "crashes",
    "::test_task_is_retried_by_prefect": "crashes",
    "tests/e2e/test_uploads.py": "uploads",
    "tests/e2e/test_interrupted.py": "interrupted",
    "tests/browser/": "browser",
    # Halves of about equal length, each with its own process that forks.
    "tests/resume/test_killed_by_itself.py": "resume, half",
    "tests/resume/": "resume, other half",
    "::test_memory_stays_within_what_was_projected": "large image",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist=loadgroup`` by `GROUPS`: xdist 3.8 does not see its own marks with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    if config.getvalue("dist") != "loadgroup":
        return None

    class Grouped(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return next((group for part, group in GROUPS.items() if part in nodeid), nodeid)

    return Grouped(config, log)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of the tests' own; started once, by the first test that asks."""
    # Importing Prefect costs 2.5 s, starting its server 20: tests of the core pay neither.
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    own = {
        PREFECT_HOME: tmp_path_factory.mktemp("prefect-home"),
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        # the heartbeat's thread adds a second to each flow run, which then takes 0.15 s
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(own), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def memory_filesystem() -> Iterator[MemoryFileSystem]:
    """fsspec's memory filesystem, emptied afterwards: it is one for the whole process."""
    from fsspec.implementations.memory import MemoryFileSystem

    filesystem = MemoryFileSystem()
    yield filesystem
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """Google Cloud Storage, emulated."""
    from tests.servers.gcs import gcs_server

    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """S3, emulated."""
    from tests.servers.s3 import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture
def places(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Places:
    """Gives an empty place of each kind; credentials are those of the environment."""
    from tests.servers import policies
    from tests.servers.places import storage_environment

    def place(kind: str) -> str:
        kind, _, unlisted = kind.partition(" ")
        if kind == "local":
            return str(tmp_path)
        if kind == "memory":
            request.getfixturevalue("memory_filesystem")
            return "memory://place"
        gs = request.getfixturevalue("gcs").url if kind == "gs" else ""
        s3 = request.getfixturevalue("s3").url if kind == "s3" else ""
        for name, value in storage_environment(gs, s3).items():
            if value:
                monkeypatch.setenv(name, value)
        bucket = request.getfixturevalue("gcs" if kind == "gs" else "s3").make_bucket()
        if unlisted:
            policies.close(bucket)
        return f"{kind}://{bucket}"

    return place
