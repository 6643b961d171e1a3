"""The plan's arrays as zarr sees them: their metadata, reading them, storing regions.

Regions are encoded by ourselves and stored by `Store.write`: that costs nothing beside
letting zarr write them, gives each object's size and checksum for the receipt, and a
retry encodes and puts the same bytes again.
"""

from __future__ import annotations

import json
from collections.abc import Buffer, Callable, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

import zarr
from zarr.core.buffer import Buffer as ZarrBuffer
from zarr.storage import MemoryStore

from ngff_core.codecs import Compressor
from ngff_core.encoding import Encoded, LevelEncoder
from ngff_core.errors import StoredDataError
from ngff_core.ledger import Receipt, StoredObject
from ngff_core.plan import LevelPlan, PyramidPlan
from ngff_core.samples import Samples
from ngff_core.store import Store, fused_pipeline, retrying

ARRAY_DOCUMENT = {2: ".zarray", 3: "zarr.json"}
"""Name of an array's metadata document, by zarr format."""


def same_document(found: bytes | None, expected: bytes) -> bool:
    """Whether two metadata documents say the same, however they are spelled.

    An upgrade of a library may order or indent JSON otherwise; that is no damage.
    """
    try:
        return found is not None and bool(json.loads(found) == json.loads(expected))
    except ValueError:
        return False


def open_level(store: Store, plan: PyramidPlan, level: LevelPlan) -> zarr.Array[Any]:
    """One level's array, to be read; a missing object is an error, not zeros."""
    with fused_pipeline():
        return zarr.open_array(
            store=store.zarr(),
            path=level.path,
            mode="r",
            zarr_format=plan.zarr_format,
            # Every object is written, also where it holds nothing but zeros. So absence
            # is damage, and a spurious 404 never passes for background.
            config={"read_missing_chunks": False},
        )


def store_region(
    store: Store, encoder: LevelEncoder, level: LevelPlan, index: int, samples: Samples
) -> Receipt:
    """Encode and store one region; the receipt of what was stored."""
    region = level.region(index)
    if samples.shape != region.shape:
        raise StoredDataError(
            f"{level.path}: region {index} has shape {samples.shape}, not {region.shape}"
        )
    samples, checksum = samples.astype(encoder.dtype), 0
    stored = []
    for at in level.object_positions(region):
        encode = partial(encoder.encode, at, samples, before=checksum)
        found = retrying(_put, store, f"{level.path}/{encoder.key(at)}", encode)
        stored.append(StoredObject(encoder.key(at), found.size, found.crc32c))
        checksum = found.samples
    return Receipt(index, checksum, tuple(stored))


def _put(
    store: Store, key: str, encode: Callable[[Callable[[Buffer], object]], Encoded]
) -> Encoded:
    """Put an object while it is encoded; what it came to, the last time where it was put again."""
    found: list[Encoded] = []
    store.write(key, lambda put: found.append(encode(put)))
    return found[-1]


@lru_cache(maxsize=4)
def array_documents(plan: PyramidPlan) -> Mapping[str, bytes]:
    """Metadata documents of every array and of the groups between, by key.

    The root group's own document is not among them: it is what makes the store an
    image, and is written last. A build asks three times, and zarr takes some milliseconds
    for each array.
    """
    shelf: dict[str, ZarrBuffer] = {}
    for level in plan.levels:
        _create(MemoryStore(shelf), plan, level)
    root = {"zarr.json", ".zgroup", ".zattrs"}
    return MappingProxyType(
        {key: buffer.to_bytes() for key, buffer in sorted(shelf.items()) if key not in root}
    )


def _create(store: MemoryStore, plan: PyramidPlan, level: LevelPlan) -> zarr.Array[Any]:
    compressor = Compressor.parse(plan.compressor)
    if plan.zarr_format == 2:
        options: dict[str, Any] = {
            "compressors": compressor.v2_compressor(),
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    else:
        options = {
            "compressors": compressor.v3_codecs(),
            "shards": level.shards,
            "dimension_names": plan.image.dims,
        }
    with fused_pipeline():
        return zarr.create_array(
            store,
            name=level.path,
            shape=level.shape,
            chunks=level.chunks,
            dtype=plan.dtype,
            fill_value=0,
            zarr_format=plan.zarr_format,
            config={"write_empty_chunks": True},
            **options,
        )
