"""Verification: each kind of damage is found and named, and none where there is none."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import BuildReport, build_pyramid, verify_pyramid
from ngff_core.concurrency import run_bounded
from ngff_core.errors import MemoryLimitError, TargetNotFoundError
from ngff_core.plan.projection import PROCESS_BYTES
from ngff_core.progress import Advanced, Event, Finished, Started
from ngff_core.pyramid import verify
from ngff_core.pyramid.inventory import Finding
from tests.support.folders import contents

every_depth = pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])


@pytest.fixture(scope="module", params=["0.4", "0.5"])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BuildReport]:
    """A small pyramid of several objects, built once."""
    target = tmp_path_factory.mktemp("published") / "image.ome.zarr"
    samples = np.random.default_rng(0).integers(0, 1000, (40, 60, 50), "u2")
    report = build_pyramid(
        samples,
        target,
        method="itkwasm_bin_shrink",
        scale_factors=[2],
        chunks=16,
        shards=32 if request.param == "0.5" else None,
        ome_zarr_version=request.param,
    )
    return target, report


@pytest.fixture
def target(published: tuple[Path, BuildReport], tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    original = published[0]
    for name in (original.name, f"{original.name}.build"):
        shutil.copytree(original.parent / name, tmp_path / name)
    return tmp_path / original.name


@pytest.fixture
def is_v2(published: tuple[Path, BuildReport]) -> bool:
    """Whether the pyramid is OME-Zarr 0.4."""
    return published[1].ome_zarr_version == "0.4"


@pytest.fixture
def sample_key(is_v2: bool) -> str:
    """The key of one object of level 1, region 0."""
    return "1/0/0/0" if is_v2 else "1/c/0/0/0"


def findings(target: Path, deep: bool) -> tuple[Finding, ...]:
    """What verification finds at the target, which it must not change."""
    before = contents(target.parent)
    verification = verify_pyramid(target, deep=deep, workers=2)
    assert contents(target.parent) == before
    assert verification.deep is deep
    assert verification.ok is (not verification.findings)
    return verification.findings


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Rewrite a file."""
    path.write_bytes(edit(path.read_bytes()))


@every_depth
def test_nothing_is_found_where_nothing_is_wrong(target: Path, deep: bool) -> None:
    """Untouched, also when it was moved to another folder."""
    assert findings(target, deep) == ()


def test_the_report_of_a_build_says_it_was_verified(
    published: tuple[Path, BuildReport],
) -> None:
    """Every region counted, and every object."""
    target, report = published
    assert report.verified
    assert report.verification is not None
    assert report.verification.regions == sum(level.regions for level in report.levels)
    assert report.verification.objects == sum(p.is_file() for p in target.rglob("*"))


@every_depth
def test_a_missing_object_is_named(target: Path, sample_key: str, deep: bool) -> None:
    """With its level and region, once."""
    (target / sample_key).unlink()
    assert findings(target, deep) == (Finding(sample_key, "missing", 1, 0),)


@every_depth
def test_a_truncated_object_is_named_with_both_sizes(
    target: Path, sample_key: str, deep: bool
) -> None:
    """What is there, and what the ledger says."""
    size = (target / sample_key).stat().st_size
    change(target / sample_key, lambda data: data[:-1])
    what = f"{size - 1} bytes, {size} recorded"
    assert findings(target, deep) == (Finding(sample_key, what, 1, 0),)


@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_a_flipped_bit_is_found_by_a_deep_verification(
    target: Path, sample_key: str, where: float
) -> None:
    """At the beginning, in the middle, at the end; a shallow one reads no object."""

    def flip(data: bytes) -> bytes:
        at = int(where * (len(data) - 1))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    change(target / sample_key, flip)
    assert findings(target, deep=False) == ()
    assert findings(target, deep=True) == (Finding(sample_key, "its bytes have changed", 1, 0),)


def test_objects_of_another_build_are_found_by_reading(target: Path, sample_key: str) -> None:
    """Valid, of the same size, decoding without an error, and not what was written."""
    receipts = target.parent / f"{target.name}.build/ledger/1/complete.jsonl"
    header, row, *rest = receipts.read_text().splitlines()
    receipt = json.loads(row)
    receipt["samples"] ^= 1
    receipts.write_text("\n".join([header, json.dumps(receipt), *rest]) + "\n")
    expected = (Finding("1", "its samples have changed", 1, 0),)
    assert findings(target, deep=False) == ()
    assert findings(target, deep=True) == expected


