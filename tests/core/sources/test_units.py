"""Spellings of units, and their names in OME-NGFF."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.sources.units import (
    LENGTHS,
    TIMES,
    convert,
    duration,
    is_no_unit,
    length,
    length_unit,
    micrometers,
    time_unit,
    unit_name,
)

# The list of OME-NGFF's specification, written out.
NGFF_LENGTHS = [
    "angstrom",
    "attometer",
    "centimeter",
    "decimeter",
    "exameter",
    "femtometer",
    "foot",
    "gigameter",
    "hectometer",
    "inch",
    "kilometer",
    "megameter",
    "meter",
    "micrometer",
    "mile",
    "millimeter",
    "nanometer",
    "parsec",
    "petameter",
    "picometer",
    "terameter",
    "yard",
    "yoctometer",
    "yottameter",
    "zeptometer",
    "zettameter",
]
NGFF_TIMES = [
    "attosecond",
    "centisecond",
    "day",
    "decisecond",
    "exasecond",
    "femtosecond",
    "gigasecond",
    "hectosecond",
    "hour",
    "kilosecond",
    "megasecond",
    "microsecond",
    "millisecond",
    "minute",
    "nanosecond",
    "petasecond",
    "picosecond",
    "second",
    "terasecond",
    "yoctosecond",
    "yottasecond",
    "zeptosecond",
    "zettasecond",
]

# Each unit of OME: its name, and how many of them, in OME-NGFF.
OME_LENGTHS = {
    "Ym": ("yottameter", 1),
    "Zm": ("zettameter", 1),
    "Em": ("exameter", 1),
    "Pm": ("petameter", 1),
    "Tm": ("terameter", 1),
    "Gm": ("gigameter", 1),
    "Mm": ("megameter", 1),
    "km": ("kilometer", 1),
    "hm": ("hectometer", 1),
    "dam": ("meter", 10),
    "m": ("meter", 1),
    "dm": ("decimeter", 1),
    "cm": ("centimeter", 1),
    "mm": ("millimeter", 1),
    "µm": ("micrometer", 1),
    "nm": ("nanometer", 1),
    "pm": ("picometer", 1),
    "fm": ("femtometer", 1),
    "am": ("attometer", 1),
    "zm": ("zeptometer", 1),
    "ym": ("yoctometer", 1),
    "Å": ("angstrom", 1),
    "thou": ("micrometer", 25.4),
    "li": ("micrometer", 25400 / 12),
    "in": ("inch", 1),
    "ft": ("foot", 1),
    "yd": ("yard", 1),
    "mi": ("mile", 1),
    "ua": ("meter", 149597870700),
    "ly": ("meter", 9460730472580800),
    "pc": ("parsec", 1),
    "pt": ("micrometer", 25400 / 72),
    "pixel": (None, 1),
    "reference frame": (None, 1),
}
OME_TIMES = {
    "Ys": ("yottasecond", 1),
    "Zs": ("zettasecond", 1),
    "Es": ("exasecond", 1),
    "Ps": ("petasecond", 1),
    "Ts": ("terasecond", 1),
    "Gs": ("gigasecond", 1),
    "Ms": ("megasecond", 1),
    "ks": ("kilosecond", 1),
    "hs": ("hectosecond", 1),
    "das": ("second", 10),
    "s": ("second", 1),
    "ds": ("decisecond", 1),
    "cs": ("centisecond", 1),
    "ms": ("millisecond", 1),
    "µs": ("microsecond", 1),
    "ns": ("nanosecond", 1),
    "ps": ("picosecond", 1),
    "fs": ("femtosecond", 1),
    "as": ("attosecond", 1),
    "zs": ("zeptosecond", 1),
    "ys": ("yoctosecond", 1),
    "min": ("minute", 1),
    "h": ("hour", 1),
    "d": ("day", 1),
}


def test_the_names_are_those_of_ome_ngff():
    """No name more, no name less."""
    assert sorted(LENGTHS) == NGFF_LENGTHS
    assert sorted(TIMES) == NGFF_TIMES


@pytest.mark.parametrize("symbol", OME_LENGTHS)
def test_each_length_of_ome(symbol):
    """A name of the list, and a number that is converted only where the list lacks the unit."""
    name, factor = OME_LENGTHS[symbol]
    found = length(1.0, symbol)
    assert found is not None
    assert (found.unit, found.value) == (name, pytest.approx(factor, rel=1e-15))
    assert found.converted == (factor != 1)
    assert found.given == symbol.replace("µ", "u")


@pytest.mark.parametrize("symbol", OME_TIMES)
def test_each_time_of_ome(symbol):
    """As for lengths."""
    name, factor = OME_TIMES[symbol]
    found = duration(1.0, symbol)
    assert found is not None
    assert (found.unit, found.value, found.converted) == (name, factor, factor != 1)


def test_the_tables_have_every_unit_of_the_schema():
    """ome-types has the schema's enumerations."""
    model = pytest.importorskip("ome_types.model")
    assert {unit.value for unit in model.UnitsLength} == set(OME_LENGTHS)
    assert {unit.value for unit in model.UnitsTime} == set(OME_TIMES)


