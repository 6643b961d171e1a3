"""The multiscales of an OME-Zarr group, versions 0.1 to 0.6, as one form for all of them.

What decides where a sample lies must be readable; names and display data never stand in the way.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ngff_core.errors import NgffError, SourceFormatError
from ngff_core.model.axes import AXIS_ORDER, axis_type
from ngff_core.model.orientation import AnatomicalOrientation
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import Note
from ngff_core.sources.ome_zarr.nodes import Node
from ngff_core.sources.units import unit_name

SUPPORTED = "0.1 to 0.4 (zarr v2), 0.5 and 0.6 (zarr v3)"
_VERSIONS = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
_WITHOUT_AXES = ("0.1", "0.2")
_AXES_OF_OLD = ("t", "c", "z", "y", "x")
"""The axes of every image of 0.1 and 0.2, by their specifications."""

_SPELLINGS = {
    "time": "t",
    "times": "t",
    "timepoint": "t",
    "frame": "t",
    "channel": "c",
    "channels": "c",
    "ch": "c",
}
"""Names that mean the axes t and c where the axis's type does not say otherwise."""

_WORD = re.compile(r"[^\W\d]\w*")
_PREFIXES = (
    *("atto", "centi", "deci", "exa", "femto", "giga", "hecto", "kilo", "mega", "micro", "milli"),
    *("nano", "pico", "peta", "tera", "yocto", "yotta", "zepto", "zetta"),
)
_SPECIFIED_UNITS = {
    *("angstrom", "foot", "inch", "meter", "mile", "parsec", "yard"),
    *("day", "hour", "minute", "second"),
    *(f"{prefix}{unit}" for prefix in _PREFIXES for unit in ("meter", "second")),
}
"""The UDUNITS names that OME-Zarr lists for space and time."""


@dataclass(frozen=True)
class StoredAxis:
    """One axis: its name as the reader contract has it, unit and orientation where known."""

    name: str
    unit: str | None = None
    orientation: AnatomicalOrientation | None = None


@dataclass(frozen=True)
class StoredDataset:
    """One level: scale and translation by axis, the image's own included; None if not there."""

    path: str
    scale: tuple[float, ...] | None
    translation: tuple[float, ...] | None

    @property
    def parts(self) -> tuple[str, ...]:
        """The path without empty parts."""
        return tuple(part for part in self.path.split("/") if part not in ("", "."))


