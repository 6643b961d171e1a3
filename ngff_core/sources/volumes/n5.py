"""N5 folders: datasets, multiscale groups of n5-viewer and COSEM, BigDataViewer's setups.

N5 counts axes from the fastest on: ``dimensions`` are x, y, z.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import SPATIAL
from ngff_core.sources.base import Reader, as_format_error, check_array, whole_unit
from ngff_core.sources.contract import (
    UNNAMED,
    ChunkCount,
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.hdf5.bdv_xml import (
    BdvXml,
    SetupImage,
    describe_setups,
    numbered,
    xml_beside,
)
from ngff_core.sources.ome_zarr.nodes import listed, stored_pins
from ngff_core.sources.sizes import axis_word, length_unit, names_in_short, positive
from ngff_core.sources.volumes.tensorstore_chunks import (
    ChunkedArray,
    ChunkGrid,
    Decoder,
    reader_pin,
)
from ngff_core.storage import ObjectInfo, ObjectStore

_DOCUMENT = "attributes.json"
_DATASET = ("dimensions", "blockSize", "dataType", "compression")
"""Attributes that a dataset has, and a group has not."""
_TYPES = tuple(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64))
_TYPES += ("float32", "float64")
_XYZ = tuple(reversed(SPATIAL))


@dataclass(frozen=True)
class _Dataset:
    """One dataset of the folder that is an image.

    Attributes
    ----------
    path
        Below the folder that was given; empty for that folder itself.
    name
        Path of the group that it is the full resolution of, or its own; None for the folder.
    attributes, group
        Its own attributes, and those of the group that it is a level of.
    level
        Its number among the levels of the group.
    document
        Its attributes as they are stored.
    """

    path: str
    name: str | None
    attributes: Mapping[str, Any]
    document: bytes
    group: Mapping[str, Any] = field(default_factory=dict)
    level: int = 0

    @property
    def shape(self) -> Shape:
        return tuple(int(n) for n in reversed(self.attributes["dimensions"]))


def open_images(store: ObjectStore) -> SourceImages:
    """The images in the N5 folder, group or dataset that ``store`` names.

    Raises `SourceFormatError` for a folder without datasets, and for damaged attributes.
    """
    return open_n5(store)


def open_n5(store: ObjectStore, xml: BdvXml | None = None) -> SourceImages:
    """As `open_images`; ``xml`` of BigDataViewer if the caller has it."""
    with as_format_error(f"{store.uri}: not readable N5 attributes"):
        if numbered([n for n, e in store.folder().items() if e.is_folder], "setup"):
            return _open_setups(store, xml or xml_beside(store))
        return _open_datasets(store, _datasets(store))


def _open_datasets(store: ObjectStore, datasets: Sequence[_Dataset]) -> SourceImages:
    others = [(each, reason) for each in datasets if (reason := _no_image(each)) is not None]
    datasets = [each for each in datasets if _no_image(each) is None]
    left_out = names_in_short([f"{each.name or 'the dataset'} {text}" for each, text in others])
    if not datasets:
        reason = f" ({left_out})" if others else ""
        raise SourceFormatError(f"{store.uri}: an N5 folder without an image{reason}")
    notes = (Note("left out", f"what is no image: {left_out}"),) if others else ()
    images = tuple(_describe(each, store.uri, notes) for each in datasets)

    def open_image(number: int) -> Samples:
        each, image = datasets[number], images[number]
        place = store.child(each.path) if each.path else store
        data = _array(place, each.attributes)
        data.decoder.open({}, place.uri)
        unit = whole_unit(reversed(data.grid.chunk))
        reader = Reader(data, place.uri, image.shape, np.dtype(image.dtype))
        return Samples(reader, unit, _count(objects, {each.path.removeprefix(only)}, data.grid))

    only = datasets[0].path if len(datasets) == 1 else ""
    objects = listed(store.child(only) if only else store)
    pins = stored_pins(objects, [each.document for each in datasets])
    return SourceImages(
        identity=SourceIdentity(store.uri, tuple(sorted((*pins, reader_pin())))),
        kind="n5",
        format="an N5 folder",
        images=images,
        open_image=open_image,
        main=0 if len(images) == 1 else None,
    )


def _array(store: ObjectStore, attributes: Mapping[str, Any]) -> ChunkedArray:
    """The samples of the dataset at ``store``."""
    metadata = {name: attributes[name] for name in _DATASET if name in attributes}
    if "compression" not in metadata:
        # As the first version of N5 wrote it.
        metadata["compression"] = {"type": str(attributes.get("compressionType", "raw"))}
    grid = ChunkGrid(
        shape=tuple(int(n) for n in attributes["dimensions"]),
        chunk=tuple(int(n) for n in attributes["blockSize"]),
        key=lambda position: "/".join(map(str, position)),
    )
    return ChunkedArray(store, grid, Decoder("n5", _DOCUMENT, metadata))


def _count(
    objects: Mapping[str, ObjectInfo] | None, paths: set[str], grid: ChunkGrid
) -> ChunkCount | None:
    """The chunks of datasets of one grid, and those of them that a listing does not have."""
    if objects is None:
        return None
    present, ndim = 0, len(grid.shape)
    for key in objects:
        parts = key.split("/")
        chunk = len(parts) >= ndim and all(part.isdecimal() for part in parts[-ndim:])
        present += chunk and "/".join(parts[:-ndim]) in paths
    total = len(paths) * grid.count
    return ChunkCount(total, max(0, total - present))


# --- which datasets ----------------------------------------------------------------------


def _datasets(store: ObjectStore) -> list[_Dataset]:
    """All datasets, of each multiscale group only the full resolution."""
    attributes, document = _attributes(store, "")
    if _is_dataset(attributes):
        return [_given_level(store, attributes, document)]
    return _below(store, "", attributes)


def _given_level(store: ObjectStore, attributes: Mapping[str, Any], document: bytes) -> _Dataset:
    """The dataset that was given; its group has the sizes if it is a level of one."""
    level = re.fullmatch("s([0-9]+)", store.uri.rpartition("/")[2])
    if level is None:
        return _Dataset("", None, attributes, document)
    group, _ = _attributes(store.parent(), "")
    return _Dataset("", None, attributes, document, group, int(level[1]))


def _below(store: ObjectStore, path: str, group: Mapping[str, Any]) -> list[_Dataset]:
    folders = [name for name, entry in store.folder(path).items() if entry.is_folder]
    found: list[_Dataset] = []
    levels = numbered(folders, "s")
    if 0 in levels:
        attributes, document = _attributes(store, _join(path, levels[0]))
        if _is_dataset(attributes):
            name = f"/{path}" if path else None
            found.append(_Dataset(_join(path, levels[0]), name, attributes, document, group))
            folders = [folder for folder in folders if folder not in levels.values()]
    for folder in folders:
        inner = _join(path, folder)
        attributes, document = _attributes(store, inner)
        if _is_dataset(attributes):
            found.append(_Dataset(inner, f"/{inner}", attributes, document))
        else:
            found += _below(store, inner, attributes)
    return found


def _attributes(store: ObjectStore, path: str) -> tuple[Mapping[str, Any], bytes]:
    document = store.read(_join(path, _DOCUMENT)) or b"{}"
    content = json.loads(document)
    if not isinstance(content, dict):
        raise ValueError(f"{_join(path, _DOCUMENT)}: not a JSON object")
    return content, document


def _is_dataset(attributes: Mapping[str, Any]) -> bool:
    if "dimensions" not in attributes or "dataType" not in attributes:
        return False
    sizes = [*attributes["dimensions"], *attributes["blockSize"]]
    if len(attributes["blockSize"]) * 2 != len(sizes) or min(sizes, default=0) < 0:
        raise ValueError(f"dimensions {attributes['dimensions']}, {attributes['blockSize']}")
    return True


def _no_image(dataset: _Dataset) -> str | None:
    """Why a dataset is no image; None where it is one."""
    kind = dataset.attributes["dataType"]
    if kind not in _TYPES:
        return f"(samples of type {kind}, which are not numbers)"
    if 0 in dataset.shape:
        return "(no samples)"
    return None if len(dataset.shape) > 1 else "(one axis)"


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


# --- what they mean ----------------------------------------------------------------------


def _describe(dataset: _Dataset, uri: str, others: tuple[Note, ...]) -> ImageDescription:
    dtype = _dtype(dataset.attributes)
    check_array(dataset.shape, dtype, uri)
    names, origin = _names(dataset)
    placement, origins, notes = _placement(dataset, names)
    return ImageDescription(
        name=dataset.name,
        axes=tuple(reversed(names)),
        shape=dataset.shape,
        dtype=dtype.str,
        placement=placement,
        origins={**({"axes": origin} if origin else {}), **origins},
        notes=(*others, *notes),
    )


def _dtype(attributes: Mapping[str, Any]) -> np.dtype[Any]:
    return np.dtype(str(attributes["dataType"])).newbyteorder("<")


def _names(dataset: _Dataset) -> tuple[list[str], str]:
    """Name of each axis, fastest first, and where the file has them."""
    count = len(dataset.shape)
    transform = _transform(dataset)
    if len(transform.get("axes", ())) == count:
        return [axis_word(str(name)) for name in reversed(transform["axes"])], "transform"
    for attributes in (dataset.attributes, dataset.group):
        axes = attributes.get("axes")
        if isinstance(axes, list) and len(axes) == count and all(isinstance(a, str) for a in axes):
            return [axis_word(name) for name in axes], "axes"
    if _resolution(dataset)[0] and count >= 2:
        names = list(_XYZ)[:count]
        return names + [UNNAMED] * (count - len(names)), "n5-viewer's convention"
    return [UNNAMED] * count, ""


def _transform(dataset: _Dataset) -> Mapping[str, Any]:
    """COSEM's attribute, in which axes are in C order."""
    found = dataset.attributes.get("transform")
    return found if isinstance(found, dict) else {}


