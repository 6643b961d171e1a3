r"""Units of length and time, however a file spells them, as the names that OME-NGFF knows.

Symbols are case-sensitive, as ``Mm`` is no ``mm``; only complete words and their abbreviations
(``Micron``, ``SEC``) are read in any case. OME-NGFF has no name for some units of OME, which are
converted: 1 thou is 25.4 micrometer. What is no length and no time (``pixel``, ``reference
frame``) has no unit.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

_PREFIXES = {
    "y": ("yocto", -24),
    "z": ("zepto", -21),
    "a": ("atto", -18),
    "f": ("femto", -15),
    "p": ("pico", -12),
    "n": ("nano", -9),
    "u": ("micro", -6),
    "m": ("milli", -3),
    "c": ("centi", -2),
    "d": ("deci", -1),
    "": ("", 0),
    "h": ("hecto", 2),
    "k": ("kilo", 3),
    "M": ("mega", 6),
    "G": ("giga", 9),
    "T": ("tera", 12),
    "P": ("peta", 15),
    "E": ("exa", 18),
    "Z": ("zetta", 21),
    "Y": ("yotta", 24),
}
"""Symbol, word and power of ten of the SI prefixes in OME-NGFF's list; deca is not in it."""


def _powers(base: str) -> dict[str, Fraction]:
    return {word + base: Fraction(10) ** power for word, power in _PREFIXES.values()}


_INCH = Fraction(254, 10_000)

LENGTHS: Mapping[str, Fraction] = {
    **_powers("meter"),
    "angstrom": Fraction(1, 10**10),
    "inch": _INCH,
    "foot": 12 * _INCH,
    "yard": 36 * _INCH,
    "mile": 63360 * _INCH,
    "parsec": Fraction(30_856_775_814_913_673),
}
"""Meters in each unit of length of OME-NGFF."""

TIMES: Mapping[str, Fraction] = {
    **_powers("second"),
    "minute": Fraction(60),
    "hour": Fraction(3600),
    "day": Fraction(86400),
}
"""Seconds in each unit of time of OME-NGFF."""


