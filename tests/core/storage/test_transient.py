"""What clients' errors mean: transient or not, refused, expired, and their kind."""

from __future__ import annotations

import errno
import sys
from typing import Any

import aiohttp
import botocore.exceptions
import botocore.parsers
import gcsfs.retry
import google.auth.exceptions
import pytest
import requests

from ngff_core.errors import LeaseLostError, StoredDataError, TransientError
from ngff_core.storage.transient import (
    LONGEST_WAIT,
    credentials_expired,
    http_status,
    is_refusal,
    is_transient,
    is_transient_status,
    is_unknown_caller,
    kind_of,
    retry_after,
    seconds_of,
)
from tests.core.storage.failures import caused_by, google_error, s3_error, web_error

TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504, 505, 507, 599)
FINAL_STATUSES = (200, 302, 400, 401, 403, 404, 407, 409, 410, 412, 416, 428, 430, 499, 501)
CLIENTS = {"gcsfs": google_error, "aiohttp": web_error, "botocore": s3_error}


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TransientError("x"), True),
        (LeaseLostError("x"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.EBUSY, "busy"), True),
        (OSError(errno.EREMOTEIO, "remote"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ClientPayloadError(), True),
        (requests.exceptions.ConnectionError(), True),
        (requests.exceptions.ProxyError(), True),
        (google.auth.exceptions.TransportError(), True),
        (gcsfs.retry.ChecksumError("x"), True),
        (botocore.exceptions.ConnectionError(error="x"), True),
        (botocore.exceptions.HTTPClientError(error="x"), True),
        (botocore.exceptions.FlexibleChecksumError(error_msg="x"), True),
        (botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), True),
        (botocore.parsers.ResponseParserError("x"), True),
        (google.auth.exceptions.RefreshError(), False),
        (botocore.exceptions.NoCredentialsError(), False),
        (OSError("Forbidden: https://..."), False),
        (OSError(errno.ENOSPC, "no space"), False),
        (OSError(errno.EIO, "io"), False),
        (PermissionError(), False),
        (FileExistsError(), False),
        (FileNotFoundError(), False),
        (StoredDataError("timeout, try again later"), False),
        (ValueError("503 Service Unavailable"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_the_type_of_an_error_says_whether_it_is_transient(
    error: BaseException, transient: bool
) -> None:
    """Never its message."""
    assert is_transient(error) is transient


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", TRANSIENT_STATUSES)
def test_an_overloaded_service_is_transient(status: int, client: str) -> None:
    """Whichever client reports it."""
    assert is_transient_status(status)
    assert is_transient(CLIENTS[client](status))
    assert http_status(CLIENTS[client](status)) == status


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", FINAL_STATUSES)
def test_other_statuses_are_final(status: int, client: str) -> None:
    """501 among them: what a service does not implement stays so."""
    assert not is_transient_status(status)
    assert not is_transient(CLIENTS[client](status))


@pytest.mark.parametrize(
    "code",
    [
        "BadDigest",
        "IncompleteBody",
        "RequestTimeout",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    ],
)
def test_a_request_damaged_on_its_way_to_s3_is_transient(code: str) -> None:
    """S3 answers 400 then, as it does for requests that are wrong."""
    assert is_transient(s3_error(400, code))
    assert is_transient(caused_by(OSError("from s3fs"), s3_error(400, code)))
    assert not is_transient(s3_error(400, "InvalidArgument"))


@pytest.mark.parametrize("code", [None, 0, "", "unknown"])
def test_an_error_without_a_status_has_none(code: Any) -> None:
    assert http_status(google_error(code)) is None
    assert http_status(web_error(0)) is None
    assert http_status(s3_error()) is None
    assert http_status(OSError()) is None
    assert http_status(google_error("503")) == 503


def test_s3fs_keeps_the_status_in_the_cause() -> None:
    """One step deep: s3fs translates botocore's error into an OSError."""
    translated = caused_by(OSError(), s3_error(503))
    assert http_status(translated) == 503
    assert http_status(caused_by(OSError(), translated)) is None


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (PermissionError(), True),
        (google_error(401), True),
        (google_error(403), True),
        (s3_error(403, "AccessDenied"), True),
        (OSError("Forbidden: gs://bucket/key"), True),
        (OSError("Not Forbidden"), False),
        (OSError(errno.EIO, "Forbidden"), False),
        (TransientError("Forbidden"), False),
        (google_error(404), False),
        (google_error(400), False),
        (ValueError("Forbidden"), False),
    ],
    ids=repr,
)
def test_a_refusal_is_recognized(error: BaseException, refused: bool) -> None:
    assert is_refusal(error) is refused


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        *((s3_error(403, code), True) for code in ("ExpiredToken", "InvalidAccessKeyId")),
        *((s3_error(403, code), True) for code in ("InvalidToken", "RequestTimeTooSkewed")),
        (s3_error(403, "SignatureDoesNotMatch"), True),
        (caused_by(PermissionError(), caused_by(OSError(), s3_error(403, "InvalidToken"))), True),
        (caused_by(PermissionError(), google_error(401)), True),
        (s3_error(403, "AccessDenied"), False),
        (s3_error(403), False),
        # the first answer decides
        (caused_by(s3_error(403, "AccessDenied"), s3_error(403, "InvalidToken")), False),
        (caused_by(PermissionError(), google_error(403)), False),
        (PermissionError(), False),
    ],
    ids=repr,
)
def test_a_caller_that_the_service_does_not_know_is_recognized(
    error: BaseException, unknown: bool
) -> None:
    """Such a caller learns nothing from a refusal, not even that an object may be absent."""
    assert is_unknown_caller(error) is unknown


