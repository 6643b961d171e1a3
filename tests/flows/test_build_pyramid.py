"""The flow `build-pyramid` as an operator sees it: runs, states, logs and artifacts."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterLevel,
)
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from pydantic import ValidationError

import ngff_core
from flows.build_pyramid import build_pyramid
from flows.options import PyramidOptions
from ngff_core import Build, BuildOptions, BuildReport, Methods
from ngff_core.plan.options import describe_options, option_names
from tasks import pyramid
from tasks.reporting.artifacts import artifact_key
from tests.support.folders import files

OPTIONS = PyramidOptions(scale_factors=[2, 4], chunks=16, shards=32, workers=2, cache="always")


@dataclass
class Run:
    """A flow run that has ended, and what the server knows of it."""

    state: State[Any]

    @property
    def report(self) -> BuildReport:
        report: BuildReport = self.state.result()
        return report

    @property
    def name(self) -> str:
        return str(self.ask(lambda client: client.read_flow_run(self._id).name))

    @property
    def tasks(self) -> dict[str, State[Any]]:
        """The last state of each task run, in the order in which they began."""
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[self._id]))

        def read(client: SyncPrefectClient) -> dict[str, State[Any]]:
            runs = client.read_task_runs(flow_run_filter=wanted)
            assert runs
            states = {}
            for run in sorted(runs, key=lambda run: run.start_time.timestamp()):
                assert run.state is not None
                assert run.state.is_final()
                states[run.name] = run.state
            assert ("verify" in states) == self.state.is_completed()
            return states

        return self.ask(read)

    @property
    def artifacts(self) -> dict[str, Any]:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self._id]))
        found = self.ask(lambda client: client.read_artifacts(artifact_filter=wanted))
        assert len({artifact.key for artifact in found}) == len(found)
        of_target = artifact_key("", self.report.target)
        return {artifact.key.removesuffix(f"-{of_target}"): artifact for artifact in found}

    @property
    def logs(self) -> list[str]:
        """The lines of the run's page, oldest first."""
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self._id]))

        def read(client: SyncPrefectClient) -> list[str]:
            lines = [entry.message for entry in client.read_logs(wanted, limit=200)]
            assert any(line.startswith("Finished in state") for line in lines)
            return lines

        APILogHandler().flush()
        return self.ask(read)

    @property
    def _id(self) -> Any:
        return self.state.state_details.flow_run_id

    @staticmethod
    def ask[T](question: Callable[[SyncPrefectClient], T]) -> T:
        """The server's answer; what happened reaches its database a little later."""
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_delay(60),
            wait=tenacity.wait_fixed(0.1),
            retry=tenacity.retry_if_exception_type((AssertionError, AttributeError)),
            reraise=True,
        ):
            with attempt, get_client(sync_client=True) as client:
                answer = question(client)
        return answer


