"""The target and what stands beside it: whose it is, and taking it over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ngff_core.arrays import ARRAY_DOCUMENT
from ngff_core.errors import (
    NgffError,
    SourceChangedError,
    StoredDataError,
    TargetExistsError,
    TargetNotFoundError,
)
from ngff_core.ledger import Ledger
from ngff_core.plan import PyramidPlan
from ngff_core.publish import is_published, unpublish
from ngff_core.store import StorageOptions, Store, for_each, open_store, retrying
from ngff_core.verify import find_lost

PLAN_KEY = "plan.json"

TargetState = Literal["free", "ours", "finished", "foreign"]


def target_stores(target: str, storage_options: StorageOptions | None) -> tuple[Store, Store]:
    """The target's store, and the one beside it for plan, lease, ledger and cache."""
    return open_store(target, storage_options), open_store(f"{target}.build", storage_options)


@dataclass(frozen=True)
class Found:
    """What is at a target: of a build of ours its plan, if finished its ledgers: read once."""

    state: TargetState
    plan: PyramidPlan | None = None
    ledgers: tuple[Ledger, ...] = ()


def target_state(target: Store, beside: Store, plan: PyramidPlan, overwrite: bool) -> TargetState:
    """``free``, ``ours``, ``finished``, or ``foreign`` where it may be overwritten."""
    return look_at(target, beside, plan, overwrite).state


def look_at(target: Store, beside: Store, plan: PyramidPlan, overwrite: bool) -> Found:
    """The same, with what had to be read to know it."""
    document = retrying(beside.read, PLAN_KEY)
    if document is None:
        if retrying(target.is_empty):
            return Found("free")
        if overwrite:
            return Found("foreign")
        raise TargetExistsError(
            f"{target.uri} exists and was not built by ngff-flows; "
            "choose another target, or overwrite it"
        )
    try:
        existing = _parse_plan(beside, document)
    except StoredDataError:
        if overwrite:
            return Found("foreign")
        raise
    if existing.digest == plan.digest:
        ledgers = tuple(load_ledgers(beside, plan)) if is_published(target, existing) else ()
        if ledgers and all(ledger.complete for ledger in ledgers):
            return Found("finished", existing, ledgers)
        return Found("ours", existing)
    if overwrite:
        return Found("foreign")
    raise _mismatch(target.uri, existing, plan)


def begin(target: Store, beside: Store, plan: PyramidPlan, state: TargetState) -> bool:
    """Make the target this plan's: what is foreign is removed, the plan is put down.

    Whether the plan that is there now is the one that was put down just now.
    """
    if state == "foreign":
        remove(target, beside)
    return state in ("foreign", "free") and retrying(beside.create, PLAN_KEY, plan.to_json())


def remove(target: Store, beside: Store) -> None:
    """Remove a build with all that it wrote; only the lease on it stays.

    In this order a kill leaves nothing that passes for whole: no image first, no receipts
    for what is about to go, and the old plan until all is gone.
    """
    unpublish(target)
    retrying(beside.delete_tree, "ledger")
    retrying(target.delete_tree)
    retrying(beside.delete_tree, "cache")
    retrying(beside.delete, PLAN_KEY)


def forget_removed(store: Store, plan: PyramidPlan, ledgers: Sequence[Ledger]) -> list[str]:
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


def drop_missing(store: Store, plan: PyramidPlan, ledgers: Sequence[Ledger]) -> int:
    """Take back the receipts whose objects a listing does not show as recorded; how many."""
    lost: dict[int, set[int]] = {level.index: set() for level in plan.levels}
    for finding in find_lost(store, plan, ledgers):
        if finding.level is not None and finding.region is not None:
            lost[finding.level].add(finding.region)
    for level, ledger in zip(plan.levels, ledgers, strict=True):
        ledger.drop(lost[level.index])
    return sum(map(len, lost.values()))


def read_plan(target: Store, beside: Store) -> PyramidPlan:
    document = retrying(beside.read, PLAN_KEY)
    if document is None:
        raise TargetNotFoundError(f"{target.uri} has no build: there is no {beside.uri}/{PLAN_KEY}")
    return _parse_plan(beside, document)


def _parse_plan(beside: Store, document: bytes) -> PyramidPlan:
    try:
        return PyramidPlan.from_json(document)
    except StoredDataError as error:
        raise StoredDataError(
            f"{beside.uri}/{PLAN_KEY}: {error}; overwrite the target to build it anew"
        ) from error


def load_ledgers(beside: Store, plan: PyramidPlan) -> list[Ledger]:
    ledgers = new_ledgers(beside, plan)
    for_each(beside, Ledger.load, ledgers)
    return ledgers


def new_ledgers(beside: Store, plan: PyramidPlan) -> list[Ledger]:
    """Those of a build that has just been begun, of which nothing is stored."""
    return [Ledger(beside, str(level.index), plan.digest, level.regions) for level in plan.levels]


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
