"""Scale factors: made from an int, or checked when given.

A *factor* is absolute, relative to level 0; a *step* is relative to the parent level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape
from ngff_core.model.axes import spatial_dims

ScaleFactors = int | Sequence[int | Mapping[str, int]]
Factors = tuple[dict[str, int], ...]


def factors_from_min_length(
    sizes: Mapping[str, int], chunks: Mapping[str, int], min_length: int
) -> Factors:
    """Factors of the levels above 0, doubling while the image is large beside its chunks.

    ``sizes`` and ``chunks`` are per spatial axis. A round doubles each axis, except one
    at most half as long as the longest was when the round began (so that anisotropic
    images grow towards cubes), and one that would fall below its chunk.

    >>> factors_from_min_length({"y": 1024, "x": 1024}, {"y": 256, "x": 256}, 128)
    ({'y': 2, 'x': 2}, {'y': 4, 'x': 4})
    """
    _positive_int("scale_factors", min_length)
    current = dict(sizes)
    factor = dict.fromkeys(sizes, 1)
    found: list[dict[str, int]] = []
    while any(current[d] >= 2 * chunks[d] for d in current):
        longest = max(current.values())
        doubling = [d for d in current if 2 * current[d] > longest and current[d] // 2 >= chunks[d]]
        if not doubling:
            break
        current = {d: n // 2 if d in doubling else n for d, n in current.items()}
        if math.prod(current.values()) / min_length < 2:
            break
        factor = {d: f * 2 if d in doubling else f for d, f in factor.items()}
        found.append(dict(factor))
    return tuple(found)


def check_factors(scale_factors: Any, sizes: Mapping[str, int]) -> Factors:
    """A caller's list of factors as one mapping per level, or an error naming the offender.

    An int counts for all spatial axes; an axis that a mapping leaves out keeps the
    factor it had at the level before.
    """
    if isinstance(scale_factors, str | bytes) or not isinstance(scale_factors, Sequence):
        raise InvalidOptionError(
            f"scale_factors: {scale_factors!r} is neither an int nor a list of ints or mappings"
        )
    before = dict.fromkeys(sizes, 1)
    found: list[dict[str, int]] = []
    for level, entry in enumerate(scale_factors, start=1):
        where = f"scale_factors, level {level}"
        factor = before | _one_factor(where, entry, sizes)
        _check_growth(where, before, factor)
        for dim, f in factor.items():
            if sizes[dim] // f == 0:
                raise InvalidOptionError(
                    f"{where}: factor {f} on {dim} leaves nothing of its {sizes[dim]} samples"
                )
        found.append(factor)
        before = factor
    return tuple(found)


def resolve_factors(
    scale_factors: Any, sizes: Mapping[str, int], chunks: Mapping[str, int]
) -> Factors:
    """Absolute factors of the levels above 0, from an int or from a list."""
    if isinstance(scale_factors, Integral) and not isinstance(scale_factors, bool):
        return factors_from_min_length(sizes, chunks, int(scale_factors))
    return check_factors(scale_factors, sizes)


def parent_of(factors: Sequence[Shape], level: int) -> int:
    """The nearest earlier level from which ``level`` is a whole step on every axis.

    ``factors`` are per axis, level 0's included; level 0 always qualifies.
    """
    for candidate in range(level - 1, 0, -1):
        if all(f % p == 0 for f, p in zip(factors[level], factors[candidate], strict=True)):
            return candidate
    return 0


def _one_factor(where: str, entry: Any, sizes: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(entry, Mapping):
        return dict.fromkeys(sizes, _positive_int(where, entry))
    unknown = [d for d in entry if d not in sizes]
    if unknown:
        raise InvalidOptionError(
            f"{where}: {unknown[0]!r} is not a spatial axis of this image "
            f"({', '.join(spatial_dims(tuple(sizes)))})"
        )
    return {d: _positive_int(f"{where}, axis {d}", f) for d, f in entry.items()}


def _positive_int(where: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidOptionError(f"{where}: {value!r} is not a whole number")
    if value < 1:
        raise InvalidOptionError(f"{where}: {value} is not positive")
    return int(value)


def _check_growth(where: str, before: Mapping[str, int], factor: Mapping[str, int]) -> None:
    for dim, f in factor.items():
        if f < before[dim]:
            raise InvalidOptionError(
                f"{where}: factor {f} on {dim} is below the {before[dim]} of the level before; "
                "factors are relative to level 0"
            )
    if dict(factor) == dict(before):
        raise InvalidOptionError(
            f"{where}: {dict(factor)} is no coarser than the level before; "
            "factors are relative to level 0"
        )
