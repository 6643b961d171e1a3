"""The group documents of an OME-Zarr image, made with the models of ome-zarr-models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ngff_core.model.axes import axis_type
from ngff_core.model.orientation import AnatomicalOrientation

INTRINSIC = "physical"
"""Name of the coordinate system that all levels of a 0.6 image are transformed to."""


@dataclass(frozen=True)
class AxisEntry:
    """One axis in metadata."""

    name: str
    unit: str | None = None
    orientation: AnatomicalOrientation | None = None


@dataclass(frozen=True)
class DatasetEntry:
    """One level in metadata: scale, then translation, by axis."""

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True)
class ImageEntry:
    """One image in metadata, independent of the OME-Zarr version."""

    name: str
    axes: tuple[AxisEntry, ...]
    datasets: tuple[DatasetEntry, ...]
    type: str | None = None
    metadata: Mapping[str, Any] | None = None
    omero: Mapping[str, Any] | None = None


def image_attributes(image: ImageEntry, version: str) -> dict[str, Any]:
    """The validated OME-Zarr attributes of an image in ``version``, as JSON values."""
    model = _model(image, version)
    found: dict[str, Any] = json.loads(model.model_dump_json(exclude_none=True, exclude={"omero"}))
    (multiscale,) = found["multiscales"]
    # The models keep fields that they do not know, but lose them when a version is converted.
    written = multiscale["axes"] if "axes" in multiscale else _intrinsic_axes(multiscale)
    for axis, entry in zip(written, image.axes, strict=True):
        if entry.orientation is not None:
            axis["orientation"] = entry.orientation.to_dict()
    if image.omero is not None:
        found["omero"] = dict(image.omero)
        type(model).model_validate(found)
    return found


def image_documents(image: ImageEntry, version: str) -> dict[str, bytes]:
    """The documents of the image's group by key, in the order in which they must be written."""
    attributes = image_attributes(image, version)
    if version == "0.4":
        return {".zgroup": _document({"zarr_format": 2}), ".zattrs": _document(attributes)}
    return {
        "zarr.json": _document(
            {"zarr_format": 3, "node_type": "group", "attributes": {"ome": attributes}}
        )
    }


def _model(image: ImageEntry, version: str) -> Any:
    from ome_zarr_models.v04.image import ImageAttrs as ImageAttrs04
    from ome_zarr_models.v05.axes import Axis
    from ome_zarr_models.v05.image import ImageAttrs as ImageAttrs05
    from ome_zarr_models.v05.multiscales import Dataset, Multiscale
    from ome_zarr_models.v06.image import ImageAttrs as ImageAttrs06

    multiscale = Multiscale(
        name=image.name,
        type=image.type,
        metadata=cast(Any, None if image.metadata is None else dict(image.metadata)),
        axes=[Axis(name=a.name, type=axis_type(a.name), unit=a.unit) for a in image.axes],
        datasets=tuple(
            Dataset.build(path=d.path, scale=d.scale, translation=d.translation)
            for d in image.datasets
        ),
    )
    if version == "0.4":
        # Readers recognise 0.4 by this field, which the conversion leaves out.
        older = multiscale.to_version("0.4").model_copy(update={"version": "0.4"})
        return ImageAttrs04(multiscales=[older])
    if version == "0.5":
        return ImageAttrs05(version="0.5", multiscales=[multiscale])
    newer = multiscale.to_version("0.6", default_cs_name=INTRINSIC)
    return ImageAttrs06(version="0.6", multiscales=[newer])


def _intrinsic_axes(multiscale: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    (axes,) = (s["axes"] for s in multiscale["coordinateSystems"] if s["name"] == INTRINSIC)
    return cast("Sequence[dict[str, Any]]", axes)


def _document(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
