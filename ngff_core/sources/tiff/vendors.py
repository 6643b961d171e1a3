"""What the tags and texts of instruments mean: slide scanners, microscopes, electron microscopes.

A writer is recognised by the page whose samples are read. Text that cannot be understood never
refuses a file: its size is unknown then, and a note says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.electron import (
    digital_micrograph,
    fei,
    jeol,
    sis,
    streak,
    tvips,
    zeiss_sem,
)
from ngff_core.sources.tiff.meaning import Meaning, TaggedImage
from ngff_core.sources.tiff.microscopes import (
    fluoview,
    geotiff,
    lsm,
    metaseries,
    micromanager,
    scanimage,
    stk,
)
from ngff_core.sources.tiff.resolution import stated_resolution
from ngff_core.sources.tiff.slides import bif, huron, ndpi, philips, qptiff, scn, svs

if TYPE_CHECKING:
    from tifffile import TiffPage

_NOT_AS_EXPECTED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What parsing raises; errors of the file system and of storage are not among them."""
_DM_SCALE = 65009
_THERMO_XML = 34683
_ARTIST = 315


@dataclass(frozen=True)
class _Vendor:
    """A kind of writer: its name, how its pages are recognised, and what reads their meaning."""

    name: str
    matches: Callable[[TiffPage], bool]
    read: Callable[[TaggedImage], Meaning]


def _is_streak(page: TiffPage) -> bool:
    # Text in brackets alone may be anybody's.
    artist = page.tags.valueof(_ARTIST, "")
    return page.is_streak and str(artist).startswith("Copyright Hamamatsu")


def _is_digital_micrograph(page: TiffPage) -> bool:
    # Other writers give tags with these numbers to their own attributes.
    return _DM_SCALE in page.tags and not (page.is_nuvu or page.is_epics)


_VENDORS: tuple[_Vendor, ...] = (
    _Vendor(
        "Aperio SVS", lambda p: p.is_svs or getattr(p, "is_motic", False) or p.is_mikroscan, svs
    ),
    _Vendor("Hamamatsu NDPI", lambda p: p.is_ndpi, ndpi),
    _Vendor("PerkinElmer QPTIFF", lambda p: p.is_qpi, qptiff),
    _Vendor("Leica SCN", lambda p: p.parent.is_scn, scn),
    _Vendor("Ventana BIF", lambda p: p.parent.is_bif, bif),
    _Vendor("Philips TIFF", lambda p: p.parent.is_philips, philips),
    _Vendor("Huron TIFF", lambda p: p.is_huron, huron),
    _Vendor("Zeiss LSM", lambda p: p.parent.is_lsm and not p.is_reduced, lsm),
    _Vendor("MetaMorph STK", lambda p: p.is_stk, stk),
    _Vendor("MetaSeries", lambda p: p.parent.is_metaseries, metaseries),
    _Vendor("Olympus FluoView", lambda p: p.is_fluoview, fluoview),
    _Vendor("Olympus SIS", lambda p: p.is_sis, sis),
    _Vendor("Micro-Manager", lambda p: p.is_micromanager, micromanager),
    _Vendor("ScanImage", lambda p: p.is_scanimage, scanimage),
    _Vendor("Zeiss SEM", lambda p: p.is_sem, zeiss_sem),
    _Vendor("FEI", lambda p: p.is_fei or _THERMO_XML in p.tags, fei),
    _Vendor("TVIPS", lambda p: p.is_tvips, tvips),
    _Vendor("JEOL", lambda p: p.tags.valueof(271) == "JEOL Ltd.", jeol),
    _Vendor("Digital Micrograph", _is_digital_micrograph, digital_micrograph),
    _Vendor("Hamamatsu streak", _is_streak, streak),
    _Vendor("GeoTIFF", lambda p: p.is_geotiff, geotiff),
)
"""In the order in which they are tried."""


def vendor_meaning(image: TaggedImage) -> Meaning | None:
    """What the metadata of the instrument that wrote ``image`` mean; None for other writers.

    Where they say nothing of sizes, the resolution tags may.
    """
    vendor = next((each for each in _VENDORS if each.matches(image.page)), None)
    if vendor is None:
        return None
    try:
        meaning = vendor.read(image)
    except _NOT_AS_EXPECTED as error:
        why = str(error) or type(error).__name__
        text = f"what the metadata of {vendor.name} say: they cannot be read ({why})"
        return Meaning(notes=(Note("unknown", text),))
    if meaning == Meaning():
        # Another writer may have kept this one's tag.
        return None
    if meaning.placement.scale or meaning.notes:
        return meaning
    stated = stated_resolution(image.page)
    return replace(
        meaning,
        placement=stated.placement,
        origins={**stated.origins, **meaning.origins},
        notes=stated.notes,
    )
