"""What the emulators let their clients do. A bucket that may not be listed behaves like
a real one: it answers a listing and a request for an absent object in the same way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_closed: set[str] = set()
_owners = threading.Event()


def close(bucket: str) -> None:
    """From now on ``bucket`` is not listed."""
    _closed.add(bucket)


def may_list(bucket: str) -> bool:
    """Whether clients may list a bucket now."""
    return _owners.is_set() or bucket not in _closed


@contextmanager
def owner() -> Iterator[None]:
    """Inside, every bucket may be listed, as by its owner."""
    _owners.set()
    try:
        yield
    finally:
        _owners.clear()
