"""Pictures open right: windows are measured while a pyramid is built, the same in every build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.common.omero import Omero

from ngff_core import BuildOptions, NgffImage, build_pyramid, repair_pyramid, verify_pyramid
from ngff_core.build import level_writer, planning
from ngff_core.build.build import Build
from ngff_core.plan import sampling
from ngff_core.pyramid import display
from tests.support.doubles import Counted
from tests.support.folders import contents, files

OPTIONS: dict[str, Any] = {
    "method": "itkwasm_bin_shrink",
    "chunks": 16,
    "shards": 32,
    "scale_factors": [2],
}
REGIONS = 4
"""Of the coarsest level, for each of two channels."""


def stack() -> Any:
    """Two channels as a 12-bit camera gives them."""
    noise = np.random.default_rng(3).gamma(2, 150, (2, 24, 98, 90))
    darkest = np.array([100, 40]).reshape(2, 1, 1, 1)
    return (noise + darkest).clip(0, 4095).astype("u2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """These samples as a zarr array."""
    array = zarr.create_array(tmp_path / "in.zarr", data=stack(), chunks=(1, 24, 32, 32))
    array.attrs["note"] = "two channels"
    return tmp_path / "in.zarr"


def options(**more: Any) -> dict[str, Any]:
    return {**OPTIONS, "dims": "czyx", **more}


def ome(target: Path) -> Any:
    if (target / ".zattrs").exists():
        return json.loads((target / ".zattrs").read_bytes())
    return json.loads((target / "zarr.json").read_bytes())["attributes"]["ome"]


def windows(target: Path) -> list[tuple[float, ...]]:
    """Of each channel: min, start, end, max."""
    names = ("min", "start", "end", "max")
    return [tuple(c["window"][n] for n in names) for c in ome(target)["omero"]["channels"]]


def beside(target: Path) -> Path:
    return target.with_name(f"{target.name}.build")


def coarsest(target: Path) -> Any:
    return np.asarray(zarr.open_array(target, path="1", mode="r")[:])


@pytest.fixture
def expected(source: Path, tmp_path: Path) -> Path:
    """The pyramid as one thread builds it undisturbed."""
    target = tmp_path / "expected.ome.zarr"
    assert build_pyramid(source, target, workers=1, **options()).verified
    return target


def test_windows_are_percentiles_of_the_coarsest_level(expected: Path) -> None:
    """And of what a 12-bit camera gives, not of all that 16 bits can hold."""
    level = coarsest(expected)
    for channel, found in zip(level, windows(expected), strict=True):
        start, end = np.percentile(channel, [1, 99.9], method="inverted_cdf")
        assert found == (channel.min(), start, end, channel.max())
        assert 40 <= found[1] < found[2] < 4095


@pytest.mark.parametrize("how", ["4 workers", "cache", "read back", "dask"])
def test_every_way_to_build_gives_the_same_documents(
    source: Path, expected: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In threads, through the cache, from a stored level, and on a cluster."""
    target = tmp_path / "again.ome.zarr"
    if how == "read back":
        inner: Any = vars(planning)["project"]
        monkeypatch.setattr(
            planning, "project", lambda *a, **k: inner(*a, **{**k, "stream": False})
        )
    ways: dict[str, dict[str, Any]] = {
        "4 workers": {"workers": 4},
        "cache": {"cache": "always"},
        "read back": {"workers": 1},
        "dask": {"dask_workers": 1},
    }
    assert build_pyramid(source, target, **options(**ways[how])).verified
    assert contents(target) == contents(expected)
    assert (beside(target) / "windows.json").read_bytes() == (
        beside(expected) / "windows.json"
    ).read_bytes()


class StoppedError(Exception):
    """The build ends here."""


@pytest.mark.parametrize("stored", range(2 * REGIONS))
@pytest.mark.parametrize("left", ["kept", "gone", "damaged"])
def test_an_interrupted_build_ends_with_the_same_documents(
    source: Path,
    expected: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored: int,
    left: str,
) -> None:
    """Whatever the regions stored before have left beside the target."""
    target = tmp_path / "again.ome.zarr"
    inner: Any = vars(level_writer)["store_region"]
    done = list[int]()

    def store(where: Any, encoder: Any, level: Any, region: int, samples: Any) -> Any:
        if level.index == 1 and len(done) == stored:
            raise StoppedError
        done.extend([region] if level.index == 1 else [])
        return inner(where, encoder, level, region, samples)

    monkeypatch.setattr(level_writer, "store_region", store)
    with pytest.raises(Exception) as failed:  # noqa: PT011 - wrapped in the level's error
        build_pyramid(source, target, workers=1, **options())
    assert isinstance(failed.value.__cause__ or failed.value, StoppedError)
    monkeypatch.undo()
    folder = beside(target) / "display"
    found = sorted(folder.iterdir())
    assert len(found) == stored + 1, "that of the region that failed is there before it"
    for path in found:
        if left == "gone":
            path.unlink()
        elif left == "damaged":
            path.write_bytes(path.read_bytes()[:-1])
    assert build_pyramid(source, target, workers=2, **options()).verified
    assert contents(target) == contents(expected)
    assert not list(folder.glob("*"))


