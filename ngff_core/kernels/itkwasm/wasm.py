"""Calls of the WebAssembly module's functions with numpy arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from threading import Lock

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape

CALL_BYTES = 16 * 2**20
"""Memory of a call beside what grows with the tile, for an allocator that has not grown yet.
(Measured: a call on 64 samples after others adds 0.3 MB.)"""
_compiling = Lock()


@cache
def _compiled(name: str) -> Callable[[Block, Shape], Block]:
    """The module's function ``name`` for numpy arrays, compiled.

    Imported and called once here. Compiling takes 3 to 5 s when the user's cache directory
    has no compiled copy, and the package would compile twice if two threads made the first
    call at the same time.
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
    """Run the module's function ``name`` on a C-contiguous 2-D or 3-D array.

    ``step`` has an entry per axis of the array, in array order.
    """
    with _compiling:
        function = _compiled(name)
    return function(array, step)
