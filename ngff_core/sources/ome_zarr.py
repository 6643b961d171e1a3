"""OME-Zarr images of versions 0.4 to 0.6: the levels of the first multiscale."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.model.image import NgffImage
from ngff_core.model.metadata import AxisEntry, DatasetEntry, ImageEntry
from ngff_core.model.omero import omero_channels
from ngff_core.model.orientation import AnatomicalOrientation
from ngff_core.sources.base import as_format_error, sensible_name
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.zarr_nodes import (
    Node,
    array_unit,
    count_chunks,
    known_dims,
    listed,
    open_reader,
    read_node,
    stored_pins,
)
from ngff_core.storage import ObjectStore

_SHOWN = 10
"""Arrays of a group that an error message names at most."""
_DEPTH = 3
"""Levels of subgroups in which these are looked for."""


@dataclass(frozen=True)
class StoredImage:
    """One image as its group describes it, its axes in the stored order."""

    store: ObjectStore
    group: Node
    version: str
    entry: ImageEntry

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.entry.axes)

    def read_level(self, index: int) -> StoredLevel:
        """One level, its axes in the stored order; no chunk is read.

        Raises `SourceFormatError` if there is no array, or one with other axes.
        """
        dataset, dims = self.entry.datasets[index], self.dims
        store, node = _level(self.store, dataset.path)
        reader, array = open_reader(store, node)
        if len(dims) != len(reader.shape):
            raise SourceFormatError(
                f"{self.store.uri}: {len(dims)} axes {dims}, but the array at "
                f"{dataset.path!r} has the shape {reader.shape}"
            )
        image = NgffImage(
            data=reader,
            dims=dims,
            scale=dict(zip(dims, dataset.scale, strict=True)),
            translation=dict(zip(dims, dataset.translation, strict=True)),
            name=sensible_name(self.entry.name),
            axes_units={a.name: a.unit for a in self.entry.axes if a.unit} or None,
            axes_orientations={a.name: a.orientation for a in self.entry.axes if a.orientation},
        )
        return StoredLevel(image, array_unit(array), store, node, array)


@dataclass(frozen=True)
class StoredLevel:
    """One level of a stored image, its axes in the stored order."""

    image: NgffImage
    """With lazy data."""
    unit: Shape
    """Shape of the chunk that is decoded at once."""
    store: ObjectStore
    node: Node
    array: zarr.Array[Any]


def open_ome_zarr(store: ObjectStore, group: Node) -> SourceImages:
    """Level 0 of the image at ``store``, with axes, units, scale and translation.

    ``group`` is the metadata of the image's group. Raises `SourceFormatError` for a group
    that is not an image, naming what it is, and for metadata that OME-Zarr does not allow.
    """
    stored = read_image(store, group)
    level = stored.read_level(0)
    objects = listed(level.store)
    pins = stored_pins(objects, group.documents + level.node.documents)
    image = level.image
    origin = f"OME-Zarr {stored.version}"
    origins = dict.fromkeys(("axes", "scale", "translation", "units"), origin)
    channels, notes = _channels(stored.entry.omero, image)
    described = ImageDescription(
        name=image.name,
        axes=tuple(image.dims),
        shape=image.data.shape,
        dtype=np.dtype(image.data.dtype).str,
        placement=Placement(
            dict(image.scale),
            dict(image.axes_units or {}),
            dict(image.translation),
            dict(image.axes_orientations or {}),
        ),
        channels=channels,
        labels="image-label" in _ome_attributes(group),
        origins={**origins, "channels": origin} if channels else origins,
        notes=notes,
    )
    return SourceImages(
        identity=SourceIdentity(level.store.uri, pins),
        kind="ome-zarr",
        format=f"an {origin} image",
        images=(described,),
        open_image=lambda _: Samples(
            level.image.data, level.unit, count_chunks(level.array, objects)
        ),
    )


def _channels(omero: Any, image: NgffImage) -> tuple[tuple[Channel, ...], tuple[Note, ...]]:
    """The channels of the block ``omero``, if they are those of the image."""
    channels = omero_channels(omero)
    lengths = dict(zip(image.dims, image.data.shape, strict=True))
    count = lengths.get("c", 1)
    if len(channels) in (0, count):
        return channels, ()
    text = f"names and colors of channels: the metadata have {len(channels)} for {count} channels"
    return (), (Note("left out", text),)


def read_image(store: ObjectStore, group: Node) -> StoredImage:
    """The first image as the group's metadata describes it; no array is opened."""
    attributes = _ome_attributes(group)
    if not isinstance(attributes, dict) or "multiscales" not in attributes:
        raise _not_an_image(store, group, attributes if isinstance(attributes, dict) else {})
    version = "0.4" if group.zarr_format == 2 else _version_3(attributes)
    parsed = _parse(attributes, version, group.zarr_format, store.uri).multiscales[0]
    multiscale, axes = _as_version_05(parsed, version, store.uri)
    dims = _dims(axes, store.uri)
    orientations = _orientations(axes, dims, store.uri)
    return StoredImage(
        store,
        group,
        version,
        ImageEntry(
            name=multiscale.name if isinstance(multiscale.name, str) else "image",
            axes=tuple(
                AxisEntry(dim, _unit(axis), orientations.get(dim))
                for dim, axis in zip(dims, axes, strict=True)
            ),
            datasets=tuple(
                DatasetEntry(
                    str(dataset.path), *_placement(dataset, multiscale, len(dims), store.uri)
                )
                for dataset in multiscale.datasets
            ),
            type=multiscale.type if isinstance(multiscale.type, str) else None,
            metadata=multiscale.metadata if isinstance(multiscale.metadata, dict) else None,
            omero=attributes.get("omero"),
        ),
    )


