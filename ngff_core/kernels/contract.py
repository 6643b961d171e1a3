"""The contract of a downsampling kernel: a window of the parent level in, samples out."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape


class Kernel(Protocol):
    """Computes samples of a level from a window of its parent level.

    Arrays have their axes in t, c, z, y, x order (any subset of these), in either byte
    order. ``step`` has an entry per axis, which is 1 for t and c. A kernel treats the
    window's border as the image's border (edge replicate), so the caller includes a halo
    wherever the image continues.
    """

    def halo(self, step: Shape) -> Shape:
        """Parent samples needed beyond the outermost bins, on each side of each axis."""
        ...

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why this kernel cannot compute ``dtype`` correctly, as one clause; None if it can."""
        ...

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Largest number of bytes needed beside the window (of shape ``window``) and the result."""
        ...

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """Compute ``shape`` output samples, in the window's dtype and native byte order.

        ``offset`` is the number of samples of the window before the first bin, per axis; it
        is a multiple of ``step``. Output sample i stands for the window's samples
        ``offset + i * step`` to ``offset + (i + 1) * step``.
        """
        ...
