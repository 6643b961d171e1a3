"""What a kernel is: a window of the parent in, a block of samples out."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape


class Kernel(Protocol):
    """Computes output samples from a window of the parent level.

    Arrays have their axes in t, c, z, y, x order (any subset of it), and a step per
    axis; t and c always have step 1. The window's outer border counts as the image's
    border (edge replicate): the caller gives a halo wherever the image goes on.
    """

    def halo(self, step: Shape) -> Shape:
        """Parent samples needed beyond the outermost bins, per axis."""
        ...

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why this kernel cannot do ``dtype`` rightly, in one clause; None if it can."""
        ...

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes needed at most beside the window and the result."""
        ...

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` samples in the window's dtype, the first bin ``lead`` samples in.

        ``lead`` is a whole multiple of ``step`` on every axis.
        """
        ...
