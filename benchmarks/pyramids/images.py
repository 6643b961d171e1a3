"""The images: made once under ``benchmarks/.data``, chunk by chunk, the same on any machine.

An intensity is photon noise on a smooth field, as a light sheet or a slide scanner sees
it: neither zeros nor pure noise. Labels are compact objects on background. Stored as an
export of an instrument may be: zarr v3, no shards, zstd 3, chunks of 128³ or 1024².
"""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage
import zarr
from zarr.codecs import ZstdCodec

from benchmarks.contestants.arrays import Box, boxes
from ngff_core.blocks import Block

DATA = Path(__file__).parents[1] / ".data"
GRAIN = 8
"""Distance of the field's random coefficients, and the width of each, in samples."""
REACH = 4
"""Grains beyond which a coefficient counts for nothing."""


@dataclass(frozen=True)
class Image:
    """One image of the benchmark."""

    name: str
    shape: tuple[int, ...]
    factors: tuple[int, ...]
    labels: bool = False

    @property
    def dims(self) -> str:
        return "zyx"[-len(self.shape) :]

    @property
    def chunks(self) -> tuple[int, ...]:
        edge = 128 if len(self.shape) == 3 else 1024
        return tuple(min(edge, n) for n in self.shape)

    @property
    def dtype(self) -> str:
        return "uint32" if self.labels else "uint16"

    @property
    def path(self) -> Path:
        kind = "labels" if self.labels else "intensities"
        return DATA / f"{kind}-{'x'.join(map(str, self.shape))}.zarr"


IMAGES = {
    "full": {
        "3-D": Image("3-D", (512, 1024, 1024), (2, 4, 8)),
        "2-D": Image("2-D", (16384, 16384), (2, 4, 8, 16, 32, 64)),
        "3-D labels": Image("3-D labels", (256, 512, 512), (2,), labels=True),
        "2-D labels": Image("2-D labels", (4096, 4096), (2,), labels=True),
    },
    "small": {
        "3-D": Image("3-D", (256, 256, 256), (2, 4)),
        "2-D": Image("2-D", (4096, 4096), (2, 4, 8, 16)),
        "3-D labels": Image("3-D labels", (32, 64, 64), (2,), labels=True),
        "2-D labels": Image("2-D labels", (512, 512), (2,), labels=True),
    },
}
TINY = {
    "3-D": Image("3-D", (128, 128, 128), (2,)),
    "2-D": Image("2-D", (1024, 1024), (2,)),
    "3-D labels": Image("3-D labels", (16, 32, 32), (2,), labels=True),
    "2-D labels": Image("2-D labels", (128, 128), (2,), labels=True),
}


def make(image: Image) -> None:
    """Write the image, unless it is there: whole or not at all."""
    if image.path.exists():
        return
    partial = image.path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    array = zarr.create_array(
        partial,
        shape=image.shape,
        chunks=image.chunks,
        dtype=image.dtype,
        compressors=[ZstdCodec(level=3)],
        dimension_names=tuple(image.dims),
    )
    if image.labels:
        array[...] = objects(image.shape)
    else:
        grid = coefficients(image.shape)

        def fill(numbered: tuple[int, Box]) -> None:
            number, box = numbered
            array[box] = photons(grid, box, number)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(fill, enumerate(boxes(image.shape, image.chunks))))
    partial.replace(image.path)


def coefficients(shape: tuple[int, ...]) -> Block:
    """Random coefficients of a smooth field, a grain apart, with a margin around."""
    grid = [n // GRAIN + 2 * REACH + 2 for n in shape]
    return np.random.default_rng(1).standard_normal(grid).astype(np.float32)


def photons(grid: Block, box: Box, seed: int) -> Block:
    """The samples of a box: counts around the field's value there, a few to some hundred."""
    field = grid
    for axis, part in enumerate(box):
        weights, used = _bells(part)
        near = np.take(field, np.arange(used.start, used.stop), axis=axis)
        field = np.moveaxis(np.tensordot(weights, near, axes=(1, axis)), 0, axis)
    spread = math.pi ** (len(box) / 4)
    mean = 6 + 1500 * np.clip(0.5 + 0.15 * field / spread, 0, 1)
    return np.random.default_rng((2, seed)).poisson(mean).astype(np.uint16)


def _bells(part: slice) -> tuple[Block, slice]:
    """Weights of the coefficients near a run of samples, and which those are."""
    used = slice(part.start // GRAIN, (part.stop - 1) // GRAIN + 2 * REACH + 1)
    at = np.arange(part.start, part.stop)[:, None] / GRAIN
    centre = np.arange(used.start, used.stop)[None, :] - REACH
    return np.exp(-0.5 * (at - centre) ** 2).astype(np.float32), used


def objects(shape: tuple[int, ...]) -> Block:
    """A segmentation: many compact objects, each with a number of its own."""
    rng = np.random.default_rng(3)
    field = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), 2.5)
    found, _ = scipy.ndimage.label(field > field.std())
    return found.astype(np.uint32)
