"""Google Cloud Storage by gcsfs, with what gcsfs leaves out.

Imported where a ``gs://`` URI is opened: gcsfs takes a second.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

# gcsfs's default class asks each bucket for its layout by gRPC, and where that port cannot
# be reached every operation waits a minute.
from gcsfs.core import GCSFileSystem
from gcsfs.retry import ChecksumError

from ngff_core.trouble import google_crc32c, note, passing_status, seconds_of

# gcsfs sets none by itself: a stalled connection would hang for ever.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


class GoogleFiles(GCSFileSystem):  # type: ignore[misc] # gcsfs has no annotations
    """gcsfs with timeouts, that waits as long as it is told and compares checksums.

    Trouble that gcsfs passes over is counted by kind (`ngff_core.trouble.met`).
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"requests_timeout": _TIMEOUT} | options)
        given: dict[str, Any] = dict(options.get("session_kwargs") or {})
        given["middlewares"] = (*given.get("middlewares", ()), _watch)
        self.session_kwargs = given


async def _watch(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    try:
        response = await handler(request)
        if response.status == 200:
            await _compare(response)
    except (aiohttp.ClientError, TimeoutError, ChecksumError) as error:
        note(type(error).__name__)
        raise
    if passing_status(response.status):
        note(str(response.status))
        await asyncio.sleep(seconds_of(response.headers.get("Retry-After", "0")))
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
