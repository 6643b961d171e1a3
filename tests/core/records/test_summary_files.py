"""Summaries in the build folder: what was counted is read again, anything else is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ngff_core.blocks import BlockedArray
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.sampling import Sampling
from ngff_core.records.build_folder import summary_key
from ngff_core.records.summary_files import SummaryFiles, remove_summaries
from tests.support.plans import plan_of
from tests.support.stores import WatchedStore

DTYPES = ("u1", "i2", "f4", "u8")


def made(folder: Path, dtype: str = "u2", **how: bool) -> SummaryFiles:
    """Of an image of two channels and 2 x 2 x 2 regions."""
    plan = plan_of("cyx", (2, 16, 16), f"<{dtype}", scale_factors=[], chunks=8, shards=8)
    files = SummaryFiles.of(WatchedStore(folder, **how), plan)
    assert files is not None
    return files


def samples(files: SummaryFiles, region: int) -> BlockedArray:
    box = files.sampling.level.region(region)
    noise = np.random.default_rng(region).integers(0, 200, box.shape)
    return BlockedArray.of(box, noise.astype(files.sampling.plan.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_process_reads_what_was_kept(tmp_path: Path, dtype: str) -> None:
    files = made(tmp_path, dtype)
    for region in files.sampling.regions:
        files.keep(region, samples(files, region))
    again = made(tmp_path, dtype)
    for region in files.sampling.regions:
        (expected,) = files.sampling.summaries(region, samples(files, region))
        for found in (files.read(region), again.read(region)):
            assert found is not None
            (summary,) = found
            assert summary.bins.tolist() == expected.bins.tolist()
            assert summary.counts.tolist() == expected.counts.tolist()
            assert (summary.low, summary.high) == (expected.low, expected.high)
            assert summary.window() == expected.window()


def test_its_own_are_not_read_from_the_store(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.keep(0, samples(files, 0))
    store = files._beside
    assert isinstance(store, WatchedStore)
    store.asked.clear()
    assert files.read(0) is not None
    assert store.asked == []


@pytest.mark.parametrize("damage", ["absent", "cut", "flipped", "empty", "of another region"])
def test_what_is_absent_or_damaged_is_not_used(tmp_path: Path, damage: str) -> None:
    files = made(tmp_path)
    for region in (0, 1):
        files.keep(region, samples(files, region))
    path = tmp_path / summary_key(0)
    data = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut": data[:-1],
                "flipped": data[:9] + bytes([data[9] ^ 1]) + data[10:],
                "empty": b"",
                "of another region": (tmp_path / summary_key(1)).read_bytes(),
            }[damage]
        )
    assert made(tmp_path).read(0) is None
    assert made(tmp_path).read(1) is not None


def test_those_of_another_plan_are_not_used(tmp_path: Path) -> None:
    """Nor is a region that is not looked at kept."""
    files = made(tmp_path)
    files.keep(0, samples(files, 0))
    assert made(tmp_path, "i2").read(0) is None
    files.keep(99, samples(files, 0))
    assert [path.name for path in (tmp_path / "display").iterdir()] == ["000000"]


@pytest.mark.parametrize("listed", [True, False])
def test_all_are_removed(tmp_path: Path, listed: bool) -> None:
    """By a listing, or as the plan names them."""
    files = made(tmp_path, listed=listed)
    for region in files.sampling.regions:
        files.keep(region, samples(files, region))
    files.remove()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files.read(0) is None


def test_without_a_plan_and_a_listing_nothing_is_removed(tmp_path: Path) -> None:
    files = made(tmp_path)
    files.keep(0, samples(files, 0))
    remove_summaries(WatchedStore(tmp_path, listed=False), None)
    assert made(tmp_path).read(0) is not None


def test_a_plan_without_samples_to_count_has_none(tmp_path: Path) -> None:
    plan: PyramidPlan = plan_of("yx", (64, 64), method="itkwasm_label_image", scale_factors=[2])
    assert Sampling.of(plan) is None
    assert SummaryFiles.of(WatchedStore(tmp_path), plan) is None
