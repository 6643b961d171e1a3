"""The driver: it writes what remains of a build's levels, pass by pass, here or on a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import partial

from ngff_core.blocks import ArrayLike
from ngff_core.build.cluster import ClusterPass, ClusterRunner
from ngff_core.build.level_writer import LevelWriter
from ngff_core.build.planning import PlannedBuild
from ngff_core.build.session import Session
from ngff_core.build.streaming import LevelFailedError, Pass, TooMuchHeldError
from ngff_core.build.takeover import forget_removed
from ngff_core.build.waiting import Pipeline
from ngff_core.errors import LeaseLostError, SourceChangedError
from ngff_core.kernels.methods import kernel_for
from ngff_core.plan import source_cache as cache_pass
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.schedule import PassPlan, passes
from ngff_core.plan.source_cache import cache_plan
from ngff_core.progress import Listener, PhaseProgress, Relay
from ngff_core.pyramid.level_io import open_level
from ngff_core.pyramid.publish import create_arrays
from ngff_core.records.halo_files import HaloFiles, remove_halos
from ngff_core.records.ledger import Ledger
from ngff_core.sources import Source
from ngff_core.storage.retry import counting_retries


class Driver:
    """Writes what remains of the levels of a claimed target, and before them of the cache.

    Levels are written side by side, each region as soon as what it is computed from is
    there. Threads may wait for several levels at once.
    """

    def __init__(
        self,
        session: Session,
        planned: PlannedBuild,
        source: Source,
        reopen: Callable[[], Source],
        executor: Executor,
        met_beside: Counter[str],
        *,
        listener: Listener,
        runner: ClusterRunner | None = None,
    ) -> None:
        self._session = session
        self._plan = session.plan
        self._planned = planned
        self._source = source
        self._reopen = reopen
        self._executor = executor
        self._runner = runner
        self.seconds: dict[int, float] = {}
        """What each level took that was finished by this run."""
        self.met = {level.index: Counter[str]() for level in self._plan.levels}
        """Trouble of each level that was passed over, by kind, in all attempts of this run."""
        self._met_beside = met_beside
        self._progress: dict[int, PhaseProgress] = {}
        self._relays = [Relay(listener) for _ in self._plan.levels]
        self.kept_halos = False
        """Whether strips were kept by this run."""
        self._halos = HaloFiles.of(session.beside, self._plan, planned.projection.streamed)
        self._pipeline = Pipeline(self._write_levels, self.is_done)
        self._finishing: list[Future[None]] = []
        self._finishers = ThreadPoolExecutor(
            session.target.at_once, thread_name_prefix="ngff-finish"
        )

    def is_done(self, index: int) -> bool:
        """Whether nothing remains to be done of a level."""
        return self._session.ledgers[index].complete

    def listen(self, index: int, listener: Listener) -> None:
        """Have ``listener`` hear of a level from now on, in place of who did before."""
        self._relays[index].tell(listener, self._progress.get(index))

    def wait_for(self, index: int) -> None:
        """Return when a level is written; the first to wait sets all levels going."""
        if self.is_done(index) and index not in self._progress:
            self._started(index).finish()
        self._pipeline.wait_for(index)

    def stop(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._pipeline.stop()
        self._finishers.shutdown()

    @property
    def cache_ledger(self) -> Ledger:
        """What is done of the cache pass, once it is loaded."""
        whole = self._cache_plan
        return Ledger(self._session.beside, cache_pass.PHASE, whole.digest, whole.levels[0].regions)

    def write_cache(self, listener: Listener) -> float:
        """Rewrite the source so that it can be read by region; the seconds it took."""
        whole, beside = self._cache_plan, self._session.beside
        ledger = self.cache_ledger.load()
        forget_removed(beside, whole, [ledger])
        create_arrays(beside, whole)
        progress = PhaseProgress(listener, cache_pass.PHASE, ledger.total, len(ledger.receipts))
        level_io = LevelWriter(
            beside,
            whole,
            whole.levels[0],
            ledger,
            lambda: self._source.image.data,
            progress=progress,
            check=self._session.check,
            whole=partial(self._whole_cache, ledger),
            met=self._met_beside,
        )
        try:
            self._run_pass(PassPlan(whole, 0, ()), {0: level_io}, {0: ledger}, held_limit=0)
        except LevelFailedError as error:
            raise error.__cause__ or error from None
        return progress.finish()

    @property
    def _cache_plan(self) -> PyramidPlan:
        return cache_plan(self._plan, self._source.read_unit)

    def _write_levels(self, going_on: Callable[[], None]) -> None:
        """Write what remains of all levels: the driver's work."""
        with counting_retries(self._met_beside):
            self._session.check()
            create_arrays(self._session.target, self._plan)
            for index, files in self._halos.items():
                if not (self.is_done(index) and self.is_done(files.parent)):
                    files.begin()
                    self.kept_halos = True
            projection = self._planned.projection
            try:
                for pass_plan in passes(self._plan, projection.streamed):
                    self._write_pass(pass_plan, projection.held_bytes, going_on)
            except TooMuchHeldError:
                # The projection was wrong. What is stored is right, and the rest needs no more
                # than a region at a time where each level is read back.
                for pass_plan in passes(self._plan, ()):
                    self._write_pass(pass_plan, 0, going_on)

    def _write_pass(
        self, pass_plan: PassPlan, held_limit: int, going_on: Callable[[], None]
    ) -> None:
        ledgers = {level.index: self._session.ledgers[level.index] for level in pass_plan.levels}
        if all(ledger.complete for ledger in ledgers.values()):
            return
        level_ios = {
            level.index: LevelWriter(
                self._session.target,
                self._plan,
                level,
                ledgers[level.index],
                partial(self._parent, level.index),
                progress=self._progress_of(level.index),
                check=self._session.check,
                whole=partial(self._whole, level),
                met=self.met[level.index],
                halos=self._halos.get(level.index),
                kept=self._kept_of(level),
            )
            for level in pass_plan.levels
        }
        for level in pass_plan.levels:
            if ledgers[level.index].has_all_receipts:
                # Killed after its last region, and before its receipts were one document.
                self._finish(level)
        self._run_pass(pass_plan, level_ios, ledgers, held_limit=held_limit, going_on=going_on)

    def _kept_of(self, level: LevelPlan) -> list[HaloFiles]:
        """What is kept of a level for those that are still computed from what it stores."""
        return [
            files
            for child, files in self._halos.items()
            if files.parent == level.index and not self.is_done(child)
        ]

    def _run_pass(
        self,
        pass_plan: PassPlan,
        level_ios: Mapping[int, LevelWriter],
        ledgers: Mapping[int, Ledger],
        *,
        held_limit: int,
        going_on: Callable[[], None] = lambda: None,
    ) -> None:
        with self._session.discarding():
            try:
                try:
                    if self._runner is not None:
                        self._by(self._runner, pass_plan, level_ios, going_on).run()
                    else:
                        self._here(pass_plan, level_ios, held_limit, going_on).run()
                finally:
                    self._end_finishing()
            except BaseException as error:
                self._settle(error.__cause__ or error, ledgers.values())
                raise

    def _here(
        self,
        pass_plan: PassPlan,
        level_ios: Mapping[int, LevelWriter],
        held_limit: int,
        going_on: Callable[[], None],
    ) -> Pass:
        return Pass(
            pass_plan,
            level_ios,
            kernel_for(self._plan.method),
            executor=self._executor,
            in_flight=self._planned.projection.in_flight,
            held_limit=held_limit,
            check=going_on,
        )

    def _by(
        self,
        runner: ClusterRunner,
        pass_plan: PassPlan,
        level_ios: Mapping[int, LevelWriter],
        going_on: Callable[[], None],
    ) -> ClusterPass:
        cache = pass_plan.plan is not self._plan

        def check() -> None:
            going_on()
            self._session.check()

        return runner.work(
            pass_plan,
            level_ios,
            from_source=pass_plan.levels[0].parent is None and (cache or not self._planned.cached),
            cache=cache,
            check=check,
        )

    def _settle(self, error: BaseException, ledgers: Iterable[Ledger]) -> None:
        """Write down what was done before ``error``, so far as it counts."""
        for ledger in ledgers:
            if isinstance(error, SourceChangedError):
                ledger.forget()
            elif not isinstance(error, LeaseLostError):
                # Of a lost lease's target the ledger is the other builder's now.
                ledger.flush()
        if isinstance(error, SourceChangedError):
            remove_halos(self._session.beside, self._plan)

    def _progress_of(self, index: int) -> PhaseProgress:
        """A level's progress, begun anew unless it is known that there is nothing to do."""
        known = self._progress.get(index)
        return known if known is not None and self.is_done(index) else self._started(index)

    def _started(self, index: int) -> PhaseProgress:
        level, ledger = self._plan.levels[index], self._session.ledgers[index]
        self._progress[index] = PhaseProgress(
            self._relays[index], f"level-{index}", level.regions, len(ledger.receipts)
        )
        return self._progress[index]

    def _whole(self, level: LevelPlan) -> None:
        """The last region of a level is recorded.

        Where each request takes time the next regions do not wait for what that asks for.
        """
        if self._session.target.at_once == 1:
            self._finish(level)
        else:
            # Threads have a context of their own, and retries are counted by the driver's.
            finished = self._finishers.submit(copy_context().run, self._finish, level)
            self._finishing.append(finished)

    def _end_finishing(self) -> None:
        """Wait for the levels that are being finished; raise what one of them raised."""
        finishing, self._finishing = self._finishing, []
        wait(finishing)
        for finished in finishing:
            finished.result()

    def _finish(self, level: LevelPlan) -> None:
        ledger = self._session.ledgers[level.index]
        if level.parent is None and not self._planned.cached:
            self._check_source()
        ledger.finish()
        self.seconds[level.index] = self._progress[level.index].finish()
        self._pipeline.tell()
        if level.index in self._halos:
            # The level is whole all the same, and what is left goes at the end.
            with suppress(OSError):
                self._halos[level.index].remove()

    def _whole_cache(self, ledger: Ledger) -> None:
        self._check_source()
        ledger.flush()
        ledger.finish()

    def _check_source(self) -> None:
        """Refuse what was just read from a source that changed under the reading."""
        if self._source.kind == "array":
            return
        with self._reopen() as again:
            if again.identity == self._source.identity:
                return
        raise SourceChangedError(
            f"{self._planned.source} changed while it was read, so what was written from it is "
            "discarded; run the same command again with overwrite, once the source is at rest"
        )

    def _parent(self, index: int) -> ArrayLike:
        parent = self._plan.levels[index].parent
        if parent is not None:
            return open_level(self._session.target, self._plan, self._plan.levels[parent])
        if self._planned.cached:
            whole = self._cache_plan
            return open_level(self._session.beside, whole, whole.levels[0])
        return self._source.image.data
