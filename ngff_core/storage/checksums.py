"""Checksums of stored objects: what a service says it stored against what it was sent."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import crc32c


def google_crc32c(data: bytes) -> str:
    """CRC-32C of bytes as Google Cloud Storage writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(int(crc32c.crc32c(data)).to_bytes(4, "big")).decode()


def google_stored(data: bytes, metadata: Mapping[str, Any]) -> bool:
    """Whether an object's metadata at Google match these bytes; True without a checksum."""
    stored = metadata.get("crc32c")
    return stored is None or stored == google_crc32c(data)


def s3_stored(data: bytes, reply: Mapping[str, Any]) -> bool:
    """Whether S3's reply to a PUT matches these bytes; True if it has nothing to compare."""
    if any(name.startswith("Checksum") for name in reply):
        # botocore sent the checksum along, and S3 refuses bytes that do not match it.
        return True
    etag = str(reply.get("ETag", "")).strip('"')
    # An ETag is the MD5 in the plain case; it is not for objects encrypted with a key.
    if len(etag) != 32 or reply.get("ServerSideEncryption") not in (None, "AES256"):
        return True
    return etag == hashlib.md5(data, usedforsecurity=False).hexdigest()
