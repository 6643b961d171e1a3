"""Encoded regions, held against what zarr itself writes."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import crc32c
import numpy as np
import pytest
import zarr
from zarr.errors import ChunkNotFoundError
from zarr.storage import MemoryStore

from ngff_core.blocks import BlockedArray
from ngff_core.errors import StoredDataError
from ngff_core.geometry import Region
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import open_level, store_region
from ngff_core.pyramid.publish import array_documents, create_arrays
from ngff_core.storage import ObjectStore, open_store
from tests.support import plans
from tests.support.passes import cut

Box = tuple[slice, ...]

plan_of = partial(plans.plan_of, scale_factors=[])


def samples_of(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Samples as a camera gives them, with an empty corner."""
    found = np.random.default_rng(1).normal(100, 30, shape).clip(0, 255).astype(dtype)
    found[tuple(slice(n // 2) for n in shape)] = 0
    return found


def written_by_zarr(plan: PyramidPlan, samples: np.ndarray) -> dict[str, bytes]:
    """Objects of level 0 as zarr stores them in one assignment, empty chunks and all."""
    store = MemoryStore()
    documents = {k: v for k, v in array_documents(plan).items() if k.startswith("scale0/image/")}
    for key, document in documents.items():
        store._store_dict[key] = zarr.core.buffer.cpu.Buffer.from_bytes(document)
    array = zarr.open_array(
        store,
        path="scale0/image",
        mode="r+",
        zarr_format=plan.zarr_format,
        config={"write_empty_chunks": True},
    )
    array[...] = samples
    return {
        key.removeprefix("scale0/image/"): buffer.to_bytes()
        for key, buffer in store._store_dict.items()
        if key not in documents
    }


def encoded(encoder: LevelEncoder, region: Region, samples: np.ndarray) -> dict[str, bytes]:
    """A region's objects, from the samples of the whole level."""
    return objects_of(encoder, region, BlockedArray.of(region, samples[region.slices]))[0]


def objects_of(
    encoder: LevelEncoder, region: Region, samples: BlockedArray
) -> tuple[dict[str, bytes], int]:
    """A region's objects, put together from their parts, and the checksum of its samples."""
    objects, before = {}, 0
    for at in encoder._level.object_positions(region):
        data = bytearray()
        found = encoder.encode(at, samples, data.extend, before)
        assert (found.size, found.crc32c) == (len(data), crc32c.crc32c(bytes(data)))
        objects[encoder.key(at)], before = bytes(data), found.samples_crc32c
    return objects, before


CUTS = [
    ("sharded", "zyx", (50, 70, 45), {"chunks": 16, "shards": 32}),
    ("one shard", "zyx", (20, 20, 20), {"chunks": 16}),
    ("shards of one chunk", "yx", (70, 45), {"chunks": 16, "shards": 16}),
    ("channels", "cyx", (3, 70, 45), {"chunks": 16, "shards": (2, 32, 32)}),
    ("v2", "zyx", (50, 70, 45), {"chunks": 16, "ome_zarr_version": "0.4"}),
    ("v2, five axes", "tczyx", (2, 2, 5, 20, 30), {"chunks": 8, "ome_zarr_version": "0.4"}),
]
CODECS = ["blosc:zstd:1:bitshuffle", "gzip:5", "none"]


# Codecs but for the default one, which shuffles bits, see no dtype.
@pytest.mark.parametrize(
    ("dtype", "compressor"),
    [*product(["<u2"], CODECS), *product(["|u1", "<f4", "|b1", "<c8"], CODECS[:1])],
)
@pytest.mark.parametrize(("name", "dims", "shape", "options"), CUTS, ids=[c[0] for c in CUTS])
def test_encoded_objects_are_those_that_zarr_writes(
    name: str,
    dims: str,
    shape: tuple[int, ...],
    options: dict[str, Any],
    compressor: str,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Byte for byte, region by region, at the edges and where all is zero too."""
    # gzip notes the time of day; ours never does.
    monkeypatch.setattr("gzip.time.time", lambda: 0.0)
    plan = plan_of(dims, shape, dtype, compressor=compressor, **options)
    level = plan.levels[0]
    samples = samples_of(shape, dtype)
    encoder = LevelEncoder(plan, level)
    ours: dict[str, bytes] = {}
    for index in range(level.regions):
        region = level.region(index)
        found = encoded(encoder, region, samples)
        assert not ours.keys() & found.keys()
        ours |= found
    assert ours == written_by_zarr(plan, samples)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("compressor", CODECS)
def test_the_same_samples_are_the_same_bytes_at_any_time(
    compressor: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gzip would note the time of day in every chunk."""
    plan = plan_of("yx", (40, 33), compressor=compressor, ome_zarr_version=version)
    level = plan.levels[0]
    samples = samples_of(level.shape, "<u2")
    found = []
    for now in (1e9, 2e9):
        monkeypatch.setattr("gzip.time.time", lambda now=now: now)
        found.append(encoded(LevelEncoder(plan, level), level.region(0), samples))
    assert found[0] == found[1]


def test_regions_may_be_encoded_in_any_order() -> None:
    """Each gives the same bytes again."""
    plan = plan_of("zyx", (50, 70, 45), chunks=16, shards=32)
    level = plan.levels[0]
    samples = samples_of(level.shape, "<u2")
    encoder = LevelEncoder(plan, level)
    regions = [level.region(index) for index in range(level.regions)]
    once = [encoded(encoder, region, samples) for region in regions]
    again = [encoded(encoder, region, samples) for region in reversed(regions)]
    assert again[::-1] == once


def chunks_as_stored(plan: PyramidPlan, region: Region, objects: dict[str, bytes]) -> list[Box]:
    """Boxes of a region's chunks in the order of their bytes, by the indices of its shards."""
    level = plan.levels[0]
    grid = [s // c for s, c in zip(level.write_unit, level.chunks, strict=True)]
    found = []
    for at in level.object_positions(region):
        data, cells = objects[plan.object_key(at)], list(np.ndindex(*grid))
        if level.shards is not None:
            table = np.frombuffer(data[-16 * len(cells) - 4 : -4], "<u8").reshape(-1, 2)
            cells = [cells[i] for i in np.argsort(table[:, 0]) if table[i, 1] != 2**64 - 1]
        for cell in cells:
            corner = zip(at, level.write_unit, cell, level.chunks, strict=True)
            start = [p * u + i * c for p, u, i, c in corner]
            found.append(tuple(slice(a, a + c) for a, c in zip(start, level.chunks, strict=True)))
    return found


@pytest.mark.parametrize("dtype", ["<u2", "|u1", "<f8", "<c8", "|b1"])
@pytest.mark.parametrize(("name", "dims", "shape", "options"), CUTS, ids=[c[0] for c in CUTS])
def test_the_checksum_is_that_of_the_chunks_as_they_are_stored(
    name: str, dims: str, shape: tuple[int, ...], options: dict[str, Any], dtype: str
) -> None:
    """One after another, those at the level's end filled up with zeros."""
    plan = plan_of(dims, shape, dtype, **options)
    level, samples = plan.levels[0], samples_of(shape, dtype)
    padded = np.zeros([n + u for n, u in zip(shape, level.write_unit, strict=True)], dtype)
    padded[tuple(map(slice, shape))] = samples
    encoder = LevelEncoder(plan, level)
    for index in range(level.regions):
        region = level.region(index)
        given = BlockedArray.of(region, samples[region.slices])
        order = chunks_as_stored(plan, region, encoded(encoder, region, samples))
        wanted = crc32c.crc32c(b"".join(padded[box].tobytes() for box in order))
        assert encoder.checksum(region, given) == wanted
        assert objects_of(encoder, region, given)[1] == wanted


@pytest.mark.parametrize("cell", [(16, 16, 16), (32, 32, 32), (8, 32, 16), (5, 7, 3), (64, 64, 64)])
@pytest.mark.parametrize("compressor", CODECS)
def test_the_arrays_that_samples_lie_in_make_no_difference(
    cell: tuple[int, ...], compressor: str
) -> None:
    """Neither to the objects nor to the checksum: chunks, parts and several of them."""
    plan = plan_of("zyx", (50, 70, 45), chunks=16, shards=32, compressor=compressor)
    level, samples = plan.levels[0], samples_of((50, 70, 45), "<u2")
    encoder = LevelEncoder(plan, level)
    for index in range(level.regions):
        region = level.region(index)
        apart = cut(region, samples[region.slices], cell)
        whole = BlockedArray.of(region, samples[region.slices])
        assert objects_of(encoder, region, apart) == objects_of(encoder, region, whole)
        assert encoder.checksum(region, apart) == encoder.checksum(region, whole)


@pytest.fixture
def store(memory_filesystem: object) -> ObjectStore:
    """An empty store in memory."""
    return open_store("memory://image.ome.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_receipt_says_what_was_stored(store: ObjectStore, version: str) -> None:
    """Key, size and checksum of each object, and the checksum of the samples."""
    plan = plan_of("yx", (40, 33), chunks=16, ome_zarr_version=version)
    level = plan.levels[0]
    samples = samples_of(level.shape, "<u2")
    create_arrays(store, plan)
    encoder = LevelEncoder(plan, level)
    for index in range(level.regions):
        region = level.region(index)
        part = samples[region.slices]
        given = BlockedArray.of(region, part)
        receipt = store_region(store, encoder, level, index, given)
        assert (receipt.region, receipt.samples_crc32c) == (index, encoder.checksum(region, given))
        positions = level.object_positions(region)
        assert [o.key for o in receipt.objects] == [plan.object_key(p) for p in positions]
        for stored in receipt.objects:
            data = store.read(f"{level.path}/{stored.key}")
            assert data is not None
            assert (stored.size, stored.crc32c) == (len(data), crc32c.crc32c(data))
        assert receipt.stored_bytes == sum(stored.size for stored in receipt.objects)
    np.testing.assert_array_equal(open_level(store, plan, level)[:], samples)


def test_samples_of_the_wrong_shape_are_never_stored(store: ObjectStore) -> None:
    """Zarr would spread them over the region."""
    plan = plan_of("yx", (40, 33))
    level = plan.levels[0]
    wrong = BlockedArray.of(level.region(0), np.zeros((1, 33), "u2"))
    with pytest.raises(StoredDataError, match=r"region 0 has shape \(1, 33\), not \(40, 33\)"):
        store_region(store, LevelEncoder(plan, level), level, 0, wrong)
    assert store.objects() == {}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_object_that_is_gone_does_not_read_as_background(
    store: ObjectStore, version: str
) -> None:
    """An error, not zeros."""
    plan = plan_of("yx", (40, 33), chunks=16, ome_zarr_version=version)
    level = plan.levels[0]
    create_arrays(store, plan)
    array = open_level(store, plan, level)
    with pytest.raises(ChunkNotFoundError):
        array[:]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_array_and_inner_group_has_its_document(version: str) -> None:
    """But not the root group, whose document makes the store an image."""
    plan = plan_of("yx", (64, 64), scale_factors=[2], ome_zarr_version=version)
    documents = array_documents(plan)
    if version == "0.5":
        expected = {f"scale{i}{part}/zarr.json" for i in range(2) for part in ("", "/image")}
        assert set(documents) == expected
    else:
        needed = {f"scale{i}{part}" for i in range(2) for part in ("/.zgroup", "/image/.zarray")}
        assert needed <= set(documents)
    assert not any("/" not in key for key in documents)
