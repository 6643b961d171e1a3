"""BigDataViewer's XML given as the source: it leads to an HDF5 file or an N5 folder."""

from __future__ import annotations

from dataclasses import replace

from ngff_core.errors import SourceFormatError
from ngff_core.sources.contract import SourceIdentity, SourceImages
from ngff_core.sources.hdf5.bdv_xml import BdvXml, read_xml
from ngff_core.storage import ObjectStore


def open_images(store: ObjectStore) -> SourceImages:
    """The images that the XML is about.

    Raises `SourceFormatError` where they are in a format that is not read, or elsewhere.
    """
    folder, name = store.parent(), store.uri.rpartition("/")[2]
    xml = read_xml(folder, name)
    if xml.loader not in ("bdv.hdf5", "bdv.n5"):
        raise SourceFormatError(
            f"{store.uri}: a BigDataViewer XML whose images are in the format "
            f"{xml.loader or '(none)'}, which is not read; BigDataViewer can export them as HDF5"
        )
    images = _open(_place(folder, xml, store.uri), xml, store.uri)
    return replace(images, identity=SourceIdentity(store.uri, images.identity.pins))


def _place(folder: ObjectStore, xml: BdvXml, uri: str) -> ObjectStore:
    parts = [part for part in xml.path.split("/") if part not in ("", ".")]
    if xml.path.startswith("/") or ".." in parts or not parts:
        raise SourceFormatError(
            f"{uri}: its images are at {xml.path or 'no path'}, which is not below its folder; "
            "give the HDF5 file or N5 folder itself"
        )
    for part in parts:
        folder = folder.child(part)
    return folder


def _open(place: ObjectStore, xml: BdvXml, uri: str) -> SourceImages:
    if xml.loader == "bdv.hdf5":
        from ngff_core.sources.hdf5.bdv import open_bdv
        from ngff_core.sources.hdf5.files import h5_errors, open_h5

        if place.info("") is None:
            raise SourceFormatError(f"{uri}: the file {place.uri} that it is about is not there")
        file = open_h5(place)
        try:
            with h5_errors(f"{place.uri}: not a readable BigDataViewer file"):
                return open_bdv(file, xml)
        except BaseException:
            file.close()
            raise
    from ngff_core.sources.volumes.n5 import open_n5

    return open_n5(place, xml)
