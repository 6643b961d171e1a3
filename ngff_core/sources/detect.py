"""Detects the format of a source from its content, not from its name."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from ngff_core.errors import (
    InvalidOptionError,
    SourceFormatError,
    SourceNotFoundError,
    UnlistableError,
)
from ngff_core.model.selection import Selection
from ngff_core.sources.array import array_images
from ngff_core.sources.base import Source, as_format_error
from ngff_core.sources.contract import SourceImages
from ngff_core.sources.formats import FILES, FOLDERS, HEAD
from ngff_core.sources.joined import open_joined
from ngff_core.sources.ome_zarr.arrays import open_zarr
from ngff_core.sources.ome_zarr.nodes import read_node
from ngff_core.sources.ome_zarr.zipped import inside_zip
from ngff_core.sources.opening import open_chosen
from ngff_core.sources.pattern import Pattern, guess_pattern, has_fields, split_pattern
from ngff_core.storage import LocalFiles, ObjectStore, StorageOptions, open_store
from ngff_core.storage.foreign import foreign_store, is_foreign

ACCEPTED = (
    "a zarr array (v2 or v3) or an OME-Zarr image, also in a zip file (.ozx), a file of one of the "
    "formats in docs/formats.md (TIFF, CZI, LIF, ND2, DICOM, NIfTI, HDF5, MRC and others) or a "
    ".npy file"
)

_INSIDE = "::"
"""Between the path of a file and the name of an image in it."""


def open_source(
    source: Any,
    storage_options: StorageOptions | None = None,
    selection: Selection | None = None,
) -> Source:
    """Open one image of a source lazily, in any supported format.

    ``source`` is a local path, a URI (``file://``, ``memory://``, ``gs://``, ``s3://``), either
    with ``::NAME`` at its end for the image of that name in it, a zarr store, a mapping from key
    to bytes, an ``NgffImage``, or an array: numpy, dask, ``zarr.Array``, or any object with a
    shape, a dtype and slicing. ``storage_options`` are passed to the fsspec filesystem of a URI.
    ``selection`` says which image is read, and corrects what the source says of it.

    Raises `SourceNotFoundError` if nothing is stored at the source, `SourceFormatError` if what
    is stored is not an image, or several, and `InvalidOptionError` for a selection that does not
    fit. Transient errors of the network are not changed.
    """
    selection = selection or Selection()
    text, inside = split_inside(source)
    if inside is not None:
        if selection.series is not None:
            raise InvalidOptionError(f"series: {source} names the image {inside!r} already")
        selection = replace(selection, series=inside)
    images = open_images(text, storage_options)
    try:
        return open_chosen(images, selection)
    except BaseException:
        images.close()
        raise


def open_images(source: Any, storage_options: StorageOptions | None = None) -> SourceImages:
    """Open a source and describe all images in it; no sample is read."""
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if has_fields(text) and not _is_a_path(text):
            folder, pattern = split_pattern(text)
            store = open_store(folder, storage_options)
            return open_joined(store, Pattern(pattern), _open_stored)
        return _open_stored(open_store(source, storage_options))
    if is_foreign(source):
        return _open_stored(foreign_store(source))
    return array_images(source)


def _is_a_path(text: str) -> bool:
    """Whether a local file or folder has this very name, braces included."""
    return "://" not in text and os.path.exists(os.path.expanduser(text))


def split_inside(source: Any) -> tuple[Any, str | None]:
    """A path or URI, and the name of the image in it that follows ``::``.

    >>> split_inside("a/b.h5::/exported/data"), split_inside("a/b.tif")
    (('a/b.h5', '/exported/data'), ('a/b.tif', None))
    """
    if not isinstance(source, str | os.PathLike):
        return source, None
    path, found, name = os.fspath(source).rpartition(_INSIDE)
    return (path, name) if found else (source, None)


def _open_stored(store: ObjectStore) -> SourceImages:
    node = read_node(store)
    if node is not None:
        return open_zarr(store, node)
    # The empty key is the object at the URI itself.
    if store.info("") is not None:
        return _open_file(store)
    return inside_zip(store) or _open_folder(store)


def _open_file(store: ObjectStore) -> SourceImages:
    with as_format_error(f"{store.uri}: cannot be read"), store.open("") as file:
        head = file.read(HEAD)
    name = store.uri.rpartition("/")[2].lower()
    for each in FILES:
        if each.matches(head, name):
            return each.open(store)
    what = "of a format that is not known here" if head else "empty"
    raise SourceFormatError(f"{store.uri}: the file is {what}; give {ACCEPTED}")


def _open_folder(store: ObjectStore) -> SourceImages:
    try:
        names = "\n".join(store.folder())
    except (UnlistableError, FileNotFoundError):
        names = ""
    for each in FOLDERS if names else ():
        if each.matches(names.encode(), store.uri.rpartition("/")[2].lower()):
            return each.open(store)
    pattern = guess_pattern([name for name in names.split("\n") if not name.startswith(".")])
    if pattern is not None:
        return open_joined(store, Pattern(pattern), _open_file)
    raise _not_readable(store)


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
