"""TIFF files by tifffile: plain, BigTIFF, OME-TIFF, ImageJ's, slides and others.

Of each image only the largest level is read. Which images there are is found by ``ome_tiff``,
``micromanager`` and ``tiff_series``; ``tiff_image`` describes and opens one. See also
``tiff_colors`` (palettes, alpha, orientation), ``tiff_sizes`` (sizes and units) and
``tiff_checks`` (truncated files).
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import as_format_error
from ngff_core.sources.contract import Pins, Samples, SourceIdentity, SourceImages
from ngff_core.sources.tiff import micromanager, ome_tiff
from ngff_core.sources.tiff import series as tiff_series
from ngff_core.sources.tiff.checks import check_tags
from ngff_core.sources.tiff.files import StoredFile, TiffSource, file_name
from ngff_core.sources.tiff.image import describe, open_samples
from ngff_core.sources.tiff.ome_planes import begins_ome
from ngff_core.sources.tiff.ome_tiff import FoundImages
from ngff_core.sources.tiff.tifffile_compat import open_tiff
from ngff_core.storage import ObjectStore


def open_images(store: ObjectStore) -> SourceImages:
    """All images of the TIFF file that ``store`` names.

    No sample is read. Raises `SourceFormatError` for a file that ends before its tags, and for
    metadata that should say which images there are, and cannot be used.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    with ExitStack() as opened:
        with as_format_error(f"{store.uri}: not a readable TIFF file"):
            tif = opened.enter_context(open_tiff(StoredFile(store), file_name(store)))
            if len(tif.pages.first.tags) == 0:
                raise SourceFormatError(f"{store.uri}: the TIFF file contains no images")
            check_tags(tif, info.size, store.uri)
        closing = opened.enter_context(ExitStack())
        source = TiffSource(store, info, tif, closing)
        with as_format_error(f"{store.uri}: not a readable TIFF file"):
            found = _find(source)
            images = tuple(describe(image, tif, store.uri) for image in found.images)
        close = opened.pop_all().close
    return SourceImages(
        identity=SourceIdentity(store.uri, _pins(source, found)),
        kind="tiff",
        format=tiff_series.format_name(found.images[0].kind),
        images=images,
        open_image=lambda number: _open(source, found, number),
        main=found.main,
        _close=close,
    )


def _find(source: TiffSource) -> FoundImages:
    if begins_ome(source.tif.pages.first.description):
        return ome_tiff.find_images(source)
    if micromanager.is_micromanager(source.tif):
        return micromanager.find_images(source)
    return tiff_series.find_images(source)


def _open(source: TiffSource, found: FoundImages, number: int) -> Samples:
    with as_format_error(f"{source.uri}: image {number} cannot be opened"):
        return open_samples(found.images[number], source)


def _pins(source: TiffSource, found: FoundImages) -> Pins:
    info = source.info
    readers = (("reader", f"tifffile {version('tifffile')}, imagecodecs {version('imagecodecs')}"),)
    own = (("size", str(info.size)), ("version", info.version))
    return tuple(sorted(own + readers + found.pins))
