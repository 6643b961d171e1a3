"""Chunks read without zarr, compared with zarr's own reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from ngff_core import build_pyramid
from ngff_core.blocks import BlockedArray
from ngff_core.geometry import Region
from ngff_core.sources import open_source
from ngff_core.sources.base import Reader
from ngff_core.sources.chunk_files import ChunkFiles

SHAPE, CHUNKS = (40, 53), (16, 16)
WHOLE = Region((16, 0), (40, 32))
V3: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": [ZstdCodec(level=3)]},
    "zstd with its checksum": {"compressors": [ZstdCodec(level=1, checksum=True)]},
    "blosc": {"compressors": [BloscCodec(cname="lz4", shuffle="shuffle")]},
    "blosc, crc32c": {"compressors": [BloscCodec(shuffle="bitshuffle"), Crc32cCodec()]},
    "crc32c": {"compressors": [Crc32cCodec()]},
    "none": {"compressors": None},
    "keys as in v2": {"chunk_key_encoding": {"name": "v2", "separator": "."}},
}
V2: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": [numcodecs.Zstd(1)]},
    "blosc": {"compressors": [numcodecs.Blosc("zstd", 1, 2)]},
    "none": {"compressors": None},
    "nested": {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
}
KNOWN = [*((3, name) for name in V3), *((2, name) for name in V2)]
UNKNOWN: dict[str, dict[str, Any]] = {
    "gzip": {"compressors": [GzipCodec()]},
    "two compressors": {"compressors": [ZstdCodec(), GzipCodec()]},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "turned": {"filters": [TransposeCodec(order=(1, 0))]},
    "shards": {"shards": (32, 32)},
    "big-endian, v2": {"zarr_format": 2, "dtype": ">u2"},
    "by columns, v2": {"zarr_format": 2, "order": "F"},
    "filtered, v2": {"zarr_format": 2, "filters": [numcodecs.Delta("<u2")]},
}


def array_at(folder: Path, dtype: str = "<u2", **options: Any) -> np.ndarray[Any, Any]:
    """A zarr array at ``folder``; its samples."""
    given = {"shape": SHAPE, "chunks": CHUNKS, "dtype": dtype, "zarr_format": 3} | options
    samples = np.random.default_rng(3).integers(0, 200, SHAPE).astype(given["dtype"])
    array = zarr.create_array(folder, **given)
    array[...] = samples
    return samples


def reader_at(folder: Path) -> Reader:
    reader = open_source(str(folder)).image.data
    assert isinstance(reader, Reader)
    return reader


def check(found: BlockedArray, samples: np.ndarray[Any, Any]) -> None:
    """A box is right, and of the source's dtype."""
    part = found.part(found.box)
    assert part.dtype == samples.dtype
    np.testing.assert_array_equal(part, samples[found.box.slices])


