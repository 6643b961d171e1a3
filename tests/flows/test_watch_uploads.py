"""The flow `watch-uploads` against a Prefect server: real deployments, runs, keys and tags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import EntrypointType
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Crashed, Failed, Running
from pydantic import ValidationError

import ngff_core
from flows.build_pyramid import build_pyramid
from flows.options import PyramidOptions
from flows.upload_options import Patience, UploadPrefix
from flows.watch_uploads import LookFailedError, watch_uploads
from tasks import runs

if TYPE_CHECKING:
    from fsspec.implementations.memory import MemoryFileSystem

AT_ONCE = Patience(settle_seconds=0, attempts=2, pauses_seconds=[0])


class Watched:
    """A prefix of its own, the deployment that builds, and what the server knows of both."""

    def __init__(self, filesystem: MemoryFileSystem, deployment: UUID, name: str) -> None:
        self.filesystem = filesystem
        self.deployment = deployment
        self.uri = f"memory://in-{uuid.uuid4().hex}"
        self.name = name

    def prefix(self, **given: Any) -> UploadPrefix:
        return UploadPrefix(uri=self.uri, target=f"{self.uri}-out", **given)

    def put(self, name: str, data: bytes = b"samples") -> str:
        self.filesystem.pipe_file(f"{self.uri}/{name}".removeprefix("memory:/"), data)
        return f"{self.uri}/{name}"

    def look(self, patience: Patience = AT_ONCE, **given: Any) -> State[Any]:
        prefixes = given.pop("prefixes", None) or [self.prefix(**given.pop("prefix", {}))]
        return watch_uploads(prefixes, patience, deployment=self.name, return_state=True, **given)

    def counts(self, patience: Patience = AT_ONCE, **given: Any) -> str:
        """What a look did, without what it did not."""
        counts: dict[str, int] = self.look(patience, **given).result()
        return ", ".join(f"{number} {what}" for what, number in counts.items() if number)

    @property
    def runs(self) -> list[FlowRun]:
        """The runs of this prefix's uploads, in the order in which they were asked for."""
        wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[self.deployment]))
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_run_filter=wanted, limit=200)
        own = [run for run in found if str(run.parameters["source"]).startswith(self.uri + "/")]
        return sorted(own, key=lambda run: run.created.timestamp() if run.created else 0.0)

    def set(self, state: State[Any]) -> None:
        """The newest run gets a state, as if a worker had reported it."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(self.runs[-1].id, state, force=True)


@pytest.fixture(scope="module")
def deployment(prefect_server: None) -> tuple[UUID, str]:
    """`build-pyramid`, deployed as in production, but without a worker."""
    name = f"on-upload-{uuid.uuid4().hex[:8]}"
    made = build_pyramid.to_deployment(name, entrypoint_type=EntrypointType.MODULE_PATH)
    identifier = made.apply()
    assert isinstance(identifier, UUID)
    return identifier, f"build-pyramid/{name}"


@pytest.fixture
def watched(memory_filesystem: MemoryFileSystem, deployment: tuple[UUID, str]) -> Watched:
    return Watched(memory_filesystem, *deployment)


def artifact(state: State[Any]) -> list[dict[str, Any]]:
    """The rows of the table `uploads` that a look left."""
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]),
        key=ArtifactFilterKey(any_=["uploads"]),
    )
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(artifact_filter=wanted)
    rows: list[dict[str, Any]] = json.loads(str(found.data))
    return rows


def test_upload_is_started_once(watched: Watched) -> None:
    """Looks while it waits, runs and is done start nothing more."""
    source = watched.put("mouse/a.tif")
    assert watched.counts() == "1 start"
    assert watched.counts() == "1 wait"
    watched.set(Running())
    assert watched.counts() == "1 wait"
    watched.set(Completed())
    assert watched.counts() == "1 skip"
    assert watched.counts() == "1 skip"
    (run,) = watched.runs
    assert run.parameters["source"] == source
    assert run.parameters["target"] == f"{watched.uri}-out/mouse/a.ome.zarr"
    assert run.parameters["options"] == PyramidOptions().model_dump(mode="json")
    assert run.parent_task_run_id is None
    assert str(run.idempotency_key).startswith(f"{source}@")
    assert str(run.idempotency_key).endswith("@1")
    assert set(run.tags) == {"upload", runs.upload_tag(source)}


def test_upload_must_be_still_first(watched: Watched) -> None:
    watched.put("a.tif")
    patient = Patience(settle_seconds=3600)
    assert watched.counts(patient) == "1 wait"
    assert watched.counts(patient) == "1 wait"
    assert watched.runs == []


def test_lost_state_starts_no_double(watched: Watched) -> None:
    """All that the watcher remembers may go, at any time."""
    watched.put("a.tif")
    watched.look()
    watched.filesystem.rm(f"{watched.uri}/.ngff-flows".removeprefix("memory:/"), recursive=True)
    assert watched.counts() == "1 wait"
    watched.set(Completed())
    watched.filesystem.rm(f"{watched.uri}/.ngff-flows".removeprefix("memory:/"), recursive=True)
    assert watched.counts() == "1 skip"
    assert len(watched.runs) == 1


def test_same_key_is_the_same_run(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a watcher that neither remembers nor sees any run gets the one that is there."""
    watched.put("a.tif")
    watched.look()
    watched.filesystem.rm(f"{watched.uri}/.ngff-flows".removeprefix("memory:/"), recursive=True)
    monkeypatch.setattr(runs, "find_runs", lambda uploads: ())
    assert watched.counts() == "1 start"
    assert len(watched.runs) == 1


