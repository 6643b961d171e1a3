"""The parts of zarr that are not its documented API; nothing else here imports ``zarr.core``.

Tried with zarr 3.4.2. `tests/core/storage/test_compat.py` checks each assumption.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.buffer.cpu import NDBuffer, as_numpy_array_wrapper
from zarr.core.indexing import morton_order_coords
from zarr.core.sync import sync
from zarr.storage import FsspecStore, MemoryStore, WrapperStore

from ngff_core.memory import region_memory

__all__ = [
    "Buffer",
    "as_numpy_array_wrapper",
    "documents_written",
    "fsspec_store",
    "fused_pipeline",
    "memory_store",
    "names_in_store",
    "objects_of_store",
    "read_object",
    "read_region",
    "run_sync",
    "shard_order",
    "to_buffer",
    "wrapped_store",
]

_pipeline_lock = threading.Lock()


@contextmanager
def fused_pipeline() -> Iterator[None]:
    """Arrays opened or created inside use zarr's fused codec pipeline.

    It is the fastest that is well maintained. It needs 47 ms on one core for a 32 MiB region
    of 128³ chunks (zstd 3), and all but a few of them are zstd's own work. The default
    pipeline takes 1.8 times as long with two threads. The pipeline of `zarrs` takes 1.6 times
    as long, and leaves torn local files when killed. An array binds its pipeline when it is
    opened, so the setting holds for the process for that moment only.
    """
    with (
        _pipeline_lock,
        zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}),
    ):
        yield


def read_region(
    array: Any, box: tuple[slice, ...], into: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """Read a box of an array, with one slice for each axis.

    A box of a zarr array is read into recycled memory (`ngff_core.memory.regions`), or
    straight into ``into``, which has the box's shape and may be a view. Another kind of
    array gives its own result, copied into ``into`` if there is one.
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


def run_sync[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of zarr, which runs in zarr's own event loop."""
    return sync(coroutine)


def to_buffer(data: bytes) -> Buffer:
    """Bytes as the buffer type that zarr's stores take."""
    return default_buffer_prototype().buffer.from_bytes(data)


def memory_store(documents: Mapping[str, bytes]) -> MemoryStore:
    """A zarr store in memory that holds these objects by key."""
    return MemoryStore({key: to_buffer(data) for key, data in documents.items()})


def documents_written(create: Callable[[MemoryStore], object]) -> dict[str, bytes]:
    """The objects by key that ``create`` writes into an empty store in memory."""
    written: dict[str, Buffer] = {}
    create(MemoryStore(written))
    return {key: buffer.to_bytes() for key, buffer in written.items()}


def read_object(store: ZarrStore, key: str) -> bytes | None:
    """The bytes of one object of a zarr store; None if there is no such object."""
    found = sync(store.get(key, default_buffer_prototype()))
    return None if found is None else found.to_bytes()


def objects_of_store(store: ZarrStore, prefix: str) -> list[str]:
    """Every key below a prefix of a zarr store, in order."""

    async def listed() -> list[str]:
        return [key async for key in store.list_prefix(f"{prefix}/" if prefix else "")]

    return sorted(sync(listed()))


def wrapped_store(store: WrapperStore[Any]) -> ZarrStore:
    """The store that another one is wrapped around."""
    return cast(ZarrStore, store._store)


def names_in_store(store: ZarrStore) -> list[str]:
    """The names directly at the root of a zarr store, in the order of its listing."""

    async def listed() -> list[str]:
        return [name async for name in store.list_dir("")]

    return sync(listed())


def fsspec_store(fs: Any, root: str, *, read_only: bool) -> FsspecStore:
    """The zarr store of a path in an fsspec filesystem, asynchronous or not."""
    make_async = cast("Callable[[Any], Any]", zarr.storage._fsspec._make_async)
    return FsspecStore(make_async(fs), read_only=read_only, path=root)


def shard_order(grid: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Positions of the chunks in a shard of ``grid`` chunks, in the order in which zarr
    writes them (Morton order)."""
    return tuple(morton_order_coords(grid))
