"""Sizes, units and names of axes out of the texts and numbers that files have for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ngff_core.model.axes import AXIS_ORDER
from ngff_core.sources.contract import UNNAMED
from ngff_core.sources.units import unit_name

_SHOWN = 10
"""Names that a note has at most."""

_WORDS = {"time": "t", "channel": "c", "channels": "c"}
"""Names of axes that mean one of ours."""


def positive(value: Any) -> float | None:
    """``value`` as a number; None if it is not a positive, finite one: the size is unknown."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def axis_word(text: str) -> str:
    """The name of an axis as the contract has it.

    >>> axis_word("Z"), axis_word("time"), axis_word("Energy"), axis_word(" ")
    ('z', 't', 'energy', '?')
    """
    word = text.strip().lower()
    return _WORDS.get(word, word) or UNNAMED


def length_unit(axis: str, text: object) -> str | None:
    """The UDUNITS name of a unit that fits the axis: a length for z, y, x, a time for t.

    >>> length_unit("x", "um"), length_unit("x", "s"), length_unit("t", "sec")
    ('micrometer', None, 'second')
    """
    name = unit_name(text)
    if name is None or axis not in AXIS_ORDER or axis == "c":
        return None
    is_time = name.endswith("second") or name in ("minute", "hour", "day")
    return name if is_time == (axis == "t") else None


def names_in_short(names: Sequence[str]) -> str:
    """Some names in one line, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
