"""What is built, as frozen data: the same plan always gives the same stored bytes.

A plan contains everything that decides a stored byte, and nothing else: the identity of the
source, the method, factors, chunks, shards and codecs. Number of workers, memory limit and
cache are not part of it, so a build that was started on one machine can be continued on any
other.
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

from ngff_core.errors import StoredDataError
from ngff_core.geometry import (
    Region,
    Shape,
    block_at,
    ceil_div,
    grid_shape,
    level_scale,
    level_translation,
)
from ngff_core.model.channels import Channel

PLAN_FORMAT = 2
"""Raised when plans or ledgers written by an older version can no longer be read. Since 2, the
checksum of a region's samples covers its chunks in the order in which they are stored."""

ALGORITHM = 1
"""Raised when the same plan would give other stored bytes. What rules make of options is in the
plan itself: where they change, `plan.earlier` tells which plans mean the same."""

OmeZarrVersion = Literal["0.4", "0.5", "0.6"]
OME_ZARR_VERSIONS: tuple[OmeZarrVersion, ...] = ("0.4", "0.5", "0.6")
DEFAULT_MIN_LENGTH = 128
"""Default of ``scale_factors``: a minimum length, see `factors_from_min_length`."""


@dataclass(frozen=True)
class SourcePin:
    """The identity of the source: where it is, and values that change with its content."""

    uri: str
    pins: tuple[tuple[str, str], ...] = ()
    reading: str = ""
    """Which image of it is read, and by which axes: `Selection.reading`. Empty for the only
    image of a source, read as it is."""


@dataclass(frozen=True)
class ImageInfo:
    """The full image, without its pixels. Every tuple is per axis, in t, c, z, y, x order."""

    dims: tuple[str, ...]
    shape: Shape
    dtype: str
    scale: tuple[float, ...]
    """Spacing of samples, in ``units``."""
    translation: tuple[float, ...]
    """Position of the first sample's centre, in ``units``."""
    units: tuple[str | None, ...]
    """UDUNITS names; None for an axis without a unit."""
    name: str = "image"
    orientations: tuple[str | None, ...] = ()
    """Anatomical orientation (RFC-4) of each axis; empty if no axis has one."""
    channels: tuple[Channel, ...] = ()
    """One for each position on the axis c; empty if nothing is known of them."""
    metadata: str = ""
    """JSON of what else the source says that is worth keeping; empty for nothing."""
    labels: bool = False
    """Whether the source says that samples are numbers of objects. It is not part of the digest:
    it changes no sample, and follows from the source, whose identity is."""


@dataclass(frozen=True)
class LevelPlan:
    """One level: its shape, its cut into chunks, shards and regions, and its parent.

    Every sample of the level is in exactly one region, and no two regions share a chunk or a
    shard. Every shape is per axis, in samples of this level.
    """

    index: int
    path: str
    """Of the level's array, below the group of the image."""
    shape: Shape
    chunks: Shape
    shards: Shape | None
    """None for arrays without shards."""
    block: Shape
    """Shape of a region: the box that is computed and written at a time."""
    factor: Shape
    """Relative to level 0."""
    parent: int | None
    """Number of the level that this one is computed from; None for level 0."""
    step: Shape
    """Factor relative to the parent."""

    @property
    def regions(self) -> int:
        """Number of regions."""
        return math.prod(grid_shape(self.shape, self.block))

    def region(self, index: int) -> Region:
        """The box of a region; regions are numbered in C order."""
        return block_at(index, self.shape, self.block)

    @property
    def write_unit(self) -> Shape:
        """Shape of the box that one stored object holds: a shard, or a chunk."""
        return self.shards or self.chunks

    @property
    def objects(self) -> int:
        """Number of objects of which the level's samples consist."""
        return math.prod(grid_shape(self.shape, self.write_unit))

    def object_positions(self, region: Region) -> Iterator[Shape]:
        """Grid positions of the objects in ``region``, in C order."""
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
    """Version of the method's package when the plan was made, for the metadata. It is not part
    of the digest: another machine may have another patch version, which gives the same samples."""
    format: int = PLAN_FORMAT
    algorithm: int = ALGORITHM
    checksums: bool = True
    """Whether a CRC-32C follows each chunk; never in zarr v2, where this is True."""

    @property
    def zarr_format(self) -> Literal[2, 3]:
        """zarr format of the arrays: 2 for OME-Zarr 0.4, 3 for later versions."""
        return 2 if self.ome_zarr_version == "0.4" else 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all levels."""
        return np.dtype(self.image.dtype)

    def scale_of(self, level: LevelPlan) -> tuple[float, ...]:
        """Spacing of a level's samples, per axis."""
        return level_scale(self.image.scale, level.factor)

    def translation_of(self, level: LevelPlan) -> tuple[float, ...]:
        """Position of the centre of a level's first sample, per axis."""
        return level_translation(self.image.scale, self.image.translation, level.factor)

    def object_key(self, position: Shape) -> str:
        """Key of an object below its array, by the plan's zarr format."""
        name = "/".join(str(i) for i in position)
        return name if self.zarr_format == 2 else f"c/{name}"

    @property
    def raw_bytes(self) -> int:
        """Bytes of all levels, uncompressed."""
        return sum(math.prod(level.shape) for level in self.levels) * self.dtype.itemsize

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan. Plans with the same digest give the same stored bytes."""
        deciding = self._fields()
        del deciding["method_version"]
        deciding["image"].pop("labels", None)
        canonical = json.dumps(deciding, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _fields(self) -> dict[str, Any]:
        """The plan as plain values, without the fields that older plans lack and this one does
        not use: so the digest of what was planned before they came stays the same."""
        found = dataclasses.asdict(self)
        for part, name in _ADDED_LATER:
            if not found[part][name]:
                del found[part][name]
        if self.checksums:
            del found["checksums"]
        return found

    def to_json(self) -> bytes:
        """The plan as a JSON document with its digest, for `from_json`."""
        document = {"digest": self.digest, **self._fields()}
        return (json.dumps(document, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, document: bytes) -> PyramidPlan:
        """The plan in ``document``; StoredDataError if it is damaged or of another format."""
        from pydantic import TypeAdapter, ValidationError

        try:
            fields = json.loads(document)
            stored = fields.pop("digest")
            _check_format(fields["format"])
            plan = TypeAdapter(cls).validate_python(fields)
        except (ValueError, KeyError, AttributeError, TypeError, ValidationError) as error:
            raise StoredDataError(f"the plan cannot be read: {error}") from error
        if plan.digest != stored:
            raise StoredDataError(
                "the plan is damaged: it does not match its digest; "
                "build the pyramid again with overwrite"
            )
        return plan


_ADDED_LATER = (
    ("source", "reading"),
    ("image", "channels"),
    ("image", "metadata"),
    ("image", "labels"),
)


def _check_format(stored: object) -> None:
    if stored != PLAN_FORMAT:
        raise ValueError(
            f"it has format {stored}, but this version of ngff-flows reads format {PLAN_FORMAT}; "
            "use the version that wrote it, or build the pyramid again with overwrite"
        )
