"""The artifacts of a build: the report and the table of levels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import groupby
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from ngff_core import BuildReport, NgffImage, build_pyramid
from ngff_core.pyramid.inventory import Finding
from tasks.reporting import artifacts
from tasks.reporting.artifacts import artifact_key, report_markdown, viewer_links


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    """The report of a small build."""
    image = NgffImage(
        np.arange(3 * 64 * 48, dtype=np.uint16).reshape(3, 64, 48),
        dims=("c", "y", "x"),
        scale={"c": 1.0, "y": 0.5, "x": 0.5},
        axes_units={"y": "micrometer", "x": "micrometer"},
    )
    target = tmp_path_factory.mktemp("report") / "cells.ome.zarr"
    return build_pyramid(image, target, scale_factors=[2], chunks=16, ome_zarr_version="0.4")


def facts(markdown: str) -> dict[str, str]:
    """The table of a report."""
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    pairs = (row.strip("| ").split(" | ", 1) for row in rows)
    return {name: value.strip() for name, value in pairs}


def test_report_says_what_became_of_what(report: BuildReport) -> None:
    """The report begins with the verdict, then source, target, method, sizes."""
    markdown = report_markdown(report)
    assert markdown.startswith("# cells.ome.zarr\n\n| Verdict | verified: ")
    found = facts(markdown)
    regions = sum(level.regions for level in report.levels)
    assert report.verification is not None
    objects = report.verification.objects
    assert found["Verdict"].startswith(f"verified: {regions} regions in {objects} objects")
    assert found["Source"] == f"`{report.source}`"
    assert found["Target"] == f"`{report.target}`"
    assert found["Method"] == "`itkwasm_gaussian`"
    assert found["Image"] == "c 3, y 64, x 48 uint16"
    assert found["Format"] == "OME-Zarr 0.4, blosc:zstd:1:bitshuffle"
    assert found["Plan"] == f"`{report.plan_digest[:16]}`"
    assert f"{regions} regions written by this run" in found["Time"]
    assert "22.5 KiB raw" in found["Bytes"]


def test_report_is_a_table_that_markdown_understands(report: BuildReport) -> None:
    """The rows of each table have as many cells as its second line, which ends the header."""
    title, empty, *rest = report_markdown(report, chosen={"memory_limit": "a|b"}).splitlines()
    assert title.startswith("# ")
    assert empty == ""
    facts_of, levels_of = (
        [row.replace("\\|", "") for row in rows]
        for is_table, rows in groupby(rest, lambda line: line.startswith("|"))
        if is_table
    )
    assert facts_of[1] == "|---|---|"
    assert all(row.count("|") == 3 for row in facts_of)
    assert len(levels_of) == 2 + len(report.levels)
    assert {row.count("|") for row in levels_of} == {9}


def test_report_shows_size_and_time_of_each_level(report: BuildReport) -> None:
    """Shape, chunks, bytes, compression and seconds of each level are in the report itself."""
    # lines may break between axes only
    lines = report_markdown(report).replace("\N{NO-BREAK SPACE}", " ").splitlines()
    [coarse] = [line for line in lines if line.startswith("| 1 |")]
    level = report.levels[1]
    ratio = f"{level.raw_bytes / level.stored_bytes:.2f}"
    assert "| c 3, y 32, x 24 | c 1, y 16, x 16 | none |" in coarse
    assert coarse.endswith(f"| {ratio} | {level.regions} | {level.seconds:.1f} |")


def test_report_shows_the_options_that_were_chosen(report: BuildReport) -> None:
    """The report names the options that give the same pyramid again."""
    chosen = {"method": "itkwasm_gaussian", "scale_factors": [2], "cache": "never"}
    said = facts(report_markdown(report, chosen=chosen))["Options"]
    assert said == '`scale_factors=[2]`, `cache="never"`'
    assert facts(report_markdown(report))["Options"] == "the defaults"


def test_each_target_has_keys_of_its_own() -> None:
    """A run's artifact leads to the builds of its pyramid, and not to everybody's; the key is
    one that Prefect takes."""
    keys = {
        artifact_key("report", target)
        for target in ("gs://a/x.ome.zarr", "gs://b/x.ome.zarr", "/x/ü.zarr", "/x/" + "a b" * 99)
    }
    assert len(keys) == 4
    assert all(re.fullmatch("report(-[a-z0-9]+)+", key) for key in keys)
    assert artifact_key("report", "/x/a.zarr/") == artifact_key("report", "/x/a.zarr")


def test_report_shows_damage_and_what_to_do(report: BuildReport) -> None:
    """For a damaged pyramid the report says so in bold, with the command to run."""
    assert report.verification is not None
    damaged = replace(report.verification, findings=(Finding("0/0/0/0", "missing"),))
    found = facts(report_markdown(replace(report, verification=damaged)))
    assert found["Verdict"].startswith("**1 finding**: ")
    assert f"`ngff-flows verify --repair {report.target}`" in found["Verdict"]


def test_report_of_a_build_that_nobody_verified(report: BuildReport) -> None:
    """A report never claims what was not looked at."""
    found = facts(report_markdown(replace(report, verification=None)))
    assert found["Verdict"] == "not verified"


def test_report_shows_of_a_cache(report: BuildReport) -> None:
    """The report says that the source was copied first: it explains the time."""
    found = facts(report_markdown(replace(report, cached=True)))
    assert found["Source"].endswith("(through a cache)")


def test_report_shows_retries_by_kind_and_place(report: BuildReport) -> None:
    """None, or how many of what, and at which level."""
    assert facts(report_markdown(report))["Retries"] == "none"
    first = report.levels[0]
    first = replace(first, result=replace(first.result, retries={"429": 2, "503": 5}))
    run = replace(report.run, retries_beside={"503": 1})
    met = replace(report, levels=(first, *report.levels[1:]), run=run)
    found = facts(report_markdown(met))["Retries"]
    assert found == "8 (503: 6, 429: 2); 7 in level 0, 1 outside the levels"
    assert met.to_dict()["retries"] == {"429": 2, "503": 6}


def test_table_has_a_row_a_level(report: BuildReport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of levels has shape, size and place of each, with what this run wrote."""
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda **given: made.append(given))
    artifacts.show_levels(report)
    [table] = made
    assert table["key"] == artifact_key("levels", report.target)
    assert report.target in table["description"]
    assert [row["level"] for row in table["table"]] == [0, 1]
    assert [row["shape"] for row in table["table"]] == ["c 3, y 64, x 48", "c 3, y 32, x 24"]
    assert "y 1, x 1 micrometer" in table["table"][1]["voxel size"]
    assert [row["path"] for row in table["table"]] == [level.path for level in report.levels]
    assert all(row["written now"] == row["regions"] for row in table["table"])
    assert all(row["shards"] == "" for row in table["table"])
    assert [row["retries"] for row in table["table"]] == ["none", "none"]


