"""The folder `TARGET.build`: its names, its plan."""

from __future__ import annotations

from ngff_core.errors import (
    StoredDataError,
    TargetNotFoundError,
)
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.storage import ObjectStore, StorageOptions, open_store, retrying

PLAN_KEY = "plan.json"


def target_stores(
    target: str, storage_options: StorageOptions | None
) -> tuple[ObjectStore, ObjectStore]:
    """The target's store, and the one beside it for plan, lease, ledger and cache."""
    return open_store(target, storage_options), open_store(f"{target}.build", storage_options)


def read_plan(target: ObjectStore, beside: ObjectStore) -> PyramidPlan:
    document = retrying(beside.read, PLAN_KEY)
    if document is None:
        raise TargetNotFoundError(f"{target.uri} has no build: there is no {beside.uri}/{PLAN_KEY}")
    return parse_plan(beside, document)


def parse_plan(beside: ObjectStore, document: bytes) -> PyramidPlan:
    try:
        return PyramidPlan.from_json(document)
    except StoredDataError as error:
        raise StoredDataError(
            f"{beside.uri}/{PLAN_KEY}: {error}; overwrite the target to build it anew"
        ) from error
