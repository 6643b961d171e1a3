"""The options of a build as a form that explains itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ngff_core import BuildOptions, Methods
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.pyramid_plan import DEFAULT_MIN_LENGTH, OmeZarrVersion

_OF_CORE = tuple(field.name for field in fields(BuildOptions))


class PyramidOptions(BaseModel):
    """How a pyramid is made; every field has a default that needs no thought."""

    model_config = ConfigDict(extra="forbid")

    method: Methods = Field(
        default=Methods.ITKWASM_GAUSSIAN,
        # the form would take the title of the enum
        title="Method",
        description="How samples of a coarser level are computed: itkwasm_gaussian for "
        "intensities, itkwasm_bin_shrink for fast exact means, itkwasm_label_image for labels, "
        "dask_image_mode for labels and large steps, dask_image_nearest for quick looks.",
    )
    scale_factors: int | list[int | dict[str, int]] = Field(
        default=DEFAULT_MIN_LENGTH,
        description="One int: double the spatial axes while the image is large beside its chunks; "
        "the int is the minimum length. A list: one factor per level, relative to the full "
        "image, as an int or per axis, such as "
        '[2, 4] or [{"z": 1, "y": 2, "x": 2}].',
    )
    chunks: int | dict[str, int] | list[int] | None = Field(
        default=None,
        description="Chunk size: an int for the spatial axes, or sizes by axis. "
        "By default 128 for volumes, 256 for planes.",
    )
    shards: int | dict[str, int] | list[int] | None = Field(
        default=None,
        description="Shard size, a whole multiple of the chunk; not in OME-Zarr 0.4. "
        "By default 32 to 64 MiB of raw samples.",
    )
    compressor: str = Field(
        default=DEFAULT_COMPRESSOR,
        description="blosc:CODEC:LEVEL:SHUFFLE, zstd:LEVEL, gzip:LEVEL or none.",
    )
    ome_zarr_version: OmeZarrVersion = Field(
        default="0.5",
        title="OME-Zarr version",
        description="0.5 is zarr v3 with shards and checksums; 0.4 is for older readers, "
        "0.6 for those that know its coordinate systems.",
    )
    workers: int | None = Field(
        default=None,
        description="Regions worked on at once, on a cluster by each worker process. "
        "By default one per core, or per thread of the cluster.",
        ge=1,
    )
    memory_limit: str | None = Field(
        default=None,
        description="Memory the work may take, such as 2GiB; on a cluster each worker process. "
        "By default half of what is available.",
    )
    cache: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Rewrite the source first, so that it can be read by region: auto does so "
        "where reading it by region would decode it more than twice.",
    )
    overwrite: bool = Field(
        default=False, description="Remove another build, or anything else, that is at the target."
    )
    dask_address: str | None = Field(
        default=None,
        description="Scheduler of a dask cluster that does the work, such as "
        "tcp://10.0.0.1:8786. Its workers need ngff-flows, and must see source and target.",
    )
    dask_workers: int | None = Field(
        default=None,
        description="Start so many worker processes on this machine, and have them do the work.",
        ge=1,
    )

    public_url: str | None = Field(
        default=None,
        title="Public URL",
        description="http(s) address at which browsers can read the target; the report then has "
        "links to viewers. `derive` makes it from a gs:// target; the bucket must be public.",
        pattern="^(derive|https?://.+)$",
    )

    @classmethod
    def from_core(cls, options: BuildOptions) -> PyramidOptions:
        """The form filled in with a caller's options."""
        given = {name: getattr(options, name) for name in _OF_CORE}
        plain = {
            "chunks": _plain(options.chunks),
            "shards": _plain(options.shards),
            "memory_limit": _text(options.memory_limit),
        }
        return cls.model_validate(given | plain)

    def to_core(self) -> BuildOptions:
        """The same options as the core takes them."""
        return BuildOptions(**{name: getattr(self, name) for name in _OF_CORE})


def _text(limit: int | str | None) -> str | None:
    return None if limit is None else str(limit)


def _plain(sizes: Any) -> Any:
    """Sizes without dask's lists of an axis's chunks, of which the first one counts."""
    if isinstance(sizes, Mapping):
        return {dim: _first(size) for dim, size in sizes.items()}
    return [_first(size) for size in sizes] if isinstance(sizes, Sequence) else sizes


def _first(size: Any) -> Any:
    return size[0] if isinstance(size, Sequence) else size
