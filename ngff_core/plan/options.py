"""What a caller may choose, with defaults that need no thought."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

from ngff_core.config import available_cores, config
from ngff_core.errors import InvalidOptionError
from ngff_core.kernels.methods import Methods
from ngff_core.plan.compressors import DEFAULT_COMPRESSOR
from ngff_core.plan.pyramid_plan import DEFAULT_MIN_LENGTH
from ngff_core.plan.scale_factors import ScaleFactors
from ngff_core.plan.source_cache import CacheMode


@dataclass(frozen=True)
class BuildOptions:
    """What a caller may choose. Only the first six decide stored bytes.

    ``chunks`` and ``shards`` are an int for the spatial axes, sizes by position, or a
    mapping by axis. ``memory_limit`` is in bytes, or a string such as ``2GiB``.

    ``dask_address`` names the scheduler of a dask cluster that does the work, and
    ``dask_workers`` starts one of so many processes on this machine. ``workers`` and
    ``memory_limit`` are those of one worker process then.
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
    dask_address: str | None = None
    dask_workers: int | None = None

    @property
    def on_cluster(self) -> bool:
        """Whether a dask cluster does the work."""
        return self.dask_address is not None or self.dask_workers is not None

    @property
    def in_this_process(self) -> bool:
        """Whether the work is done by threads that see this process's memory."""
        return not self.on_cluster or (self.dask_address or "").startswith("inproc://")


def resolve_workers(workers: Any) -> int:
    """Regions worked on at once; by default one per core."""
    if workers is None:
        return available_cores()
    return _positive("workers", workers)


def resolve_share(options: BuildOptions) -> tuple[int, int]:
    """Regions at once and bytes of memory, both of one process.

    Of a cluster that is still to be asked only what was given is known; a region at a
    time stands for the rest.
    """
    limit = resolve_memory_limit(options.memory_limit)
    if not options.on_cluster:
        return resolve_workers(options.workers), limit
    processes = resolve_processes(options)
    if options.memory_limit is None:
        limit //= processes or 1
    if options.workers is not None:
        return resolve_workers(options.workers), limit
    return max(1, available_cores() // processes) if processes else 1, limit


def resolve_processes(options: BuildOptions) -> int | None:
    """Worker processes to start; None where they are a running cluster's.

    Raises InvalidOptionError where the options of a cluster make no sense.
    """
    if options.dask_address is None:
        return _positive("dask_workers", options.dask_workers)
    if options.dask_workers is not None:
        raise InvalidOptionError(
            "dask_workers: starts a cluster, and dask_address names one; give one of the two"
        )
    if "://" not in options.dask_address:
        raise InvalidOptionError(
            f"dask_address: {options.dask_address!r} is no address of a scheduler, "
            "such as tcp://10.0.0.1:8786"
        )
    return None


def _positive(name: str, number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
        raise InvalidOptionError(f"{name}: {number!r} is not a positive whole number")
    return int(number)


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
