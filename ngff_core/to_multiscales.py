"""Pyramids as lazy dask arrays, for notebooks and for writing with ``to_ngff_zarr``.

Every block of a level is computed by the method's kernel from the window of the parent
that geometry says it needs. So the samples are those of ``build_pyramid`` to the byte,
whatever the chunks.
"""

from __future__ import annotations

import atexit
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import zarr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from zarr.core.buffer import Buffer
from zarr.errors import ChunkNotFoundError

from ngff_core.axes import canonical_order, check_dims, spatial_dims
from ngff_core.config import config
from ngff_core.errors import InvalidOptionError
from ngff_core.foreign_store import foreign_store, is_foreign
from ngff_core.geometry import (
    Region,
    Shape,
    blocks,
    ceil_div,
    level_scale,
    level_shape,
    level_translation,
    window_of,
)
from ngff_core.image import ArrayLike, Block, NgffImage, spatial_shape
from ngff_core.kernels.contract import Kernel
from ngff_core.layout import default_chunks, level_chunks, resolve_sizes
from ngff_core.memory import release_memory
from ngff_core.methods import DEFAULT_METHOD, Methods, check_dtype, kernel_for, parse_method
from ngff_core.multiscales import NgffMultiscales, metadata_of
from ngff_core.orientation import AnatomicalOrientation, resolve_orientation
from ngff_core.plan import ALGORITHM, is_sound_name
from ngff_core.progress import NgffProgress, NgffProgressCallback
from ngff_core.scale_factors import factors_from_min_length, parent_of, resolve_factors
from ngff_core.sources import Source, open_source
from ngff_core.sources.zarr_store import named_dims, open_reader, read_node
from ngff_core.store import Store, fused_pipeline, open_store

Chunks = (
    int
    | tuple[int, ...]
    | tuple[tuple[int, ...], ...]
    | Mapping[Any, int | tuple[int, ...] | None]
    | None
)
Progress = NgffProgress | NgffProgressCallback | None


# ------------------------------------------------------------------ the API


def to_multiscales(
    data: Any,
    scale_factors: int | Sequence[dict[str, int] | int] = 128,
    method: Methods | None = None,
    chunks: Chunks = None,
    progress: Progress = None,
    cache: bool | None = None,
    orientation: str | Mapping[str, AnatomicalOrientation] | None = None,
) -> NgffMultiscales:
    """The pyramid of an image, its levels as lazy dask arrays; nothing is computed yet.

    ``data`` is an NgffImage, an array of one to five dimensions (numpy, dask, zarr, or
    nested lists), or a path, URI, zarr store or mapping of bytes with a zarr array or an
    OME-Zarr image. Axes come out in t, c, z, y, x order. ``scale_factors`` are relative
    to the full image: a list with one int or one mapping of spatial axes per level, or an
    int, down to which many samples levels are halved. ``method`` is ITKWASM_GAUSSIAN by
    default. ``chunks`` are the samples of a chunk: an int for the spatial axes, sizes by
    position, or a mapping of axes. ``cache`` copies the image to ``config.cache_store``
    first; None does so for what exceeds ``config.memory_target`` or
    ``config.task_target``. ``orientation`` is LPS, RAS, or a mapping of spatial axes, and
    replaces what the image carries.

    The levels have the image's dtype, in the machine's byte order. Raises a ValueError
    that names the option it cannot use, and UnsupportedDtypeError, a TypeError, for
    samples that the method cannot reduce rightly.
    """
    method = parse_method(DEFAULT_METHOD if method is None else method)
    opened = _open(data)
    image = opened.image
    if not is_sound_name(image.name):
        raise InvalidOptionError(f"name: {image.name!r} cannot be part of a path")
    sizes = _chunk_sizes(opened, chunks)
    factors = resolve_factors(
        scale_factors, spatial_shape(image), {d: sizes[d] for d in spatial_dims(image.dims)}
    )
    if factors:
        check_dtype(method, image.data.dtype)
    if orientation is not None:
        image = replace(image, axes_orientations=resolve_orientation(orientation, image.dims))
    if _wants_cache(image.data, cache):
        image = _large_image_serialization(image, progress)
    images = _levels(image, factors, method, tuple(sizes[d] for d in image.dims), progress)
    return NgffMultiscales(
        images=images,
        metadata=metadata_of(images, method),
        scale_factors=list(factors),
        method=method,
        chunks=sizes,
    )


