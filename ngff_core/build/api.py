"""Building a pyramid in one call: `build_pyramid`, `run_build`, and `check_build` before either."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ngff_core.build.build import Build
from ngff_core.build.planning import PlannedBuild, continued, plan_opened
from ngff_core.build.report import BuildReport
from ngff_core.build.takeover import inspect_target
from ngff_core.kernels.methods import Methods
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.layout import LevelPaths
from ngff_core.plan.options import BuildOptions, documents_options
from ngff_core.plan.pyramid_plan import DEFAULT_MIN_LENGTH
from ngff_core.plan.scale_factors import ScaleFactors
from ngff_core.plan.source_cache import CacheMode
from ngff_core.progress import Listener, silent
from ngff_core.records.build_folder import target_stores
from ngff_core.records.stored_build import StoredBuild
from ngff_core.sources import open_source
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
    with open_source(source, storage_options, options.selection) as opened:
        planned = plan_opened(opened, source, target, options)
        stores = target_stores(planned.target, storage_options)
        wanted = StoredBuild.begin(*stores, planned.plan, planned.earlier)
        stored = inspect_target(wanted, options.overwrite).plan
        return planned if stored is None else continued(planned, stored, opened, options)


@documents_options
def build_pyramid(
    source: Any,
    target: str | os.PathLike[str],
    *,
    series: int | str | None = None,
    dims: str | Sequence[str] | None = None,
    pick: Mapping[str, int] | None = None,
    scale: Mapping[str, float] | None = None,
    units: str | Mapping[str, str] | None = None,
    channel_names: Sequence[str] | None = None,
    channel_colors: Sequence[str] | None = None,
    method: str | Methods | None = None,
    scale_factors: ScaleFactors = DEFAULT_MIN_LENGTH,
    chunks: Any = None,
    shards: Any = None,
    compressor: str = DEFAULT_COMPRESSOR,
    ome_zarr_version: str = "0.5",
    level_paths: LevelPaths = "flat",
    checksums: bool = True,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    cache: CacheMode = "auto",
    overwrite: bool = False,
    dask_address: str | None = None,
    dask_workers: int | None = None,
    storage_options: StorageOptions | None = None,
    progress: Listener | None = None,
) -> BuildReport:
    """Build the OME-Zarr pyramid of ``source`` at ``target``, or continue an interrupted build.

    Run the same call again after an error or a kill: it continues where it stopped.

    Parameters
    ----------
    source : str, path, NgffImage or array
        Path or URI of an image in one of the formats in docs/formats.md, with ``::NAME`` at its
        end for one of several in a file; or an `NgffImage`; or any array.
    target : str or path
        Path or URI of the pyramid, usually ending in ``.ome.zarr``. The plan and the ledger
        are kept beside it, in ``TARGET.build``.
    {options}
    storage_options : mapping, optional
        Options for fsspec's filesystems, such as credentials; by protocol where source and
        target differ.
    progress : callable, optional
        Called with each event of `ngff_core.progress`.

    Returns
    -------
    BuildReport
        The levels, what this call wrote of them, and the result of the verification.

    Raises
    ------
    CallerError
        An argument, the source or the target cannot be used; the message says what to change.
    StoredDataError
        Stored bytes are damaged.
    OSError
        A request to storage failed, also after retries.

    Examples
    --------
    >>> import numpy as np
    >>> report = build_pyramid(np.ones((512, 512), "uint8"), "memory://examples/ones.ome.zarr")
    >>> [level.shape for level in report.levels]
    [(512, 512), (256, 256)]
    """
    options = BuildOptions.select(locals())
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
