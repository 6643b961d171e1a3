"""Compressors beside each other on four kinds of image; prints the table of docs/codecs.md.

Run: ``taskset -c 0 .venv/bin/python benchmarks/codecs.py``. One core, the alternatives
taking turns, median of five. Seconds are those that the process spent computing, so that
other work on the machine disturbs little; read the ratios all the same.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import statistics
import time
from importlib.resources import files

import numpy as np
import scipy.ndimage
import zarr
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from ngff_core.geometry import Region
from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin
from ngff_core.pyramid.level_io import LevelEncoder
from ngff_core.pyramid.publish import array_documents
from ngff_core.storage import fused_pipeline

COMPRESSORS = (
    "blosc:zstd:1:bitshuffle",
    "blosc:zstd:3:bitshuffle",
    "blosc:zstd:1:shuffle",
    "blosc:lz4:1:bitshuffle",
    "blosc:lz4:5:bitshuffle",
    "blosc:lz4:5:shuffle",
    "zstd:1",
    "zstd:3",
    "gzip:5",
    "none",
)
ROUNDS = 5


def photograph() -> np.ndarray:
    """The bundled retina: 8 bit, three colours, c y x."""
    from PIL import Image

    with Image.open(str(files("skimage") / "data" / "retina.jpg")) as picture:
        return np.ascontiguousarray(np.moveaxis(np.asarray(picture), -1, 0))


def volume(bits: int) -> np.ndarray:
    """Smooth structure with photon noise, as a light sheet sees it, z y x."""
    rng = np.random.default_rng(1)
    field = scipy.ndimage.gaussian_filter(rng.standard_normal((128, 256, 256)), 8)
    peak = 1500 if bits == 16 else 60
    return rng.poisson(100 / 16 + peak * (field - field.min()) / np.ptp(field)).astype(
        f"u{bits // 8}"
    )


def labels() -> np.ndarray:
    """A segmentation: some three thousand compact objects on background, z y x."""
    rng = np.random.default_rng(2)
    field = scipy.ndimage.gaussian_filter(rng.standard_normal((128, 256, 256)), 2.5)
    found, _ = scipy.ndimage.label(field > field.std())
    return found.astype("u4")


def measure(image: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Per compressor: ratio, MB/s encoding and decoding, of raw bytes."""
    dims = ("c", "y", "x") if image.shape[0] == 3 else ("z", "y", "x")
    info = ImageInfo(dims, image.shape, image.dtype.str, (1.0,) * 3, (0.0,) * 3, (None,) * 3)
    whole = Region((0, 0, 0), image.shape)
    plans = {
        name: make_plan(SourcePin("x"), info, compressor=name, scale_factors=[], chunks=128)
        for name in COMPRESSORS
    }
    times: dict[str, list[tuple[float, float, int]]] = {name: [] for name in COMPRESSORS}
    for _ in range(ROUNDS):
        for name, plan in plans.items():
            times[name].append(_once(plan, image, whole))
    found = {}
    for name, rounds in times.items():
        encode = statistics.median(e for e, _, _ in rounds)
        decode = statistics.median(d for _, d, _ in rounds)
        megabytes = image.nbytes / 1e6
        found[name] = (image.nbytes / rounds[0][2], megabytes / encode, megabytes / decode)
    return found


def _once(plan: PyramidPlan, image: np.ndarray, whole: Region) -> tuple[float, float, int]:
    level = plan.levels[0]
    encoder = LevelEncoder(plan, level)
    began = time.process_time()
    objects = encoder.encode(whole, image)
    encoded = time.process_time()
    nbytes = sum(len(data) for data in objects.values())
    documents = {key: Buffer.from_bytes(data) for key, data in array_documents(plan).items()}
    stored = MemoryStore(documents | {f"{level.path}/{key}": data for key, data in objects.items()})
    with fused_pipeline():
        array = zarr.open_array(stored, path=level.path, mode="r")
    start = time.process_time()
    assert (array[:] == image).all()
    return encoded - began, time.process_time() - start, nbytes


def main() -> None:
    images = {
        "8 bit photograph": photograph(),
        "8 bit volume": volume(8),
        "16 bit volume": volume(16),
        "32 bit labels": labels(),
    }
    results = {kind: measure(image) for kind, image in images.items()}
    print("| compressor | " + " | ".join(images) + " |")
    print("|---|" + "---|" * len(images))
    for name in COMPRESSORS:
        cells = (
            f"{ratio:.2f}, {encode:.0f}, {decode:.0f}"
            for ratio, encode, decode in (results[kind][name] for kind in images)
        )
        print(f"| `{name}` | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
