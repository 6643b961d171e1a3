"""The target and what stands beside it: whose it is, and taking it over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from ngff_core.errors import (
    NgffError,
    SourceChangedError,
    StoredDataError,
    TargetExistsError,
    UnlistableError,
)
from ngff_core.geometry import grid_shape
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.pyramid.inventory import find_lost
from ngff_core.pyramid.publish import (
    ARRAY_DOCUMENT,
    array_documents,
    group_documents,
    is_published,
    unpublish,
)
from ngff_core.records.build_folder import (
    CACHE,
    CACHE_DOCUMENT,
    LEDGERS,
    PLAN_KEY,
    cache_chunk_key,
    parse_plan,
)
from ngff_core.records.halo_files import remove_halos
from ngff_core.records.ledger import Ledger
from ngff_core.records.replaceable import check_replaceable, end_replacing, mark_replacing
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectStore, delete_below, for_each, retrying

TargetKind = Literal["free", "resumable", "finished", "other"]


@dataclass(frozen=True)
class TargetState:
    """What is at a target: of a build of ours its plan, if finished its ledgers: read once."""

    kind: TargetKind
    plan: PyramidPlan | None = None
    ledgers: tuple[Ledger, ...] = ()


def target_kind(
    target: ObjectStore, beside: ObjectStore, plan: PyramidPlan, overwrite: bool
) -> TargetKind:
    """``free``, ``resumable``, ``finished``, or ``other`` where it may be overwritten."""
    return inspect_target(target, beside, plan, overwrite).kind


def inspect_target(
    target: ObjectStore, beside: ObjectStore, plan: PyramidPlan, overwrite: bool
) -> TargetState:
    """The same, with what had to be read to know it."""
    document = retrying(beside.read, PLAN_KEY)
    if document is None:
        if retrying(target.is_empty):
            return TargetState("free")
        if overwrite:
            with suppress(UnlistableError):
                check_replaceable(target, beside)
            return TargetState("other")
        raise TargetExistsError(
            f"{target.uri} exists and was not built by ngff-flows; "
            "choose another target, or overwrite it"
        )
    try:
        existing = parse_plan(beside, document)
    except StoredDataError:
        if overwrite:
            return TargetState("other")
        raise
    if existing.digest == plan.digest:
        if is_published(target, existing):
            build = StoredBuild.load(target, beside, existing)
            if build.complete:
                return TargetState("finished", existing, build.ledgers)
        return TargetState("resumable", existing)
    if overwrite:
        return TargetState("other")
    raise _mismatch(target.uri, existing, plan)


def begin(target: ObjectStore, beside: ObjectStore, plan: PyramidPlan, kind: TargetKind) -> bool:
    """Make the target this plan's: what is foreign is removed, the plan is put down.

    Whether the plan that is there now is the one that was put down just now.
    """
    if kind == "other":
        remove(target, beside)
    return kind in ("other", "free") and retrying(beside.create, PLAN_KEY, plan.to_json())


def remove(target: ObjectStore, beside: ObjectStore) -> None:
    """Remove a build with all that it wrote; only the lease on it stays.

    In this order a kill leaves nothing that passes for whole: no image first, no receipts
    for what is about to go, and the old plan until all is gone.

    Where the store cannot be listed, the plan there says what there is to remove; where there
    is none, that is a TargetExistsError, and nothing is touched.
    """
    plan = _removable(target, beside)
    check_replaceable(target, beside)
    if plan is None:
        mark_replacing(target, beside)
    unpublish(target)
    try:
        retrying(beside.delete_tree, LEDGERS)
    except UnlistableError:
        # No more is done with them, so it does not matter which receipts a ledger takes.
        phases = [CACHE, *(str(level.index) for level in plan.levels)] if plan else []
        for phase in phases:
            Ledger(beside, phase, "", 0).forget()
    delete_below(target, "", lambda: _keys_of(plan) if plan else ())
    remove_cache(beside)
    remove_halos(beside, plan)
    retrying(beside.delete, PLAN_KEY)
    if plan is None:
        end_replacing(target, beside)


def remove_cache(beside: ObjectStore) -> None:
    """Remove the objects of the cache pass."""
    delete_below(beside, CACHE, lambda: _cache_keys(beside))


def _removable(target: ObjectStore, beside: ObjectStore) -> PyramidPlan | None:
    """The plan of what is there, if any; TargetExistsError where only it could help, and is not."""
    document = retrying(beside.read, PLAN_KEY)
    if document is not None:
        with suppress(StoredDataError):
            return parse_plan(beside, document)
    try:
        retrying(target.objects)
    except UnlistableError as error:
        raise TargetExistsError(
            f"{target.uri} was not built by ngff-flows, and what is there cannot be removed, "
            "since it cannot be listed; choose another target, or remove it yourself"
        ) from error
    return None


def _keys_of(plan: PyramidPlan) -> Iterator[str]:
    """Every object of a pyramid, documents last."""
    for level in plan.levels:
        for place in product(*map(range, grid_shape(level.shape, level.write_unit))):
            yield f"{level.path}/{plan.object_key(place)}"
    yield from array_documents(plan)
    yield from group_documents(plan)


def _cache_keys(beside: ObjectStore) -> Iterator[str]:
    """Every object of a cache, as its document describes it; the document last."""
    document = retrying(beside.read, CACHE_DOCUMENT)
    if document is None:
        return
    with suppress(ValueError, KeyError, TypeError):
        array = json.loads(document)
        chunks = array["chunk_grid"]["configuration"]["chunk_shape"]
        for place in product(*map(range, grid_shape(array["shape"], chunks))):
            yield cache_chunk_key(place)
    yield CACHE_DOCUMENT


def forget_removed(store: ObjectStore, plan: PyramidPlan, ledgers: Sequence[Ledger]) -> list[str]:
    """Forget the receipts of levels whose arrays somebody removed; their paths.

    An array's document is put before its first region, so receipts without it are of a
    level that is gone. That one request per level tells a removed target from an
    interrupted build; a single object that is gone is for `verify` to find.
    """
    # Read, not looked for: of what is absent some clients ask three times.
    begun = [
        level.path for level, ledger in zip(plan.levels, ledgers, strict=True) if ledger.receipts
    ]
    name = ARRAY_DOCUMENT[plan.zarr_format]
    found = for_each(store, lambda path: retrying(store.read, f"{path}/{name}"), begun)
    gone = {path for path, document in zip(begun, found, strict=True) if document is None}
    removed = []
    for level, ledger in zip(plan.levels, ledgers, strict=True):
        if level.path in gone:
            ledger.forget()
            removed.append(level.path)
    return removed


def drop_missing(build: StoredBuild) -> int:
    """Take back the receipts whose objects a listing does not show as recorded; how many."""
    lost: dict[int, set[int]] = {level.index: set() for level in build.plan.levels}
    for finding in find_lost(build):
        if finding.level is not None and finding.region is not None:
            lost[finding.level].add(finding.region)
    for level, ledger in build.levels:
        ledger.drop(lost[level.index])
    return sum(map(len, lost.values()))


def _mismatch(target: str, existing: PyramidPlan, wanted: PyramidPlan) -> NgffError:
    if replace(existing, source=wanted.source).digest == wanted.digest:
        if existing.source.uri == wanted.source.uri:
            return SourceChangedError(
                f"{wanted.source.uri} has changed since {target} was begun "
                f"({_differences(dict(existing.source.pins), dict(wanted.source.pins))}); "
                "overwrite the target to build it anew"
            )
        return TargetExistsError(
            f"{target} was built from {existing.source.uri}, not from {wanted.source.uri}; "
            "choose another target, or overwrite it"
        )
    changed = _differences(_choices(existing), _choices(wanted))
    return TargetExistsError(
        f"{target} holds a build with other options ({changed}); "
        "give the same options to go on with it, choose another target, or overwrite it"
    )


def _choices(plan: PyramidPlan) -> dict[str, object]:
    """The parts of a plan that a caller recognises as choices."""
    base = plan.levels[0]
    return {
        "source": plan.source.uri,
        "shape": plan.image.shape,
        "dtype": plan.image.dtype,
        "method": plan.method,
        "ome_zarr_version": plan.ome_zarr_version,
        "compressor": plan.compressor,
        "scale_factors": tuple(level.factor for level in plan.levels[1:]),
        "chunks": base.chunks,
        "shards": base.shards,
        "algorithm": plan.algorithm,
    }


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    changed = [
        f"{what}: {before.get(what)} there, {now.get(what)} now"
        for what in sorted({*before, *now})
        if before.get(what) != now.get(what)
    ]
    return "; ".join(changed) or "the image's description differs"
