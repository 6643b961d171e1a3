"""The reader contract: what every input format returns, and helpers that formats share."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np

from ngff_core.blocks import ArrayLike, Block, BlockedArray
from ngff_core.errors import NgffError, SourceFormatError
from ngff_core.geometry import Region, Shape
from ngff_core.model.axes import is_sound_name
from ngff_core.model.channels import Channel
from ngff_core.model.image import NgffImage
from ngff_core.sources.chunk_files import ChunkFiles
from ngff_core.sources.contract import (
    ChunkCount,
    ImageDescription,
    Note,
    SourceIdentity,
    do_nothing,
)
from ngff_core.storage import is_transient, read_region


@dataclass(frozen=True)
class About:
    """What is known of the image that is read, beside its samples and axes.

    Attributes
    ----------
    format
        The source's format in words.
    series
        Number of the image in the source, and how many images the source holds.
    described
        What the reader said of the image; None for what was never opened.
    channels
        One for each position on the axis c, with the caller's names; empty if nothing is known.
    notes
        All that was assumed, left out, converted, overruled or could not be known.
    reading
        How to open the same samples again: `Selection.reading`.
    """

    format: str = "an array"
    series: tuple[int, int] = (0, 1)
    described: ImageDescription | None = None
    channels: tuple[Channel, ...] = ()
    notes: tuple[Note, ...] = ()
    reading: str = ""

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each value comes from, see `ImageDescription`."""
        return self.described.origins if self.described else {}

    @property
    def labels(self) -> bool:
        """Whether the samples are numbers of objects."""
        return self.described is not None and self.described.labels

    @property
    def metadata(self) -> Mapping[str, Any]:
        """JSON values to keep beside the image."""
        return self.described.metadata if self.described else {}

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "format": self.format,
            "series": self.series[0],
            "images_in_source": self.series[1],
            "origins": dict(self.origins),
            "channels": [asdict(channel) for channel in self.channels],
            "labels": self.labels,
            "notes": [asdict(note) for note in self.notes],
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True)
class Source:
    """An opened image, to be closed. Several threads may read ``image.data`` at once."""

    image: NgffImage
    """The image, with lazy data, axes in t, c, z, y, x order."""
    identity: SourceIdentity
    read_unit: Shape
    """Shape of the smallest box that storage can decode by itself, per axis of the image."""
    kind: str
    """The reader: ``zarr``, ``ome-zarr``, ``tiff``, ``npy``, ``array`` and so on."""
    _close: Callable[[], None] = field(default=do_nothing, repr=False, compare=False)
    chunks: ChunkCount | None = None
    """Of a zarr array, if its store can be listed."""
    about: About = field(default=About(), compare=False)

    def close(self) -> None:
        """Close open files. Do not read the image afterwards."""
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
    """A stored array that raises `SourceFormatError` where it cannot be decoded.

    ``reader[slices]`` takes one slice without a step per axis, with numpy's rules for bounds,
    and returns a numpy array in the stored dtype, byte order included.
    """

    array: Any
    uri: str
    shape: Shape
    dtype: np.dtype[Any]
    chunks: ChunkFiles | None = None
    """The array's chunks, if they are files that can be decoded one by one without zarr."""

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        box = resolve(key, self.shape)
        if any(s.start == s.stop for s in box):
            return np.empty(tuple(s.stop - s.start for s in box), self.dtype)
        with as_format_error(f"{self.uri}: cannot decode the box {_box_text(box)}"):
            return np.asarray(self.array[box]).astype(self.dtype, copy=False)

    def region(self, box: Region) -> BlockedArray:
        """The samples of a box inside the array, in pooled memory (`memory.region_memory`)."""
        with as_format_error(f"{self.uri}: cannot decode the box {_box_text(box.slices)}"):
            samples = self.chunks.read(box) if self.chunks is not None else None
            if samples is None:
                samples = BlockedArray.of(box, read_region(self.array, box.slices))
            return samples.astype(self.dtype)


