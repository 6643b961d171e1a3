"""The ends of levels: finished ledgers, progress, the source compared with what was opened."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core.build.finishing import LevelFinisher, settling
from ngff_core.build.level_progress import LevelProgress
from ngff_core.build.source_check import CheckedSource
from ngff_core.build.streaming import LevelFailedError
from ngff_core.errors import LeaseLostError, SourceChangedError
from ngff_core.progress import Advanced, Event, Finished, Started, silent
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from ngff_core.sources import open_source
from ngff_core.storage import LocalFiles
from tests.support.plans import plan_of

PLAN = plan_of("yx", (32, 32), chunks=16, shards=16, scale_factors=[2])


class Remote(LocalFiles):
    """A folder that is treated as if each request took time."""

    at_once = 4


@pytest.fixture(params=[LocalFiles, Remote], ids=["at once", "in threads"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> StoredBuild:
    """A build that has just begun."""
    beside = LocalFiles(tmp_path / "a.build")
    return StoredBuild.begin(request.param(tmp_path / "a"), beside, PLAN)


def fill(build: StoredBuild, level: int) -> None:
    for region in range(build.plan.levels[level].regions):
        build.ledgers[level].record(Receipt(region, 0, ()))


def finisher_of(
    build: StoredBuild, check_source: Callable[[Any], None] = lambda level: None
) -> tuple[LevelFinisher, LevelProgress, list[int]]:
    finished: list[int] = []
    progress = LevelProgress(build.plan.levels, build.ledgers, silent)
    finisher = LevelFinisher(
        build, progress, {}, check_source=check_source, on_finished=finished.append
    )
    return finisher, progress, finished


def test_a_finished_level_is_one_document_and_is_reported(build: StoredBuild) -> None:
    """Its seconds are known, and its number is passed on."""
    finisher, progress, finished = finisher_of(build)
    progress.start(1)
    fill(build, 1)
    finisher.start(build.plan.levels[1])
    finisher.wait()
    assert build.ledgers[1].complete
    assert finished == [1]
    assert set(progress.seconds) == {1}
    finisher.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ngff-finish")]


def test_an_error_in_finishing_is_raised_and_the_level_is_not_complete(build: StoredBuild) -> None:
    """The source is compared before its samples count as right."""

    def changed(level: Any) -> None:
        raise SourceChangedError("changed")

    finisher, progress, finished = finisher_of(build, changed)
    progress.start(0)
    fill(build, 0)

    def finish() -> None:
        finisher.start(build.plan.levels[0])
        finisher.wait()

    with pytest.raises(SourceChangedError):
        finish()
    assert not build.ledgers[0].complete
    assert finished == []
    finisher.close()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("error", "kept"),
    [(OSError("disk"), 1), (SourceChangedError("changed"), 0), (LeaseLostError("lost"), 0)],
)
def test_receipts_of_a_failed_pass_are_stored_as_far_as_they_count(
    error: Exception, kept: int, nested: bool, tmp_path: Path
) -> None:
    """Not after the source changed, and not into the ledger of the builder that took over."""
    beside = LocalFiles(tmp_path / "a.build")
    build = StoredBuild.begin(LocalFiles(tmp_path / "a"), beside, PLAN)
    raised: Exception = error
    if nested:
        raised = LevelFailedError(0)
        raised.__cause__ = error

    def run_pass() -> None:
        with settling(build, build.ledgers):
            build.ledgers[0].record(Receipt(2, 0, ()))
            raise raised

    with pytest.raises(type(raised)):
        run_pass()
    stored = StoredBuild.load(build.target, beside, PLAN)
    assert len(stored.ledgers[0].receipts) == kept


def test_a_complete_level_is_reported_once(build: StoredBuild) -> None:
    """Started and finished, with nothing new, at the first wait for it."""
    events: list[Event] = []
    fill(build, 0)
    build.ledgers[0].finish()
    progress = LevelProgress(PLAN.levels, build.ledgers, events.append)
    for level in (0, 1, 0):
        progress.report_complete(level)
    assert [type(event) for event in events] == [Started, Finished]
    assert [event.fresh for event in events if isinstance(event, Finished)] == [0]
    assert progress.seconds == {}


def test_a_level_is_counted_from_the_start_at_each_attempt(build: StoredBuild) -> None:
    """With the regions done before; its retries are those of all attempts."""
    events: list[Event] = []
    progress = LevelProgress(PLAN.levels, build.ledgers, events.append)
    first = progress.start(0)
    first.retries["503"] += 2
    first.advance(10)
    build.ledgers[0].record(Receipt(0, 0, ()))
    again = progress.start(0)
    again.retries["429"] += 1
    again.advance(10)
    assert [(e.done, e.total) for e in events if isinstance(e, Started)] == [(0, 4), (1, 4)]
    assert [e.retries for e in events if isinstance(e, Advanced)] == [2, 3]
    assert progress.retries[0] == Counter({"503": 2, "429": 1})


def test_another_listener_hears_how_far_a_level_is(build: StoredBuild) -> None:
    """From then on in place of the first one."""
    first: list[Event] = []
    second: list[Event] = []
    progress = LevelProgress(PLAN.levels, build.ledgers, first.append)
    count = progress.start(0)
    count.advance(10)
    before = len(first)
    progress.listen(0, second.append)
    count.advance(10)
    assert len(first) == before
    assert [(e.done, e.total) for e in second if isinstance(e, Advanced)] == [(1, 4), (2, 4)]


def test_a_source_that_changed_since_it_was_opened_is_refused(tmp_path: Path) -> None:
    """The message names it, and what to do."""
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((8, 8), "u1"))
    with open_source(path) as opened:
        checked = CheckedSource(opened, lambda: open_source(path))
        checked.check()
        np.save(path, np.zeros((9, 8), "u1"))
        with pytest.raises(SourceChangedError, match=r"a\.npy changed while it was read.*again"):
            checked.check()


def test_an_array_in_memory_is_not_opened_again() -> None:
    """It has no version to compare."""
    with open_source(np.zeros((8, 8), "u1")) as opened:
        CheckedSource(opened, lambda: pytest.fail("opened again")).check()
