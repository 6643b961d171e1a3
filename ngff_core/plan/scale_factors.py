"""Scale factors of the levels: computed from a minimum length, or checked if given as a list.

A *factor* is relative to level 0; a *step* is relative to the parent level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape
from ngff_core.model.axes import spatial_dims

ScaleFactors = int | Sequence[int | Mapping[str, int]]
"""The forms of the option ``scale_factors``: a minimum length, or factors of the levels from 1."""
Factors = tuple[dict[str, int], ...]
"""Factors by spatial axis, of each level from 1 on."""
HalvingRule = Callable[[Mapping[str, int], Mapping[str, int], int], Factors]
"""Factors from the image's lengths and its chunks, by spatial axis, and a minimum length."""


def factors_from_min_length(
    sizes: Mapping[str, int], chunks: Mapping[str, int], min_length: int
) -> Factors:
    """Factors that are doubled from level to level while the level is larger than its chunks.

    ``sizes`` (the image's lengths) and ``chunks`` are by spatial axis. Each level doubles the
    factor of each axis, except axes that are at most half as long as the longest one, so that
    anisotropic images become cubes, and axes that would become shorter than their chunk. The
    last level is the last one of at least ``2 * min_length`` samples.

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


def factors_with_equal_yx(
    sizes: Mapping[str, int], chunks: Mapping[str, int], min_length: int
) -> Factors:
    """Factors as of `factors_from_min_length`, but the same on y and x.

    Several viewers take a level for half of the level before in both directions. So y and x are
    halved together until halving would make neither of them as long as its chunk; an axis that
    is down to one sample stays. The axis z rests while it is at most half as long as the
    longest, and where it would become shorter than its chunk; it may be halved alone.

    >>> factors_with_equal_yx({"y": 500, "x": 640}, {"y": 128, "x": 128}, 128)
    ({'y': 2, 'x': 2}, {'y': 4, 'x': 4})
    """
    _positive_int("scale_factors", min_length)
    current = dict(sizes)
    factor = dict.fromkeys(sizes, 1)
    found: list[dict[str, int]] = []
    while doubling := _doubling(current, chunks):
        current = {d: n // 2 if d in doubling else n for d, n in current.items()}
        if math.prod(current.values()) / min_length < 2:
            break
        factor = {d: f * 2 if d in doubling else f for d, f in factor.items()}
        found.append(dict(factor))
    return tuple(found)


def _doubling(current: Mapping[str, int], chunks: Mapping[str, int]) -> list[str]:
    """The axes that are halved next; none of a level that is the last one."""
    longest = max(current.values())
    plane = [d for d in current if d != "z"]
    found = [d for d in current if d == "z" and current[d] // 2 >= chunks[d]]
    if any(current[d] // 2 >= chunks[d] for d in plane):
        found += [d for d in plane if current[d] > 1]
    groups = [[d for d in found if d == "z"], [d for d in found if d != "z"]]
    return [d for group in groups if any(2 * current[d] > longest for d in group) for d in group]


def check_factors(scale_factors: Any, sizes: Mapping[str, int]) -> Factors:
    """A list of factors as one mapping by axis for each level.

    An int is the factor of all spatial axes; an axis that a mapping leaves out keeps the
    factor of the level before. ``sizes`` are the image's lengths by spatial axis. Raises
    `InvalidOptionError`, naming the level and axis, for factors that do not fit.
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
    scale_factors: Any,
    sizes: Mapping[str, int],
    chunks: Mapping[str, int],
    rule: HalvingRule = factors_from_min_length,
) -> Factors:
    """Factors of the levels above 0, by ``rule`` from a minimum length, or from a list."""
    if isinstance(scale_factors, Integral) and not isinstance(scale_factors, bool):
        return rule(sizes, chunks, int(scale_factors))
    return check_factors(scale_factors, sizes)


def parent_of(factors: Sequence[Shape], level: int) -> int:
    """The last earlier level whose factor divides that of ``level`` on every axis.

    ``factors`` has an entry for each level, level 0 included, which always qualifies.
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
