"""Publishing: arrays' documents first, the group's own document last.

Until that last document is there, no reader takes the store for an image.
"""

from __future__ import annotations

from ngff_core.arrays import array_documents, same_document
from ngff_core.metadata import group_documents
from ngff_core.plan import PyramidPlan
from ngff_core.store import Store, for_each, retrying


def create_arrays(store: Store, plan: PyramidPlan) -> None:
    """Put the documents of arrays and inner groups; doing it again puts the same bytes."""

    def put(item: tuple[str, bytes]) -> None:
        retrying(store.write, *item)

    for_each(store, put, array_documents(plan).items())


def publish(store: Store, plan: PyramidPlan) -> None:
    """Put the group's documents, the one that makes it an image last."""
    for key, document in group_documents(plan).items():
        retrying(store.write, key, document)


def is_published(store: Store, plan: PyramidPlan) -> bool:
    """Whether the store is an image, and the plan's."""
    key, document = list(group_documents(plan).items())[-1]
    return same_document(retrying(store.read, key), document)


def unpublish(store: Store) -> None:
    """Make the store no image any more; its arrays stay."""
    for key in ("zarr.json", ".zattrs", ".zgroup", ".zmetadata"):
        retrying(store.delete, key)
