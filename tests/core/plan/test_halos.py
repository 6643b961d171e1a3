"""Halos: interiors that no two regions share, and halo strips for the rest of each window."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ngff_core.geometry import window_of
from ngff_core.plan.halos import LevelHalos, level_halos
from ngff_core.plan.pyramid_plan import LevelPlan
from tests.support.plans import plan_of


def level(index: int, shape: Any, block: Any, step: Any, chunks: Any = None) -> LevelPlan:
    """A level of which only the cut matters."""
    return LevelPlan(index, str(index), shape, chunks or block, None, block, step, index - 1, step)


@st.composite
def cuts(draw: st.DrawFn) -> LevelHalos:
    """Any blocks and steps, halos beyond the blocks among them."""
    dims = draw(st.integers(1, 3))
    several = st.tuples(*[st.integers(1, {1: 60, 2: 20, 3: 9}[dims])] * dims)
    shape, one, two = draw(several), draw(several), draw(several)
    step = draw(st.tuples(*[st.integers(1, 4)] * dims))
    assume(all(k <= n for k, n in zip(step, shape, strict=True)))
    child = tuple(n // k for n, k in zip(shape, step, strict=True))
    halo = draw(st.tuples(*[st.integers(0, 6)] * dims))
    return LevelHalos(level(0, shape, one, (1,) * dims), level(1, child, two, step), halo)


@given(cuts())
def test_a_window_is_its_interior_and_its_halo_strips(halos: LevelHalos) -> None:
    """Each sample once; a strip lies in the region that saves it, and not in the interior."""
    parent, child = halos.parent, halos.child
    for region in range(child.regions):
        window = window_of(child.region(region), child.step, halos.halo, parent.shape).box
        found = np.zeros(parent.shape, int)
        found[halos.interior(region).slices] += 1
        for saver, strip in halos.strips_for(region):
            own = np.zeros(parent.shape, int)
            own[parent.region(saver).slices] = 1
            for box in strip.boxes:
                assert box.size > 0
                assert own[box.slices].all()
                found[box.slices] += 1
        wanted = np.zeros(parent.shape, int)
        wanted[window.slices] = 1
        assert (found == wanted).all()


@given(cuts())
def test_halo_strips_are_read_where_they_are_saved(halos: LevelHalos) -> None:
    """One after another in their object; the counts that the cost is projected from are right."""
    read = {
        (saver, strip)
        for region in range(halos.child.regions)
        for saver, strip in halos.strips_for(region)
    }
    saved = {region: halos.strips(region) for region in range(halos.parent.regions)}
    assert read == {(region, strip) for region, strips in saved.items() for strip in strips}
    for strips in saved.values():
        for n, strip in enumerate(strips):
            before = sum(s.size for s in strips[:n])
            assert (strip.strips_before, strip.samples_before) == (n, before)
    assert halos.objects == sum(map(bool, saved.values()))
    assert halos.parts == len(read)
    assert halos.size == sum(strip.size for _, strip in read)


@given(cuts(), st.data())
def test_interiors_of_whole_chunks_are_decoded_once(halos: LevelHalos, data: st.DataObject) -> None:
    """Each chunk of the parent for one region, so no more is decoded than the parent has."""
    interiors = [halos.interior(region) for region in range(halos.child.regions)]
    times = np.zeros(halos.parent.shape, int)
    for box in interiors:
        times[box.slices] += 1
    assert times.max() == 1
    chunks = data.draw(st.tuples(*(st.integers(1, n) for n in halos.parent.shape)))
    parent = level(0, halos.parent.shape, halos.parent.block, halos.parent.step, chunks)
    cut = LevelHalos(parent, halos.child, halos.halo)
    decoded, objects = np.zeros(parent.shape, int), 0
    for box in interiors:
        hull = tuple(
            slice(a // c * c, min(n, -(-b // c) * c))
            for a, b, c, n in zip(box.start, box.stop, chunks, parent.shape, strict=True)
        )
        decoded[hull] += 1
        objects += math.prod(
            -(-b // c) - a // c for a, b, c in zip(box.start, box.stop, chunks, strict=True)
        )
    assert cut.decoded == decoded.sum()
    assert cut.readings == objects
    if cut.worthwhile:
        assert decoded.max() == 1


@pytest.mark.parametrize(
    ("dims", "shape", "options", "levels"),
    [
        ("zyx", (1024, 1024, 1024), {}, {1}),
        ("yx", (40000, 40000), {}, {1, 2, 3}),
        ("tczyx", (3, 2, 1024, 1024, 1024), {}, {1}),
        ("zyx", (1024, 1024, 1024), {"method": "itkwasm_bin_shrink"}, set()),
        ("zyx", (400, 400, 400), {}, set()),
        ("zyx", (1024, 1024, 1024), {"scale_factors": [2, 3, 6]}, {1, 2}),
    ],
)
def test_halo_strips_are_saved_where_much_would_be_decoded_again(
    dims: str, shape: Any, options: Any, levels: set[int]
) -> None:
    """For a kernel with a halo, and levels of several regions."""
    plan = plan_of(dims, shape, **{"scale_factors": [2, 4, 8], **options})
    assert set(level_halos(plan, streamed=())) == levels
    assert set(level_halos(plan, streamed=(1,))) == levels - {1}
