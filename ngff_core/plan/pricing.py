"""Requests, bytes and worker hours of a plan, for estimating its cost and its duration."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import ceil_div
from ngff_core.plan.projection import Projection
from ngff_core.plan.pyramid_plan import PyramidPlan

THROUGHPUT = 200.0
"""MB of uncompressed samples, read and written, that a worker processes per second. In the
benchmark of docs/performance.md two workers read 1.07 GB and wrote 1.23 GB in 5.8 s, with the
default method and compressor. Slower storage gives a lower number."""

COMPRESSION = 1.7
"""Uncompressed over stored bytes: of the default compressor in the same benchmark."""

LISTED = 1000
"""Objects in one page of a store's listing."""

_LISTINGS = 2
"""Listings of all objects: before publishing and when verifying."""
_DOCUMENTS = 2
"""Metadata documents of each level, and of the image."""


@dataclass(frozen=True)
class Requests:
    """Requests to the stores, by the classes that providers bill."""

    puts: int
    """Write requests."""
    gets: int
    """Read requests."""
    lists: int
    """Pages of listings: all objects before publishing and when verifying, and halo strips when
    they are removed."""


@dataclass(frozen=True)
class ByteCounts:
    """Bytes that are read, written and stored."""

    bytes_read: int
    """Uncompressed."""
    bytes_written: int
    """Uncompressed."""
    bytes_stored: int
    """Compressed bytes of the levels, and of the cache while it exists."""


@dataclass(frozen=True)
class Assumptions:
    """Figures that depend on the storage and on the image."""

    throughput: float
    """MB per second that one worker reads and writes, uncompressed."""
    compression: float
    """Uncompressed over stored bytes."""


@dataclass(frozen=True)
class Price:
    """The estimate for a build without interruptions.

    Bytes are uncompressed, except ``bytes_stored``.
    """

    objects: int
    """Objects of the finished pyramid: samples and metadata documents."""
    requests: Requests
    byte_counts: ByteCounts
    assumptions: Assumptions

    @property
    def puts(self) -> int:
        """Write requests."""
        return self.requests.puts

    @property
    def gets(self) -> int:
        """Read requests."""
        return self.requests.gets

    @property
    def lists(self) -> int:
        """Pages of listings."""
        return self.requests.lists

    @property
    def bytes_read(self) -> int:
        """Bytes decoded in all phases."""
        return self.byte_counts.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes written in all phases."""
        return self.byte_counts.bytes_written

    @property
    def bytes_stored(self) -> int:
        """Compressed bytes of the levels, and of the cache while it exists."""
        return self.byte_counts.bytes_stored

    @property
    def worker_hours(self) -> float:
        """Hours that one worker takes to read and write the bytes."""
        return (self.bytes_read + self.bytes_written) / (self.throughput * 1e6) / 3600

    @property
    def throughput(self) -> float:
        """MB per second of one worker, as assumed."""
        return self.assumptions.throughput

    @property
    def compression(self) -> float:
        """Uncompressed over stored bytes, as assumed."""
        return self.assumptions.compression

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON values, all figures side by side."""
        return {
            "objects": self.objects,
            **asdict(self.requests),
            **asdict(self.byte_counts),
            "worker_hours": self.worker_hours,
            **asdict(self.assumptions),
        }


def price(
    plan: PyramidPlan,
    projection: Projection,
    *,
    throughput: float = THROUGHPUT,
    compression: float = COMPRESSION,
) -> Price:
    """The estimate for building ``plan`` with workers of ``throughput`` MB/s each.

    The ledger's files are not counted: one is written every few seconds at most.
    """
    for name, value in (("throughput", throughput), ("compression", compression)):
        if not 0 < value < float("inf"):
            raise InvalidOptionError(f"{name}: {value:g} is not a positive number")
    documents = _DOCUMENTS * len(plan.levels) + _DOCUMENTS
    kept = sum(level.objects for level in plan.levels) + documents
    strips = sum(phase.halo_objects for phase in projection.phases)
    strip_bytes = sum(phase.halo_bytes for phase in projection.phases)
    requests = Requests(
        puts=projection.objects + documents,
        gets=projection.requests - projection.objects,
        lists=_LISTINGS * ceil_div(kept, LISTED) + ceil_div(strips, LISTED),
    )
    byte_counts = ByteCounts(
        bytes_read=projection.bytes_read,
        bytes_written=projection.bytes_written,
        bytes_stored=round((projection.bytes_written - strip_bytes) / compression),
    )
    return Price(kept, requests, byte_counts, Assumptions(throughput, compression))
