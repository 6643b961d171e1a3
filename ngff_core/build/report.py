"""Reports: what a build did, and how far a build is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ngff_core.model.axes import SPATIAL
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.pyramid.verify import Verification
from ngff_core.records.lease import Holder
from ngff_core.sources.base import About
from ngff_core.sources.contract import ChunkCount


@dataclass(frozen=True)
class LevelResult:
    """What is stored of a level, and what this run did for it."""

    fresh: int
    """Regions that this run wrote."""
    raw_bytes: int
    """Bytes of the level's samples, uncompressed."""
    stored_bytes: int
    """Bytes of the level's objects, as the ledger records them."""
    seconds: float
    """Seconds that this run took for the level."""
    retries: Mapping[str, int] = field(default_factory=dict)
    """Requests of this run that were tried again, by a status or an error's name, without
    those of a cluster's workers."""


@dataclass(frozen=True)
class LevelReport:
    """One level as it was built.

    Attributes
    ----------
    plan
        The plan of the level: path, shapes, factor and regions are taken from it.
    index
        Number of the level; 0 is the full image.
    path
        Path of the level's array in the group.
    shape, chunks, shards
        In samples, with axes in t, c, z, y, x order; ``shards`` is None where there are none.
    factor
        Downsampling factor by axis, relative to the full image.
    scale
        Size of a sample by axis, in the image's units.
    result
        Figures of this run and of the stored objects: bytes, seconds and the like.
    regions, fresh
        Regions of the level, and those of them that this run wrote.
    raw_bytes, stored_bytes
        Bytes of the level before and after compression.
    seconds
        Time that this run took for the level.
    retries
        Requests of this run that were tried again, by kind.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> report = ngff_core.build_pyramid(np.zeros((512, 512), "uint8"), "memory://level/a.ome.zarr")
    >>> report.levels[1].shape, report.levels[1].factor
    ((256, 256), (2, 2))
    """

    plan: LevelPlan
    scale: tuple[float, ...]
    result: LevelResult

    @property
    def index(self) -> int:
        return self.plan.index

    @property
    def path(self) -> str:
        return self.plan.path

    @property
    def shape(self) -> tuple[int, ...]:
        return self.plan.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        return self.plan.chunks

    @property
    def shards(self) -> tuple[int, ...] | None:
        return self.plan.shards

    @property
    def factor(self) -> tuple[int, ...]:
        return self.plan.factor

    @property
    def regions(self) -> int:
        return self.plan.regions

    @property
    def fresh(self) -> int:
        return self.result.fresh

    @property
    def raw_bytes(self) -> int:
        return self.result.raw_bytes

    @property
    def stored_bytes(self) -> int:
        return self.result.stored_bytes

    @property
    def seconds(self) -> float:
        return self.result.seconds

    @property
    def retries(self) -> Mapping[str, int]:
        return self.result.retries

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "index": self.index,
            "path": self.path,
            "shape": self.shape,
            "chunks": self.chunks,
            "shards": self.shards,
            "factor": self.factor,
            "scale": self.scale,
            "regions": self.regions,
            **asdict(self.result),
        }


@dataclass(frozen=True)
class RunStatistics:
    """What only this run knows: its time, its source's chunks, and its retries."""

    seconds: float
    """Seconds since the build took its target."""
    chunks: ChunkCount | None = None
    """Shards of a zarr source, or its chunks if it has no shards: all that it should have, and
    those that were absent when this run began and were read as the fill value. None for other
    kinds of sources, and where the source cannot be listed."""
    retries_beside: Mapping[str, int] = field(default_factory=dict)
    """Retries that belong to no level: of plan, ledger, listings, metadata, verification and
    cache."""
    about: About = field(default_factory=About)
    """What is known of the source's image."""


