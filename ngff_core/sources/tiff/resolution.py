"""Sizes from a TIFF's resolution tags, where they are more than instructions for a printer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.meaning import Meaning, sized
from ngff_core.sources.units import Quantity, finite

if TYPE_CHECKING:
    from tifffile import TiffPage

_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
NO_UNIT, INCH, CENTIMETER = 1, 2, 3
"""Values of the tag ResolutionUnit."""

_MICROMETERS = {INCH: 25_400.0, CENTIMETER: 10_000.0}
_PRINTED: tuple[int, ...] = (
    72,
    75,
    90,
    96,
    100,
    120,
    144,
    150,
    180,
    200,
    240,
    254,
    266,
    300,
    350,
    360,
    400,
    450,
)
_PRINTED += (500, 508, 600, 720, 800, 1000, 1016, 1200, 1440, 2400, 2540, 2880, 4800)
"""Dots per inch of screens, printers and scanners."""
_TOLERANCE = 1e-3
"""Relative; 300 dots per inch are often written as 118.11 per centimeter."""
_COARSEST = 100.0
"""Largest pixel in micrometers that a resolution tag is believed for."""


def resolution(page: TiffPage) -> tuple[float, float] | None:
    """Pixels per unit along x and y; None unless both are positive."""
    x, y = (_ratio(page.tags.valueof(code)) for code in (_X_RESOLUTION, _Y_RESOLUTION))
    return (x, y) if x is not None and y is not None else None


def resolution_unit(page: TiffPage) -> int | None:
    """The tag ResolutionUnit; None where it is absent."""
    value = page.tags.valueof(_RESOLUTION_UNIT)
    return None if value is None else int(value)


def _ratio(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        value = value[0] / value[1]
    number = finite(value)
    return number if number is not None and number > 0 else None


def true_resolution(page: TiffPage, origin: str) -> Meaning:
    """Sizes of a writer whose resolution tags are known to be those of the microscope."""
    found, unit = resolution(page), resolution_unit(page)
    if found is None or unit not in _MICROMETERS:
        return Meaning()
    x, y = (Quantity(_MICROMETERS[unit] / r, "micrometer") for r in found)
    return sized({"y": y, "x": x}, origin)


def stated_resolution(page: TiffPage) -> Meaning:
    """Sizes of any other writer: no printer's resolution, and no pixels of a tenth of a
    millimeter and more. What is not believed is noted."""
    found, unit = resolution(page), resolution_unit(page)
    if found is None or unit not in _MICROMETERS:
        return Meaning()
    if any(is_printed(r, unit) for r in found):
        return _doubted(found, unit, "which is for printing")
    if is_too_coarse(page):
        return _doubted(found, unit, f"pixels of more than {_COARSEST:g} micrometer")
    return true_resolution(page, "XResolution tag")


def is_too_coarse(page: TiffPage) -> bool:
    """Whether the tags, in the unit that they name, give pixels that no microscope has."""
    found, unit = resolution(page), resolution_unit(page)
    if found is None or unit not in _MICROMETERS or any(is_printed(r, unit) for r in found):
        return False
    return any(_MICROMETERS[unit] / r > _COARSEST for r in found)


def is_printed(per_unit: float, unit: int) -> bool:
    """Whether a resolution is one of printers and screens.

    >>> is_printed(300, INCH), is_printed(118.11, CENTIMETER), is_printed(40000, CENTIMETER)
    (True, True, False)
    """
    inches = per_unit * (2.54 if unit == CENTIMETER else 1)
    exact = any(abs(inches - dots) <= _TOLERANCE * dots for dots in _PRINTED)
    # Some programs round to complete dots per centimeter: 28 for 72 dots per inch.
    rounded = unit == CENTIMETER and any(per_unit == round(dots / 2.54) for dots in _PRINTED)
    return exact or rounded


def _doubted(found: tuple[float, float], unit: int, why: str) -> Meaning:
    if found == (1.0, 1.0):
        # The value of writers that know none.
        return Meaning()
    per = "inch" if unit == INCH else "centimeter"
    text = (
        f"the size of a sample: the resolution tags have {_show(found)} dots per {per}, {why}; "
        "scale and units (--scale, --units) give it"
    )
    return Meaning(notes=(Note("unknown", text),))


def _show(found: tuple[float, float]) -> str:
    x, y = (f"{r:.6g}" for r in found)
    return x if x == y else f"{x} x {y}"
