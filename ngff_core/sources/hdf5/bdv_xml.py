"""The XML that BigDataViewer keeps beside its HDF5 file or N5 folder, and what it means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import ImageDescription, Note, Pins, Placement
from ngff_core.sources.sizes import length_unit, names_in_short, positive
from ngff_core.storage import ObjectStore

_MOST_BYTES = 256 << 20
"""Largest XML in bytes; ten thousand views have about 10 MB."""

_XYZ = ("x", "y", "z")


@dataclass(frozen=True)
class ViewSetup:
    """What the XML says of one setup.

    Attributes
    ----------
    name
        None if it has none.
    scale
        Size of a voxel by axis; empty where it is unknown.
    unit
        As the file spells it.
    affine
        Rows of the transformation to the world at the first time that has one; None without.
    moves
        Whether other times have another transformation.
    """

    name: str | None = None
    scale: Mapping[str, float] = field(default_factory=dict)
    unit: str | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    moves: bool = False


@dataclass(frozen=True)
class BdvXml:
    """A parsed XML, or the absence of one.

    Attributes
    ----------
    name
        Its file name.
    pins
        Its size and version, or that it is absent.
    loader
        Format of the samples: ``bdv.hdf5``, ``bdv.n5`` and others; empty without an XML.
    path
        Where they are, relative to the XML.
    setups
        By number.
    """

    name: str
    pins: Pins
    loader: str = ""
    path: str = ""
    setups: Mapping[int, ViewSetup] = field(default_factory=dict)


def xml_beside(store: ObjectStore) -> BdvXml:
    """The XML of the same name beside a file or folder; one that is about another is absent."""
    own = store.uri.rpartition("/")[2]
    found = read_xml(store.parent(), f"{own.rpartition('.')[0] or own}.xml")
    if found.loader and found.path.rpartition("/")[2] != own:
        return BdvXml(found.name, found.pins)
    return found


def read_xml(folder: ObjectStore, name: str) -> BdvXml:
    """The XML of that name; without setups if it is not there or no `SpimData`."""
    info = folder.info(name)
    if info is None:
        return BdvXml(name, ((f"companion {name}", "absent"),))
    pins = ((f"companion {name}", f"{info.size} {info.version}"),)
    if info.size > _MOST_BYTES:
        raise SourceFormatError(f"{folder.uri}/{name}: an XML of {info.size} bytes is too large")
    with as_format_error(f"{folder.uri}/{name}: not a readable XML of BigDataViewer"):
        return _parse(folder.read(name) or b"", name, pins)


def _parse(document: bytes, name: str, pins: Pins) -> BdvXml:
    from defusedxml.ElementTree import fromstring

    root = fromstring(document)
    sequence = root.find("SequenceDescription")
    if root.tag != "SpimData" or sequence is None:
        return BdvXml(name, pins)
    loader = sequence.find("ImageLoader")
    place = None if loader is None else next((e for e in loader if e.tag in ("hdf5", "n5")), None)
    base = (root.findtext("BasePath") or ".").strip()
    path = "" if place is None else f"{base}/{(place.text or '').strip()}".removeprefix("./")
    affines = _affines(root)
    setups = {}
    for each in sequence.iterfind("ViewSetups/ViewSetup"):
        number = int(each.findtext("id", ""))
        setups[number] = _setup(each, affines.get(number, []))
    return BdvXml(name, pins, "" if loader is None else loader.get("format", ""), path, setups)


def _setup(element: Any, affines: Sequence[Any]) -> ViewSetup:
    unit = element.findtext("voxelSize/unit")
    numbers = (element.findtext("voxelSize/size") or "").split()
    found = {axis: positive(n) for axis, n in zip(_XYZ, numbers, strict=False)}
    scale = {axis: size for axis, size in found.items() if size is not None}
    if length_unit("x", unit) is None and set(scale.values()) == {1.0}:
        # Voxels counted in voxels.
        scale = {}
    return ViewSetup(
        name=(element.findtext("name") or "").strip() or None,
        scale=scale,
        unit=unit,
        affine=tuple(tuple(row) for row in affines[0].tolist()) if affines else None,
        moves=any(not np.allclose(affines[0], each) for each in affines[1:]),
    )


def _affines(root: Any) -> dict[int, list[Any]]:
    """The transformation of each setup at each time, in order of time: 3 rows of 4 numbers."""
    found: dict[int, dict[int, Any]] = {}
    for view in root.iterfind("ViewRegistrations/ViewRegistration"):
        total = np.eye(4)
        # The first one in the file is applied last.
        for text in view.iterfind("ViewTransform/affine"):
            matrix = np.eye(4)
            matrix[:3] = np.array([float(n) for n in (text.text or "").split()]).reshape(3, 4)
            total = total @ matrix
        found.setdefault(int(view.get("setup")), {})[int(view.get("timepoint"))] = total[:3]
    return {setup: [times[t] for t in sorted(times)] for setup, times in found.items()}


# --- images ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetupImage:
    """A setup as it is stored: times stacked along t, then z, y, x.

    Attributes
    ----------
    number
        Of the setup.
    times
        The times that any setup has, in order.
    missing
        Those that this one lacks.
    shape, dtype
        Of all times together, and the type that samples are.
    notes
        What the storage says beside.
    """

    number: int
    times: tuple[int, ...]
    missing: tuple[int, ...]
    shape: Shape
    dtype: str
    notes: tuple[Note, ...] = ()


def describe_setups(images: Sequence[SetupImage], xml: BdvXml) -> tuple[ImageDescription, ...]:
    """The images of a BigDataViewer source, named by the XML where its names differ."""
    names = [(xml.setups.get(each.number) or ViewSetup()).name for each in images]
    distinct = len({*names, None}) == len(names) + 1
    return tuple(
        _describe(each, xml, name if distinct and name else f"setup {each.number}")
        for each, name in zip(images, names, strict=True)
    )


def _describe(image: SetupImage, xml: BdvXml, name: str) -> ImageDescription:
    setup = xml.setups.get(image.number)
    origins = {"axes": "BigDataViewer's convention", "name": xml.name if setup else "the setup"}
    notes = [*image.notes, *_times(image)]
    placement, metadata = Placement(), {}
    if setup is None:
        text = f"sizes, names and transformations: {xml.name}, which has them, is not there"
        notes.append(Note("unknown", text))
    else:
        placement, left = _placement(setup)
        notes += left
        origins["scale"] = f"voxelSize in {xml.name}"
        if placement.translation:
            origins["translation"] = f"ViewRegistrations in {xml.name}"
        if setup.affine is not None:
            metadata = {"affine": [list(row) for row in setup.affine]}
    return ImageDescription(
        name=name,
        axes=("t", "z", "y", "x"),
        shape=image.shape,
        dtype=image.dtype,
        placement=placement,
        origins=origins,
        notes=tuple(notes),
        metadata=metadata,
    )


def _times(image: SetupImage) -> list[Note]:
    notes = []
    first, last = image.times[0], image.times[-1]
    if last - first + 1 != len(image.times):
        text = f"times that the file does not have: {len(image.times)} of {first} to {last} follow "
        notes.append(Note("unknown", f"{text}each other on the axis t"))
    if image.missing:
        times = names_in_short([str(time) for time in image.missing])
        notes.append(Note("unknown", f"samples at time {times}: not in the file, read as 0"))
    return notes


def _placement(setup: ViewSetup) -> tuple[Placement, list[Note]]:
    """Sizes, and the position where the transformation is nothing but sizes and a shift."""
    units = {axis: unit for axis in setup.scale if (unit := length_unit(axis, setup.unit))}
    if setup.affine is None:
        return Placement(setup.scale, units), []
    notes = []
    if setup.moves:
        notes.append(Note("left out", "transformations that change from time to time"))
    expected = np.diag([setup.scale.get(axis, math.nan) for axis in _XYZ])
    matrix = np.array(setup.affine)
    if not np.allclose(matrix[:, :3], expected, rtol=1e-3, atol=1e-6 * float(np.abs(matrix).max())):
        if not np.allclose(matrix, np.eye(4)[:3]):
            text = "the transformation to the world, which is kept as metadata"
            notes.append(Note("left out", text))
        return Placement(setup.scale, units), notes
    shift = dict(zip(_XYZ, matrix[:, 3].tolist(), strict=True))
    moved = {axis: value for axis, value in shift.items() if value}
    return Placement(setup.scale, units, moved), notes


def numbered(names: Sequence[str], prefix: str) -> dict[int, str]:
    """Names that are a prefix and a number, by that number, in its order."""
    pattern = re.compile(f"{prefix}([0-9]+)")
    found = {int(m[1]): name for name in names if (m := pattern.fullmatch(name)) is not None}
    return dict(sorted(found.items()))
