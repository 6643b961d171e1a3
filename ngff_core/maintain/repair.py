"""Repairing a finished pyramid: damaged regions are computed again, nothing else is touched.

A receipt has the checksum of its region's samples. It therefore does not matter what they
are computed from: before any byte is written, the checksum proves that they are the samples
that were recorded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from ngff_core.blocks import ArrayLike
from ngff_core.concurrency import run_bounded
from ngff_core.errors import NgffError, StoredDataError
from ngff_core.kernels.methods import kernel_for
from ngff_core.model.selection import Selection
from ngff_core.plan.options import resolve_memory_limit, resolve_workers
from ngff_core.plan.projection import Remote, project
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.progress import Listener, PhaseProgress, silent
from ngff_core.pyramid.display import kept_windows
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.inventory import Finding
from ngff_core.pyramid.level_io import open_level, region_samples, store_region
from ngff_core.pyramid.publish import (
    array_documents,
    group_documents,
    same_but_display,
    same_document,
)
from ngff_core.pyramid.verify import STRAY, Verification, verify_build
from ngff_core.records.build_folder import REPLACED, target_stores
from ngff_core.records.lease import Lease
from ngff_core.records.ledger import Receipt
from ngff_core.records.stored_build import StoredBuild
from ngff_core.sources import Source, open_source
from ngff_core.storage import (
    ObjectStore,
    StorageOptions,
    absolute_uri,
    is_remote,
    is_transient,
    retrying,
)


@dataclass(frozen=True)
class Unrepaired:
    """A finding that could not be repaired, and why not."""

    finding: Finding
    why: str


@dataclass(frozen=True)
class Repair:
    """What was repaired, what could not be repaired, and the pyramid's state afterwards.

    Attributes
    ----------
    target
        URI or absolute path.
    repaired
        The findings that were repaired.
    left
        The findings that were not, each with the reason.
    verification
        What a verification found after the repair.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((64, 64), "uint8"), "memory://whole/a.ome.zarr")
    >>> repair = repair_pyramid("memory://whole/a.ome.zarr")
    >>> repair.ok, repair.repaired
    (True, ())
    """

    target: str
    repaired: tuple[Finding, ...]
    left: tuple[Unrepaired, ...]
    verification: Verification

    @property
    def ok(self) -> bool:
        """Whether the pyramid matches its plan and ledger."""
        return not self.left and self.verification.ok

    def to_dict(self) -> dict[str, Any]:
        """The repair as JSON values."""
        return {**asdict(self), "ok": self.ok}


def repair_pyramid(
    target: str | os.PathLike[str],
    findings: Collection[Finding] | None = None,
    *,
    workers: int | None = None,
    memory_limit: int | str | None = None,
    storage_options: StorageOptions | None = None,
    progress: Listener | None = None,
) -> Repair:
    """Repair what is damaged in the finished pyramid at ``target``.

    Damaged regions of level 0 are read from the source again, those of other levels are
    computed from the level below. They are stored only if they have the checksum that was
    recorded, so a source that changed elsewhere can still be used. Objects that do not belong
    to the build are left as they are. Waits while another process builds the target.

    Parameters
    ----------
    target
        Path or URI of a pyramid.
    findings
        Findings of `verify_pyramid`, which are repaired; by default those of a deep
        verification, which is done first.
    workers
        Regions to work on at once; by default one for each core.
    memory_limit
        Bytes of memory that this may take, or text such as ``"2GiB"``.
    storage_options
        Options of the fsspec filesystem of target and source, such as credentials.
    progress
        Called with each event of `ngff_core.progress`.

    Returns
    -------
    Repair
        What was repaired; what could not be, because its source is missing or changed, is in
        its ``left``.

    Raises
    ------
    TargetNotFoundError
        There is no build at the target.
    StoredDataError
        The build at the target was never finished.

    Examples
    --------
    >>> import ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((512, 512), "uint8"), "memory://docs/repair.ome.zarr")
    >>> repair_pyramid("memory://docs/repair.ome.zarr").ok
    True
    """
    stores = target_stores(absolute_uri(target), storage_options)
    listener, workers = progress or silent, resolve_workers(workers)
    # Checked before the lease is taken, which would write a file where there is nothing.
    _finished_build(*stores)
    with Lease(stores[1], listener) as lease, ThreadPoolExecutor(workers) as executor:
        build = _finished_build(*stores)
        repairer = _Repairer(
            build,
            partial(
                open_source,
                build.plan.source.uri,
                storage_options,
                Selection.of_reading(build.plan.source.reading),
            ),
            _Workers(executor, workers, resolve_memory_limit(memory_limit)),
            listener=listener,
            check=lease.check,
        )
        return repairer.run(findings)


def _finished_build(target: ObjectStore, beside: ObjectStore) -> StoredBuild:
    build = StoredBuild.load(target, beside)
    if not build.complete:
        raise StoredDataError(
            f"{target.uri} is not a finished pyramid: its ledger lacks receipts; run the command "
            "that builds it again, which does what remains"
        )
    return build


@dataclass(frozen=True)
class _Workers:
    """Threads of a repair, their number, and the memory that they may take in bytes."""

    executor: Executor
    count: int
    memory_limit: int


@dataclass(frozen=True)
class _Origin:
    """The array that a level's regions are computed from, or why there is none."""

    array: ArrayLike | None
    why: str = ""


