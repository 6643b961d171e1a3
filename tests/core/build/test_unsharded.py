"""Arrays without shards and without checksums: what the readers get that know neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr

from ngff_core import build_pyramid, verify_pyramid
from ngff_core.plan.options import BuildOptions

SAMPLES = np.random.default_rng(9).integers(0, 4000, (150, 170)).astype("u2")
OPTIONS: dict[str, Any] = {"chunks": 64, "scale_factors": [2], "method": "itkwasm_bin_shrink"}


def codecs(array: Path) -> list[str]:
    document = json.loads((array / "zarr.json").read_bytes())
    return [codec["name"] for codec in document["codecs"]]


@pytest.mark.parametrize("shards", ["none", 0, "None"])
@pytest.mark.parametrize("compressor", ["blosc:zstd:1:bitshuffle", "zstd:3", "gzip:1", "none"])
def test_chunks_are_objects_of_bytes_and_a_compressor(
    tmp_path: Path, shards: Any, compressor: str
) -> None:
    """Nothing else, and zarr and tensorstore read them."""
    target = tmp_path / "a.ome.zarr"
    options = OPTIONS | {"shards": shards, "compressor": compressor, "checksums": False}
    report = build_pyramid(SAMPLES, target, **options)
    assert verify_pyramid(target, deep=True).ok
    assert [level.shards for level in report.levels] == [None, None]
    kind = compressor.partition(":")[0]
    assert codecs(target / "0") == ["bytes", *([kind] if kind != "none" else [])]
    chunks = {str(p.relative_to(target)) for p in target.glob("0/c/*/*")}
    assert chunks == {f"0/c/{y}/{x}" for y in range(3) for x in range(3)}
    assert np.array_equal(zarr.open_array(target / "0", mode="r")[:], SAMPLES)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{target}/0/"}}
    assert np.array_equal(tensorstore.open(spec).result().read().result(), SAMPLES)


def test_gdal_reads_them(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    target = tmp_path / "a.ome.zarr"
    build_pyramid(SAMPLES, target, shards="none", checksums=False, **OPTIONS)
    with rasterio.open(f'ZARR:"{target}/0"') as opened:
        assert np.array_equal(opened.read(1), SAMPLES)


@pytest.mark.parametrize(
    ("options", "outer", "inner"),
    [
        ({}, ["sharding_indexed"], ["bytes", "blosc", "crc32c"]),
        ({"checksums": False}, ["sharding_indexed"], ["bytes", "blosc"]),
        ({"shards": "none"}, ["bytes", "blosc", "crc32c"], None),
    ],
)
def test_each_of_the_two_may_be_left_away_alone(
    tmp_path: Path, options: dict[str, Any], outer: list[str], inner: list[str] | None
) -> None:
    """The index of a shard keeps its checksum, which zarr expects by default."""
    target = tmp_path / "a.ome.zarr"
    build_pyramid(SAMPLES, target, **OPTIONS | options)
    assert verify_pyramid(target, deep=True).ok
    assert codecs(target / "0") == outer
    assert np.array_equal(zarr.open_array(target / "0", mode="r")[:], SAMPLES)
    if inner is not None:
        document = json.loads((target / "0/zarr.json").read_bytes())
        shard = document["codecs"][0]["configuration"]
        assert [codec["name"] for codec in shard["codecs"]] == inner
        assert [codec["name"] for codec in shard["index_codecs"]] == ["bytes", "crc32c"]


def test_an_interrupted_build_without_them_is_continued(tmp_path: Path) -> None:
    target = tmp_path / "a.ome.zarr"
    options = OPTIONS | {"shards": "none", "checksums": False}
    first = build_pyramid(SAMPLES, target, **options)
    (target / "zarr.json").unlink()
    (target / "0/c/1/1").unlink()
    again = build_pyramid(SAMPLES, target, **options)
    assert (again.plan_digest, again.verified, again.fresh > 0) == (first.plan_digest, True, True)
    assert BuildOptions().checksums


def test_no_shards_are_what_the_oldest_version_has(tmp_path: Path) -> None:
    """So asking for none is no contradiction."""
    report = build_pyramid(
        SAMPLES, tmp_path / "a", ome_zarr_version="0.4", shards="none", checksums=False, **OPTIONS
    )
    plain = build_pyramid(SAMPLES, tmp_path / "b", ome_zarr_version="0.4", **OPTIONS)
    assert report.plan_digest == plain.plan_digest
