"""Large images that cost little to write: every chunk is a link to one of a few files."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from ngff_core.geometry import ceil_div

Shape = tuple[int, ...]
_KINDS = 3


def write_zarr(
    path: Path, shape: Shape, chunks: Shape, *, dtype: str = "u2", bits: int = 16
) -> int:
    """A zarr array whose samples have ``bits`` random bits; the bytes of its samples.

    With as many bits as the dtype has nothing can be compressed, which takes the most
    memory; with few a pyramid of it takes little disk.
    """
    rng = np.random.default_rng(len(shape) + bits)
    for kind in range(_KINDS):
        made = zarr.create_array(path / f"kind{kind}", shape=chunks, chunks=chunks, dtype=dtype)
        made[...] = rng.integers(0, 2**bits, chunks, dtype)
    array = zarr.create_array(path / "image", shape=shape, chunks=chunks, dtype=dtype)
    first = "/".join(["c", *"0" * len(shape)])
    for at in product(*(range(ceil_div(n, c)) for n, c in zip(shape, chunks, strict=True))):
        target = path / "image" / "c" / "/".join(map(str, at))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path / f"kind{sum(at) % _KINDS}" / first, target)
    return int(array.nbytes)


def write_tiff(path: Path, shape: Shape, **options: Any) -> int:
    """A TIFF of planes of small noise; the bytes of its samples."""
    rng = np.random.default_rng(7)
    plane = rng.integers(0, 16, shape[1:], "u2")

    def planes() -> Any:
        for _ in range(shape[0]):
            yield plane

    tifffile.imwrite(path, planes(), shape=shape, dtype="u2", **options)
    return plane.nbytes * shape[0]
