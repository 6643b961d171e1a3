"""The build folder `TARGET.build`: every name in it, the two stores of a build, the plan.

A build keeps beside its target what it needs to resume, to verify and to repair::

    plan.json                                    the plan
    lease/000001.json                            who builds the target, one object per builder
    ledger/PHASE/complete.jsonl                  receipts of a finished phase
    ledger/PHASE/complete/000000.jsonl           the same in parts, where there are many
    ledger/PHASE/segments/000000.jsonl           receipts of an unfinished phase
    ledger/PHASE/segments.json                   names of the segments, for stores that do not list
    cache/                                       the cached source, a zarr array
    display/000000                               summaries of samples, by region of the last level
    windows.json                                 how channels are shown: measured from these
    halos-LEVEL/begun.json, halos-LEVEL/Z/Y/X    halo strips for a level, by region of its parent
    replacing.json                               mark of a replacement that is under way
    replaced/KEY                                 documents that a repair has replaced

A phase is the number of a level, or `CACHE`. No other module spells these names.
"""

from __future__ import annotations

from ngff_core.errors import StoredDataError, TargetNotFoundError
from ngff_core.geometry import Shape
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.source_cache import PHASE
from ngff_core.storage import ObjectStore, StorageOptions, open_store, retrying

SUFFIX = ".build"
"""What the name of a build folder has beyond that of its target."""

PLAN_KEY = "plan.json"
CACHE = PHASE
"""Name of the cache pass, and of the folder of the cached source."""

REPLACING_KEY = "replacing.json"
"""The mark of a replacement under way: the target is being emptied or written."""

LEASES = "lease"
LEDGERS = "ledger"
REPLACED = "replaced"
"""Folder of the documents that a repair has replaced."""

CACHE_DOCUMENT = f"{CACHE}/zarr.json"
"""Key of the metadata of the cached source."""

SUMMARIES = "display"
"""Folder of the summaries of samples."""

WINDOWS_KEY = "windows.json"
"""Key of the windows in which the channels are shown."""

_HALOS = "halos-"
# The name of these folders in builds of older versions: clean-up removes them, nothing reads them.
_OLD_HALOS = "borders-"


def folder_of(target: str) -> str:
    """Path or URI of the build folder of a target.

    >>> folder_of("gs://bucket/brain.ome.zarr")
    'gs://bucket/brain.ome.zarr.build'
    """
    return f"{target}{SUFFIX}"


def lease_key(number: int) -> str:
    """Key of the lease of this number; the first one is 1."""
    return f"{LEASES}/{number:06}.json"


def is_lease(key: str) -> bool:
    """Whether an object of the build folder is a lease."""
    return key.startswith(f"{LEASES}/")


def ledger_folder(phase: str) -> str:
    """Folder of the ledger of a phase."""
    return f"{LEDGERS}/{phase}"


def complete_key(phase: str) -> str:
    """Key of the document that says that a phase is finished."""
    return f"{ledger_folder(phase)}/complete.jsonl"


def parts_folder(phase: str) -> str:
    """Folder of the parts of that document, for a phase of many receipts."""
    return f"{ledger_folder(phase)}/complete"


def part_key(phase: str, part: int) -> str:
    """Key of one of these parts; the first one is 0."""
    return f"{parts_folder(phase)}/{part:06}.jsonl"


def segments_folder(phase: str) -> str:
    """Folder of the segments of an unfinished phase."""
    return f"{ledger_folder(phase)}/segments"


def segments_index_key(phase: str) -> str:
    """Key of the names of all segments, for stores that cannot be listed."""
    return f"{ledger_folder(phase)}/segments.json"


def segment_name(first: int, last: int) -> str:
    """Name of a segment that stands for the segments from number ``first`` to ``last``.

    >>> segment_name(3, 3), segment_name(0, 63)
    ('000003.jsonl', '000000-000063.jsonl')
    """
    ends = (first,) if first == last else (first, last)
    return "-".join(f"{end:06}" for end in ends) + ".jsonl"


def segment_ends(name: str) -> tuple[int, int] | None:
    """The numbers in the name of a segment, first and last; None for any other name.

    >>> segment_ends("000000-000063.jsonl"), segment_ends("000003.jsonl.partial")
    ((0, 63), None)
    """
    stem, _, ending = name.partition(".")
    if ending != "jsonl":
        return None
    first, _, last = stem.partition("-")
    return int(first), int(last or first)


def cache_chunk_key(position: Shape) -> str:
    """Key of a chunk of the cached source, by its position in the grid of chunks."""
    return f"{CACHE}/c/{'/'.join(map(str, position))}"


def is_cache(key: str) -> bool:
    """Whether an object of the build folder belongs to the cached source."""
    return key.startswith(f"{CACHE}/")


def halos_folder(level: int) -> str:
    """Folder of the halo strips for a level."""
    return f"{_HALOS}{level}"


def halos_mark_key(level: int) -> str:
    """Key of the object that says that this folder may have halo strips."""
    return f"{halos_folder(level)}/begun.json"


def halo_key(level: int, position: Shape) -> str:
    """Key of the halo strips of one region of the parent, by its position in the grid."""
    return f"{halos_folder(level)}/{'/'.join(map(str, position))}"


def is_halo(key: str) -> bool:
    """Whether an object of the build folder has halo strips, of an older version too."""
    return key.startswith((_HALOS, _OLD_HALOS))


def summary_key(region: int) -> str:
    """Key of the summaries of the samples of one region of the coarsest level."""
    return f"{SUMMARIES}/{region:06}"


def is_summary(key: str) -> bool:
    """Whether an object of the build folder has summaries of samples."""
    return key.startswith(f"{SUMMARIES}/")


def target_stores(
    target: str, storage_options: StorageOptions | None
) -> tuple[ObjectStore, ObjectStore]:
    """The store of a target, and that of its build folder; nothing is read or written."""
    return open_store(target, storage_options), open_store(folder_of(target), storage_options)


def read_plan(target: ObjectStore, beside: ObjectStore) -> PyramidPlan:
    """The plan in the build folder ``beside`` a target.

    Raises TargetNotFoundError where there is none, StoredDataError where it cannot be read.
    """
    document = retrying(beside.read, PLAN_KEY)
    if document is None:
        raise TargetNotFoundError(f"{target.uri} has no build: there is no {beside.uri}/{PLAN_KEY}")
    return parse_plan(beside, document)


def parse_plan(beside: ObjectStore, document: bytes) -> PyramidPlan:
    """The plan in a document that was read from the build folder.

    Raises StoredDataError, which names the document, where it cannot be read.
    """
    try:
        return PyramidPlan.from_json(document)
    except StoredDataError as error:
        raise StoredDataError(
            f"{beside.uri}/{PLAN_KEY}: {error}; overwrite the target to build it again"
        ) from error
