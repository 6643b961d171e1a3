"""The table that `make bench` prints: which side is divided by which, and what is said of gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pyramids.contest import Comparison, comparisons, contestants, duel, duel_rows
from benchmarks.pyramids.images import IMAGES, coefficients, photons
from benchmarks.pyramids.results import Results, rows

ROW = Comparison("3-D", "ours / copy", ("ours",), ("zarr", "tensorstore"), at_most=1.35)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Nothing measured yet."""
    return Results(tmp_path / "results.json", IMAGES["small"])


def test_the_fastest_of_a_side_counts_by_its_median(results: Results) -> None:
    results.runs = {
        "ours": {"seconds": [3.9, 4.0, 9.0]},
        "zarr": {"seconds": [5.0]},
        "tensorstore": {"seconds": [4.0] * 5},
    }
    (row,) = rows(results, [ROW])
    assert row.cells == (
        "3-D",
        "ours / copy",
        "4.00 s (of 3)",
        "4.00 s",
        "1.00",
        "≤ 1.35",
        "yes",
    )


def test_a_target_missed_is_said(results: Results) -> None:
    results.runs = {key: {"seconds": [s]} for key, s in (("ours", 2.0), ("zarr", 1.0))}
    assert [row.met for row in rows(results, [ROW])] == ["no"]


def test_a_contestant_that_failed_says_why_in_its_row(results: Results) -> None:
    results.runs = {
        "ours": {"seconds": [2.0]},
        "zarr": {"seconds": [], "failed": "zarr is not installed"},
    }
    (row,) = rows(results, [ROW])
    assert (row.other, row.ratio, row.met) == ("zarr is not installed; not run", "", "")


def test_results_are_kept_and_taken_up_again(results: Results) -> None:
    results.runs = {"ours": {"seconds": [2.0]}}
    results.save([])
    again = Results(results.path, IMAGES["small"])
    assert again.seconds("ours") == [2.0]
    assert Results(results.path, IMAGES["full"]).runs == {}
    assert Results(results.path, IMAGES["small"], fresh=True).runs == {}


def test_every_comparison_names_contestants_there_are() -> None:
    known = {c.key for c in contestants(IMAGES["full"])}
    assert {key for row in comparisons() for key in (*row.one, *row.other)} <= known


def test_neighbouring_boxes_of_an_image_fit_together() -> None:
    """The field goes on smoothly over the edge, and its samples depend on the box alone."""
    grid = coefficients((64, 64))
    left, right = ((slice(0, 64), slice(a, a + 32)) for a in (0, 32))
    near, beyond = photons(grid, left, 0), photons(grid, right, 1)
    assert (photons(grid, left, 0) == near).all()
    edge = np.abs(near[:, -2:].mean(axis=1) - beyond[:, :2].mean(axis=1))
    assert edge.mean() < 40


def test_a_duel_sets_this_checkout_beside_the_baseline(tmp_path: Path) -> None:
    """Each row divides our time by the baseline's; no other tool takes part."""
    found = duel(IMAGES["small"], tmp_path)
    assert {contestant.module for contestant in found} == {"ours", "our_flow"}
    keys = {contestant.key: contestant.checkout for contestant in found}
    for row in duel_rows():
        assert keys[row.one[0]] is None
        assert keys[row.other[0]] == tmp_path
    assert len(keys) == 2 * len(duel_rows())
