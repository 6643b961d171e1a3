"""Finishing a level, and the receipts of a pass that fails: stored, or forgotten."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngff_core.build.finishing import LevelFinisher, settling
from ngff_core.build.level_progress import LevelProgress
from ngff_core.build.streaming import LevelFailedError
from ngff_core.errors import LeaseLostError, SourceChangedError
from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.progress import silent
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage.retry import count_retry, counting_retries
from tests.support.folders import files
from tests.support.plans import plan_of
from tests.support.targets import Place

PLAN = plan_of("yx", (32, 32), chunks=4, shards=8, scale_factors=[2], method="itkwasm_gaussian")


class Ending:
    """The ends of `PLAN`'s levels, and the steps that were taken."""

    def __init__(self, folder: Path, at_once: int) -> None:
        self.place = Place(folder, at_once=at_once)
        self.build = StoredBuild.begin(self.place.target, self.place.beside, PLAN)
        self.halos = HaloFiles.of(self.place.beside, PLAN, ())
        self.progress = LevelProgress(PLAN.levels, self.build.ledgers, silent)
        self.steps: list[str] = []
        self.threads: set[int] = set()
        self.error: BaseException | None = None
        self.finisher = LevelFinisher(
            self.build,
            self.progress,
            self.halos,
            check_source=self._check_source,
            on_finished=lambda level: self.steps.append(f"finished {level}"),
        )
        for ledger in self.build.ledgers:
            self.progress.start(PLAN.levels[self.build.ledgers.index(ledger)].index)
            for region in range(ledger.total):
                ledger.record(Receipt(region, 0, ()))
        self.halos[1].begin()

    def finish(self, *levels: int) -> None:
        """Finish levels, and wait for their ends."""
        for level in levels:
            self.finisher.start(PLAN.levels[level])
        self.finisher.wait()

    def _check_source(self, level: LevelPlan) -> None:
        self.threads.add(threading.get_ident())
        count_retry("503")
        complete = self.build.ledgers[level.index].complete
        self.steps.append(f"source {level.index} {complete}")
        if self.error is not None:
            raise self.error


@pytest.fixture(params=[1, 4])
def ending(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ending]:
    """On a local disk, and where each request takes time."""
    found = Ending(tmp_path, request.param)
    yield found
    found.finisher.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ngff-finish")]


def test_a_level_is_finished_once_its_source_is_checked(ending: Ending) -> None:
    """Before its receipts become final, and with all of them."""
    ending.finish(0)
    assert ending.steps == ["source 0 False", "finished 0"]
    assert [ledger.complete for ledger in ending.build.ledgers] == [True, False]
    assert list(ending.progress.seconds) == [0]
    assert "ledger/0/complete.jsonl" in files(ending.place.beside.root)


def test_other_threads_finish_a_level_only_where_requests_take_time(ending: Ending) -> None:
    ending.finish(0)
    here = ending.threads == {threading.get_ident()}
    assert here == (ending.place.target.at_once == 1)


def test_retries_are_counted_where_they_belong_in_any_thread(ending: Ending) -> None:
    met = Counter[str]()
    with counting_retries(met):
        ending.finish(0)
    assert met == {"503": 1}


def test_the_halo_files_that_a_level_has_read_go_with_it(ending: Ending) -> None:
    ending.finish(0)
    assert any("begun.json" in key for key in files(ending.place.beside.root))
    ending.finish(1)
    assert not any("begun.json" in key for key in files(ending.place.beside.root))


def test_halo_files_that_cannot_be_removed_do_not_undo_a_level(ending: Ending) -> None:
    """The end of the build removes what is left."""
    ending.place.beside.fail("delete_tree *", PermissionError("no"), times=9)
    ending.finish(1)
    assert ending.build.ledgers[1].complete
    assert ending.steps[-1] == "finished 1"


