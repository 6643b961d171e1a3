"""Building a pyramid: one answer, whatever way it is computed, and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import ome_zarr_models
import pytest
import tensorstore
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngff_core import (
    BuildReport,
    NgffImage,
    build_pyramid,
    build_status,
    check_build,
    verify_pyramid,
)
from ngff_core.config import config
from ngff_core.errors import (
    CallerError,
    InvalidOptionError,
    MemoryLimitError,
    SourceChangedError,
    SourceFormatError,
    SourceNotFoundError,
    StoredDataError,
    TargetExistsError,
    TargetNotFoundError,
    UnsupportedDtypeError,
)
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.progress import Advanced, Event, Finished, Started
from ngff_core.records.lease import Lease
from ngff_core.records.ledger import Ledger
from ngff_core.storage import Bucket, LocalFiles, open_store
from tests.support.folders import contents, dated_contents

BIN, GAUSSIAN, LABEL = "itkwasm_bin_shrink", "itkwasm_gaussian", "itkwasm_label_image"


def noise(shape: tuple[int, ...], dtype: str = "u2") -> np.ndarray:
    """Samples of which no two neighbours are alike."""
    return np.random.default_rng(3).integers(0, 251, shape).astype(dtype)


def binned(samples: np.ndarray, step: tuple[int, ...]) -> np.ndarray:
    """Mean of whole bins, rounded half up: in plain numpy, with integers alone."""
    kept = samples[tuple(slice(n // k * k) for n, k in zip(samples.shape, step, strict=True))]
    split = [m for n, k in zip(kept.shape, step, strict=True) for m in (n // k, k)]
    sums = kept.reshape(split).astype(np.int64).sum(axis=tuple(range(1, 2 * len(step), 2)))
    count = int(np.prod(step))
    return ((2 * sums + count) // (2 * count)).astype(samples.dtype)


def levels_at(target: Any, report: BuildReport) -> list[np.ndarray]:
    """The pixels of every level, as zarr reads them."""
    store = open_store(target)
    return [
        np.asarray(zarr.open_array(store.zarr(), path=level.path)[:]) for level in report.levels
    ]


def digests(levels: list[np.ndarray]) -> list[str]:
    """Digests of the bytes of levels."""
    return [hashlib.sha256(level.tobytes()).hexdigest() for level in levels]


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("dims", "shape", "factors", "steps"),
    [
        ("zyx", (33, 70, 53), [2, 4, 8], [(2, 2, 2)] * 3),
        (
            "zyx",
            (20, 61, 64),
            [{"y": 2, "x": 2}, {"y": 4, "x": 6}, {"z": 3, "y": 8, "x": 12}],
            [(1, 2, 2), (1, 2, 3), (3, 2, 2)],
        ),
        ("yx", (101, 97), [3, 6, 12], [(3, 3), (2, 2), (2, 2)]),
    ],
)
def test_bin_shrink_is_the_mean_of_each_bin_rounded_half_up(
    dims: str,
    shape: tuple[int, ...],
    factors: Any,
    steps: list[tuple[int, ...]],
    version: str,
    tmp_path: Path,
) -> None:
    """Three levels, each from the one before, against numpy; level 0 is the image itself."""
    expected = [noise(shape)]
    for step in steps:
        expected.append(binned(expected[-1], step))
    target = tmp_path / "image.ome.zarr"
    report = build_pyramid(
        NgffImage(expected[0], dims),
        target,
        method=BIN,
        scale_factors=factors,
        chunks=16,
        ome_zarr_version=version,
    )
    for found, wanted in zip(levels_at(target, report), expected, strict=True):
        np.testing.assert_array_equal(found, wanted, strict=True)


@pytest.mark.parametrize(
    ("dims", "shape"), [("yxc", (50, 40, 3)), ("tzyxc", (2, 9, 20, 22, 2)), ("xyz", (20, 22, 9))]
)
def test_axes_of_any_order_are_brought_into_order(
    dims: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    """t, c, z, y, x in the store; channels and times are never mixed."""
    samples = noise(shape, "u1")
    before = samples.copy()
    order = sorted(range(len(dims)), key=lambda i: "tczyx".index(dims[i]))
    wanted = samples.transpose(order)
    step = tuple(2 if dims[i] in "zyx" else 1 for i in order)
    target = tmp_path / "image.ome.zarr"
    report = build_pyramid(NgffImage(samples, dims), target, method=BIN, scale_factors=[2, 4])
    assert "".join(report.dims) == "".join(dims[i] for i in order)
    for found in levels_at(target, report):
        np.testing.assert_array_equal(found, wanted, strict=True)
        wanted = binned(wanted, step)
    np.testing.assert_array_equal(samples, before)


VOLUME = noise((20, 45, 50))
FACTORS = [2, {"z": 2, "y": 6, "x": 4}]


@pytest.fixture(scope="module")
def one_answer() -> dict[str, list[str]]:
    """Digests of the pixels of each method, built in one piece by one worker."""
    found = {}
    for method in (BIN, GAUSSIAN, LABEL):
        uri = f"memory://one-answer/{method}"
        report = build_pyramid(VOLUME, uri, method=method, scale_factors=FACTORS, workers=1)
        found[method] = digests(levels_at(uri, report))
        open_store("memory://one-answer").delete_tree()
    return found


class Shuffled:
    """An array that takes longer for some boxes, so that regions end in another order."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        time.sleep(hash(str(key)) % 7 / 1000)
        return self._array[key]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from([BIN, GAUSSIAN, GAUSSIAN, LABEL]),
    chunks=st.none() | st.tuples(*[st.integers(8, 40)] * 3),
    times=st.integers(1, 3),
    version=st.sampled_from(["0.4", "0.5"]),
    workers=st.integers(1, 4),
    cache=st.sampled_from(["always", "never", "auto"]),
    compressor=st.sampled_from(["none", "zstd:1", "blosc:lz4:1:shuffle"]),
    shuffle=st.booleans(),
)
def test_there_is_one_answer(
    method: str,
    chunks: tuple[int, ...] | None,
    times: int,
    version: str,
    workers: int,
    cache: Any,
    compressor: str,
    shuffle: bool,
    one_answer: dict[str, list[str]],
    memory_filesystem: Any,
) -> None:
    """The same bytes for any chunks, shards, workers, cache, codec, version and order."""
    sharded = version == "0.5" and chunks is not None
    chunks = chunks and tuple(min(c, n) for c, n in zip(chunks, VOLUME.shape, strict=True))
    report = build_pyramid(
        Shuffled(VOLUME) if shuffle else VOLUME,
        "memory://again/image.ome.zarr",
        method=method,
        scale_factors=FACTORS,
        chunks=chunks,
        shards=tuple(c * times for c in chunks or ()) if sharded else None,
        ome_zarr_version=version,
        workers=workers,
        cache=cache,
        compressor=compressor,
    )
    assert report.verified
    assert report.cached is (cache == "always")
    found = levels_at("memory://again/image.ome.zarr", report)
    memory_filesystem.store.clear()
    assert digests(found) == one_answer[method]


