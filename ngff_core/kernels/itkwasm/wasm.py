"""The compiled module, called with numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from threading import Lock

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape

# Beside what grows with the tile (measured: a warm call on 64 samples adds 0.3 MB): room
# for an allocator that has not grown yet.
CALL_BYTES = 16 * 2**20
_compiling = Lock()


@cache
def _compiled(name: str) -> Callable[[Block, Shape], Block]:
    """The module's function ``name`` on numpy arrays, ready to run.

    Imported and called here once: compiling takes 3 to 5 s when the user's cache
    directory holds no compiled copy, and the package compiles twice when two threads
    meet in a first call.
    """
    image_from_array = import_module("itkwasm").image_from_array
    function = getattr(import_module("itkwasm_downsample_wasi"), name)

    def called(array: Block, step: Shape) -> Block:
        image = function(image_from_array(array), shrink_factors=list(reversed(step)))
        samples: Block = np.asarray(image.data)
        return samples

    called(np.zeros((2, 2), np.uint8), (1, 1))
    return called


def run(name: str, array: Block, step: Shape) -> Block:
    """What module function ``name`` makes of a C-contiguous 2-D or 3-D array."""
    with _compiling:
        function = _compiled(name)
    return function(array, step)
