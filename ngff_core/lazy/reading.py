"""Reading an OME-Zarr image as an ``NgffMultiscales`` of lazy arrays."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from typing import Any

from ngff_core.errors import InvalidOptionError, SourceFormatError, SourceNotFoundError
from ngff_core.kernels.methods import Methods
from ngff_core.lazy.dask_levels import stored_array
from ngff_core.lazy.multiscales import Axis, Dataset, Metadata, NgffMultiscales, Scale, Translation
from ngff_core.model.metadata import ImageEntry
from ngff_core.sources.ome_zarr.images import read_image
from ngff_core.sources.ome_zarr.nodes import read_node
from ngff_core.storage import ObjectStore, StorageOptions, open_store
from ngff_core.storage.foreign import foreign_store, is_foreign


def from_ngff_zarr(
    store: Any,
    validate: bool = False,  # noqa: ARG001 - metadata is always validated
    version: str | None = None,
    storage_options: StorageOptions | None = None,
) -> NgffMultiscales:
    """Read an OME-Zarr image (0.1 to 0.6) as lazy arrays, with its axes as stored.

    A size that the image does not know is 1. Channels that are incomplete are completed where one
    of a window's two ranges is there, and left out otherwise.

    Parameters
    ----------
    store
        A path, a URI, a zarr store, or a mapping from key to bytes.
    validate
        Has no effect, as metadata is always validated; code written for ngff-zarr passes it.
    version
        The OME-Zarr version that the image must have. Default: any of these.
    storage_options
        Options of fsspec's filesystem for a URI, such as credentials. Default: none.

    Returns
    -------
    NgffMultiscales
        One image for each level, finest first; samples are read when they are computed.

    Raises
    ------
    SourceNotFoundError
        No zarr group is stored there. A FileNotFoundError.
    SourceFormatError
        It is not a valid OME-Zarr image, or not of ``version``. A ValueError.
    InvalidOptionError
        ``store`` is a zip file; give a `zarr.storage.ZipStore`.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> store = {}
    >>> ngff_core.to_ngff_zarr(store, ngff_core.to_multiscales(np.ones((64, 64)), [2]))
    >>> [image.data.shape for image in ngff_core.from_ngff_zarr(store).images]
    [(64, 64), (32, 32)]
    """
    opened = _open_image(store, storage_options)
    node = read_node(opened)
    if node is None:
        raise SourceNotFoundError(f"{opened.uri}: there is no zarr group")
    if node.is_array:
        raise SourceFormatError(f"{opened.uri}: a zarr array, not an OME-Zarr image")
    stored = read_image(opened, node)
    if version is not None and version != stored.version:
        raise SourceFormatError(f"{opened.uri}: OME-Zarr {stored.version}, not {version}")
    images = []
    for index in range(len(stored.entry.datasets)):
        level = stored.read_level(index)
        data = stored_array(level.image.data, level.unit, uuid.uuid4().hex)
        images.append(replace(level.image, data=data))
    return NgffMultiscales(
        images=images,
        metadata=_read_metadata(stored.entry, stored.version),
        method=next((m for m in Methods if m.value == stored.entry.type), None),
    )


def _open_image(store: Any, storage_options: StorageOptions | None) -> ObjectStore:
    if is_foreign(store):
        return foreign_store(store)
    if os.fspath(store).endswith(".ozx"):
        raise InvalidOptionError(
            f"store: {store} is a zip file; give zarr.storage.ZipStore(path, mode='r') instead"
        )
    return open_store(store, storage_options)


def _read_metadata(entry: ImageEntry, version: str) -> Metadata:
    kinds = {"t": "time", "c": "channel"}
    return Metadata(
        axes=[Axis(a.name, kinds.get(a.name, "space"), a.unit, a.orientation) for a in entry.axes],
        datasets=[
            Dataset(d.path, [Scale(list(d.scale)), Translation(list(d.translation))])
            for d in entry.datasets
        ],
        omero=entry.omero,
        name=entry.name,
        version=version,
        type=entry.type,
        metadata=entry.metadata,
    )
