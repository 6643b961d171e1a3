"""What all tests share: hypothesis profiles, one Prefect server, an empty memory store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fsspec.implementations.memory import MemoryFileSystem

# No deadline: seconds on a shared machine say nothing about an example.
# print_blob: whoever reads a failure, here or in CI's log, can run that very example.
settings.register_profile("local", deadline=None, print_blob=True)
# In CI a change is judged by the same examples each time; new ones are found at home.
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, where tests run in several processes, what shares a costly fixture.

    Before xdist, which reads the groups in a hook of the same name.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "prefect_server" in fixtures:
            item.add_marker(pytest.mark.xdist_group("prefect"))
        elif "builders" in fixtures:
            # Halves of about equal length, each with its process that forks.
            half = "a" if "test_killed_by_itself" in item.nodeid else "b"
            item.add_marker(pytest.mark.xdist_group(f"resume-{half}"))
        elif "large" in fixtures:
            item.add_marker(pytest.mark.xdist_group("large"))


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
