"""The only file that uses tifffile's private parts and tables.

``tests/core/sources/test_tifffile_compat.py`` runs everything here: run it first after an
update of tifffile.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries


def open_tiff(file: Any, name: str) -> TiffFile:
    """A TIFF file by itself: tifffile does not look for other files of its series.

    ``file`` is a binary stream, or an object whose ``open()`` gives one; the latter can be closed
    and is opened again when it is read.
    """
    from tifffile import TiffFile

    return TiffFile(file, name=name, _multifile=False)


def is_contiguous(series: TiffPageSeries) -> bool:
    """Whether one page entry stands for all pages, whose samples lie one after another.

    tifffile then does not follow the chain of pages.
    """
    return len(series) > 1 and len(series._pages) == 1


def declared_shape(page: TiffPage) -> list[int] | None:
    """The shape in the JSON description that tifffile writes; None where there is none."""
    try:
        shape = json.loads(page.shaped_description or "")["shape"]
        return [int(n) for n in shape]
    except (ValueError, TypeError, KeyError):
        return None


def next_page_field(tif: TiffFile) -> tuple[int, int | None] | None:
    """Where the chain of pages that tifffile read continues.

    Returns the position in the file of the field with the next page's offset, and its value:
    0 if the last page was read, None if the file ends before the field. None as a whole if
    tifffile did not follow the chain.
    """
    position = tif.pages.next_page_offset
    if position is None:
        return None
    width = tif.tiff.offsetsize
    tif.filehandle.seek(position)
    field = tif.filehandle.read(width)
    if len(field) < width:
        return position, None
    return position, int(struct.unpack(tif.tiff.offsetformat, field)[0])


def stored_tag_codes(tif: TiffFile) -> set[int]:
    """Codes of the first page's tags as they are in the file, readable or not.

    tifffile silently leaves out tags whose values are beyond the end of the file.
    """
    tiff, file = tif.tiff, tif.filehandle
    file.seek(tif.pages.first.offset)
    count = struct.unpack(tiff.tagnoformat, file.read(tiff.tagnosize))[0]
    tags = file.read(count * tiff.tagsize)
    starts = range(0, count * tiff.tagsize, tiff.tagsize)
    return {struct.unpack_from(tiff.byteorder + "H", tags, start)[0] for start in starts}


def missing_decoder(page: Any) -> str | None:
    """tifffile's message for a compression or predictor that cannot be decoded; None if it can.

    ``page`` is a page or a series' keyframe.
    """
    from tifffile import TIFF

    try:
        if page.compression != 1:
            TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != 1 and page.compression not in TIFF.IMAGE_COMPRESSIONS:
            TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        return str(error)
    return None