# ---------------------------------------------------------------- sources and targets


def as_zarr(samples: np.ndarray, folder: Path) -> Path:
    array = zarr.create_array(folder / "in.zarr", shape=samples.shape, chunks=(7, 16, 16),
                              dtype=samples.dtype)  # fmt: skip
    array[:] = samples
    return folder / "in.zarr"


@pytest.mark.parametrize("kind", ["numpy", "image", "dask", "zarr array", "zarr path", "npy path"])
@pytest.mark.parametrize("where", ["local", "memory"])
def test_every_kind_of_source_gives_the_same_pyramid(
    kind: str, where: str, tmp_path: Path, memory_filesystem: Any
) -> None:
    """In memory, lazy or stored; to a local folder or to a URI. The caller's stays as it is."""
    samples = VOLUME.copy()
    np.save(tmp_path / "in.npy", samples)
    source: Any = {
        "numpy": lambda: samples,
        "image": lambda: NgffImage(samples, "zyx"),
        "dask": lambda: da.from_array(samples, chunks=(6, 20, 20)),
        "zarr array": lambda: zarr.open_array(as_zarr(samples, tmp_path), mode="r"),
        "zarr path": lambda: as_zarr(samples, tmp_path),
        "npy path": lambda: str(tmp_path / "in.npy"),
    }[kind]()
    target = tmp_path / "out.ome.zarr" if where == "local" else "memory://out/out.ome.zarr"
    report = build_pyramid(source, target, method=BIN, scale_factors=[2])
    assert report.verified
    full, half = levels_at(target, report)
    np.testing.assert_array_equal(full, VOLUME, strict=True)
    np.testing.assert_array_equal(half, binned(VOLUME, (2, 2, 2)), strict=True)
    np.testing.assert_array_equal(samples, VOLUME)


