"""Which stored arrays and files a lazy array reads, however dask was asked to read them.

Found are arrays, groups and stores of zarr, arrays of tensorstore, files that are open or
mapped into memory, and paths, anywhere among the objects that the array holds: as a
source of ``from_array`` or ``from_zarr``, as an argument of a task, in a closure or a global of
a function, after ``persist``, ``optimize``, fusing and rechunking, in any form of graph.

Not found is a location that nothing held by the array names: a path that a function reads from
a file or computes, a file that an extension module keeps open, and what a dask cluster would
read again for samples that it persisted and then lost.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import zarr
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from zarr.abc.store import Store as ZarrStore
from zarr.storage import FsspecStore, LocalStore, StorePath

from ngff_core.lazy.image_cache import CachedArray
from ngff_core.lazy.object_walk import reachable
from ngff_core.sources.base import Reader
from ngff_core.storage import ObjectStore, canonical_uri
from ngff_core.storage.foreign import foreign_store

_LONGEST_PATH = 4096
_LEAVES = (
    LocalStore,
    FsspecStore,
    ObjectStore,
    Reader,
    AbstractFileSystem,
    AbstractBufferedFile,
    PurePath,
    io.IOBase,
)
_LOCATED = (*_LEAVES, CachedArray, zarr.Array, zarr.Group, StorePath, ZarrStore, np.memmap)


@dataclass(frozen=True)
class Location:
    """A stored thing that is read: all of what lies at ``uri``, or else something in it."""

    uri: str
    whole: bool = True


def read_from_target(
    arrays: Iterable[Any], target: str, raw: object = None, *, empty: bool = False
) -> str | None:
    """The location that ``arrays`` read and that writing to ``target`` would destroy.

    None where there is none. ``target`` is a path or a URI, ``raw`` the mapping or the store
    that the caller gave for it. A location counts where it is the target, lies in it, or is an
    array that the target lies in. A store or a group that the target lies in counts where a
    text in the graph names a part of it that does so. Where the target is ``empty``, nothing is
    destroyed, and paths that are only named do not count.
    """
    goal = canonical_uri(target)
    around: dict[str, None] = {}
    texts: dict[str, None] = {}
    raw_type = type(raw)
    for value in reachable(arrays, lambda t: t is raw_type or _has_location(t), _is_leaf):
        if raw is not None and value is raw:
            return target
        if isinstance(value, str):
            texts[value] = None
            continue
        for found in locations_of(value):
            uri = canonical_uri(found.uri)
            if _lies_in(uri, goal) or (found.whole and _lies_in(goal, uri)):
                return found.uri
            if _lies_in(goal, uri):
                around[uri] = None
    named = () if empty else _named(texts, around, goal)
    return next((uri for uri in named if _lies_in(uri, goal)), None)


def locations_of(value: object) -> Iterator[Location]:
    """Where a single object says that it reads from; none for most objects."""
    if isinstance(value, Reader):
        yield Location(value.uri)
    elif isinstance(value, ObjectStore):
        yield Location(value.uri, whole=False)
    elif isinstance(value, CachedArray):
        yield from locations_of(value.copy)
    elif isinstance(value, zarr.Array):
        yield Location(foreign_store(value.store_path).uri)
    elif isinstance(value, zarr.Group):
        yield Location(foreign_store(value.store_path).uri, whole=False)
    elif isinstance(value, StorePath | ZarrStore):
        yield Location(foreign_store(value).uri, whole=False)
    else:
        yield from (Location(uri, whole=False) for uri in _file_names(value))


def _has_location(kind: type) -> bool:
    return issubclass(kind, _LOCATED) or kind.__module__.partition(".")[0] == "tensorstore"


def _is_leaf(value: object) -> bool:
    """Whether what an object reads is known from itself, so that its parts need no look."""
    if isinstance(value, CachedArray):
        # Of a copy that is removed, or another process's, the original may have to be read.
        return value.is_kept
    if isinstance(value, zarr.Array | zarr.Group):
        value = value.store_path
    if isinstance(value, StorePath):
        value = value.store
    # Others have no location: a mapping in one may be the target, or another store inside it.
    return isinstance(value, _LEAVES)


def _file_names(value: Any) -> Iterator[str]:
    """Paths and URIs of files that an object names, or has open."""
    if isinstance(value, AbstractBufferedFile):
        yield str(value.fs.unstrip_protocol(value.path))
        return
    name: object = None
    if isinstance(value, PurePath):
        name = value
    elif isinstance(value, np.memmap):
        name = value.filename
    elif isinstance(value, io.IOBase):
        # a number for a file that was opened by its descriptor
        name = getattr(value, "name", None)
    elif type(value).__module__.partition(".")[0] == "tensorstore":
        # Python does not see its parts, and it is not imported for this.
        name = getattr(getattr(value, "kvstore", None), "url", None)
    if isinstance(name, str | os.PathLike):
        yield os.fspath(name)


def _named(texts: Iterable[str], around: Iterable[str], goal: str) -> Iterator[str]:
    """Locations that texts name, as paths or as parts of folders that ``goal`` lies in."""
    names = [text for text in texts if 0 < len(text) < _LONGEST_PATH and text.isprintable()]
    paths = [canonical_uri(name) for name in names if "://" in name or os.path.isabs(name)]
    yield from paths
    folders = {*around, *(path for path in paths if _lies_in(goal, path))}
    with suppress(FileNotFoundError):  # the working folder was removed
        folders.add(os.getcwd())
    for folder in folders:
        for name in names:
            uri = f"{folder.rstrip('/')}/{name}"
            # Most texts are names of tasks, and most of these are no files.
            if "://" in folder or os.path.lexists(uri):
                yield canonical_uri(uri)


def _lies_in(uri: str, folder: str) -> bool:
    return uri == folder or uri.startswith(f"{folder.rstrip('/')}/")
