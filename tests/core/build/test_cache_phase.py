"""The cache of a source: written once, continued after a failure, and removed at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tenacity
import zarr

from ngff_core.build.cache_phase import CachePhase
from ngff_core.build.pass_runner import PassRunner
from ngff_core.build.session import Session
from ngff_core.build.source_check import CheckedSource
from ngff_core.config import config
from ngff_core.errors import LeaseLostError, SourceChangedError
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan import source_cache
from ngff_core.progress import Advanced, Event, Finished, Started
from ngff_core.sources import Source, open_source
from tests.support.folders import files
from tests.support.plans import plan_of
from tests.support.targets import Place

SHAPE = (64, 64)
PLAN = plan_of("yx", SHAPE, chunks=8, shards=16, scale_factors=[2])
IMAGE = np.arange(64 * 64, dtype="u2").reshape(SHAPE)
PIECES = 8


class Run:
    """A run that writes the cache of a file in 8 pieces of 8 rows."""

    def __init__(self, place: Place, path: Path) -> None:
        self.place, self.path = place, path
        self.heard: list[Event] = []
        self.retries = Counter[str]()
        self.source: Source = open_source(path)
        self.reopened = 0
        self.session = Session(place.wanted(PLAN), self.heard.append)
        self.session.take(overwrite=False)
        self.executor = ThreadPoolExecutor(1)
        runner = PassRunner(kernel_for(PLAN.method), self.executor, 1)
        checked = CheckedSource(self.source, self._reopen)
        self.phase = CachePhase(self.session, checked, runner, self.retries)

    def _reopen(self) -> Source:
        self.reopened += 1
        return open_source(self.path)

    def close(self) -> None:
        self.executor.shutdown()
        self.session.release()
        self.source.close()

    @property
    def written(self) -> list[str]:
        """The pieces that were put, in their order."""
        return [r.removeprefix("write ") for r in self.place.beside.requests("write cache/c/*")]

    @property
    def listed(self) -> list[str]:
        return list(files(self.place.beside.root))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 8 rows; retries come at once, and receipts when a pass ends."""
    monkeypatch.setattr(source_cache, "_REGION_BYTES", 8 * 64 * 2)
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(config, "receipt_seconds", 1e9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "in.npy", IMAGE)
    return tmp_path / "in.npy"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run(place: Place, path: Path) -> Iterator[Run]:
    found = Run(place, path)
    place.forget()
    yield found
    found.close()


def test_the_cache_has_every_sample_of_the_source(run: Run) -> None:
    """In the build folder; the source is checked once, when all of it was read."""
    seconds = run.phase.write(run.heard.append)
    cache = zarr.open_array(run.place.beside.root, path="cache", mode="r")
    np.testing.assert_array_equal(np.asarray(cache[:]), IMAGE)
    assert len(run.written) == len(set(run.written)) == PIECES
    assert run.reopened == 1
    assert "ledger/cache/complete.jsonl" in run.listed
    assert not run.place.target.root.exists()
    assert seconds >= 0


def test_its_progress_is_a_phase_of_its_own(run: Run) -> None:
    run.phase.write(run.heard.append)
    assert run.heard[0] == Started("cache", 0, PIECES)
    steps = [event for event in run.heard if isinstance(event, Advanced)]
    assert [step.done for step in steps] == list(range(1, PIECES + 1))
    assert {step.nbytes for step in steps} == {8 * 64 * 2}
    last = run.heard[-1]
    assert isinstance(last, Finished)
    assert (last.phase, last.total, last.fresh) == ("cache", PIECES, PIECES)


def test_a_cache_that_is_complete_is_not_written_again(run: Run) -> None:
    run.phase.write(run.heard.append)
    run.place.forget()
    again: list[Event] = []
    run.phase.write(again.append)
    assert run.written == []
    assert again[0] == Started("cache", PIECES, PIECES)
    assert run.reopened == 1


def test_a_failed_run_is_continued(run: Run) -> None:
    """It raises what the disk said; the pieces before that are not written again."""
    error = PermissionError("full")
    run.place.beside.fail("write cache/c/3/0", error)
    with pytest.raises(PermissionError) as caught:
        run.phase.write(run.heard.append)
    assert caught.value is error
    assert run.reopened == 0
    first = run.written
    run.place.forget()
    run.phase.write(run.heard.append)
    assert sorted([*first[:-1], *run.written]) == [f"cache/c/{i}/0" for i in range(PIECES)]
    assert first[-1] == "cache/c/3/0"


def test_a_cache_that_was_removed_is_written_again(run: Run) -> None:
    """Its receipts are those of objects that are gone."""
    run.place.beside.fail("write cache/c/3/0", PermissionError("full"))
    with pytest.raises(PermissionError):
        run.phase.write(run.heard.append)
    run.place.beside.delete_tree("cache")
    run.place.forget()
    run.phase.write(run.heard.append)
    assert len(run.written) == PIECES


def test_a_cache_of_a_source_that_changed_is_forgotten(run: Run) -> None:
    np.save(run.path.with_name("new.npy"), IMAGE + 1)
    run.path.with_name("new.npy").replace(run.path)
    with pytest.raises(SourceChangedError):
        run.phase.write(run.heard.append)
    assert not [key for key in run.listed if key.startswith("ledger/")]


def test_nothing_is_written_after_the_lease_is_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> None:
        raise LeaseLostError("lost")

    monkeypatch.setattr(run.session, "check", lost)
    with pytest.raises(LeaseLostError):
        run.phase.write(run.heard.append)
    assert run.written == []
    assert not [key for key in run.listed if key.startswith("ledger/")]


def test_requests_that_are_tried_again_belong_to_no_level(run: Run) -> None:
    run.place.beside.fail("write cache/c/*", TimeoutError("slow"), times=3)
    run.phase.write(run.heard.append)
    assert run.retries == {"TimeoutError": 3}
    assert [e.retries for e in run.heard if isinstance(e, Advanced)][-1] == 3


# ---------------------------------------------------------------- removing


@pytest.mark.parametrize("listing", [True, False])
def test_the_receipts_of_a_cache_go_after_its_objects(run: Run, listing: bool) -> None:
    """A later run knows by them that there is something to remove."""
    run.phase.write(run.heard.append)
    run.place.forget()
    run.phase.remove(run.listed if listing else None)
    assert not [key for key in run.listed if key.startswith(("cache/", "ledger/"))]
    assert run.place.beside.requests("delete_tree *") == [
        "delete_tree cache",
        "delete_tree ledger/cache",
    ]
    assert "plan.json" in run.listed


@pytest.mark.parametrize("left", ["cache/zarr.json", "ledger/cache/complete.jsonl"])
@pytest.mark.parametrize("listing", [True, False])
def test_either_part_that_a_kill_left_is_enough_to_remove_both(
    run: Run, left: str, listing: bool
) -> None:
    run.place.beside.write(left, b"{}")
    run.place.beside.write("cache/c/0/0", b"x")
    run.phase.remove(run.listed if listing else None)
    assert not [key for key in run.listed if key.startswith(("cache/", "ledger/"))]


@pytest.mark.parametrize("listing", [True, False])
def test_where_there_is_no_cache_nothing_is_removed(run: Run, listing: bool) -> None:
    run.phase.remove(run.listed if listing else None)
    assert run.place.beside.requests("delete*") == []
    assert len(run.place.beside.requests("read *")) == (0 if listing else 2)
