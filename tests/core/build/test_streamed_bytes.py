"""Streamed, read back, or resumed from any remains: the same objects, byte for byte."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import Methods, NgffImage, build_pyramid
from ngff_core.build import planning
from ngff_core.build.build import Build
from ngff_core.plan.options import BuildOptions
from ngff_core.plan.projection import project
from ngff_core.plan.pyramid_plan import PyramidPlan
from tests.support.folders import files

METHODS = [m for m in Methods if not m.startswith("itk_")]
UNEVEN = [{"z": 1, "y": 2, "x": 2}, {"z": 2, "y": 4, "x": 4}]
IMAGES: list[tuple[str, tuple[int, ...], Any]] = [
    ("yx", (90, 71), [2, 4, 8]),
    ("yx", (72, 80), [2, 3, 6]),
    ("zyx", (20, 37, 34), UNEVEN),
    ("cyx", (3, 40, 36), [2, 3, 6]),
    ("tczyx", (2, 2, 10, 20, 18), UNEVEN),
]
SAMPLES = {
    shape: np.random.default_rng(11).integers(0, 7, shape, "u2") * 9000 for _, shape, _ in IMAGES
}
every_image = pytest.mark.parametrize(
    ("dims", "shape", "factors"), IMAGES, ids=["2-D", "skipping", "uneven", "channels", "5-D"]
)
every_method = pytest.mark.parametrize("method", METHODS)


def image(dims: str, shape: tuple[int, ...]) -> NgffImage:
    return NgffImage(SAMPLES[shape], dims)


def options(method: Methods, factors: Any, **given: Any) -> dict[str, Any]:
    return {"method": method, "scale_factors": factors, "chunks": 8, "shards": 16, **given}


@every_method
@every_image
def test_streamed_and_read_back_are_one(
    method: Methods, dims: str, shape: Any, factors: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The one by three workers in memory, the other level by level from storage."""
    streamed = build_pyramid(
        image(dims, shape), tmp_path / "streamed", **options(method, factors, workers=3)
    )
    assert streamed.verified
    found = []

    def apart(*given: Any, **named: Any) -> Any:
        found.append(project(*given, **(named | {"stream": False})))
        return found[-1]

    monkeypatch.setattr(planning, "project", apart)
    build_pyramid(image(dims, shape), tmp_path / "apart", **options(method, factors, workers=1))
    assert found[0].streamed == ()
    assert files(tmp_path / "streamed") == files(tmp_path / "apart")


@every_method
@every_image
@pytest.mark.parametrize("nbytes", [1, 300])
def test_windows_of_any_size_give_the_same(
    method: Methods, dims: str, shape: Any, factors: Any, nbytes: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A tile in one piece, or cut into parts as small as they come."""
    given = options(method, factors, workers=2)
    build_pyramid(image(dims, shape), tmp_path / "whole", **given)
    monkeypatch.setattr("ngff_core.plan.dependencies.PART_BYTES", nbytes)
    monkeypatch.setattr("ngff_core.plan.dependencies._LEAST_PART", 2)
    build_pyramid(image(dims, shape), tmp_path / "parts", **given)
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


@every_image
def test_too_little_memory_to_stream_changes_nothing(
    dims: str, shape: Any, factors: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As little as takes a build that reads every level back."""
    monkeypatch.setattr("ngff_core.plan.projection.PROCESS_BYTES", 0)
    given = options(Methods.ITKWASM_GAUSSIAN, factors, workers=2)
    with Build.open(image(dims, shape), tmp_path / "much", BuildOptions(**given)) as much:
        assert len(much.planned.projection.streamed) == len(factors)
        apart = project(
            much.plan, (1,) * len(dims), cached=False, workers=1, memory_limit=2**40, stream=False
        )
    build_pyramid(image(dims, shape), tmp_path / "much", **given)
    given["memory_limit"] = apart.peak_bytes
    build_pyramid(image(dims, shape), tmp_path / "little", **given)
    assert files(tmp_path / "much") == files(tmp_path / "little")


@every_image
@pytest.mark.parametrize(("method", "seed"), [(METHODS[0], 0), (METHODS[2], 1)])
def test_what_is_lost_before_publishing_is_made_again(
    method: Methods, seed: int, dims: str, shape: Any, factors: Any, tmp_path: Path
) -> None:
    """Any objects of any levels, of a build that has all its receipts and no document yet."""
    target, given = tmp_path / "image", options(method, factors)
    with Build.open(image(dims, shape), target, BuildOptions(**given)) as unpublished:
        for level in unpublished.plan.levels:
            unpublished.write_level(level.index)
        plan: PyramidPlan = unpublished.plan
    whole = files(target)
    rng, lost = random.Random(seed), 0
    for level in plan.levels:
        share = rng.choice([0.0, 0.1, 0.6, 1.0])
        for path in sorted((target / level.path / "c").rglob("*")):
            if path.is_file() and rng.random() < share:
                path.unlink()
                lost += 1
    report = build_pyramid(image(dims, shape), target, **given, workers=1 + seed)
    assert report.verified
    assert report.fresh == lost
    found = files(target)
    assert {name: found[name] for name in whole} == whole


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_levels_asked_for_in_any_order_are_the_same(workers: int, tmp_path: Path) -> None:
    """The coarsest first, or by a thread for each."""
    given = options(Methods.ITKWASM_GAUSSIAN, [2, 4], workers=workers)
    make = partial(image, "zyx", (20, 37, 34))
    build_pyramid(make(), tmp_path / "a", **given)
    with Build.open(make(), tmp_path / "b", BuildOptions(**given)) as backwards:
        for level in (2, 0, 1):
            backwards.write_level(level)
            assert backwards.level_done(level)
        backwards.publish()
    assert files(tmp_path / "a") == files(tmp_path / "b")
