"""Places where images lie, of each kind that a URI can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

PLACES = ("local", "memory", "gs", "s3")

UNLISTED = ("gs unlisted", "s3 unlisted")
"""Buckets whose objects clients can read by name, but not list."""

Places = Callable[[str], str]
"""Takes one of the kinds in `PLACES` and returns the URI of an empty location of that kind."""


def storage_environment(gs: str, s3: str) -> Mapping[str, str]:
    """Variables by which fsspec's filesystems find emulators at these URLs, and get in."""
    return {
        "STORAGE_EMULATOR_HOST": gs,
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        # else botocore asks the machine's own network who it is
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def fsspec_config(gs: str, s3: str) -> dict[str, Any]:
    """What ``fsspec.config`` holds for the same end."""
    keys = {"key": "test", "secret": "test", "client_kwargs": {"region_name": "us-east-1"}}
    return {
        "gcs": {"endpoint_url": gs, "token": "anon"},
        "s3": {"endpoint_url": s3, **keys},
    }
