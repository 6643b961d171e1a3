"""The samples of a CZI image: its full-resolution subblocks, composed in the order of M."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape
from ngff_core.sources.codestreams import check_claimed
from ngff_core.sources.decoded import DecodedCache

if TYPE_CHECKING:
    from czifile import CziDirectoryEntryDV, CziFile, CziSubBlockSegmentData

Mask = np.ndarray[Any, np.dtype[np.bool_]]

SAMPLES = "S"
"""czifile's name for the samples of a color pixel."""

_MOST_COMPRESSED = 40_000
"""Most decoded bytes for one stored byte. Zstandard's limit is near 33 000; a subblock that
claims more would only take memory."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where subblocks lie in one image. A later subblock covers an earlier one.

    Attributes
    ----------
    dims
        czifile's letter for each axis of the image.
    origin
        Start of the image on each axis, in the file's own coordinates.
    shape
        The box around all subblocks; on the axis C the number of channels.
    channels
        The file's numbers of the channels on the axis C, ascending; empty without that axis.
    entries
        Directory entries in the order in which they are drawn.
    starts, stops
        Box of each entry in the image: arrays of (entries, axes).
    """

    dims: tuple[str, ...]
    origin: Shape
    shape: Shape
    channels: tuple[int, ...]
    entries: tuple[CziDirectoryEntryDV, ...]
    starts: np.ndarray[Any, np.dtype[np.int64]]
    stops: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def covered(self) -> int:
        """Samples of all subblocks."""
        return sum(math.prod(e.shape) for e in self.entries)

    @property
    def read_unit(self) -> Shape:
        """The largest subblock on each axis; of a regular mosaic, the distance between two.

        A tile's margin that the next tile covers is not read, so cuts at that distance decode
        each tile of a mosaic about once.
        """
        longest = (self.stops - self.starts).max(axis=0)
        return tuple(
            self._pitch(axis, int(n)) if dim in ("Y", "X") else int(n)
            for axis, (dim, n) in enumerate(zip(self.dims, longest, strict=True))
        )

    def _pitch(self, axis: int, longest: int) -> int:
        """Distance between the tiles on an axis where it is regular, else their length."""
        steps = np.unique(np.diff(np.unique(self.starts[:, axis])))
        regular = len(steps) == 1 and longest < 2 * steps[0] < 2 * longest
        return int(steps[0]) if regular else longest

    @property
    def missing_planes(self) -> tuple[int, int]:
        """How many planes of the image have no subblock at all, and how many there are."""
        outer = [i for i, dim in enumerate(self.dims) if dim not in ("Y", "X", SAMPLES)]
        total = math.prod(self.shape[i] for i in outer)
        boxes = np.unique(np.concatenate([self.starts[:, outer], self.stops[:, outer]], 1), axis=0)
        sizes = boxes[:, len(outer) :] - boxes[:, : len(outer)]
        return max(0, total - int(sizes.prod(axis=1).sum())), total


def arrange(entries: Sequence[CziDirectoryEntryDV]) -> Layout:
    """Lay out the subblocks of one scene; all have one type of pixel."""
    drawn = sorted(entries, key=lambda e: e.mosaic_index)
    dims = _dims(drawn)
    starts = _table(drawn, dims, "start", 0)
    lengths = _table(drawn, dims, "shape", 1)
    origin = starts.min(axis=0)
    channels: tuple[int, ...] = ()
    starts -= origin
    if "C" in dims:
        at = dims.index("C")
        found, numbers = np.unique(starts[:, at], return_inverse=True)
        channels = tuple(int(c + origin[at]) for c in found)
        starts[:, at] = numbers
    stops = starts + lengths
    return Layout(
        dims,
        tuple(int(n) for n in origin),
        tuple(int(n) for n in stops.max(axis=0)),
        channels,
        tuple(drawn),
        starts,
        stops,
    )


def _dims(entries: Sequence[CziDirectoryEntryDV]) -> tuple[str, ...]:
    """Every axis that a subblock has, in the order of the one with the most of them."""
    dims = max((e.dims for e in entries), key=len)
    others = [dim for e in entries for dim in e.dims if dim not in dims]
    dims = (*dict.fromkeys(others), *dims)
    samples = entries[0].pixel_type.samples
    return tuple(dim for dim in dims if dim != SAMPLES or samples > 1)


