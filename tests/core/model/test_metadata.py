"""The group's documents, checked with ome-zarr-models, which is not our code."""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v04.image import ImageAttrs as ImageAttrs04
from ome_zarr_models.v05.image import ImageAttrs as ImageAttrs05
from ome_zarr_models.v06.image import ImageAttrs as ImageAttrs06

from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin
from ngff_core.pyramid.publish import group_documents, ome_attributes

VERSIONS = ("0.4", "0.5", "0.6")


def plan_of(
    dims: str,
    shape: tuple[int, ...],
    *,
    units: tuple[str | None, ...] | None = None,
    scale: tuple[float, ...] | None = None,
    translation: tuple[float, ...] | None = None,
    **options: Any,
) -> PyramidPlan:
    """A plan of an image of these axes."""
    plain = (None,) * len(dims)
    image = ImageInfo(
        tuple(dims),
        shape,
        "<u2",
        scale or (1.0,) * len(dims),
        translation or (0.0,) * len(dims),
        units or plain,
        name="cells",
    )
    return make_plan(SourcePin("array:cells"), image, **options)


def stored_attributes(plan: PyramidPlan) -> dict[str, Any]:
    """The attributes as a reader of the store finds them."""
    documents = group_documents(plan)
    found: dict[str, Any]
    if plan.ome_zarr_version == "0.4":
        assert list(documents) == [".zgroup", ".zattrs"]
        assert json.loads(documents[".zgroup"]) == {"zarr_format": 2}
        found = json.loads(documents[".zattrs"])
        return found
    assert list(documents) == ["zarr.json"]
    document = json.loads(documents["zarr.json"])
    assert (document["zarr_format"], document["node_type"]) == (3, "group")
    found = document["attributes"]["ome"]
    return found


@st.composite
def described_plans(draw: st.DrawFn, ome_zarr_version: str) -> PyramidPlan:
    """Any axes, units, scales and factors."""
    dims = draw(st.sampled_from(["yx", "cyx", "tyx", "zyx", "czyx", "tzyx", "tczyx"]))
    lengths = st.sampled_from([None, "micrometer", "nanometer", "meter"])
    units = {"t": st.sampled_from([None, "second", "millisecond"]), "c": st.none()}
    sizes = st.floats(1e-4, 1e4)
    return plan_of(
        dims,
        tuple(draw(st.integers(16, 99)) for _ in dims),
        units=tuple(draw(units.get(d, lengths)) for d in dims),
        scale=tuple(draw(sizes) for _ in dims),
        translation=tuple(draw(st.floats(-1e6, 1e6)) for _ in dims),
        scale_factors=draw(st.sampled_from([[], [2], [2, 3], [{"x": 2}, {"y": 5}], [2, 4, 16]])),
        ome_zarr_version=ome_zarr_version,
    )