def _resolution(dataset: _Dataset) -> tuple[list[Any], list[Any], str]:
    """Sizes at full resolution, their units, fastest axis first, and where they are."""
    for attributes in (dataset.attributes, dataset.group):
        found = attributes.get("pixelResolution")
        if isinstance(found, dict) and isinstance(found.get("dimensions"), list):
            sizes = found["dimensions"]
            return sizes, [found.get("unit")] * len(sizes), "pixelResolution"
        for name in ("pixelResolution", "resolution"):
            sizes = attributes.get(name)
            if isinstance(sizes, list):
                units = attributes.get("units")
                return sizes, units if isinstance(units, list) else [], name
    return [], [], ""


def _placement(
    dataset: _Dataset, names: Sequence[str]
) -> tuple[Placement, dict[str, str], tuple[Note, ...]]:
    transform = _transform(dataset)
    if transform:
        order = [axis_word(str(name)) for name in transform.get("axes", ())]
        scale = _known(order, transform.get("scale", ()))
        units = dict(zip(order, transform.get("units", ()), strict=False))
        shifts = zip(order, transform.get("translate", ()), strict=False)
        origins = dict.fromkeys(("scale", "translation"), "transform")
        translation = {axis: float(shift) for axis, shift in shifts if axis != UNNAMED and shift}
    else:
        sizes, spelled, source = _resolution(dataset)
        full, factors = _known(names, sizes), _factors(dataset, names)
        scale = {axis: size * factors.get(axis, 1.0) for axis, size in full.items()}
        # A sample of a lower level is the mean of ``factor`` samples.
        translation = {
            axis: (factors[axis] - 1) / 2 * full[axis]
            for axis in full
            if factors.get(axis, 1.0) != 1
        }
        units = dict(zip(names, spelled, strict=False))
        origins = {"scale": source} if scale else {}
    known = {a: unit for a in scale if (unit := length_unit(a, units.get(a))) is not None}
    notes = [
        Note("left out", f"the unit {units[axis]!r} of the axis {axis}, which it does not fit")
        for axis in scale
        if units.get(axis) and axis not in known
    ]
    return Placement(scale, known, translation), origins, tuple(notes)


