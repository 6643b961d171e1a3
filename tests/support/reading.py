"""Reads opened images as a pyramid build does: whole, and by many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ngff_core.sources import open_images
from ngff_core.sources.contract import ImageDescription, SourceIdentity, SourceImages


def described(path: Path | str) -> tuple[ImageDescription, ...]:
    """The images of a file, which is closed again."""
    with open_images(path) as images:
        return images.images


def identity(path: Path | str) -> SourceIdentity:
    """What identifies a file, which is closed again."""
    with open_images(path) as images:
        return images.identity


def whole(images: SourceImages, number: int = 0) -> np.ndarray[Any, Any]:
    """All samples of one image."""
    data = images.open_image(number).data
    return np.asarray(data[tuple(slice(0, n) for n in data.shape)])


def wrong_reads(images: SourceImages, number: int = 0, reads: int = 320) -> int:
    """16 threads read random boxes of one opened image; how many differ from the whole."""
    data = images.open_image(number).data
    expected = whole(images, number)

    def is_wrong(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        ends = [sorted(rng.integers(0, n + 1, 2)) for n in expected.shape]
        box = tuple(slice(int(a), int(b)) for a, b in ends)
        return not np.array_equal(data[box], expected[box])

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(is_wrong, range(reads)))