def test_the_callers_image_is_as_it_was(tmp_path: Path) -> None:
    """Neither the pixels nor the axes of the caller's image are changed."""
    samples = noise((40, 30, 2))
    image = NgffImage(samples, "yxc", {"x": 0.5}, {"y": 1.0}, "cells", {"x": "micrometer"})
    before = {k: v for k, v in vars(image).items() if k != "data"}
    build_pyramid(image, tmp_path / "image.ome.zarr", method=BIN, scale_factors=[2])
    assert {k: v for k, v in vars(image).items() if k != "data"} == before
    assert image.data is samples
    np.testing.assert_array_equal(samples, noise((40, 30, 2)))


@pytest.mark.parametrize("shards", [None, 32])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("compressor", ["blosc:zstd:1:bitshuffle", "gzip:5", "none"])
def test_an_independent_reader_reads_the_same(
    version: str, shards: int | None, compressor: str, tmp_path: Path
) -> None:
    """Tensorstore shares no code with zarr-python; ome-zarr-models opens the group."""
    target = tmp_path / "image.ome.zarr"
    report = build_pyramid(
        VOLUME,
        target,
        method=BIN,
        scale_factors=[2, 4],
        chunks=16,
        shards=shards if version == "0.5" else None,
        ome_zarr_version=version,
        compressor=compressor,
    )
    expected = VOLUME
    for level in report.levels:
        opened = tensorstore.open(
            {
                "driver": "zarr" if version == "0.4" else "zarr3",
                "kvstore": {"driver": "file", "path": f"{target}/{level.path}/"},
            }
        ).result()
        np.testing.assert_array_equal(opened.read().result(), expected)
        expected = binned(expected, (2, 2, 2))
    group = zarr.open_group(target, mode="r", zarr_format=2 if version == "0.4" else 3)
    image: Any = ome_zarr_models.open_ome_zarr(group)
    found = image.ome_attributes if version == "0.5" else image.attributes
    assert len(found.multiscales[0].datasets) == 3


def test_what_the_image_says_of_its_axes_is_written(tmp_path: Path) -> None:
    """Name, scale, translation and units, at every level."""
    image = NgffImage(
        noise((40, 30)), "yx", {"x": 0.5, "y": 2.0}, {"x": 10.0}, "cells", {"x": "micrometer"}
    )
    target = tmp_path / "image.ome.zarr"
    report = build_pyramid(image, target, method=BIN, scale_factors=[4])
    (multiscale,) = json.loads((target / "zarr.json").read_bytes())["attributes"]["ome"][
        "multiscales"
    ]
    assert [level.path for level in report.levels] == ["0", "1"]
    assert multiscale["name"] == "cells"
    assert multiscale["axes"][1] == {"name": "x", "type": "space", "unit": "micrometer"}
    scale, translation = multiscale["datasets"][1]["coordinateTransformations"]
    assert scale["scale"] == [8.0, 2.0]
    assert translation["translation"] == [3.0, 10.75]


# ---------------------------------------------------------------- once and again

SMALL: dict[str, Any] = {"method": BIN, "scale_factors": [2], "chunks": 16, "shards": 16}


def test_the_second_call_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No region, no object, no file touched; and it says that all is done."""
    target = tmp_path / "image.ome.zarr"
    first = build_pyramid(VOLUME, target, **SMALL)
    assert first.fresh == sum(level.regions for level in first.levels)
    before = dated_contents(tmp_path)
    writes: list[str] = []
    for name in ("write", "create", "delete", "delete_tree"):
        monkeypatch.setattr(LocalFiles, name, lambda self, key="", *_: writes.append(key))
    events: list[Event] = []
    again = build_pyramid(VOLUME, target, **SMALL, progress=events.append)
    assert (again.fresh, again.verified, writes) == (0, True, [])
    assert dated_contents(tmp_path) == before
    assert again.plan_digest == first.plan_digest
    assert [(e.done, e.total) for e in events if isinstance(e, Started)][:2] == [(24, 24), (4, 4)]


@pytest.mark.parametrize(
    "other", [{"workers": 1}, {"memory_limit": "3GiB"}, {"cache": "always"}, {"cache": "never"}]
)
def test_what_does_not_decide_bytes_makes_no_other_build(
    other: dict[str, Any], tmp_path: Path
) -> None:
    """More workers or memory the next time, and it is the same build."""
    first = build_pyramid(VOLUME, tmp_path / "image.ome.zarr", **SMALL)
    again = build_pyramid(VOLUME, tmp_path / "image.ome.zarr", **SMALL, **other)
    assert (again.plan_digest, again.fresh) == (first.plan_digest, 0)


def test_layout_does_not_follow_from_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with other cores and memory plans the same bytes."""
    image = NgffImage(np.broadcast_to(np.uint16(0), (40, 700, 900)), "zyx")
    here = check_build(image, "memory://not-there").plan
    monkeypatch.setattr(config, "memory_target", 2**42)
    monkeypatch.setattr("ngff_core.plan.options.available_cores", lambda: 96)
    there = check_build(image, "memory://not-there").plan
    assert there == here


