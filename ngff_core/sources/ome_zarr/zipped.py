"""Zip files that hold one zarr hierarchy, such as single-file OME-Zarr (``.ozx``, RFC-9)."""

from __future__ import annotations

from dataclasses import replace

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import SourceImages
from ngff_core.sources.ome_zarr.arrays import open_zarr
from ngff_core.sources.ome_zarr.nodes import read_node
from ngff_core.storage import DOCUMENTS, ObjectStore
from ngff_core.storage.zipped import ZippedFiles, open_zip

_ENDINGS = (".ozx", ".zip")
_SHOWN = 5
"""Names of hierarchies that a message shows at most."""


def open_images(store: ObjectStore) -> SourceImages:
    """The zarr array or the OME-Zarr images in a zip file, read member by member.

    The hierarchy is the file's root, or the only folder in it that is one. Raises
    `SourceFormatError` for a zip file without a hierarchy, or with several.
    """
    return _open(store, None)


def inside_zip(store: ObjectStore) -> SourceImages | None:
    """What lies at a path that leads into a zip file; None where no file is part of the path."""
    above, names = store, [""]
    while above.parent().uri != above.uri:
        names.insert(0, above.uri.rpartition("/")[2])
        above = above.parent()
        if above.uri.endswith(_ENDINGS) and above.info("") is not None:
            return _open(above, "/".join(names).strip("/"))
    return None


def _open(store: ObjectStore, path: str | None) -> SourceImages:
    with as_format_error(f"{store.uri}: cannot be read as a zip file"):
        opened = open_zip(store)
        try:
            place = _root(opened) if path is None else opened.child(path)
            node = read_node(place)
            if node is None:
                raise SourceFormatError(f"{place.uri}: there is no zarr array or group in the file")
            images = open_zarr(place, node)
        except BaseException:
            opened.close()
            raise
    return replace(images, format=f"{images.format} in a zip file", _close=opened.close)


def _root(opened: ZippedFiles) -> ZippedFiles:
    """The file's root, or the folder in it, that is a zarr array or group."""
    parts = [key.split("/") for key in opened.objects()]
    if any(len(part) == 1 and part[0] in DOCUMENTS for part in parts):
        return opened
    found = sorted({part[0] for part in parts if len(part) == 2 and part[1] in DOCUMENTS})
    if len(found) == 1:
        return opened.child(found[0])
    if not found:
        raise SourceFormatError(
            f"{opened.uri}: a zip file that holds no zarr hierarchy; unpack it and give a file "
            "or a folder in it"
        )
    more = ", …" if found[_SHOWN:] else ""
    raise SourceFormatError(
        f"{opened.uri}: a zip file of several zarr hierarchies; give one of them, such as "
        f"{opened.uri}/{found[0]}: {', '.join(found[:_SHOWN])}{more}"
    )