def build(source: Path, target: Path, options: PyramidOptions = OPTIONS) -> Run:
    return Run(build_pyramid(str(source), str(target), options, return_state=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flow")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    samples = np.random.default_rng(3).integers(0, 60000, (96, 80), dtype=np.uint16)
    zarr.save_array(folder / "upload.zarr", samples)
    return folder / "upload.zarr"


@pytest.fixture(scope="module")
def first(prefect_server: None, folder: Path, source: Path) -> Run:
    """A build from nothing, through a cache."""
    return build(source, folder / "cells.ome.zarr")


@pytest.fixture(scope="module")
def second(first: Run, folder: Path, source: Path) -> Run:
    """The same build again."""
    return build(source, folder / "cells.ome.zarr")


def test_each_phase_is_a_task_run(first: Run) -> None:
    """The run page shows the phases by name, one task a level, all of them completed."""
    assert list(first.tasks) == [
        "plan",
        "cache-source",
        "level-0",
        "level-1",
        "level-2",
        "write-metadata",
        "verify",
    ]
    assert {state.name for state in first.tasks.values()} == {"Completed"}


def test_second_run_skips_what_is_done(first: Run, second: Run) -> None:
    """The same build again is a matter of seconds, and its levels say Skipped, in green."""
    names = {name: state.name for name, state in second.tasks.items()}
    assert names == {
        "plan": "Completed",
        "level-0": "Skipped",
        "level-1": "Skipped",
        "level-2": "Skipped",
        "write-metadata": "Skipped",
        "verify": "Completed",
    }
    assert all(state.is_completed() for state in second.tasks.values())
    assert second.report.fresh == 0
    assert second.report.verified


def test_second_run_shows_what_is_there(second: Run) -> None:
    """A run that had nothing to do leaves table, report and picture all the same."""
    assert set(second.artifacts) == {"levels", "report", "thumbnail"}
    assert "level-0: already done by an earlier run" in second.logs


def test_run_is_named_after_its_target(first: Run) -> None:
    """Among a hundred runs one finds one's image by its name."""
    assert first.name == "build-pyramid/cells.ome.zarr"


def test_progress_artifacts_end_at_100(first: Run) -> None:
    """Each level, and the cache pass, has a progress artifact, which ends at 100 %."""
    progress = {key: a for key, a in first.artifacts.items() if a.type == "progress"}
    assert set(progress) == {"cache-source", "level-0", "level-1", "level-2"}
    assert {artifact.data for artifact in progress.values()} == {100.0}


def test_table_has_a_row_a_level(first: Run) -> None:
    """The table of levels has the shape and the voxel size of each."""
    table = first.artifacts["levels"]
    assert table.type == "table"
    rows = json.loads(table.data) if isinstance(table.data, str) else table.data
    assert [row["shape"] for row in rows] == [
        "y 96, x 80",
        "y 48, x 40",
        "y 24, x 20",
    ]
    assert [row["level"] for row in rows] == [0, 1, 2]


def test_report_is_markdown(first: Run) -> None:
    """The report begins with the image's name and the verdict."""
    report = first.artifacts["report"]
    assert report.type == "markdown"
    assert report.data.startswith("# cells.ome.zarr\n\n| Verdict | verified: ")


def test_thumbnail_is_a_picture(first: Run) -> None:
    """The thumbnail is a PNG inside the artifact itself: no public bucket is needed."""
    thumbnail = first.artifacts["thumbnail"]
    assert thumbnail.type == "image"
    kind, _, encoded = thumbnail.data.partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size == (20, 24)


def test_log_shows_the_progress(first: Run) -> None:
    """The run's log, as the server has it, says how far each phase is and when it ended."""
    lines = first.logs
    levels = first.report.levels
    assert any(line.startswith("3 levels, ") for line in lines)
    for level in levels:
        said = [line for line in lines if line.startswith(f"level-{level.index}: ")]
        assert said[0].startswith(f"level-{level.index}: {level.regions} region")
        assert f" region{'s' if level.regions > 1 else ''} in " in said[-1]
    assert any(line.startswith("level-0: 1/") for line in lines)
    assert any(line.startswith("cache: 1 region in ") for line in lines)


def test_flow_stores_what_the_core_stores(first: Run, folder: Path, source: Path) -> None:
    """A pyramid from the flow and one from a notebook are equal byte for byte."""
    chosen = {n: getattr(OPTIONS, n) for n in BuildOptions.__dataclass_fields__}
    ngff_core.build_pyramid(source, folder / "plain.ome.zarr", **chosen)
    assert files(folder / "cells.ome.zarr") == files(folder / "plain.ome.zarr")
    assert not (folder / "cells.ome.zarr.build" / "cache").exists()


def test_run_without_a_cache_has_no_such_task(
    prefect_server: None, folder: Path, source: Path
) -> None:
    """A source that can be read by region has no cache pass on its run page."""
    run = build(source, folder / "direct.ome.zarr", PyramidOptions(cache="never"))
    assert list(run.tasks) == ["plan", "level-0", "write-metadata", "verify"]
    assert run.report.verified


def test_foreign_target_fails_with_our_words(
    prefect_server: None, tmp_path: Path, source: Path
) -> None:
    """Data of others is not touched; the run's page says why it failed and what to do."""
    target = tmp_path / "photos.ome.zarr"
    target.mkdir()
    (target / "cat.jpg").write_bytes(b"miaow")
    run = build(source, target)
    assert run.state.name == "Failed"
    assert refusal(run).startswith(f"{target} exists and was not built by ngff-flows; ")
    assert files(tmp_path) == {"photos.ome.zarr/cat.jpg": b"miaow"}
    with pytest.raises(FileExistsError, match="was not built by ngff-flows"):
        run.state.result()


def test_run_that_waits_says_for_whom(prefect_server: None, tmp_path: Path, source: Path) -> None:
    """While another process builds the same target the server has the line already, as a
    warning; the run continues when the other one ends."""
    target = tmp_path / "busy.ome.zarr"
    chosen = PyramidOptions(scale_factors=[2], cache="never")
    other = Build.open(source, target, chosen.to_core())
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(build, source, target, chosen)
        wanted = LogFilter(level=LogFilterLevel(ge_=logging.WARNING))

        def read(client: SyncPrefectClient) -> list[str]:
            lines = [entry.message for entry in client.read_logs(wanted, limit=200)]
            assert any(line.startswith(f"waiting: process {os.getpid()} on ") for line in lines)
            return lines

        try:
            Run.ask(read)
            assert not waiting.done()
        finally:
            other.close()
        run = waiting.result(timeout=60)
    assert run.state.is_completed()
    assert "the target is free, and this build continues" in run.logs


def test_corrupt_source_fails_with_our_words(
    prefect_server: None, tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that breaks off in the middle names itself; nothing passes for an image."""
    broken = tmp_path / "broken.zarr"
    zarr.save_array(broken, np.arange(4096, dtype=np.uint16).reshape(64, 64))
    [chunk] = [
        path for path in broken.rglob("*") if path.is_file() and path.parent.name != "broken.zarr"
    ]
    chunk.write_bytes(b"not what blosc or zstd would write")
    for task in (pyramid.plan, pyramid.write_level):
        monkeypatch.setattr(task, "retry_delay_seconds", [0, 0, 0])
    target = tmp_path / "out.ome.zarr"
    run = build(broken, target, PyramidOptions(scale_factors=[2], cache="never"))
    assert run.state.name == "Failed"
    assert refusal(run).startswith(f"{broken}: cannot decode the box [")
    assert run.tasks["level-0"].is_failed()
    assert not (target / "zarr.json").exists()


def refusal(run: Run) -> str:
    """Our message in the state's, after the words and the type that Prefect puts before it."""
    message = str(run.state.message)
    head, _, rest = message.partition("Error: ")
    assert head.startswith("Flow run encountered an exception: ")
    assert "\n" not in rest
    return rest


def test_form_describes_every_field() -> None:
    """Each field of the form has its meaning and its default."""
    schema = PyramidOptions.model_json_schema()
    # the core builds a pyramid, and knows no browsers
    assert set(schema["properties"]) == {*BuildOptions.__dataclass_fields__, "public_url"}
    for name, field in schema["properties"].items():
        assert len(field.get("description", "")) > 20, name
        assert "default" in field, name
    assert schema["additionalProperties"] is False


def test_form_is_made_from_the_options_of_the_core() -> None:
    """In their order, with their texts, defaults and limits: an option is defined once."""
    schema = PyramidOptions.model_json_schema()["properties"]
    assert tuple(schema) == (*option_names(), "public_url")
    for each in fields(BuildOptions):
        option, field = describe_options()[each.name], schema[each.name]
        assert field["description"].startswith(option.help)
        assert option.default_text is None or field["description"].endswith(
            f" By default {option.default_text}."
        )
        assert field["default"] == each.default
        assert option.at_least in (None, field.get("anyOf", [{}])[0].get("minimum"))


def test_form_offers_the_methods() -> None:
    """The method is chosen from a list, and so are the version and the use of a cache."""
    schema = PyramidOptions.model_json_schema()
    assert schema["$defs"]["Methods"]["enum"] == [method.value for method in Methods]
    assert schema["properties"]["ome_zarr_version"]["enum"] == ["0.4", "0.5", "0.6"]
    assert schema["properties"]["cache"]["enum"] == ["auto", "always", "never"]


def test_flow_describes_its_parameters() -> None:
    """Source and target are explained on the form too."""
    properties = build_pyramid.parameters.properties
    assert "Path or URI" in properties["source"]["description"]
    assert "Path or URI" in properties["target"]["description"]
    assert build_pyramid.parameters.required == ["source", "target"]


def test_misspelt_option_is_refused() -> None:
    """An option that does not exist is not silently left out."""
    with pytest.raises(ValidationError, match="chunk_size"):
        PyramidOptions.model_validate({"chunk_size": 64})


def test_form_has_the_defaults_of_the_core() -> None:
    """Without any choice the form gives the same options as the function."""
    assert PyramidOptions().to_core() == BuildOptions()
    assert PyramidOptions.from_core(BuildOptions()) == PyramidOptions()


def test_form_takes_sizes_as_dask_spells_them() -> None:
    """Of an axis's list of chunks the first counts, as it does for the core."""
    given = BuildOptions(chunks=((64, 64, 32), (64, 64)), shards={"y": [128], "x": 128})
    form = PyramidOptions.from_core(given)
    assert form.chunks == [64, 64]
    assert form.shards == {"y": 128, "x": 128}


@pytest.mark.parametrize("shards", ["none", 0])
def test_form_takes_no_shards(shards: Any) -> None:
    form = PyramidOptions.from_core(BuildOptions(shards=shards, checksums=False))
    assert PyramidOptions.model_validate_json(form.model_dump_json()).to_core().shards == shards
    assert not form.to_core().checksums


lengths = st.integers(1, 4096)
sizes = st.one_of(
    st.none(),
    lengths,
    st.lists(lengths, min_size=1, max_size=5),
    st.dictionaries(st.sampled_from("tczyx"), lengths, min_size=1),
)


@given(
    st.builds(
        BuildOptions,
        method=st.sampled_from(Methods),
        scale_factors=st.one_of(
            lengths,
            st.lists(lengths | st.dictionaries(st.sampled_from("zyx"), lengths, min_size=1)),
        ),
        chunks=sizes,
        shards=sizes,
        compressor=st.sampled_from(["none", "zstd:3", "blosc:lz4:5:shuffle"]),
        ome_zarr_version=st.sampled_from(["0.4", "0.5", "0.6"]),
        workers=st.none() | st.integers(1, 64),
        memory_limit=st.none() | st.sampled_from(["2GiB", "500MB"]),
        cache=st.sampled_from(["auto", "always", "never"]),
        overwrite=st.booleans(),
    )
)
def test_options_survive_the_form(options: BuildOptions) -> None:
    """What a caller chose reaches the core unchanged, also by way of the server's JSON."""
    form = PyramidOptions.from_core(options)
    assert form.to_core() == options
    assert PyramidOptions.model_validate_json(form.model_dump_json()).to_core() == options


def test_memory_limit_in_bytes_survives_the_form() -> None:
    """A number of bytes becomes a text that means the same."""
    assert PyramidOptions.from_core(BuildOptions(memory_limit=2**31)).memory_limit == str(2**31)


def test_every_image_of_a_source_gets_a_run_of_its_own(prefect_server: None, folder: Path) -> None:
    """With `series` set to `all`; what was joined and assumed is on each run's page and log."""
    samples = np.random.default_rng(7).integers(0, 99, (4, 48, 40), dtype=np.uint8)
    for name in "AB":
        for z in range(4):
            np.save(folder / f"{name}_z{z}.npy", samples[z])
    options = OPTIONS.model_copy(update={"series": "all", "cache": "never"})
    state = build_pyramid(f"{folder}/*_z{{z}}.npy", str(folder / "all"), options, return_state=True)
    reports: list[BuildReport] = state.result()
    assert [Path(report.target).name for report in reports] == ["A.ome.zarr", "B.ome.zarr"]
    assert all(report.verified for report in reports)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    names = [run.name for run in runs]
    assert names.count("build-pyramid/A.ome.zarr") == names.count("build-pyramid/B.ome.zarr") == 1
    (run,) = [run for run in runs if run.name == "build-pyramid/B.ome.zarr"]
    assert run.state is not None
    lines = Run(run.state).logs
    assert any(line.startswith("left out: the other image of the source") for line in lines)
    assert any(line.startswith("assumed: the files do not name") for line in lines)
    report = Run(run.state).ask(
        lambda client: next(
            found.data
            for found in client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
            )
            if found.key and found.key.startswith("report")
        )
    )
    assert "## How the source was read" in str(report)
    assert "**left out**" in str(report)
