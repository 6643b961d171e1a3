"""Neuroglancer's precomputed volumes: ``info`` and the chunks of its first scale."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import PickedArray, Reader, as_format_error, check_array, clip_unit
from ngff_core.sources.contract import (
    ChunkCount,
    ImageDescription,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.ome_zarr.nodes import listed, stored_pins
from ngff_core.sources.sizes import positive
from ngff_core.sources.volumes.tensorstore_chunks import (
    ChunkedArray,
    ChunkGrid,
    Decoder,
    read_reversed,
    reader_pin,
)
from ngff_core.storage import LocalFiles, ObjectInfo, ObjectStore

_INFO = "info"
_DRIVER = "neuroglancer_precomputed"
_XYZ = ("x", "y", "z")
_CHUNK = re.compile(r"-?\d+--?\d+_-?\d+--?\d+_-?\d+--?\d+(\.gz)?")
"""Name of a chunk: its first voxel and that behind its last one, along x, y, z."""


def open_images(store: ObjectStore) -> SourceImages:
    """The volume in the folder that ``store`` names, at its first scale.

    Raises `SourceFormatError` for an ``info`` of anything else, such as meshes or skeletons.
    """
    document = store.read(_INFO) or b""
    with as_format_error(f"{store.uri}/{_INFO}: not a readable info of a precomputed volume"):
        info = json.loads(document)
        scale = _first_scale(info)
        image, chunk = _describe(info, scale), _chunk(info, scale)
        check_array(image.shape, np.dtype(image.dtype), store.uri)
        reader = _reader(store, info, scale, np.dtype(image.dtype))
    objects = listed(store.child(scale["key"]))

    pins = stored_pins(objects, [document])
    return SourceImages(
        identity=SourceIdentity(store.uri, tuple(sorted((*pins, reader_pin())))),
        kind="precomputed",
        format="a Neuroglancer precomputed volume",
        images=(image,),
        open_image=lambda _: Samples(reader, chunk, _count(objects, scale)),
        main=0,
    )


def _first_scale(info: Any) -> dict[str, Any]:
    kind = info.get("@type", "neuroglancer_multiscale_volume")
    if kind != "neuroglancer_multiscale_volume" or not info.get("scales"):
        raise ValueError(f"it is of {kind}, with {len(info.get('scales') or ())} scales")
    scale = dict(info["scales"][0])
    parts = str(scale["key"]).split("/")
    if "" in parts or ".." in parts:
        raise ValueError(f"the chunks of its first scale are at {scale['key']}, outside the folder")
    sizes = (*scale["size"], *scale["chunk_sizes"][0], info["num_channels"])
    if len(sizes) != 7 or min(sizes) <= 0:
        raise ValueError(f"size, chunk size and channels {sizes}")
    return scale


def _describe(info: Mapping[str, Any], scale: Mapping[str, Any]) -> ImageDescription:
    inner = tuple(int(n) for n in reversed(scale["size"]))
    channels = int(info["num_channels"])
    found = {axis: positive(n) for axis, n in zip(_XYZ, scale["resolution"], strict=True)}
    sizes = {axis: size for axis, size in found.items() if size is not None}
    offset = dict(zip(_XYZ, scale.get("voxel_offset") or (0, 0, 0), strict=True))
    # Voxel 0 of the common grid is at position 0, with its centre as any sample here.
    translation = {axis: offset[axis] * size for axis, size in sizes.items() if offset[axis]}
    return ImageDescription(
        name=None,
        axes=("c", "z", "y", "x") if channels > 1 else ("z", "y", "x"),
        shape=(channels, *inner) if channels > 1 else inner,
        dtype=np.dtype(info["data_type"]).newbyteorder("<").str,
        placement=Placement(sizes, dict.fromkeys(sizes, "nanometer"), translation),
        labels=info.get("type") == "segmentation",
        origins={
            "axes": "the format's order",
            "scale": "resolution of the first scale, in nanometers",
            **({"translation": "voxel_offset times resolution"} if translation else {}),
        },
    )


def _chunk(info: Mapping[str, Any], scale: Mapping[str, Any]) -> Shape:
    channels = int(info["num_channels"])
    outer = (channels,) if channels > 1 else ()
    inner = clip_unit(scale["chunk_sizes"][0][::-1], scale["size"][::-1])
    return (*outer, *inner)


def _reader(
    store: ObjectStore, info: Mapping[str, Any], scale: Mapping[str, Any], dtype: np.dtype[Any]
) -> Reader:
    """The samples with their axes in the order c, z, y, x, without c if there is one channel."""
    shape = (int(info["num_channels"]), *(int(n) for n in reversed(scale["size"])))
    reader = Reader(_open_array(store, info, scale), store.uri, shape, dtype)
    if shape[0] > 1:
        return reader
    return Reader(PickedArray(reader, (1, 2, 3), (0,) * 4), store.uri, shape[1:], dtype)


def _count(objects: Mapping[str, ObjectInfo] | None, scale: Mapping[str, Any]) -> ChunkCount | None:
    """The chunks of a scale, and those that a listing does not have; None for shards."""
    if objects is None or scale.get("sharding") is not None:
        return None
    present = sum(_CHUNK.fullmatch(key) is not None for key in objects)
    sizes = zip(scale["size"], scale["chunk_sizes"][0], strict=True)
    total = math.prod(-(-n // chunk) for n, chunk in sizes)
    return ChunkCount(total, max(0, total - present))


def _open_array(store: ObjectStore, info: Mapping[str, Any], scale: Mapping[str, Any]) -> Any:
    """The samples with their axes in the order c, z, y, x."""
    kept = ("@type", "type", "data_type", "num_channels")
    metadata = {**{n: info[n] for n in kept if n in info}, "scales": [scale]}
    decoder = Decoder(_DRIVER, _INFO, metadata)
    decoder.open({}, store.uri)
    if scale.get("sharding") is not None:
        return _Sharded(_open_sharded(store))
    size = tuple(int(n) for n in scale["size"])
    chunk = tuple(int(n) for n in scale["chunk_sizes"][0])
    offset = tuple(int(n) for n in scale.get("voxel_offset") or (0, 0, 0))

    def key(position: Shape) -> str:
        spans = [
            f"{o + i * n}-{o + min((i + 1) * n, end)}"
            for i, n, o, end in zip(position[:3], chunk, offset, size, strict=True)
        ]
        return f"{scale['key']}/{'_'.join(spans)}"

    channels = int(info["num_channels"])
    grid = ChunkGrid((*size, channels), (*chunk, channels), key, gzipped=True)
    return ChunkedArray(store, grid, decoder)


def _open_sharded(store: ObjectStore) -> Any:
    """Chunks in shards, which only tensorstore's own store of files can find."""
    import tensorstore as ts

    if not isinstance(store, LocalFiles):
        raise SourceFormatError(
            f"{store.uri}: a sharded precomputed volume is read from a local disk only; "
            "copy it there"
        )
    files = {"driver": "file", "path": f"{store.root}/"}
    spec = {"driver": _DRIVER, "kvstore": files, "scale_index": 0}
    return ts.open(spec, read=True, open=True).result()


@dataclass(frozen=True, eq=False)
class _Sharded:
    """A precomputed array as tensorstore has it, with its axes reversed."""

    array: Any

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        return read_reversed(self.array, key)