def test_viewers_are_linked_only_where_browsers_can_read(report: BuildReport) -> None:
    """No link by default, none for a folder; three where a public address is given."""
    assert "View it" not in facts(report_markdown(report))
    assert "View it" not in facts(report_markdown(report, "derive"))
    linked = facts(report_markdown(report, "https://lab.example/cells.ome.zarr"))["View it"]
    assert (
        "(https://hms-dbmi.github.io/vizarr/?source=https://lab.example/cells.ome.zarr)" in linked
    )
    assert "(https://ome.github.io/ome-ngff-validator/?source=https://lab.example/" in linked
    assert linked.count("](https://") == 3


def test_neuroglancer_is_given_a_scene() -> None:
    """Its address contains JSON that names the format; it cannot read 0.6."""
    assert "Neuroglancer" not in viewer_links("gs://lab/a.ome.zarr", "0.6", "derive")
    for version, kind in (("0.4", "zarr2"), ("0.5", "zarr3")):
        link = viewer_links("gs://lab/a b.ome.zarr", version, "derive")["Neuroglancer"]
        head, _, scene = link.partition("#!")
        assert head == "https://neuroglancer-demo.appspot.com/"
        [layer] = json.loads(unquote(scene))["layers"]
        assert layer["source"] == f"https://storage.googleapis.com/lab/a%20b.ome.zarr/|{kind}:"
