"""Google Cloud Storage: tokens that expire, pauses that are asked for, and checksums."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import gcsfs.retry
import pytest
from multidict import CIMultiDict

from ngff_core.storage import gcs, retry
from ngff_core.storage.gcs import GoogleFiles
from tests.core.storage.conftest import Pauses
from tests.core.storage.failures import google_error


@pytest.fixture
def google() -> GoogleFiles:
    return GoogleFiles(token="anon", skip_instance_cache=True)


def test_expired_tokens_are_dropped_once(
    google: GoogleFiles, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcsfs gets another one where ``token`` is None; of many failing requests one is enough."""
    monkeypatch.setattr(gcs, "time", SimpleNamespace(monotonic=lambda: pauses.now))
    own = SimpleNamespace(token="old", refresh_token="r")
    google.credentials.credentials = own
    google._drop_token()
    assert own.token is None
    own.token = "new"
    pauses.now += 4
    google._drop_token()
    assert own.token == "new"
    pauses.now += 4
    google._drop_token()
    assert own.token is None


@pytest.mark.parametrize("own", [None, SimpleNamespace(token="given", refresh_token=None)])
def test_a_token_that_cannot_be_renewed_is_kept(google: GoogleFiles, own: Any) -> None:
    """As one that the caller gave as a text."""
    google.credentials.credentials = own
    google._drop_token()
    assert own is None or own.token == "given"


def test_an_expired_token_is_dropped_before_the_retry(
    google: GoogleFiles, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = SimpleNamespace(token="old")
    google.credentials.credentials = own
    seen: list[str | None] = []

    async def once(*_: Any) -> str:
        seen.append(own.token)
        if own.token is not None:
            raise google_error(401)
        return "answer"

    monkeypatch.setattr(gcs, "_request_once", once)
    assert asyncio.run(google._request("GET", "x")) == "answer"
    assert seen == ["old", None]


class Response:
    """aiohttp's response, as far as the middleware looks at it."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.status, self._body, self.headers = status, body, CIMultiDict(named)
        self.url = SimpleNamespace(path="/lab/key")

    async def read(self) -> bytes:
        return self._body


def answer(response: Response) -> Any:
    async def handler(_: Any) -> Any:
        return response

    async def main() -> float:
        assert await gcs._inspect_response(None, handler) is response  # type: ignore[arg-type]
        return retry.requested_pause(None)

    return asyncio.run(main())


def test_the_pause_that_google_asks_for_is_noted() -> None:
    """For the request at hand, where the answer is one to retry."""
    assert answer(Response(503, Retry_After="7")) == 7
    assert answer(Response(429, Retry_After="7000")) == 120
    assert answer(Response(503)) == 0
    assert answer(Response(200, Retry_After="7")) == 0
    assert answer(Response(501, Retry_After="7")) == 0


def test_whole_objects_are_compared_with_their_checksum() -> None:
    """Not parts, and not bytes that were unpacked on the way: the checksum is of others."""
    good = {"X_Goog_Hash": "crc32c=4waSgw==,md5=abc"}
    bad = {"X_Goog_Hash": "md5=abc, crc32c=AAAAAA=="}
    for status, headers in (
        (200, good),
        (200, {}),
        (200, {"X_Goog_Hash": "md5=abc"}),
        (206, bad),
        (200, {**bad, "X_Goog_Stored_Content_Encoding": "gzip"}),
        (200, {**bad, "Content_Encoding": "gzip"}),
    ):
        answer(Response(status, b"123456789", **headers))
    for headers in (bad, {**bad, "X_Goog_Stored_Content_Encoding": "identity"}):
        with pytest.raises(gcsfs.retry.ChecksumError, match="/lab/key was damaged"):
            answer(Response(200, b"123456789", **headers))
