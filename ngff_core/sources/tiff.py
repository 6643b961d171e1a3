"""TIFF files by tifffile: plain, BigTIFF, OME-TIFF and ImageJ's, in tiles or strips.

Only level 0 of the first series is read. See also ``tiff_axes`` (names of axes),
``tiff_sizes`` (pixel sizes and units) and ``tiff_checks`` (truncated files).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.sources.base import Reader, as_format_error, check_array, clip_unit
from ngff_core.sources.contract import (
    ImageDescription,
    Pins,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.tiff_axes import axis_names
from ngff_core.sources.tiff_checks import check_readable
from ngff_core.sources.tiff_sizes import read_sizes
from ngff_core.sources.tifffile_compat import declared_shape, open_path, open_stream
from ngff_core.sources.zarr_nodes import open_fused
from ngff_core.storage import LocalFiles, ObjectInfo, ObjectStore

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_log = logging.getLogger(__name__)


def open_images(store: ObjectStore) -> SourceImages:
    """Level 0 of the first series of the TIFF file that ``store`` names.

    No sample is read. Raises `SourceFormatError` for a file that ends before its data,
    a compression or dtype that cannot be decoded, and axes that cannot be named.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    with ExitStack() as opened:
        tif = _open_file(store, opened)
        with as_format_error(f"{store.uri}: not a readable TIFF file"):
            series = _first_series(tif, store.uri)
            check_readable(tif, series, info.size, store.uri)
            return _source(store, info, tif, series, opened.pop_all().close)


def _open_file(store: ObjectStore, opened: ExitStack) -> TiffFile:
    with as_format_error(f"{store.uri}: not a readable TIFF file"):
        if isinstance(store, LocalFiles):
            return opened.enter_context(open_path(store.root))
        # A series in several files is supported on local disks only.
        stream = opened.enter_context(store.open(""))
        return opened.enter_context(open_stream(stream, store.uri.rpartition("/")[2]))


def _source(
    store: ObjectStore,
    info: ObjectInfo,
    tif: TiffFile,
    series: TiffPageSeries,
    close: Callable[[], None],
) -> SourceImages:
    try:
        array = open_fused(series.aszarr(level=0, read_only=True), 3)
        check_array(array.shape, np.dtype(array.dtype), store.uri)
        sizes = read_sizes(tif, series)
        reader = Reader(array, store.uri, tuple(array.shape), np.dtype(array.dtype))
        axes = axis_names(series.axes)
        image = ImageDescription(
            name=sizes.name if isinstance(sizes.name, str) else None,
            axes=axes,
            shape=reader.shape,
            dtype=reader.dtype.str,
            placement=Placement(sizes.scale, sizes.units),
        )
        unit = clip_unit(array.chunks, reader.shape)
        return SourceImages(
            identity=_identity(store, info, series),
            kind="tiff",
            format="a TIFF file",
            images=(image,),
            open_image=lambda _: Samples(reader, unit),
            _close=close,
        )
    except BaseException:
        close()
        raise


# --- which pages -----------------------------------------------------------------------


def _first_series(tif: TiffFile, uri: str) -> TiffPageSeries:
    every: Any = _series_of_single_pages(tif) or tif.series
    if len(every) == 0:
        raise SourceFormatError(f"{uri}: the TIFF file contains no images")
    if len(every) > 1:
        _log.warning("%s contains %d series of images; only the first one is read", uri, len(every))
    series: TiffPageSeries = every[0]
    return series


def _series_of_single_pages(tif: TiffFile) -> Any:
    """The one series of a file whose pages tifffile wrote one by one, each with its shape.

    By default tifffile reads such a file as one series for each page, which is not what the
    writer meant. None for files of another kind.
    """
    if not tif.is_shaped or tif.is_ome or tif.is_imagej or not tif.pages.is_multipage:
        return None
    page = tif.pages.first
    # tif.shaped_metadata would parse every page: 17 s for 10 000 of them.
    shape = declared_shape(page)
    if shape is None or page.subifds or math.prod(shape) != page.size:
        return None
    for kind in ("uniform", "generic"):
        series = tif.series(kind=kind)
        if len(series) == 1 and len(series[0]) > 1:
            return series
    return None


# --- what identifies the file ----------------------------------------------------------


def _identity(store: ObjectStore, info: ObjectInfo, series: TiffPageSeries) -> SourceIdentity:
    pins: Pins = (("size", str(info.size)), ("version", info.version))
    return SourceIdentity(store.uri, tuple(sorted(pins + _other_files(store, series))))


def _other_files(store: ObjectStore, series: TiffPageSeries) -> Pins:
    """Sizes and versions of the other files of an OME-TIFF that consists of several."""
    if not series.is_multifile:
        return ()
    paths = {Path(p.parent.filehandle.path) for p in series if p is not None}
    pins = []
    for path in sorted(paths):
        info = LocalFiles(path).info("")
        if info is not None and str(path) != store.uri:
            pins.append((f"file {path.name}", f"{info.size} {info.version}"))
    return tuple(pins)
