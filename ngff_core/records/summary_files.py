"""Summaries of samples in the build folder, written with each region that has some.

They save reading and decide nothing that could not be found again: where one is absent or
damaged, the region is read and counted again. So they need no receipts, and are removed once the
pyramid is published.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import crc32c
import numpy as np

from ngff_core.blocks import BlockedArray
from ngff_core.model.display import Summary
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.sampling import Sampling
from ngff_core.records.build_folder import SUMMARIES, is_summary, summary_key
from ngff_core.storage import ObjectStore, delete_below, retrying

_CRC_BYTES = 4
_HEAD = struct.Struct("<ddI")
"""Of one summary: its lowest and highest sample, and the number of its bins."""


class SummaryFiles:
    """The summaries of the samples of a build, in the build folder ``beside`` the target.

    One object holds those of one region, a summary for each of its channels: the CRC-32C of the
    digest of the plan, the number of the region and the rest; and the rest, compressed. Those
    that this instance has written are kept in memory too. Threads may share an instance.
    """

    def __init__(self, beside: ObjectStore, sampling: Sampling) -> None:
        self._beside = beside
        self.sampling = sampling
        self._wanted = frozenset(sampling.regions)
        self._written: dict[int, bytes] = {}

    @classmethod
    def of(cls, beside: ObjectStore, plan: PyramidPlan) -> SummaryFiles | None:
        """Those of a build; None where no samples are counted."""
        sampling = Sampling.of(plan)
        return None if sampling is None else cls(beside, sampling)

    @property
    def level(self) -> int:
        """Number of the level whose samples are counted."""
        return self.sampling.level.index

    def keep(self, region: int, samples: BlockedArray) -> None:
        """Count the samples of a region, and store the result if it is one of those wanted."""
        if region in self._wanted:
            samples = samples.astype(self.sampling.plan.dtype)
            packed = self._signed(region, _packed(self.sampling.summaries(region, samples)))
            retrying(self._beside.write, summary_key(region), packed)
            self._written[region] = packed

    def read(self, region: int) -> list[Summary] | None:
        """The summaries of a region, one for each channel; None if they are absent or damaged."""
        stored = self._written.get(region)
        if stored is None:
            stored = retrying(self._beside.read, summary_key(region))
        if stored is None or stored != self._signed(region, stored[_CRC_BYTES:]):
            return None
        with suppress(zlib.error, struct.error, ValueError):
            found = list(_unpacked(stored[_CRC_BYTES:], self.sampling.plan.dtype))
            return found if len(found) == len(self.sampling.channels(region)) else None
        return None

    def remove(self) -> None:
        """Remove all summaries."""
        self._written.clear()
        remove_summaries(self._beside, self.sampling.plan)

    def _signed(self, region: int, packed: bytes) -> bytes:
        identity = f"{self.sampling.plan.digest}/{SUMMARIES}/{region}".encode()
        checksum = int(crc32c.crc32c(packed, crc32c.crc32c(identity)))
        return checksum.to_bytes(_CRC_BYTES, "little") + packed


def remove_summaries(
    beside: ObjectStore, plan: PyramidPlan | None, listed: Collection[str] | None = None
) -> None:
    """Remove all summaries that a build left.

    ``listed`` are the keys of the build folder, if they are known already. Where it cannot be
    listed, the ``plan`` says what may be there; without a plan nothing is removed then.
    """
    if listed is not None and not any(map(is_summary, listed)):
        return
    sampling = None if plan is None else Sampling.of(plan)
    regions = () if sampling is None else sampling.regions
    delete_below(beside, SUMMARIES, lambda: map(summary_key, regions))


def _packed(summaries: Sequence[Summary]) -> bytes:
    parts: list[bytes] = []
    for one in summaries:
        parts.append(_HEAD.pack(one.low, one.high, len(one.bins)))
        parts += one.bins.astype("<u2").tobytes(), one.counts.astype("<u4").tobytes()
    return zlib.compress(b"".join(parts), 1)


def _unpacked(packed: bytes, dtype: np.dtype[Any]) -> Iterator[Summary]:
    data, at = zlib.decompress(packed), 0
    while at < len(data):
        low, high, count = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        bins = np.frombuffer(data, "<u2", count, at)
        at += bins.nbytes
        counts = np.frombuffer(data, "<u4", count, at)
        at += counts.nbytes
        yield Summary(dtype, low, high, bins.astype(np.uint16), counts.astype(np.int64))
