"""Inputs of the lazy API, opened as images whose arrays are lazy or can be made lazy."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import tokenize

from ngff_core.config import config
from ngff_core.geometry import Shape
from ngff_core.lazy.dask_levels import stored_array
from ngff_core.model.axes import canonical_order
from ngff_core.model.image import NgffImage
from ngff_core.sources import Source, open_source
from ngff_core.sources.base import sensible_name
from ngff_core.sources.contract import UNNAMED
from ngff_core.sources.ome_zarr.nodes import known_dims, named_dims, open_reader, read_node
from ngff_core.storage import ObjectStore, open_store
from ngff_core.storage.foreign import foreign_store, is_foreign

_CUT_BYTES = 8 * 2**20
_CUT_SHARE = 8


@dataclass(frozen=True)
class Opened:
    """An image, the chunk size of its source, its axes as the caller sees them, and its token."""

    image: NgffImage
    source_chunks: Shape
    caller_dims: tuple[str, ...]
    token: str


def open_input(data: Any) -> Opened:
    """Any input as an image with a dask array whose axes are in t, c, z, y, x order."""
    found = as_stored(data)
    order = canonical_order(found.image.dims)
    ordered = replace(
        found.image,
        data=as_dask(found).transpose(order),
        dims=tuple(found.image.dims[i] for i in order),
    )
    chunks = tuple(found.source_chunks[i] for i in order)
    return replace(found, image=ordered, source_chunks=chunks)


def as_stored(data: Any) -> Opened:
    """Any input as an image with its axes in the caller's order."""
    if isinstance(data, str | os.PathLike) or is_foreign(data):
        return _from_store(open_store(data) if not is_foreign(data) else foreign_store(data), data)
    if not isinstance(data, NgffImage) and not hasattr(data, "shape"):
        data = np.asarray(data)
    if isinstance(data, NgffImage):
        image = replace(data)
    else:
        dims = named_dims(data) if isinstance(data, zarr.Array) else None
        image = NgffImage(data, dims or ())
    source = open_source(image)
    dask_array = isinstance(image.data, da.Array)
    unit = even_chunks(image.data) if dask_array else _in_order_of(image.dims, source)
    return _opened(image, unit, source)


def _from_store(store: ObjectStore, data: Any) -> Opened:
    node = read_node(store)
    source = open_source(data)
    described = source.about.described
    # The name becomes part of the levels' paths, unless the caller gives another one.
    name = sensible_name(None if described is None else described.name)
    image = replace(source.image, name=name)
    if node is not None and node.is_array and described is not None:
        # The axes as stored: the caller may give chunks by position.
        reader, _ = open_reader(store, node)
        if known_dims(described.axes):
            image = replace(image, data=reader, dims=described.axes)
        elif set(described.axes) == {UNNAMED}:
            image = NgffImage(reader)
    return _opened(image, _in_order_of(image.dims, source), source)


def _opened(image: NgffImage, unit: Shape, source: Source) -> Opened:
    token = tokenize(source.identity.uri, source.identity.pins, tuple(image.dims))
    return Opened(image, unit, tuple(image.dims), token)


def _in_order_of(dims: Sequence[str], source: Source) -> Shape:
    unit = dict(zip(source.image.dims, source.read_unit, strict=True))
    return tuple(unit[d] for d in dims)


def even_chunks(array: Any) -> Shape:
    """The chunk size along axes whose chunks but for the last are equal; 1 along other axes."""
    return tuple(
        int(sizes[0]) if len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0] else 1
        for sizes in array.chunks
    )


def as_dask(found: Opened) -> Any:
    """The dask array of an opened image; a dask array of the caller's is returned as it is."""
    array = found.image.data
    if isinstance(array, da.Array):
        return array
    return stored_array(array, _source_cut(found), found.token)


def _source_cut(found: Opened) -> Shape:
    """Blocks of complete units of the source, of some MiB: a task for each small tile is too many.

    They are smaller where ``config.memory_target`` is small, because dask computes only complete
    blocks.
    """
    most = min(_CUT_BYTES, config.memory_target // _CUT_SHARE)
    shape = tuple(int(n) for n in found.image.data.shape)
    cut = [min(u, n) for u, n in zip(found.source_chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        room = most // (math.prod(cut) * found.image.data.dtype.itemsize)
        cut[axis] = min(shape[axis], cut[axis] * max(1, room))
    return tuple(cut)
