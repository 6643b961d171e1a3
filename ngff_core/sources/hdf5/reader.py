"""HDF5 files: BigDataViewer's, Imaris', and any other, of which each dataset is an image.

What ilastik, elf, PlantSeg and EMD write beside a dataset is understood. Files of MATLAB and others
open too, as plain datasets without the meaning that they give to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import Reader
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.hdf5.bdv import is_bdv, open_bdv
from ngff_core.sources.hdf5.emd import velox_companion, with_emd
from ngff_core.sources.hdf5.files import (
    H5Array,
    H5File,
    as_text,
    attribute_values,
    check_filters,
    elsewhere,
    h5_errors,
    open_h5,
    unit_of,
)
from ngff_core.sources.hdf5.imaris import is_imaris, open_imaris
from ngff_core.sources.sizes import axis_word, length_unit, names_in_short, positive
from ngff_core.storage import ObjectStore


def open_images(store: ObjectStore) -> SourceImages:
    """The images in the HDF5 file that ``store`` names; no sample is read.

    Raises `SourceFormatError` for a damaged file, and for one without datasets of numbers.
    """
    file = open_h5(store)
    try:
        with h5_errors(f"{store.uri}: not a readable HDF5 file"):
            if is_imaris(file):
                return open_imaris(file)
            found = open_bdv(file) if is_bdv(file) else None
            return found or _open_plain(file)
    except BaseException:
        file.close()
        raise


def _open_plain(file: H5File) -> SourceImages:
    content = _content(file)
    if not content.datasets:
        reason = f" ({'; '.join(content.left_out)})" if content.left_out else ""
        raise SourceFormatError(
            f"{file.uri}: an HDF5 file without a dataset of numbers with two or more axes{reason}"
        )
    notes = tuple(Note("left out", text) for text in content.left_out)
    images = tuple(
        with_emd(_describe(path, each, notes), file, path)
        for path, each in content.datasets.items()
    )

    def open_image(number: int) -> Samples:
        image = images[number]
        dataset = content.datasets[str(image.name)]
        check_filters(dataset, file.uri)
        reader = Reader(H5Array(dataset, file.uri), file.uri, image.shape, np.dtype(image.dtype))
        return Samples(reader, unit_of(dataset, file.store))

    return SourceImages(
        identity=SourceIdentity(file.uri, file.pins),
        kind="hdf5",
        format="an HDF5 file",
        images=images,
        open_image=open_image,
        main=0 if len(images) == 1 else None,
        _close=file.close,
    )


# --- which datasets ----------------------------------------------------------------------


@dataclass
class _Content:
    """The datasets that are images, by path, and in words what else the file holds."""

    datasets: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def _content(file: H5File) -> _Content:
    import h5py

    datasets: dict[str, Any] = {}
    links: list[str] = []

    def visit(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            datasets[f"/{name}"] = found

    def visit_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            links.append(f"/{name} in {link.filename}")

    # Neither of them follows links to other files.
    file.root.visititems(visit)
    file.root.visititems_links(visit_link)
    content = _Content()
    others: dict[str, list[str]] = {}
    for path, dataset in datasets.items():
        reason = _no_image(file, dataset)
        if reason is None:
            reason = velox_companion(path)
        if reason is None:
            content.datasets[path] = dataset
        elif reason:
            others.setdefault(reason, []).append(path)
    if links:
        others["links to other files, which are not followed"] = links
    content.left_out = [f"{reason}: {names_in_short(paths)}" for reason, paths in others.items()]
    return content


def _no_image(file: H5File, dataset: Any) -> str | None:
    """Why a dataset is no image; empty where that needs no word, None where it is one."""
    away = elsewhere(file, dataset)
    if away is not None:
        return f"{away}, which is not read"
    shape = dataset.shape
    if shape is None or len(shape) < 2:
        return ""
    if 0 in shape:
        return "without samples"
    try:
        dtype = np.dtype(dataset.dtype)
    except TypeError:
        return "samples of a type that numpy does not have"
    if dtype.kind == "c":
        return "complex numbers"
    return None if dtype.kind in "biuf" else "samples that are not numbers"


# --- what they mean ----------------------------------------------------------------------


def _describe(path: str, dataset: Any, notes: tuple[Note, ...]) -> ImageDescription:
    image = ImageDescription(
        name=path,
        axes=(UNNAMED,) * dataset.ndim,
        shape=tuple(dataset.shape),
        dtype=np.dtype(dataset.dtype).str,
        origins={"name": "path in the file"},
        notes=notes,
    )
    return _with_element_size(_with_labels(_with_axistags(image, dataset), dataset), dataset)


def _with_axistags(image: ImageDescription, dataset: Any) -> ImageDescription:
    """Axes as ilastik and vigra write them, and sizes where they are not 0."""
    tags = _json(dataset, "axistags").get("axes")
    if not isinstance(tags, list) or len(tags) != len(image.axes):
        return image
    if not all(isinstance(tag, dict) and isinstance(tag.get("key"), str) for tag in tags):
        return image
    axes = tuple(axis_word(tag["key"]) for tag in tags)
    sizes = {axis: positive(tag.get("resolution")) for axis, tag in zip(axes, tags, strict=True)}
    scale = {axis: size for axis, size in sizes.items() if size is not None and axis != UNNAMED}
    units = {
        axis: unit
        for axis, text in _json(dataset, "axis_units").items()
        if axis in scale and (unit := length_unit(axis, text)) is not None
    }
    origins = {**image.origins, "axes": "axistags"}
    if scale:
        origins["scale"] = "axistags"
    return replace(image, axes=axes, placement=Placement(scale, units), origins=origins)


def _with_labels(image: ImageDescription, dataset: Any) -> ImageDescription:
    """Axes by the labels that HDF5 itself has for them."""
    labels = attribute_values(dataset, "DIMENSION_LABELS")
    named = any(axis != UNNAMED for axis in image.axes)
    if named or len(labels) != len(image.axes):
        return image
    axes = tuple(axis_word(as_text(label)) for label in labels)
    if all(axis == UNNAMED for axis in axes):
        return image
    return replace(image, axes=axes, origins={**image.origins, "axes": "DIMENSION_LABELS"})


def _with_element_size(image: ImageDescription, dataset: Any) -> ImageDescription:
    """Sizes in micrometers, in the order z, y, x, as elf, PlantSeg and Fiji write them.

    Where the axes have no names, that attribute says which the last ones are.
    """
    sizes = attribute_values(dataset, "element_size_um")
    if not 2 <= len(sizes) <= min(3, len(image.axes)):
        return image
    names = ("z", "y", "x")[-len(sizes) :]
    axes, origins = image.axes, {**image.origins, "scale": "element_size_um"}
    if all(axis == UNNAMED for axis in axes):
        axes = (UNNAMED,) * (len(axes) - len(names)) + names
        origins["axes"] = "element_size_um, whose order is z, y, x"
    found = {axis: positive(size) for axis, size in zip(names, sizes, strict=True)}
    scale = {axis: size for axis, size in found.items() if size is not None and axis in axes}
    units = dict.fromkeys(scale, "micrometer")
    return replace(image, axes=axes, placement=Placement(scale, units), origins=origins)


def _json(dataset: Any, name: str) -> Mapping[str, Any]:
    """An attribute that holds a JSON object; empty if there is none."""
    values = attribute_values(dataset, name)
    try:
        content = json.loads(as_text(values[0])) if len(values) == 1 else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
