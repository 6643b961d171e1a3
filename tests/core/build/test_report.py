"""What a build says of itself: sums over its levels, JSON values, and texts for people."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.build.report import (
    BuildReport,
    BuildStatus,
    LevelReport,
    LevelResult,
    PhaseStatus,
    RunStatistics,
    bytes_text,
    retries_text,
    shape_text,
    voxel_text,
)
from ngff_core.pyramid.inventory import Finding
from ngff_core.pyramid.verify import Verification
from ngff_core.sources.contract import ChunkCount
from tests.support.plans import plan_of

PLAN = plan_of("yx", (64, 64), method="itkwasm_gaussian", chunks=16, scale_factors=[2])


def level(index: int, **changes: Any) -> LevelReport:
    """The report of a level of PLAN of which this run wrote nothing, with changes to its result."""
    result = LevelResult(
        fresh=0,
        raw_bytes=8192 >> 2 * index,
        stored_bytes=4096 >> 2 * index,
        seconds=0.5,
    )
    return LevelReport(PLAN.levels[index], (1.0 * 2**index,) * 2, replace(result, **changes))


def report(
    *levels: LevelReport, verification: Verification | None = None, **run: Any
) -> BuildReport:
    """The report of a build of PLAN; ``run`` are fields of its RunStatistics."""
    return BuildReport(
        source="/data/a.tif",
        target="/data/a.ome.zarr",
        plan=PLAN,
        cached=False,
        levels=levels or (level(0), level(1)),
        verification=verification,
        run=RunStatistics(**({"seconds": 2.0} | run)),
    )


def test_a_report_sums_over_its_levels() -> None:
    found = report(level(0, fresh=3), level(1, fresh=4))
    assert (found.fresh, found.raw_bytes, found.stored_bytes) == (7, 8192 + 2048, 4096 + 1024)


def test_a_run_that_found_all_done_wrote_nothing() -> None:
    assert report().fresh == 0


def test_retries_are_those_of_the_levels_and_of_what_is_beside_them() -> None:
    """Sorted by kind, so that two reports compare as text."""
    found = report(
        level(0, retries={"503": 2, "429": 1}),
        level(1, retries={"503": 5}),
        retries_beside={"TimeoutError": 1, "429": 10},
    )
    assert list(found.retries.items()) == [("429", 11), ("503", 7), ("TimeoutError", 1)]
    assert report().retries == {}


def test_adding_up_retries_leaves_those_beside_the_levels_as_they_were() -> None:
    beside = {"429": 10}
    found = report(level(0, retries={"429": 1}), retries_beside=beside)
    assert found.retries == found.retries == {"429": 11}
    assert beside == {"429": 10}


@pytest.mark.parametrize(
    ("verification", "verified"),
    [
        (None, False),
        (Verification(False, 3, 10, ()), True),
        (
            Verification(False, 3, 10, (Finding("c/0", "missing"),)),
            False,
        ),
    ],
)
def test_verified_is_what_was_checked_without_a_finding(
    verification: Verification | None, verified: bool
) -> None:
    found = report(verification=verification)
    assert found.verified is verified
    assert found.to_dict()["verified"] is verified


def test_a_report_is_json_values() -> None:
    found = report(level(0, fresh=2, retries={"503": 2}), chunks=ChunkCount(9, 1))
    values = json.loads(json.dumps(found.to_dict()))
    assert values["levels"][0]["fresh"] == 2
    assert values["levels"][0]["shape"] == [64, 64]
    assert values["retries"] == {"503": 2}
    assert (values["source_chunks"], values["absent_chunks"]) == (9, 1)
    assert (values["verified"], values["verification"]) == (False, None)
    assert {"source", "target", "plan_digest", "cached", "seconds"} <= set(values)


def test_a_report_reads_its_plan() -> None:
    """Method, axes and layout are those of the plan, under their own names."""
    found = report()
    assert (found.method, found.ome_zarr_version) == ("itkwasm_gaussian", "0.5")
    assert (found.dims, found.units, found.dtype) == (("y", "x"), (None, None), "uint16")
    assert (found.compressor, found.plan_digest) == (PLAN.compressor, PLAN.digest)
    assert (found.source_chunks, found.absent_chunks) == (None, None)
    coarse = found.levels[1]
    assert (coarse.index, coarse.path, coarse.regions) == (1, "1", 1)
    assert (coarse.shape, coarse.chunks, coarse.shards) == ((32, 32), (16, 16), (32, 32))
    assert (coarse.factor, coarse.scale, coarse.seconds) == ((2, 2), (2.0, 2.0), 0.5)


def test_a_report_is_one_flat_document() -> None:
    """Scripts read ``--json``: names and their order stay, however the report is grouped."""
    values = report(verification=Verification(False, 3, 10, ())).to_dict()
    assert list(values) == [
        *("source", "target", "method", "ome_zarr_version", "dims", "units", "dtype"),
        *("compressor", "plan_digest", "cached", "levels", "verification", "seconds"),
        *("source_chunks", "absent_chunks", "retries_beside", "verified", "retries"),
        "about",
    ]
    assert list(values["levels"][0]) == [
        *("index", "path", "shape", "chunks", "shards", "factor", "scale", "regions"),
        *("fresh", "raw_bytes", "stored_bytes", "seconds", "retries"),
    ]
    assert list(values["verification"]) == ["deep", "regions", "objects", "findings", "listed"]


@pytest.mark.parametrize("value", [level(0), report(), PhaseStatus("a", 0, 1, (4,), 0)])
def test_a_report_does_not_change_any_more(value: Any) -> None:
    """A report that was handed out does not change later."""
    with pytest.raises(FrozenInstanceError):
        value.target = "other"


# ---------------------------------------------------------------- status


def status(*levels: tuple[int, int], published: bool) -> BuildStatus:
    """Of levels with so many regions done out of so many."""
    phases = tuple(
        PhaseStatus(f"level-{i}", done, total, (4, 4), 10) for i, (done, total) in enumerate(levels)
    )
    return BuildStatus("/a", "/b", "m", "d", phases, published, None)


@pytest.mark.parametrize(
    ("levels", "published", "finished"),
    [
        ([(4, 4), (1, 1)], True, True),
        ([(4, 4), (1, 1)], False, False),
        ([(4, 4), (0, 1)], True, False),
        ([(3, 4), (1, 1)], True, False),
        ([(0, 4), (0, 1)], False, False),
    ],
)
def test_a_build_is_finished_when_it_is_published_and_each_region_is_done(
    levels: list[tuple[int, int]], published: bool, finished: bool
) -> None:
    found = status(*levels, published=published)
    assert found.finished is finished
    values = json.loads(json.dumps(found.to_dict()))
    assert values["finished"] is finished
    assert [(p["done"], p["total"]) for p in values["levels"]] == levels
    assert values["builder"] is None


# ---------------------------------------------------------------- texts


def test_a_shape_names_its_axes() -> None:
    assert shape_text(("t", "z", "y"), (1, 20, 300)) == "t 1, z 20, y 300"
    with pytest.raises(ValueError, match="argument"):
        shape_text(("y", "x"), (1, 2, 3))


@pytest.mark.parametrize(
    ("dims", "scale", "units", "text"),
    [
        ("yx", (0.5, 0.25), ("micrometer", "micrometer"), "y 0.5, x 0.25 micrometer"),
        ("yx", (0.5, 0.25), (None, None), "y 0.5, x 0.25"),
        ("yx", (1e-7, 2.0), ("meter", None), "y 1e-07 meter, x 2"),
        ("yx", (1.0, 1.0), ("meter", "micrometer"), "y 1 meter, x 1 micrometer"),
        ("tcx", (2.0, 1.0, 3.0), ("second", None, "nanometer"), "x 3 nanometer"),
        ("zyx", (1.0, 2.0, 3.5), ("a", "a", "a"), "z 1, y 2, x 3.5 a"),
    ],
)
def test_a_voxel_is_described_by_its_spatial_axes(
    dims: str, scale: tuple[float, ...], units: tuple[str | None, ...], text: str
) -> None:
    """With one unit where they share it, else with each its own."""
    assert voxel_text(tuple(dims), scale, units) == text


def test_a_voxel_has_a_size_for_each_axis() -> None:
    with pytest.raises(ValueError, match="argument"):
        voxel_text(("y", "x"), (1.0,), (None, None))
    with pytest.raises(ValueError, match="argument"):
        voxel_text(("y", "x"), (1.0, 1.0), (None,))


@pytest.mark.parametrize(
    ("retries", "text"),
    [
        ({}, "none"),
        ({"503": 1}, "1 (503: 1)"),
        ({"429": 2, "503": 2, "408": 3}, "7 (408: 3, 429: 2, 503: 2)"),
        ({"b": 1, "a": 1}, "2 (a: 1, b: 1)"),
    ],
)
def test_retries_are_told_with_the_most_frequent_first(retries: Any, text: str) -> None:
    assert retries_text(retries) == text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        (5 * 2**40, "5.0 TiB"),
    ],
)
def test_bytes_are_told_in_the_largest_unit(nbytes: int, text: str) -> None:
    assert bytes_text(nbytes) == text


@given(st.integers(0, 2**55))
def test_a_number_of_bytes_is_told_to_a_tenth_of_its_unit(nbytes: int) -> None:
    number, unit = bytes_text(nbytes).split(" ")
    power = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].index(unit)
    assert abs(float(number) - nbytes / 1024**power) <= 0.05 + 1e-9
    assert float(number) < 1025
