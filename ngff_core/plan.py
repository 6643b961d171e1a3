"""What will be built, as frozen data: the same plan always builds the same bytes.

A plan holds everything that decides a stored byte and nothing else: what identifies
the source, the method, factors, chunks, shards and codecs. Workers, memory limit and
cache are not in it, so that a build begun on one machine goes on upon any other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, Literal

import numpy as np

from ngff_core.axes import SPATIAL
from ngff_core.codecs import DEFAULT_COMPRESSOR, Compressor
from ngff_core.errors import InvalidOptionError, StoredDataError
from ngff_core.geometry import (
    Region,
    Shape,
    block_at,
    ceil_div,
    grid_shape,
    level_scale,
    level_shape,
    level_translation,
)
from ngff_core.layout import (
    check_shards,
    default_chunks,
    default_shards,
    grow_block,
    level_chunks,
    level_shards,
    resolve_sizes,
)
from ngff_core.methods import Methods, check_dtype, method_info, parse_method
from ngff_core.scale_factors import ScaleFactors, parent_of, resolve_factors

PLAN_FORMAT = 2
"""Changes when a plan or the ledger beside it, written by an older version, can no longer be
read. 2: the checksum of a region's samples goes by its chunks, as they are stored."""

ALGORITHM = 1
"""Changes when the same options would give other pixels or another layout."""

OmeZarrVersion = Literal["0.4", "0.5", "0.6"]
OME_ZARR_VERSIONS: tuple[OmeZarrVersion, ...] = ("0.4", "0.5", "0.6")
DEFAULT_MIN_LENGTH = 128
"""The default of ``scale_factors``, as on the API page."""


@dataclass(frozen=True)
class SourcePin:
    """What identifies the source: where it is, and what changes when its content does."""

    uri: str
    pins: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ImageInfo:
    """The full image, without its pixels. Axes are in t, c, z, y, x order."""

    dims: tuple[str, ...]
    shape: Shape
    dtype: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    name: str = "image"
    orientations: tuple[str | None, ...] = ()
    """RFC-4's term for each axis; empty where no axis has one."""


