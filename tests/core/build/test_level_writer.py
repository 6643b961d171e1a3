"""One level as a pass uses it: what is loaded, stored and recorded, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity

from ngff_core.blocks import BlockedArray
from ngff_core.build.level_inputs import LevelFiles
from ngff_core.build.level_progress import PhaseCount
from ngff_core.build.level_writer import LevelWriter
from ngff_core.config import config
from ngff_core.errors import LeaseLostError, TransientError
from ngff_core.progress import Advanced, Event, PhaseProgress
from ngff_core.pyramid import level_io
from ngff_core.pyramid.publish import create_arrays
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.ledger import Ledger
from ngff_core.records.stored_build import StoredBuild
from tests.support.passes import computed
from tests.support.plans import plan_of
from tests.support.stores import WatchedStore

PLAN = plan_of("yx", (32, 32), chunks=4, shards=8, scale_factors=[2], method="itkwasm_gaussian")
"""16 regions of 8 × 8 samples and 4 of the next level."""

LEVELS = computed(PLAN)


def nothing() -> None:
    """A check that finds nothing wrong."""


@dataclass
class Level:
    """A level's writer on a local store, and what it called."""

    folder: Path
    index: int = 0
    parent: Any = None
    check: Callable[[], None] = nothing
    read: bool = False
    """Whether the level reads halo files."""
    written: bool = False
    """Whether it writes halo files."""
    opened: int = 0
    completed: int = 0
    events: list[Event] = field(default_factory=list)
    retries: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.store = WatchedStore(self.folder / "a.ome.zarr")
        self.beside = WatchedStore(self.folder / "a.ome.zarr.build")
        create_arrays(self.store, PLAN)
        self.store.asked.clear()
        self.plan = PLAN.levels[self.index]
        self.build = StoredBuild.begin(self.store, self.beside, PLAN)
        self.ledger: Ledger = self.build.ledgers[self.index]
        files = HaloFiles.of(self.beside, PLAN, ())[1]
        progress = PhaseProgress(self.events.append, "level", self.plan.regions)
        self.writer = LevelWriter(
            self.build,
            self.plan,
            self._open,
            PhaseCount(progress, self.retries),
            check=self._check,
            on_complete=self._complete,
            files=LevelFiles(files if self.read else None, [files] if self.written else []),
        )

    def _open(self) -> Any:
        self.opened += 1
        return LEVELS[0] if self.parent is None else self.parent

    def _check(self) -> None:
        self.check()

    def _complete(self) -> None:
        self.completed += 1

    def samples(self, region: int) -> BlockedArray:
        box = self.plan.region(region)
        return BlockedArray.of(box, LEVELS[self.index][box.slices])

    def put(self, *regions: int) -> None:
        """Store and record regions."""
        for region in regions:
            self.writer.record(self.writer.store(region, self.samples(region)))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once, and receipts stay in memory."""
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(config, "receipt_seconds", 1e9)


def test_what_is_stored_is_what_is_read_back(tmp_path: Path) -> None:
    level = Level(tmp_path)
    for region in range(16):
        receipt = level.writer.store(region, level.samples(region))
        assert receipt.region == region
        assert [level.store.info(f"{level.plan.path}/{o.key}") is not None
                for o in receipt.objects] == [True]  # fmt: skip
        found = level.writer.read(region)
        assert found.box == level.plan.region(region)
        np.testing.assert_array_equal(found.part(found.box), level.samples(region).blocks[0])


@pytest.mark.parametrize("region", [0, 5, 15])
def test_a_region_of_level_0_is_loaded_from_the_source(tmp_path: Path, region: int) -> None:
    """In the plan's dtype, whatever order of bytes the source has."""
    level = Level(tmp_path, parent=LEVELS[0].astype(">u2"))
    found = level.writer.load(region)
    assert found.dtype == PLAN.dtype
    np.testing.assert_array_equal(found.part(found.box), level.samples(region).blocks[0])


@pytest.mark.parametrize("region", range(4))
def test_a_region_of_another_level_is_computed_from_its_parent(tmp_path: Path, region: int) -> None:
    level = Level(tmp_path, index=1)
    found = level.writer.load(region)
    assert found.box == level.plan.region(region)
    np.testing.assert_array_equal(found.part(found.box), level.samples(region).blocks[0])


def test_the_parent_is_opened_once_and_only_where_it_is_read(tmp_path: Path) -> None:
    """A level whose regions are computed in memory never opens it."""
    level = Level(tmp_path)
    level.put(0)
    assert level.opened == 0
    level.writer.load(1)
    level.writer.load(2)
    assert level.opened == 1


def test_regions_done_are_those_with_a_receipt_when_asked(tmp_path: Path) -> None:
    level = Level(tmp_path)
    before = level.writer.done
    level.put(3, 1)
    assert sorted(before) == []
    assert sorted(level.writer.done) == [1, 3]


def test_a_region_that_is_stored_has_no_receipt_until_it_is_recorded(tmp_path: Path) -> None:
    """The driver records it, in one thread."""
    level = Level(tmp_path)
    receipt = level.writer.store(2, level.samples(2))
    assert sorted(level.writer.done) == []
    level.writer.record(receipt)
    assert sorted(level.writer.done) == [2]
    assert level.ledger.receipts[2] == receipt


def test_each_region_is_reported_with_its_raw_bytes(tmp_path: Path) -> None:
    level = Level(tmp_path)
    level.put(7, 0)
    assert level.events[1:] == [Advanced("level", 1, 16, 128), Advanced("level", 2, 16, 128)]


