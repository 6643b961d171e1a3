"""Trouble with storage, whichever client tells of it: its kind, and whether it may pass.

Types and status codes decide, never messages.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ngff_core.errors import TransientError

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

# Of a token that was good when the client took it. 401 is what others answer then.
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}


def is_transient(error: BaseException) -> bool:
    """Whether ``error``'s type says that trying again may help."""
    if isinstance(error, TransientError | TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO):
        return True
    if _s3_code(error) in _DAMAGED_ON_THE_WAY:
        return True
    status = http_status(error)
    if status is not None:
        return is_transient_status(status)
    kinds = (
        _loaded("gcsfs.retry", "ChecksumError"),
        _loaded("aiohttp", "ClientError"),
        _loaded("google.auth.exceptions", "TransportError"),
        _loaded("requests", "RequestException"),
        _loaded("botocore.exceptions", "ConnectionError"),
        _loaded("botocore.exceptions", "HTTPClientError"),
        _loaded("botocore.exceptions", "FlexibleChecksumError"),
        _loaded("botocore.exceptions", "IncompleteReadError"),
        # Some gateways send half an answer where they ask for patience.
        _loaded("botocore.parsers", "ResponseParserError"),
    )
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def is_transient_status(status: int) -> bool:
    """Whether a service that answers so may answer otherwise later; 501 is for good."""
    return status in (408, 429) or (status >= 500 and status != 501)


def is_refusal(error: BaseException) -> bool:
    """Whether the service knows us too little, or does not let us."""
    if isinstance(error, PermissionError) or http_status(error) in (401, 403):
        return True
    # gcsfs has no type and no errno for 403, and goes by these words itself.
    return type(error) is OSError and error.errno is None and str(error).startswith("Forbidden")


def was_expired(error: BaseException) -> bool:
    """Whether the service took the credentials for expired; another token may do."""
    return http_status(error) == 401 or _s3_code(error) in _EXPIRED


def http_status(error: BaseException) -> int | None:
    """The status that a service answered, where a client's error keeps it."""
    http = _loaded("gcsfs.retry", "HttpError")
    if http is not None and isinstance(error, http):
        with suppress(TypeError, ValueError):
            return int(getattr(error, "code", None) or 0) or None
    web = _loaded("aiohttp", "ClientResponseError")
    if web is not None and isinstance(error, web):
        return int(getattr(error, "status", 0)) or None
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
    while isinstance(error, TransientError) and error.__cause__ is not None:
        error = error.__cause__
    status = http_status(error)
    return type(error).__name__ if status is None else str(status)


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
