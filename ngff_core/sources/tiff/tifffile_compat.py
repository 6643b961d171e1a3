"""The only file that uses tifffile's private parts and tables.

``tests/core/sources/tiff/test_tifffile_compat.py`` runs everything here: run it first after an
update of tifffile.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ngff_core.sources.codestreams import check_claimed

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


def series_of_files(pages: Sequence[Any], shape: Sequence[int], axes: str, **about: Any) -> Any:
    """A series whose pages may lie in several files.

    tifffile 2026.11.8 takes pages for one block of the first file if each begins where the one
    before it ends, without a look at which files they are in: it then gives other samples.
    """
    from tifffile import TiffPageSeries

    series = TiffPageSeries(pages, shape, axes=axes, **about)
    if series.is_multifile:
        series.__dict__["dataoffset"] = None
    return series


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
    """The name of a compression or predictor that cannot be decoded; None if all can.

    ``page`` is a page or a series' keyframe.
    """
    from tifffile import COMPRESSION, PREDICTOR, TIFF

    compression, predictor = int(page.compression), int(page.predictor)
    if compression != 1 and not _has(TIFF.DECOMPRESSORS, compression):
        return _named("compression", COMPRESSION, compression)
    own = compression in TIFF.IMAGE_COMPRESSIONS
    if predictor != 1 and not own and not _has(TIFF.UNPREDICTORS, predictor):
        return _named("predictor", PREDICTOR, predictor)
    return None


def _has(codecs: Any, code: int) -> bool:
    try:
        codecs[code]
    except KeyError:
        return False
    return True


def _named(what: str, names: Any, code: int) -> str:
    try:
        return f"{what} {names(code).name} ({code})"
    except ValueError:
        return f"{what} {code}, which has no name here"


def is_subsampled_without_decoder(page: Any) -> bool:
    """Whether a page has fewer samples of color than of light, and no codec that undoes that."""
    from tifffile import TIFF

    decodes = page.compression in TIFF.IMAGE_COMPRESSIONS and page.planarconfig == 1
    return bool(page.is_subsampled) and not decodes


_PICTURES = frozenset((6, 7, 33003, 33004, 33005, 34712, 34892, 34933, 34934, 22610))
"""Compressions with a header that claims a size: JPEG, JPEG 2000, JPEG XR."""
_SPARE = 1 << 20
"""Samples that a picture may have more than its tile: some writers fill up the last ones."""


def check_pictures(page: Any) -> None:
    """From now on refuse tiles of a page that claim to be much larger than it says.

    tifffile asks ``decode`` of the first page for every tile, and gives it to no decoder that
    compares sizes.
    """
    if int(page.compression) not in _PICTURES:
        return
    decode = page.decode
    rows, columns = min(page.rowsperstrip, page.imagelength), page.imagewidth
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
    most = 4 * rows * columns * page.samplesperpixel + _SPARE

    def checked(data: bytes | None, *args: Any, **named: Any) -> Any:
        if data is not None:
            check_claimed(data, most)
        return decode(data, *args, **named)

    page.decode = checked