@dataclass(frozen=True)
class Unit:
    """A unit of a file.

    Attributes
    ----------
    name
        Of OME-NGFF's list.
    factor
        How many of them one unit of the file is; 1 unless OME-NGFF lacks the file's unit.
    """

    name: str
    factor: Fraction = Fraction(1)


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, as a file gives it.

    Attributes
    ----------
    value
        In ``unit``; finite.
    unit
        A name of OME-NGFF's list; None where the file's unit is not known.
    given
        The unit in the file's words.
    converted
        Whether ``value`` is not the file's own number, as OME-NGFF lacks its unit.
    """

    value: float
    unit: str | None
    given: str = ""
    converted: bool = False


def _symbols(base: str) -> dict[str, Unit]:
    return {symbol + base[0]: Unit(word + base) for symbol, (word, _) in _PREFIXES.items()}


def _words(base: str, *endings: str) -> dict[str, Unit]:
    """Complete words: each prefix with each of ``endings``, singular and plural."""
    return {
        word + ending + plural: Unit(word + base)
        for word, _ in _PREFIXES.values()
        for ending in endings
        for plural in ("", "s")
    }


def _all(unit: Unit, *names: str) -> dict[str, Unit]:
    return dict.fromkeys(names, unit)


_MICROMETER, _METER, _SECOND = Unit("micrometer"), Unit("meter"), Unit("second")
_INCH_IN_MICROMETERS = Fraction(25_400)

# --- by symbol: case counts ------------------------------------------------------------

_LENGTH_SYMBOLS: Mapping[str, Unit] = {
    **_symbols("meter"),
    **_all(Unit("meter", Fraction(10)), "dam"),
    **_all(Unit("angstrom"), "Å", "å", "A"),
    **_all(Unit("inch"), "in", '"'),
    **_all(Unit("foot"), "ft"),
    **_all(Unit("yard"), "yd"),
    **_all(Unit("mile"), "mi"),
    **_all(Unit("parsec"), "pc"),
    **_all(Unit("meter", Fraction(149_597_870_700)), "ua", "au"),
    **_all(Unit("meter", Fraction(9_460_730_472_580_800)), "ly"),
    **_all(Unit("micrometer", _INCH_IN_MICROMETERS / 12), "li"),
    **_all(Unit("micrometer", _INCH_IN_MICROMETERS / 72), "pt"),
}
_TIME_SYMBOLS: Mapping[str, Unit] = {
    **_symbols("second"),
    **_all(Unit("second", Fraction(10)), "das"),
    **_all(Unit("minute"), "min"),
    **_all(Unit("hour"), "h"),
    **_all(Unit("day"), "d"),
}

# --- by word: any case -----------------------------------------------------------------

_LENGTH_WORDS: Mapping[str, Unit] = {
    **_words("meter", "meter", "metre"),
    **_all(Unit("meter", Fraction(10)), "decameter", "dekameter", "decametre"),
    **_all(_MICROMETER, "micron", "microns"),
    **_all(Unit("angstrom"), "angstrom", "angstroms", "ångström", "ångströms", "ang"),
    **_all(Unit("inch"), "inch", "inches"),
    **_all(Unit("foot"), "foot", "feet"),
    **_all(Unit("yard"), "yard", "yards"),
    **_all(Unit("mile"), "mile", "miles"),
    **_all(Unit("parsec"), "parsec", "parsecs"),
    **_all(Unit("micrometer", _INCH_IN_MICROMETERS / 1000), "thou"),
}
_TIME_WORDS: Mapping[str, Unit] = {
    **_words("second", "second", "sec"),
    **_all(Unit("nanosecond"), "nsec", "nsecs"),
    **_all(Unit("microsecond"), "usec", "usecs"),
    **_all(Unit("millisecond"), "msec", "msecs"),
    **_all(Unit("minute"), "min", "mins", "minute", "minutes"),
    **_all(Unit("hour"), "hr", "hrs", "hour", "hours"),
    **_all(Unit("day"), "day", "days"),
}

_NO_UNIT = frozenset(("", "pixel", "pixels", "px", "voxel", "voxels"))
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")


def length_unit(text: object) -> Unit | None:
    r"""The unit of length that ``text`` means; None if it means none.

    >>> length_unit("µm").name, length_unit("\\u03BCm").name, length_unit("Mm").name
    ('micrometer', 'micrometer', 'megameter')
    """
    return _find(text, _LENGTH_SYMBOLS, _LENGTH_WORDS)


def time_unit(text: object) -> Unit | None:
    """The unit of time that ``text`` means; None if it means none.

    >>> time_unit("hrs").name, time_unit("Sec.").name
    ('hour', 'second')
    """
    return _find(text, _TIME_SYMBOLS, _TIME_WORDS)


def unit_name(text: object) -> str | None:
    """OME-NGFF's name of a unit of length or time; None if it has none.

    >>> unit_name("micron"), unit_name("ms"), unit_name("pixel"), unit_name("thou")
    ('micrometer', 'millisecond', None, None)
    """
    unit = length_unit(text) or time_unit(text)
    return unit.name if unit is not None and unit.factor == 1 else None


def is_no_unit(text: object) -> bool:
    """Whether ``text`` says that numbers count samples, or says nothing."""
    return text is None or _plain(text).lower() in _NO_UNIT


def length(value: object, unit: object) -> Quantity | None:
    """``value`` in a unit of length; None if it is not a finite number."""
    return _quantity(value, unit, length_unit(unit))


def duration(value: object, unit: object) -> Quantity | None:
    """``value`` in a unit of time; None if it is not a finite number."""
    return _quantity(value, unit, time_unit(unit))


def convert(value: float, unit: str, to: str) -> float:
    """``value`` in another unit of the same kind, rounded once.

    >>> convert(3.3724e-06, "meter", "micrometer")
    3.3724
    """
    table = LENGTHS if unit in LENGTHS else TIMES
    return _times(value, table[unit] / table[to])


def micrometers(meters: object) -> Quantity | None:
    """A length that a file has in meters, in micrometers, which people can read."""
    value = finite(meters)
    return None if value is None else Quantity(convert(value, "meter", "micrometer"), "micrometer")


def finite(value: object) -> float | None:
    """``value`` as a number; None if it is not a finite one."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def positive(value: object) -> float | None:
    """``value`` as a number; None if it is not a positive, finite one."""
    number = finite(value)
    return number if number is not None and number > 0 else None


def _quantity(value: object, given: object, unit: Unit | None) -> Quantity | None:
    number = finite(value)
    if number is None:
        return None
    words = _plain(given)
    if unit is None:
        return Quantity(number, None, words)
    converted = unit.factor != 1
    return Quantity(_times(number, unit.factor), unit.name, words, converted)


def _times(value: float, factor: Fraction) -> float:
    """The float nearest to the product with the decimal number that ``value`` is printed as."""
    return value if factor == 1 else float(Fraction(repr(float(value))) * factor)


def _find(text: object, symbols: Mapping[str, Unit], words: Mapping[str, Unit]) -> Unit | None:
    plain = _plain(text).removesuffix(".")
    return symbols.get(plain) or words.get(plain.lower())


def _plain(text: object) -> str:
    """``text`` without Java's escapes, with one spelling of the micro sign (u) and of Å."""
    if not isinstance(text, str):
        return ""
    unescaped = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text.strip("\0 \t\r\n"))
    # UTF-8 taken for Latin-1 has one more letter before the micro sign.
    unescaped = unescaped.replace("Âµ", "µ")
    return unicodedata.normalize("NFKC", unescaped).strip().replace("μ", "u")
