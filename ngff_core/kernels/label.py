"""Label images in native code: a vote of the voxels next to the bin centre.

The voters of a bin are at most eight, two per axis. A sorting network of 19 comparators
sorts them with the same instructions for every bin, so LLVM makes vector code of it, and
thousands of labels cost no more than two. Where there are fewer voters, each of them votes
twice, four or eight times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape
from ngff_core.kernels.rows import Compiled, Conversion, Rows, as_volume, fill, piece_bytes, plain

# Bins of a strip along x: eight rows of 64-bit voters take 16 kB.
_STRIP = 256


# ------------------------------------------------------------------ compiled code


def _gather(
    source: Any, voters: Any, row: int, first: int, second: int, step: int, flip: Any
) -> None:
    """Copy both voters along x of each bin from a row of samples to two rows of voters."""
    a, b = voters[row], voters[row + 1]
    bins = source.size // step
    kind = voters.dtype.type
    if step == 2:
        for i in range(bins):
            a[i] = kind(source[2 * i] ^ flip)
            b[i] = kind(source[2 * i + 1] ^ flip)
    else:
        for i in range(bins):
            a[i] = kind(source[i * step + first] ^ flip)
            b[i] = kind(source[i * step + second] ^ flip)


def _elect(voters: Any, out: Any, flip: Any) -> None:
    """The most frequent label of the eight voters of each bin, the smallest on a tie.

    In sorted voters, a label with n votes is n equal neighbours. At most one label has more
    than four votes, and the search for four finds it.
    """
    for i in range(out.size):
        a, b, c, d = voters[0, i], voters[1, i], voters[2, i], voters[3, i]
        e, f, g, h = voters[4, i], voters[5, i], voters[6, i], voters[7, i]
        a, c = min(a, c), max(a, c)
        b, d = min(b, d), max(b, d)
        e, g = min(e, g), max(e, g)
        f, h = min(f, h), max(f, h)
        a, e = min(a, e), max(a, e)
        b, f = min(b, f), max(b, f)
        c, g = min(c, g), max(c, g)
        d, h = min(d, h), max(d, h)
        a, b = min(a, b), max(a, b)
        c, d = min(c, d), max(c, d)
        e, f = min(e, f), max(e, f)
        g, h = min(g, h), max(g, h)
        c, e = min(c, e), max(c, e)
        d, f = min(d, f), max(d, f)
        b, e = min(b, e), max(b, e)
        d, g = min(d, g), max(d, g)
        b, c = min(b, c), max(b, c)
        d, e = min(d, e), max(d, e)
        f, g = min(f, g), max(f, g)
        winner = a
        # two votes, the smallest label last
        winner = g if g == h else winner
        winner = f if f == g else winner
        winner = e if e == f else winner
        winner = d if d == e else winner
        winner = c if c == d else winner
        winner = b if b == c else winner
        winner = a if a == b else winner
        # three
        winner = f if f == h else winner
        winner = e if e == g else winner
        winner = d if d == f else winner
        winner = c if c == e else winner
        winner = b if b == d else winner
        winner = a if a == c else winner
        # four and more
        winner = e if e == h else winner
        winner = d if d == g else winner
        winner = c if c == f else winner
        winner = b if b == e else winner
        winner = a if a == d else winner
        out[i] = winner ^ flip


def _vote(
    flat: Any, strides: Any, offset: Any, step: Any, flip: Any, bins: Any, voters: Any, out: Any
) -> None:
    """Compute ``bins`` (z, y, x) labels into the flat ``out``.

    ``voters`` has eight rows of as many bins as are done at a time.
    """
    low_z, low_y, low_x = (step[0] - 1) // 2, (step[1] - 1) // 2, (step[2] - 1) // 2
    high_x = step[2] // 2
    width = voters.shape[1]
    for start in range(0, bins[2], width):
        count = min(width, bins[2] - start)
        for oz in range(bins[0]):
            for oy in range(bins[1]):
                for corner in range(4):
                    z = low_z if corner < 2 else step[0] // 2
                    y = low_y if corner % 2 == 0 else step[1] // 2
                    at = (offset[0] + oz * step[0] + z) * strides[0]
                    at += (offset[1] + oy * step[1] + y) * strides[1]
                    at += offset[2] + start * step[2]
                    source = flat[at : at + count * step[2]]
                    _gather(source, voters, 2 * corner, low_x, high_x, step[2], flip)
                at = (oz * bins[1] + oy) * bins[2] + start
                _elect(voters, out[at : at + count], flip)


_voted = Compiled(_vote, _gather, _elect)


# ------------------------------------------------------------------ dtypes


def _keys(unsigned: np.dtype[Any]) -> Callable[[Block], Block]:
    """A function that converts floats to unsigned keys with the equality and order of labels.

    -0.0 becomes 0.0; every NaN becomes the same key, the largest. All else follows from the
    IEEE format: the bits of positive floats increase with the number, those of negative
    floats decrease.
    """
    every = unsigned.type(np.iinfo(unsigned).max)
    sign = unsigned.type(every // 2 + 1)

    def convert(samples: Block) -> Block:
        native = samples.astype(samples.dtype.newbyteorder("="))
        bits = (native + native.dtype.type(0)).view(unsigned)
        keys = np.where(bits & sign, ~bits, bits | sign)
        return np.asarray(np.where(np.isnan(native), every, keys), unsigned)

    return convert


def _labels(floating: np.dtype[Any], unsigned: np.dtype[Any]) -> Callable[[Block], Block]:
    """A function that converts keys back to floats."""
    sign = unsigned.type(np.iinfo(unsigned).max // 2 + 1)

    def convert(keys: Block) -> Block:
        bits = np.asarray(np.where(keys & sign, keys ^ sign, ~keys), unsigned)
        return bits.view(floating)

    return convert


def label_conversion(dtype: np.dtype[Any]) -> Conversion:
    """How labels of ``dtype`` are converted to integers for the compiled code, and back."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind != "f":
        return Conversion(dtype, dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return Conversion(unsigned, unsigned, _labels(dtype, unsigned), _keys(unsigned))


def label_refusal(dtype: np.dtype[Any]) -> str | None:
    """A reason for dtypes without an order, which is needed to break ties."""
    if dtype.kind in "biu" or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
        return None
    return "labels of this kind have no order to break a tie by"


# ------------------------------------------------------------------ the kernel


def elect(rows: Rows, offset: Shape, step: Shape, out: Block) -> None:
    """Fill ``out`` (3-D, C-contiguous) with the winner of the vote at each bin's centre."""
    view = plain(out.dtype)
    voters = np.empty((8, min(_STRIP, out.shape[2])), view.dtype)
    flat = out.reshape(-1).view(view.dtype)
    _voted(rows.flat, rows.strides, offset, step, view.flip, out.shape, voters, flat)


class NativeLabelImage:
    """The most frequent label among the voxels next to the bin centre, the smallest on a tie.

    Along an axis of odd step the voter is the centre voxel, along one of even step the two
    voxels around the centre. These are the samples of
    ``itk::LabelImageGaussianInterpolateImageFunction``. Takes bool, all integers and floats
    of up to 64 bits, exactly, in either byte order. NaN counts as one label, the largest;
    -0.0 and 0.0 are one label.
    """

    def halo(self, step: Shape) -> Shape:
        """Zero: the voters lie inside the bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes without an order, which is needed to break ties."""
        return label_refusal(dtype)

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of a strip's voters, and of one piece where labels must be converted."""
        strip = 8 * min(_STRIP, as_volume(window, 1)[2]) * dtype.itemsize
        # Copies of a piece of floats while its keys are made: in native byte order, without
        # -0.0, two choices and the bits of each, and whether it is NaN.
        return strip + piece_bytes(window, step, self.halo(step), 6 * dtype.itemsize + 2, 40)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        fill(out, window, offset, step, self.halo(step), label_conversion(out.dtype), elect)
        return out
