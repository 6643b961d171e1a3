"""What readers of vendors' formats share: versions as pins, decimal sizes, color names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from itertools import pairwise

from ngff_core.sources.contract import Pins
from ngff_core.storage import ObjectStore

MICRO = Decimal(10) ** 6
"""Micrometers in a meter."""

_SAME = 0.01
"""Relative difference up to which steps of time count as one and the same."""


def pins(store: ObjectStore, reader: str, *decoders: str) -> Pins:
    """Size and version of the object itself, and versions of the packages that decode it."""
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    found = [("size", str(info.size)), ("version", info.version)]
    found.append(("reader", f"{reader} {version(reader)}"))
    if decoders:
        found.append(("decoder", ", ".join(f"{name} {version(name)}" for name in decoders)))
    return tuple(sorted(found))


def decimal(text: object) -> Decimal | None:
    """A finite number as the file writes it, exactly; None for anything else.

    >>> decimal("1E-07"), decimal(0.5), decimal("NaN"), decimal(None)
    (Decimal('1E-7'), Decimal('0.5'), None, None)
    """
    try:
        value = Decimal(str(text).strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def micrometers(meters: object) -> float | None:
    """A length in meters, as text or number, in micrometers; None unless it is positive.

    Decimal, so that 1E-07 m is 0.1 µm and not 0.09999999999999999.

    >>> micrometers("1E-07"), micrometers("0"), micrometers("-1")
    (0.1, None, None)
    """
    value = decimal(meters)
    return float(value * MICRO) if value is not None and value > 0 else None


def positive(value: object) -> float | None:
    """A positive, finite number; None for anything else."""
    found = decimal(value)
    return float(found) if found is not None and found > 0 else None


def times(size: float, count: int) -> float:
    """``size`` taken ``count`` times, without the noise of binary fractions.

    >>> times(0.4, 118583), 0.4 * 118583
    (47433.2, 47433.200000000004)
    """
    return float(Decimal(repr(size)) * count)


def regular_step(times: Sequence[float]) -> float | None:
    """The mean step between times, if all steps are the same within 1 %; else None.

    >>> regular_step([0.0, 2.0, 4.0]), regular_step([0.0, 1.0, 4.0])
    (2.0, None)
    """
    steps = [later - earlier for earlier, later in pairwise(times)]
    if not steps:
        return None
    mean = (times[-1] - times[0]) / len(steps)
    if mean <= 0 or any(abs(step - mean) > _SAME * mean for step in steps):
        return None
    return mean


def color_of(text: object) -> str | None:
    """Red, green and blue of a color written as #AARRGGBB or #RRGGBB; None for anything else.

    >>> color_of("#FF00a1FF"), color_of("#00FF00"), color_of("red")
    ('00A1FF', '00FF00', None)
    """
    match = re.fullmatch(r"#(?:[0-9A-Fa-f]{2})?([0-9A-Fa-f]{6})", str(text).strip())
    return match[1].upper() if match else None