def test_changed_upload_replaces_its_pyramid(watched: Watched) -> None:
    """Each version has one build, and the later one overwrites."""
    watched.put("a.tif")
    watched.look()
    watched.set(Completed())
    watched.look()
    watched.put("a.tif", b"other samples")
    assert watched.counts() == "1 start"
    watched.set(Completed())
    assert watched.counts() == "1 skip"
    first, second = watched.runs
    assert first.parameters["options"]["overwrite"] is False
    assert second.parameters["options"]["overwrite"] is True


def test_failed_upload_is_tried_again_then_parked_then_released(watched: Watched) -> None:
    """Failure and crash both count; the parked object says why, and its removal releases."""
    source = watched.put("a.tif")
    assert watched.counts() == "1 start"
    watched.set(Failed(message="it is no TIFF"))
    assert watched.counts() == "1 start"
    watched.set(Crashed(message="the machine went away"))
    state = watched.look()
    (row,) = artifact(state)
    assert row["what"] == "park"
    assert row["why"].startswith("2 attempts failed, the last with: the machine went away (remove ")
    assert watched.counts() == "1 skip"
    (parked,) = watched.filesystem.ls(
        f"{watched.uri}/.ngff-flows/parked".removeprefix("memory:/"), detail=False
    )
    assert json.loads(watched.filesystem.cat_file(parked))["uri"] == source
    watched.filesystem.rm(parked)
    assert watched.counts() == "1 start"
    watched.set(Failed())
    assert watched.counts() == "1 start"
    watched.set(Failed())
    assert watched.counts() == "1 park"
    assert watched.counts(release=[f"{watched.uri}/*"]) == "1 start"
    keys = [str(run.idempotency_key) for run in watched.runs]
    assert [key.rpartition("@")[2] for key in keys] == ["1", "2", "3", "4", "5"]


def test_pause_is_kept_after_a_failure(watched: Watched) -> None:
    watched.put("a.tif")
    watched.look()
    watched.set(Failed(message="no room"))
    state = watched.look(AT_ONCE.model_copy(update={"pauses_seconds": [600.0]}))
    (row,) = artifact(state)
    assert row["what"] == "wait"
    assert row["why"].startswith("attempt 1 failed: no room; the next in ")
    assert row["run"] == str(watched.runs[0].id)


