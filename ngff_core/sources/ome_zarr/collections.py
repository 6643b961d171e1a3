"""Groups of several OME-Zarr images: plates, wells, bioformats2raw collections, labels.

Every image is described, so its documents are read: two or four small objects for each, in
parallel where the store has a latency. Its chunks are listed only when it is opened.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import Note, SourceImages
from ngff_core.sources.ome_zarr.images import ImageLevel, images_of, not_an_image, source_of
from ngff_core.sources.ome_zarr.metadata import ome_attributes
from ngff_core.sources.ome_zarr.nodes import Node, group_documents, read_node
from ngff_core.storage import ObjectStore, for_each

_SHOWN = 10
"""Images that cannot be read, which a message names at most."""
_AT_ONCE = 64
"""Images of a collection without a list that are looked for together."""


@dataclass(frozen=True)
class _Member:
    """One image that a collection names: where it is below the group, and what it is called."""

    path: str
    name: str


@dataclass(frozen=True)
class _Members:
    what: str
    members: Sequence[_Member]
    notes: tuple[Note, ...] = ()


def open_collection(store: ObjectStore, group: Node) -> SourceImages:
    """All images of a plate, a well, a bioformats2raw collection or a group of labels.

    Raises `SourceFormatError` for another kind of group, naming its arrays, and for one without
    a single image that can be read.
    """
    found = _members(store, group, {**group.attributes, **ome_attributes(group)})
    if found is None:
        raise not_an_image(store, group)
    read = for_each(store, lambda member: _level(store, group, member), found.members)
    levels = [each for each in read if isinstance(each, ImageLevel)]
    if not levels:
        raise not_an_image(store, group)
    notes = found.notes + _unreadable(found.members, read)
    levels = [replace(level, notes=notes) for level in levels]
    return source_of(tuple(levels), store, group, main=None, what=found.what)


def _members(store: ObjectStore, group: Node, kinds: Mapping[str, Any]) -> _Members | None:
    if "plate" in kinds:
        return _Members("plate", _of_plate(store, group, kinds["plate"]))
    if "bioformats2raw.layout" in kinds:
        return _of_bioformats2raw(store, group)
    if "well" in kinds:
        return _Members("well", [_Member(p, p) for p in _paths(kinds["well"], "images")])
    if "labels" in kinds:
        names = kinds["labels"] if isinstance(kinds["labels"], list) else []
        members = [_Member(n, n) for n in names if isinstance(n, str) and _is_inside(n)]
        return _Members("group of labels", members)
    return None


def _paths(kind: Any, key: str) -> list[str]:
    """The paths of the entries in a list of a plate or a well."""
    entries = kind.get(key) if isinstance(kind, Mapping) else None
    found = [e.get("path") for e in entries or () if isinstance(e, Mapping)]
    return [str(path) for path in found if isinstance(path, str | int) and _is_inside(str(path))]


def _is_inside(path: str) -> bool:
    return path.strip("/") == path != "" and ".." not in path.split("/")


def _of_plate(store: ObjectStore, group: Node, plate: Any) -> list[_Member]:
    wells = _paths(plate, "wells")
    fields = for_each(store, lambda well: _of_well(store, group, well), wells)
    return list(itertools.chain.from_iterable(fields))


def _of_well(store: ObjectStore, group: Node, path: str) -> list[_Member]:
    node = read_node(store.child(path), group_documents(group.zarr_format))
    images = [] if node is None else _paths(ome_attributes(node).get("well"), "images")
    # A well without a list is kept as one image, which then cannot be read and is named.
    return [_Member(f"{path}/{image}", f"{path}/{image}") for image in images or ["0"]]


def _of_bioformats2raw(store: ObjectStore, group: Node) -> _Members:
    names, notes = _names_in_xml(store)
    node = read_node(store.child("OME"), group_documents(group.zarr_format))
    series = None if node is None else ome_attributes(node).get("series")
    if isinstance(series, list):
        paths = [str(path) for path in series if _is_inside(str(path))]
    else:
        paths = [str(n) for n in range(len(names))] or list(_numbered(store, group))
    named = itertools.zip_longest(paths, names[: len(paths)])
    members = [_Member(path, name or path) for path, name in named]
    return _Members("bioformats2raw collection", members, notes)


def _numbered(store: ObjectStore, group: Node) -> Iterable[str]:
    """The groups 0, 1, 2 and so on, up to the first that is not there."""
    documents = group_documents(group.zarr_format)
    for start in itertools.count(0, _AT_ONCE):
        paths = [str(start + n) for n in range(_AT_ONCE)]
        there = for_each(store, lambda p: store.child(p).read(documents[0]) is not None, paths)
        if not all(there):
            yield from paths[: there.index(False)]
            return
        yield from paths


def _names_in_xml(store: ObjectStore) -> tuple[list[str | None], tuple[Note, ...]]:
    """The names of the images in the collection's OME-XML, in the order of the images."""
    document = store.read("OME/METADATA.ome.xml")
    if document is None:
        return [], ()
    from defusedxml.ElementTree import fromstring

    try:
        with as_format_error(f"{store.uri}/OME/METADATA.ome.xml"):
            root = fromstring(document)
    except SourceFormatError as error:
        return [], (Note("unknown", f"the names of the images: {error}"),)
    images = (each for each in root if each.tag.rpartition("}")[2] == "Image")
    return [image.get("Name") or None for image in images], ()


def _level(store: ObjectStore, group: Node, member: _Member) -> ImageLevel | str:
    """The finest level of an image, or why it cannot be read."""
    place = store.child(member.path)
    try:
        node = read_node(place, group_documents(group.zarr_format))
        if node is None or "multiscales" not in ome_attributes(node):
            return "there is no image"
        return replace(images_of(place, node)[0].level(0), name=member.name)
    except SourceFormatError as error:
        return str(error)


def _unreadable(members: Sequence[_Member], read: Sequence[ImageLevel | str]) -> tuple[Note, ...]:
    lost = [(m.path, r) for m, r in zip(members, read, strict=True) if isinstance(r, str)]
    if not lost:
        return ()
    paths = ", ".join(path for path, _ in lost[:_SHOWN]) + (", …" if lost[_SHOWN:] else "")
    text = f"{len(lost)} images that the group names and that cannot be read: {paths}"
    return (Note("left out", f"{text}; of the first: {lost[0][1]}"),)
