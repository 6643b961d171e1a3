"""Building a pyramid in one call, and checking beforehand whether that can work."""

from __future__ import annotations

import os
from typing import Any

from ngff_core.build.build import Build
from ngff_core.build.planning import PlannedBuild, plan_pyramid
from ngff_core.build.report import BuildReport
from ngff_core.build.takeover import inspect_target
from ngff_core.kernels.methods import Methods
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.options import BuildOptions
from ngff_core.plan.pyramid_plan import DEFAULT_MIN_LENGTH
from ngff_core.plan.scale_factors import ScaleFactors
from ngff_core.plan.source_cache import CacheMode
from ngff_core.progress import Listener, silent
from ngff_core.records.build_folder import target_stores
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import StorageOptions


def check_build(
    source: Any,
    target: str | os.PathLike[str],
    options: BuildOptions | None = None,
    *,
    storage_options: StorageOptions | None = None,
) -> PlannedBuild:
    """Plan a build and check whether its target can be used; nothing is written.

    Raises what `build_pyramid` would raise before its first write.
    """
    options = options or BuildOptions()
    planned = plan_pyramid(source, target, options, storage_options=storage_options)
    stores = target_stores(planned.target, storage_options)
    inspect_target(StoredBuild.begin(*stores, planned.plan), options.overwrite)
    return planned


def build_pyramid(
    source: Any,
    target: str | os.PathLike[str],
    *,
    method: str | Methods = Methods.ITKWASM_GAUSSIAN,
    scale_factors: ScaleFactors = DEFAULT_MIN_LENGTH,
    chunks: Any = None,
    shards: Any = None,
    compressor: str = DEFAULT_COMPRESSOR,
    ome_zarr_version: str = "0.5",
    workers: int | None = None,
    memory_limit: int | str | None = None,
    cache: CacheMode = "auto",
    overwrite: bool = False,
    dask_address: str | None = None,
    dask_workers: int | None = None,
    storage_options: StorageOptions | None = None,
    progress: Listener | None = None,
) -> BuildReport:
    """Build the OME-Zarr pyramid of ``source`` at ``target``, or what remains of it.

    ``source`` is a path or URI of a zarr array, an OME-Zarr image, a TIFF or an
    ``.npy``, or an `NgffImage`, or any array. ``target`` is a path or URI, by custom
    ending in ``.ome.zarr``; the plan and the ledger stay beside it in
    ``TARGET.build``. ``progress`` is called with the events of `ngff_core.progress`.
    With ``dask_address``, a scheduler's, a dask cluster builds the regions; with
    ``dask_workers`` so many processes that are started here. ``workers`` and
    ``memory_limit`` are those of one worker process then, and the bytes are the same.

    Raises a `CallerError` for what the caller can mend, a `StoredDataError` where
    stored bytes are damaged, and an OSError for trouble with storage. After any of
    them, or a kill, the same call goes on with what was done.
    """
    options = BuildOptions(
        method,
        scale_factors,
        chunks,
        shards,
        compressor,
        ome_zarr_version,
        workers,
        memory_limit,
        cache,
        overwrite,
        dask_address,
        dask_workers,
    )
    return run_build(
        source, target, options, storage_options=storage_options, listener=progress or silent
    )


def run_build(
    source: Any,
    target: str | os.PathLike[str],
    options: BuildOptions,
    *,
    storage_options: StorageOptions | None = None,
    listener: Listener = silent,
) -> BuildReport:
    """`build_pyramid` with its options in one object."""
    with Build.open(
        source, target, options, storage_options=storage_options, listener=listener
    ) as build:
        if build.cache_needed:
            build.write_cache()
        for level in build.plan.levels:
            build.write_level(level.index)
        build.publish()
        build.verify()
        build.clean()
        return build.report()
