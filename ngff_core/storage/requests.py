"""Many requests to a store: side by side where each of them takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from ngff_core.errors import UnlistableError
from ngff_core.storage.base import ObjectInfo, ObjectStore
from ngff_core.storage.retry import retrying

_AT_ONCE = 16


def look_up(store: ObjectStore, keys: Iterable[str]) -> dict[str, ObjectInfo]:
    """Those of the objects that are there, asked for one by one, some at once."""
    keys = list(keys)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ngff-look") as executor:
        infos = executor.map(lambda key: retrying(store.info, key), keys)
        return {key: info for key, info in zip(keys, infos, strict=True) if info is not None}


def delete_below(store: ObjectStore, prefix: str, known: Callable[[], Iterable[str]]) -> None:
    """Remove every object below ``prefix``; where the store cannot list, those ``known``."""
    try:
        retrying(store.delete_tree, prefix)
    except UnlistableError:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ngff-delete") as executor:
            for _ in executor.map(lambda key: retrying(store.delete, key), known()):
                pass


def for_each[T, R](store: ObjectStore, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``work`` on each of ``items``, side by side as far as the store is far away; in order."""
    if store.at_once == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(store.at_once, thread_name_prefix="ngff-requests") as executor:
        # Threads have a context of their own, and retries are counted by the caller's.
        futures = [executor.submit(copy_context().run, work, item) for item in items]
        return [future.result() for future in futures]


def both[A, B](store: ObjectStore, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Two looks at a store, side by side where it is far away."""
    works: tuple[Callable[[], Any], ...] = (first, second)
    found = for_each(store, lambda work: work(), works)
    return found[0], found[1]
