"""Halo strips in the build folder: written with a region, read for the regions that need them.

They save decoding and decide no sample: where a halo strip is absent or damaged, its samples are
decoded from the level itself. So they need no receipts, and are removed when the level that they
are for is finished.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

import crc32c
import numpy as np

from ngff_core.blocks import Block, BlockedArray
from ngff_core.errors import UnlistableError
from ngff_core.geometry import Region, grid_shape, position, within
from ngff_core.plan.halos import HaloStrip, LevelHalos, level_halos
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.records.build_folder import halo_key, halos_folder, halos_mark_key, is_halo
from ngff_core.storage import ObjectStore, delete_below, for_each, retrying

_CRC_BYTES = 4


class HaloFiles:
    """The halo strips for one level, stored in the build folder ``beside`` the target.

    One object holds the halo strips of one region of the parent. Of each strip it has the
    samples, box by box in C order, little-endian, and then a CRC-32C of the digest of the plan,
    the numbers of the two regions, and these samples. Threads may share an instance.
    """

    def __init__(self, beside: ObjectStore, plan: PyramidPlan, halos: LevelHalos) -> None:
        self._beside = beside
        self._halos = halos
        self._dtype = plan.dtype
        self._digest = plan.digest

    @classmethod
    def of(
        cls, beside: ObjectStore, plan: PyramidPlan, streamed: Collection[int]
    ) -> dict[int, HaloFiles]:
        """The halo strips of a build, by the level that they are for.

        ``streamed`` are the levels that are computed together with their parent, which need none.
        """
        return {
            index: cls(beside, plan, halos) for index, halos in level_halos(plan, streamed).items()
        }

    @property
    def parent(self) -> int:
        """Number of the level that the samples belong to."""
        return self._halos.parent.index

    def begin(self) -> None:
        """Write a mark that there are halo strips, for stores that cannot be listed."""
        mark = {"level": self._halos.child.path, "of": self._halos.parent.path}
        retrying(self._beside.write, self._mark_key, json.dumps(mark).encode())

    def keep(self, region: int, samples: BlockedArray) -> None:
        """Store what other regions need of a region of the parent; ``samples`` are its own."""
        strips = self._halos.strips(region)
        if strips:
            samples = samples.astype(self._dtype)
            parts = (part for strip in strips for part in self._packed(region, strip, samples))
            retrying(self._beside.write, self._key(region), b"".join(parts))

    def _packed(self, region: int, strip: HaloStrip, samples: BlockedArray) -> Iterator[bytes]:
        data = b"".join(samples.part(box).tobytes() for box in strip.boxes)
        yield data
        yield self._crc(region, strip, data)

    def interior(self, region: int) -> Region:
        """The box of the parent that a region of the level reads from the parent itself."""
        return self._halos.interior(region)

    def fill(self, region: int, box: Region, window: Block) -> list[Region]:
        """Fill the halo strips of a region of the level into ``window``.

        ``window`` holds the samples of the parent's ``box``; its interior is left as it is.
        Returns the boxes whose halo strips are absent or damaged.
        """

        def fill_one(item: tuple[int, HaloStrip]) -> tuple[Region, ...]:
            parent_region, strip = item
            data = self._read(parent_region, strip)
            if data is None:
                return strip.boxes
            samples, start = np.frombuffer(data, self._dtype), 0
            for part in strip.boxes:
                values = samples[start : start + part.size]
                window[within(part, box)] = values.reshape(part.shape)
                start += part.size
            return ()

        missing = for_each(self._beside, fill_one, self._halos.strips_for(region))
        return [part for boxes in missing for part in boxes]

    def _read(self, parent_region: int, strip: HaloStrip) -> memoryview | None:
        """The samples of a halo strip; None where it is absent or damaged."""
        size = strip.size * self._dtype.itemsize
        start = strip.samples_before * self._dtype.itemsize + strip.strips_before * _CRC_BYTES
        key = self._key(parent_region)
        stored = retrying(self._beside.read_part, key, start, size + _CRC_BYTES)
        if stored is None or len(stored) != size + _CRC_BYTES:
            return None
        data = memoryview(stored)[:size]
        return data if self._crc(parent_region, strip, data) == stored[size:] else None

    def _crc(self, parent_region: int, strip: HaloStrip, data: bytes | memoryview) -> bytes:
        identity = f"{self._digest}/{strip.child}/{parent_region}".encode()
        checksum = int(crc32c.crc32c(data, crc32c.crc32c(identity)))
        return checksum.to_bytes(_CRC_BYTES, "little")

    def _key(self, parent_region: int) -> str:
        parent = self._halos.parent
        at = position(parent_region, grid_shape(parent.shape, parent.block))
        return halo_key(self._halos.child.index, at)

    def remove(self) -> None:
        """Remove all halo strips for the level, and their mark after them."""
        regions = range(self._halos.parent.regions)
        folder = halos_folder(self._halos.child.index)
        delete_below(self._beside, folder, lambda: map(self._key, regions))
        retrying(self._beside.delete, self._mark_key)

    def remove_if_begun(self) -> None:
        """Remove all halo strips for the level where there is a mark of any."""
        if retrying(self._beside.read, self._mark_key) is not None:
            self.remove()

    @property
    def _mark_key(self) -> str:
        return halos_mark_key(self._halos.child.index)


def remove_halos(
    beside: ObjectStore, plan: PyramidPlan | None, listed: Collection[str] | None = None
) -> None:
    """Remove all halo strips that any run of a build left, those of older versions too.

    ``listed`` are the keys of the build folder, if they are known already. Where it cannot be
    listed, the ``plan`` says what may be there; without a plan nothing is removed then.
    """
    try:
        keys = retrying(beside.objects) if listed is None else listed
    except UnlistableError:
        for files in HaloFiles.of(beside, plan, ()).values() if plan else ():
            files.remove_if_begun()
        return
    for folder in {key.partition("/")[0] for key in keys if is_halo(key)}:
        retrying(beside.delete_tree, folder)
