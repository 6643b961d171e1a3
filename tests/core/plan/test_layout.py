"""Chunks, shards and write blocks: how a level is cut, never by the machine."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import Shape
from ngff_core.plan.layout import (
    check_shards,
    default_chunks,
    default_shards,
    level_chunks,
    level_path,
    level_shards,
    resolve_sizes,
    wants_no_shards,
)

MIB = 2**20


@pytest.mark.parametrize(
    ("dims", "shape", "source", "expected"),
    [
        ("yx", (5000, 6000), None, (256, 256)),
        ("yx", (100, 6000), None, (100, 256)),
        ("zyx", (512, 2048, 2048), None, (128, 128, 128)),
        ("tczyx", (9, 3, 200, 600, 700), None, (1, 1, 128, 128, 128)),
        # channels as the source has them, times one by one
        ("tcyx", (9, 3, 600, 700), (9, 3, 64, 64), (1, 3, 256, 256)),
        # looks tiled, with larger tiles than the default: kept
        ("yx", (2000, 2000), (512, 512), (512, 512)),
        ("yx", (2000, 2000), (300, 100), (300, 256)),
        ("zyx", (40, 2000, 2000), (1, 512, 512), (40, 512, 512)),
        # tiled with smaller ones, in strips or planes, or in one piece: the default
        ("yx", (2000, 2000), (64, 64), (256, 256)),
        ("yx", (2000, 2000), (1, 2000), (256, 256)),
        ("yx", (2000, 2000), (1000, 1000), (256, 256)),
        ("yx", (2000, 2000), (2000, 2000), (256, 256)),
    ],
)
def test_default_chunks_need_no_thought(
    dims: str, shape: Shape, source: Shape | None, expected: Shape
) -> None:
    """128 per spatial axis with z, 256 without; a source's own larger tiles are kept."""
    assert tuple(default_chunks(dims, shape, source).values()) == expected


DEFAULT = {"c": 3, "z": 128, "y": 128, "x": 128}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (3, 128, 128, 128)),
        (64, (3, 64, 64, 64)),
        (np.int16(64), (3, 64, 64, 64)),
        ((1, 16, 32, 64), (1, 16, 32, 64)),
        ([16, 32, 64], (3, 16, 32, 64)),
        ({"x": 64, "z": 16}, (3, 16, 128, 64)),
        ({"z": 16, "x": 64}, (3, 16, 128, 64)),
        ({"c": 1, "y": None}, (1, 128, 128, 128)),
        ({}, (3, 128, 128, 128)),
        (((1, 1, 1), (16, 4), (32, 32), (64,)), (1, 16, 32, 64)),
        ({"x": (64, 64, 3)}, (3, 128, 128, 64)),
        ((np.uint8(1), 16, 32, 64), (1, 16, 32, 64)),
    ],
)
def test_every_documented_form_of_chunks(value: Any, expected: Shape) -> None:
    """An int for the spatial axes, positions, names in any order, or dask's tuples."""
    assert resolve_sizes("chunks", value, "czyx", DEFAULT) == dict(
        zip("czyx", expected, strict=True)
    )


@pytest.mark.parametrize(
    ("value", "offender"),
    [
        (0, "chunks: 0 on z is not positive"),
        (-5, "chunks: -5 on z is not positive"),
        (True, "chunks: True on z is not a whole number"),
        (64.0, "chunks: 64.0 is neither"),
        ("64", "chunks: '64' is neither"),
        ((1, 16, 0, 64), "chunks: 0 on y is not positive"),
        ((1, 16, 32.5, 64), "chunks: 32.5 on y is not a whole number"),
        ((1, 16, "a", 64), "chunks: 'a' on y is not a whole number"),
        ((16, 16), "chunks: 2 sizes for the 4 axes"),
        ((1, 2, 3, 4, 5), "chunks: 5 sizes for the 4 axes"),
        ({"t": 1}, "chunks: 't' is not an axis of this image"),
        ({"x": 1.5}, "chunks: 1.5 on x is not a whole number"),
        ({"x": -1}, "chunks: -1 on x is not positive"),
        (((1,), (16,), (), (64,)), r"chunks: \(\) on y is not a whole number"),
        (((1,), (0,), (4,), (64,)), "chunks: 0 on z is not positive"),
    ],
)
def test_a_size_that_makes_no_sense_is_named(value: Any, offender: str) -> None:
    """The message says which option and axis, and what was given."""
    with pytest.raises(InvalidOptionError, match=offender):
        resolve_sizes("chunks", value, "czyx", DEFAULT)


@st.composite
def levels(draw: st.DrawFn) -> tuple[str, Shape, Shape, int]:
    """Axes, a shape, chunks no longer than it, and bytes per sample."""
    dims = draw(st.sampled_from(["yx", "cyx", "zyx", "tzyx", "tczyx"]))
    shape = tuple(
        draw(st.integers(1, 20_000 if d in "zyx" else 40), label=f"size of {d}") for d in dims
    )
    chunks = tuple(min(n, draw(st.integers(1, 700))) for n in shape)
    return dims, shape, chunks, draw(st.sampled_from([1, 2, 4, 8, 16]))