@every_depth
@pytest.mark.parametrize("key", ["stray.txt", "1/stray", "9/c/0"])
def test_objects_that_are_not_of_this_build_are_named(target: Path, key: str, deep: bool) -> None:
    """Wherever it lies."""
    (target / key).parent.mkdir(parents=True, exist_ok=True)
    (target / key).write_bytes(b"x")
    assert findings(target, deep) == (Finding(key, "not of this build"),)


@every_depth
def test_changed_metadata_of_an_array_is_named(target: Path, is_v2: bool, deep: bool) -> None:
    """Though it is still valid, and reads."""
    key = "0/.zarray" if is_v2 else "0/zarr.json"
    document = json.loads((target / key).read_bytes())
    document["fill_value"] = 1
    (target / key).write_text(json.dumps(document))
    assert findings(target, deep) == (Finding(key, "not the plan's metadata"),)


@every_depth
def test_changed_metadata_of_the_group_is_named(target: Path, is_v2: bool, deep: bool) -> None:
    """A scale that is no longer the plan's."""
    key = ".zattrs" if is_v2 else "zarr.json"
    change(target / key, lambda data: data.replace(b"2.0", b"3.0"))
    assert findings(target, deep) == (Finding(key, "not the plan's metadata"),)


@every_depth
@pytest.mark.parametrize("edit", ["color", "removed", "incomplete"])
def test_how_channels_are_shown_is_the_users_to_change(
    target: Path, is_v2: bool, deep: bool, edit: str
) -> None:
    """In a viewer, also in one that writes less than OME-Zarr asks for; no field beside it."""
    path = target / (".zattrs" if is_v2 else "zarr.json")
    document = json.loads(path.read_bytes())
    attributes = document if is_v2 else document["attributes"]["ome"]
    if edit == "color":
        attributes["omero"]["channels"][0]["color"] = "123456"
    elif edit == "removed":
        del attributes["omero"]
    else:
        attributes["omero"] = {"channels": [{"color": "red"}]}
    path.write_text(json.dumps(document))
    assert findings(target, deep) == ()
    attributes["omeros"] = {}
    path.write_text(json.dumps(document))
    assert findings(target, deep) == (Finding(path.name, "not the plan's metadata"),)


def test_an_array_has_no_such_block(target: Path, is_v2: bool) -> None:
    """In its document, something of that name is a change as any other."""
    path = target / "0" / (".zarray" if is_v2 else "zarr.json")
    document = json.loads(path.read_bytes())
    if is_v2:
        document["omero"] = {}
    else:
        document["attributes"]["ome"] = {"omero": {}}
    path.write_text(json.dumps(document))
    (found,) = findings(target, deep=False)
    assert found.what == "not the plan's metadata"


@every_depth
def test_a_missing_group_document_is_named(target: Path, is_v2: bool, deep: bool) -> None:
    """And that the store is no image without it."""
    key = ".zattrs" if is_v2 else "zarr.json"
    (target / key).unlink()
    found = findings(target, deep)
    assert found[0] == Finding(key, "missing")
    assert [f.key for f in found] == [key, key]
    assert found[1].what.startswith("no valid OME-Zarr image: ")


@every_depth
def test_a_missing_array_document_is_named(target: Path, is_v2: bool, deep: bool) -> None:
    """Its level cannot be checked; the others are."""
    key = "1/.zarray" if is_v2 else "1/zarr.json"
    (target / key).unlink()
    found = findings(target, deep)
    assert found[0] == Finding(key, "missing")
    assert all("no valid OME-Zarr image" in f.what for f in found[1:])


@every_depth
def test_a_group_document_that_is_no_image_is_found_by_another_reader(
    target: Path, is_v2: bool, deep: bool
) -> None:
    """Valid zarr, and no valid OME-Zarr."""
    key = ".zattrs" if is_v2 else "zarr.json"
    change(target / key, lambda data: data.replace(b'"space"', b'"outer space"'))
    found = findings(target, deep)
    assert found[0] == Finding(key, "not the plan's metadata")
    assert found[1].key == key
    assert found[1].what.startswith("no valid OME-Zarr image: ")


