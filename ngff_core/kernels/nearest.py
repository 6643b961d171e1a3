"""The sample nearest to each bin's centre; numpy's own slices are fast enough."""

from __future__ import annotations

from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape


class NativeNearest:
    """The sample nearest to the bin centre, the lower one where two are as near.

    Takes bool, integers, floats and complex up to 64 bit a number, in either byte order,
    and changes no bit of a sample.
    """

    def halo(self, step: Shape) -> Shape:
        """Nothing: the sample lies in its own bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: OME-Zarr images hold numbers, of 64 bits at most."""
        least = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        if dtype.kind in "biufc" and least <= 8:
            return None
        return "its samples are no numbers, or wider than 64 bits"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:  # noqa: ARG002 - the contract's arguments
        """Nothing worth counting: numpy swaps bytes in a buffer of 8192 samples."""
        return 8192 * dtype.itemsize

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` samples in the window's dtype, the first bin ``lead`` samples in."""
        firsts = (a + (k - 1) // 2 for a, k in zip(offset, step, strict=True))
        axes = zip(firsts, step, shape, strict=True)
        samples = window[tuple(slice(a, a + (n - 1) * k + 1, k) for a, k, n in axes)]
        return np.array(samples, samples.dtype.newbyteorder("="), order="C")
