"""What is at a target and the folder beside it: finding out, and taking it over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
    published_document,
    unpublish,
)
from ngff_core.records.build_folder import (
    CACHE,
    CACHE_DOCUMENT,
    LEDGERS,
    PLAN_KEY,
    WINDOWS_KEY,
    cache_chunk_key,
    parse_plan,
)
from ngff_core.records.halo_files import remove_halos
from ngff_core.records.ledger import Ledger
from ngff_core.records.replaceable import check_replaceable, end_replacing, mark_replacing
from ngff_core.records.stored_build import StoredBuild
from ngff_core.records.summary_files import remove_summaries
from ngff_core.storage import ObjectStore, delete_below, for_each, retrying

TargetKind = Literal["free", "resumable", "finished", "other"]


@dataclass(frozen=True)
class TargetState:
    """What is at a target, with what had to be read to find out.

    ``kind`` is ``free`` where there is nothing, ``resumable`` or ``finished`` where there is
    the wanted build, and ``other`` where there is something else that may be overwritten.
    """

    kind: TargetKind
    plan: PyramidPlan | None = None
    """The stored plan, if the wanted build is there."""
    build: StoredBuild | None = None
    """The build with its ledgers loaded, if it is finished."""
    published: Mapping[str, bytes] = field(default_factory=dict)
    """The document that makes it an image, if it is finished."""


def inspect_target(wanted: StoredBuild, overwrite: bool) -> TargetState:
    """What is at the target of the wanted build, whose ledgers are not used.

    A plan that an earlier version made of the same arguments is the wanted build too, unless it
    is to be overwritten.

    Raises TargetExistsError or SourceChangedError where something else is there and
    ``overwrite`` is False, and StoredDataError where its plan cannot be read.
    """
    target, beside = wanted.target, wanted.beside
    document = retrying(beside.read, PLAN_KEY)
    if document is None:
        if retrying(target.is_empty):
            return TargetState("free")
        # Another builder may have begun between the two requests: its plan came first.
        document = retrying(beside.read, PLAN_KEY)
    if document is None:
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
    if existing.digest == wanted.plan.digest or (not overwrite and _is_earlier(existing, wanted)):
        published = published_document(target, existing)
        if published:
            build = StoredBuild.load(target, beside, existing)
            if build.complete:
                return TargetState("finished", existing, build, published)
        return TargetState("resumable", existing)
    if overwrite:
        return TargetState("other")
    raise _mismatch(target.uri, existing, wanted)


def _is_earlier(existing: PyramidPlan, wanted: StoredBuild) -> bool:
    return any(existing.digest == plan.digest for plan in wanted.earlier)


def begin(wanted: StoredBuild, kind: TargetKind) -> bool:
    """Begin a build at its target unless it is there: remove another one, store the plan.

    Returns whether this call stored the plan that is there now.
    """
    if kind == "other":
        remove(wanted.target, wanted.beside)
    return kind in ("other", "free") and retrying(
        wanted.beside.create, PLAN_KEY, wanted.plan.to_json()
    )


def remove(target: ObjectStore, beside: ObjectStore) -> None:
    """Remove a build with all that it wrote; only the lease on it stays.

    The order makes sure that a process killed in between leaves nothing that looks
    complete: the image goes first, then the receipts of what is about to go, and the old plan
    when all is gone.

    Where the store cannot be listed, the plan there says what there is to remove. Raises
    TargetExistsError, and removes nothing, where there is no plan either.
    """
    plan = _removable(target, beside)
    check_replaceable(target, beside)
    if plan is None:
        mark_replacing(target, beside)
    unpublish(target)
    try:
        retrying(beside.delete_tree, LEDGERS)
    except UnlistableError:
        # These ledgers are used for nothing else, so it does not matter whose receipts they
        # would accept.
        phases = [CACHE, *(str(level.index) for level in plan.levels)] if plan else []
        for phase in phases:
            Ledger(beside, phase, "", 0).forget()
    delete_below(target, "", lambda: _keys_of(plan) if plan else ())
    remove_cache(beside)
    remove_halos(beside, plan)
    remove_summaries(beside, plan)
    retrying(beside.delete, WINDOWS_KEY)
    retrying(beside.delete, PLAN_KEY)
    if plan is None:
        end_replacing(target, beside)


def remove_cache(beside: ObjectStore) -> None:
    """Remove the objects of the cache pass."""
    delete_below(beside, CACHE, lambda: _cache_keys(beside))


def _removable(target: ObjectStore, beside: ObjectStore) -> PyramidPlan | None:
    """The plan of what is there, if it can be read.

    Raises TargetExistsError where the target cannot be listed and no plan says what is there.
    """
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
        for position in product(*map(range, grid_shape(level.shape, level.write_unit))):
            yield f"{level.path}/{plan.object_key(position)}"
    yield from array_documents(plan)
    yield from group_documents(plan)


def _cache_keys(beside: ObjectStore) -> Iterator[str]:
    """Every object of a cache, as its array document describes it; the document last."""
    document = retrying(beside.read, CACHE_DOCUMENT)
    if document is None:
        return
    with suppress(ValueError, KeyError, TypeError):
        array = json.loads(document)
        chunks = array["chunk_grid"]["configuration"]["chunk_shape"]
        for position in product(*map(range, grid_shape(array["shape"], chunks))):
            yield cache_chunk_key(position)
    yield CACHE_DOCUMENT


def forget_removed(build: StoredBuild) -> list[str]:
    """Forget the receipts of levels whose arrays were removed; the paths of these levels.

    An array's document is written before its first region, so a level with receipts and no
    document was removed. That one request per level tells a removed target from an
    interrupted build; `verify` finds a single object that is missing.
    """
    begun = [(level, ledger) for level, ledger in build.levels if ledger.receipts]
    name = ARRAY_DOCUMENT[build.plan.zarr_format]
    # Read, rather than asked for: some clients ask three times for an object that is absent.
    documents = for_each(
        build.target,
        lambda path: retrying(build.target.read, f"{path}/{name}"),
        [level.path for level, _ in begun],
    )
    removed = []
    for (level, ledger), document in zip(begun, documents, strict=True):
        if document is None:
            ledger.forget()
            removed.append(level.path)
    return removed


def drop_missing(build: StoredBuild) -> int:
    """Drop the receipts whose objects a listing does not show as recorded; how many."""
    lost: dict[int, set[int]] = {level.index: set() for level in build.plan.levels}
    for finding in find_lost(build):
        if finding.level is not None and finding.region is not None:
            lost[finding.level].add(finding.region)
    for level, ledger in build.levels:
        ledger.drop(lost[level.index])
    return sum(map(len, lost.values()))


def _mismatch(target: str, existing: PyramidPlan, build: StoredBuild) -> NgffError:
    wanted = build.plan
    plans = (wanted, *build.earlier)
    if any(replace(existing, source=wanted.source).digest == plan.digest for plan in plans):
        if existing.source.uri == wanted.source.uri:
            return SourceChangedError(
                f"{wanted.source.uri} has changed since {target} was begun "
                f"({_differences(dict(existing.source.pins), dict(wanted.source.pins))}); "
                "overwrite the target to build it again"
            )
        return TargetExistsError(
            f"{target} was built from {existing.source.uri}, not from {wanted.source.uri}; "
            "choose another target, or overwrite it"
        )
    # Of the plan that is most like it, so that only what the caller chose is named.
    changed = min((_changes(existing, plan) for plan in plans), key=len)
    return TargetExistsError(
        f"{target} holds a build with other options "
        f"({'; '.join(changed) or _NOTHING_CHOSEN}); "
        "give the same options to continue it, choose another target, or overwrite it"
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
        "level_paths": "named" if "/" in base.path else "flat",
        "checksums": plan.checksums,
        "algorithm": plan.algorithm,
    }


_NOTHING_CHOSEN = "the image's description differs"


def _changes(existing: PyramidPlan, wanted: PyramidPlan) -> list[str]:
    return _named_differences(_choices(existing), _choices(wanted))


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    return "; ".join(_named_differences(before, now)) or _NOTHING_CHOSEN


def _named_differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [
        f"{name}: {before.get(name)} there, {now.get(name)} now"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
