"""Borders: bins for one region alone, and for each window strips of all that is beyond."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ngff_core import NgffImage, build_pyramid
from ngff_core.blocks import BlockedArray
from ngff_core.build import planning
from ngff_core.build.build import Build
from ngff_core.geometry import Region, window_of, within
from ngff_core.plan.halos import LevelHalos, level_halos
from ngff_core.plan.options import BuildOptions
from ngff_core.plan.projection import project
from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.records.halo_files import HaloFiles, remove_halos
from ngff_core.storage import ObjectStore, open_store
from tests.support.folders import files
from tests.support.plans import plan_of

PLAN = plan_of("zyx", (34, 28, 20), chunks=4, shards=8, scale_factors=[2, 4])
GIVEN: dict[str, Any] = {"chunks": 8, "shards": 16, "scale_factors": [2, 4]}
IMAGE = np.random.default_rng(3).integers(0, 2**16, (70, 66, 90), "u2")


def level(index: int, shape: Any, block: Any, step: Any, chunks: Any = None) -> LevelPlan:
    """A level of which only the cut matters."""
    return LevelPlan(index, str(index), shape, chunks or block, None, block, step, index - 1, step)


@st.composite
def cuts(draw: st.DrawFn) -> LevelHalos:
    """Any blocks and steps, halos beyond the blocks among them."""
    dims = draw(st.integers(1, 3))
    several = st.tuples(*[st.integers(1, {1: 60, 2: 20, 3: 9}[dims])] * dims)
    shape, one, two = draw(several), draw(several), draw(several)
    step = draw(st.tuples(*[st.integers(1, 4)] * dims))
    assume(all(k <= n for k, n in zip(step, shape, strict=True)))
    child = tuple(n // k for n, k in zip(shape, step, strict=True))
    halo = draw(st.tuples(*[st.integers(0, 6)] * dims))
    return LevelHalos(level(0, shape, one, (1,) * dims), level(1, child, two, step), halo)


@given(cuts())
def test_a_window_is_its_bins_and_its_strips(halos: LevelHalos) -> None:
    """Each sample of it once; each strip lies in the region that keeps it, and not in the bins."""
    parent, child = halos.parent, halos.child
    for region in range(child.regions):
        window = window_of(child.region(region), child.step, halos.halo, parent.shape).box
        found = np.zeros(parent.shape, int)
        found[halos.bins(region).slices] += 1
        for giver, strip in halos.givers(region):
            own = np.zeros(parent.shape, int)
            own[parent.region(giver).slices] = 1
            for box in strip.boxes:
                assert box.size > 0
                assert own[box.slices].all()
                found[box.slices] += 1
        wanted = np.zeros(parent.shape, int)
        wanted[window.slices] = 1
        assert (found == wanted).all()


@given(cuts())
def test_what_is_kept_is_what_is_looked_for(halos: LevelHalos) -> None:
    """One after another in its object; the counts that cost is reckoned from are theirs."""
    looked_for = {
        (giver, strip)
        for region in range(halos.child.regions)
        for giver, strip in halos.givers(region)
    }
    kept = {region: halos.strips(region) for region in range(halos.parent.regions)}
    assert looked_for == {(region, strip) for region, strips in kept.items() for strip in strips}
    for strips in kept.values():
        for place, strip in enumerate(strips):
            assert (strip.place, strip.before) == (place, sum(s.size for s in strips[:place]))
    assert halos.objects == sum(map(bool, kept.values()))
    assert halos.parts == len(looked_for)
    assert halos.size == sum(strip.size for _, strip in looked_for)


@given(cuts(), st.data())
def test_bins_are_read_once_where_they_are_whole_chunks(
    halos: LevelHalos, data: st.DataObject
) -> None:
    """Each chunk of the parent by one region: what is decoded is what the level has."""
    bins = [halos.bins(region) for region in range(halos.child.regions)]
    times = np.zeros(halos.parent.shape, int)
    for box in bins:
        times[box.slices] += 1
    assert times.max() == 1
    chunks = data.draw(st.tuples(*(st.integers(1, n) for n in halos.parent.shape)))
    parent = level(0, halos.parent.shape, halos.parent.block, halos.parent.step, chunks)
    cut = LevelHalos(parent, halos.child, halos.halo)
    decoded, met = np.zeros(parent.shape, int), 0
    for box in bins:
        hull = tuple(
            slice(a // c * c, min(n, -(-b // c) * c))
            for a, b, c, n in zip(box.start, box.stop, chunks, parent.shape, strict=True)
        )
        decoded[hull] += 1
        met += math.prod(
            -(-b // c) - a // c for a, b, c in zip(box.start, box.stop, chunks, strict=True)
        )
    assert cut.decoded == decoded.sum()
    assert cut.readings == met
    if cut.worthwhile:
        assert decoded.max() == 1


@pytest.mark.parametrize(
    ("dims", "shape", "options", "found"),
    [
        ("zyx", (1024, 1024, 1024), {}, {1}),
        ("yx", (40000, 40000), {}, {1, 2, 3}),
        ("tczyx", (3, 2, 1024, 1024, 1024), {}, {1}),
        ("zyx", (1024, 1024, 1024), {"method": "itkwasm_bin_shrink"}, set()),
        ("zyx", (400, 400, 400), {}, set()),
        ("zyx", (1024, 1024, 1024), {"scale_factors": [2, 3, 6]}, {1, 2}),
    ],
)
def test_strips_are_kept_where_much_would_be_decoded_again(
    dims: str, shape: Any, options: Any, found: set[int]
) -> None:
    """By a kernel that looks beyond its bins, of levels with several regions."""
    plan = plan_of(dims, shape, **{"scale_factors": [2, 4, 8], **options})
    assert set(level_halos(plan, streamed=())) == found
    assert set(level_halos(plan, streamed=(1,))) == found - {1}


@pytest.fixture
def kept(store: ObjectStore) -> HaloFiles:
    """Strips of all regions of a level of noise, for the next."""
    (kept, *_) = HaloFiles.of(store, PLAN, ()).values()
    parent = PLAN.levels[0]
    for region in range(parent.regions):
        box = parent.region(region)
        kept.keep(region, BlockedArray.of(box, NOISE[box.slices]))
    return kept


NOISE = np.random.default_rng(1).integers(0, 2**16, PLAN.levels[0].shape, "u2")
CHILD = level_halos(PLAN, ())[1]


def filled(kept: HaloFiles, region: int) -> tuple[Any, list[Region]]:
    """A region's window with its strips and zeros, and what was missing."""
    box = CHILD.window(region)
    window = np.zeros(box.shape, "u2")
    missing = kept.fill(region, box, window)
    wanted = NOISE[box.slices].copy()
    for part in (CHILD.bins(region), *missing):
        wanted[within(part, box)] = 0
    assert (window == wanted).all()
    return window, missing


