"""Halo strips in the build folder: right or missing, never wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from ngff_core.blocks import BlockedArray
from ngff_core.errors import UnlistableError
from ngff_core.geometry import Region, within
from ngff_core.plan.halos import HaloStrip, level_halos
from ngff_core.records.build_folder import halo_key
from ngff_core.records.halo_files import HaloFiles, remove_halos
from ngff_core.storage import ObjectStore
from tests.support.passes import cut
from tests.support.plans import plan_of

PLAN = plan_of("zyx", (34, 28, 20), chunks=4, shards=8, scale_factors=[2, 4])
NOISE = np.random.default_rng(1).integers(0, 2**16, PLAN.levels[0].shape, "u2")
HALOS = level_halos(PLAN, ())[1]
GRID = (5, 4, 3)


def samples(region: int, dtype: str = "u2") -> BlockedArray:
    """The samples of a region of the parent."""
    box = HALOS.parent.region(region)
    return BlockedArray.of(box, NOISE[box.slices].astype(dtype))


def key_of(region: int) -> str:
    """The key of the halo strips of a region of the parent."""
    return halo_key(1, tuple(int(i) for i in np.unravel_index(region, GRID)))


@pytest.fixture
def files(store: ObjectStore) -> HaloFiles:
    """Halo strips of all regions of a level of noise, for the next level."""
    files = HaloFiles.of(store, PLAN, ())[1]
    for region in range(HALOS.parent.regions):
        files.keep(region, samples(region))
    return files


def filled(files: HaloFiles, region: int) -> list[Region]:
    """Fill the window of a region, check every sample of it, and return what is missing."""
    box = HALOS.window(region)
    window = np.zeros(box.shape, "u2")
    missing = files.fill(region, box, window)
    wanted = NOISE[box.slices].copy()
    for part in (HALOS.interior(region), *missing):
        wanted[within(part, box)] = 0
    assert (window == wanted).all()
    return missing


def test_halo_strips_come_back_as_they_were_saved(files: HaloFiles) -> None:
    """For each region of the level, without its interior."""
    for region in range(HALOS.child.regions):
        assert filled(files, region) == []
        assert files.interior(region) == HALOS.interior(region)


def test_a_region_saves_one_object_with_all_its_halo_strips(
    files: HaloFiles, store: ObjectStore
) -> None:
    """Samples and a checksum of 4 bytes for each; nothing for a region that nobody reads."""
    sizes = {key: info.size for key, info in store.objects().items()}
    strips = {region: HALOS.strips(region) for region in range(HALOS.parent.regions)}
    assert sizes == {
        key_of(region): sum(2 * strip.size + 4 for strip in of_region)
        for region, of_region in strips.items()
        if of_region
    }
    assert 0 < len(sizes) == HALOS.objects


@pytest.mark.parametrize("dtype", ["u2", ">u2", "i8"])
def test_the_stored_bytes_are_those_of_the_plans_dtype(
    store: ObjectStore, files: HaloFiles, dtype: str
) -> None:
    """Little-endian, however the samples came and however many arrays hold them."""
    region = next(r for r in range(HALOS.parent.regions) if len(HALOS.strips(r)) > 2)
    before = store.read(key_of(region))
    assert before is not None
    box, cell = HALOS.parent.region(region), (3, 5, 2)
    files.keep(region, cut(box, NOISE[box.slices].astype(dtype), cell))
    assert store.read(key_of(region)) == before
    first = HALOS.strips(region)[0]
    data = b"".join(NOISE[part.slices].astype("<u2").tobytes() for part in first.boxes)
    assert before[: len(data)] == data


def test_levels_that_are_streamed_have_none(store: ObjectStore) -> None:
    """They are computed while their parent is in memory."""
    assert set(HaloFiles.of(store, PLAN, (2,))) == {1}
    assert HaloFiles.of(store, PLAN, (2,))[1].parent == 0
    assert HaloFiles.of(store, PLAN, (1, 2)) == {}


def later_strip(region: int) -> tuple[int, HaloStrip]:
    """A halo strip for a region that is not the first one in its object.

    Services refuse to read a range beyond the end of an object, not one that crosses it.
    """
    return next(found for found in HALOS.strips_for(region) if found[1].strips_before)


@pytest.mark.parametrize(
    "harm", ["gone", "cut", "cut at once", "flipped", "checksum flipped", "another's", "moved"]
)
def test_what_cannot_be_trusted_is_missing(files: HaloFiles, store: ObjectStore, harm: str) -> None:
    """So it is decoded instead; halo strips of other regions are as good as before."""
    last = HALOS.child.regions - 1
    saver, strip = later_strip(last)
    key = key_of(saver)
    data = store.read(key)
    assert data is not None
    start = 2 * strip.samples_before + 4 * strip.strips_before
    end = start + 2 * strip.size + 4

    def flipped(at: int) -> bytes:
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    match harm:
        case "gone":
            store.delete(key)
        case "cut":
            store.write(key, data[: end - 4])
        case "cut at once":
            store.write(key, data[:1])
        case "flipped":
            store.write(key, flipped(start))
        case "checksum flipped":
            store.write(key, flipped(end - 1))
        case "moved":
            store.write(key, b"\0\0" + data)
        case "another's":
            twin = next(
                r for r in range(HALOS.parent.regions)
                if r != saver and len(HALOS.strips(r)) == len(HALOS.strips(saver))
            )  # fmt: skip
            other = store.read(key_of(twin))
            assert other is not None
            assert len(other) == len(data)
            store.write(key, other)
    assert filled(files, last) == list(strip.boxes)
    assert filled(files, 0) == []


def test_halo_strips_of_another_plan_are_missing(files: HaloFiles, store: ObjectStore) -> None:
    """An overwrite that was killed may have left them."""
    other = plan_of("zyx", (34, 28, 20), chunks=4, shards=8, scale_factors=[2])
    found = HaloFiles(store, other, HALOS)
    last = HALOS.child.regions - 1
    assert sum(box.size for box in filled(found, last)) == (
        HALOS.window(last).size - HALOS.interior(last).size
    )
    assert filled(files, last) == []


def test_a_mark_says_that_there_may_be_halo_strips(store: ObjectStore) -> None:
    """It names both levels, for people."""
    HaloFiles.of(store, PLAN, ())[1].begin()
    document = store.read("halos-1/begun.json")
    assert document is not None
    assert json.loads(document) == {"level": "1", "of": "0"}


@pytest.mark.parametrize("how", ["listed", "keys known", "marked"])
def test_nothing_is_left_of_halo_strips(files: HaloFiles, store: ObjectStore, how: str) -> None:
    """Neither where the store is listed, nor where only the mark says that there are any."""
    store.write("plan.json", b"{}")
    store.write("borders-1/0/0/0", b"of an older version")
    files.begin()
    if how == "listed":
        remove_halos(store, None)
    elif how == "keys known":
        remove_halos(store, PLAN, list(store.objects()))
    else:
        store.delete("borders-1/0/0/0")
        files.remove_if_begun()
    assert list(store.objects()) == ["plan.json"]


def test_without_a_mark_nothing_is_looked_for(files: HaloFiles, store: ObjectStore) -> None:
    """It would take a request for each region."""
    before = store.objects()
    files.remove_if_begun()
    assert store.objects() == before


@pytest.fixture
def unlisted(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that are deleted one by one, since the store does not list."""
    deleted: list[str] = []

    def refuse(*given: Any) -> Any:
        raise UnlistableError("not to us")

    delete = store.delete
    monkeypatch.setattr(store, "objects", refuse)
    monkeypatch.setattr(store, "delete_tree", refuse)
    monkeypatch.setattr(store, "delete", lambda key: (deleted.append(key), delete(key))[1])
    return deleted


def test_where_nothing_is_listed_the_plan_says_what_to_remove(
    files: HaloFiles, store: ObjectStore, unlisted: list[str]
) -> None:
    """Each region of each marked level, and the mark last: a kill before leaves it."""
    files.begin()
    remove_halos(store, None)
    assert unlisted == []
    remove_halos(store, PLAN)
    assert set(unlisted[:-1]) == {key_of(region) for region in range(math.prod(GRID))}
    assert unlisted[-1] == "halos-1/begun.json"
    assert store.read(key_of(0)) is None
    assert store.read("halos-1/begun.json") is None
