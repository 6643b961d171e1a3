"""The cache pass of a build: the source rewritten so that it can be read by region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from ngff_core.build.finishing import settling
from ngff_core.build.level_progress import PhaseCount
from ngff_core.build.level_writer import LevelWriter
from ngff_core.build.pass_runner import PassRunner
from ngff_core.build.session import Session
from ngff_core.build.source_check import CheckedSource
from ngff_core.build.streaming import LevelFailedError
from ngff_core.build.takeover import forget_removed, remove_cache
from ngff_core.plan.schedule import PassPlan
from ngff_core.plan.source_cache import cache_plan
from ngff_core.progress import Listener, PhaseProgress
from ngff_core.pyramid.publish import create_arrays
from ngff_core.records.build_folder import CACHE, CACHE_DOCUMENT, complete_key
from ngff_core.records.ledger import Ledger
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import for_each


class CachePhase:
    """Writes the cache of a build before its levels, and removes it after them.

    ``retries`` counts the requests that are tried again; they belong to no level.
    """

    def __init__(
        self,
        session: Session,
        source: CheckedSource,
        runner: PassRunner,
        retries: Counter[str],
    ) -> None:
        self._session = session
        self._source = source
        self._runner = runner
        self._retries = retries

    def write(self, listener: Listener) -> float:
        """Write what remains of the cache; the seconds it took."""
        cache = self._stored_cache()
        (level,), (ledger,) = cache.plan.levels, cache.ledgers
        ledger.load()
        forget_removed(cache)
        create_arrays(cache.target, cache.plan)
        progress = PhaseProgress(listener, CACHE, ledger.total, len(ledger.receipts))

        def on_complete() -> None:
            self._source.check()
            ledger.flush()
            ledger.finish()

        writer = LevelWriter(
            cache,
            level,
            lambda: self._source.source.image.data,
            PhaseCount(progress, self._retries),
            check=self._session.check,
            on_complete=on_complete,
        )
        try:
            with self._session.discarding(), settling(self._session.stored, cache.ledgers):
                self._runner.run(
                    PassPlan(cache.plan, 0, ()),
                    {0: writer},
                    held_bytes=0,
                    reads_source=True,
                    is_cache=True,
                    check=self._session.check,
                )
        except LevelFailedError as error:
            raise error.__cause__ or error from None
        return progress.finish()

    def remove(self, listed: Collection[str] | None) -> None:
        """Remove the cache, if there is one.

        ``listed`` are the keys of the build folder, or None where it cannot be listed.
        """
        cache = self._stored_cache()
        keys = (CACHE_DOCUMENT, complete_key(CACHE))
        if listed is not None:
            is_there = not set(keys).isdisjoint(listed)
        else:
            documents = for_each(cache.beside, cache.beside.read, keys)
            is_there = any(document is not None for document in documents)
        if is_there:
            remove_cache(cache.beside)
            # The receipts go last: a later run knows by them that there is something to remove.
            cache.ledgers[0].forget()

    def _stored_cache(self) -> StoredBuild:
        """The cache as a build of one level, stored in the build folder."""
        beside = self._session.stored.beside
        plan = cache_plan(self._session.stored.plan, self._source.source.read_unit)
        ledger = Ledger(beside, CACHE, plan.digest, plan.levels[0].regions)
        return StoredBuild(beside, beside, plan, (ledger,))
