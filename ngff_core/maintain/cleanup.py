"""Finding the builds below a prefix, and removing what dead builds left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ngff_core.build.takeover import remove
from ngff_core.errors import StoredDataError, TargetBusyError, UnlistableError
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.pyramid.publish import array_documents, group_documents
from ngff_core.records.build_folder import (
    CACHE,
    PLAN_KEY,
    SUFFIX,
    folder_of,
    is_cache,
    is_halo,
    is_lease,
    is_summary,
    ledger_folder,
    target_stores,
)
from ngff_core.records.halo_files import remove_halos
from ngff_core.records.lease import Lease, current_holder
from ngff_core.records.replaceable import remove_build_folder
from ngff_core.records.stored_build import StoredBuild
from ngff_core.records.summary_files import remove_summaries
from ngff_core.storage import (
    ObjectInfo,
    ObjectStore,
    StorageOptions,
    absolute_uri,
    is_bucket,
    open_store,
    retrying,
)

# A folder with one of these is an image: millions of chunks, and no build among them.
_ZARR_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zarray", ".zattrs"})

Kind = Literal["half a build", "cache", ""]


def find_targets(prefix: str, storage_options: StorageOptions | None = None) -> Iterator[str]:
    """Every target below ``prefix`` that has a plan beside it, in the order of their names.

    Parameters
    ----------
    prefix
        Path or URI of a folder, a prefix or a bucket; or of one target. Folders of images
        are not searched.
    storage_options
        Options of its fsspec filesystem, such as credentials.

    Returns
    -------
    Iterator[str]
        Absolute path or URI of each target; folders are listed as it advances.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((512, 512), "uint8"), "memory://found/a.ome.zarr")
    >>> list(find_targets("memory://found"))
    ['memory://found/a.ome.zarr']
    """
    prefix = absolute_uri(prefix)
    if not is_bucket(prefix):
        beside = open_store(folder_of(prefix), storage_options)
        if retrying(beside.info, PLAN_KEY) is not None:
            yield prefix
            return
    yield from _below(open_store(prefix, storage_options))


def _below(store: ObjectStore) -> Iterator[str]:
    entries = retrying(store.folder)
    if not _ZARR_DOCUMENTS.isdisjoint(entries):
        return
    folders = [name for name, entry in entries.items() if entry.is_folder]
    targets = {
        name.removesuffix(SUFFIX)
        for name in folders
        if name.endswith(SUFFIX) and retrying(store.child(name).info, PLAN_KEY) is not None
    }
    for name in sorted({*folders, *targets}):
        if name in targets:
            yield store.child(name).uri
        elif name.removesuffix(SUFFIX) not in targets:
            yield from _below(store.child(name))


@dataclass(frozen=True)
class Leftover:
    """What a build left at a target, whether it was removed, and if not, why it is kept.

    Attributes
    ----------
    target
        URI or absolute path.
    kind
        ``"half a build"``, ``"cache"``, or empty where there is nothing to remove.
    objects, nbytes
        Number and bytes of the objects to remove.
    days
        Age in days of the newest of them; None where the store does not record it.
    kept
        The reason to keep it; empty where there is none.
    removed
        Whether it was removed.

    Examples
    --------
    >>> Leftover("memory://lab/a.ome.zarr", "cache", objects=2, nbytes=4096, removed=True).objects
    2
    """

    target: str
    kind: Kind = ""
    objects: int = 0
    nbytes: int = 0
    days: float | None = None
    kept: str = ""
    removed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def clean_build(
    target: str | os.PathLike[str],
    *,
    older_than_days: float,
    dry_run: bool = True,
    storage_options: StorageOptions | None = None,
) -> Leftover:
    """Remove what a dead build left at ``target``: its cache, halo files, or half a pyramid.

    A build is dead if no live process has its lease, and its newest object is older than
    ``older_than_days``. A pyramid whose levels are all complete is never removed, published
    or not; nor is a target with objects that do not belong to its build.

    Parameters
    ----------
    target
        Path or URI of a pyramid, or of what was to become one.
    older_than_days
        Age in days from which a build counts as dead.
    dry_run
        Only tell what would be removed.
    storage_options
        Options of the target's fsspec filesystem, such as credentials.

    Returns
    -------
    Leftover
        What there is to remove, whether it was removed, and if not, why it is kept.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((512, 512), "uint8"), "memory://docs/clean.ome.zarr")
    >>> clean_build("memory://docs/clean.ome.zarr", older_than_days=7).objects
    0
    """
    target_store, beside = target_stores(absolute_uri(target), storage_options)
    leftover = _inspect(target_store, beside, older_than_days)
    if dry_run or not leftover.kind or leftover.kept:
        return leftover
    lease = Lease(beside, patience=0)
    try:
        with lease:
            # Another builder may have worked here before this process had the lease.
            leftover = _inspect(target_store, beside, older_than_days, own_lease=True)
            if leftover.kept or not leftover.kind:
                return leftover
            _remove(target_store, beside, leftover.kind)
    except TargetBusyError as error:
        return replace(leftover, kept=str(error))
    if leftover.kind == "half a build" and not lease.succeeded:
        remove_build_folder(beside)
    return replace(leftover, removed=True)


def _remove(target: ObjectStore, beside: ObjectStore, kind: Kind) -> None:
    if kind == "half a build":
        remove(target, beside)
    else:
        # The receipts go last: a later run knows by them that there is something to remove.
        retrying(beside.delete_tree, CACHE)
        retrying(beside.delete_tree, ledger_folder(CACHE))
        remove_halos(beside, plan=None)
        remove_summaries(beside, plan=None)


def _inspect(
    target: ObjectStore, beside: ObjectStore, days: float, *, own_lease: bool = False
) -> Leftover:
    """What there is to remove; its ``kept`` says why it must not be removed."""
    try:
        leftover = _leftover_of(StoredBuild.load(target, beside))
        if not leftover.kind or leftover.kept:
            return leftover
        holder = None if own_lease else current_holder(beside)
    except (StoredDataError, UnlistableError) as error:
        return Leftover(target.uri, kept=str(error))
    if holder is not None and holder.is_live:
        return replace(leftover, kept=f"{holder} is building it")
    if leftover.days is None:
        return replace(leftover, kept="its store does not record how old it is")
    if leftover.days < days:
        return replace(leftover, kept=f"younger than {days:g} days")
    return leftover


def _leftover_of(build: StoredBuild) -> Leftover:
    """What a build left: cache, halo files, summaries beside a complete pyramid, else all."""
    beside = retrying(build.beside.objects)
    if build.complete or _has_document(build):
        left = {k: v for k, v in beside.items() if is_cache(k) or is_halo(k) or is_summary(k)}
        return _measured(build, "cache", left) if left else Leftover(build.target.uri)
    objects = retrying(build.target.objects)
    # Inspecting a target writes leases too, so they do not show the age of the build.
    records = {f"../{k}": v for k, v in beside.items() if not is_lease(k)}
    leftover = _measured(build, "half a build", {**objects, **records})
    return replace(leftover, kept=_reason_to_keep(build.plan, objects))


def _measured(build: StoredBuild, kind: Kind, objects: Mapping[str, ObjectInfo]) -> Leftover:
    """Number, size and age of some objects."""
    times = [info.modified for info in objects.values()]
    known = [moment for moment in times if moment is not None]
    age = (time.time() - max(known)) / 86400 if known and len(known) == len(times) else None
    nbytes = sum(info.size for info in objects.values())
    return Leftover(build.target.uri, kind, len(objects), nbytes, age)


def _has_document(build: StoredBuild) -> bool:
    """Whether the target is an image, even with other metadata than the plan's."""
    documents = group_documents(build.plan)
    return any(retrying(build.target.info, key) is not None for key in documents)


def _reason_to_keep(plan: PyramidPlan, objects: Mapping[str, ObjectInfo]) -> str:
    """Names an object at the target that does not belong to the build; empty if none does."""
    documents = array_documents(plan)
    arrays = tuple(f"{level.path}/" for level in plan.levels)
    for key in objects:
        if key not in documents and not key.startswith(arrays):
            return f"{key} is not of this build; look at it yourself"
    return ""
