"""Verification: read a published pyramid again and check it against its plan and ledgers."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

import crc32c
import zarr

from ngff_core.blocks import BlockedArray
from ngff_core.concurrency import run_bounded
from ngff_core.errors import MemoryLimitError, UnlistableError
from ngff_core.plan.projection import PROCESS_BYTES, mebibytes
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.progress import Listener, PhaseProgress
from ngff_core.pyramid.encoding import LevelEncoder
from ngff_core.pyramid.inventory import Finding, find_missing, recorded_keys
from ngff_core.pyramid.level_io import READINGS, open_level, stored_samples
from ngff_core.pyramid.publish import (
    ARRAY_DOCUMENT,
    array_documents,
    group_documents,
    same_but_display,
    same_document,
    without_display,
)
from ngff_core.records.ledger import Ledger, Receipt, StoredObject
from ngff_core.records.stored_build import StoredBuild
from ngff_core.storage import ObjectInfo, ObjectStore, look_up, retrying
from ngff_core.storage.retry import count_retry
from ngff_core.storage.zarr_compat import memory_store

STRAY = "not of this build"


@dataclass(frozen=True)
class Verification:
    """The result of checking a pyramid against its plan and ledgers.

    ``deep`` says whether objects were read, ``regions`` and ``objects`` how many the pyramid
    has, and ``findings`` has what is wrong.
    """

    deep: bool
    regions: int
    objects: int
    findings: tuple[Finding, ...]
    listed: bool = True
    """False where the target cannot be listed: the objects of the build were looked up one by
    one, and other objects would not have been seen."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify_build(
    build: StoredBuild,
    *,
    deep: bool,
    executor: Executor,
    workers: int,
    memory_limit: int,
    listener: Listener,
    seen: Mapping[str, bytes] = MappingProxyType({}),
) -> Verification:
    """Check what is stored at the target against plan and ledgers.

    Shallow: the documents are those of the plan and valid OME-Zarr, every region has a receipt,
    every recorded object is stored with the recorded size, and there are no other objects.
    Deep: every object is read as well and checked against its checksum, and every region is
    decoded and checked against the checksum of its samples: up to ``workers`` regions at a time,
    and no more than fit into ``memory_limit`` bytes. Raises MemoryLimitError, with the bytes
    needed, where not even one fits.

    How channels are shown (``omero``) is the user's to change, and not compared. ``seen`` are
    documents of the group as they were read or written before, by key: one that a listing shows
    to have the same bytes still is not read again.

    Where the target cannot be listed, each object is looked up by its key, and other objects
    there are not seen.
    """
    plan = build.plan
    at_once = _regions_at_once(plan, workers, memory_limit) if deep else {}
    try:
        objects, listed = build.target.objects(), True
    except UnlistableError:
        objects, listed = look_up(build.target, _known(build)), False
    findings = [
        *_documents(build, objects, seen),
        *find_missing(build, objects),
        *_strays(build, objects),
    ]
    regions = sum(level.regions for level in plan.levels)
    total, unit = (regions, "regions") if deep else (len(plan.levels), "levels")
    progress = PhaseProgress(listener, "verify", total, unit=unit)
    unreadable = {finding.key for finding in findings if finding.level is None}
    for level, ledger in build.levels:
        if deep and f"{level.path}/{ARRAY_DOCUMENT[plan.zarr_format]}" not in unreadable:
            check = _region_checker(build, level)
            wrong = _check_regions(ledger, check, executor, at_once[level.index], progress)
            known = {(finding.level, finding.region) for finding in findings}
            findings += [one for one in wrong if (one.level, one.region) not in known]
        else:
            progress.advance()
    progress.finish()
    return Verification(deep, regions, len(objects), tuple(findings), listed)


def _documents(
    build: StoredBuild, objects: Mapping[str, ObjectInfo], seen: Mapping[str, bytes]
) -> Iterator[Finding]:
    plan, of_group = build.plan, group_documents(build.plan)
    stored: dict[str, bytes] = {}
    for key, expected in {**array_documents(plan), **of_group}.items():
        document = _document(build.target, key, seen.get(key, expected), objects.get(key))
        if document is None:
            yield Finding(key, "missing")
            continue
        stored[key] = without_display(document) if key in of_group else document
        same = same_but_display if key in of_group else same_document
        if not same(document, expected):
            yield Finding(key, "not the plan's metadata")
    yield from _validity(stored, plan)


def _document(
    store: ObjectStore, key: str, likely: bytes, listed: ObjectInfo | None
) -> bytes | None:
    """A document as it is stored; not read where the listing has the checksum of the likely one."""
    known = hashlib.md5(likely, usedforsecurity=False).hexdigest()
    if listed is not None and listed.md5 == known:
        return likely
    return retrying(store.read, key)


