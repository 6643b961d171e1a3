"""The command `ngff-flows` as people and scripts meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ngff_core import BuildOptions
from ngff_core.errors import InvalidOptionError
from ngff_core.progress import Advanced, Event, Listener
from ngff_core.storage import LocalFiles
from ngff_flows.cli import main
from ngff_flows.cli.parsing import parse_sizes
from ngff_flows.cli.run_flow import run_flow
from ngff_flows.cli.terminal import PlainLines
from tests.support.folders import contents

# Level 0 has 16 regions, level 1 has 4.
SMALL = ("--scale-factors", "2,", "--chunks", "16", "--shards", "16", "--workers", "1")


@dataclass
class Answer:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that standard output is."""
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `ngff-flows` with arguments, in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ngff-flows", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        return Answer(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Prefect nor the core may begin any work."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the work was begun")

    monkeypatch.setattr(main, "run_flow", refuse)
    monkeypatch.setattr(main, "run_build", refuse)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    samples = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    np.save(tmp_path / "image.npy", samples)
    return tmp_path / "image.npy"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.ome.zarr"


# --- what goes well --------------------------------------------------------------------


def test_build_makes_a_pyramid(run: Command, source: Path, target: Path) -> None:
    """A build ends with a table of levels, the target and the verdict; progress is on stderr."""
    answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 0
    header, level_0, level_1, where, verdict = answer.out.splitlines()
    assert header.split()[:2] == ["level", "shape"]
    assert level_0.startswith("0      y 64, x 64")
    assert level_1.startswith("1      y 32, x 32")
    assert where == str(target)
    assert verdict.startswith("20 regions written in ")
    assert "; verified: 20 regions and " in verdict
    assert answer.err.splitlines()[0] == "level-0: 16 regions"
    assert zarr.open_group(target, mode="r")["scale1/image"].shape == (32, 32)


def test_same_command_again_has_nothing_to_do(run: Command, source: Path, target: Path) -> None:
    """Who runs a finished build again is told so, and nothing is written."""
    run("build", source, target, "--no-prefect", *SMALL)
    before = contents(target)
    answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 0
    assert "everything was done before in " in answer.out
    assert contents(target) == before


def test_plan_tells_and_does_nothing(run: Command, source: Path, target: Path) -> None:
    """A plan shows each phase with its objects and the memory it takes, and writes nothing."""
    before = contents(source.parent)
    answer = run("plan", source, target, *SMALL)
    assert answer.status == 0
    assert str(source) in answer.out
    assert f"to {target}" in answer.out
    assert "level-0  y 64, x 64" in answer.out
    assert "20 objects, about " in answer.out
    assert " PUT, " in answer.out
    assert " worker-hours at 200 MB/s" in answer.out
    assert "memory at most " in answer.out
    assert contents(source.parent) == before


def test_plan_prices_the_build(run: Command, source: Path, target: Path) -> None:
    """Requests, bytes and worker-hours, at the throughput and compression that are given."""
    plan = run(
        "plan", source, target, *SMALL, "--throughput", "0.001", "--compression", "4", "--json"
    )
    cost, total = plan.document["price"], plan.document
    assert cost["puts"] - (cost["objects"] - total["objects"]) == total["objects"] == 20
    assert cost["gets"] == total["requests"] - 20
    assert cost["lists"] == 2
    assert cost["bytes_stored"] == round(total["bytes_written"] / 4)
    moved = total["bytes_read"] + total["bytes_written"]
    assert cost["worker_hours"] == pytest.approx(moved / 1000 / 3600)


