"""What the regions of a level are computed from, and what is kept of them beside the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ngff_core.blocks import ArrayLike, BlockedArray
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.pyramid.level_io import open_level
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.stored_build import StoredBuild
from ngff_core.records.summary_files import SummaryFiles


class KeptFiles(Protocol):
    """Files in the build folder that keep something of each region."""

    def keep(self, region: int, samples: BlockedArray) -> None:
        """Keep it of a region with these samples."""
        ...


@dataclass(frozen=True)
class LevelFiles:
    """The files in the build folder that one level uses beside its ledger.

    Attributes
    ----------
    halos
        The halo files that it reads.
    written
        What it writes with each region: halo files for its children, summaries of samples.
    """

    halos: HaloFiles | None = None
    written: Sequence[KeptFiles] = ()

    @classmethod
    def of(
        cls,
        halos: Mapping[int, HaloFiles],
        level: int,
        summaries: SummaryFiles | None = None,
        is_complete: Callable[[int], bool] = lambda _child: False,
    ) -> LevelFiles:
        """Those of a level, out of all of a build: ``halos`` by the level that reads them.

        No halo file is written for a child that is complete.
        """
        written: list[KeptFiles] = [
            files
            for child, files in halos.items()
            if files.parent == level and not is_complete(child)
        ]
        if summaries is not None and summaries.level == level:
            written.append(summaries)
        return cls(halos.get(level), written)

    def keep(self, region: int, samples: BlockedArray) -> None:
        """Keep what is wanted of a region, before it is stored."""
        for files in self.written:
            files.keep(region, samples)


def open_parent(
    build: StoredBuild,
    level: LevelPlan,
    cache: PyramidPlan | None,
    source: Callable[[], ArrayLike],
) -> ArrayLike:
    """The array that a level is computed from.

    That is the level's parent; for level 0 the cache, if the build has one (``cache`` is
    its plan), else the source.
    """
    if level.parent is not None:
        return open_level(build.target, build.plan, build.plan.levels[level.parent])
    if cache is not None:
        return open_level(build.beside, cache, cache.levels[0])
    return source()
