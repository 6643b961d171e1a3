"""A local target and the folder beside it, with the requests that are made to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ngff_core import build_pyramid
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.records.stored_build import StoredBuild
from tests.support.stores import WatchedStore

OPTIONS: dict[str, Any] = {"chunks": 8, "shards": 16, "scale_factors": [2]}
"""4 regions of level 0, and 1 of level 1."""

IMAGE = np.arange(32 * 32, dtype="u2").reshape(32, 32)


class Place:
    """A target, and the folder beside it."""

    def __init__(self, folder: Path, **how: Any) -> None:
        self.uri = folder / "a.ome.zarr"
        self.target = WatchedStore(self.uri, **how)
        self.beside = WatchedStore(folder / "a.ome.zarr.build", **how)

    def built(self, **options: Any) -> Place:
        """With a finished pyramid."""
        assert build_pyramid(IMAGE, self.uri, **{**OPTIONS, **options}).verified
        return self

    @property
    def plan(self) -> PyramidPlan:
        return PyramidPlan.from_json((self.beside.root / "plan.json").read_bytes())

    def wanted(self, plan: PyramidPlan | None = None) -> StoredBuild:
        return StoredBuild.begin(self.target, self.beside, plan or self.plan)

    def stored(self) -> StoredBuild:
        return StoredBuild.load(self.target, self.beside)

    def forget(self) -> None:
        """Forget the requests so far."""
        self.target.asked.clear()
        self.beside.asked.clear()

    @property
    def asked(self) -> list[str]:
        return self.target.asked + self.beside.asked
