"""The command `ngff-flows`: results, exit status and help."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import zarr

from ngff_core import BuildOptions
from ngff_core.plan.options import describe_options
from ngff_flows.cli import main
from tests.support.command import SMALL, Command, assert_refused
from tests.support.folders import contents


def test_build_makes_a_pyramid(run: Command, source: Path, target: Path) -> None:
    """A build ends with a table of levels, the target and the verdict; progress is on stderr."""
    answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 0
    header, level_0, level_1, *notes, where, verdict = answer.out.splitlines()
    assert notes[0].startswith("assumed: the file does not name all axes")
    assert notes[1].startswith("unknown: the size of a sample along y, x")
    assert header.split()[:2] == ["level", "shape"]
    assert level_0.startswith("0      y 64, x 64")
    assert level_1.startswith("1      y 32, x 32")
    assert where == str(target)
    assert verdict.startswith("20 regions written in ")
    assert "; verified: 20 regions and " in verdict
    assert answer.err.splitlines()[0] == "level-0: 16 regions"
    assert zarr.open_group(target, mode="r")["1"].shape == (32, 32)


def test_same_command_again_has_nothing_to_do(run: Command, source: Path, target: Path) -> None:
    """A finished build that is run again reports that nothing was left, and writes nothing."""
    run("build", source, target, "--no-prefect", *SMALL)
    before = contents(target)
    answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 0
    assert "nothing was left to write in " in answer.out
    assert contents(target) == before


def test_plan_shows_the_build_and_writes_nothing(run: Command, source: Path, target: Path) -> None:
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
    (target / "0/c/1/2").unlink()
    (target / "1/c/0/1").write_bytes(b"short")
    answer = run("verify", target)
    assert answer.status == 1
    missing, short, verdict = answer.out.splitlines()
    assert missing == "0/c/1/2: missing"
    assert short.startswith("1/c/0/1: 5 bytes, ")
    assert verdict == f"{target}: 2 findings: it differs from its plan and checksums"


def test_repair_restores_damaged_objects(run: Command, source: Path, target: Path) -> None:
    """One line for each repaired object; afterwards the pyramid verifies."""
    run("build", source, target, "--no-prefect", *SMALL)
    before = contents(target)
    (target / "0/c/1/2").unlink()
    answer = run("verify", target, "--repair")
    assert answer.status == 0
    assert answer.out.splitlines()[0] == "0/c/1/2: missing: repaired"
    assert "1 repaired, 0 not repaired; verified: " in answer.out.splitlines()[1]
    assert contents(target) == before
    assert run("verify", target, "--repair", "--json").document["repaired"] == []


def test_repair_reports_what_it_cannot_repair(run: Command, source: Path, target: Path) -> None:
    """Without its source level 0 stays damaged: status 1, and why."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target / "0/c/1/2").unlink()
    source.unlink()
    answer = run("verify", target, "--repair")
    assert answer.status == 1
    line, verdict = answer.out.splitlines()
    assert line.startswith("0/c/1/2: missing: ")
    assert str(source) in line
    assert "0 repaired, 1 not repaired; 1 finding" in verdict


def test_deep_verify_finds_a_flipped_bit(run: Command, source: Path, target: Path) -> None:
    """Damage that leaves the size alone is found where every object is read."""
    run("build", source, target, "--no-prefect", *SMALL)
    damaged = target / "0/c/3/3"
    stored = bytearray(damaged.read_bytes())
    stored[len(stored) // 2] ^= 1
    damaged.write_bytes(stored)
    assert run("verify", target).status == 0
    answer = run("verify", target, "--deep", "--json")
    assert answer.status == 1
    assert [finding["key"] for finding in answer.document["findings"]] == ["0/c/3/3"]
    assert answer.document["ok"] is False


def test_damaged_build_fails(run: Command, source: Path, target: Path) -> None:
    """A finished build whose objects were damaged since fails."""
    run("build", source, target, "--no-prefect", *SMALL)
    (target / "0/c/1/2").unlink()
    answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 1
    assert "1 finding: it differs from its plan and checksums" in answer.out
    assert answer.err.splitlines()[-2:] == [
        "First finding:  0/c/1/2: missing",
        f"All findings:   ngff-flows verify {target}",
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


@pytest.mark.parametrize("name", ["build", "plan"])
def test_help_shows_every_option_of_a_build(
    run: Command, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the text, and the default, that the Prefect form and the docstrings show."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 1000)
    shown = " ".join(run(name, "--help").out.split())
    for each in fields(BuildOptions):
        option = describe_options()[each.name]
        assert f"--{each.name.replace('_', '-')} " in shown
        assert option.help in shown
        switched_on = each.default is True
        default = option.default_text or ("on" if switched_on else each.default)
        assert default in (None, False) or f"[default: {default}]" in shown


def test_module_is_the_command() -> None:
    """`python -m ngff_flows` does what `ngff-flows` does."""
    done = subprocess.run(
        [sys.executable, "-m", "ngff_flows", "--help"], capture_output=True, text=True, check=True
    )
    assert "Turn microscopy and medical images into OME-Zarr pyramids." in done.stdout


def test_wrong_setting_is_refused_before_anything_else(
    run: Command, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any command, in a line that names the variable: status 2."""
    monkeypatch.setenv("NGFF_LEASE_SECONDS", "soon")
    monkeypatch.setattr(main, "config", type(main.config)())
    answer = run("status", target)
    assert_refused(answer, "ngff-flows: NGFF_LEASE_SECONDS: 'soon' is not accepted; use a number")


@pytest.mark.parametrize("arguments", [("plan",), ("build", "--no-prefect")], ids=["plan", "build"])
def test_prefect_is_not_even_imported(
    source: Path, target: Path, arguments: tuple[str, ...]
) -> None:
    """Commands without a run page do not wait the seconds that importing Prefect takes."""
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
