"""Operations are counted: a build decodes its source once, and no level of its own."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ngff_core import NgffImage, build_pyramid, verify_pyramid
from ngff_core.build import level_writer
from ngff_core.build.build import Build
from ngff_core.build.level_writer import LevelWriter
from ngff_core.geometry import blocks_touched
from ngff_core.plan.options import BuildOptions
from ngff_core.pyramid import level_io
from ngff_core.sources import chunk_files
from ngff_core.storage import LocalFiles
from tests.support.doubles import Counted

METHODS = ["itkwasm_gaussian", "itkwasm_bin_shrink"]
SHAPE = (60, 70, 90)
IMAGES = [
    # shape, chunks and shards of the pyramid; the first two are whole multiples of both
    ((64, 64, 96), 16, 32),
    ((512, 640), 64, 128),
    ((60, 70, 90), 16, 32),
    ((500, 610), 64, 128),
]
every_image = pytest.mark.parametrize(
    ("shape", "own", "shards"), IMAGES, ids=["3-D", "2-D", "3-D, uneven", "2-D, uneven"]
)


@dataclass
class Reads:
    """What was read, by key, and what was decoded of levels of our own, by level."""

    keys: Counter[str] = field(default_factory=Counter)
    nbytes: int = 0
    own_chunks: Counter[str] = field(default_factory=Counter)

    def below(self, folder: Path) -> dict[str, int]:
        """Requests for chunks below a folder, by chunk."""
        start = f"{folder}/c/"
        return {k.removeprefix(start): n for k, n in self.keys.items() if k.startswith(start)}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Counts what is read of zarr arrays on the local disk, and what levels read back."""
    found, turn = Reads(), threading.Lock()

    def count(module: Any, name: str) -> None:
        inner = getattr(module, name)

        def get(path: Path, *rest: Any) -> Any:
            result = inner(path, *rest)
            # Several threads read, and adding is not one step.
            with turn:
                found.keys[str(path)] += 1
                found.nbytes += len(result) if "/c/" in str(path) else 0
            return result

        monkeypatch.setattr(module, name, get)

    # All of zarr's ways to a local file, synchronous or not, end in the first of these, and
    # all past zarr in the second.
    count(zarr.storage._local, "_get")
    count(chunk_files, "read_file")
    stored = level_io.stored_samples

    def counted(parent: Any, box: Any) -> Any:
        found.own_chunks[parent.path] += blocks_touched(box, parent.chunks)
        return stored(parent, box)

    for module in (level_io, level_writer):
        monkeypatch.setattr(module, "stored_samples", counted)
    return found


def source(folder: Path, shape: Any, chunks: Any) -> Path:
    samples = np.random.default_rng(5).integers(0, 2**16, shape, "u2")
    zarr.create_array(folder / "in.zarr", data=samples, chunks=chunks, compressors=None)
    return folder / "in.zarr"