def test_strips_come_back_as_they_were_kept(kept: HaloFiles) -> None:
    """Wherever they are stored; an object for each region that has any."""
    for region in range(CHILD.child.regions):
        assert filled(kept, region)[1] == []


@pytest.mark.parametrize("harm", ["gone", "cut", "cut at once", "flipped", "another's"])
def test_what_cannot_be_trusted_is_missing(kept: HaloFiles, store: ObjectStore, harm: str) -> None:
    """So that it is decoded instead; strips of other regions are as good as before."""
    # Not the first one in its object: of a shorter object services refuse the range.
    last = CHILD.child.regions - 1
    giver, strip = next(given for given in CHILD.givers(last) if given[1].place)
    at = {g: np.unravel_index(g, (5, 4, 3)) for g in range(CHILD.parent.regions)}
    key = "borders-1/" + "/".join(map(str, at[giver]))
    data = store.read(key)
    assert data is not None
    place = 2 * strip.before + 4 * strip.place
    match harm:
        case "gone":
            store.delete(key)
        case "cut":
            store.write(key, data[: place + 2 * strip.size])
        case "cut at once":
            store.write(key, data[:1])
        case "flipped":
            store.write(key, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        case "another's":
            twin = next(
                g for g in at if g != giver and len(CHILD.strips(g)) == len(CHILD.strips(giver))
            )
            other = store.read("borders-1/" + "/".join(map(str, at[twin])))
            assert other is not None
            assert len(other) == len(data)
            store.write(key, other)
    assert filled(kept, last)[1] == list(strip.boxes)
    assert filled(kept, 0)[1] == []


@pytest.mark.parametrize("listed", [True, False])
def test_nothing_is_left_of_strips(kept: HaloFiles, store: ObjectStore, listed: bool) -> None:
    """Neither where the store lists them, nor where a mark alone tells of them."""
    store.write("plan.json", b"{}")
    kept.begin()
    if listed:
        remove_halos(store, PLAN)
    else:
        kept.remove_if_begun()
    assert list(store.objects()) == ["plan.json"]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of the chunks that were decoded, one by one."""
    found: list[int] = []
    inner = numcodecs.Blosc.decode

    def decode(self: Any, *given: Any) -> Any:
        chunk = inner(self, *given)
        found.append(len(memoryview(chunk).cast("B")))
        return chunk

    monkeypatch.setattr(numcodecs.Blosc, "decode", decode)
    return found


def no_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all levels computed from what their parents have stored."""
    monkeypatch.setattr(
        planning, "project", lambda *given, **named: project(*given, **named | {"stream": False})
    )


def parents_bytes(build: Build) -> int:
    """Bytes of the chunks of all levels that others are computed from."""
    parents = [build.plan.levels[level.parent or 0] for level in build.plan.levels[1:]]
    return sum(
        math.prod(-(-n // c) * c for n, c in zip(level.shape, level.chunks, strict=True)) * 2
        for level in parents
    )


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("shape", [(70, 66, 90), (64, 64, 96), (130, 150)])
def test_levels_read_back_are_decoded_once(
    shape: Any, version: str, workers: int, tmp_path: Path, decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each chunk of each level once, by a kernel that looks beyond; and the bytes are the same."""
    image = NgffImage(
        np.random.default_rng(3).integers(0, 2**16, shape, "u2"), "zyx"[-len(shape) :]
    )
    given = {"chunks": 8, "scale_factors": [2, 4], "ome_zarr_version": version}
    monkeypatch.setattr("ngff_core.plan.layout.BLOCK_BYTES", 2 * 16 ** len(shape))
    build_pyramid(image, tmp_path / "streamed", **given)
    assert decoded == []
    no_streams(monkeypatch)
    with Build.open(image, tmp_path / "apart", BuildOptions(**given, workers=workers)) as build:
        assert set(level_halos(build.plan, ())) == {1, 2}
        for index in range(3):
            build.write_level(index)
        assert sum(decoded) == parents_bytes(build)
        cost = build.planned.projection
        strips = sum(phase.halo_bytes for phase in cost.phases)
        apart = sum(phase.bytes_read for phase in cost.phases[1:]) - strips
        raw = sum(math.prod(build.plan.levels[k].shape) * 2 for k in (0, 1))
        assert raw == apart <= sum(decoded)
        build.publish()
        assert build.verify().ok
    assert files(tmp_path / "streamed") == files(tmp_path / "apart")
    assert not list((tmp_path / "apart.build").glob("borders-*"))


def test_a_cluster_decodes_levels_once(
    tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever builds a region of the one level, and whoever builds one of the next."""
    distributed = pytest.importorskip("distributed")
    np.save(tmp_path / "in.npy", IMAGE)
    build_pyramid(tmp_path / "in.npy", tmp_path / "one", **GIVEN)
    assert decoded == []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as local:
        options = BuildOptions(**GIVEN, dask_address=local.scheduler_address)
        with Build.open(tmp_path / "in.npy", tmp_path / "two", options) as build:
            for index in range(3):
                build.write_level(index)
            assert sum(decoded) == parents_bytes(build)
            build.publish()
            build.clean()
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not list((tmp_path / "two.build").glob("borders-*"))


class StoppedError(Exception):
    """A test stops a build."""


def stop_at(monkeypatch: pytest.MonkeyPatch, index: int, after: int) -> None:
    """Have a level's store fail once so many of its regions are stored."""
    from ngff_core.build.level_writer import LevelWriter

    stored, done = LevelWriter.store, []

    def store(self: LevelWriter, region: int, samples: Any) -> Any:
        if self._level.index == index:
            if len(done) == after:
                raise StoppedError
            done.append(region)
        return stored(self, region, samples)

    monkeypatch.setattr(LevelWriter, "store", store)


@pytest.mark.parametrize("lost", ["none", "some", "all"])
def test_a_build_goes_on_with_the_strips_that_are_left(
    lost: str, tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of them each chunk is decoded once, without some more are; nothing else differs."""
    image = NgffImage(IMAGE, "zyx")
    build_pyramid(image, tmp_path / "one", **GIVEN)
    with monkeypatch.context() as patch:
        no_streams(patch)
        with patch.context() as stopped:
            stop_at(stopped, 1, after=2)
            with pytest.raises(StoppedError):
                build_pyramid(image, tmp_path / "two", workers=1, **GIVEN)
        strips = sorted(p for p in (tmp_path / "two.build/borders-1").rglob("*") if p.is_file())
        assert len(strips) == 1 + level_halos(plan_two(tmp_path), ())[1].objects
        for path in strips[:: {"none": len(strips) + 1, "some": 3, "all": 1}[lost]]:
            path.unlink() if lost != "none" else None
        decoded.clear()
        with Build.open(image, tmp_path / "two", BuildOptions(**GIVEN)) as build:
            whole = parents_bytes(build)
        report = build_pyramid(image, tmp_path / "two", **GIVEN)
    assert report.verified
    assert report.levels[0].fresh == 0
    assert (sum(decoded) <= whole) is (lost == "none")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert not list((tmp_path / "two.build").glob("borders-*"))


def plan_two(folder: Path) -> Any:
    from ngff_core.records.build_folder import read_plan

    return read_plan(open_store(folder / "two"), open_store(folder / "two.build"))


def test_strips_of_a_run_with_less_memory_go_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun without streaming, finished with it: nothing of them stays beside the target."""
    image = NgffImage(IMAGE, "zyx")
    with monkeypatch.context() as patch:
        no_streams(patch)
        stop_at(patch, 1, after=2)
        with pytest.raises(StoppedError):
            build_pyramid(image, tmp_path / "two", **GIVEN)
    assert list((tmp_path / "two.build").glob("borders-*"))
    assert build_pyramid(image, tmp_path / "two", **GIVEN).verified
    assert not list((tmp_path / "two.build").glob("borders-*"))


def test_strips_that_cannot_be_removed_at_once_go_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their level is whole all the same."""

    def refuse(self: HaloFiles) -> None:
        raise OSError("not now")

    monkeypatch.setattr(HaloFiles, "remove", refuse)
    no_streams(monkeypatch)
    assert build_pyramid(NgffImage(IMAGE, "zyx"), tmp_path / "two", **GIVEN).verified
    assert not list((tmp_path / "two.build").glob("borders-*"))


def test_who_finds_a_build_finished_removes_no_strips(tmp_path: Path) -> None:
    """They may be another builder's, who has begun anew meanwhile."""
    image = NgffImage(IMAGE, "zyx")
    build_pyramid(image, tmp_path / "two", **GIVEN)
    strip = tmp_path / "two.build/borders-1/0/0/0"
    strip.parent.mkdir(parents=True)
    strip.write_bytes(b"strip")
    assert build_pyramid(image, tmp_path / "two", **GIVEN).verified
    assert strip.exists()


def test_overwriting_removes_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a build that was given up, before another is begun there."""
    image = NgffImage(IMAGE, "zyx")
    with monkeypatch.context() as patch:
        no_streams(patch)
        stop_at(patch, 1, after=2)
        with pytest.raises(StoppedError):
            build_pyramid(image, tmp_path / "two", **GIVEN)
    other = GIVEN | {"scale_factors": []}
    build_pyramid(image, tmp_path / "two", overwrite=True, **other)
    assert not list((tmp_path / "two.build").glob("borders-*"))
