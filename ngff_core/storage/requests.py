"""Many requests to a store: in parallel where each of them has a latency."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from ngff_core.errors import UnlistableError
from ngff_core.storage.base import ObjectInfo, ObjectStore
from ngff_core.storage.retry import retrying

IN_FLIGHT = 16
"""Small requests (look-ups, deletions) to have in flight together."""


def look_up(store: ObjectStore, keys: Iterable[str]) -> dict[str, ObjectInfo]:
    """Look up objects by key, without listing. The result has those that exist, in order."""
    keys = list(keys)
    infos = _in_parallel(IN_FLIGHT, lambda key: retrying(store.info, key), keys)
    return {key: info for key, info in zip(keys, infos, strict=True) if info is not None}


def delete_below(store: ObjectStore, prefix: str, known: Callable[[], Iterable[str]]) -> None:
    """Delete every object below ``prefix``; if the store cannot list, the ``known`` keys."""
    try:
        retrying(store.delete_tree, prefix)
    except UnlistableError:
        _in_parallel(IN_FLIGHT, lambda key: retrying(store.delete, key), known())


def for_each[T, R](store: ObjectStore, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call ``work`` on each item, ``store.at_once`` in parallel; the results are in order.

    A failed call raises here, after all others have ended.
    """
    if store.at_once == 1:
        return [work(item) for item in items]
    return _in_parallel(store.at_once, work, items)


def both[A, B](store: ObjectStore, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """The results of two requests to a store, made in parallel as `for_each` does."""
    works: tuple[Callable[[], Any], ...] = (first, second)
    results = for_each(store, lambda work: work(), works)
    return results[0], results[1]


def _in_parallel[T, R](threads: int, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(threads, thread_name_prefix="ngff-requests") as executor:
        # A thread starts with an empty context; retries are counted in the caller's.
        futures = [executor.submit(copy_context().run, work, item) for item in items]
        return [future.result() for future in futures]
