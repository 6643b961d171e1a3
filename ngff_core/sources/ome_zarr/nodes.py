"""Metadata documents of zarr arrays and groups, format 2 and 3, and readers of arrays."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from zarr.abc.store import Store as ZarrStore

from ngff_core.errors import SourceFormatError, UnlistableError
from ngff_core.geometry import Shape, grid_shape
from ngff_core.model.axes import AXIS_ORDER, spatial_dims
from ngff_core.sources.base import Reader, as_format_error, check_array, whole_unit
from ngff_core.sources.chunk_files import ChunkFiles
from ngff_core.sources.contract import UNNAMED, ChunkCount, Note, Pins
from ngff_core.sources.ome_zarr.bounded_codecs import with_bounds
from ngff_core.storage import PARTIAL, LocalFiles, ObjectInfo, ObjectStore, fused_pipeline
from ngff_core.storage.zarr_backed import ZarrBacked
from ngff_core.storage.zarr_compat import memory_store


@dataclass(frozen=True)
class Node:
    """The metadata documents of one zarr node."""

    zarr_format: Literal[2, 3]
    is_array: bool
    attributes: Mapping[str, Any]
    documents: tuple[bytes, ...]
    """The stored bytes, which are part of the source's identity."""


_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup")


def array_documents(zarr_format: int) -> tuple[str, ...]:
    """Names of the document that makes a folder an array of this format."""
    return ("zarr.json",) if zarr_format == 3 else (".zarray",)


def group_documents(zarr_format: int) -> tuple[str, ...]:
    """Names of the document that makes a folder a group of this format."""
    return ("zarr.json",) if zarr_format == 3 else (".zgroup",)


def read_node(store: ObjectStore, documents: Sequence[str] = _DOCUMENTS) -> Node | None:
    """The node at the prefix of ``store``; None if none of ``documents`` is stored there.

    Raises `SourceFormatError` for documents that are not JSON, or not zarr metadata.
    """
    for name in documents:
        found = store.read(name)
        if found is not None and name == "zarr.json":
            return _node_v3(found, store.uri)
        if found is not None:
            return _node_v2(found, store.read(".zattrs"), name == ".zarray", store.uri)
    return None


def documented_array(node: Node, uri: str) -> tuple[Shape, np.dtype[Any]]:
    """Shape and dtype of an array by its documents alone."""
    names = ("zarr.json",) if node.zarr_format == 3 else (".zarray", ".zattrs")
    documents = {name: d for name, d in zip(names, node.documents, strict=True) if d}
    with as_format_error(f"{uri}: cannot be opened as a zarr array"):
        array = zarr.open_array(memory_store(documents), mode="r", zarr_format=node.zarr_format)
        dtype = np.dtype(array.dtype)
    check_array(array.shape, dtype, uri)
    return tuple(array.shape), dtype


def open_reader(store: ObjectStore, node: Node) -> tuple[Reader, zarr.Array[Any]]:
    """The array at the prefix of ``store``, opened and checked; no chunk is read."""
    with as_format_error(f"{store.uri}: cannot be opened as a zarr array"):
        array = open_fused(store.zarr(), node.zarr_format)
        dtype = np.dtype(array.dtype)
    check_array(array.shape, dtype, store.uri)
    files = ChunkFiles.of(array, store.root) if isinstance(store, LocalFiles) else None
    with as_format_error(f"{store.uri}: cannot be opened as a zarr array"), fused_pipeline():
        array = with_bounds(array)
    return Reader(array, store.uri, tuple(array.shape), dtype, files), array


def open_fused(store: ZarrStore, zarr_format: Literal[2, 3]) -> zarr.Array[Any]:
    """A zarr array that uses zarr's fused pipeline; arrays opened otherwise are not affected."""
    # zarr's configuration is global to the process, so `fused_pipeline` takes a lock: two
    # threads that set and restore it in turn would leave the wrong value behind.
    with fused_pipeline():
        return zarr.open_array(store=store, mode="r", zarr_format=zarr_format)


def array_unit(array: zarr.Array[Any]) -> Shape:
    """Shape of the unit that is decoded at once: a chunk, the inner chunk of a sharded array.

    A chunk may be larger than the array, and is decoded as a whole all the same.
    """
    try:
        chunks: Sequence[int] = array.chunks
    except NotImplementedError:  # a grid of unequal chunks
        chunks = [max(sizes) for sizes in array.read_chunk_sizes]
    return whole_unit(chunks)