def _as_version_05(multiscale: Any, version: str, uri: str) -> tuple[Any, Sequence[Any]]:
    """The multiscale in the form of 0.5, and its axes with the fields that 0.5 lacks."""
    if version != "0.6":
        return multiscale, multiscale.axes
    what = f"{uri}: its coordinate transformations are not supported"
    with warnings.catch_warnings(), as_format_error(what):
        # Warnings are about transformations between coordinate systems, which 0.5 lacks and
        # which do not concern the levels.
        warnings.simplefilter("ignore")
        return multiscale.to_version("0.5"), multiscale.intrinsic_coordinate_system.axes


def _version_3(attributes: Mapping[str, Any]) -> str:
    return "0.6" if str(attributes.get("version")).startswith("0.6") else "0.5"


def _ome_attributes(group: Node) -> Any:
    return group.attributes.get("ome", {}) if group.zarr_format == 3 else group.attributes


def _parse(attributes: Mapping[str, Any], version: str, zarr_format: int, uri: str) -> Any:
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            # Metadata that the specification merely advises against is accepted.
            warnings.simplefilter("ignore")
            return _model(version).model_validate(attributes)
    except ValidationError as error:
        complaint = _complaint(attributes, version, zarr_format, error)
        raise SourceFormatError(f"{uri}: {complaint}") from error


def _model(version: str) -> Any:
    from ome_zarr_models.v04.image import ImageAttrs as ImageAttrs04
    from ome_zarr_models.v05.image import ImageAttrs as ImageAttrs05
    from ome_zarr_models.v06.image import ImageAttrs as ImageAttrs06

    return {"0.4": ImageAttrs04, "0.5": ImageAttrs05, "0.6": ImageAttrs06}[version]


def _complaint(attributes: Mapping[str, Any], expected: str, zarr_format: int, error: Any) -> str:
    """Why the metadata are not valid: another version, or the first of pydantic's errors."""
    version = _version(attributes)
    if version not in (None, expected):
        return (
            f"OME-Zarr {version} in zarr v{zarr_format} is not supported; "
            "supported are 0.4 (zarr v2), 0.5 and 0.6 (zarr v3)"
        )
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"not a valid OME-Zarr {expected} image: {place}: {first['msg']}"


def _version(attributes: Mapping[str, Any]) -> Any:
    if "version" in attributes:
        return attributes["version"]
    multiscales = attributes["multiscales"]
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    return first.get("version") if isinstance(first, dict) else None


