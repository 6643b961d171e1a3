"""A target taken for a plan: begun, resumed or replaced, and held by a lease meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ngff_core.build.streaming import LevelFailedError
from ngff_core.build.takeover import (
    TargetState,
    begin,
    drop_missing,
    forget_removed,
    inspect_target,
    remove,
)
from ngff_core.errors import SourceFormatError, UnlistableError
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.progress import Listener, Message
from ngff_core.records.build_folder import LEDGERS, read_plan, segments_folder
from ngff_core.records.lease import Lease
from ngff_core.records.ledger import Ledger
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectStore, delete_below, retrying


class Session:
    """The claim of one run to a target; made by `take`, given up by `release`.

    ``plan`` is the plan as it was put down, and ``ledgers`` are those of its levels, of
    which ``recorded`` receipts were found. ``finished`` says that an earlier run finished
    the build, ``begun_here`` that this run began it.
    """

    def __init__(
        self, stores: tuple[ObjectStore, ObjectStore], plan: PyramidPlan, listener: Listener
    ) -> None:
        self.target, self.beside = stores
        self.plan = plan
        self.ledgers: list[Ledger] = []
        self.recorded: tuple[int, ...] = ()
        self.finished = False
        self.begun_here = False
        self._listener = listener
        self._lease: Lease | None = None
        self._discarded = False

    @classmethod
    def take(
        cls,
        stores: tuple[ObjectStore, ObjectStore],
        plan: PyramidPlan,
        *,
        overwrite: bool,
        listener: Listener,
    ) -> Session:
        """Resume, begin, or replace what is there; waits for another builder's lease."""
        session = cls(stores, plan, listener)
        try:
            session._take(overwrite)
        except BaseException:
            session.release()
            raise
        return session

    @property
    def stored(self) -> StoredBuild:
        """The build as it is stored at the target."""
        return StoredBuild(self.target, self.beside, self.plan, tuple(self.ledgers))

    def check(self) -> None:
        """Raise where the lease was lost, so that the work must not go on."""
        if self._lease is not None:
            self._lease.check()

    def release(self) -> None:
        """Let go of the target; what is done stays done."""
        if self._lease is not None:
            self._lease.__exit__(None, None, None)
            if self._discarded and not self._lease.succeeded:
                # Where it cannot be listed, old leases stay, which say nothing.
                delete_below(self.beside, "", lambda: ())
            self._lease = None

    def tidy(self) -> None:
        """Remove the ledgers' segments of finished levels: a listing says whether there are any."""
        if self.begun_here:
            # Nobody else was killed between finishing a level and removing its segments.
            return
        try:
            keys = retrying(self.beside.objects, LEDGERS)
        except UnlistableError:
            keys = None
        for level, ledger in zip(self.plan.levels, self.ledgers, strict=True):
            folder = segments_folder(str(level.index))
            if keys is None or any(key.startswith(folder) for key in keys):
                ledger.tidy()

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Leave nothing of a build that this run began, where its source is broken.

        The plan pins the source as it is, so no later run could finish it: a mended source
        is another one. What earlier runs built stays: they could read the source, so this
        may be trouble of the disk's.
        """
        try:
            yield
        except (SourceFormatError, LevelFailedError) as error:
            broken = isinstance(error, SourceFormatError) or isinstance(
                error.__cause__, SourceFormatError
            )
            if broken and self.begun_here:
                remove(self.target, self.beside)
                self._discarded = True
            raise

    def _take(self, overwrite: bool) -> None:
        found = inspect_target(self.target, self.beside, self.plan, overwrite)
        if found.kind == "finished" and not overwrite:
            self.finished = True
        else:
            # Beside nothing there is hardly a lease.
            lease = Lease(self.beside, self._listener, likely_first=found.kind == "free")
            self._lease = lease.__enter__()
            if found.kind != "free" or not lease.is_first:
                # Another builder may have come and gone meanwhile. Not where nobody ever had a
                # lease: those are removed only with all that was built under them.
                found = inspect_target(self.target, self.beside, self.plan, overwrite)
            found = self._take_over(found, overwrite)
        # The plan as it was put down: its metadata name the versions of that day.
        wanted, self.plan = self.plan, found.plan or read_plan(self.target, self.beside)
        if self.begun_here and self.plan is wanted:
            self.ledgers = list(StoredBuild.begin(self.target, self.beside, self.plan).ledgers)
        else:
            self.ledgers = list(
                found.ledgers or StoredBuild.load(self.target, self.beside, self.plan).ledgers
            )
        if not self.finished:
            self._forget_missing()
        self.recorded = tuple(len(ledger.receipts) for ledger in self.ledgers)

    def _take_over(self, found: TargetState, overwrite: bool) -> TargetState:
        if found.kind == "finished" and not overwrite:
            self.finished = True
        if found.kind == "other":
            self._listener(Message(f"removing what is at {self.target.uri}"))
        self.begun_here = found.kind in ("free", "other")
        if begin(self.target, self.beside, self.plan, found.kind):
            return replace(found, plan=self.plan)
        return found

    def _forget_missing(self) -> None:
        """What was recorded and is there no more is built anew."""
        removed = forget_removed(self.target, self.plan, self.ledgers)
        if removed:
            self._listener(
                Message(f"{', '.join(removed)}: removed since, although recorded; built anew")
            )
        if any(ledger.receipts for ledger in self.ledgers):
            lost = drop_missing(self.stored)
            if lost:
                self._listener(Message(f"{lost} regions lost objects since; built anew"))
