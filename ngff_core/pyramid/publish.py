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
from ngff_core.model.omero import Windows, omero_block
from ngff_core.model.orientation import AnatomicalOrientation, AnatomicalOrientationValues
from ngff_core.plan.compressors import Compressor
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.plan.sampling import channels_of, is_labels
from ngff_core.storage import ObjectStore, for_each, fused_pipeline, retrying
from ngff_core.storage.zarr_compat import documents_written


def create_arrays(store: ObjectStore, plan: PyramidPlan) -> None:
    """Write the documents of arrays and inner groups; writing them again gives the same bytes."""

    def put(item: tuple[str, bytes]) -> None:
        retrying(store.write, *item)

    for_each(store, put, array_documents(plan).items())


def publish(store: ObjectStore, plan: PyramidPlan, windows: Windows = ()) -> None:
    """Write the documents of the group; the one that makes it an image is last.

    ``windows`` are those in which the channels are shown.
    """
    for key, document in group_documents(plan, windows).items():
        retrying(store.write, key, document)


def is_published(store: ObjectStore, plan: PyramidPlan) -> bool:
    """Whether the store is an image, with the metadata of this plan."""
    return bool(published_document(store, plan))


def published_document(store: ObjectStore, plan: PyramidPlan) -> Mapping[str, bytes]:
    """The document that makes the store an image, by its key, as it is stored.

    Empty where there is none, or one with other metadata than those of this plan.
    """
    key, document = list(group_documents(plan).items())[-1]
    stored = retrying(store.read, key)
    return {key: stored} if stored is not None and same_but_display(stored, document) else {}


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


def same_but_display(stored: bytes | None, expected: bytes) -> bool:
    """`same_document` for a document of the group, whose block ``omero`` may be any or none.

    How channels are shown is the user's to change, in a viewer for instance.
    """
    return stored is not None and same_document(without_display(stored), without_display(expected))


def without_display(document: bytes) -> bytes:
    """A document of the group without its block ``omero``; as it is if it cannot be read."""
    try:
        found = json.loads(document)
    except ValueError:
        return document
    if not isinstance(found, dict):
        return document
    # OME-Zarr 0.4 has it at the top of .zattrs, later versions have it below "ome" in zarr.json.
    attributes = found.get("attributes")
    ome = attributes.get("ome") if isinstance(attributes, dict) else found
    if not isinstance(ome, dict) or "omero" not in ome:
        return document
    del ome["omero"]
    return json.dumps(found).encode()


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


def plan_entry(plan: PyramidPlan, windows: Windows = ()) -> ImageEntry:
    """The metadata of the pyramid of a plan, shown in these windows."""
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
        omero=_omero(plan, windows),
    )


def _omero(plan: PyramidPlan, windows: Windows) -> Mapping[str, Any] | None:
    if is_labels(plan):
        return None
    lengths = dict(zip(plan.image.dims, plan.image.shape, strict=True))
    return omero_block(channels_of(plan), plan.dtype, lengths.get("z", 1), windows)


def ome_attributes(plan: PyramidPlan) -> dict[str, Any]:
    """The OME-Zarr attributes of the group: validated, as JSON values.

    From version 0.5 on they belong under the key ``ome``, in 0.4 at the top.
    """
    return image_attributes(plan_entry(plan), plan.ome_zarr_version)


def group_documents(plan: PyramidPlan, windows: Windows = ()) -> Mapping[str, bytes]:
    """The documents of the root group by key, in the order in which they must be written.

    The last one makes the store an image. Without the measured ``windows`` its block ``omero`` is
    another one, which `same_but_display` does not compare.
    """
    return _group_documents(plan, windows, plan.method_version)


@lru_cache(maxsize=4)
def _group_documents(plan: PyramidPlan, windows: Windows, _: str) -> Mapping[str, bytes]:
    """Cached by the version of the method too: plans that differ only in it are equal."""
    return MappingProxyType(image_documents(plan_entry(plan, windows), plan.ome_zarr_version))


def _orientation(term: str | None) -> AnatomicalOrientation | None:
    return None if term is None else AnatomicalOrientation(AnatomicalOrientationValues(term))
