"""The samples that decide how a pyramid is shown: few, evenly spread, and the plan's choice."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngff_core.blocks import BlockedArray, carve
from ngff_core.geometry import grid_shape, position
from ngff_core.model.channels import RGB, Channel
from ngff_core.plan import sampling
from ngff_core.plan.pyramid_plan import PyramidPlan
from ngff_core.plan.sampling import MOST_REGIONS, MOST_SAMPLES, Sampling, channels_of, is_labels
from tests.support.plans import plan_of

Shape = tuple[int, ...]


def single(dims: str, shape: Shape, block: Shape, dtype: str = "<u2") -> Sampling:
    """Of an image of one level, cut into regions of this shape."""
    plan = plan_of(dims, shape, dtype, scale_factors=[])
    (level,) = plan.levels
    found = Sampling.of(replace(plan, levels=(replace(level, block=block, shards=None),)))
    assert found is not None
    return found


def counted(found: Sampling, region: int) -> int:
    """Samples that are counted of a region, of all its channels."""
    return math.prod(grid_shape(found.level.region(region).shape, found.strides))


def test_of_a_small_level_every_sample_is_counted() -> None:
    found = single("czyx", (2, 30, 50, 40), (1, 16, 16, 16))
    assert found.regions == tuple(range(found.level.regions))
    assert found.strides == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("dims", "shape", "block"),
    [
        ("yx", (2**20, 2**20), (4096, 4096)),
        ("zyx", (8192, 8192, 8192), (256, 256, 256)),
        ("tczyx", (500, 2, 40, 2048, 2048), (1, 1, 40, 1024, 1024)),
        ("cyx", (3, 65536, 65536), (3, 2048, 2048)),
    ],
)
def test_of_a_large_level_few_samples_are_counted(dims: str, shape: Shape, block: Shape) -> None:
    """At most some million of at most 64 regions; not much fewer either."""
    found = single(dims, shape, block)
    assert 48 <= len(found.regions) <= MOST_REGIONS
    channels = len(found.channels(0))
    total = sum(counted(found, region) for region in found.regions)
    assert MOST_SAMPLES / 8 <= total <= MOST_SAMPLES
    assert counted(found, 0) >= channels * sampling.LEAST_OF_A_CHANNEL / 2
    assert all(k == 1 or k % 2 for k in found.strides)


def test_every_channel_is_looked_at_and_no_part_is_left_out() -> None:
    """Of a level of 3 x 16 x 16 regions: about as often each."""
    found = single("cyx", (3, 4096, 4096), (1, 256, 256))
    places = [position(region, (3, 16, 16)) for region in found.regions]
    assert len(places) == 63
    assert np.bincount([place[0] for place in places]).tolist() == [21, 21, 21]
    for axis in (1, 2):
        looked_at = sorted({place[axis] for place in places})
        assert len(looked_at) >= 11
        assert max(np.diff([-1, *looked_at, 16])) <= 3


def test_of_too_many_channels_some_are_looked_at() -> None:
    """Never more regions than in any other level."""
    found = single("cyx", (1000, 64, 64), (1, 64, 64))
    assert len(found.regions) == MOST_REGIONS
    assert max(found.regions) > 900


@given(
    st.lists(st.integers(1, 30), min_size=3, max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_the_samples_counted_do_not_depend_on_the_arrays_of_a_region(
    shape: list[int], block: list[int], cell: list[int]
) -> None:
    """Neither on how it is cut: they are at the same places of the region."""
    found = single("cyx", tuple(shape), tuple(block), "<u2")
    image = np.arange(math.prod(shape), dtype="u2").reshape(shape)
    object.__setattr__(found, "strides", (1, 3, 5))
    for region in itertools.islice(found.regions, 3):
        box = found.level.region(region)
        cells = carve(box, tuple(cell), np.empty(box.size, "u2"))
        for part, array in cells:
            array[...] = image[part.slices]
        cut = BlockedArray(box, tuple(cell), tuple(array for _, array in cells))
        for channel, summary in zip(
            found.channels(region), found.summaries(region, cut), strict=True
        ):
            expected = image[box.slices][channel - box.start[0], ::3, ::5]
            values, counts = np.unique(expected, return_counts=True)
            assert (summary.bins.tolist(), summary.counts.tolist()) == (
                values.tolist(),
                counts.tolist(),
            )


def with_image(plan: PyramidPlan, **changes: object) -> PyramidPlan:
    return replace(plan, image=replace(plan.image, **changes))  # type: ignore[arg-type]


def test_nothing_is_counted_where_it_would_change_nothing() -> None:
    """Labels have no channels, color images their full range, complex numbers no order."""
    plan = plan_of("cyx", (3, 64, 64), "|u1", scale_factors=[2])
    assert Sampling.of(plan) is not None
    assert Sampling.of(with_image(plan, channels=RGB)) is None
    assert Sampling.of(with_image(plan, labels=True)) is None
    assert Sampling.of(plan_of("yx", (64, 64), "<c8", scale_factors=[])) is None
    labels = plan_of("yx", (64, 64), method="itkwasm_label_image", scale_factors=[2])
    assert is_labels(labels)
    assert Sampling.of(labels) is None


def test_an_image_without_the_axis_has_one_channel() -> None:
    """Whose name the source may know."""
    plan = plan_of("zyx", (4, 64, 64))
    assert channels_of(plan) == (Channel(),)
    assert channels_of(with_image(plan, channels=(Channel("CT"),))) == (Channel("CT"),)
    assert channels_of(plan_of("cyx", (2, 64, 64))) == (Channel(), Channel())


def test_that_samples_are_labels_does_not_change_the_digest() -> None:
    """Plans stored before this was known are the same plans."""
    plan = plan_of("yx", (64, 64))
    labels = with_image(plan, labels=True)
    assert labels.digest == plan.digest
    assert PyramidPlan.from_json(labels.to_json()).image.labels
    assert b"labels" not in plan.to_json()