MICROS = ("µ", "μ", "u", r"\u00B5", r"\u00b5", r"\u03BC", r"\u03bc", "Âµ")
WORDS = ("micrometer", "micrometers", "micrometre", "micrometres", "micron", "microns")


@given(
    st.sampled_from(MICROS), st.sampled_from(["m", "m."]), st.sampled_from(["", " ", "\0", "\t"])
)
def test_every_spelling_of_the_micrometer(micro, base, space):
    """Two Greek letters, their escapes, the letter u, and text in the wrong encoding."""
    assert unit_name(space + micro + base + space) == "micrometer"


@given(st.sampled_from(WORDS), st.data())
def test_words_are_read_in_any_case(word, data):
    """Micron, MICRON; symbols are not."""
    upper = data.draw(st.lists(st.booleans(), min_size=len(word), max_size=len(word)))
    spelled = "".join(c.upper() if up else c for c, up in zip(word, upper, strict=True))
    assert unit_name(spelled) == "micrometer"


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ("s sec sec. secs second seconds Sec SEC", "second"),
        ("ms msec msecs millisecond milliseconds msec.", "millisecond"),
        (r"us µs usec \u00B5s \u03BCs microsecond", "microsecond"),
        ("min min. mins minute minutes Min", "minute"),
        ("h hr hr. hrs hour hours Hr", "hour"),
        ("d day days", "day"),
        ("nm nanometer nanometre nanometers Nanometer", "nanometer"),
        ("A Å Angstrom angstroms Ångström", "angstrom"),
        ("in inch inches", "inch"),
        ("ft foot feet", "foot"),
        ("m meter metre meters", "meter"),
        ("mm millimeter millimetre", "millimeter"),
        ("Mm megameter", "megameter"),
    ],
)
def test_spellings(texts, name):
    """Abbreviations of ImageJ, OME and people."""
    assert [unit_name(text) for text in texts.split()] == [name] * len(texts.split())


@pytest.mark.parametrize(
    "text", ["", " ", None, "pixel", "Pixels", "reference frame", "MM", "UM", "frames", "px/um", 7]
)
def test_what_is_no_unit(text):
    """Capital letters are other units, and what is no length has no name."""
    assert unit_name(text) is None


def test_a_missing_unit_and_pixels_are_told_from_an_unknown_unit():
    """Only the latter is worth a note."""
    assert all(map(is_no_unit, (None, "", " ", "pixel", "Pixels")))
    assert not is_no_unit("furlong")


def test_lengths_and_times_are_not_mixed():
    """Meters are no minutes."""
    assert length_unit("s") is None
    assert time_unit("m") is None


@given(st.floats(min_value=1e-12, max_value=1e-3))
def test_meters_become_micrometers_without_noise(meters):
    """The decimal point moves; no digit changes."""
    assert micrometers(meters).value == float(Fraction(repr(meters)) * 10**6)


@given(st.sampled_from(NGFF_LENGTHS), st.sampled_from(NGFF_LENGTHS), st.floats(0.1, 1e6))
def test_conversion_and_back(one, other, value):
    """The same number but for two roundings."""
    assert convert(convert(value, one, other), other, one) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("value", [None, "", "nan", float("inf"), "x", 10**400])
def test_what_is_no_number_is_no_quantity(value):
    """Instead of an error."""
    assert length(value, "um") is None