@pytest.mark.parametrize(("zarr_format", "name"), KNOWN)
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<i4", "<f4", "<f8", "<c8", "|b1"])
def test_complete_chunks_are_decoded_one_by_one(
    zarr_format: int, name: str, dtype: str, tmp_path: Path
) -> None:
    """Each to an array of its own, those at the end of the image cut."""
    options = {3: V3, 2: V2}[zarr_format][name]
    samples = array_at(tmp_path / "a", dtype, zarr_format=zarr_format, **options)
    reader = reader_at(tmp_path / "a")
    for box in (WHOLE, Region((0, 0), SHAPE), Region((32, 48), SHAPE)):
        found = reader.region(box)
        assert found.cell == CHUNKS
        check(found, samples)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_box_is_what_zarr_reads(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Complete chunks or not."""
    folder = tmp_path_factory.mktemp("a")
    samples = array_at(folder, **data.draw(st.sampled_from([*V3.values(), *UNKNOWN.values()])))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in SHAPE)
    ends = zip(start, SHAPE, strict=True)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in ends)
    check(reader_at(folder).region(Region(start, stop)), samples)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_plain_is_left_to_zarr(name: str, tmp_path: Path) -> None:
    samples = array_at(tmp_path / "a", **UNKNOWN[name])
    reader = reader_at(tmp_path / "a")
    assert reader.chunks is None
    check(reader.region(WHOLE), samples)


def test_many_small_chunks_are_left_to_zarr(tmp_path: Path) -> None:
    """They are read as fast together."""
    samples = array_at(tmp_path / "a", chunks=(1, 1))
    found = reader_at(tmp_path / "a").region(Region((0, 0), SHAPE))
    assert len(found.blocks) == 1
    check(found, samples)


def test_the_chunks_of_an_image_are_found_too(tmp_path: Path) -> None:
    """An OME-Zarr's level 0 is an array in a folder below."""
    samples = np.random.default_rng(2).integers(0, 99, (64, 64), "u2")
    build_pyramid(samples, tmp_path / "a.zarr", chunks=16, shards=16, scale_factors=[2])
    # without shards, as they are mostly found
    build_pyramid(
        samples, tmp_path / "b.zarr", chunks=16, ome_zarr_version="0.4", scale_factors=[2]
    )
    assert reader_at(tmp_path / "a.zarr").chunks is None
    found = reader_at(tmp_path / "b.zarr").region(Region((0, 0), (64, 64)))
    assert found.cell == (16, 16)
    check(found, samples)


def test_a_file_is_read_to_its_end_however_little_one_call_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never taken for an absent chunk, which would read as background."""
    samples = array_at(tmp_path / "a", **V3["zstd"])
    real = os.readv
    monkeypatch.setattr(os, "readv", lambda file, parts: real(file, [parts[0][:50]]))
    found = reader_at(tmp_path / "a").region(WHOLE)
    assert found.cell == CHUNKS
    check(found, samples)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_absent_chunk_holds_the_fill_value(zarr_format: int, tmp_path: Path) -> None:
    samples = array_at(tmp_path / "a", zarr_format=zarr_format, fill_value=7)
    (tmp_path / "a" / {2: "1.0", 3: "c/1/0"}[zarr_format]).unlink()
    samples[16:32, :16] = 7
    found = reader_at(tmp_path / "a").region(WHOLE)
    assert found.cell == CHUNKS
    check(found, samples)


@pytest.mark.parametrize("name", ["zstd", "blosc", "blosc, crc32c", "none"])
@pytest.mark.parametrize("damage", ["cut", "longer", "turned", "empty", "its head", "3 bytes"])
def test_damage_is_left_to_zarr(name: str, damage: str, tmp_path: Path) -> None:
    """And what was read before is never taken for it."""
    array_at(tmp_path / "a", **V3[name])
    reader_at(tmp_path / "a").region(WHOLE)
    chunk = tmp_path / "a/c/1/0"
    data = chunk.read_bytes()
    damaged = {
        "cut": data[:-9],
        "longer": data + b"\0" * 9,
        "turned": data[::-1],
        "empty": b"",
        "its head": data[:16],
        "3 bytes": data[:3],
    }
    chunk.write_bytes(damaged[damage])
    reader = reader_at(tmp_path / "a")
    assert reader.chunks is not None
    found = reader.chunks.read(WHOLE)
    if (name, damage) == ("none", "turned"):  # as good samples as any
        assert found is not None
        check(found, reader.array[...])
    else:
        assert found is None


@pytest.mark.parametrize("method", ["itkwasm_gaussian", "itkwasm_bin_shrink"])
@pytest.mark.parametrize("chunks", [(16, 16), (32, 8), (10, 16), (64, 64)])
@pytest.mark.parametrize("factors", [[2, 4], [3]])
def test_pyramids_are_the_same_by_either_way(
    method: str, chunks: Any, factors: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte, receipts included: bins may lie across chunks."""
    samples = np.random.default_rng(1).integers(0, 2**16, (150, 131), "u2")
    zarr.create_array(tmp_path / "a", data=samples, chunks=chunks)
    options: Any = {"method": method, "scale_factors": factors, "chunks": 16, "shards": 64}
    build_pyramid(tmp_path / "a", tmp_path / "short.zarr", **options)
    monkeypatch.setattr(ChunkFiles, "of", lambda *_: None)
    build_pyramid(tmp_path / "a", tmp_path / "long.zarr", **options)
    short, long = (
        {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
        for root in (tmp_path / "short.zarr", tmp_path / "long.zarr")
    )
    assert short == long
    ledgers = [
        sorted((tmp_path / f"{name}.zarr.build/ledger").rglob("complete*"))
        for name in ("short", "long")
    ]
    assert [p.read_bytes() for p in ledgers[0]] == [p.read_bytes() for p in ledgers[1]]
    assert ledgers[0]
