"""Who sent a notification: tokens of Google, signatures of Amazon, a shared secret.

Each check raises `NotAuthenticError` or returns; what failed is for the log only, since a
stranger is told no more than that the door is closed.
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
"""GET a URL, and raise an OSError or `httpx.HTTPError` where that fails."""

_KEPT_SECONDS = 3600.0
# Clocks of virtual machines drift by seconds.
_SKEW_SECONDS = 10

# The only hosts that serve certificates and confirmations of SNS; the region is checked
# against the topic's.
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
    """Nobody vouches for this sender."""


@dataclass
class CachedFetch:
    """Certificates that were fetched lately, so that no sender makes us fetch at will."""

    fetch: Fetch
    clock: Callable[[], float] = time.monotonic
    _found: dict[str, tuple[float, bytes]] = field(default_factory=dict)

    def __call__(self, url: str) -> bytes:
        at, body = self._found.get(url, (float("-inf"), b""))
        if self.clock() - at >= _KEPT_SECONDS:
            body = self.fetch(url)
            self._found = {**self._found, url: (self.clock(), body)}
        return body


def check_secret(given: str, secret: str | None) -> None:
    """A secret that stands in the path, compared in constant time."""
    if secret is None or not hmac.compare_digest(given.encode(), secret.encode()):
        raise NotAuthenticError("the secret in the path is another one")


def check_google_token(header: str | None, audience: str, email: str, fetch: Fetch) -> None:
    """The bearer token that Pub/Sub sends, of one service account and for one audience."""
    kind, _, token = (header or "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise NotAuthenticError("there is no bearer token")
    try:
        claims = id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]
            token.strip(), _google_request(fetch), audience, _SKEW_SECONDS
        )
    except google_errors.TransportError:
        raise
    except (ValueError, google_errors.GoogleAuthError) as error:
        raise NotAuthenticError(f"the token does not hold: {error}") from error
    if claims.get("email") != email or claims.get("email_verified") is not True:
        raise NotAuthenticError(f"the token is of {claims.get('email')!r}")


@dataclass(frozen=True)
class _Response:
    data: bytes
    status: int = 200


def _google_request(fetch: Fetch) -> Callable[..., _Response]:
    """A transport as google-auth takes it."""
    return lambda url, **_kwargs: _Response(fetch(url))


def check_sns(body: bytes, topics: tuple[str, ...], fetch: Fetch) -> dict[str, str]:
    """The message of SNS, whose topic is ours and whose signature is Amazon's."""
    message = _message(body)
    topic = message.get("TopicArn", "")
    if topic not in topics:
        raise NotAuthenticError(f"the topic {topic!r} is none of ours")
    url = _of_amazon(message.get("SigningCertURL", ""), topic)
    # Without a query, or a sender could make us fetch and keep one certificate for ever.
    if not _CERTIFICATE.fullmatch(url.partition(".amazonaws.com")[2]):
        raise NotAuthenticError(f"{url} is no certificate")
    _check_signature(message, _public_key(fetch(url)))
    return message


def confirmation_url(message: Mapping[str, str]) -> str:
    """Where a subscription is confirmed: at Amazon, for the topic that was checked."""
    return _of_amazon(message.get("SubscribeURL", ""), message["TopicArn"])


def _message(body: bytes) -> dict[str, str]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"the body is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("Type") not in _SIGNED:
        raise NotificationError("the body is no message of SNS; leave raw delivery off")
    return {name: value for name, value in document.items() if isinstance(value, str)}


def _of_amazon(url: str, topic: str) -> str:
    """``url``, where it leads by HTTPS to SNS in the topic's region and nowhere else."""
    try:
        parts = urlsplit(url)
        host = _SNS_HOST.fullmatch(parts.netloc)
    except ValueError:
        host = None
    region = topic.split(":")[3] if topic.count(":") >= 5 else ""
    if host is None or parts.scheme != "https" or host[1] != region:
        raise NotAuthenticError(f"{url!r} is not of SNS in {region or 'any region'}")
    return url


def _check_signature(message: Mapping[str, str], key: rsa.RSAPublicKey) -> None:
    # Version 1, SHA-1, is what topics have unless told otherwise; nobody but Amazon chooses
    # what is signed, so that collisions of SHA-1 do not help a forger.
    kinds = {"1": hashes.SHA1(), "2": hashes.SHA256()}
    kind = kinds.get(message.get("SignatureVersion", ""))
    if kind is None:
        raise NotAuthenticError("the signature is of an unknown version")
    try:
        signature = base64.b64decode(message.get("Signature", ""), validate=True)
        key.verify(signature, signed_text(message), padding.PKCS1v15(), kind)
    except (ValueError, InvalidSignature) as error:
        raise NotAuthenticError("the signature does not hold") from error


def signed_text(message: Mapping[str, str]) -> bytes:
    """What SNS signs of a message: names and values in turn, a line each."""
    names = [name for name in _SIGNED[message["Type"]] if name in message]
    return "".join(f"{name}\n{message[name]}\n" for name in names).encode()


def _public_key(pem: bytes) -> rsa.RSAPublicKey:
    try:
        key: Any = x509.load_pem_x509_certificate(pem).public_key()
    except ValueError as error:
        raise NotAuthenticError(f"the certificate cannot be read: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise NotAuthenticError("the certificate holds no RSA key")
    return key
