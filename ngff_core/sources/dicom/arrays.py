"""Frames of DICOM files as arrays: slices of a volume, and tiles of a slide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape, ceil_div
from ngff_core.sources.dicom.frames import Frames


@dataclass(frozen=True, eq=False)
class FrameArray:
    """Frames along any axes in front of theirs; a frame that is not there is 0.

    Attributes
    ----------
    frames
        One for each file, all of one shape and dtype.
    table
        For each position the file and the frame in it, -1 for none.
    """

    frames: Sequence[Frames]
    table: np.ndarray[Any, Any]

    @property
    def shape(self) -> Shape:
        return (*self.table.shape[:-1], *self.frames[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frames[0].dtype

    @property
    def unit(self) -> Shape:
        """Shape of a frame in the array."""
        return (*(1 for _ in self.table.shape[:-1]), *self.frames[0].shape)

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        leading = self.table.ndim - 1
        outer, inner = key[:leading], key[leading:]
        result = np.empty(tuple(s.stop - s.start for s in key), self.dtype)
        for index in itertools.product(*(range(s.stop - s.start) for s in outer)):
            position = tuple(i + s.start for i, s in zip(index, outer, strict=True))
            file, frame = (int(n) for n in self.table[position])
            result[index] = self.frames[file].read(frame)[inner] if file >= 0 else 0
        return result


@dataclass(frozen=True, eq=False)
class TileArray:
    """Tiles of equal size side by side, along any axes in front of y and x.

    Attributes
    ----------
    frames
        The tiles.
    table
        Number of the tile for each position on the axes in front, row and column of tiles; -1
        where there is none, which reads as ``empty``.
    rows, columns
        Of the complete image; tiles at the edge reach beyond it.
    """

    frames: Frames
    table: np.ndarray[Any, Any]
    rows: int
    columns: int
    empty: int = 0

    @property
    def shape(self) -> Shape:
        return (*self.table.shape[:-2], self.rows, self.columns, *self.frames.shape[2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frames.dtype

    @property
    def unit(self) -> Shape:
        """Shape of a tile in the array."""
        return (*(1 for _ in self.table.shape[:-2]), *self.frames.shape)

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        leading = self.table.ndim - 2
        outer, color = key[:leading], key[leading + 2 :]
        rows, columns = key[leading : leading + 2]
        result = np.full(tuple(s.stop - s.start for s in key), self.empty, self.dtype)
        height, width = self.frames.shape[:2]
        for index in itertools.product(*(range(s.stop - s.start) for s in outer)):
            position = tuple(i + s.start for i, s in zip(index, outer, strict=True))
            for row, y, into_y in _parts(rows, height):
                for column, x, into_x in _parts(columns, width):
                    number = int(self.table[(*position, row, column)])
                    if number >= 0:
                        part: tuple[slice, ...] = (y, x, *color)
                        into: tuple[int | slice, ...] = (*index, into_y, into_x)
                        result[into] = self.frames.read(number)[part]
        return result


def _parts(span: slice, size: int) -> Iterator[tuple[int, slice, slice]]:
    """For each tile that ``span`` touches its number, its part, and where that goes."""
    for number in range(span.start // size, ceil_div(span.stop, size)):
        start, stop = max(span.start, number * size), min(span.stop, (number + 1) * size)
        part = slice(start - number * size, stop - number * size)
        yield number, part, slice(start - span.start, stop - span.start)
