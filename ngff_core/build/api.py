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

    Parameters
    ----------
    source, target, storage_options
        As of `build_pyramid`.
    options
        The other arguments of `build_pyramid`; by default its defaults.

    Returns
    -------
    PlannedBuild
        The plan, and a projection of memory and requests.

    Raises
    ------
    CallerError
        Whatever `build_pyramid` would raise before its first write.

    Examples
    --------
    >>> import numpy as np
    >>> planned = check_build(np.zeros((512, 512), "uint8"), "memory://docs/planned.ome.zarr")
    >>> planned.plan.levels[0].shape, planned.cached
    ((512, 512), False)
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

    If this is interrupted, call it again with the same arguments: it continues where it
    stopped.

    Parameters
    ----------
    source
        Path or URI of a zarr array, an OME-Zarr image, a TIFF or an ``.npy`` file; or an
        `NgffImage`, or any array (numpy, dask, zarr), whose axes are then named by
        `ngff_core.model.axes.default_dims`.
    target
        Path or URI of the pyramid, by convention ending in ``.ome.zarr``. Plan and ledger
        are stored beside it in ``TARGET.build``, and stay there.
    method
        Downsampling method, one of `Methods`.
    scale_factors
        Factors of the levels, each relative to level 0; one level for each item. An item is a
        number for all spatial axes, or a mapping by axis. A single number N instead adds levels
        by doubling the factors, while an axis has at least two chunks and the next level has
        at least 2 N samples.
    chunks, shards
        Samples along each axis: one number for the spatial axes, a tuple in the order of the
        source's axes, or a mapping by axis. By default chosen from the image's shape.
    compressor
        Codec and its settings, such as ``"zstd:1"``, ``"blosc:zstd:1:bitshuffle"`` or
        ``"none"``.
    ome_zarr_version
        ``"0.5"`` (zarr format 3) or ``"0.4"`` (zarr format 2, without shards).
    workers
        Regions to work on at once; by default one for each core.
    memory_limit
        Bytes of memory that the build may take, or text such as ``"2GiB"``; by default a
        part of what the machine has.
    cache
        Whether to rewrite the source first, so that it can be read by region: ``"always"``,
        ``"never"``, or ``"auto"``, if that saves decoding it more than twice.
    overwrite
        Delete whatever is at the target, and build from scratch.
    dask_address
        Address of the scheduler of a dask cluster, whose workers build the regions then.
        The bytes are the same. ``workers`` and ``memory_limit`` are those of one worker
        process.
    dask_workers
        Number of worker processes to start on this machine, instead of ``dask_address``.
    storage_options
        Options of the fsspec filesystem of source and target, such as credentials.
    progress
        Called with each event of `ngff_core.progress`.

    Returns
    -------
    BuildReport
        The levels that were built, and the result of the verification.

    Raises
    ------
    CallerError
        Source, target or an option cannot be used; the message says what to change.
    StoredDataError
        Stored bytes are damaged.
    OSError
        Storage, network, or the cluster failed. `TransientError` is one that may pass.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((512, 512), "uint8")
    >>> report = build_pyramid(image, "memory://docs/zeros.ome.zarr", scale_factors=[2, 4])
    >>> [level.shape for level in report.levels], report.verified
    ([(512, 512), (256, 256), (128, 128)], True)
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
    """`build_pyramid` with its options in one object, and ``listener`` for ``progress``."""
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