@dataclass(frozen=True)
class BuildReport:
    """What a build did, and whether the pyramid matches its plan and ledger.

    Attributes
    ----------
    source, target
        URIs or absolute paths.
    plan
        Everything that decided the stored bytes.
    method, ome_zarr_version, compressor
        The options that decided the stored bytes, beside the levels' shapes.
    dims, units
        Names of the axes, in t, c, z, y, x order, and the unit of each, or None.
    dtype
        Dtype of the samples, as numpy writes it.
    plan_digest
        Digest of the plan: equal digests mean equal stored bytes.
    cached
        Whether the source was copied to a cache first.
    levels
        One `LevelReport` for each level, finest first.
    verification
        What `verify_pyramid` found at the end; None where the build was not verified.
    run
        Time, source chunks and retries of this run.
    about
        What is known of the source's image, and notes on all that was assumed, converted, left
        out or overruled.
    seconds
        Time that this run took.
    source_chunks, absent_chunks
        Objects that a zarr source should have, and those that were absent and read as the fill
        value; None for other sources.
    retries_beside
        Requests that were tried again and belong to no level, by kind.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> report = ngff_core.build_pyramid(np.zeros((64, 64), "uint8"), "memory://report/a.ome.zarr")
    >>> report.verified, report.target
    (True, 'memory://report/a.ome.zarr')
    """

    source: str
    target: str
    plan: PyramidPlan
    cached: bool
    levels: tuple[LevelReport, ...]
    verification: Verification | None
    run: RunStatistics

    @property
    def about(self) -> About:
        return self.run.about

    @property
    def method(self) -> str:
        return self.plan.method

    @property
    def ome_zarr_version(self) -> str:
        return self.plan.ome_zarr_version

    @property
    def dims(self) -> tuple[str, ...]:
        return self.plan.image.dims

    @property
    def units(self) -> tuple[str | None, ...]:
        return self.plan.image.units

    @property
    def dtype(self) -> str:
        return str(self.plan.dtype)

    @property
    def compressor(self) -> str:
        return self.plan.compressor

    @property
    def plan_digest(self) -> str:
        return self.plan.digest

    @property
    def seconds(self) -> float:
        return self.run.seconds

    @property
    def source_chunks(self) -> int | None:
        return self.run.chunks.total if self.run.chunks else None

    @property
    def absent_chunks(self) -> int | None:
        return self.run.chunks.absent if self.run.chunks else None

    @property
    def retries_beside(self) -> Mapping[str, int]:
        return self.run.retries_beside

    @property
    def retries(self) -> dict[str, int]:
        """All requests that were tried again, by kind."""
        total = Counter[str](self.retries_beside)
        for level in self.levels:
            total.update(level.retries)
        return dict(sorted(total.items()))

    @property
    def fresh(self) -> int:
        """Regions that this run wrote; 0 where an earlier run had finished the build."""
        return sum(level.fresh for level in self.levels)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the objects of all levels."""
        return sum(level.stored_bytes for level in self.levels)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all levels, uncompressed."""
        return sum(level.raw_bytes for level in self.levels)

    @property
    def verified(self) -> bool:
        """Whether the pyramid was verified without a finding."""
        return self.verification is not None and self.verification.ok

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        checked = self.verification
        return {
            "source": self.source,
            "target": self.target,
            "method": self.method,
            "ome_zarr_version": self.ome_zarr_version,
            "dims": self.dims,
            "units": self.units,
            "dtype": self.dtype,
            "compressor": self.compressor,
            "plan_digest": self.plan_digest,
            "cached": self.cached,
            "levels": tuple(level.to_dict() for level in self.levels),
            "verification": None if checked is None else asdict(checked),
            "seconds": self.seconds,
            "source_chunks": self.source_chunks,
            "absent_chunks": self.absent_chunks,
            "retries_beside": dict(self.retries_beside),
            "verified": self.verified,
            "retries": self.retries,
            "about": self.about.to_dict(),
        }


@dataclass(frozen=True)
class PhaseStatus:
    """How far a level is."""

    phase: str
    done: int
    total: int
    shape: tuple[int, ...]
    stored_bytes: int


@dataclass(frozen=True)
class BuildStatus:
    """How far the build at a target is, and which process, if any, is building it.

    Attributes
    ----------
    target, source
        URIs or absolute paths.
    method
        Name of the downsampling method.
    plan_digest
        Digest of the stored plan.
    levels
        Regions done and in total for each level, finest first.
    published
        Whether the group documents are there, so that readers see an image.
    builder
        The process that took the target last; None where there never was one.

    Examples
    --------
    >>> import numpy as np, ngff_core
    >>> _ = ngff_core.build_pyramid(np.zeros((64, 64), "uint8"), "memory://status/a.ome.zarr")
    >>> ngff_core.build_status("memory://status/a.ome.zarr").finished
    True
    """

    target: str
    source: str
    method: str
    plan_digest: str
    levels: tuple[PhaseStatus, ...]
    published: bool
    builder: Holder | None

    @property
    def finished(self) -> bool:
        return self.published and all(level.done == level.total for level in self.levels)

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON values."""
        return {**asdict(self), "finished": self.finished}


def shape_text(dims: tuple[str, ...], shape: tuple[int, ...]) -> str:
    """A shape as people read it.

    >>> shape_text(("c", "y", "x"), (3, 512, 640))
    'c 3, y 512, x 640'
    """
    return ", ".join(f"{dim} {n}" for dim, n in zip(dims, shape, strict=True))


def voxel_text(
    dims: tuple[str, ...], scale: tuple[float, ...], units: tuple[str | None, ...]
) -> str:
    """The size of a sample along the spatial axes, with its unit.

    >>> voxel_text(("c", "y", "x"), (1.0, 0.5, 0.5), (None, "micrometer", "micrometer"))
    'y 0.5, x 0.5 micrometer'
    """
    axes = [axis for axis in zip(dims, scale, units, strict=True) if axis[0] in SPATIAL]
    sizes = [f"{dim} {size:g}" for dim, size, _ in axes]
    shared = {unit for _, _, unit in axes}
    if len(shared) == 1:
        return f"{', '.join(sizes)} {shared.pop() or ''}".rstrip()
    named = zip(sizes, axes, strict=True)
    return ", ".join(f"{size} {unit or ''}".rstrip() for size, (_, _, unit) in named)


def retries_text(retries: Mapping[str, int]) -> str:
    """Retries by kind as people read them, the most frequent first.

    >>> retries_text({"503": 2, "429": 7}), retries_text({})
    ('9 (429: 7, 503: 2)', 'none')
    """
    kinds = sorted(retries.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{kind}: {count}" for kind, count in kinds)
    return f"{sum(retries.values())} ({listed})" if retries else "none"


def bytes_text(nbytes: int) -> str:
    """A number of bytes in the largest unit that leaves a number of 1 or more.

    >>> bytes_text(3 * 2**20)
    '3.0 MiB'
    """
    from pydantic import ByteSize

    return ByteSize(nbytes).human_readable(separator=" ").replace(".0 B", " B")
