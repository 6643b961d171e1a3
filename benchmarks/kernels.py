"""Native kernels beside those of the itkwasm module; prints a table of Mvoxel/s.

Run: ``taskset -c 1 .venv/bin/python benchmarks/kernels.py``. One core, the two back ends
taking turns on the same image of 2**24 voxels, step 2, median of five. Seconds are those
that the thread spent computing, so that other work on the machine disturbs little; read
the ratios all the same.

The label image has some four thousand compact objects. Its last line calls the module's
own label function, which our itkwasm back end spares most of the work, on a block so small
that it ends.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib import import_module

import numpy as np
import scipy.ndimage

from ngff_core.blocks import Block
from ngff_core.config import config
from ngff_core.kernels.contract import Kernel
from ngff_core.kernels.methods import Methods, kernel_for, warm

SHAPES = {"3-D": (256, 256, 256), "2-D": (4096, 4096)}
INTENSITIES = ("uint8", "uint16", "float32")
LABELS = ("uint8", "uint16", "uint32")
METHODS = {
    Methods.ITKWASM_GAUSSIAN: INTENSITIES,
    Methods.ITKWASM_BIN_SHRINK: INTENSITIES,
    Methods.ITKWASM_LABEL_IMAGE: LABELS,
    Methods.DASK_IMAGE_GAUSSIAN: INTENSITIES,
    Methods.DASK_IMAGE_MODE: LABELS,
    Methods.DASK_IMAGE_NEAREST: INTENSITIES,
}
ROUNDS = 5


def intensities(shape: tuple[int, ...], dtype: str) -> Block:
    """Photon noise around a gradient; the kernels do the same work on any image."""
    rng = np.random.default_rng(0)
    return rng.poisson(np.linspace(5, 200, shape[-1]), shape).astype(dtype)


def labels(shape: tuple[int, ...], dtype: str) -> Block:
    """Compact objects: each voxel has the number of the seed nearest to it."""
    rng, cell = np.random.default_rng(0), 16 if len(shape) == 3 else 64
    seeds = rng.random([n // cell for n in shape])
    field = scipy.ndimage.zoom(seeds, cell, order=0) > 0.1
    shifted = np.roll(field, [cell // 3] * len(shape), range(len(shape)))
    grid = np.arange(1, seeds.size + 1).reshape(seeds.shape)
    return np.where(shifted, scipy.ndimage.zoom(grid, cell, order=0), 0).astype(dtype)


def reducing(kernel: Kernel, image: Block, step: int) -> Callable[[], object]:
    """A call that computes the level above ``image``."""
    steps = (step,) * image.ndim
    shape = tuple(n // step for n in image.shape)
    return lambda: kernel.reduce(image, (0,) * image.ndim, steps, shape)


def seconds(*calls: Callable[[], object]) -> list[float]:
    """Median of each call's seconds; the calls take turns, after one that does not count."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(ROUNDS + 1):
        for call, times in zip(calls, taken, strict=True):
            start = time.thread_time()
            call()
            if turn:
                times.append(time.thread_time() - start)
    return [statistics.median(times) for times in taken]


def row(method: Methods, name: str, dtype: str, step: int) -> str:
    """One line of the table."""
    make = labels if dtype in METHODS[method] and METHODS[method] is LABELS else intensities
    image = make(SHAPES[name], dtype)
    calls = [reducing(kernel_for(method), image, step)]
    config.kernel_backend = "itkwasm"
    if method.startswith("itkwasm_"):
        calls.append(reducing(kernel_for(method), image, step))
    config.kernel_backend = "native"
    speeds = [image.size / 1e6 / s for s in seconds(*calls)]
    cells = [f"{speeds[0]:.0f}"]
    cells += [f"{speeds[1]:.1f}", f"{speeds[0] / speeds[1]:.0f}"] if speeds[1:] else ["", ""]
    return f"| {method} | {name} | {dtype} | {step} | {' | '.join(cells)} |"


def raw_label_row() -> str:
    """The module's own label function, on a corner of the label image."""
    image = labels(SHAPES["3-D"], "uint16")
    corner = np.ascontiguousarray(image[100:132, 96:160, 96:160])
    corner = np.where(corner, np.arange(corner.size).reshape(corner.shape) // 64, 0)
    corner = corner.astype(np.uint16)
    from_array = import_module("itkwasm").image_from_array
    function = import_module("itkwasm_downsample_wasi").downsample_label_image

    def raw() -> object:
        return function(from_array(corner), shrink_factors=[2, 2, 2])

    native = reducing(kernel_for(Methods.ITKWASM_LABEL_IMAGE), image, 2)
    fast, slow = seconds(native, raw)
    speeds = image.size / 1e6 / fast, corner.size / 1e6 / slow
    found = len(np.unique(corner))
    name = f"downsample_label_image itself, {found} labels"
    return (
        f"| {name} | 3-D | uint16 | 2 | {speeds[0]:.0f} | {speeds[1]:.3f} "
        f"| {speeds[0] / speeds[1]:.0f} |"
    )


def main() -> None:
    """Print the table, line by line."""
    warm()
    print("| method | image | dtype | step | native | itkwasm | ratio |", flush=True)
    print("|---|---|---|---|---|---|---|")
    for method, dtypes in METHODS.items():
        for name in SHAPES:
            for dtype in dtypes:
                print(row(method, name, dtype, 2), flush=True)
    for method in (Methods.ITKWASM_GAUSSIAN, Methods.DASK_IMAGE_MODE):
        for step in (3, 4, 8):
            print(row(method, "3-D", METHODS[method][1], step), flush=True)
    print(raw_label_row())


if __name__ == "__main__":
    main()