def to_ngff_image(
    data: Any,
    dims: Sequence[str] | None = None,
    scale: Mapping[str, float] | None = None,
    translation: Mapping[str, float] | None = None,
    name: str = "image",
    axes_units: Mapping[str, str] | None = None,
    axes_orientations: Mapping[str, AnatomicalOrientation] | None = None,
) -> NgffImage:
    """An image with a dask array, its axes as the caller names them; nothing is computed.

    ``data`` is an array, or a path, URI, zarr store or mapping of bytes with a zarr array
    or an OME-Zarr image; what such an image says counts where an argument is left out.
    ``scale`` and ``translation`` are per axis, 1 and 0 by default.
    """
    found = _as_stored(data)
    return NgffImage(
        data=_as_dask(found),
        dims=check_dims(dims or found.image.dims, len(found.image.data.shape)),
        scale=found.image.scale if scale is None else scale,
        translation=found.image.translation if translation is None else translation,
        name=found.image.name if name == "image" else name,
        axes_units=found.image.axes_units if axes_units is None else axes_units,
        axes_orientations=axes_orientations or found.image.axes_orientations,
    )


def _ngff_image_scale_factors(
    ngff_image: NgffImage, min_length: int, out_chunks: Mapping[str, Any]
) -> list[dict[str, int]]:
    """Absolute factors per spatial axis, one mapping per level above 0.

    ``out_chunks`` has the chunk of each spatial axis: no level is made shorter.
    """
    sizes = spatial_shape(ngff_image)
    chunks = resolve_sizes("chunks", dict(out_chunks), ngff_image.dims, dict(sizes))
    within = {d: min(chunks[d], n) for d, n in sizes.items()}
    return list(factors_from_min_length(sizes, within, min_length))


# ------------------------------------------------------------------ what came in


@dataclass(frozen=True)
class _Opened:
    """An image whose array is lazy, and the cut that its source has."""

    image: NgffImage
    source_chunks: Shape
    caller_dims: tuple[str, ...]
    token: str
    uri: str


_read_from: dict[str, str] = {}
"""Where the arrays at the root of lazy images are stored, by the name of their layer."""


def _open(data: Any) -> _Opened:
    """Any input as an image with a dask array whose axes are in t, c, z, y, x order."""
    found = _as_stored(data)
    order = canonical_order(found.image.dims)
    ordered = replace(
        found.image,
        data=_as_dask(found).transpose(order),
        dims=tuple(found.image.dims[i] for i in order),
    )
    chunks = tuple(found.source_chunks[i] for i in order)
    return replace(found, image=ordered, source_chunks=chunks)


def _as_stored(data: Any) -> _Opened:
    """Any input as an image with its axes in the order that the caller sees."""
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
    unit = _even_chunks(image.data) if dask_array else _in_order_of(image.dims, source)
    return _opened(image, unit, source)


def _from_store(store: Store, data: Any) -> _Opened:
    node = read_node(store)
    source = open_source(data)
    image = source.image
    if node is not None and node.is_array:
        # The axes as stored: what the caller may name by position.
        reader, array = open_reader(store, node)
        image = NgffImage(reader, named_dims(array) or ())
    return _opened(image, _in_order_of(image.dims, source), source)


def _opened(image: NgffImage, unit: Shape, source: Source) -> _Opened:
    token = tokenize(source.identity.uri, source.identity.pins, tuple(image.dims))
    return _Opened(image, unit, tuple(image.dims), token, source.identity.uri)


def _in_order_of(dims: Sequence[str], source: Source) -> Shape:
    unit = dict(zip(source.image.dims, source.read_unit, strict=True))
    return tuple(unit[d] for d in dims)