def _validity(documents: Mapping[str, bytes], plan: PyramidPlan) -> Iterator[Finding]:
    """What is wrong with the group for ome-zarr-models, which shares no code with the writer."""
    from ome_zarr_models.v04.image import Image as Image04
    from ome_zarr_models.v05.image import Image as Image05
    from ome_zarr_models.v06.image import Image as Image06

    models: dict[str, Any] = {"0.4": Image04, "0.5": Image05, "0.6": Image06}
    model = models[plan.ome_zarr_version]
    store = memory_store(documents)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            group = zarr.open_group(store, mode="r", zarr_format=plan.zarr_format)
            model.from_zarr(group)
    except Exception as error:  # noqa: BLE001 - the models raise whatever their parts raise
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield Finding(list(group_documents(plan))[-1], f"no valid OME-Zarr image: {first}")


def _strays(build: StoredBuild, objects: Mapping[str, ObjectInfo]) -> Iterator[Finding]:
    known = set(_known(build))
    for key in objects:
        if key not in known:
            yield Finding(key, STRAY)


def _regions_at_once(plan: PyramidPlan, workers: int, memory_limit: int) -> dict[int, int]:
    """How many regions of each level are checked at a time.

    Raises MemoryLimitError where one region does not fit into ``memory_limit`` bytes.
    """
    need = {level.index: _region_bytes(plan, level) for level in plan.levels}
    worst = max(need, key=need.__getitem__)
    least = PROCESS_BYTES + need[worst]
    if least > memory_limit:
        raise MemoryLimitError(
            f"memory_limit: {mebibytes(memory_limit)} is too little; checking one region of "
            f"level-{worst} at a time needs {mebibytes(least)}"
        )
    return {
        index: min(workers, (memory_limit - PROCESS_BYTES) // nbytes)
        for index, nbytes in need.items()
    }


def _region_bytes(plan: PyramidPlan, level: LevelPlan) -> int:
    """Bytes of memory that checking a region takes at most, where its samples are noise.

    These are the samples, twice while they are assembled, and an object both as it is stored
    and as it is decoded: 3 to 4.1 times a region's bytes were measured for noise.
    """
    block = math.prod(min(n, b) for n, b in zip(level.shape, level.block, strict=True))
    return 2 * (block + math.prod(level.write_unit)) * plan.dtype.itemsize


def _known(build: StoredBuild) -> Iterator[str]:
    """Keys of all documents and recorded objects of a build."""
    recorded = (recorded_keys(level, ledger.receipts.values()) for level, ledger in build.levels)
    yield from chain(array_documents(build.plan), group_documents(build.plan), *recorded)


def _check_regions(
    ledger: Ledger,
    check: Callable[[Receipt], Finding | None],
    executor: Executor,
    at_once: int,
    progress: PhaseProgress,
) -> list[Finding]:
    """What ``check`` finds of the regions of a level, in the order of the regions."""
    findings: list[Finding] = []

    def done(finding: Finding | None) -> None:
        findings.extend([finding] if finding else [])
        progress.advance()

    run_bounded(ledger.receipts.values(), check, executor, at_once, done)
    return sorted(findings, key=lambda finding: finding.region or 0)


def _region_checker(build: StoredBuild, level: LevelPlan) -> Callable[[Receipt], Finding | None]:
    """A function that reads the region of a receipt and returns what is wrong, or None."""
    store, plan = build.target, build.plan
    array, encoder = open_level(store, plan, level), LevelEncoder(plan, level)

    def check(receipt: Receipt) -> Finding | None:
        for recorded in receipt.objects:
            key = f"{level.path}/{recorded.key}"
            wrong = _wrong(store, key, recorded)
            if wrong is not None:
                return Finding(key, wrong, level.index, receipt.region)
        region = level.region(receipt.region)
        samples = BlockedArray.of(region, stored_samples(array, region))
        if encoder.checksum(region, samples) != receipt.samples_crc32c:
            return Finding(level.path, "its samples have changed", level.index, receipt.region)
        return None

    return check


def _wrong(store: ObjectStore, key: str, recorded: StoredObject) -> str | None:
    """What is wrong with an object; None if nothing is.

    A wrong object is read up to `READINGS` times: one answer may be damaged, or say that the
    object is missing, where the next one is right.
    """
    wrong: str | None = None
    for readings_left in reversed(range(READINGS)):
        stored = retrying(store.read, key)
        if stored is not None and int(crc32c.crc32c(stored)) == recorded.crc32c:
            return None
        wrong = "missing" if stored is None else "its bytes have changed"
        if readings_left:
            count_retry("404" if stored is None else "ChecksumError")
    return wrong


def stored_bytes(ledger: Ledger) -> int:
    """Bytes of the objects of a level, as stored."""
    return ledger.receipts.stored_bytes
