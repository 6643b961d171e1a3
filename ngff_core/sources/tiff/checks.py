"""Checks that a TIFF file is complete and can be decoded, before any sample is read.

tifffile reads incomplete files without an error: it leaves out tags and pages that it
cannot read, and gives zeros for samples whose place is lost. So each check here compares
what the file declares with what it holds. Nothing is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngff_core.errors import SourceFormatError
from ngff_core.sources.tiff.tifffile_compat import (
    is_contiguous,
    is_subsampled_without_decoder,
    missing_decoder,
    next_page_field,
    stored_tag_codes,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

_NEEDED_TAGS = frozenset((270, 282, 283))
"""ImageDescription, XResolution, YResolution: without them axes and sizes are lost."""


def check_readable(tif: TiffFile, series: TiffPageSeries, size: int, uri: str) -> None:
    """Raise `SourceFormatError` for a series that cannot be read completely.

    ``size`` is the number of bytes of the file.
    """
    _check_imagej_count(tif, series, uri)
    if not is_contiguous(series):
        check_page_chain(tif, size, uri)
    check_extent(series, size, uri)
    check_decodable(series, uri)


def check_tags(tif: TiffFile, size: int, uri: str) -> None:
    """The tags with axes and sizes must be readable: tifffile leaves out tags beyond the end."""
    lost = sorted((stored_tag_codes(tif) & _NEEDED_TAGS) - set(tif.pages.first.tags.keys()))
    if lost:
        raise SourceFormatError(f"{uri}: truncated: {size} bytes end before tags {lost}")


def _check_imagej_count(tif: TiffFile, series: TiffPageSeries, uri: str) -> None:
    """All images of an ImageJ stack must be there: tifffile gives the pages that it can find."""
    declared = (tif.imagej_metadata or {}).get("images", 1)
    if series.kind == "imagej" or not isinstance(declared, int):
        return
    readable = series.size // max(1, series.keyframe.size)
    if readable < declared:
        raise SourceFormatError(
            f"{uri}: truncated: {readable} of the {declared} images of an ImageJ stack can be read"
        )


def check_page_chain(tif: TiffFile, size: int, uri: str) -> None:
    """The last page must say that it is the last: tifffile stops where the chain is broken."""
    field = next_page_field(tif)
    if field is None:
        return
    position, offset = field
    if offset is None:
        raise SourceFormatError(
            f"{uri}: truncated: {size} bytes, but its list of pages continues at {position}"
        )
    if offset:
        what = "truncated" if offset >= size else "corrupted"
        raise SourceFormatError(
            f"{uri}: {what}: {size} bytes, and page {len(tif.pages)} at {offset} cannot be read"
        )


def check_extent(series: TiffPageSeries, size: int, uri: str) -> None:
    """Every byte of the series' samples must lie inside the file that it is in."""
    here = not series.is_multifile and series.keyframe.parent is series.parent
    if here and series.dataoffset is not None:
        _refuse_beyond(series.dataoffset + series.nbytes, size, uri)
        return
    missing = 0
    for page in series:
        if page is None:
            missing += 1
            continue
        file_size = size if page.parent is series.parent else page.parent.filehandle.size
        if not page.dataoffsets or not page.databytecounts:
            # tifffile leaves out these lists too, and gives zeros for the samples.
            raise SourceFormatError(
                f"{uri}: truncated: {file_size} bytes end before the list of where its data lie"
            )
        ends = map(_end, page.dataoffsets, page.databytecounts)
        _refuse_beyond(max(ends, default=0), file_size, uri)
    if missing:
        raise SourceFormatError(
            f"{uri}: {missing} of {len(series)} planes are missing: they lie in other files "
            "that are not there, or were never written"
        )


def _end(offset: int, count: int) -> int:
    # A count of zero is a tile that was left out on purpose.
    return offset + count if count else 0


def _refuse_beyond(end: int, size: int, uri: str) -> None:
    if end > size:
        raise SourceFormatError(f"{uri}: truncated: {size} bytes, but its data end at {end}")


def check_decodable(series: TiffPageSeries, uri: str) -> None:
    """Compression, predictor and dtype must be ones that can be decoded."""
    page = series.keyframe
    reason = missing_decoder(page)
    if reason is not None:
        raise SourceFormatError(f"{uri}: cannot be decoded: {reason}; write it with another")
    if is_subsampled_without_decoder(page):
        raise SourceFormatError(
            f"{uri}: cannot be decoded: YCbCr with fewer samples of color than of light, "
            "not compressed as JPEG; convert it to RGB"
        )
    if page.dtype is None:
        raise SourceFormatError(
            f"{uri}: samples of {page.bitspersample} bits and format {page.sampleformat} "
            "cannot be read; write the file with samples of 8, 16, 32 or 64 bits"
        )
