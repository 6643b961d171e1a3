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
