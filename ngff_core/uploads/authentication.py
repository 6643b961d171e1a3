"""Authenticates senders of notifications: tokens of Google, signatures of Amazon, a secret.

Each check returns, or raises `NotAuthenticError`. Its message is for the log only: the sender
gets nothing but the status 401.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth import exceptions as google_errors
from google.oauth2 import id_token

from ngff_core.errors import NgffError
from ngff_core.uploads.notifications import NotificationError

Fetch = Callable[[str], bytes]
"""Returns the body of a URL; raises OSError or `httpx.HTTPError` where that fails."""

_CACHE_SECONDS = 3600.0
# Clocks of virtual machines drift by seconds.
_SKEW_SECONDS = 10

# The only hosts with certificates and confirmations of SNS; the region must be the topic's.
_SNS_HOST = re.compile(r"sns\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_CERTIFICATE = re.compile(r"(?:\.cn)?/[A-Za-z0-9-]+\.pem")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ),
}
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]


class NotAuthenticError(NgffError, PermissionError):
    """The sender is not authenticated."""


@dataclass
class CachedFetch:
    """Fetches and keeps certificates for an hour, so that senders cannot cause many requests."""

    fetch: Fetch
    clock: Callable[[], float] = time.monotonic
    _cached: dict[str, tuple[float, bytes]] = field(default_factory=dict)

    def __call__(self, url: str) -> bytes:
        at, body = self._cached.get(url, (float("-inf"), b""))
        if self.clock() - at >= _CACHE_SECONDS:
            body = self.fetch(url)
            self._cached = {**self._cached, url: (self.clock(), body)}
        return body


def check_secret(given: str, secret: str | None) -> None:
    """Check the secret in a request's path, in constant time."""
    if secret is None or not hmac.compare_digest(given.encode(), secret.encode()):
        raise NotAuthenticError("the secret in the path is wrong")


def check_google_token(header: str | None, audience: str, email: str, fetch: Fetch) -> None:
    """Check the bearer token of Pub/Sub: the service account ``email``, for ``audience``."""
    kind, _, token = (header or "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise NotAuthenticError("the request has no bearer token")
    try:
        claims = id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]
            token.strip(), _google_request(fetch), audience, _SKEW_SECONDS
        )
    except google_errors.TransportError:
        raise
    except (ValueError, google_errors.GoogleAuthError) as error:
        raise NotAuthenticError(f"the token is not valid: {error}") from error
    if claims.get("email") != email or claims.get("email_verified") is not True:
        raise NotAuthenticError(f"the token belongs to {claims.get('email')!r}")


@dataclass(frozen=True)
class _Response:
    data: bytes
    status: int = 200


def _google_request(fetch: Fetch) -> Callable[..., _Response]:
    """A transport for google-auth that uses ``fetch``."""
    return lambda url, **_kwargs: _Response(fetch(url))


def check_sns(body: bytes, topics: tuple[str, ...], fetch: Fetch) -> dict[str, str]:
    """The message of SNS, after checking that its topic is one of ``topics`` and its signature."""
    message = _message(body)
    topic = message.get("TopicArn", "")
    if topic not in topics:
        raise NotAuthenticError(f"the topic {topic!r} is not in NGFF_RECEIVER_SNS_TOPICS")
    url = _of_amazon(message.get("SigningCertURL", ""), topic)
    # Without a query: with one, a sender could make us fetch a certificate again and again.
    if not _CERTIFICATE.fullmatch(url.partition(".amazonaws.com")[2]):
        raise NotAuthenticError(f"{url} is not the address of a certificate")
    _check_signature(message, _public_key(fetch(url)))
    return message


def confirmation_url(message: Mapping[str, str]) -> str:
    """The address that confirms a subscription; checked to be Amazon's, in the topic's region."""
    return _of_amazon(message.get("SubscribeURL", ""), message["TopicArn"])


def _message(body: bytes) -> dict[str, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("Type") not in _SIGNED:
        raise NotificationError("the body is not a message of SNS; turn raw message delivery off")
    return {name: value for name, value in document.items() if isinstance(value, str)}


def _of_amazon(url: str, topic: str) -> str:
    """``url``, after checking that it is an HTTPS address of SNS in the topic's region."""
    try:
        parts = urlsplit(url)
        host = _SNS_HOST.fullmatch(parts.netloc)
    except ValueError:
        host = None
    region = topic.split(":")[3] if topic.count(":") >= 5 else ""
    if host is None or parts.scheme != "https" or host[1] != region:
        raise NotAuthenticError(f"{url!r} is not an address of SNS in {region or 'any region'}")
    return url


def _check_signature(message: Mapping[str, str], key: rsa.RSAPublicKey) -> None:
    # Version 1, SHA-1, is the default of topics. Only Amazon chooses the signed text, so
    # collisions of SHA-1 do not help a forger.
    kinds = {"1": hashes.SHA1(), "2": hashes.SHA256()}
    kind = kinds.get(message.get("SignatureVersion", ""))
    if kind is None:
        raise NotAuthenticError("the signature has an unknown version")
    try:
        signature = base64.b64decode(message.get("Signature", ""), validate=True)
        key.verify(signature, signed_text(message), padding.PKCS1v15(), kind)
    except (ValueError, InvalidSignature) as error:
        raise NotAuthenticError("the signature is not valid") from error


def signed_text(message: Mapping[str, str]) -> bytes:
    """The text that SNS signs for a message: names and values in turn, one on each line."""
    names = [name for name in _SIGNED[message["Type"]] if name in message]
    return "".join(f"{name}\n{message[name]}\n" for name in names).encode()


def _public_key(pem: bytes) -> rsa.RSAPublicKey:
    try:
        key: Any = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError as error:
        raise NotAuthenticError(f"the certificate cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise NotAuthenticError("the certificate has no RSA key")
    return key
