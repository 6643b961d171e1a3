"""Scripted failures: work that fails as often as a test says, and errors of each client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import botocore.exceptions
import gcsfs.retry
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL


@dataclass
class Scripted:
    """Work that raises ``errors`` one after the other, and then returns its argument.

    With ``forever`` the last error is raised again and again. ``calls`` counts all calls.
    """

    errors: list[BaseException] = field(default_factory=list)
    forever: bool = False
    calls: int = 0

    def __call__(self, value: Any = "done") -> Any:
        self.calls += 1
        if self.calls <= len(self.errors):
            raise self.errors[self.calls - 1]
        if self.forever:
            raise self.errors[-1]
        return value

    async def request(self) -> Any:
        return self()


def fails(times: int, error: type[Exception] = TimeoutError) -> Scripted:
    """Work that fails this often, each time with another error, and then succeeds."""
    return Scripted([error(f"failure {i}") for i in range(times)])


def always_fails(error: BaseException | None = None) -> Scripted:
    return Scripted([error or TimeoutError("always")], forever=True)


def google_error(status: Any) -> Exception:
    return gcsfs.retry.HttpError({"code": status, "message": "no"})  # type: ignore[no-any-return]


def web_error(status: int) -> Exception:
    """aiohttp's error for an answer with this status."""
    url = URL("http://localhost/x")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientResponseError(info, (), status=status)


def s3_error(
    status: int | None = None, code: str = "", headers: Mapping[str, str] | None = None
) -> Exception:
    """botocore's error for an answer with this status, S3 code and headers."""
    metadata: dict[str, Any] = {"HTTPHeaders": dict(headers or {})}
    if status is not None:
        metadata["HTTPStatusCode"] = status
    answer: Any = {"ResponseMetadata": metadata, "Error": {"Code": code} if code else {}}
    return botocore.exceptions.ClientError(answer, "GetObject")


def caused_by(error: BaseException, cause: BaseException) -> BaseException:
    """``error``, as it is when raised from ``cause``."""
    error.__cause__ = cause
    return error
