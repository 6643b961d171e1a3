"""The events that a build leaves: what others can be triggered by."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.orchestration import get_client

from flows.build_pyramid import build_pyramid
from flows.options import PyramidOptions
from ngff_core.errors import SourceNotFoundError
from tasks.reporting import events

OPTIONS = PyramidOptions(scale_factors=[2], chunks=16)


@pytest.fixture
def source(tmp_path: Path) -> str:
    np.save(tmp_path / "cells.npy", np.arange(32 * 32, dtype="uint16").reshape(32, 32))
    return str(tmp_path / "cells.npy")


def events_of(uri: str) -> list[dict[str, Any]]:
    """The server's events of a resource; they arrive a little later."""
    wanted = {"filter": {"resource": {"id": [uri]}}}
    for _ in range(150):
        with get_client(sync_client=True) as client:
            found = client.request("POST", "/events/filter", json=wanted).json()["events"]
        if found:
            return list(found)
        time.sleep(0.1)
    return []


@pytest.mark.usefixtures("prefect_server")
def test_finished_build_emits_an_event(source: str, tmp_path: Path) -> None:
    """The event has the target, the source, and the result of the verification."""
    target = str(tmp_path / "cells.ome.zarr")
    report = build_pyramid(source, target, OPTIONS)
    (event,) = events_of(target)
    assert event["event"] == "ngff.pyramid.completed"
    assert event["resource"]["ngff.source"] == source
    assert {"prefect.resource.id": source, "prefect.resource.role": "source"} in event["related"]
    assert any(r["prefect.resource.role"] == "flow-run" for r in event["related"])
    assert event["payload"]["digest"] == report.plan_digest
    assert event["payload"]["levels"] == [[32, 32], [16, 16]]
    assert event["payload"]["verified"] is True
    assert event["payload"]["findings"] == 0


@pytest.mark.usefixtures("prefect_server")
def test_event_of_a_failed_build_has_the_reason(tmp_path: Path) -> None:
    target = str(tmp_path / "cells.ome.zarr")
    with pytest.raises(SourceNotFoundError):
        build_pyramid(str(tmp_path / "gone.npy"), target, OPTIONS)
    (event,) = events_of(target)
    assert event["event"] == "ngff.pyramid.failed"
    assert event["payload"]["error"] == "SourceNotFoundError"
    assert "gone.npy" in event["payload"]["reason"]


@pytest.mark.usefixtures("prefect_server")
def test_build_does_not_depend_on_its_events(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that cannot be emitted is a line in the log."""

    def broken(*_args: object, **_named: object) -> None:
        raise RuntimeError("no way out")

    monkeypatch.setattr(events, "emit_event", broken)
    assert build_pyramid(source, str(tmp_path / "cells.ome.zarr"), OPTIONS).verified
    with pytest.raises(SourceNotFoundError):
        build_pyramid(f"{source}.gone", str(tmp_path / "other.ome.zarr"), OPTIONS)
    assert "ngff.pyramid.failed could not be emitted: no way out" in caplog.text


def test_reason_is_cut_where_an_event_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    emitted: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda *_args, **named: emitted.append(named))
    events.emit_failed("/in/a.npy", "/out/a.ome.zarr", ValueError("x" * 10**6), 1.5)
    assert len(emitted[0]["payload"]["reason"]) == 1000
