"""Shared by the native kernels: compilation on first use, and windows as flat rows.

Numba is imported when the first sample is computed, never before: the import takes more
than a second, which naming a method or planning a pyramid should not cost.

Each compilation takes seconds, and numba compiles once for each dtype, layout, byte order
and writeability. So compiled functions get every window in the same form: a read-only, flat
array of native samples, contiguous along x, and the distances between its rows and between
its planes. Signed integers are passed as unsigned ones with the sign bit to flip, bool as
uint8. A window of another form is copied into it piece by piece; a *piece* is a part of the
window, small enough to be copied and computed at a time.
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

# Samples of a piece: 4 to 8 MB. Half of a smaller piece would be halo.
_PIECE_SAMPLES = 2**20


# ------------------------------------------------------------------ compiling


class Compiled:
    """A function that numba compiles, or loads from its cache, when it is first called.

    The cache of machine code is beside the source file, or in the user's cache directory
    where that folder is read-only. It is renewed when the function's own file changes, so
    the ``helpers`` that the function calls must be in the same file.
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
                self._dispatcher = self._make_dispatcher()
            return self._dispatcher

    def _make_dispatcher(self) -> Any:
        try:
            return self._jitted(cache=True)
        except RuntimeError:  # no folder for the cache can be written: compile in each process
            return self.uncached()

    def uncached(self) -> Any:
        """A new dispatcher that caches nothing on disk; its machine code can be inspected."""
        return self._jitted(cache=False)

    def _jitted(self, *, cache: bool) -> Any:
        from numba import njit
        from numba.extending import register_jitable

        for helper in self._helpers:
            register_jitable(helper)
        # No fast-math, and so no fused multiply-adds, which numba makes with it only: both
        # change the last bits of samples.
        return njit(cache=cache, nogil=True, fastmath=False, error_model="numpy")(self._function)


# ------------------------------------------------------------------ dtypes


@dataclass(frozen=True)
class Plain:
    """A dtype as the compiled functions see it: the same bytes, without a sign."""

    dtype: np.dtype[Any]
    flip: np.unsignedinteger[Any] | None
    """The sign bit of a signed integer: flipping it gives an unsigned integer of the same
    order. 0 for unsigned integers and bool, None for floats."""


