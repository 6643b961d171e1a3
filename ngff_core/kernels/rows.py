"""What the native kernels share: compiling on first use, and windows as flat rows.

Numba is imported with the first sample, never before: that takes a second and more, which
naming a method or planning a pyramid should not cost.

Each compilation takes seconds, and numba makes one per dtype, layout, byte order and
writeability. So a compiled function gets a window in one form only: a read-only run of
native samples, contiguous along x, and the distances between its rows and planes.
Signed integers go as unsigned ones with the sign bit to flip, bool as uint8. What has
another form is copied to it piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ngff_core.blocks import Block
from ngff_core.geometry import Region, Shape, blocks, ceil_div, window_of

# Samples of a window that are copied at once where its form is not the compiled one: 4 to
# 8 MB. Smaller pieces are half halo.
_PIECE_SAMPLES = 2**20


# ------------------------------------------------------------------ compiling


class Compiled:
    """A function that numba compiles when it is first called, or loads from its cache.

    The machine code lies beside the source, or in the user's cache directory where that
    cannot be written, and is made anew when the function's own file changes. So the
    ``helpers`` it calls must stand in the same file.
    """

    def __init__(self, function: Callable[..., Any], *helpers: Callable[..., Any]) -> None:
        self._function = function
        self._helpers = helpers
        self._dispatcher: Any = None
        self._lock = Lock()

    def __call__(self, *arguments: Any) -> None:
        (self._dispatcher or self.dispatcher)(*arguments)

    @property
    def dispatcher(self) -> Any:
        """Numba's object for the function, with the signatures compiled so far."""
        with self._lock:
            if self._dispatcher is None:
                self._dispatcher = self._made()
            return self._dispatcher

    def _made(self) -> Any:
        try:
            return self._jitted(cache=True)
        except RuntimeError:  # no directory to keep the code in: compile in each process
            return self.uncached()

    def uncached(self) -> Any:
        """A dispatcher of its own that keeps nothing, and whose code can be inspected."""
        return self._jitted(cache=False)

    def _jitted(self, *, cache: bool) -> Any:
        from numba import njit
        from numba.extending import register_jitable

        for helper in self._helpers:
            register_jitable(helper)
        # Neither fast-math nor fused multiply-adds, which numba makes only with it: both
        # change last bits.
        return njit(cache=cache, nogil=True, fastmath=False, error_model="numpy")(self._function)


# ------------------------------------------------------------------ dtypes


@dataclass(frozen=True)
class Plain:
    """A dtype as the compiled functions see it: the same bytes, without a sign.

    ``flip`` is the sign bit of a signed integer, which turns order-preservingly into an
    unsigned one when it is flipped; 0 for what has no sign, None for floats.
    """

    dtype: np.dtype[Any]
    flip: np.unsignedinteger[Any] | None


def plain(dtype: np.dtype[Any]) -> Plain:
    """How the compiled functions see samples of ``dtype``, in either byte order.

    >>> plain(np.dtype(">i2"))
    Plain(dtype=dtype('uint16'), flip=np.uint16(32768))
    """
    if dtype.kind == "f":
        return Plain(dtype.newbyteorder("="), None)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    flip = 1 << (8 * dtype.itemsize - 1) if dtype.kind == "i" else 0
    return Plain(unsigned, unsigned.type(flip))


# ------------------------------------------------------------------ windows


@dataclass(frozen=True)
class Rows:
    """A 3-D window as one run of samples; sample z, y, x is ``flat[z * sz + y * sy + x]``."""

    flat: Block
    shape: Shape
    strides: Shape


def has_rows(volume: Block) -> bool:
    """Whether the compiled functions can read a 3-D window where it lies.

    Not if it has another byte order, samples along x that do not lie side by side, axes
    that run backwards, or unaligned samples.
    """
    item = volume.itemsize
    regular = all(s >= 0 and s % item == 0 for s in _strides(volume))
    beside = volume.shape[2] == 1 or volume.strides[2] == item
    return regular and beside and volume.flags.aligned and volume.dtype.isnative