class _Repairer:
    """One repair of a build, whose lease this process has."""

    def __init__(
        self,
        build: StoredBuild,
        open_source: Callable[[], Source],
        workers: _Workers,
        *,
        listener: Listener,
        check: Callable[[], None],
    ) -> None:
        self._build = build
        self._target = build.target
        self._plan = build.plan
        self._open_source = open_source
        self._workers = workers
        self._listener = listener
        self._check = check
        self._repaired: list[Finding] = []
        self._left: list[Unrepaired] = []

    def run(self, findings: Collection[Finding] | None) -> Repair:
        # Documents of arrays first: an array cannot be opened without its own.
        for key, document in array_documents(self._plan).items():
            self._repair_document(key, document, same_document)
        if findings is None:
            findings = self._verify(deep=True).findings
        self._repair_regions(findings)
        self._repair_group()
        now = self._verify_again()
        return Repair(self._target.uri, tuple(self._repaired), tuple(self._left), now)

    def _repair_document(
        self, key: str, document: bytes, same: Callable[[bytes | None, bytes], bool]
    ) -> None:
        """Write a document again unless the stored one is the ``same``."""
        found = retrying(self._target.read, key)
        if same(found, document):
            return
        self._check()
        if found is not None:
            # It may contain something that a user added on purpose.
            retrying(self._build.beside.write, f"{REPLACED}/{key}", found)
        retrying(self._target.write, key, document)
        self._repaired.append(Finding(key, _fault(found)))

    def _repair_group(self) -> None:
        """Repair the documents of the group, whose windows may have to be measured again."""
        damaged = {
            key: found
            for key, document in group_documents(self._plan).items()
            if not same_but_display(found := retrying(self._target.read, key), document)
        }
        if not damaged:
            return
        try:
            windows = kept_windows(self._build)
        except StoredDataError as error:
            for key, found in damaged.items():
                self._left.append(Unrepaired(Finding(key, _fault(found)), str(error)))
            return
        for key, document in group_documents(self._plan, windows).items():
            self._repair_document(key, document, same_but_display)

    def _repair_regions(self, findings: Collection[Finding]) -> None:
        damaged = {
            (finding.level, finding.region): finding
            for finding in findings
            if finding.level is not None and finding.region is not None
        }
        if not damaged:
            return
        progress = PhaseProgress(self._listener, "repair", len(damaged))
        # From the finest: a level is computed from its parent, which must be repaired by then.
        for level in self._plan.levels:
            of_level = {region: f for (i, region), f in damaged.items() if i == level.index}
            if of_level:
                self._repair_level(level, of_level, progress)
        progress.finish()

    def _repair_level(
        self, level: LevelPlan, damaged: dict[int, Finding], progress: PhaseProgress
    ) -> None:
        receipts: list[Receipt] = []

        def done(outcome: tuple[int, Receipt | str]) -> None:
            region, receipt = outcome
            if isinstance(receipt, Receipt):
                receipts.append(receipt)
                self._repaired.append(damaged[region])
            else:
                self._left.append(Unrepaired(damaged[region], receipt))
            progress.advance()

        with self._origin(level) as (origin, in_flight):
            work = partial(self._repair_region, level, LevelEncoder(self._plan, level), origin)
            try:
                run_bounded(sorted(damaged), work, self._workers.executor, in_flight, done)
            finally:
                self._check()
                self._build.ledgers[level.index].replace(receipts)

    def _repair_region(
        self, level: LevelPlan, encoder: LevelEncoder, origin: _Origin, index: int
    ) -> tuple[int, Receipt | str]:
        """The region's receipt once it is stored again, or why it cannot be."""
        if origin.array is None:
            return index, origin.why
        kernel = None if level.parent is None else kernel_for(self._plan.method)
        try:
            samples = region_samples(origin.array, level, index, kernel)
        except NgffError as error:
            if is_transient(error):
                raise
            return index, str(error)
        checksum = encoder.checksum(level.region(index), samples)
        if checksum != self._build.ledgers[level.index].receipts[index].samples_crc32c:
            return index, f"{_name_of(level, self._plan)} no longer gives the samples recorded"
        self._check()
        return index, store_region(self._target, encoder, level, index, samples)

    @contextmanager
    def _origin(self, level: LevelPlan) -> Iterator[tuple[_Origin, int]]:
        """What a level is computed from, and how many of its regions fit into memory."""
        if level.parent is not None:
            parent = open_level(self._target, self._plan, self._plan.levels[level.parent])
            yield _Origin(parent), self._in_flight(self._plan.levels[0].block)
            return
        try:
            source = self._opened_source()
        except (NgffError, OSError) as error:
            if is_transient(error):
                raise
            yield _Origin(None, str(error)), 1
            return
        with source:
            yield _Origin(source.image.data), self._in_flight(source.read_unit)

    def _opened_source(self) -> Source:
        """What is at the plan's source now; the checksums prove each region read from it."""
        pinned = self._plan.source.uri
        if pinned.startswith("array:"):
            raise StoredDataError(f"the source, {pinned}, was an array in memory")
        source = self._open_source()
        image = self._plan.image
        found = tuple(source.image.data.shape), np.dtype(source.image.data.dtype).newbyteorder("<")
        if found != (image.shape, self._plan.dtype):
            source.close()
            raise StoredDataError(f"{pinned} is another image now: shape {found[0]}, {found[1]}")
        return source

    def _in_flight(self, read_unit: tuple[int, ...]) -> int:
        return project(
            self._plan,
            read_unit,
            cached=False,
            workers=self._workers.count,
            memory_limit=self._workers.memory_limit,
            stream=False,
            remote=Remote(is_remote(self._plan.source.uri), is_remote(self._target.uri)),
        ).in_flight

    def _verify_again(self) -> Verification:
        """Check the pyramid once more, without reading samples: they were proven when stored."""
        verification = self._verify(deep=False)
        named = {left.finding for left in self._left}
        for finding in verification.findings:
            if finding not in named:
                self._left.append(Unrepaired(finding, _WHY.get(finding.what, _FOUND_LATE)))
        return verification

    def _verify(self, *, deep: bool) -> Verification:
        return verify_build(
            self._build,
            deep=deep,
            executor=self._workers.executor,
            workers=self._workers.count,
            memory_limit=self._workers.memory_limit,
            listener=self._listener,
        )


_WHY = {STRAY: "a repair deletes nothing; remove it yourself if nobody needs it"}
_FOUND_LATE = "it was found after the repair; run the repair again"


def _fault(found: bytes | None) -> str:
    return "missing" if found is None else "not the plan's metadata"


def _name_of(level: LevelPlan, plan: PyramidPlan) -> str:
    if level.parent is None:
        return plan.source.uri
    return f"the level below, {plan.levels[level.parent].path},"
