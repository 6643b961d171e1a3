"""The cache pass: when it pays, and how it is cut."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Region
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.source_cache import cache_plan, decode_amplification, needs_cache
from tests.support import plans

MIB = 2**20

plan_of = partial(plans.plan_of, scale_factors=[])


def units_of(region: Region, unit: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Positions of the source's units that a region overlaps, sample by sample."""
    axes = zip(region.start, region.stop, unit, strict=True)
    return list(product(*(sorted({p // u for p in range(a, b)}) for a, b, u in axes)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[PyramidPlan, tuple[int, ...]]:
    """A small plan of some regions, and a unit of decoding."""
    dims = draw(st.sampled_from(["yx", "cyx", "zyx"]))
    shape = tuple(draw(st.integers(1, 24)) for _ in dims)
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    plan = plan_of(dims, shape, chunks=chunks, shards=chunks)
    return plan, tuple(draw(st.integers(1, n)) for n in shape)


@given(cases())
def test_amplification_is_the_count_of_decodings(
    case: tuple[PyramidPlan, tuple[int, ...]],
) -> None:
    """Units that all regions decode, over the units there are."""
    plan, unit = case
    level = plan.levels[0]
    decodings = sum(len(units_of(level.region(i), unit)) for i in range(level.regions))
    units = math.prod(-(-n // u) for n, u in zip(level.shape, unit, strict=True))
    assert decode_amplification(plan, unit) == pytest.approx(decodings / units)


@pytest.mark.parametrize(
    ("source", "unit", "cached"),
    [
        ("a mapped file", (1, 1, 1), False),
        ("tiles that the shards cover", (1, 256, 256), False),
        ("chunks of the same grid", (128, 128, 128), False),
        ("whole planes", (1, 2048, 2048), True),
        ("strips of whole rows", (1, 64, 2048), True),
        ("one unit", (256, 2048, 2048), True),
    ],
)
def test_auto_caches_what_cannot_be_read_region_by_region(
    source: str, unit: tuple[int, ...], cached: bool
) -> None:
    """More than two decodings of the source in the mean are too many."""
    plan = plan_of("zyx", (256, 2048, 2048))
    assert needs_cache(plan, unit, "auto") is cached
    assert needs_cache(plan, unit, "always") is True
    assert needs_cache(plan, unit, "never") is False


@pytest.mark.parametrize("mode", ["yes", "", None, True])
def test_an_unknown_mode_is_refused(mode: Any) -> None:
    """The message names the three modes."""
    with pytest.raises(InvalidOptionError, match=r"cache: .* is none of auto, always, never"):
        needs_cache(plan_of("yx", (64, 64)), (1, 1), mode)


@st.composite
def sources(draw: st.DrawFn) -> tuple[PyramidPlan, tuple[int, ...]]:
    """Images as files hold them: strips, pages, tiles, odd units."""
    dims = draw(st.sampled_from(["yx", "cyx", "zyx", "tczyx"]))
    shape = tuple(draw(st.integers(1, 6000 if d in "yx" else 50)) for d in dims)
    kind = draw(st.sampled_from(["strips", "pages", "tiles", "samples", "any", "whole"]))
    ones = (1,) * (len(dims) - 2)
    unit = {
        "strips": (*ones, min(16, shape[-2]), shape[-1]),
        "pages": (*ones, *shape[-2:]),
        "tiles": (*ones, min(256, shape[-2]), min(256, shape[-1])),
        "samples": (1,) * len(dims),
        "any": tuple(draw(st.integers(1, n)) for n in shape),
        "whole": shape,
    }[kind]
    dtype = draw(st.sampled_from(["|u1", "<u2", "<f4"]))
    return plan_of(dims, shape, dtype), unit


@given(sources())
def test_regions_of_the_cache_begin_and_end_with_units_and_chunks(
    case: tuple[PyramidPlan, tuple[int, ...]],
) -> None:
    """Each begins at a unit and at a chunk, and ends at one or at the end of the image."""
    plan, unit = case
    (level,) = cache_plan(plan, unit).levels
    assert level.shape == plan.image.shape
    assert (level.shards, level.parent, level.path) == (None, None, "cache")
    axes = zip(level.block, level.chunks, unit, level.shape, strict=True)
    for block, chunk, u, n in axes:
        assert 1 <= chunk <= n
        assert block >= n or block % u == 0
        assert block >= n or block % chunk == 0
    # No region holds more than 64 MiB that is not one unit of decoding.
    one_unit = math.prod(min(u, n) for u, n in zip(unit, level.shape, strict=True))
    raw = math.prod(level.block) * plan.dtype.itemsize
    assert raw <= max(64 * MIB, one_unit * plan.dtype.itemsize)


@given(cases())
def test_every_unit_is_decoded_for_exactly_one_region_of_the_cache(
    case: tuple[PyramidPlan, tuple[int, ...]],
) -> None:
    """Counted unit by unit."""
    plan, unit = case
    (level,) = cache_plan(plan, unit).levels
    times = Counter(p for i in range(level.regions) for p in units_of(level.region(i), unit))
    assert set(times.values()) == {1}


@pytest.mark.parametrize(
    ("unit", "block", "chunks"),
    [
        # pages: sixteen of 4 MiB in a region
        ((1, 1024, 2048), (16, 1024, 2048), (16, 512, 512)),
        # strips of 16 rows, whole planes first
        ((1, 16, 2048), (16, 1024, 2048), (16, 512, 512)),
        # tiles: rows of tiles first, then planes
        ((1, 256, 256), (16, 1024, 2048), (16, 512, 512)),
        ((64, 256, 256), (64, 256, 2048), (64, 256, 512)),
        # the source is one unit: so the cache is one region
        ((100, 1024, 2048), (100, 1024, 2048), (100, 512, 512)),
    ],
)
def test_regions_of_the_cache_for_known_sources(
    unit: tuple[int, ...], block: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    """Whole rows and planes first, about 64 MiB."""
    (level,) = cache_plan(plan_of("zyx", (100, 1024, 2048)), unit).levels
    assert (level.block, level.chunks) == (block, chunks)


def test_the_cache_is_cut_by_the_source_alone() -> None:
    """Another machine can continue it: no option of this machine counts."""
    plan = plan_of("zyx", (100, 1024, 2048))
    other = plan_of("zyx", (100, 1024, 2048), chunks=64, ome_zarr_version="0.4")
    assert cache_plan(plan, (1, 64, 64)).levels == cache_plan(other, (1, 64, 64)).levels
