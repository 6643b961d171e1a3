"""Which samples of a pyramid decide how it is shown: the plan alone says it.

They are samples of the coarsest level, taken while its regions are stored. So they cost no
reading, and are the same in any order, on any number of workers, and after any interruption.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ngff_core.blocks import Block, BlockedArray
from ngff_core.geometry import Shape, ceil_div, grid_shape, number, position
from ngff_core.kernels.methods import Methods
from ngff_core.model.channels import Channel
from ngff_core.model.display import Summary, is_measurable
from ngff_core.model.omero import is_rgb
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan

MOST_REGIONS = 64
"""Regions of the level that are looked at."""

MOST_SAMPLES = 2**21
"""Samples that are counted of all these regions: some 0.05 s of work, and a coarsest level
has rarely more."""

MOST_OF_A_REGION = 2**20
LEAST_OF_A_CHANNEL = 2**12
"""Samples counted of a channel in a region of many channels; if it has so many."""

_ROW = 64
"""A row may have so many times the samples that are taken along another axis."""

_LABEL_METHODS = frozenset({Methods.ITKWASM_LABEL_IMAGE.value, Methods.DASK_IMAGE_MODE.value})

_GOLDEN = 2654435769
"""2**32 divided by the golden ratio: multiples of it, modulo 2**32, are evenly spread."""


def is_labels(plan: PyramidPlan) -> bool:
    """Whether samples are numbers of objects, which have no brightness and no channels."""
    return plan.image.labels or plan.method in _LABEL_METHODS


def channels_of(plan: PyramidPlan) -> tuple[Channel, ...]:
    """One channel for each position on the axis c; one for an image without that axis."""
    axis = _channel_axis(plan)
    count = 1 if axis is None else plan.image.shape[axis]
    return plan.image.channels if len(plan.image.channels) == count else (Channel(),) * count


@dataclass(frozen=True)
class Sampling:
    """The samples of one level that are counted.

    Attributes
    ----------
    plan
        The pyramid.
    regions
        Numbers of the regions with such samples, in order.
    """

    plan: PyramidPlan

    @classmethod
    def of(cls, plan: PyramidPlan) -> Sampling | None:
        """Of a pyramid; None where nothing has to be counted."""
        if is_labels(plan) or not is_measurable(plan.dtype):
            return None
        return None if is_rgb(channels_of(plan), plan.dtype) else cls(plan)

    @property
    def level(self) -> LevelPlan:
        """The coarsest level."""
        return self.plan.levels[-1]

    @cached_property
    def regions(self) -> tuple[int, ...]:
        """At most `MOST_REGIONS`, evenly spread over each of at most so many rows of channels."""
        grid = grid_shape(self.level.shape, self.level.block)
        axis = _channel_axis(self.plan)
        if axis is None:
            return tuple(_spread(math.prod(grid), MOST_REGIONS))
        rows = _spread(grid[axis], MOST_REGIONS)
        others = (*grid[:axis], *grid[axis + 1 :])
        chosen = _spread(math.prod(others), max(1, MOST_REGIONS // len(rows)))
        places = [position(index, others) for index in chosen]
        return tuple(
            sorted(number((*at[:axis], row, *at[axis:]), grid) for row in rows for at in places)
        )

    @cached_property
    def strides(self) -> Shape:
        """Of the samples that are counted, per axis from the start of a region.

        They are odd where they are not 1: patterns of cameras and tiles often repeat at even
        distances. Rows are left out before samples of a row are: memory is read by the row.
        """
        axis = _channel_axis(self.plan)
        shape = tuple(map(min, self.level.block, self.level.shape))
        channels = 1 if axis is None else shape[axis]
        most = min(MOST_OF_A_REGION, MOST_SAMPLES // len(self.regions)) // channels
        most, strides = max(most, LEAST_OF_A_CHANNEL), [1] * len(shape)
        while math.prod(map(ceil_div, shape, strides)) > most * channels:
            weights = [ceil_div(n, k) for n, k in zip(shape, strides, strict=True)]
            weights[-1] //= _ROW
            if axis is not None:
                weights[axis] = 0
            strides[weights.index(max(weights))] += 2
        return tuple(strides)

    def channels(self, region: int) -> range:
        """Numbers of the channels that a region has samples of."""
        axis, box = _channel_axis(self.plan), self.level.region(region)
        return range(1) if axis is None else range(box.start[axis], box.stop[axis])

    def summaries(self, region: int, samples: BlockedArray) -> list[Summary]:
        """Of each of its channels, from all samples of a region, in the plan's dtype."""
        # One array of each channel: samples may come in a thousand small ones.
        return [
            Summary.of(np.concatenate(list(self._counted(samples, channel))))
            for channel in self.channels(region)
        ]

    def _counted(self, samples: BlockedArray, channel: int) -> Iterator[Block]:
        axis = _channel_axis(self.plan)
        for box, block in samples.placed_blocks:
            cut = list(map(_every, samples.box.start, box.start, self.strides))
            if axis is not None:
                if not box.start[axis] <= channel < box.stop[axis]:
                    continue
                at = channel - box.start[axis]
                cut[axis] = slice(at, at + 1)
            yield block[tuple(cut)].reshape(-1)


def _every(origin: int, start: int, stride: int) -> slice:
    """Every so many samples from ``origin``, in an array that begins at ``start``."""
    return slice((origin - start) % stride, None, stride)


def _channel_axis(plan: PyramidPlan) -> int | None:
    return plan.image.dims.index("c") if "c" in plan.image.dims else None


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``: one of each of so many equal parts.

    Where in its part a number is changes from part to part, so they do not keep step with the
    rows of a grid.

    >>> _spread(3, 64), _spread(1000, 4)
    ([0, 1, 2], [0, 404, 559, 963])
    """
    if count <= most:
        return list(range(count))
    inside = (i * _GOLDEN % 2**32 for i in range(most))
    return sorted({(i * 2**32 + part) * count // (most << 32) for i, part in enumerate(inside)})
