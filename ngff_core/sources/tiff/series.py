"""Which images a TIFF file holds, by the series of pages that tifffile finds in it.

Smaller copies of an image (levels of a pyramid, reduced pages) are not images of their own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.sources.contract import Note, Role
from ngff_core.sources.tiff.axes import axis_names
from ngff_core.sources.tiff.checks import check_readable
from ngff_core.sources.tiff.colors import color_table
from ngff_core.sources.tiff.files import TiffSource
from ngff_core.sources.tiff.image import Details, Stored, TiffImage
from ngff_core.sources.tiff.ome_tiff import FoundImages
from ngff_core.sources.tiff.tifffile_compat import declared_shape
from ngff_core.sources.tiff.views import Form

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

_SLIDES = frozenset(
    (
        "svs",
        "mikroscan",
        "motic",
        "trestle",
        "huron",
        "scn",
        "qpi",
        "ndpi",
        "bif",
        "avs",
        "philips",
        "indica",
    )
)
"""tifffile's kinds for whole slides, whose series it names."""

_ROLES: dict[str, Role] = {
    "label": "slide label",
    "macro": "macro",
    "map": "overview",
    "overview": "overview",
    "other": "thumbnail",
    "probability": "preview",
    "thumbnail": "thumbnail",
}
"""By the name that tifffile gives to a series of a slide, in lower case."""

_SCAN = "baseline"
"""The name of a slide's scan."""

_NO_NAMES = ("", "Baseline", "Unknown")
"""tifffile's words for a series that the file does not name."""

_NOT_STITCHED = frozenset(("bif", "trestle"))
"""Kinds whose tiles overlap, and are given side by side."""

_SIS = (33560, 33471)
"""Tags of Olympus SIS, on the page with the data."""


def find_images(source: TiffSource) -> FoundImages:
    """The images among the series of a TIFF file.

    Raises `SourceFormatError` for a file without images.
    """
    tif = source.tif
    every: list[TiffPageSeries] = list(_series_of_single_pages(tif) or tif.series)
    if not every:
        raise SourceFormatError(f"{source.uri}: the TIFF file contains no images")
    kept, notes = _without_copies(every)
    roles = _leica_roles(tif) if kept[0].kind == "scn" else ()
    if len(roles) != len(kept):
        roles = tuple(_role(series, kept) for series in kept)
    pairs = zip(kept, roles, strict=True)
    images = tuple(_image(source, series, role, notes) for series, role in pairs)
    return FoundImages(images, _main(kept, images))


def _series_of_single_pages(tif: TiffFile) -> Any:
    """The one series of a file whose pages tifffile wrote one by one, each with its shape.

    By default tifffile reads such a file as one series for each page, which is not what the
    writer meant. None for files of another kind.
    """
    if not tif.is_shaped or tif.is_imagej or not tif.pages.is_multipage:
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


def _without_copies(every: list[TiffPageSeries]) -> tuple[list[TiffPageSeries], tuple[Note, ...]]:
    """Without reduced pages, SubIFDs and masks, as far as that leaves anything."""
    if every[0].kind in _SLIDES:
        return every, ()
    kept = [s for s in every if not s.keyframe.is_reduced] or every
    kept = [s for s in kept if not s.keyframe.is_subifd] or kept
    plain = [s for s in kept if not s.keyframe.is_mask] or kept
    masks = len(kept) - len(plain)
    text = f"{masks} transparency mask{'s' if masks > 1 else ''} of the image"
    return plain, (Note("left out", text),) if masks else ()


def _role(series: TiffPageSeries, every: list[TiffPageSeries]) -> Role:
    if series.kind in _SLIDES:
        return _described_role(series.keyframe) or _ROLES.get(series.name.lower(), "image")
    instruments = [s for s in every if _is_sis(s.keyframe)]
    # Beside the page with the instrument's tag all others are previews for other programs.
    return "preview" if instruments and series not in instruments else "image"


def _described_role(page: TiffPage) -> Role | None:
    """The role that Aperio's text says, which is not bound to an order of the pages."""
    lines = page.description.lower().splitlines()[:2]
    for word in ("label", "macro"):
        if len(lines) > 1 and lines[0].startswith("aperio") and lines[1].startswith(word):
            return _ROLES[word]
    return None


def _leica_roles(tif: TiffFile) -> tuple[Role, ...]:
    """Of the images of a Leica slide: one whose view is the whole slide is the macro."""
    from defusedxml.ElementTree import fromstring

    roles: list[Role] = []
    for collection in _named(fromstring(tif.scn_metadata), "collection"):
        whole = (collection.get("sizeX"), collection.get("sizeY"))
        for image in _named(collection, "image"):
            views = [(view.get("sizeX"), view.get("sizeY")) for view in _named(image, "view")]
            role: Role = "macro" if None not in whole and whole in views else "image"
            roles += [role] * len([p for p in _named(image, "pixels") if len(p)])
    return tuple(roles)


