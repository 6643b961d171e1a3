"""Zarr arrays of format 2 and 3, by themselves or inside the group of an OME-Zarr image."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import zarr

from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.ome_zarr.nodes import (
    Node,
    array_axes,
    array_unit,
    count_chunks,
    digest_of,
    listed,
    notes_of_store,
    open_reader,
    stored_pins,
)
from ngff_core.storage import ObjectStore, both
from ngff_core.storage.foreign import behind_zarr
from ngff_core.storage.zarr_compat import objects_of_store, read_object


def open_zarr(store: ObjectStore, node: Node) -> SourceImages:
    """The zarr array, or the OME-Zarr images, at ``store``; ``node`` is its metadata.

    An array that an image above it names as a level has the meaning that the image gives it.
    """
    from ngff_core.sources.ome_zarr.images import open_level, open_ome_zarr
    from ngff_core.sources.ome_zarr.metadata import ome_attributes

    if node.is_array:
        return open_level(store, node) or _open_plain(store, node)
    if "multiscales" in ome_attributes(node):
        return open_ome_zarr(store, node)
    from ngff_core.sources.ome_zarr.collections import open_collection

    return open_collection(store, node)


def zarr_array_identity(array: zarr.Array[Any], name: str) -> SourceIdentity:
    """The identity of an array that the caller opened, from where and what is stored."""
    documents = [json.dumps(array.metadata.to_dict(), default=str, sort_keys=True).encode()]
    store = array.store_path.store
    ours = behind_zarr(store, array.path)
    if ours is not None:
        return SourceIdentity(ours.uri, stored_pins(listed(ours), documents))
    if isinstance(store, zarr.storage.MemoryStore):
        where = ("listing", _memory_listing(store, array.path))
    else:
        # Listing an unknown kind of store may read all of it, so its name is used.
        where = ("store", str(array.store_path))
    pins = sorted((where, ("metadata", digest_of(documents))))
    return SourceIdentity(f"array:{name}", tuple(pins))


def _open_plain(store: ObjectStore, node: Node) -> SourceImages:
    (reader, array), objects = both(
        store, partial(open_reader, store, node), partial(listed, store)
    )
    axes = array_axes(array)
    image = ImageDescription(
        name=None,
        axes=axes,
        shape=reader.shape,
        dtype=reader.dtype.str,
        origins={"axes": "dimension_names"} if set(axes) != {UNNAMED} else {},
        notes=notes_of_store(store),
    )
    return SourceImages(
        identity=SourceIdentity(store.uri, stored_pins(objects, node.documents)),
        kind="zarr",
        format=f"a zarr v{node.zarr_format} array",
        images=(image,),
        open_image=lambda _: Samples(reader, array_unit(array), count_chunks(array, objects)),
    )


def _memory_listing(store: zarr.storage.MemoryStore, path: str) -> str:
    """Digest of the content of every object below ``path`` of a store in memory."""
    contents = ((key, read_object(store, key) or b"") for key in objects_of_store(store, path))
    lines = (f"{key}\0{hashlib.sha256(content).hexdigest()}\n" for key, content in contents)
    return digest_of([line.encode() for line in sorted(lines)])
