"""Builds below a prefix: finding them, and removing what dead ones left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
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
    ledger_folder,
    target_stores,
)
from ngff_core.records.halo_files import remove_halos
from ngff_core.records.lease import Lease, current_holder
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import (
    ObjectInfo,
    ObjectStore,
    StorageOptions,
    absolute_uri,
    is_bucket,
    open_store,
    retrying,
)

# A folder with one of these is an image of somebody's: millions of chunks, and no build.
_ZARR_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zarray", ".zattrs"})

Kind = Literal["half a build", "cache", ""]


def find_targets(prefix: str, storage_options: StorageOptions | None = None) -> Iterator[str]:
    """Every target below ``prefix`` that has a plan beside it, in the order of their names.

    ``prefix`` may be such a target itself. Images are not looked into.
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
    """What a build left, whether it was removed, and if not, why it is kept.

    ``kind`` is empty where there is nothing to remove. ``days`` is the age of its newest
    object; None where the store does not tell.
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
    """Remove what a dead build left at ``target``: a forgotten cache, forgotten
    strips, or half a pyramid.

    Dead is a build that no live process holds, and whose newest object is older than
    ``older_than_days``. A pyramid whose levels are all there is never removed, published or
    not, and neither is a target with objects that are not of its build.
    """
    stores = target_stores(absolute_uri(target), storage_options)
    found = _look(*stores, older_than_days)
    if dry_run or not found.kind or found.kept:
        return found
    lease = Lease(stores[1], patience=0)
    try:
        with lease:
            # Between the look and the lease another builder may have come and gone.
            found = _look(*stores, older_than_days, own_lease=True)
            if found.kept or not found.kind:
                return found
            _remove(*stores, found.kind)
    except TargetBusyError as error:
        return replace(found, kept=str(error))
    if found.kind == "half a build" and not lease.succeeded:
        retrying(stores[1].delete_tree)
    return replace(found, removed=True)


def _remove(target: ObjectStore, beside: ObjectStore, kind: Kind) -> None:
    if kind == "half a build":
        remove(target, beside)
    else:
        # The receipts go last: they are what tells a later run of leftovers.
        retrying(beside.delete_tree, CACHE)
        retrying(beside.delete_tree, ledger_folder(CACHE))
        remove_halos(beside, plan=None)


def _look(
    target: ObjectStore, beside: ObjectStore, days: float, *, own_lease: bool = False
) -> Leftover:
    """What there is to remove; ``kept`` says why it is not to be."""
    nothing = Leftover(target.uri)
    try:
        build = StoredBuild.load(target, beside)
        return _sized_up(
            target, beside, build.plan, whole=build.complete, days=days, own_lease=own_lease
        )
    except (StoredDataError, UnlistableError) as error:
        return replace(nothing, kept=str(error))


def _sized_up(
    target: ObjectStore,
    beside: ObjectStore,
    plan: PyramidPlan,
    *,
    whole: bool,
    days: float,
    own_lease: bool,
) -> Leftover:
    nothing = Leftover(target.uri)
    if whole or _has_document(target, plan):
        left = {
            key: info
            for key, info in retrying(beside.objects).items()
            if is_cache(key) or is_halo(key)
        }
        found = _sized(nothing, "cache", left) if left else nothing
    else:
        own = retrying(target.objects)
        # Leases are written by whoever looks, too, and say nothing of the build's age.
        ours = {k: v for k, v in retrying(beside.objects).items() if not is_lease(k)}
        found = _sized(nothing, "half a build", {**own, **{f"../{k}": v for k, v in ours.items()}})
        found = replace(found, kept=_foreign(plan, own))
    if not found.kind or found.kept:
        return found
    holder = None if own_lease else current_holder(beside)
    if holder is not None and holder.is_live:
        return replace(found, kept=f"{holder} is building it")
    if found.days is None:
        return replace(found, kept="its store does not tell how old it is")
    if found.days < days:
        return replace(found, kept=f"younger than {days:g} days")
    return found


def _sized(found: Leftover, kind: Kind, objects: Mapping[str, ObjectInfo]) -> Leftover:
    times = [info.modified for info in objects.values()]
    known = [moment for moment in times if moment is not None]
    age = (time.time() - max(known)) / 86400 if known and len(known) == len(times) else None
    nbytes = sum(info.size for info in objects.values())
    return replace(found, kind=kind, objects=len(objects), nbytes=nbytes, days=age)


def _has_document(target: ObjectStore, plan: PyramidPlan) -> bool:
    """Whether the target is an image, be it with other metadata than the plan's."""
    return any(retrying(target.info, key) is not None for key in group_documents(plan))


def _foreign(plan: PyramidPlan, objects: Mapping[str, ObjectInfo]) -> str:
    documents = array_documents(plan)
    arrays: Sequence[str] = tuple(f"{level.path}/" for level in plan.levels)
    for key in objects:
        if key not in documents and not key.startswith(tuple(arrays)):
            return f"{key} is not of this build; look at it yourself"
    return ""
