"""Mode of each bin in native code: the most frequent label among all samples of the bin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Shape
from ngff_core.kernels.label import elect, label_conversion, label_refusal
from ngff_core.kernels.rows import Compiled, Rows, fill, piece_bytes, plain

# ------------------------------------------------------------------ compiled code


def _count(
    label: Any, votes: int, best: Any, most: int, bin_: int, keys: Any, counts: Any, bins_seen: Any
) -> Any:
    """Add votes for a label; returns the leading label and its votes.

    ``keys``, ``counts`` and ``bins_seen`` are a hash table with open addressing and a
    multiplicative hash (2**64 over the golden ratio). An entry is valid only if it was made
    for this bin, so the table need not be cleared for each bin.
    """
    mask = keys.size - 1
    slot = np.int64((np.uint64(label) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while bins_seen[slot] == bin_ and keys[slot] != label:
        slot = (slot + 1) & mask
    if bins_seen[slot] != bin_:
        bins_seen[slot], keys[slot], counts[slot] = bin_, label, 0
    counts[slot] += votes
    if counts[slot] > most or (counts[slot] == most and label < best):
        return label, counts[slot]
    return best, most


def _modes(
    flat: Any,
    strides: Any,
    offset: Any,
    step: Any,
    flip: Any,
    bins: Any,
    keys: Any,
    counts: Any,
    bins_seen: Any,
    out: Any,
) -> None:
    """Compute ``bins`` (z, y, x) labels into the flat ``out``.

    Runs of one label along x are counted at once. ``keys``, ``counts`` and ``bins_seen`` (all
    -1 at first) are a table whose number of entries is a power of two, at least twice the
    number of samples of a bin.
    """
    kind = keys.dtype.type
    for index in range(out.size):
        rest, ox = index // bins[2], index % bins[2]
        oz, oy = rest // bins[1], rest % bins[1]
        at = (offset[0] + oz * step[0]) * strides[0]
        at += (offset[1] + oy * step[1]) * strides[1] + offset[2] + ox * step[2]
        label, run = kind(flat[at] ^ flip), 0
        best, most = label, 0
        for z in range(step[0]):
            for y in range(step[1]):
                start = at + z * strides[0] + y * strides[1]
                for x in range(step[2]):
                    value = kind(flat[start + x] ^ flip)
                    if value == label:
                        run += 1
                    else:
                        best, most = _count(label, run, best, most, index, keys, counts, bins_seen)
                        label, run = value, 1
        if most:
            best, most = _count(label, run, best, most, index, keys, counts, bins_seen)
        out[index] = best ^ flip


_moded = Compiled(_modes, _count)


# ------------------------------------------------------------------ the kernel


def _table(step: Shape) -> int:
    """Entries of the table for bins of this size; at most half of them are used."""
    return int(1 << (2 * math.prod(step) - 1).bit_length())


def _run(rows: Rows, offset: Shape, step: Shape, out: Block) -> None:
    """Fill ``out`` (3-D, C-contiguous) from rows of the same dtype."""
    if max(step) <= 2:  # the voters are all samples of the bin: see `NativeLabelImage`
        elect(rows, offset, step, out)
        return
    view, size = plain(out.dtype), _table(step)
    _moded(
        rows.flat,
        rows.strides,
        offset,
        step,
        view.flip,
        out.shape,
        np.empty(size, view.dtype),
        np.empty(size, np.int64),
        np.full(size, -1, np.int64),
        out.reshape(-1).view(view.dtype),
    )


class NativeMode:
    """The most frequent label of each bin, the smallest on a tie.

    Takes bool, all integers and floats of up to 64 bits, exactly, in either byte order. NaN
    counts as one label, the largest; -0.0 and 0.0 are one label.
    """

    def halo(self, step: Shape) -> Shape:
        """Zero: only samples of the bin itself are counted."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes without an order, which is needed to break ties."""
        return label_refusal(dtype)

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of the table of counts, and of one piece where labels must be converted."""
        # 2**14: rows of 256 bins with eight voters, used where all steps are at most 2.
        tables = 24 * _table(step) + 2**14
        return tables + piece_bytes(window, step, self.halo(step), 6 * dtype.itemsize + 2, 40)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        fill(out, window, offset, step, self.halo(step), label_conversion(out.dtype), _run)
        return out