def rows_of(volume: Block) -> Rows:
    """A 3-D window that is not empty and ``has_rows``, as a run of plain samples."""
    item, strides = volume.itemsize, _strides(volume)
    extent = 1 + sum((n - 1) * s // item for n, s in zip(volume.shape, strides, strict=True))
    view = volume.view(plain(volume.dtype).dtype)
    flat = as_strided(view, (extent,), (item,), writeable=False)
    return Rows(flat, volume.shape, (strides[0] // item, strides[1] // item))


def _strides(volume: Block) -> Shape:
    """Bytes from sample to sample per axis; what numpy says of axes of one means nothing."""
    return tuple(s if n > 1 else 0 for n, s in zip(volume.shape, volume.strides, strict=True))


def volumes(
    window: Block, offset: Shape, step: Shape, out: Block
) -> Iterator[tuple[Block, Shape, Shape, Block]]:
    """Window, offset, step and output of each 3-D array of a window of one to five axes.

    All are views. An axis c next to y and x counts as z: at step 1 no sample depends on
    its neighbours along that axis.
    """
    if window.ndim < 3:
        new = (np.newaxis,) * (3 - window.ndim)
        yield window[new], (0,) * len(new) + offset, (1,) * len(new) + step, out[new]
        return
    outer = window.ndim - 3
    for index in np.ndindex(out.shape[:outer]):
        source = tuple(a + i for a, i in zip(offset, index, strict=False))
        yield window[source], offset[outer:], step[outer:], out[index]


def pieces(
    window: Shape, offset: Shape, step: Shape, halo: Shape, shape: Shape
) -> Iterator[tuple[Region, Region, Shape]]:
    """Cuts ``shape`` bins: each piece's bins, its box of the window, and its offset therein."""
    before = tuple(a // k for a, k in zip(offset, step, strict=True))
    for bins in blocks(Region((0,) * len(shape), shape), _piece(step, halo, shape)):
        start = tuple(a + o for a, o in zip(bins.start, before, strict=True))
        stop = tuple(b + o for b, o in zip(bins.stop, before, strict=True))
        need = window_of(Region(start, stop), step, halo, window)
        yield bins, need.box, need.offset


def _piece(step: Shape, halo: Shape, shape: Shape) -> Shape:
    """Bins of a piece: the longest axis is halved until the samples needed are few.

    x counts as an eighth of its length, for long rows are fast.
    """
    piece = list(shape)
    limit = max(_PIECE_SAMPLES, 8 * math.prod(2 * h + k for h, k in zip(halo, step, strict=True)))
    while _samples(piece, step, halo) > limit and max(piece) > 1:
        lengths = [n / 8 if axis == len(piece) - 1 else n for axis, n in enumerate(piece)]
        longest = lengths.index(max(lengths)) if max(lengths) > 1 else piece.index(max(piece))
        piece[longest] = ceil_div(piece[longest], 2)
    return tuple(piece)


def _samples(bins: list[int], step: Shape, halo: Shape) -> int:
    return math.prod((n + ceil_div(h, k)) * k + h for n, k, h in zip(bins, step, halo, strict=True))


def piece_bytes(window: Shape, step: Shape, halo: Shape, read: int, written: int) -> int:
    """Bytes at most of one piece: ``read`` per sample of it, ``written`` per bin."""
    shape, step, halo = as_volume(window, 1), as_volume(step, 1), as_volume(halo, 0)
    bins = _piece(step, halo, tuple(max(1, n // k) for n, k in zip(shape, step, strict=True)))
    return _samples(list(bins), step, halo) * read + math.prod(bins) * written


def as_volume(shape: Shape, fill: int) -> Shape:
    """The last three axes, with ``fill`` in front where there are fewer.

    >>> as_volume((5, 7), 1), as_volume((9, 4, 3, 5), 1)
    ((1, 5, 7), (4, 3, 5))
    """
    return ((fill,) * 3 + shape)[-3:]


# ------------------------------------------------------------------ running


@dataclass(frozen=True)
class Form:
    """How samples of a dtype come to a compiled function and back.

    ``work`` is the dtype in which the window is handed over, ``result`` that of what comes
    out, and ``back`` makes the window's dtype of it. ``forth`` makes ``work`` of the window
    where that takes more than a cast.
    """

    work: np.dtype[Any]
    result: np.dtype[Any]
    back: Callable[[Block], Block] | None = None
    forth: Callable[[Block], Block] | None = None

    def taken(self, piece: Block) -> Block:
        """A C-contiguous copy of ``piece`` as ``work``."""
        samples = piece if self.forth is None else self.forth(piece)
        return np.array(samples, self.work, order="C", ndmin=3)


Run = Callable[[Rows, Shape, Shape, Block], None]


def fill(
    out: Block, window: Block, offset: Shape, step: Shape, halo: Shape, form: Form, run: Run
) -> None:
    """Fill ``out`` with what ``run`` makes of ``window``; copies pieces only where it must.

    ``run(rows, offset, step, samples)`` fills a C-contiguous array of ``form.result``.
    """
    halo = as_volume(halo, 0)
    for source, first, steps, target in volumes(window, offset, step, out):
        _fill_volume(target, source, first, steps, halo, form, run)


def _fill_volume(
    out: Block, window: Block, offset: Shape, step: Shape, halo: Shape, form: Form, run: Run
) -> None:
    if not out.size:
        return
    direct = form.back is None and window.dtype == form.work and out.flags.c_contiguous
    if direct and has_rows(window):
        run(rows_of(window), offset, step, out)
        return
    for bins, box, first in pieces(window.shape, offset, step, halo, out.shape):
        samples = np.empty(bins.shape, form.result)
        run(rows_of(form.taken(window[box.slices])), first, step, samples)
        out[bins.slices] = samples if form.back is None else form.back(samples)


def by_component(reduce: Callable[[Block, Block], None], window: Block, out: Block) -> None:
    """``reduce(window, out)`` on real and imaginary parts, or on what is real."""
    if window.dtype.kind != "c":
        reduce(window, out)
        return
    reduce(window.real, out.real)
    reduce(window.imag, out.imag)
