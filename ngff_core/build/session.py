"""A target taken for a build: begun, resumed or replaced, and protected by a lease meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
from ngff_core.progress import Listener, Message
from ngff_core.records.build_folder import LEDGERS, read_plan, segments_folder
from ngff_core.records.lease import Lease
from ngff_core.records.replaceable import remove_build_folder
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import retrying


class Session:
    """One run's exclusive use of a target, from `take` to `release`.

    ``stored`` is the wanted build until `take`, which replaces it with the build as it is
    stored: the plan may name other package versions, and the ledgers are loaded.
    ``recorded`` is the number of receipts that were found for each level. ``finished`` says
    that an earlier run finished the build, ``begun_here`` that this run began it. ``published``
    is the document that makes a finished build an image, by its key, as it was read.
    """

    def __init__(self, wanted: StoredBuild, listener: Listener) -> None:
        self.stored = wanted
        self.recorded: tuple[int, ...] = ()
        self.finished = False
        self.begun_here = False
        self.published: Mapping[str, bytes] = {}
        self._listener = listener
        self._lease: Lease | None = None
        self._discarded = False

    def take(self, *, overwrite: bool) -> None:
        """Resume, begin, or replace what is at the target; wait for another builder's lease.

        Raises TargetExistsError or SourceChangedError where something else is at the target
        and ``overwrite`` is False. Call `release` afterwards, also if this fails.
        """
        wanted = self.stored
        state = inspect_target(wanted, overwrite)
        if state.kind == "finished" and not overwrite:
            self.finished = True
        else:
            state = self._take_over(state, self._lock(state), overwrite)
        if self.finished:
            self.published = state.published
        plan = state.plan or read_plan(wanted.target, wanted.beside)
        # A plan that was just written has no receipts to load.
        if not (self.begun_here and plan is wanted.plan):
            self.stored = state.build or StoredBuild.load(wanted.target, wanted.beside, plan)
        if not self.finished:
            self._forget_missing()
        self.recorded = tuple(len(ledger.receipts) for ledger in self.stored.ledgers)

    def check(self) -> None:
        """Raise LeaseLostError if another builder took over, so that the work must stop."""
        if self._lease is not None:
            self._lease.check()

    def release(self) -> None:
        """Release the target; finished regions are kept. A second call does nothing."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        lease.__exit__(None, None, None)
        if self._discarded and not lease.succeeded:
            # If the store cannot be listed, old leases stay; they have no effect.
            with suppress(UnlistableError):
                remove_build_folder(self.stored.beside)

    def tidy(self) -> None:
        """Remove the ledger segments of finished levels, if a listing shows any."""
        if self.begun_here:
            # No earlier run can have been killed between finishing a level and this.
            return
        try:
            keys = retrying(self.stored.beside.objects, LEDGERS)
        except UnlistableError:
            keys = None
        for level, ledger in self.stored.levels:
            folder = segments_folder(str(level.index))
            if keys is None or any(key.startswith(folder) for key in keys):
                ledger.tidy()

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Remove a build that this run began, if its source turns out to be broken inside.

        The plan pins the source as it is, so no later run could finish the build: a repaired
        source is another source. A build that an earlier run began stays: that run could
        read the source, so the fault may lie with the disk.
        """
        try:
            yield
        except (SourceFormatError, LevelFailedError) as error:
            broken = isinstance(error, SourceFormatError) or isinstance(
                error.__cause__, SourceFormatError
            )
            if broken and self.begun_here:
                remove(self.stored.target, self.stored.beside)
                self._discarded = True
            raise

    def _lock(self, state: TargetState) -> Lease:
        """Take the lease on a target that was seen in ``state``."""
        # A target with nothing in it hardly has a lease.
        lease = Lease(self.stored.beside, self._listener, likely_first=state.kind == "free")
        self._lease = lease.__enter__()
        return lease

    def _take_over(self, state: TargetState, lease: Lease, overwrite: bool) -> TargetState:
        """Begin the build if need be, now that this run has the lease; the state since then."""
        wanted = self.stored
        if state.kind != "free" or not lease.is_first:
            # Another builder may have finished, or begun, since the target was inspected. Not
            # where there was never a lease: leases are removed only with all that was built.
            state = inspect_target(wanted, overwrite)
        if state.kind == "finished" and not overwrite:
            self.finished = True
        if state.kind == "other":
            self._listener(Message(f"removing what is at {wanted.target.uri}"))
        self.begun_here = state.kind in ("free", "other")
        if begin(wanted, state.kind):
            return replace(state, plan=wanted.plan)
        return state

    def _forget_missing(self) -> None:
        """Forget the receipts of regions whose objects are gone, so that they are built again."""
        removed = forget_removed(self.stored)
        if removed:
            self._listener(
                Message(
                    f"{', '.join(removed)}: recorded as built, but removed since; building again"
                )
            )
        if any(ledger.receipts for ledger in self.stored.ledgers):
            lost = drop_missing(self.stored)
            if lost:
                self._listener(
                    Message(
                        f"{lost} regions: recorded as built, but objects are missing since; "
                        "building them again"
                    )
                )