@pytest.mark.parametrize("method", METHODS)
@every_image
@pytest.mark.parametrize("workers", [1, 3])
def test_the_source_is_decoded_once_and_no_level_is_read_back(
    method: str, shape: Any, own: int, shards: int, workers: int, tmp_path: Path, reads: Reads
) -> None:
    """In chunks that divide the regions: each is asked for once, for all levels together.

    So what is read is what is stored, to the byte. Of an image of whole chunks that is its
    size; of another it is more, since zarr stores the chunks at its edges whole.
    """
    path = source(tmp_path, shape, tuple(own // 2 for _ in shape))
    stored = sum(file.stat().st_size for file in (path / "c").rglob("*") if file.is_file())
    assert (stored == math.prod(shape) * 2) == all(n % own == 0 for n in shape)
    options = BuildOptions(
        method=method, scale_factors=[2, 4, 8], chunks=own, shards=shards, workers=workers
    )
    with Build.open(path, tmp_path / "out.zarr", options) as build:
        assert build.planned.projection.streamed == (1, 2, 3)
        assert not build.cache_needed
        for k in range(4):
            build.write_level(k)
        asked = reads.below(path)
        assert len(asked) == math.prod(-(-2 * n // own) for n in shape)
        assert set(asked.values()) == {1}
        assert reads.nbytes == stored
        assert not reads.own_chunks
        assert not any("out.zarr/" in k and "/c/" in k for k in reads.keys)
        build.publish()
        assert build.verify().ok
    assert reads.below(path) == asked


@pytest.mark.parametrize(
    ("shape", "chunks", "own", "shards"),
    [((60, 70, 90), (12, 16, 16), 16, 32), ((500, 610), (48, 64), 64, 128)],
    ids=["3-D", "2-D"],
)
def test_chunks_across_regions_are_decoded_as_often_as_was_projected(
    shape: Any, chunks: Any, own: int, shards: int, tmp_path: Path, reads: Reads
) -> None:
    """Once for each region that they reach into, and not again for any other level."""
    path = source(tmp_path, shape, chunks)
    options = BuildOptions(scale_factors=[2, 4], chunks=own, shards=shards, cache="never")
    with Build.open(path, tmp_path / "out.zarr", options) as build:
        for k in range(3):
            build.write_level(k)
        (cost, *_) = build.planned.projection.phases
    decoded = 0
    for key, times in reads.below(path).items():
        at = map(int, key.split("/"))
        inside = (min(c, n - i * c) for i, c, n in zip(at, chunks, shape, strict=True))
        decoded += times * math.prod(inside) * 2
    assert decoded == cost.bytes_read > math.prod(shape) * 2
    assert not reads.own_chunks


@pytest.mark.parametrize("method", METHODS)
@every_image
def test_an_array_is_asked_once_a_region_for_each_sample_once(
    method: str, shape: Any, own: int, shards: int, tmp_path: Path
) -> None:
    """As many readings as level 0 has regions."""
    counted = Counted(np.random.default_rng(5).integers(0, 2**16, shape, "u2"))
    image = NgffImage(counted, "zyx"[-len(shape) :])
    options: dict[str, Any] = {"scale_factors": [2, 3, 6], "chunks": own, "shards": shards}
    before = Counted(counted.array)
    report = build_pyramid(
        NgffImage(before, image.dims), tmp_path / "a.zarr", method=method, **options
    )
    # Computing the identity of an array in memory reads it too.
    extra = before.reads - report.levels[0].regions
    assert 0 <= extra <= 1
    assert before.times.max() <= 1 + extra


@pytest.mark.parametrize("method", METHODS)
def test_a_level_read_back_is_decoded_where_it_is_needed(
    method: str, tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a level whose children are all missing, each region once: no halo is read twice."""
    path = source(tmp_path, SHAPE, (16, 16, 16))
    options: dict[str, Any] = {"scale_factors": [2, 4], "chunks": 16, "shards": 32}

    class StoppedError(Exception):
        pass

    stored = LevelWriter.store

    def store(self: LevelWriter, region: int, samples: Any) -> Any:
        if self._level.index:
            raise StoppedError
        return stored(self, region, samples)

    with monkeypatch.context() as patch:
        patch.setattr(LevelWriter, "store", store)
        # Level 0 alone is written, as by a build that was killed; then the others.
        with pytest.raises(StoppedError):
            build_pyramid(path, tmp_path / "out.zarr", method=method, **options)
    assert not reads.own_chunks
    done = sum(1 for p in (tmp_path / "out.zarr/0/c").rglob("*") if p.is_file())
    report = build_pyramid(path, tmp_path / "out.zarr", method=method, **options)
    assert report.levels[0].fresh == report.levels[0].regions - done
    # Of level 0 each chunk once at most, so within 1.1 times its bytes; of the others none.
    level_0 = "0"
    assert set(reads.own_chunks) == {level_0}
    assert reads.own_chunks[level_0] <= min(done * 2**3, math.prod(-(-n // 16) for n in SHAPE))
    asked = reads.below(path)
    # But for regions that were loaded and not stored any more.
    assert sum(asked.values()) <= len(asked) + 2 * 8 * 4
    assert verify_pyramid(tmp_path / "out.zarr", deep=True).ok


def test_a_region_is_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object written for each, and none read, listed or looked at in between."""
    calls: Counter[str] = Counter()
    for name in ("read", "write", "info", "objects", "delete"):
        inner = getattr(LocalFiles, name)

        def call(self: Any, *given: Any, name: str = name, inner: Any = inner) -> Any:
            calls[name] += 1
            return inner(self, *given)

        monkeypatch.setattr(LocalFiles, name, call)
    image = np.random.default_rng(5).integers(0, 99, (64, 96, 96), "u1")
    options = BuildOptions(scale_factors=[2, 4], chunks=8, shards=16)
    with Build.open(image, tmp_path / "a.zarr", options) as build:
        build.write_level(0)  # arrays are created, and the others under way
        build.write_level(1)
        build.write_level(2)
        regions = build.plan.levels[0].regions + sum(lv.regions for lv in build.plan.levels[1:])
    documents = 20  # arrays, plan, receipts, lease
    assert regions <= calls["write"] <= regions + documents
    assert calls["read"] + calls["info"] + calls["objects"] + calls["delete"] <= documents