@pytest.fixture
def measured_from_storage(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The boxes of the coarsest level that are read to measure windows."""
    read: list[Any] = []
    inner: Callable[..., Any] = vars(display)["stored_samples"]

    def stored_samples(array: Any, box: Any) -> Any:
        read.append(box)
        return inner(array, box)

    monkeypatch.setattr(display, "stored_samples", stored_samples)
    return read


def test_nothing_is_read_to_measure(
    tmp_path: Path, measured_from_storage: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No sample of the source twice, and no object of the coarsest level at all."""
    opened: list[str] = []
    inner = zarr.storage._local._get

    def get(path: Path, *rest: Any) -> Any:
        opened.append(str(path))
        return inner(path, *rest)

    monkeypatch.setattr(zarr.storage._local, "_get", get)
    source = Counted(stack())
    target = tmp_path / "a.ome.zarr"
    with Build.open(NgffImage(source, "czyx"), target, BuildOptions(**OPTIONS)) as build:
        before = source.times.copy()
        for level in build.plan.levels:
            build.write_level(level.index)
        build.publish()
        assert build.verify().ok
        build.clean()
    assert (source.times - before).max() == 1
    assert measured_from_storage == []
    assert not [path for path in opened if "1/c" in path]


def test_a_build_of_an_older_version_is_measured_as_it_is_published(
    source: Path, expected: Path, measured_from_storage: list[Any]
) -> None:
    """Each region of the coarsest level is read once, where nothing was kept of it."""
    whole = contents(expected)
    (expected / "zarr.json").unlink()
    (beside(expected) / "windows.json").unlink()
    assert build_pyramid(source, expected, **options()).verified
    assert contents(expected) == whole
    assert len(measured_from_storage) == 2 * REGIONS


def test_a_pyramid_of_an_older_version_stays_as_it_is(
    source: Path, expected: Path, measured_from_storage: list[Any]
) -> None:
    """Without the block and without windows it is finished, and whole."""
    document = json.loads((expected / "zarr.json").read_bytes())
    del document["attributes"]["ome"]["omero"]
    (expected / "zarr.json").write_text(json.dumps(document, indent=2))
    (beside(expected) / "windows.json").unlink()
    before = files(expected)
    report = build_pyramid(source, expected, **options())
    assert report.verified
    assert [level.result.fresh for level in report.levels] == [0, 0]
    assert verify_pyramid(expected, deep=True).ok
    assert repair_pyramid(expected).repaired == ()
    assert files(expected) == before
    assert measured_from_storage == []


def test_other_options_are_another_build(source: Path, expected: Path) -> None:
    """Overwriting removes windows and summaries of the pyramid that was there."""
    (beside(expected) / "display").mkdir()
    (beside(expected) / "display/000063").write_bytes(b"of another plan")
    other = options(scale_factors=[2, 4], overwrite=True)
    assert build_pyramid(source, expected, **other).verified
    kept = json.loads((beside(expected) / "windows.json").read_bytes())
    assert kept["digest"] == json.loads((beside(expected) / "plan.json").read_bytes())["digest"]
    assert not list((beside(expected)).glob("display/*"))


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_every_version_has_the_block(source: Path, tmp_path: Path, version: str) -> None:
    """As ome-zarr-models reads it."""
    target = tmp_path / "a.ome.zarr"
    chosen = options(ome_zarr_version=version, shards=None, channel_colors=["cyan", "FF8000"])
    assert build_pyramid(source, target, channel_names=["DAPI", "GFP"], **chosen).verified
    found = Omero.model_validate(ome(target)["omero"]).channels
    assert [c.color for c in found] == ["00FFFF", "FF8000"]
    assert [c["label"] for c in ome(target)["omero"]["channels"]] == ["DAPI", "GFP"]
    assert all(0 < c.window.start < c.window.end < 4095 for c in found)


def build(samples: Any, dims: str, folder: Path, **more: Any) -> Path:
    target = folder / "a.ome.zarr"
    chosen = {"method": "itkwasm_bin_shrink", "scale_factors": [2], **more}
    assert build_pyramid(NgffImage(samples, dims), target, **chosen).verified
    return target


def test_floats_are_shown_without_their_gaps(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0.5, 0.1, (200, 300)).astype("f4")
    samples[:40] = np.nan
    samples[50, 50] = np.inf
    ((low, start, end, high),) = windows(build(samples, "yx", tmp_path))
    assert -1 < low < start < 0.45
    assert 0.55 < end < high < 1


def test_an_image_without_a_finite_sample_is_published(tmp_path: Path) -> None:
    target = build(np.full((64, 64), np.nan, "f4"), "yx", tmp_path)
    assert windows(target) == [(0, 0, 1, 1)]
    (target / "zarr.json").unlink()
    assert repair_pyramid(target).ok


def test_labels_have_no_channels(tmp_path: Path) -> None:
    """By their method; nothing is counted."""
    samples = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    target = build(samples, "yx", tmp_path, method="itkwasm_label_image")
    assert "omero" not in ome(target)
    assert not (beside(target) / "windows.json").exists()


@pytest.mark.parametrize("dtype", ["c8", "?"])
def test_what_cannot_be_measured_is_shown_from_0_to_1(tmp_path: Path, dtype: str) -> None:
    samples = np.zeros((64, 64), dtype)
    target = build(samples, "yx", tmp_path, method="dask_image_nearest")
    assert windows(target) == [(0, 0, 1, 1)]


def test_of_a_large_level_no_more_is_counted_than_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every worker takes the same samples; windows are close to those of all samples."""
    monkeypatch.setattr(sampling, "MOST_REGIONS", 6)
    monkeypatch.setattr(sampling, "MOST_SAMPLES", 6 * 300)
    monkeypatch.setattr(sampling, "LEAST_OF_A_CHANNEL", 1)
    samples = np.random.default_rng(0).integers(1000, 2000, (320, 320)).astype("u2")
    found = []
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        target = build(
            samples, "yx", folder, scale_factors=[], chunks=16, shards=32, workers=workers
        )
        found.append((target / "zarr.json").read_bytes())
    assert found[0] == found[1]
    ((low, start, end, high),) = windows(target)
    assert 1000 <= low <= start < 1040
    assert 1960 < end <= high < 2000