def test_cancelled_build_is_parked(watched: Watched) -> None:
    watched.put("a.tif")
    watched.look()
    watched.set(Cancelled())
    assert watched.counts() == "1 park"


def test_folder_is_one_build(watched: Watched) -> None:
    """A zarr is started when its metadata are there, as one upload."""
    watched.put("x.zarr/c/0/0")
    assert watched.counts() == "1 wait"
    watched.put("x.zarr/zarr.json")
    assert watched.counts() == "1 start"
    assert watched.counts() == "1 wait"


def test_only_looks_at_one_upload(watched: Watched) -> None:
    """As a notification asks for; the others are neither started nor forgotten."""
    one = watched.put("a.tif")
    watched.put("b.tif")
    watched.look(Patience(settle_seconds=3600))
    assert watched.counts(only=one) == "1 start"
    assert watched.counts(only=f"{watched.uri}/gone.tif") == ""
    assert watched.counts(only="memory://elsewhere/c.tif") == ""
    assert watched.counts() == "1 start, 1 wait"


def test_several_prefixes_are_looked_at(watched: Watched) -> None:
    """One that fails does not keep the others waiting, and the look says so."""
    broken = UploadPrefix(uri="nosuchscheme://in", target="memory://out")
    watched.put("a.tif")
    state = watched.look(prefixes=[broken, watched.prefix()])
    assert state.is_failed()
    with pytest.raises(LookFailedError, match="nosuchscheme://in"):
        state.result()
    assert [row["what"] for row in artifact(state)] == ["start"]
    assert len(watched.runs) == 1


def test_missing_deployment_says_what_to_do(watched: Watched) -> None:
    """Nothing is recorded as started, so the next look starts it."""
    watched.put("a.tif")
    watched.name, right = "build-pyramid/nobody", watched.name
    state = watched.look()
    with pytest.raises(LookFailedError, match="no deployment build-pyramid/nobody: deploy it"):
        state.result()
    watched.name = right
    assert watched.counts() == "1 start"


def test_change_of_speed_builds_nothing_again(watched: Watched) -> None:
    """But a change of what is stored does, over the old pyramid."""
    watched.put("a.tif")
    watched.look()
    watched.set(Completed())
    assert watched.counts(prefix={"options": PyramidOptions(workers=2)}) == "1 skip"
    assert watched.counts(prefix={"options": PyramidOptions(chunks=64)}) == "1 start"
    assert watched.runs[-1].parameters["options"]["overwrite"] is True


def test_started_run_builds_the_pyramid(deployment: tuple[UUID, str], tmp_path: Path) -> None:
    """End to end: an upload on disk, a look, the run that it asked for, the pyramid."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "cells.npy", np.arange(64 * 64, dtype="uint16").reshape(64, 64))
    prefix = UploadPrefix(uri=str(tmp_path / "in"), target=str(tmp_path / "out"))
    counts = watch_uploads([prefix], AT_ONCE, deployment=deployment[1])
    assert counts["start"] == 1
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment[0]]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=wanted, limit=200)
    (run,) = [r for r in found if r.parameters["source"] == f"{prefix.uri}/cells.npy"]

    # what a worker on the same machine does
    subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "execute", str(run.id)],
        check=True,
        timeout=600,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
    )
    assert ngff_core.verify_pyramid(str(tmp_path / "out" / "cells.ome.zarr")).ok
    assert watch_uploads([prefix], AT_ONCE, deployment=deployment[1])["skip"] == 1


def test_forms_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        UploadPrefix.model_validate({"uri": "a", "target": "b", "includes": []})
    with pytest.raises(ValidationError):
        Patience(settle_seconds=-1)


def test_every_field_of_a_form_has_a_description() -> None:
    """Prefect's page shows them beside the fields."""
    for form in (UploadPrefix, Patience):
        assert all(field.description for field in form.model_fields.values())
    schema = watch_uploads.parameters
    assert all(schema.properties[name].get("description") for name in schema.properties)
