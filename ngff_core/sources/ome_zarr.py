"""OME-Zarr images, versions 0.4 and 0.5: level 0 of the first multiscale."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import zarr

from ngff_core.errors import SourceFormatError
from ngff_core.image import NgffImage
from ngff_core.sources.base import (
    Source,
    SourceIdentity,
    make_source,
    refusing,
    sensible_name,
)
from ngff_core.sources.zarr_store import (
    Node,
    array_unit,
    known_dims,
    open_reader,
    read_node,
    stored_pins,
)
from ngff_core.store import Store

_SHOWN = 10
_DEPTH = 3
"""How many arrays of a group, and from how deep, a message names."""


def open_ome_zarr(store: Store, group: Node) -> Source:
    """Level 0 of the image whose group this is, with its axes, units and place in space.

    Raises `SourceFormatError` for a group that is no image, naming what it is, and for
    metadata that OME-Zarr 0.4 or 0.5 does not allow.
    """
    multiscale = _multiscale(store, group)
    dims = _dims(multiscale, store.uri)
    dataset = multiscale.datasets[0]
    level, node = _level(store, str(dataset.path))
    reader, array = open_reader(level, node)
    if len(dims) != len(reader.shape):
        raise SourceFormatError(
            f"{store.uri}: axes {dims} for an array of shape {reader.shape} at {dataset.path!r}"
        )
    scale, translation = _placement(dataset, multiscale, len(dims), store.uri)
    image = NgffImage(
        data=reader,
        dims=dims,
        scale=dict(zip(dims, scale, strict=True)),
        translation=dict(zip(dims, translation, strict=True)),
        name=sensible_name(multiscale.name),
        axes_units=_units(multiscale, dims),
    )
    pins = stored_pins(level, group.documents + node.documents)
    return make_source(image, SourceIdentity(level.uri, pins), array_unit(array), "ome-zarr")


def _multiscale(store: Store, group: Node) -> Any:
    attributes = _ome_attributes(group)
    if not isinstance(attributes, dict) or "multiscales" not in attributes:
        raise _no_image(store, group, attributes if isinstance(attributes, dict) else {})
    return _parse(attributes, group.zarr_format, store.uri).multiscales[0]


def _ome_attributes(group: Node) -> Any:
    return group.attributes.get("ome", {}) if group.zarr_format == 3 else group.attributes


def _parse(attributes: Mapping[str, Any], zarr_format: int, uri: str) -> Any:
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            # What is merely advised against reads as well.
            warnings.simplefilter("ignore")
            return _model(zarr_format).model_validate(attributes)
    except ValidationError as error:
        raise SourceFormatError(f"{uri}: {_complaint(attributes, zarr_format, error)}") from error


def _model(zarr_format: int) -> Any:
    if zarr_format == 3:
        from ome_zarr_models.v05.image import ImageAttrs

        return ImageAttrs
    from ome_zarr_models.v04.image import ImageAttrs as ImageAttrsV04

    return ImageAttrsV04


def _complaint(attributes: Mapping[str, Any], zarr_format: int, error: Any) -> str:
    expected = "0.5" if zarr_format == 3 else "0.4"
    version = _version(attributes)
    if version not in (None, expected):
        return f"OME-Zarr {version} in zarr v{zarr_format} is not read; 0.4 and 0.5 are"
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"not a valid OME-Zarr {expected} image: {place}: {first['msg']}"


def _version(attributes: Mapping[str, Any]) -> Any:
    if "version" in attributes:
        return attributes["version"]
    multiscales = attributes["multiscales"]
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    return first.get("version") if isinstance(first, dict) else None


def _dims(multiscale: Any, uri: str) -> tuple[str, ...]:
    names = tuple(str(axis.name) for axis in multiscale.axes)
    dims = tuple(name.lower() for name in names)
    if not known_dims(dims):
        raise SourceFormatError(f"{uri}: axes {names} are not names out of t, c, z, y, x")
    return dims


def _units(multiscale: Any, dims: Sequence[str]) -> dict[str, str] | None:
    units = (axis.unit for axis in multiscale.axes)
    named = {d: u for d, u in zip(dims, units, strict=True) if isinstance(u, str) and u}
    return named or None


def _level(store: Store, path: str) -> tuple[Store, Node]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise SourceFormatError(f"{store.uri}: {path!r} is no path of a level")
    level = store.child("/".join(parts))
    node = read_node(level)
    if node is None or not node.is_array:
        raise SourceFormatError(f"{store.uri}: no zarr array at {path!r}, which level 0 names")
    return level, node


def _placement(
    dataset: Any, multiscale: Any, ndim: int, uri: str
) -> tuple[list[float], list[float]]:
    """Scale and translation of level 0: the dataset's transformations, then the image's."""
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
            raise SourceFormatError(f"{uri}: the {transform.type} {values} has not {ndim} numbers")
        if transform.type == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            translation = [a * b for a, b in zip(translation, values, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, values, strict=True)]
    return scale, translation


def _no_image(store: Store, group: Node, attributes: Mapping[str, Any]) -> SourceFormatError:
    kinds = {**group.attributes, **attributes}
    if "plate" in kinds:
        return SourceFormatError(
            f"{store.uri}: a plate of many images; name one of them, such as "
            f"{store.uri}/{_first_well(kinds['plate'])}/0"
        )
    for kind, what in (
        ("bioformats2raw.layout", "a bioformats2raw collection of images"),
        ("well", "a well of many images"),
    ):
        if kind in kinds:
            return SourceFormatError(
                f"{store.uri}: {what}; name one of them, such as {store.uri}/0"
            )
    return SourceFormatError(
        f"{store.uri}: a zarr group that is no OME-Zarr image; {_inside(store, group)}"
    )


def _first_well(plate: Any) -> str:
    try:
        return str(plate["wells"][0]["path"])
    except (KeyError, IndexError, TypeError):
        return "A/1"


def _inside(store: Store, group: Node) -> str:
    names = _array_names(store, group)
    if not names:
        return "it holds no arrays"
    more = ", …" if len(names) > _SHOWN else ""
    return f"it holds the arrays {', '.join(names[:_SHOWN])}{more}: name one of them"


def _array_names(store: Store, group: Node) -> list[str]:
    # zarr goes through groups only: a listing would go through every chunk of every array.
    with warnings.catch_warnings(), refusing(f"{store.uri}: not a readable zarr group"):
        warnings.simplefilter("ignore")
        opened = zarr.open_group(
            store.zarr(), mode="r", zarr_format=group.zarr_format, use_consolidated=False
        )
        members = opened.members(max_depth=_DEPTH)
        return sorted(name for name, node in members if isinstance(node, zarr.Array))