@pytest.mark.parametrize(
    ("error", "expired"),
    [
        (google_error(401), True),
        (web_error(401), True),
        (s3_error(403, "ExpiredToken"), True),
        (s3_error(400, "TokenRefreshRequired"), True),
        (caused_by(PermissionError(), s3_error(400, "ExpiredToken")), True),
        (google_error(403), False),
        (s3_error(403, "InvalidToken"), False),
        (PermissionError(), False),
    ],
    ids=repr,
)
def test_expired_credentials_are_recognized(error: BaseException, expired: bool) -> None:
    assert credentials_expired(error) is expired


def test_retry_after_is_found_in_a_cause_however_deep() -> None:
    error = s3_error(503, headers={"retry-after": "9"})
    assert retry_after(error) == 9
    assert retry_after(caused_by(OSError(), error)) == 9
    assert retry_after(caused_by(TransientError(""), caused_by(OSError(), error))) == 9
    assert retry_after(s3_error(503)) == retry_after(OSError()) == retry_after(None) == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("0", 0), ("1.5", 1.5), ("120", 120), ("121", 120), ("-1", 0), ("", 0), ("tomorrow", 0)],
)
def test_a_retry_after_is_seconds_and_at_most_two_minutes(header: str, seconds: float) -> None:
    assert LONGEST_WAIT == 120
    assert seconds_of(header) == seconds


def test_errors_are_counted_by_status_or_type() -> None:
    """A TransientError of ours by its cause: it only says where that was."""
    assert kind_of(google_error(503)) == kind_of(s3_error(503)) == "503"
    assert kind_of(TimeoutError()) == "TimeoutError"
    assert kind_of(caused_by(TransientError(""), caused_by(TransientError(""), OSError()))) == (
        "OSError"
    )
    assert kind_of(TransientError("")) == "TransientError"
    assert kind_of(caused_by(OSError(), TimeoutError())) == "OSError"


def test_clients_that_were_never_imported_are_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local files need none of them."""
    for module in ("gcsfs.retry", "aiohttp", "botocore.exceptions", "requests"):
        monkeypatch.delitem(sys.modules, module)
    assert is_transient(TimeoutError())
    assert not is_transient(OSError())
    assert http_status(OSError()) is None
