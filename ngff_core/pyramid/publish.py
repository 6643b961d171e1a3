"""Publishing: the documents of the arrays are written first, that of the group last.

Until the last document is written, no reader takes the store for an image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import zarr
from zarr.storage import MemoryStore

from ngff_core.kernels.methods import method_info
from ngff_core.model.metadata import (
    AxisEntry,
    DatasetEntry,
    ImageEntry,
    image_attributes,
    image_documents,
)
from ngff_core.model.omero import omero_block
from ngff_core.model.orientation import AnatomicalOrientation, AnatomicalOrientationValues
from ngff_core.plan.compressors import Compressor
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.storage import ObjectStore, for_each, fused_pipeline, retrying
from ngff_core.storage.zarr_compat import documents_written


def create_arrays(store: ObjectStore, plan: PyramidPlan) -> None:
    """Write the documents of arrays and inner groups; writing them again gives the same bytes."""

    def put(item: tuple[str, bytes]) -> None:
        retrying(store.write, *item)

    for_each(store, put, array_documents(plan).items())


def publish(store: ObjectStore, plan: PyramidPlan) -> None:
    """Write the documents of the group; the one that makes it an image is last."""
    for key, document in group_documents(plan).items():
        retrying(store.write, key, document)


def is_published(store: ObjectStore, plan: PyramidPlan) -> bool:
    """Whether the store is an image, with the metadata of this plan."""
    key, document = list(group_documents(plan).items())[-1]
    return same_document(retrying(store.read, key), document)


def unpublish(store: ObjectStore) -> None:
    """Remove the documents of the group, so the store is no image any more; its arrays stay."""
    for key in ("zarr.json", ".zattrs", ".zgroup", ".zmetadata"):
        retrying(store.delete, key)


ARRAY_DOCUMENT = {2: ".zarray", 3: "zarr.json"}
"""Name of an array's metadata document, by zarr format."""


def same_document(stored: bytes | None, expected: bytes) -> bool:
    """Whether two metadata documents have the same content.

    Another version of a library may order or indent JSON differently; that is no damage.
    """
    try:
        return stored is not None and bool(json.loads(stored) == json.loads(expected))
    except ValueError:
        return False


@lru_cache(maxsize=4)
def array_documents(plan: PyramidPlan) -> Mapping[str, bytes]:
    """Metadata documents of every array and of the inner groups, by key.

    The document of the root group is not among them: it makes the store an image, and is written
    last. The result is cached: a build asks three times, and zarr takes some milliseconds for
    each array.
    """

    def create_all(store: MemoryStore) -> None:
        for level in plan.levels:
            _create(store, plan, level)

    root = {"zarr.json", ".zgroup", ".zattrs"}
    return MappingProxyType(
        {
            key: data
            for key, data in sorted(documents_written(create_all).items())
            if key not in root
        }
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
            "compressors": compressor.v3_codecs(checksums=plan.checksums),
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


def plan_entry(plan: PyramidPlan) -> ImageEntry:
    """The metadata of the pyramid of a plan."""
    image = plan.image
    terms = image.orientations or (None,) * len(image.dims)
    return ImageEntry(
        name=image.name,
        type=plan.method,
        metadata={**method_info(plan.method).metadata, "version": plan.method_version},
        axes=tuple(
            AxisEntry(dim, unit, _orientation(term))
            for dim, unit, term in zip(image.dims, image.units, terms, strict=True)
        ),
        datasets=tuple(
            DatasetEntry(level.path, plan.scale_of(level), plan.translation_of(level))
            for level in plan.levels
        ),
        omero=_omero(plan),
    )


def _omero(plan: PyramidPlan) -> Mapping[str, Any] | None:
    lengths = dict(zip(plan.image.dims, plan.image.shape, strict=True))
    return omero_block(plan.image.channels, plan.dtype, lengths.get("z", 1))


def ome_attributes(plan: PyramidPlan) -> dict[str, Any]:
    """The OME-Zarr attributes of the group: validated, as JSON values.

    From version 0.5 on they belong under the key ``ome``, in 0.4 at the top.
    """
    return image_attributes(plan_entry(plan), plan.ome_zarr_version)


def group_documents(plan: PyramidPlan) -> Mapping[str, bytes]:
    """The documents of the root group by key, in the order in which they must be written.

    The last one makes the store an image.
    """
    return _group_documents(plan, plan.method_version)


@lru_cache(maxsize=4)
def _group_documents(plan: PyramidPlan, _: str) -> Mapping[str, bytes]:
    """Cached by the version of the method too: plans that differ only in it are equal."""
    return MappingProxyType(image_documents(plan_entry(plan), plan.ome_zarr_version))


def _orientation(term: str | None) -> AnatomicalOrientation | None:
    return None if term is None else AnatomicalOrientation(AnatomicalOrientationValues(term))
