"""What every input format gives: an image that reads lazily, and what identifies it."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from ngff_core.blocks import ArrayLike, Block, BlockedArray
from ngff_core.errors import NgffError, SourceFormatError
from ngff_core.geometry import Region, Shape
from ngff_core.model.axes import canonical_order, is_sound_name
from ngff_core.model.image import NgffImage, in_canonical_order
from ngff_core.sources.chunk_files import ChunkFiles
from ngff_core.storage import is_transient, read_region

Pins = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SourceIdentity:
    """What tells this source from another one, or from itself after a change."""

    uri: str
    """Absolute path or URI, or ``array:<name>`` for an array in memory."""
    pins: Pins
    """Sorted (what, value) pairs: size, version, digest of a listing, token."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class ChunkCount:
    """Objects that hold the samples of a zarr array, chunks or shards.

    Absent ones are read as the array's fill value: zarr has it so, and nobody can tell one
    that was never written from one that was lost.
    """

    total: int
    absent: int


@dataclass(frozen=True)
class Source:
    """An opened source. ``image.data[slices]`` may be read from several threads at once."""

    image: NgffImage
    """Lazy, its axes in t, c, z, y, x order."""
    identity: SourceIdentity
    read_unit: Shape
    """Smallest box, per axis of the image, that storage can decode by itself."""
    kind: str
    """``zarr``, ``ome-zarr``, ``tiff``, ``npy`` or ``array``."""
    _close: Callable[[], None] = field(default=_nothing, repr=False, compare=False)
    chunks: ChunkCount | None = None
    """Of a zarr array whose store could be listed."""

    def close(self) -> None:
        """Let go of open files; reading afterwards is an error or gives nothing useful."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, eq=False)
class Reader:
    """A stored array whose trouble in decoding is told as `SourceFormatError`.

    ``reader[slices]`` takes one step-less slice per axis, with numpy's rules for bounds,
    and gives a numpy array in the stored dtype, byte order included.
    """

    array: Any
    uri: str
    shape: Shape
    dtype: np.dtype[Any]
    chunks: ChunkFiles | None = None
    """The array's chunks where they can be decoded one by one, past zarr."""

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        box = resolve(key, self.shape)
        if any(s.start == s.stop for s in box):
            return np.empty(tuple(s.stop - s.start for s in box), self.dtype)
        with refusing(f"{self.uri}: cannot decode the box {_box_text(box)}"):
            return np.asarray(self.array[box]).astype(self.dtype, copy=False)

    def region(self, box: Region) -> BlockedArray:
        """The same in memory that is used again when the samples are gone; ``box`` lies inside."""
        with refusing(f"{self.uri}: cannot decode the box {_box_text(box.slices)}"):
            found = self.chunks.read(box) if self.chunks is not None else None
            if found is None:
                found = BlockedArray.of(box, read_region(self.array, box.slices))
            return found.astype(self.dtype)


@dataclass(frozen=True, eq=False)
class SqueezedArray:
    """A view of an array without its axes of length 1 that are not in ``keep``."""

    array: ArrayLike
    keep: tuple[int, ...]

    @property
    def shape(self) -> Shape:
        return tuple(self.array.shape[i] for i in self.keep)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        inner = [slice(0, 1)] * len(self.array.shape)
        for axis, part in zip(self.keep, key, strict=True):
            inner[axis] = part
        dropped = tuple(i for i in range(len(inner)) if i not in self.keep)
        return np.asarray(self.array[tuple(inner)]).squeeze(axis=dropped)


def resolve(key: Any, shape: Shape) -> tuple[slice, ...]:
    """``key`` with its bounds filled in as numpy would, so that start <= stop.

    Raises ``IndexError`` where it is not one slice per axis, each without a step.
    """
    key = key if isinstance(key, tuple) else (key,)
    if len(key) != len(shape) or not all(isinstance(s, slice) for s in key):
        raise IndexError(f"one slice per axis of {shape} is wanted, not {key}")
    if any(s.step not in (None, 1) for s in key):
        raise IndexError(f"slices with a step are not read: {key}")
    bounds = (s.indices(n) for s, n in zip(key, shape, strict=True))
    return tuple(slice(start, max(start, stop)) for start, stop, _ in bounds)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn the errors of decoders and parsers into `SourceFormatError`, ``what`` first.

    Passing trouble, a file system's refusal and our own errors go through as they are.
    """
    try:
        yield
    except (gzip.BadGzipFile, EOFError) as error:
        # BadGzipFile is an OSError that says nothing about the file system.
        raise SourceFormatError(f"{what}: {error}") from error
    except (NgffError, OSError, MemoryError):
        raise
    except Exception as error:
        if is_transient(error):
            raise
        text = str(error) or type(error).__name__
        raise SourceFormatError(f"{what}: {text}") from error


def check_array(shape: Sequence[int], dtype: np.dtype[Any], uri: str) -> None:
    """Raise `SourceFormatError` for an array no pyramid can be built from."""
    if len(shape) == 0:
        raise SourceFormatError(f"{uri}: an array without dimensions is no image")
    if 0 in shape:
        raise SourceFormatError(f"{uri}: an array of shape {tuple(shape)} holds no samples")
    if dtype.kind not in "biufc":
        raise SourceFormatError(f"{uri}: samples of type {dtype} are not numbers")


def clip_unit(unit: Sequence[int], shape: Sequence[int]) -> Shape:
    """``unit`` where a chunk is larger than the array: no more than the array."""
    return tuple(min(int(u), int(n)) for u, n in zip(unit, shape, strict=True))


def make_source(
    image: NgffImage,
    identity: SourceIdentity,
    unit: Shape,
    kind: str,
    close: Callable[[], None] = _nothing,
    chunks: ChunkCount | None = None,
) -> Source:
    """A source with its axes, and those of ``unit``, brought into t, c, z, y, x order."""
    order = canonical_order(image.dims)
    ordered = tuple(unit[i] for i in order)
    return Source(in_canonical_order(image), identity, ordered, kind, close, chunks)


def sensible_name(name: object) -> str:
    """``name`` if a pyramid's datasets can bear it, else ``image``."""
    text = name.strip() if isinstance(name, str) else ""
    return text if is_sound_name(text) else "image"


def _box_text(box: tuple[slice, ...]) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in box) + "]"