@dataclass(frozen=True)
class LevelPlan:
    """One resolution: its shape, its cut into chunks, shards and blocks, its parent.

    Every sample of the level is in exactly one region, and no two regions share a
    chunk or a shard.
    """

    index: int
    path: str
    shape: Shape
    chunks: Shape
    shards: Shape | None
    block: Shape
    factor: Shape
    parent: int | None
    step: Shape

    @property
    def regions(self) -> int:
        """How many regions there are."""
        return math.prod(grid_shape(self.shape, self.block))

    def region(self, index: int) -> Region:
        """The box of one region; regions are numbered in C order."""
        return block_at(index, self.shape, self.block)

    @property
    def write_unit(self) -> Shape:
        """The box that one stored object holds."""
        return self.shards or self.chunks

    @property
    def objects(self) -> int:
        """How many objects hold the level's samples."""
        return math.prod(grid_shape(self.shape, self.write_unit))

    def object_positions(self, region: Region) -> Iterator[Shape]:
        """Grid positions of the objects that ``region`` consists of, in C order."""
        spans = (
            range(a // u, ceil_div(b, u))
            for a, b, u in zip(region.start, region.stop, self.write_unit, strict=True)
        )
        yield from product(*spans)


@dataclass(frozen=True)
class PyramidPlan:
    """Everything that decides the bytes of a pyramid."""

    source: SourcePin
    image: ImageInfo
    method: str
    ome_zarr_version: OmeZarrVersion
    compressor: str
    levels: tuple[LevelPlan, ...]
    method_version: str = field(default="", compare=False)
    """Version of the method's package when the plan was made, for the metadata. It decides
    no sample, and no digest: another machine may have another patch of it."""
    format: int = PLAN_FORMAT
    algorithm: int = ALGORITHM

    @property
    def zarr_format(self) -> Literal[2, 3]:
        return 2 if self.ome_zarr_version == "0.4" else 3

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.image.dtype)

    def scale_of(self, level: LevelPlan) -> tuple[float, ...]:
        return level_scale(self.image.scale, level.factor)

    def translation_of(self, level: LevelPlan) -> tuple[float, ...]:
        return level_translation(self.image.scale, self.image.translation, level.factor)

    def object_key(self, position: Shape) -> str:
        """Key of one object below its array, as zarr spells it in this format."""
        name = "/".join(str(i) for i in position)
        return name if self.zarr_format == 2 else f"c/{name}"

    @property
    def raw_bytes(self) -> int:
        """Bytes of all levels, decoded."""
        return sum(math.prod(level.shape) for level in self.levels) * self.dtype.itemsize

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan: the same digest, the same bytes."""
        deciding = dataclasses.asdict(self)
        del deciding["method_version"]
        canonical = json.dumps(deciding, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> bytes:
        """The plan as a document that `from_json` reads back, with its digest."""
        document = {"digest": self.digest, **dataclasses.asdict(self)}
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, document: bytes) -> PyramidPlan:
        """The plan in ``document``, or a StoredDataError if it is damaged or of another format."""
        from pydantic import TypeAdapter, ValidationError

        try:
            fields = json.loads(document)
            stored = fields.pop("digest")
            _check_format(fields["format"])
            plan = TypeAdapter(cls).validate_python(fields)
        except (ValueError, KeyError, AttributeError, TypeError, ValidationError) as error:
            raise StoredDataError(f"the plan cannot be read: {error}") from error
        if plan.digest != stored:
            raise StoredDataError("the plan does not match the digest that it carries")
        return plan


def _check_format(found: object) -> None:
    if found != PLAN_FORMAT:
        raise ValueError(
            f"it is of format {found}, and this version of ngff-flows reads {PLAN_FORMAT}; "
            "use the version that wrote it, or build anew with overwrite"
        )


def make_plan(
    source: SourcePin,
    image: ImageInfo,
    *,
    source_chunks: Shape | None = None,
    method: str | Methods = Methods.ITKWASM_GAUSSIAN,
    scale_factors: ScaleFactors = DEFAULT_MIN_LENGTH,
    chunks: Any = None,
    shards: Any = None,
    compressor: str | Compressor = DEFAULT_COMPRESSOR,
    ome_zarr_version: str = "0.5",
) -> PyramidPlan:
    """The plan of a pyramid from the full image's description and the caller's options.

    ``source_chunks`` is how the source itself is cut, which the default chunks heed.
    Sizes given as ``chunks`` or ``shards`` are in the order of ``image.dims``.
    """
    check_image(image)
    method = parse_method(method)
    dtype = np.dtype(image.dtype)
    version = check_version(ome_zarr_version)
    sizes = resolve_sizes(
        "chunks", chunks, image.dims, default_chunks(image.dims, image.shape, source_chunks)
    )
    base_chunks = tuple(sizes[d] for d in image.dims)
    own_shards = _given_shards(shards, version, image, sizes)
    spatial = {d: n for d, n in zip(image.dims, image.shape, strict=True) if d in SPATIAL}
    found = resolve_factors(scale_factors, spatial, {d: min(sizes[d], spatial[d]) for d in spatial})
    if found:
        check_dtype(method, dtype)
    factors = [tuple(f.get(d, 1) for d in image.dims) for f in ({}, *found)]
    levels = tuple(
        _level_plan(
            i,
            factors=factors,
            image=image,
            base_chunks=base_chunks,
            given_shards=own_shards,
            version=version,
            itemsize=dtype.itemsize,
        )
        for i in range(len(factors))
    )
    return PyramidPlan(
        source=source,
        image=image,
        method=method.value,
        ome_zarr_version=version,
        compressor=str(Compressor.parse(compressor)),
        levels=levels,
        method_version=method_info(method).version,
    )


def _level_plan(
    index: int,
    *,
    factors: list[Shape],
    image: ImageInfo,
    base_chunks: Shape,
    given_shards: Shape | None,
    version: OmeZarrVersion,
    itemsize: int,
) -> LevelPlan:
    factor = factors[index]
    shape = level_shape(image.shape, factor)
    chunks = level_chunks(base_chunks, shape)
    shards = None
    if given_shards is not None:
        shards = level_shards(given_shards, base_chunks, chunks, shape)
    elif version != "0.4":
        shards = default_shards(image.dims, shape, chunks, itemsize)
    parent = parent_of(factors, index) if index else None
    base = factors[parent] if parent is not None else factor
    return LevelPlan(
        index=index,
        path=f"scale{index}/{image.name}",
        shape=shape,
        chunks=chunks,
        shards=shards,
        block=shards or grow_block(image.dims, shape, chunks, itemsize),
        factor=factor,
        parent=parent,
        step=tuple(f // b for f, b in zip(factor, base, strict=True)),
    )


def _given_shards(
    shards: Any, version: OmeZarrVersion, image: ImageInfo, chunks: dict[str, int]
) -> Shape | None:
    if shards is None:
        return None
    if version == "0.4":
        raise InvalidOptionError(
            "shards: OME-Zarr 0.4 is zarr v2, which has none; leave them out or use 0.5"
        )
    sizes = resolve_sizes("shards", shards, image.dims, chunks)
    return check_shards(
        tuple(sizes[d] for d in image.dims),
        tuple(chunks[d] for d in image.dims),
        image.dims,
        image.shape,
    )


def check_version(version: str) -> OmeZarrVersion:
    """``version`` if it is one that can be written, else an InvalidOptionError."""
    for known in OME_ZARR_VERSIONS:
        if version == known:
            return known
    raise InvalidOptionError(
        f"ome_zarr_version: {version!r} is none of {', '.join(OME_ZARR_VERSIONS)}"
    )


def is_sound_name(name: str) -> bool:
    """Whether an array of that name can stand in a folder beside zarr's own documents."""
    return (
        0 < len(name.encode()) <= 200
        and "/" not in name
        and name.isprintable()
        and not name.startswith(".")
        and name != "zarr.json"
    )


def check_image(image: ImageInfo) -> None:
    """InvalidOptionError for an image that OME-Zarr cannot hold; the message says why."""
    if not is_sound_name(image.name):
        raise InvalidOptionError(f"name: {image.name!r} cannot be part of a path")
    if any(n == 0 for n in image.shape):
        raise InvalidOptionError(f"the image is empty: its shape is {image.shape}")
    if sum(d in SPATIAL for d in image.dims) < 2:
        raise InvalidOptionError(
            f"an image with axes {', '.join(image.dims)} cannot be written: "
            "OME-Zarr asks for two or three spatial axes"
        )
    for d, scale, translation in zip(image.dims, image.scale, image.translation, strict=True):
        if not math.isfinite(scale) or (d in SPATIAL and scale <= 0):
            raise InvalidOptionError(f"scale: {scale} on {d} is no size of a sample")
        if not math.isfinite(translation):
            raise InvalidOptionError(f"translation: {translation} on {d} is no position")
