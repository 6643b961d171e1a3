"""Regions of a level: computed from their parent, stored with a receipt, read back."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import crc32c
import numpy as np
import pytest
from zarr.errors import ChunkNotFoundError

from ngff_core.blocks import BlockedArray
from ngff_core.config import config
from ngff_core.errors import StoredDataError, TransientError
from ngff_core.geometry import Region
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan.halos import level_halos
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.pyramid import level_io
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.level_io import (
    READINGS,
    open_level,
    region_samples,
    store_region,
    stored_samples,
    work_on,
)
from ngff_core.pyramid.publish import array_documents, create_arrays
from ngff_core.records.halo_files import HaloFiles
from ngff_core.storage import ObjectStore, open_store
from ngff_core.storage.retry import counting_retries
from tests.support import plans

plan_of = partial(plans.plan_of, scale_factors=[])


def samples_of(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Samples as a camera gives them, with an empty corner."""
    found = np.random.default_rng(1).normal(100, 30, shape).clip(0, 255).astype(dtype)
    found[tuple(slice(n // 2) for n in shape)] = 0
    return found


@pytest.fixture
def store(memory_filesystem: object) -> ObjectStore:
    """An empty store in memory."""
    return open_store("memory://image.ome.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_receipt_says_what_was_stored(store: ObjectStore, version: str) -> None:
    """Key, size and checksum of each object, and the checksum of the samples."""
    plan = plan_of("yx", (40, 33), chunks=16, ome_zarr_version=version)
    level = plan.levels[0]
    samples = samples_of(level.shape, "<u2")
    create_arrays(store, plan)
    encoder = LevelEncoder(plan, level)
    for index in range(level.regions):
        region = level.region(index)
        part = samples[region.slices]
        given = BlockedArray.of(region, part)
        receipt = store_region(store, encoder, level, index, given)
        assert (receipt.region, receipt.samples_crc32c) == (index, encoder.checksum(region, given))
        positions = level.object_positions(region)
        assert [o.key for o in receipt.objects] == [plan.object_key(p) for p in positions]
        for stored in receipt.objects:
            data = store.read(f"{level.path}/{stored.key}")
            assert data is not None
            assert (stored.size, stored.crc32c) == (len(data), crc32c.crc32c(data))
        assert receipt.stored_bytes == sum(stored.size for stored in receipt.objects)
    np.testing.assert_array_equal(open_level(store, plan, level)[:], samples)


def test_samples_of_the_wrong_shape_are_never_stored(store: ObjectStore) -> None:
    """Zarr would broadcast them over the region."""
    plan = plan_of("yx", (40, 33))
    level = plan.levels[0]
    wrong = BlockedArray.of(level.region(0), np.zeros((1, 33), "u2"))
    with pytest.raises(StoredDataError, match=r"region 0 has shape \(1, 33\), not \(40, 33\)"):
        store_region(store, LevelEncoder(plan, level), level, 0, wrong)
    assert store.objects() == {}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_object_that_is_gone_does_not_read_as_background(
    store: ObjectStore, version: str
) -> None:
    """An error, not zeros."""
    plan = plan_of("yx", (40, 33), chunks=16, ome_zarr_version=version)
    level = plan.levels[0]
    create_arrays(store, plan)
    array = open_level(store, plan, level)
    with pytest.raises(ChunkNotFoundError):
        array[:]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_array_and_inner_group_has_its_document(version: str) -> None:
    """But not the root group, whose document makes the store an image."""
    plan = plan_of("yx", (64, 64), scale_factors=[2], ome_zarr_version=version)
    documents = array_documents(plan)
    if version == "0.5":
        expected = {f"{i}/zarr.json" for i in range(2)}
        assert set(documents) == expected
    else:
        needed = {f"{i}/.zarray" for i in range(2)}
        assert needed <= set(documents)
    assert not any("/" not in key for key in documents)


PLAN = plans.plan_of("zyx", (34, 28, 20), chunks=4, shards=8, scale_factors=[2])
NOISE = np.random.default_rng(1).integers(0, 2**16, PLAN.levels[0].shape, "u2")
KERNEL = kernel_for(PLAN.method)


class Counted:
    """An array in memory that notes which boxes are read, and raises the given errors first."""

    def __init__(self, errors: list[Exception] | None = None) -> None:
        self.shape, self.dtype = NOISE.shape, NOISE.dtype
        self.boxes: list[tuple[slice, ...]] = []
        self._errors = errors or []

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        self.boxes.append(key)
        if self._errors:
            raise self._errors.pop(0)
        return NOISE[key]


def whole_child() -> Any:
    """Level 1, computed at once."""
    level = PLAN.levels[1]
    return KERNEL.reduce(NOISE, (0, 0, 0), level.step, level.shape)


def test_a_region_of_level_0_is_that_of_the_source() -> None:
    """No kernel, no window beyond it."""
    source, level = Counted(), PLAN.levels[0]
    for index in range(level.regions):
        box = level.region(index)
        found = region_samples(source, level, index, None)
        np.testing.assert_array_equal(found.part(box), NOISE[box.slices])
        assert source.boxes[-1] == box.slices


def test_regions_are_those_of_the_level_computed_at_once() -> None:
    """Each from its window, wherever it lies."""
    level, whole = PLAN.levels[1], whole_child()
    for index in range(level.regions):
        box = level.region(index)
        found = region_samples(Counted(), level, index, KERNEL)
        np.testing.assert_array_equal(found.part(box), whole[box.slices])


@pytest.fixture
def halos(store: ObjectStore) -> HaloFiles:
    """Halo strips of all regions of the parent."""
    files = HaloFiles.of(store, PLAN, ())[1]
    for region in range(PLAN.levels[0].regions):
        box = PLAN.levels[0].region(region)
        files.keep(region, BlockedArray.of(box, NOISE[box.slices]))
    return files


@pytest.mark.parametrize("lost", ["none", "few", "all"])
def test_halo_strips_decide_no_sample(halos: HaloFiles, store: ObjectStore, lost: str) -> None:
    """With them only the interior is read; what is missing is read as well, or all at once."""
    level, whole = PLAN.levels[1], whole_child()
    index = level.regions - 1
    cut = level_halos(PLAN, ())[1]
    strips = list(cut.strips_for(index))
    keys = sorted(store.objects())
    if lost == "all":
        store.delete_tree("halos-1")
        assert sum(len(strip.boxes) for _, strip in strips) > level_io._FEW
    elif lost == "few":
        saver = next(number for number, strip in strips if len(strip.boxes) == 1)
        grid = np.unravel_index(saver, (5, 4, 3))
        key = "halos-1/" + "/".join(map(str, grid))
        assert key in keys
        store.delete(key)
    parent, box = Counted(), level.region(index)
    found = region_samples(parent, level, index, KERNEL, halos)
    np.testing.assert_array_equal(found.part(box), whole[box.slices])
    first = {"none": cut.interior, "few": cut.interior, "all": cut.window}[lost](index)
    assert parent.boxes[0] == first.slices
    assert len(parent.boxes) == {"none": 1, "few": 2, "all": 1}[lost]


def test_the_memory_of_a_window_is_recycled(
    halos: HaloFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many bytes as the window has, in the parent's dtype; none is new the second time."""
    level, window = PLAN.levels[1], level_halos(PLAN, ())[1].window(0)
    asked: list[int] = []
    real = level_io.region_memory.array

    def array(shape: Any, dtype: Any) -> Any:
        found = real(shape, dtype)
        asked.append(found.nbytes)
        return found

    monkeypatch.setattr(level_io.region_memory, "array", array)
    for _ in range(2):
        region_samples(Counted(), level, 0, KERNEL, halos)
    assert asked == [2 * window.size] * 2


def test_damage_in_one_answer_only_is_passed_over() -> None:
    """The samples are read again, and the reading is counted as a retry."""
    box, retries = Region((0, 0, 0), (4, 4, 4)), Counter[str]()
    parent = Counted([ValueError("cut short")] * (READINGS - 1))
    with counting_retries(retries):
        found = stored_samples(parent, box)
    np.testing.assert_array_equal(found, NOISE[box.slices])
    assert retries == {"ValueError": READINGS - 1}


def test_damage_that_stays_is_an_error_that_says_what_to_do() -> None:
    """After as many readings."""
    parent = Counted([ValueError("\ncut short\nby two bytes")] * 9)
    with pytest.raises(StoredDataError, match=r"cannot be read \(cut short\); run the same"):
        stored_samples(parent, Region((0, 0, 0), (4, 4, 4)))
    assert len(parent.boxes) == READINGS == 5


@pytest.mark.parametrize("error", [PermissionError("no"), MemoryError()])
def test_what_is_no_damage_is_raised_at_once(error: Exception) -> None:
    """A disk that refuses, or too little memory."""
    parent = Counted([error] * 9)
    with pytest.raises(type(error)):
        stored_samples(parent, Region((0, 0, 0), (4, 4, 4)))
    assert len(parent.boxes) == 1


def test_samples_are_read_into_the_array_that_is_given() -> None:
    """And returned as it."""
    box, into = Region((2, 0, 1), (6, 4, 4)), np.zeros((4, 4, 3), "u2")
    found = stored_samples(Counted(), box, into)
    np.testing.assert_array_equal(into, NOISE[box.slices])
    assert np.shares_memory(found, into)


def test_work_that_is_given_up_says_what_it_was_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All its retries come out of one budget."""
    monkeypatch.setattr(config, "region_retries", 0)
    parent = Counted([ConnectionResetError("reset")] * 99)
    with (
        pytest.raises(TransientError, match=r"reading region 3 was given up after .* same command"),
        work_on("reading region 3"),
    ):
        stored_samples(parent, Region((0, 0, 0), (4, 4, 4)))


def test_other_errors_of_the_work_are_raised_as_they_are() -> None:
    """They say what is wrong themselves."""
    with pytest.raises(StoredDataError, match=r"^damaged$"), work_on("reading region 3"):
        raise StoredDataError("damaged")


def test_an_object_that_is_put_twice_has_the_receipt_of_the_second_time(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may ask for its bytes again after a failed request."""
    plan: PyramidPlan = plan_of("yx", (40, 33), chunks=16)
    level, samples = plan.levels[0], samples_of((40, 33), "<u2")
    given = BlockedArray.of(level.region(0), samples)
    plain = store_region(store, LevelEncoder(plan, level), level, 0, given)
    write = store.write

    def twice(key: str, data: Any) -> None:
        data(lambda part: None)
        write(key, data)

    monkeypatch.setattr(store, "write", twice)
    assert store_region(store, LevelEncoder(plan, level), level, 0, given) == plain