def _even_chunks(array: Any) -> Shape:
    """The chunk per axis where all but the last are equal, elsewhere 1."""
    return tuple(
        int(sizes[0]) if len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0] else 1
        for sizes in array.chunks
    )


def _as_dask(found: _Opened) -> Any:
    array = found.image.data
    if isinstance(array, da.Array):
        return array
    return stored_array(array, _source_cut(found), found.token, found.uri)


def stored_array(array: ArrayLike, chunks: Shape, token: str, uri: str) -> Any:
    """A lazy array of what is stored at ``uri``, which `sources_of` tells from it."""
    name = f"ngff-source-{token}"
    _read_from[f"original-{name}"] = uri
    return lazy_array(array, chunks, name)


def _source_cut(found: _Opened) -> Shape:
    """Whole units of the source, of some MiB each: a task per small tile is too many."""
    shape = tuple(int(n) for n in found.image.data.shape)
    cut = [min(u, n) for u, n in zip(found.source_chunks, shape, strict=True)]
    for axis in reversed(range(len(shape))):
        room = _CUT_BYTES // (math.prod(cut) * found.image.data.dtype.itemsize)
        cut[axis] = min(shape[axis], cut[axis] * max(1, room))
    return tuple(cut)


_CUT_BYTES = 8 * 2**20


def lazy_array(array: ArrayLike, chunks: Shape, name: str) -> Any:
    """A dask array that reads any array block by block, when it is computed."""
    native = np.dtype(array.dtype).newbyteorder("=")
    made = da.from_array(  # type: ignore[no-untyped-call]
        array,
        chunks=chunks,
        name=name,
        lock=False,
        fancy=False,
        meta=np.empty((0,) * len(array.shape), array.dtype),
    )
    return made.astype(native)


def layers_of(array: Any) -> Iterator[str]:
    """Names of the layers in the graph of a lazy array; none for another array."""
    if isinstance(array, da.Array):
        graph: Any = array.__dask_graph__()
        yield from graph.layers


def sources_of(array: Any) -> Iterator[str]:
    """Paths and URIs that a lazy array reads from, as far as they were opened here."""
    yield from (_read_from[layer] for layer in layers_of(array) if layer in _read_from)


# ------------------------------------------------------------------ chunks and levels


def _chunk_sizes(opened: _Opened, chunks: Chunks) -> dict[str, int]:
    """Samples per chunk of the levels, by axis in t, c, z, y, x order."""
    image = opened.image
    shape = tuple(image.data.shape)
    default = default_chunks(image.dims, shape, opened.source_chunks)
    sizes = resolve_sizes("chunks", chunks, opened.caller_dims, default)
    return {d: min(sizes[d], n) for d, n in zip(image.dims, shape, strict=True)}


