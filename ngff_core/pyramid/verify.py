"""Verification: reopen what was published and hold it against plan and ledger."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
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
from ngff_core.pyramid.inventory import Finding, _recorded, find_missing
from ngff_core.pyramid.level_io import READINGS, open_level, stored_samples
from ngff_core.pyramid.publish import (
    ARRAY_DOCUMENT,
    array_documents,
    group_documents,
    same_document,
)
from ngff_core.records.ledger import Ledger, Receipt, StoredObject
from ngff_core.storage import ObjectInfo, ObjectStore, look_up, retrying
from ngff_core.storage.retry import count_retry
from ngff_core.storage.zarr_compat import memory_store

STRAY = "not of this build"


@dataclass(frozen=True)
class Verification:
    """What was held against plan and ledger, and what was found wrong."""

    deep: bool
    regions: int
    objects: int
    findings: tuple[Finding, ...]
    listed: bool = True
    """False where the store cannot be listed: the objects of the build were looked at one by
    one, and others would not have been seen."""

    @property
    def ok(self) -> bool:
        return not self.findings


def verify_store(
    store: ObjectStore,
    plan: PyramidPlan,
    ledgers: Iterable[Ledger],
    *,
    deep: bool,
    executor: Executor,
    workers: int,
    memory_limit: int,
    listener: Listener,
) -> Verification:
    """Hold a published store against its plan and ledger.

    Shallow: the documents are the plan's and valid OME-Zarr, every region has its
    receipt, every object is there with the recorded size, and nothing else is. Deep:
    every object is read as well, against its checksum, and every region decoded,
    against the checksum of its samples: up to ``workers`` at a time, and no more than
    ``memory_limit`` has room for. A MemoryLimitError names the need where not even one fits.

    Where the store cannot be listed, each object is asked for by its name, and what else may
    be there is not seen.
    """
    ledgers = tuple(ledgers)
    at_once = _regions_at_once(plan, workers, memory_limit) if deep else {}
    try:
        objects, listed = store.objects(), True
    except UnlistableError:
        objects, listed = look_up(store, _known(plan, ledgers)), False
    findings = [
        *_documents(store, plan, objects),
        *find_missing(plan, ledgers, objects),
        *_strays(plan, ledgers, objects),
    ]
    total = sum(level.regions for level in plan.levels) if deep else len(plan.levels)
    progress = PhaseProgress(listener, "verify", total, unit="regions" if deep else "levels")
    unreadable = {finding.key for finding in findings if finding.level is None}
    for level, ledger in zip(plan.levels, ledgers, strict=True):
        if deep and f"{level.path}/{ARRAY_DOCUMENT[plan.zarr_format]}" not in unreadable:
            found = _deep(
                store,
                plan,
                level=level,
                ledger=ledger,
                executor=executor,
                in_flight=at_once[level.index],
                progress=progress,
            )
            known = {(finding.level, finding.region) for finding in findings}
            findings += [f for f in found if (f.level, f.region) not in known]
        else:
            progress.advance()
    progress.finish()
    return Verification(
        deep, sum(level.regions for level in plan.levels), len(objects), tuple(findings), listed
    )


def _documents(
    store: ObjectStore, plan: PyramidPlan, objects: Mapping[str, ObjectInfo]
) -> Iterator[Finding]:
    stored: dict[str, bytes] = {}
    for key, expected in {**array_documents(plan), **group_documents(plan)}.items():
        found = _document(store, key, expected, objects.get(key))
        if found is None:
            yield Finding(key, "missing")
            continue
        stored[key] = found
        if not same_document(found, expected):
            yield Finding(key, "not the plan's metadata")
    yield from _validity(stored, plan)


def _document(
    store: ObjectStore, key: str, expected: bytes, listed: ObjectInfo | None
) -> bytes | None:
    """A document as it is stored; not read where the listing's checksum says what it is."""
    known = hashlib.md5(expected, usedforsecurity=False).hexdigest()
    if listed is not None and listed.md5 == known:
        return expected
    return retrying(store.read, key)


