"""What tests of several rooms ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngff_core.store import Store, open_store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind, at a place that is not there yet."""
    if request.param == "local":
        return open_store(tmp_path / "some" / "where")
    request.getfixturevalue("memory_filesystem")
    return open_store("memory://some/where")
