"""What a plan comes to in requests, bytes and hours: what a bill and a calendar ask for."""

from __future__ import annotations

from dataclasses import dataclass

from ngff_core.errors import InvalidOptionError
from ngff_core.geometry import ceil_div
from ngff_core.plan.projection import Projection
from ngff_core.plan.pyramid_plan import PyramidPlan

THROUGHPUT = 200.0
"""MB of raw samples, read and written, that a worker gets through in a second. In
docs/performance.md's benchmark two workers read 1.07 GB and wrote 1.23 GB in 5.8 s, with
the default method and compressor; storage that is slower sets another pace."""

COMPRESSION = 1.7
"""Raw over stored bytes: what the default compressor came to in the same benchmark."""

LISTED = 1000
"""Objects that a store names in one reply to a listing."""

_LISTINGS = 2
_DOCUMENTS = 2


@dataclass(frozen=True)
class Price:
    """What a build comes to that runs once through. Bytes are raw but for ``bytes_stored``."""

    objects: int
    """Objects that stay: those of the samples and the documents."""
    puts: int
    gets: int
    lists: int
    """Pages of listings: before publishing everything is listed once, verifying once more, and
    strips of regions when they are removed."""
    bytes_read: int
    bytes_written: int
    bytes_stored: int
    """Bytes of the levels' objects, and of the cache while there is one, compressed."""
    worker_hours: float
    throughput: float
    compression: float


def price(
    plan: PyramidPlan,
    projection: Projection,
    *,
    throughput: float = THROUGHPUT,
    compression: float = COMPRESSION,
) -> Price:
    """What building ``plan`` comes to, with workers of ``throughput`` MB/s each.

    The ledger's segments are not counted: there is at most one for some seconds of work.
    """
    for name, value in (("throughput", throughput), ("compression", compression)):
        if not 0 < value < float("inf"):
            raise InvalidOptionError(f"{name}: {value:g} is not a positive number")
    documents = _DOCUMENTS * len(plan.levels) + _DOCUMENTS
    kept = sum(level.objects for level in plan.levels) + documents
    strips = sum(phase.halo_objects for phase in projection.phases)
    strip_bytes = sum(phase.halo_bytes for phase in projection.phases)
    moved = projection.bytes_read + projection.bytes_written
    return Price(
        objects=kept,
        puts=projection.objects + documents,
        gets=projection.requests - projection.objects,
        lists=_LISTINGS * ceil_div(kept, LISTED) + ceil_div(strips, LISTED),
        bytes_read=projection.bytes_read,
        bytes_written=projection.bytes_written,
        bytes_stored=round((projection.bytes_written - strip_bytes) / compression),
        worker_hours=moved / (throughput * 1e6) / 3600,
        throughput=throughput,
        compression=compression,
    )
