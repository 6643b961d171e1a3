"""Google Cloud Storage by gcsfs, with what gcsfs leaves out.

Imported where a ``gs://`` URI is opened: gcsfs takes a second.
"""

from __future__ import annotations

import time
from typing import Any

import aiohttp

# gcsfs's default class asks each bucket for its layout by gRPC, and where that port cannot
# be reached every operation waits a minute.
from gcsfs.core import GCSFileSystem
from gcsfs.retry import ChecksumError

from ngff_core.storage.base import google_crc32c
from ngff_core.storage.retry import ask_for_pause, retrying_request
from ngff_core.storage.transient import is_transient_status, seconds_of, was_expired

# gcsfs sets none by itself: a stalled connection would hang for ever.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)

# Without gcsfs's own retries, which also try a refused permission again for half a minute.
_request_once = GCSFileSystem._request.__wrapped__

_RENEWAL_SECONDS = 5.0


class GoogleFiles(GCSFileSystem):  # type: ignore[misc] # gcsfs has no annotations
    """gcsfs with timeouts, that waits as long as it is told and compares checksums.

    Each request is tried again as `ngff_core.storage.retry` says, by nobody else.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"requests_timeout": _TIMEOUT} | options)
        given: dict[str, Any] = dict(options.get("session_kwargs") or {})
        given["middlewares"] = (*given.get("middlewares", ()), _watch)
        self.session_kwargs = given
        self._renewed_at = 0.0

    async def _request(self, *args: Any, **kwargs: Any) -> Any:
        async def once() -> Any:
            ask_for_pause(0.0)
            try:
                return await _request_once(self, *args, **kwargs)
            except Exception as error:
                if was_expired(error):
                    self._distrust_token()
                raise

        return await retrying_request(once)

    def _distrust_token(self) -> None:
        """Have gcsfs get another token before the next request, where it can."""
        own: Any = getattr(self.credentials, "credentials", None)
        renewable = own is not None and getattr(own, "refresh_token", own) is not None
        # Of many requests under way at once with the old token the first one is enough.
        if renewable and time.monotonic() > self._renewed_at + _RENEWAL_SECONDS:
            self._renewed_at = time.monotonic()
            own.token = None


async def _watch(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    response = await handler(request)
    if response.status == 200:
        await _compare(response)
    if is_transient_status(response.status):
        ask_for_pause(seconds_of(response.headers.get("Retry-After", "0")))
    return response


async def _compare(response: aiohttp.ClientResponse) -> None:
    """Read a whole object and hold it against the checksum sent with it."""
    headers = response.headers
    sums = dict(part.strip().partition("=")[::2] for part in _hashes(headers))
    # Of what is stored compressed and sent unpacked the checksum is another.
    packed = headers.get("X-Goog-Stored-Content-Encoding", "identity") != "identity"
    if "crc32c" not in sums or packed or "Content-Encoding" in headers:
        return
    if google_crc32c(await response.read()) != sums["crc32c"]:
        raise ChecksumError(f"{response.url.path} arrived damaged")


def _hashes(headers: Any) -> list[str]:
    return [part for line in headers.getall("X-Goog-Hash", ()) for part in line.split(",")]