def _known(names: Sequence[str], sizes: Sequence[Any]) -> dict[str, float]:
    found = {axis: positive(size) for axis, size in zip(names, sizes, strict=False)}
    return {axis: size for axis, size in found.items() if size is not None and axis != UNNAMED}


def _factors(dataset: _Dataset, names: Sequence[str]) -> dict[str, float]:
    """How many samples of the full resolution one sample has along each axis."""
    found = dataset.attributes.get("downsamplingFactors")
    levels = dataset.group.get("scales")
    if found is None and isinstance(levels, list) and dataset.level < len(levels):
        found = levels[dataset.level]
    return _known(names, found) if isinstance(found, list) else {}


# --- BigDataViewer -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Times:
    """Datasets of one setup, stacked along t; a time that is missing reads as 0."""

    store: ObjectStore
    paths: Mapping[int, str]
    first: Mapping[str, Any]
    dtype: np.dtype[Any]

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        result = np.zeros(tuple(s.stop - s.start for s in key), self.dtype)
        for time in range(key[0].start, key[0].stop):
            path = self.paths.get(time)
            if path is not None:
                result[time - key[0].start] = self._array(path)[key[1:]]
        return result

    def _array(self, path: str) -> ChunkedArray:
        attributes, _ = _attributes(self.store, path)
        if any(attributes.get(name) != self.first[name] for name in ("dimensions", "dataType")):
            raise SourceFormatError(
                f"{self.store.uri}/{path}: not of the shape and type of the setup's first time"
            )
        return _array(self.store.child(path), attributes)