def plain(dtype: np.dtype[Any]) -> Plain:
    """The dtype by which compiled functions see samples of ``dtype``, in either byte order.

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
    """A 3-D window as a flat array; sample (z, y, x) is ``flat[z * sz + y * sy + x]``."""

    flat: Block
    shape: Shape
    """Samples along z, y and x."""
    strides: Shape
    """``(sz, sy)``: samples from plane to plane, and from row to row."""


def has_rows(volume: Block) -> bool:
    """Whether the compiled functions can read a 3-D window without a copy.

    They cannot if its byte order is not the machine's, samples along x are not contiguous,
    an axis runs backwards, or samples are not aligned.
    """
    item = volume.itemsize
    regular = all(s >= 0 and s % item == 0 for s in _strides(volume))
    contiguous = volume.shape[2] == 1 or volume.strides[2] == item
    return regular and contiguous and volume.flags.aligned and volume.dtype.isnative


def rows_of(volume: Block) -> Rows:
    """A 3-D window that is not empty, and for which `has_rows` is true, as a flat array."""
    item, strides = volume.itemsize, _strides(volume)
    extent = 1 + sum((n - 1) * s // item for n, s in zip(volume.shape, strides, strict=True))
    view = volume.view(plain(volume.dtype).dtype)
    flat = as_strided(view, (extent,), (item,), writeable=False)
    return Rows(flat, volume.shape, (strides[0] // item, strides[1] // item))


def _strides(volume: Block) -> Shape:
    """Bytes from sample to sample, per axis; 0 for axes of length 1, whose strides in numpy
    have no meaning."""
    return tuple(s if n > 1 else 0 for n, s in zip(volume.shape, volume.strides, strict=True))


def volumes(
    window: Block, offset: Shape, step: Shape, out: Block
) -> Iterator[tuple[Block, Shape, Shape, Block]]:
    """Cut a window of one to five axes into 3-D arrays.

    Yields the window, offset, step and output of each; the arrays are views. A c axis next
    to y and x is treated as z: at step 1 no sample depends on its neighbours along it.
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
    """Cut an output of ``shape`` bins into pieces.

    Yields the box of each piece's bins, the box of the window that they are computed from,
    and the samples of that box before the piece's first bin.
    """
    before = tuple(a // k for a, k in zip(offset, step, strict=True))
    for bins in blocks(Region((0,) * len(shape), shape), _piece(step, halo, shape)):
        start = tuple(a + o for a, o in zip(bins.start, before, strict=True))
        stop = tuple(b + o for b, o in zip(bins.stop, before, strict=True))
        need = window_of(Region(start, stop), step, halo, window)
        yield bins, need.box, need.offset


def _piece(step: Shape, halo: Shape, shape: Shape) -> Shape:
    """Shape of a piece in bins: the longest axis is halved until few samples are needed.

    x counts as an eighth of its length, because long rows are fast.
    """
    piece = list(shape)
    limit = max(_PIECE_SAMPLES, 8 * math.prod(2 * h + k for h, k in zip(halo, step, strict=True)))
    while _samples(piece, step, halo) > limit and max(piece) > 1:
        lengths = [n / 8 if axis == len(piece) - 1 else n for axis, n in enumerate(piece)]
        longest = lengths.index(max(lengths)) if max(lengths) > 1 else piece.index(max(piece))
        piece[longest] = ceil_div(piece[longest], 2)
    return tuple(piece)


def _samples(bins: list[int], step: Shape, halo: Shape) -> int:
    """Samples of the window at most that ``bins`` bins are computed from."""
    return math.prod((n + ceil_div(h, k)) * k + h for n, k, h in zip(bins, step, halo, strict=True))


def piece_bytes(window: Shape, step: Shape, halo: Shape, read: int, written: int) -> int:
    """Largest number of bytes of one piece: ``read`` per sample, ``written`` per bin."""
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
class Conversion:
    """How samples of a dtype are converted for a compiled function, and its results back."""

    work: np.dtype[Any]
    """Dtype in which the function gets the window."""
    result: np.dtype[Any]
    """Dtype of the samples that the function computes."""
    from_result: Callable[[Block], Block] | None = None
    """Converts results to the window's dtype; None where they have it already."""
    to_work: Callable[[Block], Block] | None = None
    """Converts the window to ``work``, where that takes more than a cast."""

    def copy_as_work(self, piece: Block) -> Block:
        """A C-contiguous copy of ``piece`` as ``work``."""
        samples = piece if self.to_work is None else self.to_work(piece)
        return np.array(samples, self.work, order="C", ndmin=3)


Run = Callable[[Rows, Shape, Shape, Block], None]


def fill(
    out: Block,
    window: Block,
    offset: Shape,
    step: Shape,
    halo: Shape,
    conversion: Conversion,
    run: Run,
) -> None:
    """Fill ``out`` with what ``run`` computes from ``window``; copies only where it must.

    ``run(rows, offset, step, samples)`` fills the C-contiguous array ``samples``, of dtype
    ``conversion.result``. A window whose form the compiled code can read is not copied.
    """
    halo = as_volume(halo, 0)
    for source, first, steps, target in volumes(window, offset, step, out):
        _fill_volume(target, source, first, steps, halo, conversion, run)


def _fill_volume(
    out: Block,
    window: Block,
    offset: Shape,
    step: Shape,
    halo: Shape,
    conversion: Conversion,
    run: Run,
) -> None:
    if not out.size:
        return
    direct = (
        conversion.from_result is None
        and window.dtype == conversion.work
        and out.flags.c_contiguous
    )
    if direct and has_rows(window):
        run(rows_of(window), offset, step, out)
        return
    for bins, box, first in pieces(window.shape, offset, step, halo, out.shape):
        samples = np.empty(bins.shape, conversion.result)
        run(rows_of(conversion.copy_as_work(window[box.slices])), first, step, samples)
        convert = conversion.from_result
        out[bins.slices] = samples if convert is None else convert(samples)


def by_component(reduce: Callable[[Block, Block], None], window: Block, out: Block) -> None:
    """Call ``reduce(window, out)`` on the real and on the imaginary part of complex samples,
    or once on real samples."""
    if window.dtype.kind != "c":
        reduce(window, out)
        return
    reduce(window.real, out.real)
    reduce(window.imag, out.imag)
