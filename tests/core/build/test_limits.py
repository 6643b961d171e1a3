"""Notes on what readers cannot read or show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import BuildOptions, build_pyramid, plan_pyramid
from ngff_core.build.limits import limits_of
from tests.support.plans import plan_of


def texts(dtype: str = "<u2", shape: tuple[int, ...] = (64, 64), **options: Any) -> list[str]:
    options = {"scale_factors": []} | options
    return [str(note) for note in limits_of(plan_of("yx", shape, dtype, **options))]


def test_what_every_reader_takes_has_no_note() -> None:
    for dtype in ("|u1", "<u2", "<i2", "<f4", "<u4"):
        assert texts(dtype, scale_factors=[2, 4]) == []


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("|b1", "samples of bool"),
        ("<f2", "samples of float16"),
        ("<c8", "complex samples"),
        ("<c16", "complex samples"),
        ("<i8", "64-bit integers"),
        ("<u8", "64-bit integers"),
    ],
)
def test_samples_that_viewers_refuse_have_one(dtype: str, words: str) -> None:
    [text] = texts(dtype)
    assert text.startswith("limited: ")
    assert words in text


def test_so_has_the_newest_version() -> None:
    [text] = texts(ome_zarr_version="0.6")
    assert "0.6 is not read yet by Neuroglancer" in text
    assert texts(ome_zarr_version="0.4") == []


@pytest.mark.parametrize(
    ("factors", "levels"),
    [
        ([{"y": 2, "x": 1}, {"y": 2, "x": 2}], "in level 1:"),
        ([2, {"y": 4, "x": 2}, {"y": 8, "x": 2}], "in levels 2, 3:"),
    ],
)
def test_so_have_given_factors_that_stretch_the_image(factors: Any, levels: str) -> None:
    [text] = texts(scale_factors=factors)
    assert levels in text


def test_an_axis_of_one_sample_stretches_nothing() -> None:
    assert texts(shape=(1, 64), scale_factors=[{"x": 2}]) == []


def test_plans_and_reports_have_the_notes(tmp_path: Path) -> None:
    """Beside those of how the source was read."""
    samples = np.zeros((64, 64), "u8")
    options: dict[str, Any] = {"scale_factors": [{"y": 2}], "method": "dask_image_nearest"}
    planned = plan_pyramid(samples, tmp_path / "a.ome.zarr", BuildOptions(**options))
    kinds = [note.kind for note in planned.about.notes]
    assert kinds.count("limited") == 2
    report = build_pyramid(samples, tmp_path / "a.ome.zarr", **options)
    assert report.about.notes == planned.about.notes
    assert "64-bit integers" in json.dumps(report.to_dict()["about"]["notes"])
