"""Strips beside the target: kept by who stores a region, read by who looks into it.

They spare decoding and decide no sample: one that is absent or damaged is decoded from the
level itself. So they need no receipts, and go when the level that they are for is whole.
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
from ngff_core.storage import ObjectStore, delete_below, for_each, retrying

_FOLDER = "borders-"
_MARK = "begun.json"
_CRC_BYTES = 4


class HaloFiles:
    """The strips for one level, kept in the store beside the target.

    An object holds those of one region of the parent: of each strip the samples, box by box
    in C order, little-endian, and a CRC-32C, which begins with that of the plan's digest
    and the numbers of the two regions. Threads may share one of these.
    """

    def __init__(self, beside: ObjectStore, plan: PyramidPlan, halos: LevelHalos) -> None:
        self._beside = beside
        self._halos = halos
        self._dtype = plan.dtype
        self._digest = plan.digest
        self._folder = f"{_FOLDER}{halos.child.index}"

    @classmethod
    def of(
        cls, beside: ObjectStore, plan: PyramidPlan, streamed: Collection[int]
    ) -> dict[int, HaloFiles]:
        """Those of a build in which some levels are ``streamed``, by the level they are for."""
        return {
            index: cls(beside, plan, halos) for index, halos in level_halos(plan, streamed).items()
        }

    @property
    def parent(self) -> int:
        """The level whose samples they are."""
        return self._halos.parent.index

    def begin(self) -> None:
        """Leave word that there are some, for stores that cannot be listed."""
        told = {"level": self._halos.child.path, "of": self._halos.parent.path}
        retrying(self._beside.write, self._mark, json.dumps(told).encode())

    def keep(self, region: int, samples: BlockedArray) -> None:
        """Keep what other regions' windows have of a region of the parent."""
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
        """What a region of the level is alone to read of its parent."""
        return self._halos.interior(region)

    def fill(self, region: int, box: Region, window: Block) -> list[Region]:
        """Fill what is beyond a region's bins into the window of the parent's ``box``.

        The boxes of it for which no strip was found come back.
        """

        def bring(given: tuple[int, HaloStrip]) -> tuple[Region, ...]:
            giver, strip = given
            data = self._read(giver, strip)
            if data is None:
                return strip.boxes
            samples, start = np.frombuffer(data, self._dtype), 0
            for part in strip.boxes:
                found = samples[start : start + part.size]
                window[within(part, box)] = found.reshape(part.shape)
                start += part.size
            return ()

        missing = for_each(self._beside, bring, self._halos.givers(region))
        return [part for boxes in missing for part in boxes]

    def _read(self, giver: int, strip: HaloStrip) -> memoryview | None:
        size = strip.size * self._dtype.itemsize
        start = strip.before * self._dtype.itemsize + strip.place * _CRC_BYTES
        found = retrying(self._beside.read_part, self._key(giver), start, size + _CRC_BYTES)
        if found is None or len(found) != size + _CRC_BYTES:
            return None
        data = memoryview(found)[:size]
        return data if self._crc(giver, strip, data) == found[size:] else None

    def _crc(self, region: int, strip: HaloStrip, data: bytes | memoryview) -> bytes:
        what = f"{self._digest}/{strip.child}/{region}".encode()
        return int(crc32c.crc32c(data, crc32c.crc32c(what))).to_bytes(_CRC_BYTES, "little")

    def _key(self, region: int) -> str:
        parent = self._halos.parent
        at = position(region, grid_shape(parent.shape, parent.block))
        return f"{self._folder}/{'/'.join(map(str, at))}"

    def remove(self) -> None:
        """Remove all of them, and then the word of them."""
        regions = range(self._halos.parent.regions)
        delete_below(self._beside, self._folder, lambda: map(self._key, regions))
        retrying(self._beside.delete, self._mark)

    def remove_if_begun(self) -> None:
        """Remove all of them, where there is word of any."""
        if retrying(self._beside.read, self._mark) is not None:
            self.remove()

    @property
    def _mark(self) -> str:
        return f"{self._folder}/{_MARK}"


def is_strip(key: str) -> bool:
    """Whether an object beside a target is of strips."""
    return key.startswith(_FOLDER)


def remove_halos(
    beside: ObjectStore, plan: PyramidPlan | None, listed: Collection[str] | None = None
) -> None:
    """Remove all strips that any run of a build left; ``listed`` are the store's keys if known.

    Where the store cannot be listed, the plan says what there may be.
    """
    try:
        keys = retrying(beside.objects) if listed is None else listed
    except UnlistableError:
        for files in HaloFiles.of(beside, plan, ()).values() if plan else ():
            files.remove_if_begun()
        return
    for folder in {key.partition("/")[0] for key in keys if is_strip(key)}:
        retrying(beside.delete_tree, folder)