def named_dims(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """The axes of `array_axes`; None if they are not t, c, z, y, x, or some of these."""
    axes = array_axes(array)
    return axes if known_dims(axes) else None


def array_axes(array: zarr.Array[Any]) -> tuple[str, ...]:
    """Axis names from zarr v3's ``dimension_names`` or xarray's attribute, in lower case.

    `UNNAMED` for axes without a name, and for all where the names do not fit the array.
    """
    candidates = (
        getattr(array.metadata, "dimension_names", None),
        array.attrs.get("_ARRAY_DIMENSIONS"),
    )
    for names in candidates:
        if isinstance(names, list | tuple) and len(names) == array.ndim:
            return tuple(_axis_name(name) for name in names)
    return (UNNAMED,) * array.ndim


def _axis_name(name: object) -> str:
    text = name.strip().lower() if isinstance(name, str) else ""
    return text or UNNAMED


def known_dims(dims: Sequence[str]) -> bool:
    """Whether ``dims`` are names out of t, c, z, y, x, each once, at least one spatial."""
    return (
        all(d in AXIS_ORDER for d in dims)
        and len(set(dims)) == len(dims)
        and bool(spatial_dims(dims))
    )


def listed(array_store: ObjectStore) -> Mapping[str, ObjectInfo] | None:
    """Every object below an array, by key; None if the store cannot be listed."""
    try:
        if isinstance(array_store, ZarrBacked):
            return array_store.identities()
        return array_store.objects()
    except UnlistableError:
        return None


def notes_of_store(store: ObjectStore) -> tuple[Note, ...]:
    """That nobody can notice a change of the source while it is read, where that is so."""
    if not isinstance(store, ZarrBacked) or store.has_versions:
        return ()
    text = f"whether the source changes while it is read: {store.uri} does not say when it does"
    return (Note("unknown", text),)


def count_chunks(
    array: zarr.Array[Any], objects: Mapping[str, ObjectInfo] | None
) -> ChunkCount | None:
    """The number of an array's chunks, or shards, and of those absent from its listing.

    None without a listing, or where keys or chunk shapes are not of a known kind.
    """
    metadata = array.metadata
    encoding = getattr(metadata, "chunk_key_encoding", None)
    prefix = ""
    if encoding is None:
        separator = getattr(metadata, "dimension_separator", ".")
    elif getattr(encoding, "name", "") in ("default", "v2"):
        separator = encoding.separator
        prefix = f"c{separator}" if encoding.name == "default" else ""
    else:
        return None
    try:
        grid = grid_shape(array.shape, array.shards or array.chunks)
    except NotImplementedError:  # a grid of unequal chunks
        return None
    if objects is None:
        return None
    present = sum(
        key.startswith(prefix) and _is_position(key.removeprefix(prefix).split(separator), grid)
        for key in objects
    )
    total = math.prod(grid)
    return ChunkCount(total, total - present)


def _is_position(parts: Sequence[str], grid: Shape) -> bool:
    return len(parts) == len(grid) and all(
        part.isascii() and part.isdecimal() and str(int(part)) == part and int(part) < n
        for part, n in zip(parts, grid, strict=True)
    )


def stored_pins(objects: Mapping[str, ObjectInfo] | None, documents: Sequence[bytes]) -> Pins:
    """Digests of the metadata, and of the listing of all objects below the array.

    If the store cannot be listed (``objects`` None) only the metadata count, and a change of
    samples alone is not noticed.
    """
    if objects is None:
        return (("listing", "none"), ("metadata", digest_of(documents)))
    listing = hashlib.sha256()
    for key, info in sorted(objects.items()):
        if not key.endswith(PARTIAL):
            listing.update(f"{key}\0{info.size}\0{info.version}\n".encode())
    return (("listing", listing.hexdigest()), ("metadata", digest_of(documents)))


def _node_v3(document: bytes, uri: str) -> Node:
    content = _json_object(document, f"{uri}/zarr.json")
    kind = content.get("node_type")
    if kind not in ("array", "group"):
        raise SourceFormatError(f"{uri}/zarr.json: node_type {kind!r} is neither array nor group")
    attributes = content.get("attributes") or {}
    return Node(3, kind == "array", _mapping(attributes, uri), (document,))


def _node_v2(document: bytes, attributes: bytes | None, is_array: bool, uri: str) -> Node:
    _json_object(document, f"{uri}/{'.zarray' if is_array else '.zgroup'}")
    content = {} if attributes is None else _json_object(attributes, f"{uri}/.zattrs")
    return Node(2, is_array, content, (document, attributes or b""))


def _json_object(document: bytes, what: str) -> Mapping[str, Any]:
    with as_format_error(f"{what}: not readable as JSON"):
        content = json.loads(document)
    return _mapping(content, what)


def _mapping(content: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise SourceFormatError(f"{what}: expected a JSON object, not {type(content).__name__}")
    return content


def digest_of(documents: Sequence[bytes]) -> str:
    """SHA-256 of some documents, each with its length before it."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(len(document).to_bytes(8, "little"))
        digest.update(document)
    return digest.hexdigest()