def test_a_build_leaves_image_plan_and_ledger(tmp_path: Path) -> None:
    """And the windows. The cache is gone; every sample's receipt is there, and adds up."""
    target = tmp_path / "image.ome.zarr"
    report = build_pyramid(VOLUME, target, **SMALL, cache="always")
    beside = tmp_path / "image.ome.zarr.build"
    found = {str(p.relative_to(beside)) for p in beside.rglob("*") if p.is_file()}
    assert {k for k in found if not k.startswith("lease/")} == {
        "plan.json",
        "windows.json",
        "ledger/0/complete.jsonl",
        "ledger/1/complete.jsonl",
    }
    plan = PyramidPlan.from_json((beside / "plan.json").read_bytes())
    assert plan.digest == report.plan_digest
    for level in plan.levels:
        ledger = Ledger(open_store(beside), str(level.index), plan.digest, level.regions).load()
        assert ledger.complete
        seen = np.zeros(level.shape, int)
        for receipt in ledger.receipts.values():
            seen[level.region(receipt.region).slices] += 1
            for stored in receipt.objects:
                assert (target / level.path / stored.key).stat().st_size == stored.size
        assert (seen == 1).all()


def test_progress_counts_up_to_the_total_of_every_phase(tmp_path: Path) -> None:
    """Cache, levels, verification; in this order, each from start to finish."""
    events: list[Event] = []
    build_pyramid(
        VOLUME, tmp_path / "image.ome.zarr", **SMALL, cache="always", progress=events.append
    )
    phases = [event.phase for event in events if isinstance(event, Started)]
    assert phases == ["cache", "level-0", "level-1", "verify"]
    for phase in phases:
        mine = [e for e in events if getattr(e, "phase", None) == phase]
        counts = [e.done for e in mine if isinstance(e, Advanced)]
        assert isinstance(mine[0], Started)
        assert counts == list(range(1, mine[0].total + 1))
        assert isinstance(mine[-1], Finished)
    nbytes = sum(e.nbytes for e in events if isinstance(e, Advanced) and e.phase == "level-0")
    assert nbytes == VOLUME.nbytes


def test_the_status_says_how_far_a_build_is(tmp_path: Path) -> None:
    """Finished, published, and by nobody any more."""
    target = tmp_path / "image.ome.zarr"
    with pytest.raises(TargetNotFoundError, match=r"image\.ome\.zarr has no build"):
        build_status(target)
    report = build_pyramid(VOLUME, target, **SMALL)
    status = build_status(target)
    assert (status.finished, status.published, status.builder) == (True, True, None)
    assert [(level.done, level.total) for level in status.levels] == [(24, 24), (4, 4)]
    assert sum(level.stored_bytes for level in status.levels) == report.stored_bytes
    json.dumps(status.to_dict())
    json.dumps(report.to_dict())


class Failing:
    """An array that a disk stops giving after some reads."""

    def __init__(self, array: np.ndarray, reads: int) -> None:
        self._array, self._left = array, reads
        self.shape, self.dtype = array.shape, array.dtype

    def __dask_tokenize__(self) -> str:
        return "the same samples"

    def __getitem__(self, key: Any) -> np.ndarray:
        self._left -= 1
        if self._left < 0:
            raise PermissionError("the disk is gone")
        return self._array[key]


