"""Detects the format of a source from its content, not from its name."""

from __future__ import annotations

import os
from typing import Any

from ngff_core.errors import SourceFormatError, SourceNotFoundError, UnlistableError
from ngff_core.sources.array import open_array
from ngff_core.sources.base import Source, as_format_error
from ngff_core.sources.npy import MAGIC as NPY_MAGIC
from ngff_core.sources.npy import open_npy
from ngff_core.sources.tiff import MAGICS as TIFF_MAGICS
from ngff_core.sources.tiff import open_tiff
from ngff_core.sources.zarr_nodes import read_node
from ngff_core.sources.zarr_store import open_zarr
from ngff_core.storage import LocalFiles, ObjectStore, StorageOptions, open_store
from ngff_core.storage.foreign import foreign_store, is_foreign

ACCEPTED = (
    "a zarr array (v2 or v3), an OME-Zarr image (0.4, 0.5 or 0.6), "
    "a TIFF file (OME, ImageJ and BigTIFF too) or a .npy file"
)


def open_source(source: Any, storage_options: StorageOptions | None = None) -> Source:
    """Open an image lazily, in any supported format.

    ``source`` is a local path, a URI (``file://``, ``memory://``, ``gs://``, ``s3://``), a
    zarr store, a mapping from key to bytes, an ``NgffImage``, or an array: numpy, dask,
    ``zarr.Array``, or any object with a shape, a dtype and slicing. ``storage_options`` are
    passed to the fsspec filesystem of a URI.

    Raises `SourceNotFoundError` if nothing is stored at the source, and `SourceFormatError`
    if what is stored is not an image. Transient errors of the network are not changed.
    """
    if isinstance(source, str | os.PathLike):
        return _open_stored(open_store(source, storage_options))
    if is_foreign(source):
        return _open_stored(foreign_store(source))
    return open_array(source)


def _open_stored(store: ObjectStore) -> Source:
    node = read_node(store)
    if node is not None:
        return open_zarr(store, node)
    # The empty key is the object at the URI itself.
    if store.info("") is None:
        raise _not_readable(store)
    return _open_file(store)


def _open_file(store: ObjectStore) -> Source:
    with as_format_error(f"{store.uri}: cannot be read"), store.open("") as file:
        magic = file.read(8)
    if magic[:4] in TIFF_MAGICS:
        return open_tiff(store)
    if magic[: len(NPY_MAGIC)] == NPY_MAGIC:
        return open_npy(store)
    what = f"starts with {magic!r}" if magic else "is empty"
    raise SourceFormatError(f"{store.uri}: the file {what}; give {ACCEPTED}")


def _not_readable(store: ObjectStore) -> Exception:
    """The error for a source that is neither a zarr node nor a file."""
    try:
        exists = _anything_at(store)
    except UnlistableError:
        return SourceNotFoundError(
            f"{store.uri}: nothing is stored there, or reading it is not permitted; "
            "check the spelling and the credentials"
        )
    if not exists:
        return SourceNotFoundError(
            f"{store.uri}: nothing is stored there; "
            "check the spelling, and that the machine which builds can see it"
        )
    return SourceFormatError(f"{store.uri}: a folder without zarr metadata; give {ACCEPTED}")


def _anything_at(store: ObjectStore) -> bool:
    if isinstance(store, LocalFiles):
        return store.root.exists()
    try:
        return bool(store.objects())
    except FileNotFoundError:  # no such bucket
        return False
