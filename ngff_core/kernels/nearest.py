"""The sample nearest to each bin's centre; slicing by numpy is fast enough for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape


class NativeNearest:
    """The sample nearest to the bin centre: at (k - 1) // 2 for a step k, the lower of two.

    Takes bool, integers, floats and complex numbers of up to 64 bits per part, in either
    byte order, and changes no bit of a sample.
    """

    def halo(self, step: Shape) -> Shape:
        """Zero: the sample lies inside the bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes that OME-Zarr images cannot have."""
        part_bytes = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        if dtype.kind in "biufc" and part_bytes <= 8:
            return None
        return "its samples are not numbers, or wider than 64 bits"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:  # noqa: ARG002 - arguments of the contract
        """Bytes of the buffer of 8192 samples in which numpy swaps bytes."""
        return 8192 * dtype.itemsize

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        firsts = (a + (k - 1) // 2 for a, k in zip(offset, step, strict=True))
        axes = zip(firsts, step, shape, strict=True)
        samples = window[tuple(slice(a, a + (n - 1) * k + 1, k) for a, k, n in axes)]
        return np.array(samples, samples.dtype.newbyteorder("="), order="C")
