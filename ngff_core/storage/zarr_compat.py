"""Zarr arrays opened and read by the fastest of zarr's pipelines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer.cpu import NDBuffer

from ngff_core.memory import region_memory

_pipeline_lock = threading.Lock()


@contextmanager
def fused_pipeline() -> Iterator[None]:
    """Arrays opened or created inside use zarr's fused codec pipeline.

    It is the fastest that is well kept. A 32 MiB region of 128³ chunks (zstd 3) takes it
    47 ms on one core, of which zstd's own work is all but a few; the default pipeline takes
    1.8 times as long with two threads, the one of `zarrs` 1.6 times, and tears local files
    when killed. An array binds its pipeline when it is opened, so the setting is the
    process's for that moment only.
    """
    with (
        _pipeline_lock,
        zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}),
    ):
        yield


def read_region(
    array: Any, box: tuple[slice, ...], into: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """A box inside an array; of a zarr array in memory that is used again afterwards.

    It is read ``into`` what is given, which may be a view.
    """
    if not isinstance(array, zarr.Array):
        found = np.asarray(array[box])
        if into is None:
            return found
        into[...] = found
        return into
    samples = into
    if samples is None:
        samples = region_memory.array(tuple(s.stop - s.start for s in box), np.dtype(array.dtype))
    array.get_basic_selection(box, out=NDBuffer.from_numpy_array(samples))
    return samples