def _validity(documents: Mapping[str, bytes], plan: PyramidPlan) -> Iterator[Finding]:
    """What ome-zarr-models, which shares no code with the writer, says of the group."""
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


def _strays(
    plan: PyramidPlan, ledgers: tuple[Ledger, ...], objects: dict[str, ObjectInfo]
) -> Iterator[Finding]:
    known = set(_known(plan, ledgers))
    for key in objects:
        if key not in known:
            yield Finding(key, STRAY)


def _regions_at_once(plan: PyramidPlan, workers: int, memory_limit: int) -> dict[int, int]:
    """How many regions of each level are looked into at a time; refuses what cannot fit."""
    need = {level.index: _region_bytes(plan, level) for level in plan.levels}
    worst = max(need, key=need.__getitem__)
    least = PROCESS_BYTES + need[worst]
    if least > memory_limit:
        raise MemoryLimitError(
            f"memory_limit: {mebibytes(memory_limit)} is too little; looking into one region of "
            f"level-{worst} at a time needs {mebibytes(least)}"
        )
    return {
        index: min(workers, (memory_limit - PROCESS_BYTES) // nbytes)
        for index, nbytes in need.items()
    }


def _region_bytes(plan: PyramidPlan, level: LevelPlan) -> int:
    """Memory that looking into a region takes at most, where its samples are noise.

    The samples, once more while they are put in their places, and an object as it is stored
    and as it is taken apart: of noise 3 to 4.1 times a region's bytes were measured.
    """
    block = math.prod(min(n, b) for n, b in zip(level.shape, level.block, strict=True))
    return 2 * (block + math.prod(level.write_unit)) * plan.dtype.itemsize


def _known(plan: PyramidPlan, ledgers: tuple[Ledger, ...]) -> Iterator[str]:
    levels = zip(plan.levels, ledgers, strict=True)
    recorded = (_recorded(level, ledger.receipts.values()) for level, ledger in levels)
    yield from chain(array_documents(plan), group_documents(plan), *recorded)


def _deep(
    store: ObjectStore,
    plan: PyramidPlan,
    *,
    level: LevelPlan,
    ledger: Ledger,
    executor: Executor,
    in_flight: int,
    progress: PhaseProgress,
) -> list[Finding]:
    findings: list[Finding] = []
    check = _region_checker(store, plan, level)

    def done(found: Finding | None) -> None:
        findings.extend([found] if found else [])
        progress.advance()

    run_bounded(ledger.receipts.values(), check, executor, in_flight, done)
    return sorted(findings, key=lambda finding: finding.region or 0)


def _region_checker(
    store: ObjectStore, plan: PyramidPlan, level: LevelPlan
) -> Callable[[Receipt], Finding | None]:
    array, encoder = open_level(store, plan, level), LevelEncoder(plan, level)

    def check(receipt: Receipt) -> Finding | None:
        for recorded in receipt.objects:
            key = f"{level.path}/{recorded.key}"
            wrong = _wrong(store, key, recorded)
            if wrong is not None:
                return Finding(key, wrong, level.index, receipt.region)
        region = level.region(receipt.region)
        samples = BlockedArray.of(region, stored_samples(array, region))
        if encoder.checksum(region, samples) != receipt.samples:
            return Finding(level.path, "its samples have changed", level.index, receipt.region)
        return None

    return check


def _wrong(store: ObjectStore, key: str, recorded: StoredObject) -> str | None:
    """What is wrong with an object, whichever way it is read; None if nothing is.

    It is read again first: it may be damaged, or missed, in one answer only.
    """
    wrong: str | None = None
    for left in reversed(range(READINGS)):
        stored = retrying(store.read, key)
        if stored is not None and int(crc32c.crc32c(stored)) == recorded.crc32c:
            return None
        wrong = "missing" if stored is None else "its bytes have changed"
        if left:
            count_retry("404" if stored is None else "ChecksumError")
    return wrong


def stored_bytes(ledger: Ledger) -> int:
    """Bytes of a level's objects as stored."""
    return ledger.receipts.stored_bytes