def _dims(axes: Sequence[Any], uri: str) -> tuple[str, ...]:
    names = tuple(str(axis.name) for axis in axes)
    dims = tuple(name.lower() for name in names)
    if not known_dims(dims):
        raise SourceFormatError(
            f"{uri}: axes {names} are not supported; "
            "axes must be t, c, z, y, x, each at most once, at least one of z, y, x"
        )
    return dims


def _unit(axis: Any) -> str | None:
    return axis.unit if isinstance(axis.unit, str) and axis.unit else None


def _orientations(
    axes: Sequence[Any], dims: Sequence[str], uri: str
) -> dict[str, AnatomicalOrientation]:
    """The anatomical orientation (RFC-4) of each axis that has one."""
    entries = {d: (a.model_extra or {}).get("orientation") for d, a in zip(dims, axes, strict=True)}
    with as_format_error(f"{uri}: not an orientation by RFC-4"):
        return {d: AnatomicalOrientation(**o) for d, o in entries.items() if o is not None}


def _level(store: ObjectStore, path: str) -> tuple[ObjectStore, Node]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise SourceFormatError(f"{store.uri}: {path!r} is not a valid path of a level")
    level = store.child("/".join(parts))
    node = read_node(level)
    if node is None or not node.is_array:
        raise SourceFormatError(
            f"{store.uri}: no zarr array at {path!r}, which the image's metadata names as a level"
        )
    return level, node


def _placement(
    dataset: Any, multiscale: Any, ndim: int, uri: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and translation of a level: its dataset's transformations, then the image's."""
    scale, translation = [1.0] * ndim, [0.0] * ndim
    transforms = (
        *dataset.coordinateTransformations,
        *(multiscale.coordinateTransformations or ()),
    )
    for transform in transforms:
        if transform.type == "identity":
            continue
        values = getattr(transform, transform.type, None)
        if values is None or len(values) != ndim:
            raise SourceFormatError(
                f"{uri}: the {transform.type} {values} must have {ndim} numbers, one for each axis"
            )
        if transform.type == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            translation = [a * b for a, b in zip(translation, values, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, values, strict=True)]
    return tuple(scale), tuple(translation)


def _not_an_image(
    store: ObjectStore, group: Node, attributes: Mapping[str, Any]
) -> SourceFormatError:
    kinds = {**group.attributes, **attributes}
    if "plate" in kinds:
        return SourceFormatError(
            f"{store.uri}: a plate of many images; give one of them, such as "
            f"{store.uri}/{_first_well(kinds['plate'])}/0"
        )
    for kind, what in (
        ("bioformats2raw.layout", "a bioformats2raw collection of images"),
        ("well", "a well of many images"),
    ):
        if kind in kinds:
            return SourceFormatError(
                f"{store.uri}: {what}; give one of them, such as {store.uri}/0"
            )
    return SourceFormatError(
        f"{store.uri}: a zarr group that is not an OME-Zarr image; {_contents(store, group)}"
    )


def _first_well(plate: Any) -> str:
    try:
        return str(plate["wells"][0]["path"])
    except (KeyError, IndexError, TypeError):
        return "A/1"


def _contents(store: ObjectStore, group: Node) -> str:
    names = _array_names(store, group)
    if not names:
        return "it contains no arrays"
    more = ", …" if len(names) > _SHOWN else ""
    return f"it contains the arrays {', '.join(names[:_SHOWN])}{more}: give one of them"


def _array_names(store: ObjectStore, group: Node) -> list[str]:
    # zarr visits groups only; listing the store would visit every chunk of every array.
    with warnings.catch_warnings(), as_format_error(f"{store.uri}: not a readable zarr group"):
        warnings.simplefilter("ignore")
        opened = zarr.open_group(
            store.zarr(), mode="r", zarr_format=group.zarr_format, use_consolidated=False
        )
        members = opened.members(max_depth=_DEPTH)
        return sorted(name for name, node in members if isinstance(node, zarr.Array))