def check_document(plan: PyramidPlan, model: Any) -> None:
    """Valid without a warning, and saying what the plan says."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.model_validate(ome_attributes(plan))
        attributes = stored_attributes(plan)
        model.model_validate(attributes)
    assert attributes == ome_attributes(plan)
    (multiscale,) = attributes["multiscales"]
    kinds = {"t": "time", "c": "channel"}
    assert multiscale["axes"] == [
        {"name": d, "type": kinds.get(d, "space")} | ({"unit": u} if u else {})
        for d, u in zip(plan.image.dims, plan.image.units, strict=True)
    ]
    for level, dataset in zip(plan.levels, multiscale["datasets"], strict=True):
        assert dataset["path"] == str(level.index)
        scale, translation = dataset["coordinateTransformations"]
        factor = np.array(level.factor)
        assert (scale["type"], translation["type"]) == ("scale", "translation")
        assert scale["scale"] == list(np.array(plan.image.scale) * factor)
        expected = np.array(plan.image.translation) + (factor - 1) / 2 * np.array(plan.image.scale)
        assert translation["translation"] == list(expected)


@settings(max_examples=40)
@given(described_plans("0.4"))
def test_documents_of_0_4_are_valid(plan: PyramidPlan) -> None:
    """Scale and translation by the true factor, units and types of axes, no warning."""
    check_document(plan, ImageAttrs04)


@settings(max_examples=40)
@given(described_plans("0.5"))
def test_documents_of_0_5_are_valid(plan: PyramidPlan) -> None:
    """The same for zarr v3."""
    check_document(plan, ImageAttrs05)


@given(described_plans("0.6"))
def test_documents_of_0_6_are_valid(plan: PyramidPlan) -> None:
    """The same, through one coordinate system that all levels lead to."""
    attributes = stored_attributes(plan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ImageAttrs06.model_validate(attributes)
    (multiscale,) = attributes["multiscales"]
    (system,) = multiscale["coordinateSystems"]
    assert [a["name"] for a in system["axes"]] == list(plan.image.dims)
    assert [a.get("unit") for a in system["axes"]] == list(plan.image.units)
    for level, dataset in zip(plan.levels, multiscale["datasets"], strict=True):
        (sequence,) = dataset["coordinateTransformations"]
        scale, translation = sequence["transformations"]
        assert sequence["input"] == {"path": dataset["path"]}
        assert sequence["output"] == {"name": system["name"]}
        assert scale["scale"] == list(plan.scale_of(level))
        assert translation["translation"] == list(plan.translation_of(level))


def test_the_true_factor_counts_and_not_a_ratio_of_shapes() -> None:
    """101 samples at factor 2 make 50, and a scale of 2 all the same."""
    plan = plan_of("yx", (101, 103), scale_factors=[2, 4], scale=(0.5, 0.25))
    datasets = ome_attributes(plan)["multiscales"][0]["datasets"]
    found = [[t.get("scale") or t["translation"] for t in d["coordinateTransformations"]]
             for d in datasets]  # fmt: skip
    assert found == [
        [[0.5, 0.25], [0.0, 0.0]],
        [[1.0, 0.5], [0.25, 0.125]],
        [[2.0, 1.0], [0.75, 0.375]],
    ]


def test_0_4_says_its_version_in_the_multiscale_and_0_5_beside_it() -> None:
    """Readers tell the versions by these fields."""
    older = ome_attributes(plan_of("yx", (64, 64), ome_zarr_version="0.4"))
    assert older["multiscales"][0]["version"] == "0.4"
    assert "version" not in older
    newer = ome_attributes(plan_of("yx", (64, 64), ome_zarr_version="0.5"))
    assert newer["version"] == "0.5"
    assert "version" not in newer["multiscales"][0]


@pytest.mark.parametrize("ome_zarr_version", VERSIONS)
@pytest.mark.parametrize("method", ["itkwasm_gaussian", "itkwasm_bin_shrink"])
def test_metadata_says_how_the_levels_were_made(method: str, ome_zarr_version: str) -> None:
    """``type`` is the method's value; function, version and description stand beside."""
    plan = plan_of("yx", (64, 64), method=method, ome_zarr_version=ome_zarr_version)
    multiscale = ome_attributes(plan)["multiscales"][0]
    assert (multiscale["type"], multiscale["name"]) == (method, "cells")
    assert set(multiscale["metadata"]) == {"description", "method", "version"}
    assert multiscale["metadata"]["method"].startswith("itkwasm_downsample.")
    assert multiscale["metadata"]["version"] == version("itkwasm-downsample")


@pytest.mark.parametrize("ome_zarr_version", VERSIONS)
def test_documents_are_the_same_bytes_every_time(ome_zarr_version: str) -> None:
    """So that publishing twice changes nothing, and verification can compare."""
    plan = plan_of("zyx", (64, 64, 64), ome_zarr_version=ome_zarr_version)
    assert group_documents(plan) == group_documents(PyramidPlan.from_json(plan.to_json()))
