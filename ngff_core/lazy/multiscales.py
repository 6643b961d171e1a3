"""``NgffMultiscales``: the levels of a pyramid and their metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ngff_core.kernels.methods import Methods, method_info
from ngff_core.model.axes import axis_type
from ngff_core.model.image import NgffImage
from ngff_core.model.orientation import AnatomicalOrientation

# The fields below have their names from OME-Zarr's documents.


@dataclass
class Axis:
    """One axis in the metadata of a pyramid.

    Attributes
    ----------
    name
        One of t, c, z, y, x.
    type
        ``"space"``, ``"time"`` or ``"channel"``.
    unit
        UDUNITS name such as ``"micrometer"``. Default: not stated.
    orientation
        Anatomical orientation of a spatial axis. Default: not stated.

    Examples
    --------
    >>> Axis("x", "space", unit="micrometer").unit
    'micrometer'
    """

    name: str
    type: str
    unit: str | None = None
    orientation: AnatomicalOrientation | None = None


@dataclass
class Identity:
    """The transformation that changes nothing.

    Attributes
    ----------
    type
        Always ``"identity"``.

    Examples
    --------
    >>> Identity()
    Identity(type='identity')
    """

    type: str = "identity"


@dataclass
class Scale:
    """A scale transformation: the size of a sample.

    Attributes
    ----------
    scale
        Size of a sample along each axis of the dataset, in the axis's unit.
    type
        Always ``"scale"``.

    Examples
    --------
    >>> Scale([0.5, 0.25]).scale
    [0.5, 0.25]
    """

    scale: list[float]
    type: str = "scale"


@dataclass
class Translation:
    """A translation: the position of the first sample's centre.

    Attributes
    ----------
    translation
        Position along each axis of the dataset, in the axis's unit.
    type
        Always ``"translation"``.

    Examples
    --------
    >>> Translation([0.5, 0.0]).translation
    [0.5, 0.0]
    """

    translation: list[float]
    type: str = "translation"


Transform = Identity | Scale | Translation


@dataclass
class Dataset:
    """One level: where it is stored, and how indices of its samples become positions.

    Attributes
    ----------
    path
        Path of the level's array in the group, such as ``"scale0/image"``.
    coordinateTransformations
        Applied in this order to indices; numbers are by axis of the metadata. Default: none.

    Examples
    --------
    >>> Dataset("0", [Scale([2.0, 2.0]), Translation([0.5, 0.5])]).path
    '0'
    """

    path: str
    coordinateTransformations: list[Transform] = field(default_factory=list)  # noqa: N815


@dataclass
class Metadata:
    """The metadata of a pyramid, independent of the OME-Zarr version.

    Attributes
    ----------
    axes
        The axes, in the order of the images' dimensions.
    datasets
        One dataset for each level, finest first.
    coordinateTransformations
        Applied to all levels, after each dataset's own. Default: none.
    omero
        Display settings of channels, as OME-Zarr's ``omero`` has them. Default: none.
    name
        Name of the image. Default: ``"image"``.
    version
        OME-Zarr version that it was read from; `to_ngff_zarr` has its own. Default: ``"0.5"``.
    type
        Name of the downsampling method. Default: not stated.
    metadata
        Description of the downsampling method. Default: not stated.

    Examples
    --------
    >>> metadata = Metadata(axes=[Axis("y", "space"), Axis("x", "space")], datasets=[Dataset("0")])
    >>> metadata.name
    'image'
    """

    axes: list[Axis]
    datasets: list[Dataset]
    coordinateTransformations: list[Transform] | None = None  # noqa: N815
    omero: Mapping[str, Any] | None = None
    name: str = "image"
    version: str = "0.5"
    type: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass
class NgffMultiscales:
    """A pyramid: one image for each level, finest first, and their metadata.

    ``scale_factors``, ``method`` and ``chunks`` record how `to_multiscales` made the pyramid.

    Attributes
    ----------
    images
        The levels, finest first, all with the same axes and dtype.
    metadata
        Axes, paths and transformations; one dataset for each image.
    scale_factors
        Factor of each level above 0 relative to the full image. Default: not known.
    method
        The downsampling method. Default: not known.
    chunks
        Chunk size in samples by axis. Default: not known.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> pyramid = ngff_core.to_multiscales(np.zeros((64, 64)), [2])
    >>> len(pyramid.images), pyramid.metadata.datasets[1].path
    (2, 'scale1/image')
    """

    images: list[NgffImage]
    metadata: Metadata
    scale_factors: Sequence[dict[str, int] | int] | None = None
    method: Methods | None = None
    chunks: Any = None


Multiscales = NgffMultiscales
"""The name of the class in older code."""


def metadata_of(images: Sequence[NgffImage], method: Methods | None = None) -> Metadata:
    """Metadata made from images: axes, units, orientation, scale and translation.

    Dataset ``i`` has the path ``scale{i}/{name}``.
    """
    base = images[0]
    units, orientations = base.axes_units or {}, base.axes_orientations or {}
    return Metadata(
        axes=[Axis(d, axis_type(d), units.get(d), orientations.get(d)) for d in base.dims],
        datasets=[_dataset(index, image) for index, image in enumerate(images)],
        name=base.name,
        type=None if method is None else method.value,
        metadata=None if method is None else method_info(method).metadata,
    )


def placement(
    dataset: Dataset, beyond: Sequence[Transform] | None, ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and translation of a dataset by axis, with ``beyond`` applied after its own.

    Raises ValueError for a transformation that does not have ``ndim`` numbers.
    """
    scale, translation = (1.0,) * ndim, (0.0,) * ndim
    for transform in (*dataset.coordinateTransformations, *(beyond or ())):
        if isinstance(transform, Scale):
            scale = tuple(a * float(b) for a, b in zip(scale, transform.scale, strict=True))
            grown = zip(translation, transform.scale, strict=True)
            translation = tuple(a * float(b) for a, b in grown)
        elif isinstance(transform, Translation):
            shifted = zip(translation, transform.translation, strict=True)
            translation = tuple(a + float(b) for a, b in shifted)
    return scale, translation


def _dataset(index: int, image: NgffImage) -> Dataset:
    return Dataset(
        path=f"scale{index}/{image.name}",
        coordinateTransformations=[
            Scale([image.scale[d] for d in image.dims]),
            Translation([image.translation[d] for d in image.dims]),
        ],
    )
