"""Progress, seconds and retries of each level, in all attempts of one run of a build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ngff_core.plan.pyramid_plan import LevelPlan
from ngff_core.progress import Listener, PhaseProgress, Relay
from ngff_core.records.ledger import Ledger


class PhaseCount:
    """Counts the regions of one phase, and the requests that were tried again for them."""

    def __init__(self, progress: PhaseProgress, retries: Counter[str] | None = None) -> None:
        self.progress = progress
        self.retries = Counter[str]() if retries is None else retries
        """Requests that were tried again, by a status or the name of an error."""

    def advance(self, nbytes: int) -> None:
        """Report one more region, of so many raw bytes."""
        self.progress.advance(nbytes, retries=sum(self.retries.values()))


class LevelProgress:
    """The progress of every level of a build, reported to a listener for each level."""

    def __init__(
        self, levels: Sequence[LevelPlan], ledgers: Sequence[Ledger], listener: Listener
    ) -> None:
        self._levels = levels
        self._ledgers = ledgers
        self._relays = [Relay(listener) for _ in levels]
        self._counts: dict[int, PhaseCount] = {}
        self.retries = {level.index: Counter[str]() for level in levels}
        """Requests that were tried again for each level, by kind."""
        self.seconds: dict[int, float] = {}
        """Seconds that each level took that this run finished."""

    def listen(self, level: int, listener: Listener) -> None:
        """Report a level to ``listener`` from now on, in place of its listener so far."""
        count = self._counts.get(level)
        self._relays[level].tell(listener, None if count is None else count.progress)

    def start(self, level: int) -> PhaseCount:
        """The count of a level that is about to be written, started again for each attempt."""
        count = self._counts.get(level)
        if count is not None and self._ledgers[level].complete:
            return count
        return self._start(level)

    def report_complete(self, level: int) -> None:
        """Report a level that was complete before this run touched it, once."""
        if self._ledgers[level].complete and level not in self._counts:
            self._start(level).progress.finish()

    def finish(self, level: int) -> None:
        """Report that a level is complete."""
        self.seconds[level] = self._counts[level].progress.finish()

    def _start(self, level: int) -> PhaseCount:
        progress = PhaseProgress(
            self._relays[level],
            f"level-{level}",
            self._levels[level].regions,
            len(self._ledgers[level].receipts),
        )
        self._counts[level] = PhaseCount(progress, self.retries[level])
        return self._counts[level]
