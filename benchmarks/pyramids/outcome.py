"""Examining the output of a contestant, after the clock has stopped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import zarr

from benchmarks.contestants.arrays import boxes
from benchmarks.pyramids.images import Image


def stored_bytes(target: Path) -> int:
    """Bytes in the files below ``target``."""
    return sum(file.stat().st_size for file in target.rglob("*") if file.is_file())


def levels_of(target: Path) -> list[zarr.Array[Any]]:
    """Its levels: those of the OME-Zarr metadata, or else arrays named by numbers."""
    group = zarr.open_group(target, mode="r") if (target / "zarr.json").exists() else None
    if group is not None and "ome" in group.attrs:
        datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
        paths = [dataset["path"] for dataset in datasets]
    else:
        paths = sorted(path.name for path in target.iterdir() if path.name.isdigit())
    return [zarr.open_array(target / path, mode="r") for path in paths]


def checksum(array: zarr.Array[Any]) -> int:
    """CRC-32C of the samples in C order, however they are stored."""
    found = 0
    thick = max(array.shards or array.chunks)
    for box in boxes(array.shape, (thick, *array.shape[1:])):
        found = crc32c.crc32c(np.ascontiguousarray(array[box]).view(np.uint8).data, found)
    return found


@cache
def _checksum_of_source(image: Image) -> int:
    return checksum(zarr.open_array(image.path, mode="r"))


def examine(target: Path, image: Image) -> dict[str, Any]:
    """Shapes, layout and checksums of the levels; AssertionError where they are not plausible."""
    levels = levels_of(target)
    shapes = [level.shape for level in levels]
    wanted = [tuple(n // f for n in image.shape) for f in (1, *image.factors)]
    assert shapes in (wanted, wanted[:1]), f"levels {shapes}, not {wanted}"
    sums = [checksum(level) for level in levels]
    assert sums[0] == _checksum_of_source(image), "level 0 is not the source"
    return {
        "levels": [list(shape) for shape in shapes],
        "chunks": list(levels[0].chunks),
        "shards": list(levels[0].shards) if levels[0].shards else None,
        "compressors": [str(c.to_dict()) for c in levels[0].compressors],
        "checksums": sums,
    }