@pytest.mark.parametrize("reads", [0, 1, 17, 23])
def test_a_failed_build_is_no_image_and_the_next_call_continues_it(
    reads: int, tmp_path: Path
) -> None:
    """What was done stays done: the next call writes the rest, with the same bytes."""
    target = tmp_path / "image.ome.zarr"
    with pytest.raises(PermissionError, match="the disk is gone"):
        build_pyramid(Failing(VOLUME, reads), target, **SMALL, workers=1)
    assert not (target / "zarr.json").exists()
    status = build_status(target)
    assert (status.published, status.levels[0].done) == (False, reads)
    report = build_pyramid(Failing(VOLUME, 24 - reads), target, **SMALL, workers=1)
    assert report.verified
    assert report.levels[0].fresh == 24 - reads
    full, half = levels_at(target, report)
    np.testing.assert_array_equal(full, VOLUME)
    np.testing.assert_array_equal(half, binned(VOLUME, (2, 2, 2)))


# ---------------------------------------------------------------- refusals

FILLED = {"method": BIN, "scale_factors": [2]}


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (VOLUME, {"method": "cubic"}, InvalidOptionError, "method: 'cubic'"),
        (VOLUME, {"chunks": 0}, InvalidOptionError, "chunks: 0"),
        (VOLUME, {"chunks": 2.5}, InvalidOptionError, "chunks: 2.5"),
        (VOLUME, {"shards": 7, "chunks": 4}, InvalidOptionError, "shards: 7"),
        (VOLUME, {"scale_factors": [2, 2]}, InvalidOptionError, "scale_factors, level 2"),
        (VOLUME, {"scale_factors": [999]}, InvalidOptionError, "leaves nothing"),
        (VOLUME, {"compressor": "rar"}, InvalidOptionError, "compressor: 'rar'"),
        (VOLUME, {"ome_zarr_version": "9"}, InvalidOptionError, "ome_zarr_version: '9'"),
        (VOLUME, {"workers": 0}, InvalidOptionError, "workers: 0"),
        (VOLUME, {"cache": "perhaps"}, InvalidOptionError, "cache: 'perhaps'"),
        (VOLUME, {"memory_limit": "much"}, InvalidOptionError, "memory_limit: 'much'"),
        (VOLUME, {"memory_limit": "1MiB"}, MemoryLimitError, "memory_limit: 1MiB .* needs"),
        (np.zeros((0, 4, 4), "u1"), {}, CallerError, "empty|no samples"),
        (np.zeros(50, "u1"), {}, InvalidOptionError, "two or three spatial axes"),
        (NgffImage(np.zeros((4, 5)), "tx"), {}, InvalidOptionError, "two or three spatial"),
        (VOLUME.astype("c8"), {"method": LABEL}, UnsupportedDtypeError, "complex64"),
        (VOLUME.astype("U3"), {}, SourceFormatError, "not numbers"),
        (np.zeros((2,) * 6, "u1"), {}, InvalidOptionError, "6 dimensions"),
        (object(), {}, InvalidOptionError, "source: a object cannot be read"),
        ("nothing/here.tif", {}, SourceNotFoundError, "nothing is stored"),
        ("nosuch://a/b", {}, InvalidOptionError, "nosuch://a/b"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict | str) else "",
)
def test_what_cannot_be_built_leaves_nothing_behind(
    source: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    """The caller's mistake is reported before the first write, by ``check_build`` alike."""
    target = tmp_path / "image.ome.zarr"
    with pytest.raises(error, match=message) as caught:
        build_pyramid(source, target, **FILLED | options)
    assert isinstance(caught.value, CallerError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("described", "offender"),
    [
        ({"scale": {"x": float("nan")}}, "scale: nan on x"),
        ({"scale": {"y": float("inf")}}, "scale: inf on y"),
        ({"scale": {"z": 0.0}}, "scale: 0.0 on z"),
        ({"scale": {"x": -1.0}}, "scale: -1.0 on x"),
        ({"translation": {"x": float("nan")}}, "translation: nan on x"),
        ({"translation": {"x": float("-inf")}}, "translation: -inf on x"),
    ],
    ids=str,
)
def test_a_position_that_metadata_cannot_hold_is_refused(
    described: dict[str, Any], offender: str, tmp_path: Path
) -> None:
    """JSON has no NaN, and no sample has a size of zero or below: refused before the work."""
    with pytest.raises(InvalidOptionError, match=offender):
        build_pyramid(NgffImage(VOLUME, **described), tmp_path / "image.ome.zarr", **FILLED)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    """Not even by overwriting: a folder without a zarr document is never emptied."""
    target = tmp_path / "image.ome.zarr"
    target.mkdir()
    (target / "thesis.txt").write_text("three years of work")
    before = dated_contents(tmp_path)
    for attempt in (check_build, build_pyramid):
        with pytest.raises(TargetExistsError, match="was not built by ngff-flows"):
            attempt(VOLUME, target)
    with pytest.raises(TargetExistsError, match=r"thesis\.txt, and not a zarr hierarchy"):
        build_pyramid(VOLUME, target, **SMALL, overwrite=True)
    assert dated_contents(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "target"),
    [("in.zarr", "in.zarr"), ("in.zarr", "in.zarr/pyramid"), ("folder/in.zarr", "folder")],
)
def test_source_and_target_must_lie_apart(source: str, target: str, tmp_path: Path) -> None:
    """Or a build would read what it writes; even overwriting does not allow it."""
    (tmp_path / source).parent.mkdir(exist_ok=True)
    path = as_zarr(VOLUME, (tmp_path / source).parent)
    before = dated_contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(InvalidOptionError, match="overlap"):
            build_pyramid(path, tmp_path / target, **FILLED, overwrite=overwrite)
    assert dated_contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"method": GAUSSIAN}, "method: itkwasm_bin_shrink there, itkwasm_gaussian now"),
        ({"scale_factors": [3]}, r"scale_factors: .*2, 2, 2.* there, .*3, 3, 3.* now"),
        ({"chunks": 8}, r"chunks: \(16, 16, 16\) there, \(8, 8, 8\) now"),
        ({"compressor": "none"}, "compressor: blosc.* there, none now"),
    ],
)
def test_other_options_at_a_target_are_named(
    changed: dict[str, Any], named: str, tmp_path: Path
) -> None:
    """Nothing of the first build is changed without ``overwrite``."""
    target = tmp_path / "image.ome.zarr"
    build_pyramid(VOLUME, target, **SMALL)
    before = dated_contents(tmp_path)
    with pytest.raises(TargetExistsError, match=named):
        build_pyramid(VOLUME, target, **SMALL | changed)
    assert dated_contents(tmp_path) == before
    report = build_pyramid(VOLUME, target, **SMALL | changed, overwrite=True)
    assert report.verified
    assert report.fresh == sum(level.regions for level in report.levels)
    assert verify_pyramid(target, deep=True).ok


