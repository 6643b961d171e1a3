"""The flows that maintain pyramids, on a real Prefect server: audits and cleaning."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
)
from prefect.client.schemas.objects import State

import tasks.maintenance
from flows.audit_pyramids import audit_pyramids
from flows.clean_builds import clean_builds
from ngff_core import build_pyramid
from tasks.maintenance import is_deep_day
from tests.support.folders import contents, files

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `published` with two pyramids of one source."""
    np.save(tmp_path / "image.npy", np.arange(64 * 64, dtype="u2").reshape(64, 64))
    for name in ("one", "two"):
        build_pyramid(
            tmp_path / "image.npy",
            tmp_path / f"published/{name}.ome.zarr",
            scale_factors=[2],
            chunks=16,
            shards=32,
        )
    return tmp_path / "published"


@pytest.fixture
def sent_events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events that were sent."""
    sent: list[dict[str, Any]] = []

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        sent.append({"event": event, **resource, **payload})

    monkeypatch.setattr(tasks.maintenance, "emit_event", emit)
    return sent


def table(state: State[Any], key: str) -> list[dict[str, Any]]:
    """The rows of a run's table artifact."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    )
    with get_client(sync_client=True) as client:
        [found] = [a for a in client.read_artifacts(artifact_filter=wanted) if a.key == key]
    rows: list[dict[str, Any]] = (
        json.loads(found.data) if isinstance(found.data, str) else found.data
    )
    return rows


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_audit_of_undamaged_pyramids_completes(
    folder: Path, sent_events: list[dict[str, Any]]
) -> None:
    """One row for each pyramid with how it was checked, and no event."""
    state = audit_pyramids([str(folder)], deep_every=1, return_state=True)
    assert state.is_completed()
    assert state.message == "2 pyramids undamaged"
    assert [row["verdict"] for row in table(state, "audit")] == ["undamaged, every byte read"] * 2
    assert sent_events == []


def test_audit_of_a_damaged_pyramid_fails_and_sends_an_event(
    folder: Path, sent_events: list[dict[str, Any]]
) -> None:
    """The run is red, its message and the event name the pyramid; nothing is written."""
    flip(folder / "two.ome.zarr/0/c/0/1")
    before = contents(folder)
    state = audit_pyramids([str(folder)], deep_every=1, return_state=True)
    assert contents(folder) == before
    assert state.is_failed()
    assert f"1 of 2 pyramids damaged, the first is {folder}/two.ome.zarr" in str(state.message)
    assert "ngff-flows verify --repair" in str(state.message)
    [event] = sent_events
    assert event["event"] == "ngff.pyramid.damaged"
    assert event["ngff.target"] == f"{folder}/two.ome.zarr"
    assert event["findings"] == ["0/c/0/1: its bytes have changed"]
    rows = table(state, "audit")
    assert rows[0]["pyramid"] == f"{folder}/two.ome.zarr"
    assert rows[0]["verdict"] == "1 finding"


def test_audit_repairs_where_asked(folder: Path, sent_events: list[dict[str, Any]]) -> None:
    """The pyramid is as it was, byte for byte; the event is sent all the same."""
    whole = files(folder / "two.ome.zarr")
    flip(folder / "two.ome.zarr/0/c/0/1")
    (folder / "two.ome.zarr/1/c/0/0").unlink()
    state = audit_pyramids([str(folder)], deep_every=1, repair=True, return_state=True)
    assert state.is_completed()
    assert files(folder / "two.ome.zarr") == whole
    assert [event["repaired"] for event in sent_events] == [2]


def test_one_bad_ledger_leaves_the_others_their_audit(
    folder: Path, sent_events: list[dict[str, Any]]
) -> None:
    """A pyramid that cannot be verified has a row like any other."""
    (folder / "one.ome.zarr.build/ledger/0/complete.jsonl").write_text("torn")
    state = audit_pyramids([str(folder)], return_state=True)
    assert state.is_failed()
    verdicts = [row["verdict"] for row in table(state, "audit")]
    assert verdicts[0] == "cannot be verified"
    assert verdicts[1].startswith("undamaged, ")


def test_an_unfinished_build_is_no_damage(folder: Path, sent_events: list[dict[str, Any]]) -> None:
    """It may be under way; the table says so."""
    shutil.rmtree(folder / "one.ome.zarr.build/ledger/1")
    state = audit_pyramids([str(folder)], return_state=True)
    assert state.is_completed()
    assert state.message == "1 pyramid undamaged, 1 not finished"
    assert sent_events == []


@given(st.text(min_size=1), st.integers(1, 60), st.dates(max_value=date(9000, 1, 1)))
def test_each_pyramid_has_its_deep_day(target: str, every: int, start: date) -> None:
    """Exactly once in any so many days on end."""
    days = [start + timedelta(days=n) for n in range(every)]
    assert sum(is_deep_day(target, every, day) for day in days) == 1


def test_cleaning_is_a_dry_run_first(folder: Path) -> None:
    """Leftovers are shown with their size; without dry_run they are removed, and nothing else."""
    (folder / "one.ome.zarr/zarr.json").unlink()
    shutil.rmtree(folder / "one.ome.zarr.build/ledger/1")
    old = time.time() - 30 * 86400
    for path in folder.rglob("*"):
        os.utime(path, (old, old))
    before = contents(folder)
    state = clean_builds([str(folder)], return_state=True)
    assert contents(folder) == before
    [row] = table(state, "leftovers")
    assert row["fate"] == "half a build would be removed"
    assert row["size"] != "0 B"
    state = clean_builds([str(folder)], dry_run=False, return_state=True)
    assert [row["fate"] for row in table(state, "leftovers")] == ["half a build removed"]
    assert contents(folder) == {k: v for k, v in before.items() if k.startswith("two")}
