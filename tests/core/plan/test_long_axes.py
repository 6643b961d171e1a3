"""Planning an axis of a billion samples takes as long as one of thousands."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

import zarr
from hypothesis import given
from hypothesis import strategies as st

from ngff_core import check_build
from ngff_core.geometry import Region, blocks_touched, ceil_div
from ngff_core.plan import costs
from ngff_core.plan.costs import repeated
from ngff_core.plan.source_cache import _units_decoded


@given(n=st.integers(1, 400), block=st.integers(1, 60), unit=st.integers(1, 500))
def test_units_decoded_are_those_that_blocks_touch(n: int, block: int, unit: int) -> None:
    """Counted by arithmetic, equal to counting block by block."""
    spans = (Region((a,), (min(a + block, n),)) for a in range(0, n, block))
    assert _units_decoded(n, block, unit) == sum(blocks_touched(s, (unit,)) for s in spans)


@given(
    n=st.integers(1, 3000),
    block=st.integers(1, 40),
    unit=st.integers(1, 70),
    halo=st.integers(0, 9),
)
def test_figures_that_repeat_are_those_of_every_block(
    n: int, block: int, unit: int, halo: int
) -> None:
    """Their sum, and the largest."""

    def figures(number: int) -> tuple[int, ...]:
        start = max(0, number * block - halo)
        stop = min(n, (number + 1) * block + halo)
        return (stop - start, blocks_touched(Region((start,), (stop,)), (unit,)))

    count, period = ceil_div(n, block), unit
    with patch.object(costs, "_FEW", 0):
        found = repeated(figures, count, period, halo)
    every = [figures(number) for number in range(count)]
    for place in (0, 1):
        assert sum(each[place] * times for each, times in found) == sum(e[place] for e in every)
        assert max(each[place] for each, _ in found) == max(e[place] for e in every)


def test_an_axis_of_a_billion_is_planned_in_seconds(tmp_path: Path) -> None:
    """Nothing but a header says so; it took minutes to for ever."""
    zarr.create_array(
        tmp_path / "a",
        shape=(64, 10**9),
        chunks=(64, 512),
        dtype="u1",
        dimension_names=["y", "x"],
    )
    began = time.process_time()
    check_build(tmp_path / "a", tmp_path / "out")
    assert time.process_time() - began < 10
