"""OME-Zarr images of versions 0.1 to 0.6: by their group, or by the array of one level."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import zarr

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.image import NgffImage
from ngff_core.model.metadata import AxisEntry, DatasetEntry, ImageEntry
from ngff_core.sources.base import as_format_error, sensible_name
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.endings import name_from_uri
from ngff_core.sources.ome_zarr.channels import completed_omero, read_channels
from ngff_core.sources.ome_zarr.metadata import Multiscale, ome_attributes, read_multiscales
from ngff_core.sources.ome_zarr.nodes import (
    Node,
    array_documents,
    array_unit,
    count_chunks,
    digest_of,
    documented_array,
    group_documents,
    known_dims,
    listed,
    notes_of_store,
    open_reader,
    read_node,
    stored_pins,
)
from ngff_core.storage import ObjectStore, both, for_each

_SHOWN = 10
"""Arrays of a group, or names of labels, that a message names at most."""
_DEPTH = 3
"""Levels of subgroups in which arrays are looked for, and of groups above an array in which
its image is."""


@dataclass(frozen=True)
class StoredImage:
    """One image as its group describes it, its axes in the stored order."""

    store: ObjectStore
    group: Node
    multiscale: Multiscale
    labels: bool = False
    """Whether its group, or the group that holds it, says that its samples are labels."""

    @property
    def version(self) -> str:
        """The OME-Zarr version of its metadata."""
        return self.multiscale.version

    @property
    def dims(self) -> tuple[str, ...]:
        """Its axes. Raises `SourceFormatError` for others than t, c, z, y, x, each once."""
        axes = self.multiscale.axes
        names = () if axes is None else tuple(axis.name for axis in axes)
        if not known_dims(names):
            raise SourceFormatError(
                f"{self.store.uri}: axes {names} are not supported; "
                "axes must be t, c, z, y, x, each at most once, at least one of z, y, x"
            )
        return names

    @property
    def entry(self) -> ImageEntry:
        """Its metadata, independent of the version. An unknown size is 1, as NgffImage has it."""
        ndim, found = len(self.dims), self.multiscale
        return ImageEntry(
            name=found.name or "image",
            axes=tuple(AxisEntry(a.name, a.unit, a.orientation) for a in found.axes or ()),
            datasets=tuple(
                DatasetEntry(
                    dataset.path,
                    dataset.scale or (1.0,) * ndim,
                    dataset.translation or (0.0,) * ndim,
                )
                for dataset in found.datasets
            ),
            type=found.details.get("type"),
            metadata=found.details.get("metadata"),
            omero=completed_omero(found.details.get("omero")),
        )

    def level(self, index: int) -> ImageLevel:
        """One level; only its documents are read. Raises `SourceFormatError` without an array."""
        dataset = self.multiscale.datasets[index]
        if not dataset.parts or ".." in dataset.parts:
            raise SourceFormatError(
                f"{self.store.uri}: {dataset.path!r} is not a valid path of a level"
            )
        store = self.store.child("/".join(dataset.parts))
        node = read_node(store, array_documents(self.group.zarr_format))
        if node is None or not node.is_array:
            raise SourceFormatError(
                f"{self.store.uri}: no zarr array at {dataset.path!r}, which the image's metadata "
                "name as a level"
            )
        return ImageLevel(self, index, store, node)

    def read_level(self, index: int) -> StoredLevel:
        """One level as an image of known axes, in the stored order; no chunk is read.

        Raises `SourceFormatError` if there is no array, or one with other axes.
        """
        level, entry = self.level(index), self.entry
        reader, array = open_reader(level.store, level.node)
        level.check_axes(reader.shape)
        dataset = entry.datasets[index]
        image = NgffImage(
            data=reader,
            dims=self.dims,
            scale=dict(zip(self.dims, dataset.scale, strict=True)),
            translation=dict(zip(self.dims, dataset.translation, strict=True)),
            name=sensible_name(entry.name),
            axes_units={a.name: a.unit for a in entry.axes if a.unit} or None,
            axes_orientations={a.name: a.orientation for a in entry.axes if a.orientation},
        )
        return StoredLevel(image, array_unit(array))


@dataclass(frozen=True)
class StoredLevel:
    """One level of a stored image, its axes in the stored order."""

    image: NgffImage
    """With lazy data."""
    unit: Shape
    """Shape of the chunk that is decoded at once."""


@dataclass(frozen=True)
class ImageLevel:
    """The array of one level, with the meaning that its image gives it."""

    image: StoredImage
    index: int
    store: ObjectStore
    node: Node
    name: str | None = None
    """Of the image in a collection; None: the name that the image has itself."""
    notes: tuple[Note, ...] = field(default=())

    def check_axes(self, shape: Shape) -> None:
        """Raise `SourceFormatError` for an array with another number of axes than the image."""
        axes = self.image.multiscale.axes
        if axes is not None and len(axes) != len(shape):
            raise SourceFormatError(
                f"{self.image.store.uri}: {len(axes)} axes {tuple(a.name for a in axes)}, but the "
                f"array at {self.image.multiscale.datasets[self.index].path!r} has the shape "
                f"{shape}"
            )

    def described(self, shape: Shape, dtype: np.dtype[Any]) -> ImageDescription:
        """The level of an array of this shape and dtype."""
        found = self.image.multiscale
        self.check_axes(shape)
        axes = found.axes or ()
        names = tuple(axis.name for axis in axes) or (UNNAMED,) * len(shape)
        count = shape[names.index("c")] if "c" in names else None
        channels, about_channels = read_channels(found.details.get("omero"), count)
        labels, about_labels = self._labels(dtype)
        placement = self._placement(names)
        origin = f"OME-Zarr {found.version}"
        known = {
            "axes": bool(axes),
            "scale": bool(placement.scale),
            "units": bool(placement.units),
            "translation": bool(placement.translation),
            "orientations": bool(placement.orientations),
            "channels": bool(channels),
            "name": (self.name or found.name) is not None,
        }
        return ImageDescription(
            name=self.name or found.name or name_from_uri(self.image.store.uri),
            axes=names,
            shape=shape,
            dtype=dtype.str,
            placement=placement,
            channels=channels,
            labels=labels,
            origins={key: origin for key, there in known.items() if there},
            notes=(
                *self.notes,
                *found.notes,
                *about_channels,
                *about_labels,
                *notes_of_store(self.store),
            ),
        )

    def _placement(self, names: tuple[str, ...]) -> Placement:
        dataset = self.image.multiscale.datasets[self.index]
        axes = self.image.multiscale.axes or ()
        if not axes or len(set(names)) < len(names):
            # By no name could a size be found again.
            return Placement()
        return Placement(
            dict(zip(names, dataset.scale or (), strict=False)),
            {a.name: a.unit for a in axes if a.unit},
            dict(zip(names, dataset.translation or (), strict=False)),
            {a.name: a.orientation for a in axes if a.orientation},
        )

    def _labels(self, dtype: np.dtype[Any]) -> tuple[bool, tuple[Note, ...]]:
        if not self.image.labels or dtype.kind in "biu":
            return self.image.labels, ()
        text = f"the image is one of labels, but its samples are {dtype}; they are read as numbers"
        return False, (Note("assumed", text),)

    def open(self, uri: str | None = None) -> Samples:
        """The samples, with the identity of this level alone.

        ``uri`` is the source's where that is not the level's own: a plan opens its source there.
        """
        (reader, array), objects = both(
            self.store, partial(open_reader, self.store, self.node), partial(listed, self.store)
        )
        documents = self.image.group.documents + self.node.documents
        identity = SourceIdentity(uri or self.store.uri, stored_pins(objects, documents))
        return Samples(reader, array_unit(array), count_chunks(array, objects), identity)


def open_ome_zarr(store: ObjectStore, group: Node) -> SourceImages:
    """The images of a group's multiscales, the first of which is meant.

    Raises `SourceFormatError` for metadata that OME-Zarr does not allow.
    """
    levels = tuple(image.level(0) for image in images_of(store, group))
    notes = _labels_beside(store, group)
    return source_of((replace(levels[0], notes=notes), *levels[1:]), store, group)


def open_level(store: ObjectStore, node: Node) -> SourceImages | None:
    """The array at ``store`` as the level of an image in one of the groups above it.

    None where no group up to three levels above it names it as a level.
    """
    level = _named_by_parent(store, node)
    return None if level is None else source_of((level,), store, level.image.group)


def read_image(store: ObjectStore, group: Node) -> StoredImage:
    """The first image of a group; no array is opened."""
    if "multiscales" not in ome_attributes(group):
        raise not_an_image(store, group)
    return images_of(store, group)[0]


def images_of(store: ObjectStore, group: Node) -> tuple[StoredImage, ...]:
    """The images of a group's multiscales; no array is opened."""
    labels = _says_labels(store, group)
    return tuple(
        StoredImage(store, group, multiscale, labels)
        for multiscale in read_multiscales(group, store.uri)
    )


