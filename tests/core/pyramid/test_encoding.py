"""Encoded regions, compared with what zarr itself writes."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from typing import Any

import crc32c
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from ngff_core.blocks import BlockedArray
from ngff_core.geometry import Region
from ngff_core.memory import ScratchBuffer
from ngff_core.plan.compressors import PART_BYTES, encoded_bound
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.pyramid import encoding
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.publish import array_documents
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
    documents = {k: v for k, v in array_documents(plan).items() if k.startswith("0/")}
    for key, document in documents.items():
        store._store_dict[key] = zarr.core.buffer.cpu.Buffer.from_bytes(document)
    array = zarr.open_array(
        store,
        path="0",
        mode="r+",
        zarr_format=plan.zarr_format,
        config={"write_empty_chunks": True},
    )
    array[...] = samples
    return {
        key.removeprefix("0/"): buffer.to_bytes()
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
    """Byte for byte, region by region, also at the ends of the level and where all is zero."""
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
    """One after another, those at the end of the level padded with zeros."""
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


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_chunk_is_stored_in_its_full_shape(version: str) -> None:
    """Those at the end of the level are padded with zeros; those beyond it are not stored."""
    plan = plan_of("yx", (20, 37), chunks=16, compressor="none", ome_zarr_version=version)
    level = plan.levels[0]
    samples = np.arange(20 * 37, dtype="<u2").reshape(20, 37) + 1
    padded = np.zeros((32, 48), "<u2")
    padded[:20, :37] = samples
    region = level.region(0)
    objects = encoded(LevelEncoder(plan, level), region, samples)
    chunks = {box: padded[box].tobytes() for box in chunks_as_stored(plan, region, objects)}
    assert len(chunks) == 6
    if version == "0.4":
        assert list(objects.values()) == list(chunks.values())
    else:
        # Each chunk is followed by its checksum, the shard ends with the index.
        (shard,) = objects.values()
        stored = [chunk + crc32c.crc32c(chunk).to_bytes(4, "little") for chunk in chunks.values()]
        assert shard.startswith(b"".join(stored))
        cells = math.prod(s // c for s, c in zip(level.write_unit, level.chunks, strict=True))
        assert len(shard) == len(b"".join(stored)) + 16 * cells + 4


def test_padding_is_zero_after_a_full_chunk_in_the_same_memory() -> None:
    """The memory of the last chunk is used again, with its samples still in it."""
    plan = plan_of(
        "yx", (20, 20), chunks=16, shards=None, compressor="none", ome_zarr_version="0.4"
    )
    level = plan.levels[0]
    samples = np.full((20, 20), 7, "<u2")
    # Not in C order, so every chunk is copied.
    given = BlockedArray.of(level.region(0), np.asfortranarray(samples))
    objects, _ = objects_of(LevelEncoder(plan, level), level.region(0), given)
    for key, data in objects.items():
        chunk = np.frombuffer(data, "<u2").reshape(16, 16)
        rows, columns = (16 if part == "0" else 4 for part in key.split("/"))
        assert (chunk[:rows, :columns] == 7).all()
        assert chunk.sum(dtype=int) == 7 * rows * columns


def parts_of(plan: PyramidPlan, samples: np.ndarray) -> list[tuple[int, int]]:
    """Address and size of each part that the first object of level 0 is put in."""
    parts: list[tuple[int, int]] = []

    def put(part: Any) -> None:
        memory = np.frombuffer(part, np.uint8)
        parts.append((memory.__array_interface__["data"][0], memory.nbytes))

    level = plan.levels[0]
    given = BlockedArray.of(level.region(0), samples[level.region(0).slices])
    LevelEncoder(plan, level).encode((0,) * len(level.shape), given, put)
    return parts


def test_an_object_is_put_in_parts_from_the_same_memory() -> None:
    """Each is a little more than a MiB: a part is put once it is longer than that."""
    plan = plan_of("zyx", (128, 128, 128), chunks=32, shards=128, compressor="none")
    samples = np.zeros((128, 128, 128), "<u2")
    chunk = 32**3 * 2 + 4
    in_part = PART_BYTES // chunk + 1
    full, left = divmod(64, in_part)
    parts = parts_of(plan, samples)
    sizes = [in_part * chunk] * full + [left * chunk + 64 * 16 + 4]
    assert [size for _, size in parts] == sizes
    assert {address for address, _ in parts + parts_of(plan, samples)} == {parts[0][0]}


def test_the_memory_for_parts_holds_a_part_and_the_largest_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no more: it is taken by each thread that encodes."""
    sizes: list[int] = []

    class Spied(ScratchBuffer):
        def array(self, shape: Any, dtype: Any) -> Any:
            sizes.append(math.prod(shape) * dtype.itemsize)
            return super().array(shape, dtype)

    monkeypatch.setattr(encoding, "_part_buffers", Spied())
    plan = plan_of("yx", (64, 64), chunks=32, shards=64)
    parts_of(plan, np.zeros((64, 64), "<u2"))
    chunk = 32 * 32 * 2
    # A chunk that cannot be compressed takes more bytes than its samples.
    assert sizes == [PART_BYTES + encoded_bound(chunk) + 4]
