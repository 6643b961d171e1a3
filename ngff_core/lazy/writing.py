"""Writing an ``NgffMultiscales`` as OME-Zarr: empty the target, write levels, documents last."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ngff_core.errors import InvalidOptionError, TargetBusyError, TargetExistsError
from ngff_core.lazy.as_plan import documents_of, plan_of_arrays
from ngff_core.lazy.image_cache import release_caches
from ngff_core.lazy.levels import regions_in_flight, write_level
from ngff_core.lazy.multiscales import NgffMultiscales
from ngff_core.lazy.progress import Progress
from ngff_core.lazy.reads import read_from_target
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.make import check_version
from ngff_core.plan.options import resolve_workers
from ngff_core.pyramid.publish import create_arrays, unpublish
from ngff_core.records.build_folder import PLAN_KEY, SUFFIX
from ngff_core.records.lease import current_holder
from ngff_core.records.replaceable import (
    check_replaceable,
    empty_target,
    end_replacing,
    mark_replacing,
    remove_build_records,
)
from ngff_core.storage import Bucket, LocalFiles, ObjectStore, StorageOptions, open_store, retrying
from ngff_core.storage.foreign import foreign_store, is_foreign


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
    """Write a pyramid as OME-Zarr, its group document last: half a pyramid is never an image.

    Axes, paths and transformations are written as the metadata has them, with the axes in
    t, c, z, y, x order. A killed write can be repeated.

    Parameters
    ----------
    store
        The target: a path, a URI, a zarr store, or a mapping from key to bytes.
    multiscales
        The pyramid, by `to_multiscales`, `from_ngff_zarr` or put together by hand.
    version
        OME-Zarr version: ``"0.4"`` (zarr v2), ``"0.5"`` or ``"0.6"`` (zarr v3). Default: 0.5.
    overwrite
        Whether to remove the zarr hierarchy at the target first. A folder of other files, or a
        file, is never removed. Default: True.
    use_tensorstore
        Changes nothing. Code written for ngff-zarr gives it.
    chunk_store
        ``store`` again, or None. Chunks and metadata go to one store.
    progress
        Shows the levels, and with `NgffProgressCallback` the regions. Default: shown nowhere.
    chunks_per_shard
        Chunks along each axis of a shard: an int for all axes, a sequence by position, or a
        mapping of axes. Default: no shards.
    shards
        Shard size in samples, a multiple of the chunk size, in the same forms; give it or
        ``chunks_per_shard``. Default: no shards.
    compressor
        ``blosc:CODEC:LEVEL:SHUFFLE``, ``zstd:LEVEL``, ``gzip:LEVEL`` or ``none``.
        Default: ``blosc:zstd:1:bitshuffle``.
    workers
        Regions that are written at the same time. Default: one for each core.
    storage_options
        Options of fsspec's filesystem for a URI, such as credentials. Default: none.

    Returns
    -------
    None

    Raises
    ------
    InvalidOptionError
        An option or the metadata cannot be written, or the pyramid is read from the target;
        nothing has been removed. A ValueError.
    TargetExistsError
        The target exists and ``overwrite`` is False, or it is not a zarr hierarchy. A
        FileExistsError.
    TargetBusyError
        `build_pyramid` is building the target now. An OSError.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> store = {}
    >>> pyramid = ngff_core.to_multiscales(np.ones((256, 256), "uint8"), [2], chunks=64)
    >>> ngff_core.to_ngff_zarr(store, pyramid, chunks_per_shard=2)
    >>> [key for key in store if "zarr.json" in key][-1]
    'zarr.json'
    """
    if chunk_store is not None and chunk_store is not store:
        raise InvalidOptionError(
            "chunk_store: chunks and metadata go to one store; leave it out, and give that "
            "store as store"
        )
    target = _open_target(store, storage_options)
    pyramid = plan_of_arrays(
        multiscales, check_version(version), chunks_per_shard, shards, compressor
    )
    documents = documents_of(pyramid)
    in_flight = regions_in_flight(pyramid.plan, target, resolve_workers(workers))
    empty = retrying(target.is_empty)
    _check_not_read(target, store, multiscales, empty=empty)
    beside = _beside(target)
    _make_room(target, beside, empty=empty, overwrite=overwrite)
    create_arrays(target, pyramid.plan)
    if progress is not None:
        progress.add_multiscales_task("Writing the levels", len(pyramid.plan.levels))
    with ThreadPoolExecutor(in_flight, thread_name_prefix="ngff-region") as executor:
        for level in pyramid.plan.levels:
            write_level(target, pyramid, level, executor, in_flight, progress)
            if progress is not None:
                progress.update_multiscales_task_completed(level.index + 1)
    for key, document in documents.items():
        retrying(target.write, key, document)
    end_replacing(target, beside)
    release_caches([image.data for image in multiscales.images])


def _open_target(store: Any, storage_options: StorageOptions | None) -> ObjectStore:
    if is_foreign(store):
        return foreign_store(store)
    if os.fspath(store).endswith(".ozx"):
        raise InvalidOptionError(
            f"store: {store} would be a zip file, which is not written; write a folder such as "
            "NAME.ome.zarr, and in it run: zip -0 -r ../NAME.ozx zarr.json ."
        )
    return open_store(store, storage_options)


def _check_not_read(
    target: ObjectStore, store: Any, multiscales: NgffMultiscales, *, empty: bool
) -> None:
    """Raise InvalidOptionError where writing would remove what the levels are read from."""
    arrays = [image.data for image in multiscales.images]
    raw = store if is_foreign(store) else None
    uri = read_from_target(arrays, target.uri, raw, empty=empty)
    if uri is not None:
        raise InvalidOptionError(
            f"store: the pyramid is read from {uri}; write it to another target, or make it with "
            "to_multiscales(..., cache=True)"
        )


def _make_room(
    target: ObjectStore, beside: ObjectStore | None, *, empty: bool, overwrite: bool
) -> None:
    """Leave the target empty and marked; an error before anything is removed."""
    holder = None if beside is None else current_holder(beside)
    if holder is not None and holder.is_live:
        raise TargetBusyError(
            f"{target.uri} is being built by process {holder.pid} on {holder.machine}; "
            "wait for it to end, or choose another target"
        )
    if not empty and not overwrite:
        raise TargetExistsError(
            f"{target.uri} exists; choose another target, or give overwrite=True"
        )
    if not empty:
        check_replaceable(target, beside)
    if beside is None:
        mark_replacing(target, beside)
    elif not empty or retrying(beside.read, PLAN_KEY) is not None:
        # A listing before the first write: a store that refuses it is left as it is.
        retrying(beside.folder)
        mark_replacing(target, beside)
        # Receipts of an earlier build must not count for the samples that are written now.
        remove_build_records(beside)
    else:
        mark_replacing(target, beside)
    if not empty:
        unpublish(target)
        empty_target(target, beside)


def _beside(target: ObjectStore) -> ObjectStore | None:
    """The store of ``TARGET.build``; None where nothing can stand beside the target."""
    return target.sibling(SUFFIX) if isinstance(target, LocalFiles | Bucket) else None
