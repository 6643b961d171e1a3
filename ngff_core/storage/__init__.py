"""The only way to stored bytes: `open_store` turns a URI or a path into an `ObjectStore`."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from ngff_core.storage.base import (
    Content,
    Entry,
    ObjectInfo,
    ObjectStore,
    StorageOptions,
    as_buffer,
)
from ngff_core.storage.bucket import DOCUMENTS, Bucket
from ngff_core.storage.local import PARTIAL, LocalFiles
from ngff_core.storage.opening import open_bucket, options_of
from ngff_core.storage.requests import both, delete_below, for_each, look_up
from ngff_core.storage.retry import retrying
from ngff_core.storage.transient import is_transient
from ngff_core.storage.uris import (
    absolute_uri,
    canonical_uri,
    check_uri,
    is_bucket,
    is_remote,
    public_uri,
    split_uri,
)
from ngff_core.storage.zarr_compat import fused_pipeline, read_region

__all__ = [
    "DOCUMENTS",
    "PARTIAL",
    "Bucket",
    "Content",
    "Entry",
    "LocalFiles",
    "ObjectInfo",
    "ObjectStore",
    "StorageOptions",
    "absolute_uri",
    "as_buffer",
    "both",
    "canonical_uri",
    "check_uri",
    "delete_below",
    "for_each",
    "fused_pipeline",
    "is_bucket",
    "is_remote",
    "is_transient",
    "look_up",
    "open_store",
    "public_uri",
    "read_region",
    "retrying",
    "split_uri",
]


def open_store(
    uri: str | os.PathLike[str], storage_options: StorageOptions | None = None
) -> ObjectStore:
    """Open the store at a local path or an fsspec URI. Nothing is read or written.

    Raises InvalidOptionError for a URI with credentials, and as `open_bucket` does.
    """
    text = os.fspath(uri)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("", "file"):
        path = text.removeprefix("file://")
        return LocalFiles(Path(path).expanduser().absolute())
    check_uri(text)
    return open_bucket(scheme, text, options_of(scheme, storage_options or {}))
