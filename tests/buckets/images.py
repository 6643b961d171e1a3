"""A small image, the options of its builds, and the objects that such a build stores."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ngff_core.storage import StorageOptions, open_store
from tests.servers import policies

OPTIONS: dict[str, Any] = {
    "method": "itkwasm_bin_shrink",
    "chunks": 16,
    "shards": 32,
    "scale_factors": [2],
    "workers": 2,
}
REGIONS = [9, 4]
"""Regions of each of the two levels, with these options."""


def pixels() -> np.ndarray[Any, Any]:
    """Noise on a slope: no two chunks are equal."""
    shape = (20, 96, 80)
    noise = np.random.default_rng(7).integers(0, 99, shape)
    return (np.arange(np.prod(shape)).reshape(shape) // 3 + noise).astype("u2")


def stored(target: str, storage_options: StorageOptions | None = None) -> dict[str, Any]:
    """Objects of a target by key, and its complete ledgers without the digest of the plan."""
    store = open_store(target, storage_options)
    beside = open_store(f"{target}.build", storage_options)
    found: dict[str, Any] = {key: store.read(key) for key in keys(target, storage_options)}
    with policies.owner():
        receipts = beside.objects("ledger")
    for key in receipts:
        document = beside.read(key)
        assert document is not None
        found[f"beside: {key}"] = [json.loads(row) for row in document.splitlines()[1:]]
    return found


def keys(uri: str, storage_options: StorageOptions | None = None) -> list[str]:
    """Keys below a prefix, as the owner of the bucket sees them."""
    with policies.owner():
        return list(open_store(uri, storage_options).objects())


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare key by key: the bytes themselves would make no readable message."""
    assert sorted(found) == sorted(expected)
    assert [key for key in found if found[key] != expected[key]] == []
