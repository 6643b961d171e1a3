"""What a service says it stored is compared with what it was sent."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ngff_core.storage.checksums import google_crc32c, google_stored, s3_stored

DATA = b"123456789"
# the check value of CRC-32C, 0xE3069283, as Google writes it
CRC32C = "4waSgw=="
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()


def test_crc32c_is_written_as_google_writes_it() -> None:
    assert google_crc32c(DATA) == CRC32C


@pytest.mark.parametrize(
    ("metadata", "same"),
    [({"crc32c": CRC32C}, True), ({"crc32c": "AAAAAA=="}, False), ({}, True)],
)
def test_google_says_what_it_stored(metadata: dict[str, Any], same: bool) -> None:
    """Without a checksum there is nothing to compare."""
    assert google_stored(DATA, metadata) is same


@pytest.mark.parametrize(
    ("reply", "same"),
    [
        ({"ETag": f'"{MD5}"'}, True),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"}, True),
        ({"ETag": f'"{"0" * 32}"'}, False),
        ({"ETag": f'"{"0" * 32}"', "ServerSideEncryption": "AES256"}, False),
        # no MD5: encrypted with a key, or uploaded in parts
        ({"ETag": f'"{"0" * 32}"', "ServerSideEncryption": "aws:kms"}, True),
        ({"ETag": f'"{"0" * 32}-2"'}, True),
        # botocore sent a checksum, which S3 has compared by itself
        ({"ETag": f'"{"0" * 32}"', "ChecksumCRC32": "x"}, True),
        ({}, True),
    ],
)
def test_s3_says_what_it_stored(reply: dict[str, Any], same: bool) -> None:
    assert s3_stored(DATA, reply) is same