def test_the_end_of_a_level_is_reported_once_with_its_last_region(tmp_path: Path) -> None:
    """Whichever region that is, and after it is counted."""
    level = Level(tmp_path)
    level.put(*range(15, 0, -1))
    assert level.completed == 0
    level.put(0)
    assert level.completed == 1
    last = level.events[-1]
    assert isinstance(last, Advanced)
    assert last.done == last.total == 16


# ---------------------------------------------------------------- the lease


def lost() -> None:
    raise LeaseLostError("lost")


def test_nothing_is_stored_after_the_lease_is_lost(tmp_path: Path) -> None:
    """Another builder may be writing the same object; halo files are its own as well."""
    level = Level(tmp_path, check=lost, written=True)
    with pytest.raises(LeaseLostError):
        level.writer.store(0, level.samples(0))
    assert level.store.asked == []
    assert level.beside.asked == []


def test_nothing_is_recorded_after_the_lease_is_lost(tmp_path: Path) -> None:
    level = Level(tmp_path)
    receipt = level.writer.store(0, level.samples(0))
    level.check = lost
    with pytest.raises(LeaseLostError):
        level.writer.record(receipt)
    assert sorted(level.writer.done) == []
    assert len(level.events) == 1


def test_reading_asks_for_no_lease(tmp_path: Path) -> None:
    level = Level(tmp_path, check=lost)
    level.writer.load(0)


# ---------------------------------------------------------------- halo files


def test_halo_strips_are_stored_before_the_region_that_they_are_cut_from(tmp_path: Path) -> None:
    """A region with a receipt has its strips, then, wherever a kill falls between."""
    level = Level(tmp_path, written=True)
    both: list[str] = []
    level.store.before = level.beside.before = both.append
    level.writer.store(5, level.samples(5))
    assert [request.partition(" ")[0] for request in both] == ["write", "write"]
    assert "borders-1/" in both[0] or "halos-1/" in both[0]
    assert "/c/1/1" in both[1]


def test_a_region_is_computed_with_the_strips_of_the_regions_around(tmp_path: Path) -> None:
    """Of the stored parent it reads its own bins alone."""
    parent = Level(tmp_path, written=True)
    parent.put(*range(16))
    boxes: list[Any] = []

    class Seen:
        """The parent's array, which notes what is read of it."""

        shape, dtype, ndim = LEVELS[0].shape, LEVELS[0].dtype, 2

        def __getitem__(self, key: Any) -> Any:
            boxes.append(key)
            return LEVELS[0][key]

    level = Level(tmp_path, index=1, parent=Seen(), read=True)
    for region in range(4):
        found = level.writer.load(region)
        np.testing.assert_array_equal(found.part(found.box), level.samples(region).blocks[0])
    assert [tuple((s.start, s.stop) for s in key) for key in boxes] == [
        ((0, 16), (0, 16)),
        ((0, 16), (16, 32)),
        ((16, 32), (0, 16)),
        ((16, 32), (16, 32)),
    ]


def test_without_strips_the_parent_is_read_around_the_bins(tmp_path: Path) -> None:
    """The same samples come of it."""
    level = Level(tmp_path, index=1, read=True)
    for region in range(4):
        found = level.writer.load(region)
        np.testing.assert_array_equal(found.part(found.box), level.samples(region).blocks[0])


# ---------------------------------------------------------------- retries


def test_requests_that_were_tried_again_are_counted_for_the_level(tmp_path: Path) -> None:
    level = Level(tmp_path)
    level.store.fail("write *", TimeoutError("slow"), times=2)
    level.put(0)
    assert level.retries == {"TimeoutError": 2}
    last = level.events[-1]
    assert isinstance(last, Advanced)
    assert last.retries == 2


def test_readings_of_the_source_count_too(tmp_path: Path) -> None:
    class Slow:
        shape, dtype, ndim = LEVELS[0].shape, LEVELS[0].dtype, 2
        left = 3

        def __getitem__(self, key: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                raise ConnectionError("reset")
            return LEVELS[0][key]

    level = Level(tmp_path, parent=Slow())
    level.writer.load(0)
    assert level.retries == {"ConnectionError": 3}


@pytest.mark.parametrize("doing", ["reading", "reading back", "storing"])
def test_a_region_that_is_given_up_is_named(
    tmp_path: Path, doing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being done, of which region, where: and that the same command continues."""
    level = Level(tmp_path)
    level.put(3)
    monkeypatch.setattr(config, "region_retries", 2)
    error = TimeoutError("slow")

    class Away:
        shape, dtype, ndim = LEVELS[0].shape, LEVELS[0].dtype, 2

        def __getitem__(self, key: Any) -> Any:
            raise error

    level.parent = Away()
    level.store.fail("write *", error, times=9)
    if doing == "reading back":
        # zarr reads a local object past the store.
        monkeypatch.setattr(level_io, "read_region", lambda *_: Away()[0])
    jobs: dict[str, Callable[[], object]] = {
        "reading": lambda: level.writer.load(3),
        "reading back": lambda: level.writer.read(3),
        "storing": lambda: level.writer.store(3, level.samples(3)),
    }
    with pytest.raises(TransientError) as caught:
        jobs[doing]()
    message = str(caught.value)
    assert f"{doing} region 3 of {level.plan.path} at {level.store.uri}" in message
    assert "run the same command again" in message
    assert level.retries == {"TimeoutError": 2}


def test_an_error_that_will_not_pass_is_raised_as_it_is(tmp_path: Path) -> None:
    level = Level(tmp_path)
    error = PermissionError("no")
    level.store.fail("write *", error)
    with pytest.raises(PermissionError) as caught:
        level.writer.store(0, level.samples(0))
    assert caught.value is error
    assert level.retries == {}
    assert len(level.store.asked) == 1