@pytest.mark.parametrize("option", ["--throughput", "--compression"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_price_needs_positive_numbers(
    run: Command, source: Path, target: Path, option: str, value: str
) -> None:
    """The caller's mistake is named."""
    answer = run("plan", source, target, *SMALL, option, value)
    assert answer.status == 2
    assert f"{option.removeprefix('--')}: {value} is not a positive number" in answer.err


def test_status_of_a_finished_build(run: Command, source: Path, target: Path) -> None:
    """Status says that it is finished, and counts what is done."""
    run("build", source, target, "--no-prefect", *SMALL)
    answer = run("status", target)
    assert answer.status == 0
    assert answer.out.splitlines()[-1] == "finished and published"
    assert ["level-0", "16", "16"] in [line.split()[:3] for line in answer.out.splitlines()]


@pytest.mark.parametrize("deep", [(), ("--deep",)], ids=["shallow", "deep"])
def test_verify_of_a_whole_build(
    run: Command, source: Path, target: Path, deep: tuple[str, ...]
) -> None:
    """A pyramid as it was built verifies, with status 0."""
    run("build", source, target, "--no-prefect", *SMALL)
    answer = run("verify", target, *deep)
    assert answer.status == 0
    assert answer.out.startswith(f"{target}: verified: 20 regions and ")


def test_verify_names_what_is_damaged(run: Command, source: Path, target: Path) -> None:
    """Each damaged object is named on a line of its own, and the status is 1."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target / "scale0/image/c/1/2").unlink()
    (target / "scale1/image/c/0/1").write_bytes(b"short")
    answer = run("verify", target)
    assert answer.status == 1
    missing, short, verdict = answer.out.splitlines()
    assert missing == "scale0/image/c/1/2: missing"
    assert short.startswith("scale1/image/c/0/1: 5 bytes, ")
    assert verdict == f"{target}: 2 findings: not as plan and ledger say"


def test_repair_mends_what_is_damaged(run: Command, source: Path, target: Path) -> None:
    """One line for each thing mended; afterwards a deep look finds nothing."""
    run("build", source, target, "--no-prefect", *SMALL)
    before = contents(target)
    (target / "scale0/image/c/1/2").unlink()
    answer = run("verify", target, "--repair")
    assert answer.status == 0
    assert answer.out.splitlines()[0] == "scale0/image/c/1/2: missing: mended"
    assert "1 mended, 0 left; verified: " in answer.out.splitlines()[1]
    assert contents(target) == before
    assert run("verify", target, "--repair", "--json").document["mended"] == []


def test_repair_says_what_it_cannot_mend(run: Command, source: Path, target: Path) -> None:
    """Without its source level 0 stays damaged: status 1, and why."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target / "scale0/image/c/1/2").unlink()
    source.unlink()
    answer = run("verify", target, "--repair")
    assert answer.status == 1
    line, verdict = answer.out.splitlines()
    assert line.startswith("scale0/image/c/1/2: missing: ")
    assert str(source) in line
    assert "0 mended, 1 left; 1 finding" in verdict


def test_deep_verify_finds_a_flipped_bit(run: Command, source: Path, target: Path) -> None:
    """Damage that leaves the size alone is found where every object is read."""
    run("build", source, target, "--no-prefect", *SMALL)
    damaged = target / "scale0/image/c/3/3"
    stored = bytearray(damaged.read_bytes())
    stored[len(stored) // 2] ^= 1
    damaged.write_bytes(stored)
    assert run("verify", target).status == 0
    answer = run("verify", target, "--deep", "--json")
    assert answer.status == 1
    assert [finding["key"] for finding in answer.document["findings"]] == ["scale0/image/c/3/3"]
    assert answer.document["ok"] is False


def test_damaged_build_fails(run: Command, source: Path, target: Path) -> None:
    """A finished build whose objects were damaged since is not told to be well."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target / "scale0/image/c/1/2").unlink()
    answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 1
    assert "1 finding: not as plan and ledger say" in answer.out
    assert answer.err.splitlines()[-2:] == [
        "First finding:  scale0/image/c/1/2: missing",
        f"See them all:   ngff-flows verify {target}",
    ]


def test_json_is_one_document_and_nothing_else(run: Command, source: Path, target: Path) -> None:
    """With --json each command's standard output is one JSON document for a script to read."""
    plan = run("plan", source, target, *SMALL, "--json")
    assert plan.document["objects"] == 20
    assert plan.err == ""
    built = run("build", source, target, "--no-prefect", *SMALL, "--json")
    assert built.document["verified"] is True
    assert built.document["plan_digest"] == plan.document["digest"]
    assert [level["shape"] for level in built.document["levels"]] == [[64, 64], [32, 32]]
    status = run("status", target, "--json")
    assert status.document["finished"] is True
    verified = run("verify", target, "--json")
    assert verified.document["ok"] is True
    assert verified.document["target"] == str(target)
    assert {plan.status, built.status, status.status, verified.status} == {0}


def through_prefect(folder: Path, *arguments: object) -> Answer:
    """The installed command with a run page, in a process of its own."""
    from prefect.settings import PREFECT_API_URL

    done = subprocess.run(
        [Path(sys.executable).with_name("ngff-flows"), *map(str, arguments)],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_json_of_a_build_through_prefect(prefect_server: None, source: Path, target: Path) -> None:
    """Prefect's log goes to standard error, so the document stands alone with a run page too."""
    answer = through_prefect(
        source.parent, "build", source.name, target.name, "--chunks", "[[16], [16]]", "--json"
    )
    assert answer.status == 0, answer.err
    assert answer.document["verified"] is True
    assert answer.document["target"] == str(target)
    assert "Beginning flow run 'build-pyramid/out.ome.zarr'" in answer.err


@pytest.fixture
def running() -> Iterator[Any]:
    """A running cluster of one worker."""
    from ngff_core.build.distributed_compat import load_distributed

    with load_distributed().LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as local:
        yield local


def test_clusters_build_through_prefect(
    prefect_server: None,
    run: Command,
    source: Path,
    target: Path,
    running: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes started for it, and a cluster that runs already: the bytes of one process."""
    run("build", source, target, "--no-prefect", *SMALL)
    begun = source.with_name("begun.py")
    begun.write_text(f"import os\nopen({str(begun)!r} + f'-{{os.getpid()}}', 'w').close()\n")
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", str(begun))
    for name, where in (
        ("started", "--dask-workers=2"),
        ("running", f"--dask-address={running.scheduler_address}"),
    ):
        built = target.with_name(f"{name}.ome.zarr")
        answer = through_prefect(source.parent, "build", source, built, *SMALL, where)
        assert answer.status == 0, answer.err
        assert "20 regions written in " in answer.out
        assert "Task run 'level-0' - level-0: 16 regions in " in answer.err
        assert "Traceback" not in answer.err
        assert contents(built) == contents(target)
    assert len(list(source.parent.glob("begun.py-*"))) == 2
    assert running.scheduler.transition_counter >= 20


def test_run_page_shows_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run's page names can be found from any folder, and so can a worker's retry."""
    given: list[str] = []

    class Ended:
        state_details = SimpleNamespace(flow_run_id="7")

        def result(self) -> str:
            return "report"

    def flow(source: str, target: str, *_: object, **__: object) -> Ended:
        given.extend((source, target))
        return Ended()

    for name in ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    monkeypatch.setattr("flows.build_pyramid.build_pyramid", flow)
    monkeypatch.chdir(tmp_path)
    assert run_flow("image.npy", "gs://ward/out.ome.zarr", BuildOptions()) == ("report", "7")
    assert given == [str(tmp_path / "image.npy"), "gs://ward/out.ome.zarr"]


def test_refusal_by_prefect_is_a_line_too(
    prefect_server: None, tmp_path: Path, target: Path
) -> None:
    """A source that turns out to be broken is told in lines, not in a page of traceback."""
    broken = tmp_path / "broken.zarr"
    zarr.save_array(broken, np.arange(4096, dtype=np.uint16).reshape(64, 64))
    [chunk] = [path for path in (broken / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(b"not what zstd would write")
    answer = through_prefect(tmp_path, "build", broken, target)
    assert answer.status == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert answer.err.splitlines()[-1].startswith(f"ngff-flows: {broken}: cannot decode the box [")


@pytest.mark.parametrize("name", ["build", "plan", "status", "verify"])
def test_help_shows_an_example(run: Command, name: str) -> None:
    """Each command's help ends with a line that one can copy."""
    answer = run(name, "--help")
    assert answer.status == 0
    assert f"ngff-flows {name} " in answer.out.partition("Example")[2]


def test_help_lists_the_commands(run: Command) -> None:
    """Without a command one reads which there are."""
    answer = run("--help")
    assert answer.status == 0
    assert all(f" {name} " in answer.out for name in ("build", "plan", "status", "verify"))


@pytest.mark.parametrize("arguments", [("plan",), ("build", "--no-prefect")], ids=["plan", "build"])
def test_prefect_is_not_even_imported(
    source: Path, target: Path, arguments: tuple[str, ...]
) -> None:
    """What needs no run page does not wait the seconds that importing Prefect takes."""
    name, *rest = arguments
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "ngff_flows.cli.main",
            name,
            source,
            target,
            *rest,
            *SMALL,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    timed = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in timed}
    assert "ngff_core" in loaded
    assert not loaded & {"prefect", "fastapi", "sqlalchemy"}


# --- bad input -------------------------------------------------------------------------


def missing_source(folder: Path) -> tuple[object, ...]:
    return (folder / "nothing.tif",)


def text_file(folder: Path) -> tuple[object, ...]:
    (folder / "notes.txt").write_text("an image, I swear")
    return (folder / "notes.txt",)


def plain_folder(folder: Path) -> tuple[object, ...]:
    (folder / "photos").mkdir()
    return (folder / "photos",)


def truncated_tiff(folder: Path) -> tuple[object, ...]:
    tifffile.imwrite(folder / "cut.tif", np.arange(16384, dtype=np.uint16).reshape(128, 128))
    whole = (folder / "cut.tif").read_bytes()
    (folder / "cut.tif").write_bytes(whole[: len(whole) // 2])
    return (folder / "cut.tif",)


def truncated_npy(folder: Path) -> tuple[object, ...]:
    np.save(folder / "cut.npy", np.zeros((64, 64)))
    whole = (folder / "cut.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-100])
    return (folder / "cut.npy",)


def empty_file(folder: Path) -> tuple[object, ...]:
    (folder / "empty.tif").touch()
    return (folder / "empty.tif",)


def empty_array(folder: Path) -> tuple[object, ...]:
    np.save(folder / "empty.npy", np.zeros((0, 64), np.uint8))
    return (folder / "empty.npy",)


def empty_zarr(folder: Path) -> tuple[object, ...]:
    zarr.create_array(folder / "empty.zarr", shape=(64, 0), dtype="u1", chunks=(64, 1))
    return (folder / "empty.zarr",)


def refused_dtype(folder: Path) -> tuple[object, ...]:
    np.save(folder / "waves.npy", np.zeros((64, 64), np.complex64))
    return folder / "waves.npy", "--scale-factors", "2,", "--method", "itkwasm_label_image"


def dates(folder: Path) -> tuple[object, ...]:
    np.save(folder / "dates.npy", np.zeros((64, 64), "M8[s]"))
    return (folder / "dates.npy",)


def image(*options: str) -> Callable[[Path], tuple[object, ...]]:
    return lambda folder: (folder / "image.npy", *options)


BAD_INPUT = {
    "no such source": (missing_source, "nothing.tif: nothing is stored there"),
    "text file": (text_file, "accepted are a zarr array"),
    "folder of something else": (plain_folder, "a folder without zarr metadata"),
    "truncated TIFF": (truncated_tiff, "cut.tif"),
    "truncated npy": (truncated_npy, "cut.npy"),
    "empty file": (empty_file, "the file is empty"),
    "empty array": (empty_array, "holds no samples"),
    "empty zarr array": (empty_zarr, "holds no samples"),
    "dtype that the method refuses": (refused_dtype, "complex64 images: labels of this kind"),
    "dtype of no number": (dates, "are not numbers"),
    "unknown method": (
        image("--method", "mean"),
        "the methods are itkwasm_gaussian, itkwasm_bin_shrink, itkwasm_label_image",
    ),
    "factor of 0": (image("--scale-factors", "0,"), "0 is not positive"),
    "negative factor": (image("--scale-factors=-2"), "-2 is not positive"),
    "factors that do not grow": (image("--scale-factors", "4,2"), "factor 2 on "),
    "factor beyond the image": (image("--scale-factors", "128,"), "leaves nothing of its 64"),
    "factor on no axis": (image("--scale-factors", '[{"q": 2}]'), "'q' is not a spatial axis"),
    "factors of words": (image("--scale-factors", "two"), "nor JSON"),
    "factors of fractions": (image("--scale-factors", "[1.5]"), "1.5 is not a whole number"),
    "factors of broken JSON": (image("--scale-factors", "[2, 4"), "nor JSON"),
    "factors of nothing": (image("--scale-factors", ""), "nor JSON"),
    "factors with a gap": (image("--scale-factors", "2,,4"), "nor JSON"),
    "chunks of nothing": (image("--chunks", ""), "--chunks ''"),
    "chunk of 0": (image("--chunks", "0"), "0 on y is not positive"),
    "chunks for too many axes": (image("--chunks", "1,2,3,4"), "chunks"),
    "shards that chunks do not divide": (image("--chunks", "16", "--shards", "24"), "multiple"),
    "shards in 0.4": (image("--ome-zarr-version", "0.4", "--shards", "64"), "shards"),
    "unknown version": (image("--ome-zarr-version", "7"), "7"),
    "unknown compressor": (image("--compressor", "zip"), "'zip' is none of these"),
    "unknown use of the cache": (image("--cache", "maybe"), "auto, always, never"),
    "memory limit of no size": (image("--memory-limit", "plenty"), "such as 2GiB"),
    "memory limit below one region": (image("--memory-limit", "1MiB"), "1MiB is too little"),
}


@pytest.mark.usefixtures("no_run", "source")
@pytest.mark.parametrize("through", [(), ("--no-prefect",)], ids=["prefect", "no-prefect"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_at_once(
    run: Command, tmp_path: Path, target: Path, case: str, through: tuple[str, ...]
) -> None:
    """The caller's mistake is told in a line or two before anything is written: status 2."""
    make, words = BAD_INPUT[case]
    source, *options = make(tmp_path)
    before = contents(tmp_path)
    answer = run("build", source, target, *options, *through)
    assert_refused(answer, words)
    assert contents(tmp_path) == before


def assert_refused(answer: Answer, words: str) -> None:
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.startswith("ngff-flows: ")
    assert words in answer.err
    assert len(answer.err.splitlines()) <= 2
    assert "Traceback" not in answer.err


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("name", ["build", "plan"])
def test_target_of_somebody_else_is_not_touched(
    run: Command, tmp_path: Path, source: Path, target: Path, what: str, name: str
) -> None:
    """What ngff-flows has not built it does not overwrite unless asked to."""
    if what == "folder":
        target.mkdir()
        (target / "thesis.tex").write_text("four years of work")
    else:
        target.write_text("four years of work")
    before = contents(tmp_path)
    assert_refused(run(name, source, target), "was not built by ngff-flows")
    assert contents(tmp_path) == before


def test_overwrite_is_the_word(run: Command, source: Path, target: Path) -> None:
    """With --overwrite what was at the target goes, and the pyramid is there."""
    target.mkdir()
    (target / "old.txt").write_text("old")
    answer = run("build", source, target, "--no-prefect", "--overwrite", *SMALL)
    assert answer.status == 0
    assert not (target / "old.txt").exists()
    assert f"removing what is at {target}" in answer.err


def test_build_with_other_options_is_not_touched(
    run: Command, tmp_path: Path, source: Path, target: Path
) -> None:
    """Another build's plan at the target is a mistake, told with what differs."""
    run("build", source, target, "--no-prefect", *SMALL)
    before = contents(tmp_path)
    answer = run("build", source, target, "--method", "itkwasm_bin_shrink", *SMALL)
    assert_refused(answer, "method: itkwasm_gaussian there, itkwasm_bin_shrink now")
    assert contents(tmp_path) == before


def test_changed_source_is_not_mixed_in(
    run: Command, tmp_path: Path, source: Path, target: Path
) -> None:
    """A source that was replaced since is not built into the old one's pyramid."""
    run("build", source, target, "--no-prefect", *SMALL)
    np.save(source, np.ones((64, 64), np.uint8))
    before = contents(tmp_path)
    assert_refused(run("build", source, target, *SMALL), "has changed since")
    assert contents(tmp_path) == before


def test_source_and_target_must_be_apart(run: Command, tmp_path: Path, source: Path) -> None:
    """A pyramid inside its own source, or over it, is refused."""
    before = contents(tmp_path)
    assert_refused(run("build", source, source, "--overwrite"), "overlap")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("source_of", ["npy", "one strip of a tif"])
def test_memory_limit_names_the_need(
    run: Command, tmp_path: Path, target: Path, source_of: str
) -> None:
    """A limit below one region, or below one strip of the source, names what would do."""
    samples = np.zeros((4096, 4096), np.uint8)
    source = tmp_path / f"image.{source_of[-3:]}"
    if source_of == "npy":
        np.save(source, samples)
        given = ("plan", source, target)
    else:
        tifffile.imwrite(source, samples, compression="zlib", rowsperstrip=4096)
        given = ("plan", source, target, "--chunks", "64", "--shards", "64")
    answer = run(*given, "--memory-limit", "129MiB")
    assert_refused(answer, "129MiB is too little; one region of ")
    if source_of != "npy":
        assert "can only be decoded together" in answer.err
    need = answer.err.partition(" needs ")[2].partition("MiB")[0]
    assert run(*given, "--memory-limit", f"{need}MiB").status == 0
    assert run(*given, "--memory-limit", f"{int(need) - 1}MiB").status == 2


@pytest.mark.parametrize("name", ["status", "verify"])
def test_nothing_to_tell_of_a_target_without_a_build(
    run: Command, tmp_path: Path, name: str
) -> None:
    """To ask after a build that never was is the caller's mistake."""
    assert_refused(run(name, tmp_path / "typo.ome.zarr"), "has no build")
    assert contents(tmp_path) == {}


def test_damaged_plan_is_not_the_callers_mistake(run: Command, source: Path, target: Path) -> None:
    """Stored bytes that cannot be right end with status 1, and one line."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target.parent / "out.ome.zarr.build" / "plan.json").write_text("{")
    answer = run("status", target)
    assert answer.status == 1
    assert len(answer.err.splitlines()) == 1


def test_trouble_with_storage_says_that_one_may_go_on(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After network trouble the line says that the same command goes on: status 1."""

    def refuse(*_: object) -> None:
        raise ConnectionResetError("peer went away")

    monkeypatch.setattr(main, "run_build", lambda *_, **__: refuse())
    answer = run("build", source, target, "--no-prefect")
    assert answer.status == 1
    assert answer.err == "ngff-flows: peer went away; run the same command again to go on\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError(13, "Permission denied", "/ward/out"),
            "/ward/out: Permission denied; see",
        ),
        (
            OSError(30, "Read-only file system", "/ward/out"),
            "/ward/out: Read-only file system; see",
        ),
        (NotADirectoryError(20, "Not a directory", "/ward/out"), "/ward/out: Not a directory; a"),
        (OSError(28, "No space left on device", "/ward/out"), "left on device; make room"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_place_that_cannot_be_written_is_named(
    run: Command,
    source: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    words: str,
) -> None:
    """What the system refuses is a line with the path and what to do: status 1."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main, "run_build", refuse)
    answer = run("build", source, target, "--no-prefect")
    assert answer.status == 1
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


def test_unexpected_error_is_a_line(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own is told in a line too; the traceback is there for the asking."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(main, "run_build", fail)
    answer = run("build", source, target, "--no-prefect")
    assert answer.status == 1
    assert answer.err == (
        "ngff-flows: unexpected RuntimeError: two lines; "
        "run again with NGFF_FLOWS_TRACEBACK=1 for the whole story\n"
    )
    monkeypatch.setenv("NGFF_FLOWS_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main.main()


# --- interruptions ---------------------------------------------------------------------


def interrupting(monkeypatch: pytest.MonkeyPatch, phase: str, done: int) -> None:
    """The next build is interrupted, as by Ctrl-C, after so many regions of a phase."""

    @contextmanager
    def listening() -> Iterator[Listener]:
        lines = PlainLines()

        def listener(event: Event) -> None:
            lines(event)
            if isinstance(event, Advanced) and (event.phase, event.done) == (phase, done):
                raise KeyboardInterrupt

        yield listener

    monkeypatch.setattr(main, "listening", listening)


def test_status_of_an_interrupted_build(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C status tells what is done and that the same command goes on; it does."""
    with monkeypatch.context() as patched:
        interrupting(patched, "level-1", 2)
        answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 1
    assert answer.err.splitlines()[-1] == (
        "ngff-flows: interrupted; the same command goes on with what was done"
    )
    status = run("status", target, "--json").document
    level_0, level_1 = status["levels"]
    assert (level_0["total"], level_1["done"], level_1["total"]) == (16, 2, 4)
    assert not status["finished"]
    assert status["builder"] is None
    told = run("status", target).out
    assert "the same build command goes on with it" in told
    again = run("build", source, target, "--no-prefect", *SMALL, "--json")
    assert again.status == 0
    fresh = [level["fresh"] for level in again.document["levels"]]
    assert fresh == [16 - level_0["done"], 2]
    assert run("verify", target, "--deep").status == 0


def test_status_while_the_build_is_running(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status may be asked at any time, and names the process that is at work."""
    seen: list[Any] = []
    write = LocalFiles.write

    def look(store: LocalFiles, key: str, data: bytes) -> None:
        if key == "scale1/image/c/1/1":
            seen.append(main.build_status(target))
        write(store, key, data)

    monkeypatch.setattr(LocalFiles, "write", look)
    assert run("build", source, target, "--no-prefect", *SMALL).status == 0
    [status] = seen
    assert status.builder.pid == os.getpid()
    assert status.levels[0].done == 16
    assert not status.finished


# Each region of level 1 takes its time, so that a signal comes before the build's end.
SLOW = """
import time
from ngff_core.storage import LocalFiles
from ngff_flows.cli.main import main

write = LocalFiles.write
def slowly(store, key, data):
    if "scale1/" in key:
        time.sleep(1)
    write(store, key, data)
LocalFiles.write = slowly
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_stopped_process_leaves_what_it_did(
    run: Command, source: Path, target: Path, number: signal.Signals
) -> None:
    """Ctrl-C ends a build with status 1 and a line; SIGTERM ends it as it ends anything.
    Either way the same command finishes."""
    options = ("build", source, target, "--no-prefect", *SMALL)
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, options)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("level-1: "):
                process.send_signal(number)
                break
        rest = process.stderr.read()
    if number == signal.SIGINT:
        assert process.returncode == 1
        assert rest.splitlines()[-1].startswith("ngff-flows: interrupted; the same command goes on")
        assert "Traceback" not in rest
    else:
        assert process.returncode == -signal.SIGTERM
        assert rest == ""
    assert not (target / "zarr.json").exists()
    again = run(*options, "--json")
    assert again.status == 0
    # level 0 was perhaps just begun; a region of level 1 takes a second
    assert again.document["levels"][0]["fresh"] <= 16
    assert again.document["levels"][1]["fresh"] <= 4


# --- what a terminal shows -------------------------------------------------------------


@contextmanager
def terminal_as_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Standard error is a terminal; what it was told is in the list afterwards."""
    master, slave = os.openpty()
    told: list[bytes] = []

    def read() -> None:
        # Linux ends a terminal that nobody writes to any more with an error.
        try:
            while piece := os.read(master, 4096):
                told.append(piece)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    with monkeypatch.context() as patched:
        patched.setenv("TERM", "xterm")
        patched.setenv("COLUMNS", "100")
        with open(slave, "w") as stderr:
            patched.setattr(sys, "stderr", stderr)
            reader.start()
            yield told
    reader.join()
    os.close(master)


def test_terminal_shows_bars(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal each phase has a bar, full at the end."""
    with terminal_as_stderr(monkeypatch) as told:
        assert run("build", source, target, "--no-prefect", *SMALL).status == 0
    text = b"".join(told).decode()
    assert "━" in text
    assert "\x1b[" in text
    assert "16/16" in text
    assert "4/4" in text


def test_elsewhere_progress_is_plain_lines(run: Command, source: Path, target: Path) -> None:
    """In a log file there are no bars and no colours, but a line where a phase begins and ends."""
    answer = run("build", source, target, "--no-prefect", *SMALL)
    lines = answer.err.splitlines()
    # both levels are written side by side
    assert [line.partition(" in ")[0] for line in lines] == [
        "level-0: 16 regions",
        "level-1: 4 regions",
        "level-0: 16 regions",
        "level-1: 4 regions",
        "verify: 2 levels",
        "verify: 2 levels",
    ]
    assert "\x1b" not in answer.err + answer.out


# --- spelling --------------------------------------------------------------------------

lengths = st.integers(-(10**6), 10**6)
factors = st.lists(
    lengths | st.dictionaries(st.sampled_from("zyx"), lengths, min_size=1), min_size=1
)


@given(lengths)
def test_int_is_an_int(number: int) -> None:
    """One number is meant as one number."""
    assert parse_sizes("chunks", str(number)) == number
    assert parse_sizes("chunks", f" {number} ") == number


@given(st.lists(lengths, min_size=1))
def test_list_is_a_list(numbers: list[int]) -> None:
    """Numbers with commas are a list; a comma at the end makes a list of one."""
    text = ",".join(map(str, numbers))
    assert parse_sizes("chunks", f"{text},") == numbers
    if len(numbers) > 1:
        assert parse_sizes("chunks", text) == numbers
        assert parse_sizes("chunks", text.replace(",", ", ")) == numbers


@given(factors | st.dictionaries(st.sampled_from("tczyx"), lengths))
def test_json_is_json(value: Any) -> None:
    """Whatever a list or a mapping holds, JSON can spell it."""
    assert parse_sizes("scale-factors", json.dumps(value)) == value


@given(st.text())
def test_any_other_text_is_refused_with_the_options_name(text: str) -> None:
    """No text ends in a traceback: it is understood, or refused by the option's name."""
    with suppress(InvalidOptionError):
        assert isinstance(parse_sizes("shards", text), int | list | dict)
        return
    with pytest.raises(InvalidOptionError, match=r"^--shards "):
        parse_sizes("shards", text)


def test_option_that_was_not_given_stays_so() -> None:
    """No text means the default."""
    assert parse_sizes("chunks", None) is None


@pytest.mark.parametrize(
    ("option", "text", "key", "expected"),
    [
        ("--scale-factors", "2,4", "factor", [[1, 1], [2, 2], [4, 4]]),
        ("--scale-factors", '[{"y": 2}, 4]', "factor", [[1, 1], [2, 1], [4, 4]]),
        ("--chunks", "16,32", "chunks", [[16, 32]]),
        ("--chunks", '{"x": 8}', "chunks", [[64, 8]]),
        ("--chunks", "[[16, 16], [8]]", "chunks", [[16, 8]]),
        ("--shards", "64", "shards", [[64, 64]]),
    ],
)
def test_spelling_reaches_the_plan(
    run: Command, source: Path, target: Path, option: str, text: str, key: str, expected: Any
) -> None:
    """What one spells on the command line is what the plan says."""
    levels = run("plan", source, target, option, text, "--json").document["plan"]["levels"]
    assert [level[key] for level in levels[: len(expected)]] == expected
