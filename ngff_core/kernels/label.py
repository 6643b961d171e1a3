"""Label images in native code: the vote of the voxels next to the bin centre.

Eight voters at most (two per axis), so a network of 19 comparators sorts them, the same
instructions for every bin: LLVM makes vector code of it, and thousands of labels cost what
two do. Where there are fewer voters, each votes twice or more often.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape
from ngff_core.kernels.rows import Compiled, Form, Rows, as_volume, fill, piece_bytes, plain

# Bins of a strip along x: eight rows of voters of 64 bits take 16 kB.
_STRIP = 256


# ------------------------------------------------------------------ compiled code


def _gather(
    source: Any, voters: Any, row: int, first: int, second: int, step: int, flip: Any
) -> None:
    """Both voters along x of every bin, from a row of samples, into two rows of voters."""
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
    """The most frequent of the eight voters of each bin, the smallest on a tie.

    In sorted voters a label of n votes is n neighbours that are equal. Of more than four
    votes there is one label at most, and it is found among those of four.
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
    """``bins`` labels into the flat ``out``, by way of eight rows of voters."""
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
    """Turns floats into unsigned integers that are equal and ordered as labels are.

    -0.0 becomes 0.0; every NaN becomes one key, the largest. Otherwise it is IEEE's own
    order: the bits of positive numbers count upwards, those of negative ones downwards.
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
    """Turns the keys back into floats."""
    sign = unsigned.type(np.iinfo(unsigned).max // 2 + 1)

    def convert(keys: Block) -> Block:
        bits = np.asarray(np.where(keys & sign, keys ^ sign, ~keys), unsigned)
        return bits.view(floating)

    return convert


def label_form(dtype: np.dtype[Any]) -> Form:
    """How labels of ``dtype`` come to the compiled code and back: as integers."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind != "f":
        return Form(dtype, dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return Form(unsigned, unsigned, _labels(dtype, unsigned), _keys(unsigned))


def label_refusal(dtype: np.dtype[Any]) -> str | None:
    """Why not ``dtype``: labels must have an order, which breaks their ties."""
    if dtype.kind in "biu" or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
        return None
    return "labels of this kind have no order to break a tie by"


# ------------------------------------------------------------------ the kernel


def elect(rows: Rows, offset: Shape, step: Shape, out: Block) -> None:
    """Fill ``out`` (3-D, C-contiguous) with the vote around each bin's centre."""
    view = plain(out.dtype)
    voters = np.empty((8, min(_STRIP, out.shape[2])), view.dtype)
    flat = out.reshape(-1).view(view.dtype)
    _voted(rows.flat, rows.strides, offset, step, view.flip, out.shape, voters, flat)


class NativeLabelImage:
    """Vote of the voxels next to the bin centre.

    Odd step: the centre voxel of that axis. Even step: the two voxels around the centre.
    The most frequent label wins, the smallest on a tie: the same samples as
    ``itk::LabelImageGaussianInterpolateImageFunction`` gives. Takes bool, all integers and
    floats to 64 bit, exactly, in either byte order; NaN counts as one label, the largest;
    -0.0 and 0.0 are one label.
    """

    def halo(self, step: Shape) -> Shape:
        """Nothing: the voters lie in their own bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """Why not ``dtype``: labels must have an order, which breaks their ties."""
        return label_refusal(dtype)

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of a strip's voters, and of one piece where labels must be converted."""
        strip = 8 * min(_STRIP, as_volume(window, 1)[2]) * dtype.itemsize
        # A piece of floats and its keys: native, without -0.0, two choices and the bits of
        # each, and whether it is NaN.
        return strip + piece_bytes(window, step, self.halo(step), 6 * dtype.itemsize + 2, 40)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """``shape`` labels in the window's dtype, the first bin ``lead`` samples in."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        fill(out, window, offset, step, self.halo(step), label_form(out.dtype), elect)
        return out