def _open_setups(store: ObjectStore, xml: BdvXml) -> SourceImages:
    """BigDataViewer's layout: setupS/timepointT/s0, each setup an image."""
    folders = [name for name, entry in store.folder().items() if entry.is_folder]
    views = {
        number: numbered(list(store.folder(name)), "timepoint")
        for number, name in numbered(folders, "setup").items()
    }
    times = tuple(sorted({time for found in views.values() for time in found}))
    if not times:
        raise SourceFormatError(f"{store.uri}: an N5 folder of BigDataViewer without images")
    stacks = [_stack(store, number, found, times) for number, found in views.items() if found]
    images = describe_setups([image for image, _, _ in stacks], xml)

    def open_image(number: int) -> Samples:
        image, data, _ = stacks[number]
        chunked = _array(store, data.first)
        chunked.decoder.open({}, store.uri)
        unit = whole_unit((1, *reversed(chunked.grid.chunk)))
        reader = Reader(data, store.uri, image.shape, data.dtype)
        return Samples(reader, unit, _count(objects, set(data.paths.values()), chunked.grid))

    objects = listed(store)
    pins = stored_pins(objects, [document for _, _, document in stacks])
    return SourceImages(
        identity=SourceIdentity(store.uri, tuple(sorted((*pins, *xml.pins, reader_pin())))),
        kind="n5",
        format="a BigDataViewer N5 folder",
        images=images,
        open_image=open_image,
        main=0 if len(images) == 1 else None,
    )


def _stack(
    store: ObjectStore, number: int, found: Mapping[int, str], times: tuple[int, ...]
) -> tuple[SetupImage, _Times, bytes]:
    paths = {i: f"setup{number}/{found[time]}/s0" for i, time in enumerate(times) if time in found}
    first = next(iter(paths.values()))
    attributes, document = _attributes(store, first)
    if not _is_dataset(attributes) or len(attributes["dimensions"]) != 3:
        raise SourceFormatError(f"{store.uri}/{first}: not a dataset with three axes")
    dtype = _dtype(attributes)
    inner = tuple(int(n) for n in reversed(attributes["dimensions"]))
    check_array(inner, dtype, store.uri)
    image = SetupImage(
        number=number,
        times=times,
        missing=tuple(time for time in times if time not in found),
        shape=(len(times), *inner),
        dtype=dtype.str,
    )
    return image, _Times(store, paths, attributes, dtype), document
