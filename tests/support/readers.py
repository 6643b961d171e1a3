"""What every reader of images must keep: any cut gives the same samples, to any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from ngff_core.sources.contract import ImageDescription, Samples


def read_all(samples: Samples) -> np.ndarray[Any, Any]:
    """All samples in one read."""
    return np.asarray(samples.data[tuple(slice(0, n) for n in samples.data.shape)])


def check_described(image: ImageDescription, samples: Samples, expected: Any) -> None:
    """Shape, dtype and samples are as described, and as expected."""
    assert samples.data.shape == image.shape == expected.shape
    assert np.dtype(image.dtype) == samples.data.dtype
    found = read_all(samples)
    assert found.dtype == samples.data.dtype
    np.testing.assert_array_equal(found, expected)
    assert len(samples.read_unit) == len(image.shape)
    assert all(u >= 1 for u in samples.read_unit)


def hammer(samples: Samples, expected: Any, reads: int = 160, seed: int = 0) -> None:
    """Sixteen threads read random boxes of one opened image at once."""
    rng = np.random.default_rng(seed)
    boxes = [_box(rng, expected.shape) for _ in range(reads)]
    with ThreadPoolExecutor(16) as executor:
        for box, found in zip(boxes, executor.map(samples.data.__getitem__, boxes), strict=True):
            np.testing.assert_array_equal(found, expected[box])


def _box(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [int(rng.integers(0, n)) for n in shape]
    return tuple(
        slice(a, int(rng.integers(a + 1, n + 1))) for a, n in zip(starts, shape, strict=True)
    )


def to_memory(path: Path, root: str) -> str:
    """Copy a file or folder into fsspec's memory filesystem; the URI of the copy."""
    fs = fsspec.filesystem("memory")
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        fs.pipe_file(f"{root}/{file.relative_to(path.parent)}", file.read_bytes())
    return f"{root}/{path.name}"


def notes(image: ImageDescription) -> str:
    """All notes of an image in one text."""
    return "\n".join(map(str, image.notes))
