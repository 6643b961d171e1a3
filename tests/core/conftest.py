"""Fixtures that tests of several packages use."""

from __future__ import annotations

import pytest

from ngff_core.storage import ObjectStore, open_store
from tests.servers.places import PLACES, Places


@pytest.fixture(params=PLACES)
def store(request: pytest.FixtureRequest, places: Places) -> ObjectStore:
    """An empty store of each kind, at a place that is not there yet."""
    return open_store(f"{places(request.param)}/some/where")
