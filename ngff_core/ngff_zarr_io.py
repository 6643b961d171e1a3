"""Writing an ``NgffMultiscales`` as OME-Zarr, and reading one back.

A level that ``to_multiscales`` derived is computed from the parent as it was stored, by
the kernels and regions of ``build_pyramid``. Any other array is written as it is.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from ngff_core.arrays import LevelEncoder, open_level, store_region
from ngff_core.axes import canonical_order, spatial_dims
from ngff_core.codecs import DEFAULT_COMPRESSOR, Compressor
from ngff_core.config import config
from ngff_core.engine import run_bounded
from ngff_core.errors import (
    InvalidOptionError,
    MemoryLimitError,
    SourceFormatError,
    SourceNotFoundError,
    TargetBusyError,
    TargetExistsError,
)
from ngff_core.foreign_store import foreign_store, is_foreign
from ngff_core.geometry import Shape
from ngff_core.image import ArrayLike, Block, NgffImage, in_canonical_order
from ngff_core.layout import (
    check_shards,
    default_chunks,
    grow_block,
    level_chunks,
    level_shards,
    resolve_sizes,
)
from ngff_core.lease import current_holder
from ngff_core.level import region_samples
from ngff_core.memory import release_memory
from ngff_core.metadata import AxisEntry, DatasetEntry, ImageEntry, image_documents
from ngff_core.methods import Methods, kernel_for
from ngff_core.multiscales import (
    Axis,
    Dataset,
    Metadata,
    NgffMultiscales,
    Scale,
    Translation,
    placement,
)
from ngff_core.options import resolve_workers
from ngff_core.orientation import of_axes
from ngff_core.plan import (
    ImageInfo,
    LevelPlan,
    OmeZarrVersion,
    PyramidPlan,
    SourcePin,
    check_image,
    check_version,
)
from ngff_core.progress import NgffProgress, NgffProgressCallback
from ngff_core.projection import project
from ngff_core.publish import create_arrays, unpublish
from ngff_core.scale_factors import parent_of
from ngff_core.sources.ome_zarr import read_image
from ngff_core.sources.zarr_store import read_node
from ngff_core.store import Bucket, LocalFiles, StorageOptions, Store, open_store, retrying
from ngff_core.to_multiscales import (
    derived_name,
    pieces_shape,
    release_caches,
    sources_of,
    stored_array,
)

Progress = NgffProgress | NgffProgressCallback | None

_PIECE_SHARE = 4
"""Pieces of an array that is computed take at most this part of ``config.memory_target``."""


# ------------------------------------------------------------------ the API


def to_ngff_zarr(
    store: Any,
    multiscales: NgffMultiscales,
    version: str = "0.5",
    overwrite: bool = True,
    use_tensorstore: bool = False,  # noqa: ARG001 - code written for ngff-zarr may give it
    chunk_store: Any = None,
    progress: Progress = None,
    chunks_per_shard: int | Sequence[int] | Mapping[str, int] | None = None,
    *,
    shards: Any = None,
    compressor: str = DEFAULT_COMPRESSOR,
    workers: int | None = None,
    storage_options: StorageOptions | None = None,
) -> None:
    """Write a pyramid as OME-Zarr ``version`` (0.4, 0.5 or 0.6), its group document last.

    ``store`` is a path, a URI, a zarr store, or a mapping from key to bytes; what it
    holds is removed first, or refused with ``overwrite=False``. ``chunks_per_shard``
    counts chunks along each axis of a shard, ``shards`` its samples; without either there
    are no shards. ``use_tensorstore`` changes nothing. What metadata says of axes, paths
    and transformations is written; axes are brought into t, c, z, y, x order.

    Raises a ValueError for options or metadata that cannot be written, before anything
    is removed, and FileExistsError for a target that must not be touched.
    """
    if chunk_store is not None:
        raise InvalidOptionError("chunk_store: chunks and metadata go to one store")
    target = _open_target(store, storage_options)
    pyramid = _pyramid(multiscales, check_version(version), chunks_per_shard, shards, compressor)
    documents = _documents(pyramid)
    in_flight = _in_flight(pyramid.plan, resolve_workers(workers))
    _check_not_read(target, multiscales)
    _make_room(target, overwrite)
    create_arrays(target, pyramid.plan)
    if progress is not None:
        progress.add_multiscales_task("Writing the levels", len(pyramid.plan.levels))
    with ThreadPoolExecutor(in_flight, thread_name_prefix="ngff-region") as executor:
        for level in pyramid.plan.levels:
            _write_level(target, pyramid, level, executor, in_flight, progress)
            if progress is not None:
                progress.update_multiscales_task_completed(level.index + 1)
    for key, document in documents.items():
        retrying(target.write, key, document)
    release_caches([image.data for image in multiscales.images])


def from_ngff_zarr(
    store: Any,
    validate: bool = False,  # noqa: ARG001 - metadata is always validated
    version: str | None = None,
    storage_options: StorageOptions | None = None,
) -> NgffMultiscales:
    """Read an OME-Zarr image (0.4, 0.5 or 0.6) lazily, its axes as they are stored.

    ``store`` is a path, a URI, a zarr store, or a mapping from key to bytes. ``version``
    is the one that must be found there. Raises SourceNotFoundError where nothing is
    stored, and SourceFormatError, a ValueError, for what is no valid image.
    """
    opened = foreign_store(store) if is_foreign(store) else open_store(store, storage_options)
    node = read_node(opened)
    if node is None:
        raise SourceNotFoundError(f"{opened.uri}: there is no zarr group")
    if node.is_array:
        raise SourceFormatError(f"{opened.uri}: a zarr array, and no OME-Zarr image")
    stored = read_image(opened, node)
    if version is not None and version != stored.version:
        raise SourceFormatError(f"{opened.uri}: OME-Zarr {stored.version}, not {version}")
    images = []
    for index in range(len(stored.entry.datasets)):
        level = stored.read_level(index)
        data = stored_array(level.image.data, level.unit, uuid.uuid4().hex, level.store.uri)
        images.append(replace(level.image, data=data))
    return NgffMultiscales(
        images=images,
        metadata=_read_metadata(stored.entry, stored.version),
        method=next((m for m in Methods if m.value == stored.entry.type), None),
    )


def _read_metadata(entry: ImageEntry, version: str) -> Metadata:
    kinds = {"t": "time", "c": "channel"}
    return Metadata(
        axes=[Axis(a.name, kinds.get(a.name, "space"), a.unit, a.orientation) for a in entry.axes],
        datasets=[
            Dataset(d.path, [Scale(list(d.scale)), Translation(list(d.translation))])
            for d in entry.datasets
        ],
        omero=entry.omero,
        name=entry.name,
        version=version,
        type=entry.type,
        metadata=entry.metadata,
    )


# ------------------------------------------------------------------ what is written


@dataclass(frozen=True)
class _Pyramid:
    """A plan of the arrays, what metadata says of them, and their samples."""

    plan: PyramidPlan
    entry: ImageEntry
    arrays: tuple[ArrayLike, ...]


def _pyramid(
    multiscales: NgffMultiscales,
    version: OmeZarrVersion,
    chunks_per_shard: Any,
    shards: Any,
    compressor: str,
) -> _Pyramid:
    _check_whole(multiscales)
    images = [_ordered(image) for image in multiscales.images]
    base = images[0]
    entry = _entry(multiscales, base)
    info = ImageInfo(
        dims=tuple(base.dims),
        shape=tuple(int(n) for n in base.data.shape),
        dtype=np.dtype(base.data.dtype).newbyteorder("<").str,
        scale=entry.datasets[0].scale,
        translation=entry.datasets[0].translation,
        units=tuple(axis.unit for axis in entry.axes),
        name=entry.name,
    )
    check_image(info)
    own_chunks = [_chunks_of(image) for image in images]
    given = _given_shards(multiscales, version, own_chunks[0], base, chunks_per_shard, shards)
    levels = tuple(
        _level(index, multiscales, images, own_chunks, given, entry.datasets[index].path)
        for index in range(len(images))
    )
    plan = PyramidPlan(
        source=SourcePin(f"array:{entry.name}"),
        image=info,
        method=str(multiscales.method or ""),
        ome_zarr_version=version,
        compressor=str(Compressor.parse(compressor)),
        levels=levels,
    )
    return _Pyramid(plan, entry, tuple(image.data for image in images))


def _check_whole(multiscales: NgffMultiscales) -> None:
    images, metadata = multiscales.images, multiscales.metadata
    if not images or len(images) != len(metadata.datasets):
        raise InvalidOptionError(
            f"multiscales: {len(images)} images for {len(metadata.datasets)} datasets"
        )
    names = [axis.name for axis in metadata.axes]
    for image in images:
        if tuple(image.dims) != tuple(names):
            raise InvalidOptionError(
                f"multiscales: an image with axes {tuple(image.dims)} where metadata has {names}"
            )
        if np.dtype(image.data.dtype) != np.dtype(images[0].data.dtype):
            raise InvalidOptionError(
                f"multiscales: levels of {images[0].data.dtype} and of {image.data.dtype}"
            )
    for dataset in metadata.datasets:
        if any(part in ("", ".", "..") for part in dataset.path.split("/")):
            raise InvalidOptionError(f"path: {dataset.path!r} is no path of a level")


def _ordered(image: NgffImage) -> NgffImage:
    order = canonical_order(image.dims)
    if not isinstance(image.data, da.Array) or order == tuple(range(len(order))):
        return in_canonical_order(image)
    dims = tuple(image.dims[i] for i in order)
    transposed = image.data.transpose(order)  # type: ignore[no-untyped-call]
    return replace(image, data=transposed, dims=dims)


def _entry(multiscales: NgffMultiscales, base: NgffImage) -> ImageEntry:
    metadata, ndim = multiscales.metadata, len(base.dims)
    axes = {axis.name: axis for axis in metadata.axes}
    units = base.axes_units or {}
    orientations = of_axes(base.axes_orientations, base.dims) or {}
    order = canonical_order([axis.name for axis in metadata.axes])
    placed = [_placed(d, metadata, ndim) for d in metadata.datasets]
    return ImageEntry(
        name=metadata.name,
        axes=tuple(
            AxisEntry(d, axes[d].unit or units.get(d), axes[d].orientation or orientations.get(d))
            for d in base.dims
        ),
        datasets=tuple(
            DatasetEntry(d.path, tuple(scale[i] for i in order), tuple(moved[i] for i in order))
            for d, (scale, moved) in zip(metadata.datasets, placed, strict=True)
        ),
        type=metadata.type,
        metadata=metadata.metadata,
        omero=metadata.omero,
    )


def _placed(
    dataset: Dataset, metadata: Metadata, ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        return placement(dataset, metadata.coordinateTransformations, ndim)
    except ValueError:
        raise InvalidOptionError(
            f"metadata: a transformation of {dataset.path!r} has not {ndim} numbers"
        ) from None


def _chunks_of(image: NgffImage) -> Shape:
    """How an array is cut, which its stored copy keeps."""
    data: Any = image.data
    shape = tuple(int(n) for n in data.shape)
    if isinstance(data, da.Array):
        return tuple(max(int(sizes[0]), 1) for sizes in data.chunks)
    own = getattr(data, "chunks", None)
    if isinstance(own, tuple) and all(isinstance(c, int) for c in own):
        return level_chunks(own, shape)
    default = default_chunks(image.dims, shape)
    return tuple(default[d] for d in image.dims)


def _given_shards(
    multiscales: NgffMultiscales,
    version: str,
    chunks: Shape,
    base: NgffImage,
    chunks_per_shard: Any,
    shards: Any,
) -> Shape | None:
    if chunks_per_shard is None and shards is None:
        return None
    if version == "0.4":
        raise InvalidOptionError("shards: OME-Zarr 0.4 is zarr v2, which has none; use 0.5")
    caller_dims = tuple(multiscales.images[0].dims)
    sizes = dict(zip(base.dims, chunks, strict=True))
    if shards is not None:
        if chunks_per_shard is not None:
            raise InvalidOptionError("chunks_per_shard: give it or shards, not both")
        found = resolve_sizes("shards", shards, caller_dims, sizes)
        asked, shape = tuple(found[d] for d in base.dims), tuple(base.data.shape)
        return check_shards(asked, chunks, base.dims, shape)
    if not isinstance(chunks_per_shard, Sequence | Mapping):
        chunks_per_shard = dict.fromkeys(caller_dims, chunks_per_shard)
    ones = dict.fromkeys(caller_dims, 1)
    counts = resolve_sizes("chunks_per_shard", chunks_per_shard, caller_dims, ones)
    return tuple(counts[d] * c for d, c in zip(base.dims, chunks, strict=True))


def _level(
    index: int,
    multiscales: NgffMultiscales,
    images: Sequence[NgffImage],
    own_chunks: Sequence[Shape],
    given_shards: Shape | None,
    path: str,
) -> LevelPlan:
    image, chunks = images[index], own_chunks[index]
    shape = tuple(int(n) for n in image.data.shape)
    itemsize = np.dtype(image.data.dtype).itemsize
    shards = None
    if given_shards is not None:
        shards = level_shards(given_shards, own_chunks[0], chunks, shape)
    parent, step = _derivation(multiscales, index) or (None, (1,) * len(shape))
    return LevelPlan(
        index=index,
        path=path,
        shape=shape,
        chunks=chunks,
        shards=shards,
        block=shards or grow_block(image.dims, shape, chunks, itemsize),
        # Metadata is not made from this plan, so the factor decides nothing here.
        factor=step,
        parent=parent,
        step=step,
    )


def _derivation(multiscales: NgffMultiscales, index: int) -> tuple[int, Shape] | None:
    """Parent and step of a level that `to_multiscales` derived, and nobody replaced.

    Told by its array's name, which says what was made of which parent's array.
    """
    data: Any = multiscales.images[index].data
    method, factors = multiscales.method, multiscales.scale_factors
    if index == 0 or method is None or not factors or len(factors) < index:
        return None
    dims = tuple(multiscales.images[0].dims)
    absolute = [_absolute(f, dims) for f in ({}, *factors)]
    parent = parent_of(absolute, index)
    step = tuple(f // p for f, p in zip(absolute[index], absolute[parent], strict=True))
    above: Any = multiscales.images[parent].data
    if not (isinstance(data, da.Array) and isinstance(above, da.Array)):
        return None
    chunks = tuple(int(sizes[0]) for sizes in data.chunks)
    return (parent, step) if data.name == derived_name(above, step, method, chunks) else None


def _absolute(factor: Any, dims: Sequence[str]) -> Shape:
    if not isinstance(factor, Mapping):
        factor = dict.fromkeys(spatial_dims(dims), int(factor))
    return tuple(int(factor.get(d, 1)) for d in dims)


def _documents(pyramid: _Pyramid) -> dict[str, bytes]:
    try:
        return image_documents(pyramid.entry, pyramid.plan.ome_zarr_version)
    except ValueError as error:
        raise InvalidOptionError(
            f"metadata: no valid OME-Zarr {pyramid.plan.ome_zarr_version} image: {error}"
        ) from error


# ------------------------------------------------------------------ the target


def _open_target(store: Any, storage_options: StorageOptions | None) -> Store:
    if is_foreign(store):
        return foreign_store(store)
    if os.fspath(store).endswith(".ozx"):
        raise InvalidOptionError(f"store: {store} would be a zip file, which is not written")
    return open_store(store, storage_options)


def _check_not_read(target: Store, multiscales: NgffMultiscales) -> None:
    """What the pyramid is read from must not be removed to make room for it."""
    for image in multiscales.images:
        for uri in sources_of(image.data):
            if uri == target.uri or uri.startswith(f"{target.uri}/"):
                raise InvalidOptionError(
                    f"store: the pyramid is read from {uri}; write it elsewhere, "
                    "or make it with cache=True"
                )


def _make_room(target: Store, overwrite: bool) -> None:
    beside = _beside(target)
    if beside is not None:
        holder = current_holder(beside)
        if holder is not None and holder.is_live:
            raise TargetBusyError(f"{target.uri} is being built by another process")
    if not retrying(target.is_empty):
        if not overwrite:
            raise TargetExistsError(f"{target.uri} exists; choose another, or overwrite it")
        unpublish(target)
        if beside is not None:
            # A ledger of what was built here would vouch for samples that are gone.
            beside.delete_tree()
        target.delete_tree()


def _beside(target: Store) -> Store | None:
    """Where ``build_pyramid`` keeps plan and ledger of this target."""
    if isinstance(target, LocalFiles):
        return LocalFiles(target.root.with_name(f"{target.root.name}.build"))
    if isinstance(target, Bucket):
        return Bucket(target.fs, f"{target.root}.build", f"{target.uri}.build")
    return None


# ------------------------------------------------------------------ the levels


def _in_flight(plan: PyramidPlan, workers: int) -> int:
    """Regions at work at once, at most one per worker, within ``config.memory_target``."""
    unit = plan.levels[0].write_unit
    # The piece that regions are taken from has its own share.
    limit = config.memory_target - config.memory_target // _PIECE_SHARE
    try:
        projection = project(
            plan, unit, cached=False, workers=workers, memory_limit=limit, stream=False
        )
    except MemoryLimitError:
        return 1
    return projection.in_flight


def _write_level(
    target: Store,
    pyramid: _Pyramid,
    level: LevelPlan,
    executor: Executor,
    in_flight: int,
    progress: Progress,
) -> None:
    plan = pyramid.plan
    tell = _region_counter(level, len(plan.levels), progress)
    encoder = LevelEncoder(plan, level)

    def store(parent: ArrayLike, origin: Shape, index: int) -> None:
        kernel = None if level.parent is None else kernel_for(plan.method)
        samples = _samples(parent, origin, level, index, kernel)
        store_region(target, encoder, level, index, samples.astype(plan.dtype, copy=False))
        release_memory()

    if level.parent is None:
        for origin, part, indices in _parts(pyramid, level):
            run_bounded(indices, partial(store, part, origin), executor, in_flight, tell)
    else:
        above = open_level(target, plan, plan.levels[level.parent])
        work = partial(store, above, (0,) * len(level.shape))
        run_bounded(range(level.regions), work, executor, in_flight, tell)


def _samples(parent: ArrayLike, origin: Shape, level: LevelPlan, index: int, kernel: Any) -> Block:
    if not any(origin):
        return region_samples(parent, level, index, kernel)
    region = level.region(index)
    pairs = zip(region.start, region.stop, origin, strict=True)
    return np.asarray(parent[tuple(slice(a - o, b - o) for a, b, o in pairs)])


def _parts(pyramid: _Pyramid, level: LevelPlan) -> Iterator[tuple[Shape, ArrayLike, list[int]]]:
    """An array's samples part by part: where the part begins, its array, its regions.

    A dask array is computed in pieces as large as memory allows: region by region, a
    block of its graph that several regions need would be computed for each of them.
    """
    data: Any = pyramid.arrays[level.index]
    if not isinstance(data, da.Array):
        yield (0,) * len(level.shape), data, list(range(level.regions))
        return
    dims = pyramid.plan.image.dims
    sizes = dict(zip(dims, level.shape, strict=True))
    along = "z" if "z" in dims else max(("y", "x"), key=sizes.__getitem__)
    piece = pieces_shape(data, dims, level.block, along, config.memory_target / _PIECE_SHARE)
    for origin, indices in _regions_by_piece(level, piece).items():
        stop = (min(o + p, n) for o, p, n in zip(origin, piece, level.shape, strict=True))
        box = tuple(slice(a, b) for a, b in zip(origin, stop, strict=True))
        yield origin, np.asarray(data[box]), indices


def _regions_by_piece(level: LevelPlan, piece: Shape) -> dict[Shape, list[int]]:
    found: dict[Shape, list[int]] = {}
    for index in range(level.regions):
        start = level.region(index).start
        origin = tuple(a // p * p for a, p in zip(start, piece, strict=True))
        found.setdefault(origin, []).append(index)
    return found


def _region_counter(level: LevelPlan, levels: int, progress: Progress) -> Any:
    """What is called after each region of a level."""
    if not isinstance(progress, NgffProgressCallback):
        return lambda _: None
    progress.add_callback_task(f"Writing level {level.index + 1} of {levels}")
    done = iter(range(1, level.regions + 1))
    return lambda _: progress.update_callback_task_completed(next(done), level.regions)
