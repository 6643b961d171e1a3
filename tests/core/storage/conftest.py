"""Pauses of retries that take no time, and a clock that they move."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import tenacity

from ngff_core.storage import retry


@dataclass
class Pauses:
    """The pauses between attempts, in seconds. They move ``now`` instead of taking time."""

    taken: list[float] = field(default_factory=list)
    now: float = 1000.0

    def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float, result: object = None) -> None:
        self.sleep(seconds)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pauses]:
    """Retries pause as long as chance allows, so a pause shows its upper bound."""
    pauses = Pauses()
    monkeypatch.setattr(tenacity.nap.time, "sleep", pauses.sleep)
    monkeypatch.setattr("asyncio.sleep", pauses.sleep_async)
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: pauses.now))
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    yield pauses
    retry.request_pause(0.0)
