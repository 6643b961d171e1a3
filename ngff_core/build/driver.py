"""The driver: it writes what remains of a build's levels, pass by pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from ngff_core.blocks import ArrayLike
from ngff_core.build.finishing import LevelFinisher, settling
from ngff_core.build.level_inputs import LevelFiles, open_parent
from ngff_core.build.level_progress import LevelProgress
from ngff_core.build.level_writer import LevelWriter
from ngff_core.build.pass_runner import PassRunner
from ngff_core.build.planning import PlannedBuild
from ngff_core.build.session import Session
from ngff_core.build.source_check import CheckedSource
from ngff_core.build.streaming import TooMuchHeldError
from ngff_core.build.waiting import LevelFutures
from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.plan.schedule import PassPlan, passes
from ngff_core.plan.source_cache import cache_plan
from ngff_core.progress import Listener
from ngff_core.pyramid.publish import create_arrays
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.summary_files import SummaryFiles
from ngff_core.storage.retry import counting_retries


class Driver:
    """Writes what remains of the levels of a target that ``session`` has taken.

    Levels are written side by side, each region as soon as what it is computed from is
    there. Threads may wait for several levels at once. ``retries`` counts the requests that
    are tried again and belong to no level.
    """

    def __init__(
        self,
        session: Session,
        planned: PlannedBuild,
        source: CheckedSource,
        runner: PassRunner,
        listener: Listener,
        retries: Counter[str],
    ) -> None:
        self._session = session
        self._build = build = session.stored
        self._projection = planned.projection
        self._source = source
        self._runner = runner
        self._retries = retries
        self._cache = cache_plan(build.plan, source.source.read_unit) if planned.cached else None
        self.progress = LevelProgress(build.plan.levels, build.ledgers, listener)
        self.wrote_halos = False
        """Whether this run wrote halo files."""
        self._halos = HaloFiles.of(build.beside, build.plan, planned.projection.streamed)
        self.summaries = SummaryFiles.of(build.beside, build.plan)
        """The summaries of samples that decide how channels are shown; None if there are none."""
        self._levels = LevelFutures(self._write_levels, self.is_complete)
        self._finisher = LevelFinisher(
            build,
            self.progress,
            self._halos,
            check_source=self._check_source,
            on_finished=self._levels.complete,
        )

    def is_complete(self, level: int) -> bool:
        """Whether nothing remains to be done of a level."""
        return self._build.ledgers[level].complete

    def wait_for(self, level: int) -> None:
        """Return when a level is written; the first call starts writing all levels."""
        self.progress.report_complete(level)
        self._levels.wait_for(level)

    def stop(self) -> None:
        """Start nothing more, and wait for what is under way."""
        try:
            self._levels.stop()
        finally:
            self._finisher.close()

    def _write_levels(self, check_wanted: Callable[[], None]) -> None:
        """Write what remains of all levels; ``check_wanted`` raises once this is not wanted."""
        with counting_retries(self._retries):
            self._session.check()
            create_arrays(self._build.target, self._build.plan)
            for index, files in self._halos.items():
                if not (self.is_complete(index) and self.is_complete(files.parent)):
                    files.begin()
                    self.wrote_halos = True
            try:
                for pass_plan in passes(self._build.plan, self._projection.streamed):
                    self._write_pass(pass_plan, self._projection.held_bytes, check_wanted)
            except TooMuchHeldError:
                # The projection was too low. What is stored is right, and reading each level
                # back needs no more memory than one region at a time for the rest.
                for pass_plan in passes(self._build.plan, ()):
                    self._write_pass(pass_plan, 0, check_wanted)

    def _write_pass(
        self, pass_plan: PassPlan, held_bytes: int, check_wanted: Callable[[], None]
    ) -> None:
        ledgers = [self._build.ledgers[level.index] for level in pass_plan.levels]
        if all(ledger.complete for ledger in ledgers):
            return
        for level in pass_plan.levels:
            # Those that an earlier run finished take part in the pass, and are not written.
            self.progress.report_complete(level.index)
        writers = {level.index: self._writer(level) for level in pass_plan.levels}
        for level, ledger in zip(pass_plan.levels, ledgers, strict=True):
            if ledger.has_all_receipts and not ledger.complete:
                # Killed after its last region, and before its receipts were one document.
                self._finisher.finish(level)

        def check() -> None:
            check_wanted()
            self._session.check()

        with self._session.discarding(), settling(self._build, ledgers):
            try:
                self._runner.run(
                    pass_plan,
                    writers,
                    held_bytes=held_bytes,
                    reads_source=self._reads_source(pass_plan.levels[0]),
                    check=check,
                )
            finally:
                self._finisher.wait()

    def _writer(self, level: LevelPlan) -> LevelWriter:
        return LevelWriter(
            self._build,
            level,
            partial(open_parent, self._build, level, self._cache, self._source_array),
            self.progress.start(level.index),
            check=self._session.check,
            on_complete=partial(self._finisher.start, level),
            files=LevelFiles.of(self._halos, level.index, self.summaries, self.is_complete),
        )

    def _source_array(self) -> ArrayLike:
        return self._source.source.image.data

    def _reads_source(self, level: LevelPlan) -> bool:
        return level.parent is None and self._cache is None

    def _check_source(self, level: LevelPlan) -> None:
        if self._reads_source(level):
            self._source.check()