@dataclass(frozen=True)
class Multiscale:
    """One image as its group describes it, its axes in the stored order.

    Attributes
    ----------
    version
        Of OME-Zarr, as declared; where nothing is declared, by the form of the metadata.
    axes
        None where the metadata name none; 0.1 and 0.2 never do.
    details
        ``type``, ``metadata`` and the group's ``omero`` as stored, those that are there and of
        the right kind of JSON value.
    notes
        What was assumed or left out in reading them.
    """

    version: str
    name: str | None
    axes: tuple[StoredAxis, ...] | None
    datasets: tuple[StoredDataset, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def ome_attributes(group: Node) -> Mapping[str, Any]:
    """The attributes that OME-Zarr defines, of either zarr format; empty if there are none."""
    inside = group.attributes.get("ome")
    return inside if isinstance(inside, Mapping) else group.attributes


def read_multiscales(group: Node, uri: str) -> tuple[Multiscale, ...]:
    """All multiscales of a group, in their order.

    Raises `SourceFormatError` for metadata that do not say where the samples are, or lie.
    """
    attributes = ome_attributes(group)
    entries = attributes.get("multiscales")
    if not isinstance(entries, list) or not entries:
        raise SourceFormatError(f"{uri}: its multiscales are not a list of at least one image")
    version = _version(attributes, entries[0], group, uri)
    if version == "0.6":
        entries = _as_version_05(entries, uri)
    omero = attributes.get("omero")
    return tuple(
        _multiscale(entry, version, omero if number == 0 else None, _placed(group, version), uri)
        for number, entry in enumerate(entries)
    )


def _version(attributes: Mapping[str, Any], first: Any, group: Node, uri: str) -> str:
    # Beside no "ome" key, a version among the attributes is that of something else.
    declared = attributes.get("version") if attributes is not group.attributes else None
    if declared is None and isinstance(first, Mapping):
        declared = first.get("version")
    if declared is None:
        return _undeclared(first, group)
    # Drafts such as 0.6.dev4 and 0.6rc0 are read as their versions.
    text = str(declared)
    number = re.match(r"\d+\.\d+", text)
    found = number.group() if number else ""
    if found not in _VERSIONS:
        raise SourceFormatError(
            f"{uri}: OME-Zarr {text} in zarr v{group.zarr_format} is not supported; "
            f"supported are {SUPPORTED}"
        )
    return found


def _undeclared(first: Any, group: Node) -> str:
    """The version whose form the metadata have."""
    if "ome" in group.attributes:
        return "0.6" if isinstance(first, Mapping) and "coordinateSystems" in first else "0.5"
    axes = first.get("axes") if isinstance(first, Mapping) else None
    if not isinstance(axes, list):
        return "0.2"
    return "0.3" if all(isinstance(axis, str) for axis in axes) else "0.4"


def _placed(group: Node, version: str) -> tuple[Note, ...]:
    """That the metadata lie where their version has none."""
    inside = isinstance(group.attributes.get("ome"), Mapping)
    new = version in ("0.5", "0.6")
    if inside == new and new == (group.zarr_format == 3):
        return ()
    where = "its 'ome' attribute" if inside else "its attributes"
    text = (
        f"the group of zarr v{group.zarr_format} has the multiscales of OME-Zarr {version} in "
        f"{where}, where that version has none; they are read as that version's"
    )
    return (Note("assumed", text),)


def _as_version_05(entries: Sequence[Any], uri: str) -> list[Any]:
    """The multiscales of 0.6 in the form of 0.5, with the fields of axes that 0.5 lacks."""
    from ome_zarr_models.v06.image import ImageAttrs
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            # Metadata that the specification merely advises against are accepted.
            warnings.simplefilter("ignore")
            model = ImageAttrs.model_validate({"version": "0.6", "multiscales": entries})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = f"{uri}: not a valid OME-Zarr 0.6 image: {place}: {first['msg']}"
        raise SourceFormatError(text) from error
    return [_converted(multiscale, uri) for multiscale in model.multiscales]


def _converted(multiscale: Any, uri: str) -> Any:
    what = f"{uri}: its coordinate transformations are not supported"
    with warnings.catch_warnings(), as_format_error(what):
        # Warnings are about transformations between coordinate systems, which 0.5 lacks and
        # which do not concern the levels.
        warnings.simplefilter("ignore")
        converted = multiscale.to_version("0.5").model_dump(mode="json", exclude_none=True)
        axes = multiscale.intrinsic_coordinate_system.axes
        return {**converted, "axes": [a.model_dump(mode="json", exclude_none=True) for a in axes]}


def _multiscale(
    entry: Any, version: str, omero: Any, placed: tuple[Note, ...], uri: str
) -> Multiscale:
    if not isinstance(entry, Mapping):
        raise SourceFormatError(f"{uri}: its multiscales are not JSON objects")
    axes, notes = _axes(entry.get("axes"), version, uri)
    name = entry.get("name")
    details = {"type": entry.get("type"), "metadata": entry.get("metadata"), "omero": omero}
    kinds = {"type": str, "metadata": Mapping, "omero": object}
    return Multiscale(
        version=version,
        name=name if isinstance(name, str) and name else None,
        axes=axes,
        datasets=_datasets(entry, axes, uri),
        details={
            key: value
            for key, value in details.items()
            if value is not None and isinstance(value, kinds[key])
        },
        notes=(*placed, *notes),
    )


def _axes(
    entries: Any, version: str, uri: str
) -> tuple[tuple[StoredAxis, ...] | None, tuple[Note, ...]]:
    if entries is None:
        old = tuple(StoredAxis(name) for name in _AXES_OF_OLD)
        return (old if version in _WITHOUT_AXES else None), ()
    if not isinstance(entries, list) or not entries:
        raise SourceFormatError(f"{uri}: its axes are not a list: {_short(entries)}")
    found = [_axis(entry, number, uri) for number, entry in enumerate(entries)]
    return tuple(axis for axis, _ in found), tuple(note for _, notes in found for note in notes)


def _axis(entry: Any, number: int, uri: str) -> tuple[StoredAxis, list[Note]]:
    entry = {"name": entry} if isinstance(entry, str) else entry
    stored = entry.get("name") if isinstance(entry, Mapping) else None
    if not isinstance(stored, str) or not stored.strip():
        raise SourceFormatError(f"{uri}: its axes: number {number} has no name: {_short(entry)}")
    kind = entry.get("type")
    name = _axis_name(stored, kind)
    notes: list[Note] = []
    if name in AXIS_ORDER and isinstance(kind, str) and kind != axis_type(name):
        text = f"the axis {stored} is of the type {kind!r} in the file; it is read as {name}"
        notes.append(Note("assumed", text))
    unit, about_unit = _unit(entry.get("unit"), name)
    orientation, about_orientation = _orientation(entry.get("orientation"), name)
    return StoredAxis(name, unit, orientation), [*notes, *about_unit, *about_orientation]


def _axis_name(stored: str, kind: Any) -> str:
    name = stored.strip().lower()
    meant = _SPELLINGS.get(name, name)
    return meant if meant != name and kind in (None, axis_type(meant)) else name


def _unit(stored: Any, axis: str) -> tuple[str | None, list[Note]]:
    if stored is None or stored == "":
        return None, []
    known = unit_name(stored)
    if known is not None:
        return known, []
    text = stored.strip() if isinstance(stored, str) else ""
    if text in _SPECIFIED_UNITS:
        return text, []
    if _WORD.fullmatch(text):
        said = f"the unit {text!r} of the axis {axis} is not known; it is kept as it is"
        return text, [Note("assumed", f"{said} (--units {axis}=… says otherwise)")]
    said = f"the unit of the axis {axis}, {_short(stored)}, which is not the name of one"
    return None, [Note("left out", f"{said} (--units {axis}=…)")]


def _orientation(stored: Any, axis: str) -> tuple[AnatomicalOrientation | None, list[Note]]:
    """The anatomical orientation (RFC-4), as an object or as the term alone."""
    if stored is None:
        return None, []
    try:
        known = AnatomicalOrientation(**({"value": stored} if isinstance(stored, str) else stored))
        return known, []
    except (NgffError, TypeError):
        text = f"the orientation of the axis {axis}, {_short(stored)}, which is none of RFC-4's"
        return None, [Note("left out", text)]


def _datasets(
    entry: Mapping[str, Any], axes: Sequence[StoredAxis] | None, uri: str
) -> tuple[StoredDataset, ...]:
    datasets = entry.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise SourceFormatError(f"{uri}: its datasets are not a list of at least one level")
    of_image = _transformations(entry, uri)
    return tuple(_dataset(dataset, of_image, axes, uri) for dataset in datasets)


def _dataset(
    entry: Any, of_image: list[Any], axes: Sequence[StoredAxis] | None, uri: str
) -> StoredDataset:
    path = entry.get("path") if isinstance(entry, Mapping) else None
    if not isinstance(path, str | int):
        raise SourceFormatError(f"{uri}: its datasets: {_short(entry)} has no path")
    placed = _combined([*_transformations(entry, uri), *of_image], axes, uri)
    return StoredDataset(str(path), *placed)


def _transformations(entry: Mapping[str, Any], uri: str) -> list[Any]:
    found = entry.get("coordinateTransformations")
    if found is None:
        return []
    if not isinstance(found, list):
        raise SourceFormatError(f"{uri}: coordinateTransformations {_short(found)} are not a list")
    return found


def _combined(
    transformations: Sequence[Any], axes: Sequence[StoredAxis] | None, uri: str
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Scale and translation of all, in their order; both None where there are none."""
    scale: list[float] = []
    translation: list[float] = []
    for entry in transformations:
        kind = entry.get("type") if isinstance(entry, Mapping) else None
        if kind == "identity":
            continue
        if kind not in ("scale", "translation"):
            raise SourceFormatError(
                f"{uri}: the coordinate transformation {_short(entry)} is not supported; "
                "supported are scale and translation, by numbers"
            )
        count = len(axes) if axes is not None else len(scale) or None
        values = _numbers(entry.get(kind), count, kind, uri)
        scale = scale or [1.0] * len(values)
        translation = translation or [0.0] * len(values)
        if kind == "scale":
            scale = [a * b for a, b in zip(scale, values, strict=True)]
            translation = [a * b for a, b in zip(translation, values, strict=True)]
        else:
            translation = [a + b for a, b in zip(translation, values, strict=True)]
    known = any(entry.get("type") == "scale" for entry in transformations)
    return (tuple(scale) if known else None), (tuple(translation) if translation else None)


def _numbers(values: Any, count: int | None, kind: str, uri: str) -> list[float]:
    good = isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )
    if not good or (count is not None and len(values) != count):
        many = (
            "numbers, one for each axis" if count is None else f"{count} numbers, as many as axes"
        )
        raise SourceFormatError(f"{uri}: the {kind} {_short(values)} must have {many}")
    if kind == "translation" and not all(math.isfinite(v) for v in values):
        raise SourceFormatError(f"{uri}: the translation {_short(values)} is not finite")
    return [float(v) for v in values]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
