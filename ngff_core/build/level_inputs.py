"""What the regions of a level are computed from: the array of its parent, and halo files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ngff_core.blocks import ArrayLike
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.pyramid.level_io import open_level
from ngff_core.records.halo_files import HaloFiles
from ngff_core.records.stored_build import StoredBuild


@dataclass(frozen=True)
class LevelHaloFiles:
    """The halo files of one level: those it reads, and those it writes for its children."""

    read: HaloFiles | None = None
    written: Sequence[HaloFiles] = ()

    @classmethod
    def of(
        cls,
        halos: Mapping[int, HaloFiles],
        level: int,
        is_complete: Callable[[int], bool] = lambda _child: False,
    ) -> LevelHaloFiles:
        """Those of a level, out of all of a build by the level that reads them.

        None is written for a child that is complete.
        """
        written = [
            files
            for child, files in halos.items()
            if files.parent == level and not is_complete(child)
        ]
        return cls(halos.get(level), written)


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
