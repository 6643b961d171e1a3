"""A scripted service behind a `Bucket`: its answers and its errors, without any network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ngff_core.storage import Bucket


@dataclass
class Service:
    """An fsspec filesystem with a script: answers, or errors to raise, for each method in turn.

    A method without a script answers with nothing. ``calls`` has each method and its path.
    """

    protocol: Any = "gs"
    script: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)

    def __getattr__(self, method: str) -> Any:
        def call(path: Any = None, *args: Any, **options: Any) -> Any:
            if method == "invalidate_cache":
                return None
            self.calls.append((method, path))
            self.options.append(options | ({"data": args[0]} if args else {}))
            answers = self.script.get(method, [])
            answer = answers.pop(0) if len(answers) > 1 else answers[0] if answers else None
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def count(self, method: str) -> int:
        return sum(name == method for name, _ in self.calls)


def opened(protocol: Any = "gs", **script: Any) -> tuple[Bucket, Service]:
    """A bucket, and the service behind it. An answer that is no list is given each time."""
    answers = {
        name: given if isinstance(given, list) else [given] for name, given in script.items()
    }
    service = Service(protocol, answers)
    return Bucket(service, "lab/a/", "gs://lab/a/"), service


def refused() -> PermissionError:
    return PermissionError("no permission")


def info(size: int = 3, kind: str = "file", **more: Any) -> dict[str, Any]:
    return {"name": "lab/a/key", "size": size, "type": kind, "generation": "7", **more}