def _levels(
    image: NgffImage,
    factors: Sequence[Mapping[str, int]],
    method: Methods,
    chunks: Shape,
    progress: Progress,
) -> list[NgffImage]:
    dims = tuple(image.dims)
    absolute = [tuple(f.get(d, 1) for d in dims) for f in ({}, *factors)]
    if progress is not None:
        progress.add_multiscales_task("Preparing the levels", len(absolute))
    images: list[NgffImage] = []
    for index, factor in enumerate(absolute):
        if index == 0:
            data = image.data.rechunk(chunks).astype(image.data.dtype.newbyteorder("="))  # type: ignore[attr-defined]
        else:
            parent = parent_of(absolute, index)
            step = tuple(f // p for f, p in zip(factor, absolute[parent], strict=True))
            data = derived_level(images[parent].data, step, method, chunks)
        images.append(_level_image(image, data, factor))
        if progress is not None:
            progress.update_multiscales_task_completed(index + 1)
    return images


def _level_image(base: NgffImage, data: Any, factor: Shape) -> NgffImage:
    scale = tuple(base.scale[d] for d in base.dims)
    translation = tuple(base.translation[d] for d in base.dims)
    moved = level_translation(scale, translation, factor)
    return replace(
        base,
        data=data,
        scale=dict(zip(base.dims, level_scale(scale, factor), strict=True)),
        translation=dict(zip(base.dims, moved, strict=True)),
    )


def derived_name(parent: Any, step: Shape, method: Methods, chunks: Shape) -> str:
    """The name of the array that `derived_level` makes: the same name, the same samples."""
    return f"ngff-{method}-{tokenize(parent.name, step, str(method), chunks, ALGORITHM)}"


def derived_level(parent: Any, step: Shape, method: Methods, chunks: Shape) -> Any:
    """The level ``step`` above a dask array, in blocks of at most ``chunks``.

    One task per block, which gets the parent's blocks as they are and takes its window
    from them: slicing tasks between would double the graph and copy every halo.
    """
    kernel = kernel_for(method)
    shape = level_shape(parent.shape, step)
    own = level_chunks(chunks, shape)
    name = derived_name(parent, step, method, own)
    halo = kernel.halo(step)
    edges = [np.cumsum((0, *sizes)).tolist() for sizes in parent.chunks]
    layer: dict[Any, Any] = {}
    for region in blocks(Region((0,) * len(shape), shape), own):
        window = window_of(region, step, halo, parent.shape)
        ends = zip(edges, window.box.start, window.box.stop, strict=True)
        spans = [_span(e, a, b) for e, a, b in ends]
        keys = [(parent.name, *position) for position in product(*spans)]
        origin = tuple(e[span.start] for e, span in zip(edges, spans, strict=True))
        grid = tuple(len(span) for span in spans)
        task = _Reduction(kernel, region.shape, window.box, window.lead, step, origin, grid)
        position = tuple(a // c for a, c in zip(region.start, own, strict=True))
        layer[(name, *position)] = (task, keys)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[parent])
    cut = tuple(
        (c,) * (n // c) + ((n % c,) if n % c else ()) for n, c in zip(shape, own, strict=True)
    )
    return da.Array(graph, name, chunks=cut, dtype=parent.dtype)  # type: ignore[no-untyped-call]


def _span(edges: Sequence[int], start: int, stop: int) -> range:
    """The blocks, by number, that hold ``[start, stop)``."""
    first = int(np.searchsorted(edges, start, side="right")) - 1
    return range(first, int(np.searchsorted(edges, stop, side="left")))


@dataclass(frozen=True)
class _Reduction:
    """Computes one block from the parent's blocks around it, in C order of ``grid``.

    ``origin`` is where the first of them begins in the parent.
    """

    kernel: Kernel
    shape: Shape
    box: Region
    lead: Shape
    step: Shape
    origin: Shape
    grid: Shape

    def __call__(self, parts: Sequence[Block]) -> Block:
        window = _cut_out(parts, self.grid, self.origin, self.box)
        return self.kernel.reduce(window, self.lead, self.step, self.shape)


def _cut_out(parts: Sequence[Block], grid: Shape, origin: Shape, box: Region) -> Block:
    """The samples of ``box`` from adjoining blocks; a view where one block holds it."""
    if len(parts) == 1:
        return parts[0][_shifted(box, origin)]
    window: Block = np.empty(box.shape, parts[0].dtype)
    starts = [_starts(parts, grid, axis, origin[axis]) for axis in range(len(grid))]
    for position, part in zip(np.ndindex(grid), parts, strict=True):
        at = tuple(starts[axis][i] for axis, i in enumerate(position))
        end = tuple(a + n for a, n in zip(at, part.shape, strict=True))
        common = Region(
            tuple(max(a, b) for a, b in zip(at, box.start, strict=True)),
            tuple(min(a, b) for a, b in zip(end, box.stop, strict=True)),
        )
        window[_shifted(common, box.start)] = part[_shifted(common, at)]
    return window


def _starts(parts: Sequence[Block], grid: Shape, axis: int, origin: int) -> list[int]:
    """Where each row of blocks along ``axis`` begins."""
    stride = math.prod(grid[axis + 1 :])
    starts = [origin]
    for i in range(grid[axis] - 1):
        starts.append(starts[-1] + parts[i * stride].shape[axis])
    return starts


def _shifted(box: Region, origin: Shape) -> tuple[slice, ...]:
    return tuple(slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, origin, strict=True))


# ------------------------------------------------------------------ the cache


_TARGET_CHUNK = {True: 512, False: 1024}
"""Samples per spatial axis of a cache chunk, with z and without."""
_SMALLEST_CHUNK = 16
_ENCODE = 3.0
"""Bytes that encoding takes beside the piece, per byte of it."""
_STALE_SECONDS = 7 * 24 * 3600.0
_PREFIX = "ngff-flows-cache"


def _wants_cache(array: Any, cache: bool | None) -> bool:
    if cache is not None:
        return bool(cache)
    return array.nbytes > config.memory_target or _tasks(array) > config.task_target


def _tasks(array: Any) -> int:
    graph: Any = array.__dask_graph__()
    return sum(len(layer) for layer in graph.layers.values())


def _find_optimal_chunk_size(first_chunk: int, dim_size: int, min_divisor: int = 16) -> int:
    """The divisor of ``dim_size`` nearest to ``first_chunk``.

    Of two as near it is the multiple of ``min_divisor``, else the larger. ``dim_size``
    itself where that is at most ``min_divisor``.

    >>> _find_optimal_chunk_size(512, 1000), _find_optimal_chunk_size(512, 1021)
    (500, 1021)
    """
    if dim_size <= min_divisor:
        return dim_size
    low = [d for d in range(1, math.isqrt(dim_size) + 1) if dim_size % d == 0]
    divisors = {*low, *(dim_size // d for d in low)}
    return min(divisors, key=lambda d: (abs(d - first_chunk), d % min_divisor != 0, -d))


def _large_image_serialization(image: NgffImage, progress: Progress) -> NgffImage:
    """The same image with its samples copied to ``config.cache_store``, piece by piece.

    Axes may be in any order. Reading falls back on the caller's array where the copy is
    gone, so a cache that was removed costs time and no sample.
    """
    data = _as_dask(_as_stored(image))
    dims = tuple(image.dims)
    rechunks = _cache_chunks(dims, data)
    folder = _new_cache(config.cache_store)
    if "z" in dims:
        cached = _cache_z_slabs(data, dims, rechunks, config.cache_store, folder, progress)
    elif "y" in dims and "x" in dims:
        cached = _cache_2d_strips(data, dims, rechunks, config.cache_store, folder, progress)
    else:
        cached = _cache_1d_segments(data, dims, rechunks, config.cache_store, folder, progress)
    return replace(image, data=cached)


def _cache_z_slabs(
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    """Cache an image with z slab by slab; arguments as for `_cache_2d_strips`."""
    return _cache_along("z", data, dims, rechunks, cache_store, base_path, progress)


def _cache_2d_strips(
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    """Cache a 2-D image strip by strip along the larger of y and x.

    ``data`` is a dask array with axes ``dims`` (t and c among them, perhaps),
    ``rechunks`` the cache's chunk per axis, ``base_path`` where in ``cache_store`` the
    copy goes. Returns a dask array of the same samples that reads the copy.
    """
    sizes = dict(zip(dims, data.shape, strict=True))
    along = "y" if sizes["y"] >= sizes["x"] else "x"
    return _cache_along(along, data, dims, rechunks, cache_store, base_path, progress)


def _cache_1d_segments(
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    """Cache a 1-D image (t and c aside) segment by segment along its spatial axis.

    Arguments and result as for `_cache_2d_strips`.
    """
    (along,) = spatial_dims(dims)
    return _cache_along(along, data, dims, rechunks, cache_store, base_path, progress)


def _cache_along(
    along: str,
    data: Any,
    dims: Sequence[str],
    rechunks: Mapping[str, int],
    cache_store: Any,
    base_path: str,
    progress: Progress,
) -> Any:
    chunks = tuple(min(int(rechunks[d]), n) for d, n in zip(dims, data.shape, strict=True))
    piece = pieces_shape(data, dims, chunks, along, config.memory_target)
    store = _cache_store(cache_store).child(base_path)
    layer = _register(store, base_path)
    array = _create_cache(store, data, chunks)
    boxes = list(blocks(Region((0,) * data.ndim, tuple(data.shape)), piece))
    if progress is not None:
        progress.add_cache_task(f"Caching along {along}", len(boxes))
    for done, box in enumerate(boxes, start=1):
        if isinstance(progress, NgffProgressCallback):
            progress.add_callback_task(f"Caching piece {done} of {len(boxes)}")
        array[box.slices] = np.asarray(data[box.slices])
        release_memory()
        if progress is not None:
            progress.update_cache_task_completed(done)
    return lazy_array(CachedArray(_open_cache(store), data), chunks, layer)


def _cache_chunks(dims: Sequence[str], data: Any) -> dict[str, int]:
    """Samples per cache chunk: even divisions where there are good ones, t 1.

    A divisor far from the target is none (a prime size has only 1 and itself): then the
    target is used with a partial last chunk, which pieces of whole chunks write safely.
    """
    target = _TARGET_CHUNK["z" in dims]
    found = {}
    for d, n, own in zip(dims, data.shape, _even_chunks(data), strict=True):
        if d in spatial_dims(dims):
            wanted = min(target, n)
            even = _find_optimal_chunk_size(wanted, n)
            found[d] = even if wanted <= 2 * even <= 3 * wanted else wanted
        else:
            found[d] = min(own, n) if d == "c" else 1
    while _too_large(found, data.dtype.itemsize):
        longest = max(spatial_dims(dims), key=found.__getitem__)
        found[longest] = ceil_div(found[longest], 2)
    return found


def _too_large(chunks: Mapping[str, int], itemsize: int) -> bool:
    longest = max(chunks[d] for d in spatial_dims(tuple(chunks)))
    needed = math.prod(chunks.values()) * itemsize * (1 + _ENCODE)
    return needed > config.memory_target and longest > _SMALLEST_CHUNK


def pieces_shape(data: Any, dims: Sequence[str], unit: Shape, along: str, memory: float) -> Shape:
    """The largest piece of whole ``unit`` whose work fits ``memory`` bytes.

    A piece costs its own bytes, those of encoding it, and those of every block of the
    dask array that it touches, t and c included. Whole lines and planes come first, then
    c and t, and ``along`` last; at least one unit.
    """
    own = tuple(max(sizes) for sizes in data.chunks)
    inner = [d for d in ("x", "y", "z") if d in dims and d != along]
    order = [d for d in (*inner, "c", "t", along) if d in dims]
    piece = [min(u, n) for u, n in zip(unit, data.shape, strict=True)]
    for d in order:
        axis = list(dims).index(d)
        most = ceil_div(data.shape[axis], unit[axis])
        piece[axis] = _longest(piece, axis, unit[axis], most, data, own, memory)
    return tuple(piece)


def _longest(
    piece: list[int], axis: int, unit: int, most: int, data: Any, own: Shape, memory: float
) -> int:
    """The most units along ``axis`` that fit, by bisection."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        trial = [*piece[:axis], middle * unit, *piece[axis + 1 :]]
        fits = _piece_bytes(trial, data, own) <= memory
        low, high = (middle, high) if fits else (low, middle - 1)
    return min(low * unit, int(data.shape[axis]))


def _piece_bytes(piece: Sequence[int], data: Any, own: Shape) -> float:
    clipped = [min(p, n) for p, n in zip(piece, data.shape, strict=True)]
    # A piece that does not begin with a block of the array touches one more.
    touched = [
        min(n, ceil_div(p, c) * c + (c if p % c else 0))
        for p, c, n in zip(clipped, own, data.shape, strict=True)
    ]
    itemsize = int(data.dtype.itemsize)
    return float(itemsize * (math.prod(clipped) * (1 + _ENCODE) + math.prod(touched)))


# ------------------------------------------------------------------ where caches live


@dataclass(frozen=True, eq=False)
class CachedArray:
    """A copy in the cache, and the array that it was made from.

    Where a chunk of the copy is gone (removed after writing, or for its age) the samples
    come from the original.
    """

    copy: zarr.Array[Any]
    original: Any

    @property
    def shape(self) -> Shape:
        return tuple(self.original.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self.original.dtype)
        return found

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> Block:
        try:
            return np.asarray(self.copy[key])
        except (ChunkNotFoundError, FileNotFoundError):
            return np.asarray(self.original[key].compute(scheduler="synchronous"))


_live: dict[str, tuple[Store, int]] = {}
"""Caches of this process: store and process id by the layer of the array that reads it."""
_live_lock = threading.Lock()


def _cache_store(store: Any) -> Store:
    return foreign_store(store) if is_foreign(store) else open_store(store)


def _new_cache(store: Any) -> str:
    """A folder name that says when it was made, and by whom."""
    remove_stale_caches(store)
    host = socket.gethostname().replace("-", "_").replace("/", "_")
    return f"{_PREFIX}-{int(time.time())}-{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _create_cache(store: Store, data: Any, chunks: Shape) -> zarr.Array[Any]:
    from zarr.codecs import BloscCodec

    # Made elsewhere and copied: zarr would make a group of each folder above it, in a
    # store that is the user's.
    shelf: dict[str, Buffer] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(shelf),
        shape=data.shape,
        chunks=chunks,
        dtype=data.dtype.newbyteorder("<"),
        # Fast rather than small: it is read a few times and thrown away.
        compressors=[BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")],
        fill_value=0,
        zarr_format=3,
    )
    for key, document in shelf.items():
        store.write(key, document.to_bytes())
    with fused_pipeline():
        return zarr.open_array(
            store.zarr(read_only=False),
            mode="r+",
            zarr_format=3,
            # Every chunk is written, so one that is not there was removed.
            config={"write_empty_chunks": True},
        )


def _open_cache(store: Store) -> zarr.Array[Any]:
    with fused_pipeline():
        return zarr.open_array(
            store.zarr(), mode="r", zarr_format=3, config={"read_missing_chunks": False}
        )


def _register(store: Store, folder: str) -> str:
    """Remember a cache, to be removed at exit at the latest; the name of its array."""
    name = f"ngff-cache-{folder}"
    with _live_lock:
        _live[f"original-{name}"] = (store, os.getpid())
    return name


def release_caches(arrays: Sequence[Any]) -> None:
    """Remove the copies that lazy arrays read; they read their originals from now on."""
    for array in arrays:
        for layer in layers_of(array):
            _remove_cache(layer)


@atexit.register
def _remove_own_caches() -> None:
    for layer in list(_live):
        _remove_cache(layer)


def _remove_cache(layer: str) -> None:
    with _live_lock:
        found = _live.pop(layer, None)
    # A forked child inherits the register, and not the right to remove.
    if found is not None and found[1] == os.getpid():
        found[0].delete_tree()


def remove_stale_caches(store: Any) -> None:
    """Remove what killed processes left a week ago or earlier; called before caching."""
    place = _cache_store(store)
    for folder in _folders(place):
        parts = folder.removeprefix(f"{_PREFIX}-").split("-")
        if len(parts) == 4 and parts[0].isdecimal() and parts[2].isdecimal():
            old = time.time() - int(parts[0]) > _STALE_SECONDS
            if old and not _alive(parts[1], int(parts[2])):
                place.child(folder).delete_tree()


def _folders(place: Store) -> list[str]:
    from zarr.core.sync import sync

    async def listed() -> list[str]:
        return [name async for name in place.zarr().list_dir("")]

    try:
        found = sync(listed())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name.strip("/") for name in found if name.strip("/").startswith(f"{_PREFIX}-")]


def _alive(host: str, pid: int) -> bool:
    """Whether a process of this machine runs; one of another machine is not known to."""
    import psutil

    own = socket.gethostname().replace("-", "_").replace("/", "_")
    return host == own and bool(psutil.pid_exists(pid))
