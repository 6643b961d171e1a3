"""Many requests to a store: how many are in flight, their order, and whose retries they are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngff_core.config import config
from ngff_core.errors import UnlistableError
from ngff_core.storage import Bucket, LocalFiles, ObjectInfo, open_store
from ngff_core.storage.requests import IN_FLIGHT, both, delete_below, for_each, look_up
from ngff_core.storage.retry import counting_retries, one_budget, retrying
from tests.core.storage.conftest import Pauses
from tests.core.storage.failures import always_fails, fails


@pytest.fixture
def bucket(memory_filesystem: Any) -> Bucket:
    store = open_store("memory://requests")
    assert isinstance(store, Bucket)
    return store


class Turnstile:
    """Work that waits until ``together`` calls are in flight, and counts the most there were."""

    def __init__(self, together: int) -> None:
        self._barrier = threading.Barrier(together)
        self._lock = threading.Lock()
        self._inside = self.most = 0

    def __call__(self, item: Any = None) -> Any:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        try:
            self._barrier.wait(timeout=60)
            return item
        finally:
            with self._lock:
                self._inside -= 1


def test_a_remote_store_has_eight_requests_in_flight(bucket: Bucket) -> None:
    """No fewer, or each would wait for the latency of others; no more, whatever the store."""
    work = Turnstile(8)
    assert for_each(bucket, work, range(32)) == list(range(32))
    assert work.most == bucket.at_once == 8


def test_local_files_have_one_at_a_time(tmp_path: Path) -> None:
    """In the caller's own thread: they have no latency that others could use."""
    store = LocalFiles(tmp_path)
    threads = for_each(store, lambda _: threading.current_thread(), range(4))
    assert set(threads) == {threading.current_thread()}
    assert store.at_once == 1


def test_look_ups_have_sixteen_in_flight(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """And give the objects that exist, in the order of the keys."""
    work = Turnstile(16)
    keys = [f"key {i}" for i in range(32)]

    def info(key: str) -> ObjectInfo | None:
        work()
        return None if key == "key 7" else ObjectInfo(int(key[4:]), "")

    monkeypatch.setattr(bucket, "info", info)
    found = look_up(bucket, iter(reversed(keys)))
    assert list(found) == [key for key in reversed(keys) if key != "key 7"]
    assert found["key 3"].size == 3
    assert work.most == IN_FLIGHT == 16


def test_two_requests_are_made_together(bucket: Bucket, tmp_path: Path) -> None:
    """At a remote store; one after the other on local files."""
    together = Turnstile(2)
    assert both(bucket, lambda: together("a"), lambda: together("b")) == ("a", "b")
    order: list[str] = []
    both(LocalFiles(tmp_path), lambda: order.append("a"), lambda: order.append("b"))
    assert order == ["a", "b"]


@pytest.mark.parametrize("kind", ["bucket", "local"])
def test_a_failed_request_is_raised(kind: str, bucket: Bucket, tmp_path: Path) -> None:
    store = bucket if kind == "bucket" else LocalFiles(tmp_path)

    def work(item: int) -> int:
        if item == 3:
            raise FileNotFoundError("item 3")
        return item

    with pytest.raises(FileNotFoundError, match="item 3"):
        for_each(store, work, range(6))


def test_retries_in_threads_are_the_callers(
    bucket: Bucket, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted where the caller counts, and spend the caller's budget."""
    monkeypatch.setattr(config, "region_retries", 4)
    works = [fails(1), fails(1), fails(0)]
    monkeypatch.setattr(bucket, "info", lambda key: works[2 + int(key)](None))
    works += [fails(1), fails(1)]
    counter = Counter[str]()
    with counting_retries(counter), one_budget() as budget:
        for_each(bucket, retrying, works[:3])
        look_up(bucket, ["1", "2"])
        assert budget.is_spent
        with pytest.raises(TimeoutError):
            for_each(bucket, retrying, [always_fails()])
    assert counter == {"TimeoutError": 4}


class Tree(LocalFiles):
    """A store that may refuse to list, and that counts what is deleted."""

    listing = True
    failures = 1

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.deleted: list[str] = []

    def delete_tree(self, prefix: str = "") -> None:
        if self.failures:
            self.failures -= 1
            raise TimeoutError
        if not self.listing:
            raise UnlistableError("no")
        self.deleted.append(f"{prefix}/**")

    def delete(self, key: str) -> None:
        if key == "a/2" and key not in self.deleted:
            self.deleted.append(key)
            raise TimeoutError
        self.deleted.append(key)


def test_a_tree_is_deleted_by_listing_it(tmp_path: Path, pauses: Pauses) -> None:
    """No key is needed then; a transient error is retried."""
    store = Tree(tmp_path)
    delete_below(store, "a", lambda: pytest.fail("not needed"))
    assert store.deleted == ["a/**"]
    assert len(pauses.taken) == 1


def test_a_tree_that_cannot_be_listed_is_deleted_by_name(tmp_path: Path, pauses: Pauses) -> None:
    """Each known key, again after a transient error."""
    store = Tree(tmp_path)
    store.listing = False

    def known() -> Iterator[str]:
        yield from ("a/1", "a/2", "a/3")

    delete_below(store, "a", known)
    assert sorted(store.deleted) == ["a/1", "a/2", "a/2", "a/3"]
