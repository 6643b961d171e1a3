"""Plans: every sample once, no object shared, the same bytes for the same digest."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from ngff_core.errors import InvalidOptionError, StoredDataError, UnsupportedDtypeError
from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, LevelPlan, PyramidPlan, SourcePin

MANY = 3000
"""Regions or objects of a level that are looked at one by one."""


def image_info(dims: str = "zyx", shape: tuple[int, ...] = (40, 60, 50), **given: Any) -> ImageInfo:
    """A plain image of these axes."""
    plain: dict[str, Any] = {
        "dtype": "<u2",
        "scale": (1.0,) * len(dims),
        "translation": (0.0,) * len(dims),
        "units": (None,) * len(dims),
    }
    return ImageInfo(dims=tuple(dims), shape=shape, **plain | given)


PIN = SourcePin("array:image", (("token", "1"),))


def assert_plan_is_valid(plan: PyramidPlan) -> None:
    """Assert what is true of every valid plan, however it was made."""
    factors = [level.factor for level in plan.levels]
    assert factors[0] == (1,) * len(plan.image.dims)
    for index, level in enumerate(plan.levels):
        assert level.index == index
        assert level.path == str(index)
        sizes = zip(plan.image.shape, level.factor, strict=True)
        assert level.shape == tuple(n // f for n, f in sizes)
        assert all(n > 0 for n in level.shape)
        _assert_parent(plan, level, factors)
        _assert_cut(plan, level)
        _assert_regions(level)


def _assert_parent(plan: PyramidPlan, level: LevelPlan, factors: list[tuple[int, ...]]) -> None:
    if level.index == 0:
        assert level.parent is None
        assert level.step == level.factor
        return
    whole = [
        i
        for i in range(level.index)
        if all(f % p == 0 for f, p in zip(level.factor, factors[i], strict=True))
    ]
    assert level.parent == max(whole)
    base = plan.levels[level.parent]
    steps = zip(level.step, base.factor, strict=True)
    assert tuple(s * f for s, f in steps) == level.factor
    spatial = [d in "zyx" for d in plan.image.dims]
    assert all(s == 1 or is_spatial for s, is_spatial in zip(level.step, spatial, strict=True))
    # Every bin of the level lies wholly inside its parent.
    ends = zip(level.shape, level.step, base.shape, strict=True)
    assert all(n * s <= m for n, s, m in ends)


def _assert_cut(plan: PyramidPlan, level: LevelPlan) -> None:
    assert all(1 <= c <= n for c, n in zip(level.chunks, level.shape, strict=True))
    if plan.zarr_format == 2:
        assert level.shards is None
    if level.shards is not None:
        assert all(s % c == 0 for s, c in zip(level.shards, level.chunks, strict=True))
        assert level.block == level.shards
    # A region ends where an object ends: two workers never write the same one.
    assert level.write_unit == (level.shards or level.chunks)
    assert all(b % u == 0 for b, u in zip(level.block, level.write_unit, strict=True))


def _assert_regions(level: LevelPlan) -> None:
    if level.regions > MANY or level.objects > MANY:
        return
    regions = [level.region(i) for i in range(level.regions)]
    # Boxes of a grid cover a level once if their intervals tile each axis, and each
    # combination of intervals is there once.
    tiles = []
    for axis, n in enumerate(level.shape):
        spans = sorted({(r.start[axis], r.stop[axis]) for r in regions})
        assert [a for a, _ in spans] == [0, *(b for _, b in spans[:-1])]
        assert spans[-1][1] == n
        assert all(a % level.write_unit[axis] == 0 for a, _ in spans)
        assert all(b % level.write_unit[axis] == 0 or b == n for _, b in spans)
        tiles.append(len(spans))
    assert len({(r.start, r.stop) for r in regions}) == math.prod(tiles) == len(regions)
    if math.prod(level.shape) <= 100_000:
        seen = np.zeros(level.shape, np.uint8)
        for region in regions:
            seen[region.slices] += 1
        assert (seen == 1).all()
    owners = Counter(p for region in regions for p in level.object_positions(region))
    assert set(owners.values()) == {1}
    grid = tuple(-(-n // u) for n, u in zip(level.shape, level.write_unit, strict=True))
    assert set(owners) == set(np.ndindex(grid))
    assert len(owners) == level.objects


@st.composite
def plans(draw: st.DrawFn, longest: int = 4000) -> PyramidPlan:
    """Any plan a caller could ask for."""
    dims = draw(st.sampled_from(["yx", "cyx", "zyx", "czyx", "tzyx", "tczyx", "zx"]))
    shape = tuple(draw(st.integers(1, longest if d in "zyx" else 6)) for d in dims)
    version = draw(st.sampled_from(["0.4", "0.5"]))
    chunks = draw(
        st.none()
        | st.integers(1, longest)
        | st.fixed_dictionaries({}, optional={d: st.integers(1, longest) for d in dims})
    )
    shards = None
    if version == "0.5" and isinstance(chunks, int):
        times = draw(st.none() | st.integers(1, 9))
        shards = None if times is None else chunks * times
    spatial = {d: n for d, n in zip(dims, shape, strict=True) if d in "zyx"}
    return make_plan(
        PIN,
        image_info(dims, shape, dtype=draw(st.sampled_from(["|u1", "<u2", "<f4"]))),
        source_chunks=draw(st.none() | st.just(tuple(min(n, 512) for n in shape))),
        scale_factors=draw(st.integers(1, 10**5) | lists_of_factors(spatial)),
        chunks=chunks,
        shards=shards,
        ome_zarr_version=version,
    )


@st.composite
def lists_of_factors(draw: st.DrawFn, sizes: dict[str, int]) -> list[dict[str, int]]:
    """Factors that grow and leave something of every axis."""
    found: list[dict[str, int]] = []
    before = dict.fromkeys(sizes, 1)
    for _ in range(draw(st.integers(0, 4))):
        factor = {d: draw(st.integers(f, max(f, min(4 * f, sizes[d])))) for d, f in before.items()}
        if factor != before:
            found.append(factor)
            before = factor
    return found


@given(plans())
def test_any_plan_is_valid(plan: PyramidPlan) -> None:
    """Each sample is in one region; regions are complete chunks and shards, and share none."""
    assert_plan_is_valid(plan)


@given(plans(longest=60))
def test_any_small_plan_is_valid(plan: PyramidPlan) -> None:
    """The same, counted voxel by voxel."""
    assert_plan_is_valid(plan)


HAND_MADE = [
    ("zyx", (512, 2048, 2048), {}),
    ("yx", (1, 1), {}),
    ("zyx", (1, 4096, 4096), {"scale_factors": [{"y": 2, "x": 2}]}),
    ("tczyx", (3, 2, 33, 257, 255), {"chunks": 32, "shards": 64, "scale_factors": [2, 4]}),
    ("zyx", (97, 101, 103), {"chunks": 10, "shards": 30, "scale_factors": [2, 3, 4, 9, 12]}),
    ("zyx", (64, 64, 64), {"chunks": 16, "shards": 48, "scale_factors": [2, 4, 32]}),
    ("yx", (20_000, 30_000), {"ome_zarr_version": "0.4"}),
    ("yx", (300, 300), {"chunks": 500, "shards": 1000, "scale_factors": [2]}),
]


@pytest.mark.parametrize(("dims", "shape", "options"), HAND_MADE)
def test_known_hard_cases_are_valid(
    dims: str, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    """One sample, primes, steps that skip a level, chunks longer than the image."""
    assert_plan_is_valid(make_plan(PIN, image_info(dims, shape), **options))


def test_the_verifier_sees_two_regions_on_one_object() -> None:
    """The check finds a block that is not a whole number of chunks."""
    plan = make_plan(PIN, image_info("yx", (64, 64)), chunks=16, scale_factors=[])
    cut = replace(plan.levels[0], shards=None, block=(24, 64))
    with pytest.raises(AssertionError):
        assert_plan_is_valid(replace(plan, levels=(cut,)))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("shards", [None, 32])
def test_keys_of_objects_are_zarrs_own(version: str, shards: int | None) -> None:
    """Fill an array by zarr itself: it stores the very objects that the plan names."""
    plan = make_plan(
        PIN,
        image_info("tzyx", (2, 17, 40, 35)),
        chunks=16,
        shards=shards if version == "0.5" else None,
        scale_factors=[2],
        ome_zarr_version=version,
    )
    for level in plan.levels:
        store = MemoryStore()
        v2: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
        array = zarr.create_array(
            store,
            shape=level.shape,
            chunks=level.chunks,
            shards=level.shards,
            dtype="u2",
            zarr_format=plan.zarr_format,
            **v2 if version == "0.4" else {},
        )
        array[:] = 1
        ours = {
            plan.object_key(p)
            for i in range(level.regions)
            for p in level.object_positions(level.region(i))
        }
        documents = {"zarr.json", ".zarray", ".zattrs"}
        assert ours == set(store._store_dict) - documents


@given(plans())
@settings(max_examples=50)
def test_a_plan_survives_being_stored(plan: PyramidPlan) -> None:
    """Read back it is equal, down to its digest and its type of every part."""
    again = PyramidPlan.from_json(plan.to_json())
    assert again == plan
    assert again.digest == plan.digest
    assert again.to_json() == plan.to_json()
    assert hash(again) == hash(plan)
    json.loads(plan.to_json(), parse_constant=pytest.fail)


def test_a_plan_is_frozen_all_the_way_down() -> None:
    """Tuples, no list, no dict: it can be hashed, and nobody can change it."""
    plan = make_plan(PIN, image_info(), scale_factors=[2])
    for part in (plan, plan.source, plan.image, plan.levels[1]):
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)
    assert isinstance(hash(plan), int)


BASE: dict[str, Any] = {
    "chunks": 16,
    "shards": 32,
    "scale_factors": [2],
    "method": "itkwasm_gaussian",
}


@pytest.mark.parametrize(
    "other",
    [
        {"chunks": 8},
        {"chunks": (16, 16, 32)},
        {"shards": 16},
        {"shards": None},
        {"scale_factors": [2, 4]},
        {"scale_factors": [3]},
        {"scale_factors": []},
        {"method": "itkwasm_bin_shrink"},
        {"compressor": "zstd:3"},
        {"compressor": "blosc:zstd:1:shuffle"},
        {"ome_zarr_version": "0.4", "shards": None},
        {"image": image_info(dtype="<i2")},
        {"image": image_info(shape=(40, 60, 51))},
        {"image": image_info(scale=(1.0, 1.0, 0.5))},
        {"image": image_info(translation=(0.0, 0.0, 0.5))},
        {"image": image_info(units=(None, None, "micrometer"))},
        {"image": image_info(name="other")},
        {"image": image_info(dims="tyx")},
        {"source": SourcePin("array:other", PIN.pins)},
        {"source": SourcePin(PIN.uri, (("token", "2"),))},
        {"source": SourcePin(PIN.uri, (*PIN.pins, ("size", "3")))},
    ],
    ids=str,
)
def test_whatever_decides_a_byte_changes_the_digest(other: dict[str, Any]) -> None:
    """Source, image, method, factors, chunks, shards, codec, version."""
    base = {"source": PIN, "image": image_info(), **BASE}
    assert make_plan(**base).digest != make_plan(**base | other).digest


@pytest.mark.parametrize(
    "same",
    [
        {"chunks": (16, 16, 16)},
        {"chunks": {"x": 16, "y": 16, "z": 16}},
        {"chunks": np.int64(16)},
        {"scale_factors": [{"x": 2, "z": 2, "y": 2}]},
        {"scale_factors": (np.uint8(2),)},
        {"compressor": "BLOSC:zstd:1:bitshuffle"},
        {"source_chunks": (7, 7, 7)},
    ],
    ids=str,
)
def test_another_spelling_of_the_same_choice_is_the_same_plan(same: dict[str, Any]) -> None:
    """A resumed build is recognised by it."""
    base = {"source": PIN, "image": image_info(), **BASE}
    assert make_plan(**base) == make_plan(**base | same)
    assert make_plan(**base).digest == make_plan(**base | same).digest


def damaged(change: str) -> bytes:
    whole = make_plan(PIN, image_info(), scale_factors=[2]).to_json()
    fields = json.loads(whole)
    match change:
        case "cut short":
            return whole[: len(whole) // 2]
        case "empty":
            return b""
        case "no text":
            return b"\xff\xfe\x00"
        case "another value":
            return whole.replace(b"itkwasm_gaussian", b"itkwasm_binshrink")
        case "a field less":
            del fields["levels"]
        case "no digest":
            del fields["digest"]
        case "a wrong type":
            fields["image"] = 3
        case "a level's shape":
            fields["levels"][1]["shape"][0] += 1
        case "another digest":
            fields["digest"] = "0" * 64
        case "a list":
            fields = [fields]
        case "a number":
            fields = 7
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "change",
    [
        "cut short",
        "empty",
        "no text",
        "another value",
        "a field less",
        "no digest",
        "a wrong type",
        "a level's shape",
        "another digest",
        "a list",
        "a number",
    ],
)
def test_a_damaged_plan_is_refused(change: str) -> None:
    """And never built from."""
    with pytest.raises(StoredDataError, match="the plan"):
        PyramidPlan.from_json(damaged(change))


def test_a_plan_of_another_format_is_refused_with_what_to_do() -> None:
    """The checksums in the ledger beside it mean something else."""
    fields = json.loads(make_plan(PIN, image_info(), scale_factors=[2]).to_json())
    fields["format"] = 1
    with pytest.raises(
        StoredDataError, match=r"has format 1, .* reads format 2; use the version that"
    ):
        PyramidPlan.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("given_options", "error", "offender"),
    [
        ({"method": "bicubic"}, InvalidOptionError, "method: 'bicubic'"),
        ({"ome_zarr_version": "0.3"}, InvalidOptionError, "ome_zarr_version: '0.3'"),
        ({"ome_zarr_version": "0.4", "shards": 64}, InvalidOptionError, "shards: OME-Zarr 0.4"),
        ({"shards": 24}, InvalidOptionError, "shards: 24 on z is not a whole multiple"),
        ({"shards": [0, 64, 64]}, InvalidOptionError, "shards: 0 on z is not positive"),
        ({"shards": "no"}, InvalidOptionError, "shards: 'no' is neither"),
        ({"level_paths": "deep"}, InvalidOptionError, "level_paths: 'deep' is none of flat, named"),
        ({"chunks": 0}, InvalidOptionError, "chunks: 0 on z is not positive"),
        ({"compressor": "lzma"}, InvalidOptionError, "compressor: 'lzma'"),
        ({"scale_factors": [2, 2]}, InvalidOptionError, "scale_factors, level 2"),
        ({"image": image_info(shape=(0, 4, 4))}, InvalidOptionError, r"empty.*\(0, 4, 4\)"),
        ({"image": image_info("tx", (5, 4))}, InvalidOptionError, "two or three spatial axes"),
        ({"image": image_info("x", (5,))}, InvalidOptionError, "two or three spatial axes"),
        (
            {
                "image": image_info(dtype="<c8"),
                "method": "itkwasm_label_image",
                "scale_factors": [2],
            },
            UnsupportedDtypeError,
            "complex64",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_planned_is_refused_by_name(
    given_options: dict[str, Any], error: type[Exception], offender: str
) -> None:
    """The message names the option and the value."""
    with pytest.raises(error, match=offender):
        make_plan(**{"source": PIN, "image": image_info(), "chunks": 16, **given_options})


def test_any_dtype_may_be_stored_without_levels() -> None:
    """A method refuses dtypes that it cannot compute; without levels it computes nothing."""
    image = image_info(dtype="<c8")
    plan = make_plan(PIN, image, scale_factors=[], method="itkwasm_label_image")
    assert [level.shape for level in plan.levels] == [(40, 60, 50)]