def source_of(
    levels: tuple[ImageLevel, ...],
    store: ObjectStore,
    group: Node,
    *,
    main: int | None = 0,
    what: str = "image",
) -> SourceImages:
    """A source of these images. With one, its identity is that of the source."""
    version = levels[0].image.version
    index = levels[0].index
    name = what if len(levels) > 1 or index == 0 else f"image, level {index}"
    form = f"an OME-Zarr {version} {name}"
    if len(levels) == 1:
        samples = levels[0].open()
        identity = samples.identity or SourceIdentity(store.uri, ())
        described = (levels[0].described(samples.data.shape, np.dtype(samples.data.dtype)),)
        return SourceImages(identity, "ome-zarr", form, described, lambda _: samples, main)
    documents = group.documents + tuple(d for level in levels for d in level.node.documents)
    return SourceImages(
        identity=SourceIdentity(store.uri, (("metadata", digest_of(documents)),)),
        kind="ome-zarr",
        format=form,
        images=tuple(for_each(store, _described_by_documents, levels)),
        open_image=lambda number: levels[number].open(store.uri),
        main=main,
    )


def _described_by_documents(level: ImageLevel) -> ImageDescription:
    shape, dtype = documented_array(level.node, level.store.uri)
    return level.described(shape, dtype)


def _labels_beside(store: ObjectStore, group: Node) -> tuple[Note, ...]:
    """That the image has label images, which are sources by themselves."""
    node = None
    with suppress(SourceFormatError):
        node = read_node(store.child("labels"), group_documents(group.zarr_format))
    names = None if node is None else ome_attributes(node).get("labels")
    if not isinstance(names, list) or not names:
        return ()
    shown = ", ".join(str(name) for name in names[:_SHOWN]) + (", …" if names[_SHOWN:] else "")
    text = f"the labels of the image: {shown}; each is a source, such as {store.uri}/labels"
    return (Note("left out", f"{text}/{names[0]}"),)


