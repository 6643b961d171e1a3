"""The ends of ledgers: of a level that is complete, and of a pass that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context

from ngff_core.build.level_progress import LevelProgress
from ngff_core.errors import LeaseLostError, SourceChangedError
from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.records.halo_files import HaloFiles, remove_halos
from ngff_core.records.ledger import Ledger
from ngff_core.records.stored_build import StoredBuild


class LevelFinisher:
    """Finishes the ledger of each level whose last region is recorded.

    Where requests to the target take time, threads do it, so that the next regions need not
    wait. ``check_source`` is called before a level that was read from the source is
    finished. ``on_finished`` is called with the index of each level that is finished.
    """

    def __init__(
        self,
        build: StoredBuild,
        progress: LevelProgress,
        halos: Mapping[int, HaloFiles],
        *,
        check_source: Callable[[LevelPlan], None],
        on_finished: Callable[[int], None],
    ) -> None:
        self._build = build
        self._progress = progress
        self._halos = halos
        self._check_source = check_source
        self._on_finished = on_finished
        self._in_threads = build.target.at_once > 1
        self._threads = ThreadPoolExecutor(build.target.at_once, thread_name_prefix="ngff-finish")
        self._under_way: list[Future[None]] = []

    def start(self, level: LevelPlan) -> None:
        """Finish a level whose last region is recorded, in a thread if that is worth it."""
        if self._in_threads:
            # Threads have a context of their own, and retries are counted by the driver's.
            finished = self._threads.submit(copy_context().run, self.finish, level)
            self._under_way.append(finished)
        else:
            self.finish(level)

    def wait(self) -> None:
        """Wait for the levels that are being finished; raise what one of them raised."""
        under_way, self._under_way = self._under_way, []
        wait(under_way)
        for finished in under_way:
            finished.result()

    def finish(self, level: LevelPlan) -> None:
        """Finish the ledger of a level, report it, and remove the halo files it has read."""
        self._check_source(level)
        self._build.ledgers[level.index].finish()
        self._progress.finish(level.index)
        self._on_finished(level.index)
        if level.index in self._halos:
            # The level is complete even if this fails; the end of the build removes the rest.
            with suppress(OSError):
                self._halos[level.index].remove()

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()


@contextmanager
def settling(build: StoredBuild, ledgers: Iterable[Ledger]) -> Iterator[None]:
    """Run a pass inside: if it fails, the receipts taken so far are stored, or forgotten.

    They are forgotten if the source changed while it was read. They are left alone if the
    lease was lost, since another builder writes the ledger then.
    """
    try:
        yield
    except BaseException as error:
        cause = error.__cause__ or error
        for ledger in ledgers:
            if isinstance(cause, SourceChangedError):
                ledger.forget()
            elif not isinstance(cause, LeaseLostError):
                ledger.flush()
        if isinstance(cause, SourceChangedError):
            remove_halos(build.beside, build.plan)
        raise
