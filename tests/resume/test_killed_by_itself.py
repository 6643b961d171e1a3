"""Killed at an exact operation: the same command again does the rest."""

from pathlib import Path

import pytest

from tests.resume.harness import (
    OLDER,
    Builders,
    BuildUndisturbed,
    Undisturbed,
    assert_resumes,
    assert_whole_or_no_image,
    is_image,
)

# An operation as the undisturbed build's log has it, which of those that begin so (from
# the end where negative), and when in its course the process dies.
Moment = tuple[str, int, str]

MOMENTS: dict[str, list[Moment]] = {
    "planning": [
        ("create beside:lease/000001.json", 0, "torn"),
        ("create beside:lease/000001.json", 0, "after"),
        ("create beside:plan.json", 0, "torn"),
        ("create beside:plan.json", 0, "twice named"),
        ("create beside:plan.json", 0, "after"),
    ],
    "cache": [
        ("write beside:cache/zarr.json", 0, "unnamed"),
        ("write beside:cache/c/", 3, "torn"),
        ("create beside:ledger/cache/segments/", 3, "before"),
        ("write beside:ledger/cache/complete.jsonl", 0, "after"),
    ],
    "level 0": [
        ("write target:0/zarr.json", 0, "torn"),
        ("write target:0/c/", 0, "torn"),
        ("write target:0/c/", 12, "unnamed"),
        ("create beside:ledger/0/segments/", 7, "torn"),
        ("create beside:ledger/0/segments/", 15, "after"),
    ],
    "compaction": [
        ("write beside:ledger/0/complete.jsonl", 0, "torn"),
        ("write beside:ledger/0/complete.jsonl", 0, "after"),
        ("delete_tree beside:ledger/0/segments", 0, "half"),
    ],
    "later levels": [
        ("write target:1/c/", 0, "torn"),
        ("create beside:ledger/1/segments/", 4, "before"),
        ("write beside:display/", 0, "torn"),
        ("write beside:display/", -1, "after"),
        ("write target:2/c/", -1, "after"),
        ("write beside:ledger/2/complete.jsonl", 0, "unnamed"),
    ],
    "publishing": [
        ("write beside:windows.json", 0, "torn"),
        ("write beside:windows.json", 0, "after"),
        ("write target:zarr.json", 0, "before"),
        ("write target:zarr.json", 0, "torn"),
        ("write target:zarr.json", 0, "unnamed"),
        ("write target:zarr.json", 0, "after"),
    ],
    "clean-up": [
        ("delete_tree beside:cache", 0, "half"),
        ("delete_tree beside:display", 0, "half"),
        ("delete_tree beside:ledger/cache", -1, "half"),
        ("write beside:lease/000001.json", 0, "before"),
    ],
}

CASES = [
    pytest.param(moment, id=f"{phase}: {moment[2]} {moment[0]}")
    for phase, moments in MOMENTS.items()
    for moment in moments
]


def _kill_at(
    builders: Builders, source: Path, target: Path, whole: Undisturbed, moment: Moment
) -> None:
    """Start the command and have it die at ``moment``."""
    operation, occurrence, how = moment
    n = whole.number_of(operation, occurrence)
    run = builders.run(source, target, **whole.job, die={"n": n, "how": how})
    assert run.killed, f"it ended with {run.code} instead of dying"
    assert run.operations == whole.run.operations[: n + 1]


@pytest.mark.parametrize("moment", CASES)
def test_resumes_after_a_kill(builders, source, undisturbed: BuildUndisturbed, tmp_path, moment):
    """I can pull the plug at any moment: running the command again does what remains."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    _kill_at(builders, source, target, whole, moment)
    assert_resumes(builders, source, target, whole)


@pytest.mark.parametrize(
    "moment",
    [
        ("write target:0/c/", 12, "after"),
        ("write beside:ledger/0/complete.jsonl", 0, "torn"),
        ("write target:1/c/", -1, "torn"),
    ],
)
def test_resumes_where_receipts_are_written_seconds_apart(
    builders, source, undisturbed, tmp_path, moment
):
    """With receipts written every few seconds, as by default, a kill costs those seconds."""
    # As slow a machine as this may write some in between; the kill comes before or after.
    whole = undisturbed(receipt_seconds=3600.0)
    target = tmp_path / "image.ome.zarr"
    _kill_at(builders, source, target, whole, moment)
    assert_resumes(builders, source, target, whole)


@pytest.mark.parametrize(
    "moment",
    [
        ("write target:0/", 30, "torn"),
        ("write target:.zattrs", 0, "before"),
        ("write target:.zattrs", 0, "torn"),
    ],
)
def test_resumes_where_a_region_is_many_objects(builders, source, undisturbed, tmp_path, moment):
    """OME-Zarr 0.4: a region of which some objects were written is written again, whole."""
    whole, target = undisturbed(**OLDER), tmp_path / "image.ome.zarr"
    _kill_at(builders, source, target, whole, moment)
    assert not is_image(target)
    assert_resumes(builders, source, target, whole)


def test_resumes_after_kill_upon_kill(builders, source, undisturbed, tmp_path):
    """Killed in every phase in turn, each time further on: still the same image."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    for n, how in ((0, "after"), (1, "torn"), (10, "after"), (40, "torn"), (25, "after")):
        run = builders.run(source, target, **whole.job, die={"n": n, "how": how})
        assert run.killed
        assert_whole_or_no_image(target, whole)
    assert_resumes(builders, source, target, whole)


def test_finished_is_finished(builders, source, undisturbed, tmp_path):
    """Once the image is there the same command writes nothing at all."""
    whole, target = undisturbed(), tmp_path / "image.ome.zarr"
    _kill_at(builders, source, target, whole, ("write beside:lease/000001.json", 0, "before"))
    run = assert_resumes(builders, source, target, whole)
    assert run.operations == []
    assert run.result["fresh"] == 0


def test_the_default_method_resumes(builders, source, undisturbed, tmp_path):
    """The Gaussian, whose windows reach into neighbours, ends the same after a kill."""
    whole = undisturbed(options={"method": "itkwasm_gaussian"})
    target = tmp_path / "image.ome.zarr"
    _kill_at(builders, source, target, whole, ("write target:1/c/", 4, "torn"))
    assert_resumes(builders, source, target, whole)
