"""The parts of fsspec that are not its documented API, and how its entries are read.

Tried with fsspec 2026.9.0. `tests/core/storage/test_compat.py` checks each assumption.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fsspec.spec import AbstractBufferedFile

from ngff_core.storage.base import Entry, ObjectInfo
from ngff_core.storage.retry import retrying


def retry_ranges(file: Any) -> None:
    """Make a file of fsspec retry each range that it fetches.

    s3fs retries a range that is refused, but not one whose connection breaks.
    """
    if isinstance(file, AbstractBufferedFile):
        file.cache.fetcher = partial(retrying, file.cache.fetcher)


def sync_filesystem(fs: Any) -> Any:
    """The filesystem behind zarr's asynchronous one, callable from any thread."""
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    if isinstance(fs, AsyncFileSystemWrapper):
        return fs.sync_fs
    return type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": False})


def scheme_of(fs: Any) -> str:
    """``gs``, ``s3``, ``memory`` or ``http``: the kinds that need their own treatment; or ""."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    return next((p for p in ("gs", "s3", "memory", "http") if p in protocols), "")


def entry_of(info: Mapping[str, Any]) -> Entry:
    """An entry of a listing, from the dictionary that fsspec gives for it."""
    if info["type"] == "directory":
        return Entry.of_folder()
    return Entry.of_object(info_of(info))


def info_of(info: Mapping[str, Any]) -> ObjectInfo:
    """Size and version of an object, from the dictionary that fsspec gives for it."""
    return ObjectInfo(int(info["size"] or 0), _version(info), _modified(info), _md5(info))


def _version(info: Mapping[str, Any]) -> str:
    # CRC is that of a member of a zip file.
    for name in ("generation", "ETag", "etag", "mtime", "created", "LastModified", "CRC"):
        value = info.get(name)
        if isinstance(value, datetime):
            # fsspec's memory filesystem has a datetime in `info`, and seconds in `find`.
            value = value.timestamp()
        if value is not None:
            return f"{name}:{value}"
    return "unknown"


def _md5(info: Mapping[str, Any]) -> str | None:
    google = info.get("md5Hash")
    if isinstance(google, str):
        return base64.b64decode(google).hex()
    # Not the MD5 for an object uploaded in parts, or encrypted with a key.
    etag = info.get("ETag")
    return etag.strip('"') if isinstance(etag, str) else None


def _modified(info: Mapping[str, Any]) -> float | None:
    for name in ("mtime", "LastModified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            # fsspec's memory filesystem has times in UTC without a time zone.
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None
