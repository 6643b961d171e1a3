"""``NgffImage``: an array, possibly lazy, and the meaning of its axes."""

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

    Parameters
    ----------
    data
        An array of one to five dimensions: numpy, dask, zarr, or any other with a shape, a dtype
        and slicing.
    dims
        Name of each axis of ``data``, out of t, c, z, y, x. Default: ``x``, ``yx``, ``zyx``,
        ``zyxc`` or ``tzyxc``, by the number of dimensions.
    scale
        Size of a sample by axis, in ``axes_units``. Default: 1 for axes that are not named.
    translation
        Position of the first sample's centre by axis, in ``axes_units``. Default: 0 for axes
        that are not named.
    name
        Name of the image, part of the paths of its levels. Default: ``"image"``.
    axes_units
        UDUNITS names by axis, such as ``{"x": "micrometer"}``. Default: none.
    axes_orientations
        Anatomical orientation by spatial axis: the direction in a body in which its coordinate
        grows, such as `LPS`. Axes that the image does not have are left out. Default: none.

    Raises
    ------
    InvalidOptionError
        ``dims`` or ``axes_orientations`` do not fit the array. A ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> image = NgffImage(np.zeros((10, 64, 64)), dims="zyx", scale={"z": 2.0})
    >>> image.scale, image.translation
    ({'z': 2.0, 'y': 1.0, 'x': 1.0}, {'z': 0.0, 'y': 0.0, 'x': 0.0})
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

    The caller's object is not changed. It is returned where its order is right already.
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
    """Length in samples of each spatial axis, by name."""
    sizes = dict(zip(image.dims, image.data.shape, strict=True))
    return {d: sizes[d] for d in spatial_dims(image.dims)}
