"""Errors of storage clients: their kind, and whether a retry may help.

Types and status codes decide, never messages (`is_refusal` says why it has one exception).
Clients are looked up among the imported modules, so this file imports none of them.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ngff_core.errors import TransientError

LONGEST_WAIT = 120.0
"""Seconds. A service that asks for a longer pause gets this one."""

# S3 answers these with status 400, although the request was right when it left.
_DAMAGED_IN_TRANSIT = {
    "BadDigest",
    "IncompleteBody",
    "RequestTimeout",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}

# S3's codes for a token that was valid when the client got it. Other services answer 401.
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired"}

# S3's codes, with status 403, for a caller that it does not know at all.
_UNKNOWN_CALLER = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}


def is_transient(error: BaseException) -> bool:
    """Whether the type of ``error`` says that a retry may help."""
    if isinstance(error, TransientError | TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO):
        return True
    if _s3_code(error) in _DAMAGED_IN_TRANSIT:
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
        # Some gateways send half an answer where they mean "slow down".
        _loaded("botocore.parsers", "ResponseParserError"),
    )
    return isinstance(error, tuple(kind for kind in kinds if kind is not None))


def is_transient_status(status: int) -> bool:
    """Whether a later request may get another answer than this HTTP status.

    True for 408, 429 and 5xx, except 501: a service without a feature does not get it soon.
    """
    return status in (408, 429) or (status >= 500 and status != 501)


def is_refusal(error: BaseException) -> bool:
    """Whether the service does not know the caller, or does not permit the request."""
    if isinstance(error, PermissionError) or http_status(error) in (401, 403):
        return True
    # gcsfs has neither a type nor an errno for 403, and recognizes it by this word itself.
    return type(error) is OSError and error.errno is None and str(error).startswith("Forbidden")


def is_unknown_caller(error: BaseException) -> bool:
    """Whether a service refused because it does not know the caller's credentials.

    The error or one of its causes says so; the first that has a service's answer decides.
    """
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, Mapping):
            return response.get("Error", {}).get("Code") in _UNKNOWN_CALLER
        if http_status(cause) == 401:
            return True
        cause = cause.__cause__
    return False


def credentials_expired(error: BaseException) -> bool:
    """Whether the service called the credentials expired: a new token may help."""
    return http_status(error) == 401 or _s3_code(error) in _EXPIRED


def http_status(error: BaseException) -> int | None:
    """The HTTP status of the service's answer, if the client's error has one."""
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
    """Seconds in the ``Retry-After`` of S3's answer, in the error or one of its causes; else 0."""
    while error is not None:
        headers = _s3_response(error).get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if "retry-after" in headers:
            return seconds_of(headers["retry-after"])
        error = error.__cause__
    return 0.0


def seconds_of(header: str) -> float:
    """A ``Retry-After`` in seconds, `LONGEST_WAIT` at most. Its other form, a date, counts as 0."""
    try:
        return min(max(0.0, float(header)), LONGEST_WAIT)
    except ValueError:
        return 0.0


def kind_of(error: BaseException) -> str:
    """The HTTP status, or else the name of the type: retries are counted by this."""
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
    for candidate in (error, error.__cause__):
        if client is not None and isinstance(candidate, client):
            response: Mapping[str, Any] = getattr(candidate, "response", {})
            return response
    return {}


def _loaded(module: str, name: str) -> type[BaseException] | None:
    # A client that was never imported cannot have raised this error.
    return getattr(sys.modules.get(module), name, None)
