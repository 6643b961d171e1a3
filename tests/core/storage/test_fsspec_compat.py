"""How the dictionaries that fsspec's filesystems give for objects are read."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from ngff_core.storage.base import Entry
from ngff_core.storage.fsspec_compat import entry_of, info_of, scheme_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECONDS = NOON.timestamp()


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"generation": "7", "ETag": "e", "mtime": NOON}, "generation:7"),
        ({"ETag": '"e"', "LastModified": NOON}, 'ETag:"e"'),
        ({"etag": "e", "mtime": 5}, "etag:e"),
        ({"mtime": 5.5, "created": 4}, "mtime:5.5"),
        ({"created": NOON}, f"created:{SECONDS}"),
        ({"created": SECONDS, "LastModified": 1}, f"created:{SECONDS}"),
        ({"LastModified": NOON}, f"LastModified:{SECONDS}"),
        ({"generation": None, "ETag": None}, "unknown"),
    ],
)
def test_a_version_is_what_changes_most_surely(info: dict[str, Any], version: str) -> None:
    """A generation rather than an ETag, an ETag rather than a time."""
    assert info_of({"size": 3, **info}).version == version


@pytest.mark.parametrize(
    ("info", "modified"),
    [
        ({"mtime": NOON, "LastModified": "2001-01-01"}, SECONDS),
        ({"mtime": 5}, 5.0),
        ({"LastModified": NOON}, SECONDS),
        ({"LastModified": NOON.replace(tzinfo=None)}, SECONDS),
        ({"updated": "2026-01-01T12:00:00.000Z"}, SECONDS),
        ({"updated": "2026-01-01T12:00:00", "created": 1}, SECONDS),
        ({"mtime": "soon", "created": 3}, 3.0),
        ({"created": "soon"}, None),
        ({}, None),
    ],
)
def test_the_time_of_a_write_is_in_seconds(info: dict[str, Any], modified: float | None) -> None:
    """A time without a zone is UTC; a text that is no time is skipped."""
    assert info_of({"size": 3, **info}).modified == modified


@pytest.mark.parametrize(
    ("info", "md5"),
    [
        ({"md5Hash": "CY9rzUYh03PK3k6DJie09g==", "ETag": "x"}, "098f6bcd4621d373cade4e832627b4f6"),
        ({"ETag": '"098f6b"'}, "098f6b"),
        ({"ETag": None}, None),
        ({}, None),
    ],
)
def test_an_md5_is_hexadecimal(info: dict[str, Any], md5: str | None) -> None:
    assert info_of({"size": 3, **info}).md5 == md5


def test_a_size_that_is_not_given_is_zero() -> None:
    """As of objects that a listing says nothing about."""
    assert info_of({"size": None}).size == 0
    assert info_of({"size": "5"}).size == 5


def test_an_entry_is_a_folder_or_an_object() -> None:
    assert entry_of({"type": "directory", "size": 0}) == Entry.of_folder()
    found = entry_of({"type": "file", "size": 3, "ETag": "e", "mtime": 5, "name": "a"})
    assert found == Entry(3, "ETag:e")
    assert (found.is_folder, found.modified, found.md5) == (False, 5.0, "e")
    assert (Entry.of_folder().size, Entry.of_folder().is_folder) == (0, True)


@pytest.mark.parametrize(
    ("protocol", "scheme"),
    [
        (("gcs", "gs"), "gs"),
        (["s3", "s3a"], "s3"),
        ("memory", "memory"),
        (("http", "https"), "http"),
        (("file", "local"), ""),
        ("https-like", ""),
    ],
)
def test_filesystems_that_need_special_treatment_are_recognized(protocol: Any, scheme: str) -> None:
    assert scheme_of(SimpleNamespace(protocol=protocol)) == scheme