@dataclass(frozen=True, eq=False)
class PickedArray:
    """A lazy view of an array that keeps the axes in ``keep``, each other at one position."""

    array: ArrayLike
    keep: tuple[int, ...]
    start: tuple[int, ...]
    """For every axis of ``array``; only those of the axes that are not kept count."""

    @property
    def shape(self) -> Shape:
        return tuple(self.array.shape[i] for i in self.keep)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        inner = [slice(at, at + 1) for at in self.start]
        for axis, part in zip(self.keep, key, strict=True):
            inner[axis] = part
        dropped = tuple(i for i in range(len(inner)) if i not in self.keep)
        return np.asarray(self.array[tuple(inner)]).squeeze(axis=dropped)


def resolve(key: Any, shape: Shape) -> tuple[slice, ...]:
    """``key`` as one slice per axis with explicit bounds, by numpy's rules; start <= stop.

    Raises ``IndexError`` if it is not one slice without a step for each axis.
    """
    key = key if isinstance(key, tuple) else (key,)
    if len(key) != len(shape) or not all(isinstance(s, slice) for s in key):
        raise IndexError(f"index {key}: give one slice for each axis of the shape {shape}")
    if any(s.step not in (None, 1) for s in key):
        raise IndexError(f"index {key}: slices with a step are not supported")
    bounds = (s.indices(n) for s, n in zip(key, shape, strict=True))
    return tuple(slice(start, max(start, stop)) for start, stop, _ in bounds)


@contextmanager
def as_format_error(what: str) -> Iterator[None]:
    """Turn errors of decoders and parsers into `SourceFormatError`; ``what`` begins the message.

    Transient errors, errors of the file system, lack of memory and this package's own errors
    are not changed.
    """
    try:
        yield
    except (gzip.BadGzipFile, EOFError) as error:
        # BadGzipFile is an OSError, but not one of the file system.
        raise SourceFormatError(f"{what}: {error}") from error
    except (NgffError, MemoryError):
        raise
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOVERFLOW):
            # An offset that a file claims, and that no file can have.
            raise SourceFormatError(f"{what}: damaged: it points outside of any file") from error
        if type(error) is not OSError or error.errno is not None or is_transient(error):
            raise
        # Some packages have no error of their own for a file that they cannot parse.
        raise SourceFormatError(f"{what}: {str(error) or 'damaged or truncated'}") from error
    except Exception as error:
        if is_transient(error):
            raise
        text = str(error) or type(error).__name__
        raise SourceFormatError(f"{what}: {text}") from error


def check_array(shape: Sequence[int], dtype: np.dtype[Any], uri: str) -> None:
    """Raise `SourceFormatError` for an array that no pyramid can be built from."""
    if len(shape) == 0:
        raise SourceFormatError(f"{uri}: an array without dimensions is not an image")
    if 0 in shape:
        raise SourceFormatError(f"{uri}: an array of shape {tuple(shape)} has no samples")
    if dtype.kind not in "biufc":
        raise SourceFormatError(f"{uri}: samples of type {dtype} are not numbers")


def whole_unit(unit: Iterable[int]) -> Shape:
    """A unit of decoding as a shape. It may be larger than the array: a chunk, tile or subblock
    that reaches beyond it is decoded as a whole, and takes the memory of a whole one."""
    return tuple(max(1, int(n)) for n in unit)


def clip_unit(unit: Sequence[int], shape: Sequence[int]) -> Shape:
    """``unit``, on each axis no longer than the array, where a decoder cuts it there too."""
    return tuple(min(int(u), int(n)) for u, n in zip(unit, shape, strict=True))


def sensible_name(name: object) -> str:
    """``name`` if it can be part of a dataset's path, else ``image``."""
    text = name.strip() if isinstance(name, str) else ""
    return text if is_sound_name(text) else "image"


def _box_text(box: tuple[slice, ...]) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in box) + "]"
