"""``NgffMultiscales``: the levels of a pyramid and what metadata says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ngff_core.kernels.methods import Methods, method_info
from ngff_core.model.axes import axis_type
from ngff_core.model.image import NgffImage
from ngff_core.model.orientation import AnatomicalOrientation

# The fields below are spelled as in OME-Zarr's documents, which users know them by.


@dataclass
class Axis:
    """One axis: its name, ``space``, ``time`` or ``channel``, its unit, its orientation."""

    name: str
    type: str
    unit: str | None = None
    orientation: AnatomicalOrientation | None = None


@dataclass
class Identity:
    """The transformation that changes nothing."""

    type: str = "identity"


@dataclass
class Scale:
    """The size of a sample per axis."""

    scale: list[float]
    type: str = "scale"


@dataclass
class Translation:
    """The centre of the first sample per axis."""

    translation: list[float]
    type: str = "translation"


Transform = Identity | Scale | Translation


@dataclass
class Dataset:
    """Where one level is stored, and what brings its samples' indices to positions."""

    path: str
    coordinateTransformations: list[Transform] = field(default_factory=list)  # noqa: N815


@dataclass
class Metadata:
    """The metadata of a pyramid, in no version's form yet."""

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
    """A pyramid: one image per level, finest first, and their common metadata.

    ``scale_factors``, ``method`` and ``chunks`` say how ``to_multiscales`` made it; they
    are None for a pyramid that was read or put together by hand.
    """

    images: list[NgffImage]
    metadata: Metadata
    scale_factors: Sequence[dict[str, int] | int] | None = None
    method: Methods | None = None
    chunks: Any = None


Multiscales = NgffMultiscales
"""The name of the class in older code."""


def metadata_of(images: Sequence[NgffImage], method: Methods | None = None) -> Metadata:
    """What ``images`` themselves say: axes, units, orientation, scale, translation.

    Dataset ``i`` lies at ``scale{i}/{name}``.
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
    """Scale and translation per axis of a dataset, ``beyond`` applied after its own.

    Raises ValueError for a transformation that has not ``ndim`` numbers.
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
