"""Google Cloud Storage through gcsfs. Only this file uses private parts of gcsfs.

Tried with gcsfs 2026.10.1 and aiohttp 3.14.5. `tests/core/storage/test_compat.py` checks each
assumption. Imported only when a ``gs://`` URI is opened: importing gcsfs takes a second.
"""

from __future__ import annotations

import time
from typing import Any

import aiohttp

# gcsfs's default class asks each bucket for its layout over gRPC. Where that port cannot be
# reached, every operation waits a minute.
from gcsfs.core import GCSFileSystem
from gcsfs.retry import ChecksumError

from ngff_core.storage.checksums import google_crc32c
from ngff_core.storage.retry import request_pause, retrying_request
from ngff_core.storage.transient import credentials_expired, is_transient_status, seconds_of

# gcsfs sets no timeout: a stalled connection would hang for ever.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)

# Without gcsfs's own retries, which also retry a missing permission for half a minute.
_request_once = GCSFileSystem._request.__wrapped__

_RENEWAL_SECONDS = 5.0


class GoogleFiles(GCSFileSystem):  # type: ignore[misc] # gcsfs has no annotations
    """gcsfs with timeouts, ``Retry-After`` and checksums, and with no retries but our own.

    Each request is retried by `ngff_core.storage.retry` and by nothing else.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"requests_timeout": _TIMEOUT} | options)
        session: dict[str, Any] = dict(options.get("session_kwargs") or {})
        session["middlewares"] = (*session.get("middlewares", ()), _inspect_response)
        self.session_kwargs = session
        self._renewed_at = 0.0

    async def _request(self, *args: Any, **kwargs: Any) -> Any:
        async def once() -> Any:
            request_pause(0.0)
            try:
                return await _request_once(self, *args, **kwargs)
            except Exception as error:
                if credentials_expired(error):
                    self._drop_token()
                raise

        return await retrying_request(once)

    def _drop_token(self) -> None:
        """Make gcsfs get another token before the next request, if it can."""
        own: Any = getattr(self.credentials, "credentials", None)
        renewable = own is not None and getattr(own, "refresh_token", own) is not None
        # Of many requests in flight with the old token, only the first one drops it.
        if renewable and time.monotonic() > self._renewed_at + _RENEWAL_SECONDS:
            self._renewed_at = time.monotonic()
            own.token = None


def open_google(uri: str, options: dict[str, Any]) -> tuple[GoogleFiles, str]:
    """The filesystem for a GCS URI, and the path in it: ``BUCKET/KEY``."""
    return GoogleFiles(**options), str(GoogleFiles._strip_protocol(uri))


async def _inspect_response(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Middleware of aiohttp: checks checksums, and notes how long the service asks to wait."""
    response = await handler(request)
    if response.status == 200:
        await _check_checksum(response)
    if is_transient_status(response.status):
        request_pause(seconds_of(response.headers.get("Retry-After", "0")))
    return response


async def _check_checksum(response: aiohttp.ClientResponse) -> None:
    """Read a complete object and compare it with the checksum sent along.

    Raises gcsfs's ChecksumError, which is transient, if they differ.
    """
    headers = response.headers
    sums = dict(part.strip().partition("=")[::2] for part in _hashes(headers))
    # The checksum is of the stored bytes: of no use if those are compressed and these are not.
    packed = headers.get("X-Goog-Stored-Content-Encoding", "identity") != "identity"
    if "crc32c" not in sums or packed or "Content-Encoding" in headers:
        return
    if google_crc32c(await response.read()) != sums["crc32c"]:
        raise ChecksumError(f"{response.url.path} was damaged on its way from the service")


def _hashes(headers: Any) -> list[str]:
    return [part for line in headers.getall("X-Goog-Hash", ()) for part in line.split(",")]
