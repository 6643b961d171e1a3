"""Label images of the itkwasm back end; the module gets ranks, which keeps any label exact."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.geometry import Region, Shape, blocks
from ngff_core.kernels.itkwasm import volumes, wasm
from ngff_core.kernels.itkwasm.volumes import (
    fitting_block,
    most_samples,
    over,
    power_of_two,
)


def _voters(window: Block, offset: Shape, step: Shape, shape: Shape) -> list[Block]:
    """The voxels around each bin centre, as one view of the window for each voter.

    In raster order; one voxel per axis of odd step, two per axis of even step.
    """
    voters = [(k // 2,) if k % 2 else (k // 2 - 1, k // 2) for k in step]
    views = []
    for voter in product(*voters):
        axes = zip(offset, voter, step, shape, strict=True)
        views.append(window[tuple(slice(a + o, a + o + (n - 1) * k + 1, k) for a, o, k, n in axes)])
    return views


def _winning_rank(ranks: Block) -> Block:
    """The most frequent rank of each row, the smallest on a tie.

    ``ranks`` is 2-D, with 2, 4 or 8 ranks below 8 in each row. The rows are passed to the
    module as bins along x, padded to a power of two.
    """
    rows, size = ranks.shape
    packed = np.zeros((power_of_two(rows), size), np.uint8)
    packed[:rows] = ranks
    step = (2, 2, 2) if size == 8 else (size // 2, 2)
    bins = packed.reshape(-1, *step)
    tile = np.moveaxis(bins, 0, -2).reshape(*step[:-1], -1)
    winners = wasm.run("downsample_label_image", np.ascontiguousarray(tile), step)
    return winners.reshape(-1)[:rows]


def _vote(votes: Block) -> Block:
    """The most frequent label of each row, the smallest on a tie.

    The module gets each label's rank within its row: ranks have the order that ties need, at
    most eight values, and labels of any width stay exact.
    """
    if votes.dtype.kind == "f":
        values, index = np.unique(votes, return_inverse=True)
        return values[_vote(index.reshape(votes.shape))]
    ranks = np.zeros(votes.shape, np.uint8)
    for other in votes.T:
        ranks += other[:, np.newaxis] < votes
    winners = _winning_rank(ranks)
    column = winners[:, np.newaxis].astype(np.intp)
    return np.take_along_axis(np.sort(votes, axis=1), column, axis=1)[:, 0]


def _elect(voters: list[Block], dtype: np.dtype[Any]) -> Block:
    """The label of each bin; only bins with different labels are passed to the module."""
    labels = voters[0].astype(dtype)
    mixed = np.zeros(labels.shape, np.bool_)
    for voter in voters[1:]:
        mixed |= voter != labels
    if mixed.any():
        votes = np.stack([v[mixed] for v in voters], axis=1).astype(dtype, copy=False)
        labels[mixed] = _vote(votes)
    # Equal labels must be stored as equal bytes: adding zero turns -0.0 into 0.0.
    return labels + labels.dtype.type(0) if dtype.kind == "f" else labels


def _votes(block: Shape) -> int:
    return 8 * math.prod(block)


class ItkwasmLabelImage:
    """The most frequent label among the voxels next to the bin centre, the smallest on a tie.

    ITK's filter is ``itk::LabelImageGaussianInterpolateImageFunction``. Along an axis of odd
    step the voter is the centre voxel, along one of even step the two voxels around the
    centre. Takes bool, all integers and floats, exactly. NaN counts as one label, the
    largest; -0.0 and 0.0 are one label.
    """

    def halo(self, step: Shape) -> Shape:
        """Zero: the voters lie inside the bin."""
        return (0,) * len(step)

    def refusal(self, dtype: np.dtype[Any]) -> str | None:
        """A reason for dtypes without an order, which is needed to break ties."""
        if dtype.kind in "biu" or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
            return None
        return "labels of this kind have no order to break a tie by"

    def workspace(self, window: Shape, dtype: np.dtype[Any], step: Shape) -> int:
        """Bytes of one tile, where every bin has different labels."""
        bins = (
            most_samples(over(window, step), _votes, (1,) * len(window), volumes.TILE_SAMPLES) // 8
        )
        # For each of a bin's 8 votes: the gathered views, stacked, sorted, one comparison of
        # rows; for floats also the sort and the 8-byte indices of numpy.unique.
        per_vote = 3 * dtype.itemsize + 8 + (40 if dtype.kind == "f" else 0)
        return wasm.CALL_BYTES + bins * (8 * per_vote + 8 * dtype.itemsize + 32)

    def reduce(self, window: Block, offset: Shape, step: Shape, shape: Shape) -> Block:
        """See `Kernel.reduce`."""
        out = np.empty(shape, window.dtype.newbyteorder("="))
        voters = _voters(window, offset, step, shape)
        block = fitting_block(shape, _votes, axes=len(shape), limit=volumes.TILE_SAMPLES)
        for tile in blocks(Region.full(shape), block):
            out[tile.slices] = _elect([v[tile.slices] for v in voters], out.dtype)
        return out