@given(levels())
def test_shards_follow_the_fixed_rule(case: tuple[str, Shape, Shape, int]) -> None:
    """Complete chunks; 32 to 64 MiB raw, unless the level is smaller or one chunk is larger."""
    dims, shape, chunks, itemsize = case
    shards = default_shards(dims, shape, chunks, itemsize)
    cover = tuple(-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
    raw = math.prod(shards) * itemsize
    assert all(s % c == 0 for s, c in zip(shards, chunks, strict=True))
    assert all(s <= n for s, n in zip(shards, cover, strict=True))
    assert raw >= 32 * MIB or shards == cover
    assert raw < 64 * MIB or shards == chunks
    # Doubling: every axis is its chunk times a power of two, or all there is.
    for s, c, n in zip(shards, chunks, cover, strict=True):
        assert s == n or (s // c).bit_count() == 1


@given(levels())
def test_shards_grow_as_cubes_and_space_before_channels_before_time(
    case: tuple[str, Shape, Shape, int],
) -> None:
    """c grows once no spatial axis can, t once c cannot."""
    dims, shape, chunks, itemsize = case
    shards = dict(zip(dims, default_shards(dims, shape, chunks, itemsize), strict=True))
    chunk = dict(zip(dims, chunks, strict=True))
    cover = {d: -(-n // chunk[d]) * chunk[d] for d, n in zip(dims, shape, strict=True)}
    full = {d for d in dims if shards[d] == cover[d]}
    grown = {d for d in dims if shards[d] > chunk[d]}
    if grown & {"c", "t"}:
        assert set(dims) & set("zyx") <= full
    if "t" in grown and "c" in dims:
        assert "c" in full
    # An axis that grew was the shortest then: half of it is no longer than any that could grow.
    for d in grown & set("zyx") - full:
        assert all(shards[d] / 2 <= shards[e] for e in set(dims) & set("zyx") - full)


@pytest.mark.parametrize(
    ("dims", "shape", "chunks", "itemsize", "expected"),
    [
        ("zyx", (512, 2048, 2048), (128, 128, 128), 2, (256, 256, 256)),
        ("yx", (1411, 1411), (256, 256), 1, (1536, 1536)),
        ("yx", (100_000, 100_000), (256, 256), 1, (4096, 8192)),
        ("yx", (100_000, 100_000), (256, 256), 2, (4096, 4096)),
        ("zyx", (9000, 9000, 9000), (512, 512, 512), 2, (512, 512, 512)),
        ("tczyx", (5, 4, 32, 256, 256), (1, 1, 32, 128, 128), 2, (2, 4, 32, 256, 256)),
    ],
)
def test_shards_of_known_images(
    dims: str, shape: Shape, chunks: Shape, itemsize: int, expected: Shape
) -> None:
    """A level smaller than 32 MiB is one shard; a large chunk is its own."""
    assert default_shards(dims, shape, chunks, itemsize) == expected


@given(levels(), st.lists(st.integers(1, 5), min_size=5, max_size=5), st.integers(1, 64))
def test_given_shards_hold_as_many_chunks_at_every_level(
    case: tuple[str, Shape, Shape, int], times: list[int], factor: int
) -> None:
    """As many chunks as the level has; still multiples of the level's own chunk."""
    _, shape, chunks, _ = case
    shards = tuple(c * t for c, t in zip(chunks, times, strict=False))
    smaller = tuple(max(1, n // factor) for n in shape)
    own = level_chunks(chunks, smaller)
    found = level_shards(shards, chunks, own, smaller)
    for s, c, t, n in zip(found, own, times, smaller, strict=False):
        assert 1 <= c <= n
        assert s == c * min(t, -(-n // c))


def test_shards_that_cut_a_chunk_are_refused() -> None:
    """The message names axis, shard and chunk."""
    with pytest.raises(InvalidOptionError, match=r"shards: 300 on y is not a whole mult.*128"):
        check_shards((128, 300), (128, 128), "xy", (1000, 1000))
    assert check_shards((256, 128), (128, 128), "yx", (1000, 1000)) == (256, 128)


def test_a_shard_may_be_longer_than_the_image():
    """A shard of 256 fits an image of 40 planes, which is one chunk along z."""
    assert check_shards((256, 256), (40, 128), "zx", (40, 1000)) == (256, 256)
    assert level_shards((256, 256), (40, 128), (40, 128), (40, 1000)) == (40, 256)


@pytest.mark.parametrize("value", ["none", "None", " NONE ", 0, np.int64(0)])
def test_no_shards_are_asked_for_by_a_word_or_zero(value: Any) -> None:
    assert wants_no_shards(value)


@pytest.mark.parametrize("value", [None, False, 1, 256, "256", "", [0, 0], {"x": 0}, 0.0])
def test_nothing_else_asks_for_no_shards(value: Any) -> None:
    assert not wants_no_shards(value)


@given(st.text(), st.integers(0, 40))
def test_a_path_is_safe_whatever_the_image_is_called(name: str, index: int) -> None:
    """In a URL, in a file system, and beside zarr's own documents."""
    assert level_path(index, name, "flat") == str(index)
    folder, _, file = level_path(index, name, "named").partition("/")
    assert folder == f"scale{index}"
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", file)
    assert file != "zarr.json"


@pytest.mark.parametrize("name", ["cells", "a-b_c.9", "A" * 200])
def test_a_path_has_a_safe_name_as_it_is(name: str) -> None:
    assert level_path(3, name, "named") == f"scale3/{name}"