@every_depth
def test_a_missing_receipt_is_named(target: Path, deep: bool) -> None:
    """Its objects belong to no receipt then."""
    receipts = target.parent / f"{target.name}.build/ledger/1/complete.jsonl"
    header, row, *rest = receipts.read_text().splitlines()
    receipts.write_text("\n".join([header, *rest]) + "\n")
    objects = {f"1/{key}" for key, _, _ in json.loads(row)["objects"]}
    found = findings(target, deep)
    assert found[0] == Finding("1", "a region has no receipt", 1, 0)
    assert set(found[1:]) == {Finding(key, "not of this build") for key in objects}


def test_several_damages_are_all_found(target: Path, sample_key: str) -> None:
    """The first does not hide the others."""
    (target / sample_key).unlink()
    (target / "stray").write_bytes(b"x")
    other = "0" + sample_key.removeprefix("1")
    change(target / other, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    found = {(f.key, f.what) for f in findings(target, deep=True)}
    assert found == {
        (sample_key, "missing"),
        ("stray", "not of this build"),
        (other, "its bytes have changed"),
    }


@every_depth
def test_progress_ends_with_everything_checked(target: Path, deep: bool) -> None:
    """Regions where they are read, levels where they are not."""
    events: list[Event] = []
    verification = verify_pyramid(target, deep=deep, progress=events.append)
    total = verification.regions if deep else 2
    assert events[0] == Started("verify", 0, total, "regions" if deep else "levels")
    counts = [event.done for event in events if isinstance(event, Advanced)]
    assert counts == list(range(1, total + 1))
    assert isinstance(events[-1], Finished)
    assert (events[-1].total, events[-1].fresh) == (total, total)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid of eight regions of 4 MiB, and one level above."""
    target = tmp_path_factory.mktemp("noise") / "image.ome.zarr"
    samples = np.random.default_rng(0).integers(0, 2**16, (256, 256, 256), "u2")
    options: dict[str, Any] = {"chunks": 64, "shards": 128, "scale_factors": [2]}
    assert build_pyramid(samples, target, method="itkwasm_bin_shrink", **options).verified
    return target


@pytest.mark.parametrize("regions", [1, 3])
def test_a_deep_verification_keeps_to_its_memory_limit(
    noise: Path, regions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many regions at a time as there is room for, however many workers there are."""
    at_once = []

    def spied(items: Any, work: Any, executor: Any, in_flight: int, on_done: Any) -> None:
        at_once.append(in_flight)
        run_bounded(items, work, executor, in_flight, on_done)

    monkeypatch.setattr(verify, "run_bounded", spied)
    limit = PROCESS_BYTES + regions * 16 * 2**20
    assert verify_pyramid(noise, deep=True, workers=8, memory_limit=limit).ok
    assert at_once == [regions, regions]


def test_a_region_beyond_the_memory_limit_is_refused(noise: Path) -> None:
    """With the numbers, before anything is read; a shallow verification needs no memory for it."""
    limit = PROCESS_BYTES + 15 * 2**20
    with pytest.raises(MemoryLimitError, match=r"143MiB is too little; .* of level-0 .* 144MiB"):
        verify_pyramid(noise, deep=True, memory_limit=limit)
    assert verify_pyramid(noise, memory_limit=limit).ok


def test_the_memory_of_a_deep_look_is_as_projected(noise: Path) -> None:
    """Traced, so that what the process has beside does not count."""
    verify_pyramid(noise)
    limit = PROCESS_BYTES + 2 * 16 * 2**20
    tracemalloc.start()
    try:
        assert verify_pyramid(noise, deep=True, workers=8, memory_limit=limit).ok
        assert 8 * 2**20 < tracemalloc.get_traced_memory()[1] < 36 * 2**20
    finally:
        tracemalloc.stop()


def test_where_nothing_was_built_there_is_nothing_to_verify(tmp_path: Path) -> None:
    """The error names the target."""
    with pytest.raises(TargetNotFoundError, match=r"nothing.ome.zarr has no build"):
        verify_pyramid(tmp_path / "nothing.ome.zarr")