def test_a_source_that_changed_is_refused(tmp_path: Path) -> None:
    """Half a pyramid of one image and half of another is never built."""
    source, target = tmp_path / "in.npy", tmp_path / "image.ome.zarr"
    np.save(source, VOLUME)
    os.utime(source, (1e9, 1e9))
    build_pyramid(source, target, **SMALL)
    before = dated_contents(tmp_path)
    os.utime(source, (2e9, 2e9))
    with pytest.raises(SourceChangedError, match=r"in\.npy has changed since .* was begun"):
        build_pyramid(source, target, **SMALL)
    os.utime(source, (1e9, 1e9))
    assert dated_contents(tmp_path) == before


def test_another_array_at_the_same_target_is_refused(tmp_path: Path) -> None:
    """An array in memory is known by its content."""
    target = tmp_path / "image.ome.zarr"
    build_pyramid(VOLUME, target, **SMALL)
    other = VOLUME.copy()
    other[0, 0, 0] += 1
    with pytest.raises(SourceChangedError):
        build_pyramid(other, target, **SMALL)


def test_a_damaged_plan_is_reported_and_can_be_overwritten(tmp_path: Path) -> None:
    """It is never built from."""
    target = tmp_path / "image.ome.zarr"
    build_pyramid(VOLUME, target, **SMALL)
    plan = tmp_path / "image.ome.zarr.build/plan.json"
    plan.write_bytes(plan.read_bytes()[:100])
    with pytest.raises(StoredDataError, match="the plan cannot be read"):
        build_pyramid(VOLUME, target, **SMALL)
    assert build_pyramid(VOLUME, target, **SMALL, overwrite=True).verified


@pytest.mark.usefixtures("memory_filesystem")
def test_a_check_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what a build would do, and what it would cost."""
    for name in ("write", "create", "delete", "delete_tree"):
        monkeypatch.setattr(Bucket, name, lambda *_: pytest.fail("something was written"))
    planned = check_build(VOLUME, "memory://check/image.ome.zarr")
    assert planned.target == "memory://check/image.ome.zarr"
    assert planned.plan.levels[0].shape == VOLUME.shape
    assert planned.projection.peak_bytes <= planned.projection.memory_limit
    json.dumps(planned.to_dict())


# ---------------------------------------------------------------- memory

MEASURE = """
import json, sys
import numpy as np
import ngff_core
from ngff_core.build.build import Build
from ngff_core import BuildOptions

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def reset():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

