"""Targets for all images of a source."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.build.series import SeriesTarget, safe_names, series_targets


def test_the_only_image_gets_a_target_in_the_folder() -> None:
    """By its own name."""
    found = series_targets(np.zeros((64, 64), "u1"), "memory://out/all/")
    assert found == (SeriesTarget(0, "memory://out/all/image.ome.zarr"),)


@given(st.lists(st.none() | st.text(max_size=200), min_size=1, max_size=8))
def test_names_are_different_and_safe(names: list[str | None]) -> None:
    """On file systems that fold case, too; none leaves its folder."""
    found = safe_names(names, range(len(names)))
    assert len({name.casefold() for name in found}) == len(found)
    for name in found:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name)
        assert len(name) < 140