def test_a_source_that_changed_finishes_no_level(ending: Ending) -> None:
    ending.error = SourceChangedError("changed")
    with pytest.raises(SourceChangedError):
        ending.finish(0)
    assert not ending.build.ledgers[0].complete
    assert ending.steps == ["source 0 False"]
    assert ending.progress.seconds == {}


def test_an_error_is_raised_once_and_after_all_have_ended(tmp_path: Path) -> None:
    """Whichever level it is of."""
    ending = Ending(tmp_path, 4)
    ending.place.beside.fail("write ledger/0/complete.jsonl", PermissionError("no"))
    for level in PLAN.levels:
        ending.finisher.start(level)
    with pytest.raises(PermissionError):
        ending.finisher.wait()
    assert "finished 1" in ending.steps
    ending.finisher.wait()
    ending.finisher.close()


# ---------------------------------------------------------------- a pass that fails


def failed(cause: BaseException) -> LevelFailedError:
    error = LevelFailedError(0)
    error.__cause__ = cause
    return error


class Failing:
    """A build with a receipt of each level, which is not written down yet."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.build = StoredBuild.begin(self.place.target, self.place.beside, PLAN)
        for ledger in self.build.ledgers:
            ledger.record(Receipt(0, 0, ()))
        HaloFiles.of(self.place.beside, PLAN, ())[1].begin()

    def fail(self, error: BaseException, *levels: int) -> None:
        ledgers = [self.build.ledgers[level] for level in levels]
        with pytest.raises(type(error)) as caught, settling(self.build, ledgers):
            raise error
        assert caught.value is error

    @property
    def segments(self) -> list[str]:
        return [key for key in files(self.place.beside.root) if "/segments/" in key]

    @property
    def has_halos(self) -> bool:
        return any("begun.json" in key for key in files(self.place.beside.root))


@pytest.fixture
def failing(tmp_path: Path) -> Failing:
    return Failing(tmp_path)


@pytest.mark.parametrize(
    "error", [PermissionError("no"), failed(PermissionError("no")), KeyboardInterrupt()]
)
def test_receipts_of_a_pass_that_fails_are_written_down(
    failing: Failing, error: BaseException
) -> None:
    """The next run need not repeat them. Only receipts of this pass's levels are written."""
    failing.fail(error, 1)
    assert failing.segments == ["ledger/1/segments/000000.jsonl"]
    assert len(failing.build.ledgers[1].receipts) == 1
    assert failing.has_halos


@pytest.mark.parametrize(
    "error", [SourceChangedError("changed"), failed(SourceChangedError("changed"))]
)
def test_receipts_of_what_was_read_from_a_source_that_changed_are_forgotten(
    failing: Failing, error: BaseException
) -> None:
    """And halo files of it are removed."""
    failing.build.ledgers[0].flush()
    failing.fail(error, 0, 1)
    assert failing.segments == []
    assert [len(ledger.receipts) for ledger in failing.build.ledgers] == [0, 0]
    assert not failing.has_halos


@pytest.mark.parametrize("error", [LeaseLostError("lost"), failed(LeaseLostError("lost"))])
def test_the_ledger_of_another_builder_is_left_alone(
    failing: Failing, error: BaseException
) -> None:
    before = files(failing.place.beside.root)
    failing.fail(error, 0, 1)
    assert files(failing.place.beside.root) == before


def test_a_pass_that_ends_well_writes_nothing_down(failing: Failing) -> None:
    """Its levels have been finished, or take their receipts down in their own time."""
    with settling(failing.build, failing.build.ledgers):
        pass
    assert failing.segments == []


def test_an_error_of_settling_is_that_of_the_disk(failing: Failing) -> None:
    """The pass's own error is its context."""
    failing.place.beside.fail("create *", PermissionError("disk"), times=9)
    with (
        pytest.raises(PermissionError, match="disk") as caught,
        settling(failing.build, failing.build.ledgers),
    ):
        raise ValueError("pass")
    context: Any = caught.value.__context__
    assert isinstance(context, ValueError)