folder, method, source, workers = sys.argv[1:5]
imported = status("VmRSS")
tiny = np.zeros((8, 40, 40), "u2")
ngff_core.build_pyramid(tiny, f"{folder}/tiny.ome.zarr", method=method, scale_factors=[2])
baseline = status("VmRSS")
options = BuildOptions(method=method, workers=int(workers))
with Build.open(source, f"{folder}/out.ome.zarr", options) as build:
    cost = build.planned.projection
    phases = []
    work = [("cache", build.write_cache)] if build.cache_needed else []
    for level in build.plan.levels:
        work.append((f"level-{level.index}", lambda i=level.index: build.write_level(i)))
    work += [("publish", build.publish), ("verify", lambda: build.verify(deep=True))]
    for name, run in work:
        reset()
        before = status("VmRSS")
        run()
        phases.append((name, before - baseline, status("VmHWM") - baseline))
json.dump({
    "imported": imported, "baseline": baseline, "phases": phases, "in_flight": cost.in_flight,
    "projected": {p.phase: p.region_bytes * min(cost.in_flight, p.regions) for p in cost.phases},
    "peak": max(peak for _, _, peak in phases), "peak_bytes": cost.peak_bytes,
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 98 MiB on disk."""
    path = tmp_path_factory.mktemp("large") / "in.zarr"
    array = zarr.create_array(path, shape=(98, 512, 1024), chunks=(49, 256, 256), dtype="u2",
                              compressors=None)  # fmt: skip
    rng = np.random.default_rng(0)
    for z in range(0, 98, 49):
        array[z : z + 49] = rng.integers(0, 2**16, (49, 512, 1024), "u2")
    return path


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's own figures")
@pytest.mark.parametrize("method", [BIN, GAUSSIAN])
def test_memory_stays_within_what_was_projected(method: str, large: Path, tmp_path: Path) -> None:
    """Measured on a process that builds 98 MiB, over the same process at rest."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path), method, str(large), "2"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    mib = {k: found[k] / 2**20 for k in ("imported", "baseline", "peak", "peak_bytes")}
    text = (
        f"{method}: imports {mib['imported']:.0f} MiB, at rest {mib['baseline']:.0f}, "
        f"{found['in_flight']} in flight; grew by {mib['peak']:.0f} of {mib['peak_bytes']:.0f}"
    )
    lines = [text]
    for name, before, peak in found["phases"]:
        projected = found["projected"].get(name, 0) / 2**20
        lines.append(
            f"  {name}: {before / 2**20:.0f} before, {peak / 2**20:.0f} peak, "
            f"regions projected {projected:.0f}"
        )
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert found["peak"] <= found["peak_bytes"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_plain_file_at_the_target_is_never_replaced(tmp_path, overwrite):
    """A file where the pyramid belongs is refused: it may be the scan itself."""
    target = tmp_path / "a.ome.zarr"
    target.write_bytes(b"notes")
    with pytest.raises(TargetExistsError):
        build_pyramid(np.zeros((64, 64), np.uint8), target, overwrite=overwrite)
    assert contents(tmp_path) == {"a.ome.zarr": b"notes"}


@pytest.mark.parametrize("method", [BIN, GAUSSIAN])
def test_a_builder_that_finished_before_this_one_had_the_lease_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Both saw nothing at the target; the other had built it when this one got its lease."""
    image, target = noise((64, 64)), tmp_path / "image.ome.zarr"
    mine, enter = threading.current_thread(), Lease.__enter__

    def late(lease: Lease) -> Lease:
        if threading.current_thread() is mine:
            with ThreadPoolExecutor(1) as other:
                other.submit(build_pyramid, image, target, method=BIN).result()
        return enter(lease)

    monkeypatch.setattr(Lease, "__enter__", late)
    if method == BIN:
        assert build_pyramid(image, target, method=method).fresh == 0
    else:
        with pytest.raises(TargetExistsError, match="holds a build with other options"):
            build_pyramid(image, target, method=method)
    monkeypatch.undo()
    assert verify_pyramid(target).ok