def _says_labels(store: ObjectStore, group: Node) -> bool:
    """Whether the group is of a label image: by its attributes, or as one of a group of them."""
    if "image-label" in ome_attributes(group) or "image-label" in group.attributes:
        return True
    parent = store.parent()
    if parent.uri.rpartition("/")[2] != "labels" or parent.uri == store.uri:
        return False
    # A folder of that name may hold anything; only a group of that name holds label images.
    with suppress(SourceFormatError, PermissionError):
        return read_node(parent, group_documents(group.zarr_format)) is not None
    return False


def _named_by_parent(store: ObjectStore, node: Node) -> ImageLevel | None:
    above, path = store, ""
    for _ in range(_DEPTH):
        # What is called .zarr is a hierarchy of its own, and no level of one: nothing to ask for.
        parent = above.parent()
        if parent.uri == above.uri or above.uri.endswith(".zarr"):
            return None
        path = f"{above.uri.rpartition('/')[2]}/{path}".rstrip("/")
        above = parent
        group = _group_above(above, node)
        if group is not None and "multiscales" in ome_attributes(group):
            return _level_at(path, above, group, store, node)
    return None


def _group_above(store: ObjectStore, node: Node) -> Node | None:
    """A group of the array's format; None where there is none, or none that can be read."""
    with suppress(SourceFormatError, PermissionError):
        return read_node(store, group_documents(node.zarr_format))
    return None


def _level_at(
    path: str, parent: ObjectStore, group: Node, store: ObjectStore, node: Node
) -> ImageLevel | None:
    wanted = tuple(path.split("/"))
    for image in images_of(parent, group):
        for index, dataset in enumerate(image.multiscale.datasets):
            if dataset.parts == wanted:
                text = (
                    f"the array is level {index} of the image {parent.uri}, whose metadata say "
                    "its axes, sizes and channels"
                )
                return ImageLevel(image, index, store, node, notes=(Note("assumed", text),))
    return None


def not_an_image(store: ObjectStore, group: Node) -> SourceFormatError:
    """The error for a group without an image, which says what it is instead."""
    kinds = {**group.attributes, **ome_attributes(group)}
    if "plate" in kinds:
        return SourceFormatError(
            f"{store.uri}: a plate of many images; give one of them, such as "
            f"{store.uri}/{_first_well(kinds['plate'])}/0"
        )
    for kind, what in (
        ("bioformats2raw.layout", "a bioformats2raw collection of images"),
        ("well", "a well of many images"),
        ("labels", "a group of label images"),
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