def _table(
    entries: Sequence[CziDirectoryEntryDV], dims: tuple[str, ...], what: str, absent: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    rows = []
    for entry in entries:
        values = dict(zip(entry.dims, getattr(entry, what), strict=True))
        rows.append([values.get(dim, absent) for dim in dims])
    return np.array(rows, np.int64).reshape(len(rows), len(dims))


@dataclass(frozen=True, eq=False)
class MosaicArray:
    """The samples of one image, 0 where no subblock lies.

    Every sample is that of the last subblock over it, whatever box is asked for. Only the
    subblocks of which a box shows something are read.
    """

    file: CziFile
    layout: Layout
    dtype: np.dtype[Any]
    size: int
    """Bytes of the file."""
    cache: DecodedCache

    @property
    def shape(self) -> Shape:
        return self.layout.shape

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        lower = np.array([s.start for s in key], np.int64)
        upper = np.array([s.stop for s in key], np.int64)
        result = np.zeros(upper - lower, self.dtype)
        starts, stops = self.layout.starts, self.layout.stops
        touched = np.flatnonzero(((starts < upper) & (stops > lower)).all(axis=1))
        # From the last to the first: what is hidden by later ones need not be decoded.
        empty = np.ones(result.shape, np.bool_) if len(touched) > 1 else None
        for number in reversed(touched):
            start, stop = starts[number], stops[number]
            first, last = np.maximum(start, lower), np.minimum(stop, upper)
            target = _box(first - lower, last - lower)
            here = None if empty is None else empty[target]
            if here is None or here.any():
                self._draw(int(number), result[target], here, _box(first - start, last - start))
        return result

    def _draw(
        self, number: int, target: Block, empty: Mask | None, part: tuple[slice, ...]
    ) -> None:
        """Copy a part of a subblock to the samples that are still empty, which then are not."""
        decoded = self.cache.get(number, lambda: self._decode(self.layout.entries[number]))
        samples = decoded.samples[part]
        shown = empty
        if decoded.mask is not None:
            written = np.broadcast_to(decoded.mask, decoded.samples.shape)[part]
            shown = written if empty is None else written & empty
        if shown is None or shown.all():
            target[...] = samples
        else:
            np.copyto(target, samples, where=shown)
        if empty is not None:
            empty[...] = False if decoded.mask is None else empty & ~written

    def _decode(self, entry: CziDirectoryEntryDV) -> _Subblock:
        from czifile import CziSubBlockSegmentData

        segment = entry.read_segment_data(self.file)
        if not isinstance(segment, CziSubBlockSegmentData):
            raise ValueError(f"no subblock at byte {entry.file_position}, where one is listed")
        self._check(entry, segment)
        samples = self._aligned(entry, segment.data())
        mask = segment.mask()
        if mask is not None:
            plane = [dim for dim in entry.dims if dim in ("Y", "X")]
            mask = _in_order(mask, plane, self.layout.dims)
        return _Subblock(samples, mask)

    def _check(self, entry: CziDirectoryEntryDV, segment: CziSubBlockSegmentData) -> None:
        """Compare what a subblock claims with the bytes that are there, before memory is taken."""
        stored = segment.data_size
        decoded = entry.stored_size * entry.dtype.itemsize
        if stored < 0 or segment.data_offset + stored > self.size:
            raise ValueError(
                f"truncated: a subblock ends at byte {segment.data_offset + stored} of {self.size}"
            )
        if entry.decode is None and stored != decoded:
            raise ValueError(f"a subblock of {stored} bytes, but its samples need {decoded}")
        if decoded > stored * _MOST_COMPRESSED:
            raise ValueError(f"a subblock of {stored} bytes that claims to hold {decoded}")
        own = segment.directory_entry
        if own.stored_shape != entry.stored_shape or own.dtype != entry.dtype:
            raise ValueError(
                f"a subblock of {own.stored_shape} samples of {own.dtype}, which the directory "
                f"calls {entry.stored_shape} of {entry.dtype}"
            )
        if own.decode is not None and not isinstance(own.decode, _Checked):
            own.decode = _Checked(own.decode, entry.stored_size)

    def _aligned(self, entry: CziDirectoryEntryDV, samples: Block) -> Block:
        """Samples of a subblock with the image's axes, at the image's resolution."""
        if samples.shape != entry.stored_shape:
            raise ValueError(f"a subblock of shape {samples.shape}, not {entry.stored_shape}")
        for axis, (n, stored) in enumerate(zip(entry.shape, entry.stored_shape, strict=True)):
            if n != stored:
                samples = np.repeat(samples, n // stored, axis=axis)
        return _in_order(samples, entry.dims, self.layout.dims)


@dataclass(frozen=True, eq=False)
class _Checked:
    """A decoder of subblocks that first compares what a picture claims."""

    decode: Callable[..., Any]
    samples: int

    def __call__(self, data: Any, **options: Any) -> Any:
        check_claimed(data, self.samples)
        return self.decode(data, **options)


@dataclass(frozen=True, eq=False)
class _Subblock:
    """A decoded subblock with the axes of its image, and which of its pixels were written."""

    samples: Block
    mask: Mask | None
    """Broadcasts to ``samples``; None if all were."""

    @property
    def nbytes(self) -> int:
        return self.samples.nbytes + (0 if self.mask is None else self.mask.nbytes)


def _in_order(array: Block, dims: Sequence[str], order: Sequence[str]) -> Block:
    """``array`` with the axes of ``order``, of length 1 where it has none; others are dropped."""
    kept = [dims.index(dim) for dim in order if dim in dims]
    dropped = tuple(i for i in range(len(dims)) if i not in kept)
    moved = array.transpose((*kept, *dropped))
    shape = iter(moved.shape)
    return moved.reshape(tuple(next(shape) if dim in dims else 1 for dim in order))


def _box(first: Any, last: Any) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
