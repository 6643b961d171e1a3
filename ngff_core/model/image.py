"""``NgffImage``: pixels that may be lazy, and what their axes mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.blocks import ArrayLike, Block
from ngff_core.model.axes import canonical_order, check_dims, default_dims, spatial_dims
from ngff_core.model.orientation import AnatomicalOrientation, of_axes

Selection = tuple[slice, ...]


@dataclass
class NgffImage:
    """One image: an array and the meaning of its axes.

    ``dims`` names each axis of ``data`` out of t, c, z, y, x. ``scale`` and
    ``translation`` are per axis, in ``axes_units`` (UDUNITS names such as
    ``micrometer``): the size of a sample and the position of the first sample's
    centre. Axes they do not name have scale 1 and translation 0. ``axes_orientations``
    says which way spatial axes grow in a body.
    """

    data: ArrayLike
    dims: Sequence[str] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    translation: Mapping[str, float] = field(default_factory=dict)
    name: str = "image"
    axes_units: Mapping[str, str] | None = None
    axes_orientations: Mapping[str, AnatomicalOrientation] | None = None

    def __post_init__(self) -> None:
        dims = self.dims or default_dims(len(self.data.shape))
        self.dims = check_dims(dims, len(self.data.shape))
        self.scale = {d: float(self.scale.get(d, 1.0)) for d in self.dims}
        self.translation = {d: float(self.translation.get(d, 0.0)) for d in self.dims}
        self.axes_orientations = of_axes(self.axes_orientations, self.dims)


class TransposedArray:
    """A view of an array with its axes permuted; reading it reads the array."""

    def __init__(self, array: ArrayLike, order: tuple[int, ...]) -> None:
        self._array = array
        self._order = order
        self.shape: tuple[int, ...] = tuple(array.shape[i] for i in order)
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, key: Selection) -> Block:
        inner = [slice(None)] * len(self._order)
        for position, axis in enumerate(self._order):
            inner[axis] = key[position]
        return np.asarray(self._array[tuple(inner)]).transpose(self._order)


def in_canonical_order(image: NgffImage) -> NgffImage:
    """The same image with its axes in t, c, z, y, x order; nothing is read.

    The caller's object is not touched: where the order is right it is returned as is.
    """
    order = canonical_order(image.dims)
    if order == tuple(range(len(order))):
        return image
    return NgffImage(
        data=TransposedArray(image.data, order),
        dims=tuple(image.dims[i] for i in order),
        scale=image.scale,
        translation=image.translation,
        name=image.name,
        axes_units=image.axes_units,
        axes_orientations=image.axes_orientations,
    )


def spatial_shape(image: NgffImage) -> dict[str, int]:
    """Size of each spatial axis, by name."""
    sizes = dict(zip(image.dims, image.data.shape, strict=True))
    return {d: sizes[d] for d in spatial_dims(image.dims)}
