"""What a caller may choose, with defaults that need no thought."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from ngff_core.cache import CacheMode
from ngff_core.codecs import DEFAULT_COMPRESSOR
from ngff_core.config import available_cores, config
from ngff_core.errors import InvalidOptionError
from ngff_core.methods import Methods
from ngff_core.plan import DEFAULT_MIN_LENGTH
from ngff_core.scale_factors import ScaleFactors


@dataclass(frozen=True)
class BuildOptions:
    """What a caller may choose. Only the first six decide stored bytes.

    ``chunks`` and ``shards`` are an int for the spatial axes, sizes by position, or a
    mapping by axis. ``memory_limit`` is in bytes, or a string such as ``2GiB``.
    """

    method: str | Methods = Methods.ITKWASM_GAUSSIAN
    scale_factors: ScaleFactors = DEFAULT_MIN_LENGTH
    chunks: Any = None
    shards: Any = None
    compressor: str = DEFAULT_COMPRESSOR
    ome_zarr_version: str = "0.5"
    workers: int | None = None
    memory_limit: int | str | None = None
    cache: CacheMode = "auto"
    overwrite: bool = False


def resolve_workers(workers: Any) -> int:
    """Regions worked on at once; by default one per core."""
    if workers is None:
        return available_cores()
    if isinstance(workers, bool) or not isinstance(workers, Integral) or workers < 1:
        raise InvalidOptionError(f"workers: {workers!r} is not a positive whole number")
    return int(workers)


def resolve_memory_limit(limit: int | str | None) -> int:
    """Bytes that work in flight may take; by default half of what is available."""
    from pydantic import ByteSize, TypeAdapter, ValidationError

    if limit is None:
        return config.memory_target
    try:
        nbytes = int(TypeAdapter(ByteSize).validate_python(limit))
    except ValidationError:
        nbytes = 0
    if nbytes < 1:
        raise InvalidOptionError(
            f"memory_limit: {limit!r} is no size; give bytes, or a size such as 2GiB or 500MB"
        )
    return nbytes
