"""The state of a build: how far it is, and whether its pyramid matches plan and ledger."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from ngff_core.build.report import BuildStatus, PhaseStatus
from ngff_core.plan.options import resolve_memory_limit, resolve_workers
from ngff_core.progress import Listener, silent
from ngff_core.pyramid.publish import is_published
from ngff_core.pyramid.verify import Verification, stored_bytes, verify_build
from ngff_core.records.build_folder import target_stores
from ngff_core.records.lease import current_holder
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import StorageOptions, absolute_uri


def build_status(
    target: str | os.PathLike[str], *, storage_options: StorageOptions | None = None
) -> BuildStatus:
    """How far the build at ``target`` is; takes a request or two for each level.

    Parameters
    ----------
    target
        Path or URI of a pyramid.
    storage_options
        Options of its fsspec filesystem, such as credentials.

    Returns
    -------
    BuildStatus
        Regions done of each level, whether the pyramid is published, and which process, if
        any, is building it.

    Raises
    ------
    TargetNotFoundError
        There is no build at the target.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((512, 512), "uint8"), "memory://docs/status.ome.zarr")
    >>> build_status("memory://docs/status.ome.zarr").finished
    True
    """
    build = StoredBuild.load(*target_stores(absolute_uri(target), storage_options))
    plan, holder = build.plan, current_holder(build.beside)
    levels = (
        PhaseStatus(
            phase=f"level-{level.index}",
            done=len(ledger.receipts),
            total=level.regions,
            shape=level.shape,
            stored_bytes=stored_bytes(ledger),
        )
        for level, ledger in build.levels
    )
    return BuildStatus(
        target=build.target.uri,
        source=plan.source.uri,
        method=plan.method,
        plan_digest=plan.digest,
        levels=tuple(levels),
        published=is_published(build.target, plan),
        builder=holder if holder is not None and holder.is_live else None,
    )


def verify_pyramid(
    target: str | os.PathLike[str],
    *,
    deep: bool = False,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    storage_options: StorageOptions | None = None,
    progress: Listener | None = None,
) -> Verification:
    """Check the pyramid at ``target`` against its plan and checksums.

    Parameters
    ----------
    target
        Path or URI of a pyramid.
    deep
        Read and decode every object as well; otherwise metadata and the sizes of objects are
        checked.
    workers
        Regions to read at once; by default one for each core.
    memory_limit
        Bytes of memory that this may take, or text such as ``"2GiB"``.
    storage_options
        Options of the target's fsspec filesystem, such as credentials.
    progress
        Called with each event of `ngff_core.progress`.

    Returns
    -------
    Verification
        Damage is not raised, but listed in its ``findings``.

    Raises
    ------
    TargetNotFoundError
        There is no build at the target.
    MemoryLimitError
        Not even one region fits into ``memory_limit``.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((512, 512), "uint8"), "memory://docs/verify.ome.zarr")
    >>> verify_pyramid("memory://docs/verify.ome.zarr", deep=True).findings
    ()
    """
    limit = resolve_memory_limit(memory_limit)
    build = StoredBuild.load(*target_stores(absolute_uri(target), storage_options))
    workers = resolve_workers(workers)
    with ThreadPoolExecutor(workers) as executor:
        return verify_build(
            build,
            deep=deep,
            executor=executor,
            workers=workers,
            memory_limit=limit,
            listener=progress or silent,
        )
