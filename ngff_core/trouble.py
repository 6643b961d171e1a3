"""Trouble with storage, whichever client tells of it: its kind, and whether it may pass.

Types and status codes decide, never messages.
"""

from __future__ import annotations

import base64
import errno
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import crc32c

from ngff_core.errors import PassingError

LONGEST_WAIT = 120.0
"""Seconds; a service that asks for more is asked again earlier."""

# What S3 answers with status 400 although the request was sound when it left.
_DAMAGED_ON_THE_WAY = {
    "BadDigest",
    "IncompleteBody",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}

_met: Counter[str] = Counter()
_turn = threading.Lock()


def is_passing(error: BaseException) -> bool:
    """Whether ``error``'s type says that trying again may help."""
    if isinstance(error, PassingError | TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO):
        return True
    if _s3_code(error) in _DAMAGED_ON_THE_WAY:
        return True
    status = http_status(error)
    if status is not None:
        return passing_status(status)
    kinds = (
        _loaded("gcsfs.retry", "ChecksumError"),
        _loaded("aiohttp", "ClientError"),
        _loaded("requests", "RequestException"),
        _loaded("botocore.exceptions", "HTTPClientError"),
        _loaded("botocore.exceptions", "FlexibleChecksumError"),
        _loaded("botocore.exceptions", "IncompleteReadError"),
    )
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def passing_status(status: int) -> bool:
    """Whether a service that answers so may answer otherwise later; 501 is for good."""
    return status in (408, 429) or (status >= 500 and status != 501)


def is_refusal(error: BaseException) -> bool:
    """Whether the service knows us too little, or does not let us."""
    if isinstance(error, PermissionError) or http_status(error) in (401, 403):
        return True
    # gcsfs has no type and no errno for 403, and goes by these words itself.
    return type(error) is OSError and error.errno is None and str(error).startswith("Forbidden")


def http_status(error: BaseException) -> int | None:
    """The status that a service answered, where a client's error keeps it."""
    http = _loaded("gcsfs.retry", "HttpError")
    if http is not None and isinstance(error, http):
        with suppress(TypeError, ValueError):
            return int(getattr(error, "code", None) or 0) or None
    status = _s3_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return None if status is None else int(status)


def retry_after(error: BaseException | None) -> float:
    """Seconds that the service asked to be left alone for, where S3 said so."""
    while error is not None:
        headers = _s3_response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if "retry-after" in headers:
            return seconds_of(headers["retry-after"])
        error = error.__cause__
    return 0.0


def seconds_of(header: str) -> float:
    """A ``Retry-After`` in seconds; its other form, a date, counts as no wish."""
    try:
        return min(max(0.0, float(header)), LONGEST_WAIT)
    except ValueError:
        return 0.0


def kind_of(error: BaseException) -> str:
    """A status or a type's name: what errors are counted by."""
    while isinstance(error, PassingError) and error.__cause__ is not None:
        error = error.__cause__
    status = http_status(error)
    return type(error).__name__ if status is None else str(status)


def note(kind: str) -> None:
    """Count trouble that is about to be passed over."""
    with _turn:
        _met[kind] += 1


def met() -> Counter[str]:
    """Trouble that was passed over since the process began, by kind."""
    with _turn:
        return Counter(_met)


def google_crc32c(data: bytes) -> str:
    """CRC-32C of bytes as Google spells it."""
    return base64.b64encode(int(crc32c.crc32c(data)).to_bytes(4, "big")).decode()


def _s3_code(error: BaseException) -> str | None:
    code = _s3_response(error).get("Error", {}).get("Code")
    return None if code is None else str(code)


def _s3_response(error: BaseException) -> Mapping[str, Any]:
    # s3fs turns botocore's error into an OSError, and keeps it as the cause.
    client = _loaded("botocore.exceptions", "ClientError")
    for found in (error, error.__cause__):
        if client is not None and isinstance(found, client):
            response: Mapping[str, Any] = getattr(found, "response", {})
            return response
    return {}


def _loaded(module: str, name: str) -> type[BaseException] | None:
    # An error of a client that was never imported cannot have been raised.
    found = sys.modules.get(module)
    return getattr(found, name, None)