def _named(element: Any, tag: str) -> list[Any]:
    return [child for child in element if str(child.tag).rpartition("}")[2] == tag]


def _is_sis(page: TiffPage) -> bool:
    return any(tag in page.tags for tag in _SIS)


def _main(every: list[TiffPageSeries], images: tuple[TiffImage, ...]) -> int | None:
    numbers = [number for number, image in enumerate(images) if image.details.role == "image"]
    if len(numbers) == 1:
        return numbers[0]
    scans = [n for n in numbers if every[n].kind in _SLIDES and every[n].name.lower() == _SCAN]
    return scans[0] if len(scans) == 1 else None


def _image(
    source: TiffSource, series: TiffPageSeries, role: Role, notes: tuple[Note, ...]
) -> TiffImage:
    kind = series.kind
    axes = axis_names(series.axes, "sem" if series.keyframe.is_sem else kind)
    if kind in _NOT_STITCHED and role == "image":
        text = "the positions of the tiles: they overlap on the slide, and are given side by side"
        notes = (*notes, Note("left out", text))
    unmarked = _unmarked_levels(series)
    if unmarked:
        text = (
            f"{unmarked} smaller images of the file are levels of its pyramid: they have the "
            "sizes of levels, but are not marked as such"
        )
        notes = (*notes, Note("assumed", text))
    stored = Stored(series, axes)
    return TiffImage(
        form=_form(source, stored),
        kind=kind,
        open_pages=lambda: _checked(source, stored),
        page=series.keyframe,
        series=series,
        details=Details(
            name=None if series.name in _NO_NAMES else series.name,
            role=role,
            notes=notes,
            origins={} if kind in _NO_AXES else {"axes": f"tifffile's reading of {kind}"},
        ),
    )


def _unmarked_levels(series: TiffPageSeries) -> int:
    """How many of the levels that tifffile finds could be images of their own."""
    if series.kind in _SLIDES:
        return 0
    pages = [level.keyframe for level in series.levels[1:]]
    return sum(not (page.is_reduced or page.is_subifd) for page in pages)


_NO_AXES = frozenset(("uniform", "generic"))
"""Kinds whose pages have no order but that in the file."""


def _form(source: TiffSource, stored: Stored) -> Form:
    page = stored.series.keyframe
    if page.dtype is None:
        raise SourceFormatError(
            f"{source.uri}: samples of {page.bitspersample} bits and format {page.sampleformat} "
            "cannot be read; write the file with samples of 8, 16, 32 or 64 bits"
        )
    return stored.form


def _checked(source: TiffSource, stored: Stored) -> Stored:
    """The pages, if all are there and can be decoded alike."""
    series = stored.series
    check_readable(source.tif, series, source.info.size, source.uri)
    table = color_table(series.keyframe)
    if table is not None and len(series) > 1:
        for page in series:
            other = None if page is None else color_table(page.aspage())
            if other is None or not np.array_equal(table, other):
                raise SourceFormatError(
                    f"{source.uri}: its pages have different palettes; convert it to RGB"
                )
    return stored


_FORMATS = {
    "avs": "an AVS slide",
    "bif": "a Ventana BIF slide",
    "fluoview": "an Olympus FluoView file",
    "geotiff": "a GeoTIFF file",
    "huron": "a Huron slide",
    "imagej": "an ImageJ TIFF file",
    "indica": "an Indica Labs slide",
    "lsm": "a Zeiss LSM file",
    "mikroscan": "a Mikroscan slide",
    "mmstack": "a Micro-Manager image stack",
    "motic": "a Motic slide",
    "ndpi": "a Hamamatsu NDPI slide",
    "ndtiff": "an NDTiff file",
    "ome": "an OME-TIFF file",
    "philips": "a Philips TIFF slide",
    "qpi": "an Akoya QPTIFF file",
    "scanimage": "a ScanImage TIFF file",
    "scn": "a Leica SCN slide",
    "sis": "an Olympus SIS file",
    "stk": "a MetaMorph STK file",
    "svs": "an Aperio SVS slide",
    "trestle": "a Trestle slide",
}


def format_name(kind: str) -> str:
    """A kind of TIFF in words.

    >>> format_name("svs"), format_name("uniform")
    ('an Aperio SVS slide', 'a TIFF file')
    """
    return _FORMATS.get(kind, "a TIFF file")
