"""A local store that notes its requests, and fails those that a test names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from ngff_core.errors import UnlistableError
from ngff_core.storage import Entry, LocalFiles, ObjectInfo


class WatchedStore(LocalFiles):
    """A folder, with every request to it in ``asked`` as ``"write c/0/0"``.

    ``fail("write c/*", error, times=2)`` makes the next two such requests raise ``error``.
    ``at_once`` is how many requests the store takes together, as for a bucket; with
    ``listed=False`` it cannot be listed.
    """

    def __init__(self, root: Path, *, at_once: int = 1, listed: bool = True) -> None:
        super().__init__(root)
        self.at_once = at_once
        self.listed = listed
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda request: None
        self._script: list[tuple[str, Iterator[BaseException]]] = []

    def fail(self, requests: str, error: BaseException, times: int = 1) -> None:
        """Raise ``error`` in place of the next ``times`` requests that match a pattern."""
        self._script.append((requests, iter([error] * times)))

    def requests(self, pattern: str = "*") -> list[str]:
        """The requests so far that match, in their order."""
        return [request for request in self.asked if fnmatch(request, pattern)]

    @property
    def kinds(self) -> Counter[str]:
        """How many requests of each kind there were."""
        return Counter(request.partition(" ")[0] for request in self.asked)

    def _ask(self, kind: str, key: str) -> None:
        request = f"{kind} {key}"
        self.asked.append(request)
        self.before(request)
        for pattern, errors in self._script:
            if fnmatch(request, pattern):
                error = next(errors, None)
                if error is not None:
                    raise error

    def read(self, key: str) -> bytes | None:
        self._ask("read", key)
        return super().read(key)

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        self._ask("read_part", key)
        return super().read_part(key, start, size)

    def write(self, key, data):  # type: ignore[no-untyped-def]
        self._ask("write", key)
        super().write(key, data)

    def create(self, key, data):  # type: ignore[no-untyped-def]
        self._ask("create", key)
        return super().create(key, data)

    def delete(self, key: str) -> None:
        self._ask("delete", key)
        super().delete(key)

    def delete_tree(self, prefix: str = "") -> None:
        self._list("delete_tree", prefix)
        super().delete_tree(prefix)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        self._list("objects", prefix)
        return super().objects(prefix)

    def info(self, key: str) -> ObjectInfo | None:
        self._ask("info", key)
        return super().info(key)

    def folder(self, prefix: str = "") -> dict[str, Entry]:
        self._list("folder", prefix)
        return super().folder(prefix)

    def entry(self, key: str) -> Entry | None:
        self._ask("entry", key)
        return super().entry(key)

    def open(self, key: str) -> BinaryIO:
        self._ask("open", key)
        return super().open(key)

    def is_empty(self) -> bool:
        self._ask("is_empty", "")
        return super().is_empty()

    def sweep(self, prefix: str = "") -> None:
        self.asked.append(f"sweep {prefix}")

    def _list(self, kind: str, prefix: str) -> None:
        self._ask(kind, prefix)
        if not self.listed:
            raise UnlistableError(f"{self.uri} cannot be listed")
