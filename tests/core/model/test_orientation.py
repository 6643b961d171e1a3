"""RFC-4: presets, mappings, what is refused, and what is written and read back."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest

import ngff_core
from ngff_core import LPS, RAS, AnatomicalOrientation, AnatomicalOrientationValues, NgffImage
from ngff_core.build.planning import plan_pyramid
from ngff_core.errors import InvalidOptionError
from ngff_core.model.orientation import of_axes, resolve_orientation
from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, SourcePin
from ngff_core.pyramid.publish import group_documents
from ngff_core.sources import open_source

LPS_TERMS = {
    "x": "right-to-left",
    "y": "anterior-to-posterior",
    "z": "inferior-to-superior",
}
RAS_TERMS = {
    "x": "left-to-right",
    "y": "posterior-to-anterior",
    "z": "inferior-to-superior",
}


def terms(orientations: Any) -> dict[str, str]:
    return {dim: str(orientation.value) for dim, orientation in orientations.items()}


@pytest.mark.parametrize("name", ["LPS", "lps", "Lps", "RAS", "ras"])
def test_a_preset_is_known_by_its_name_in_any_case(name: str) -> None:
    """LPS is DICOM's and ITK's way, RAS is NIfTI's."""
    expected = LPS_TERMS if name.upper() == "LPS" else RAS_TERMS
    assert terms(resolve_orientation(name, "tczyx")) == expected


def test_the_constants_are_the_presets() -> None:
    """Each is a mapping that an image takes."""
    assert (terms(LPS), terms(RAS)) == (LPS_TERMS, RAS_TERMS)


def test_a_preset_counts_for_the_axes_that_are_there() -> None:
    """A 2-D image has no z."""
    assert set(resolve_orientation("LPS", "yx")) == {"y", "x"}
    assert set(NgffImage(np.zeros((2, 3)), axes_orientations=LPS).axes_orientations or {}) == {
        "y",
        "x",
    }


@pytest.mark.parametrize(
    ("orientation", "message"),
    [
        ("LAS", "LPS and RAS"),
        ({"w": AnatomicalOrientation("left-to-right")}, "'w' is not an axis"),
        ({"c": AnatomicalOrientation("left-to-right")}, "'c' is not a spatial axis"),
        ({"t": AnatomicalOrientation("left-to-right")}, "'t' is not a spatial axis"),
        ({"z": AnatomicalOrientation("left-to-right")}, "'z' is not an axis of this image"),
        ({"x": "sideways"}, "'sideways' is none of"),
        (
            {"x": "left-to-right", "y": "right-to-left"},
            "'x' and 'y' lie along the same anatomical axis",
        ),
        (7, "neither LPS nor RAS nor a mapping"),
    ],
)
def test_what_makes_no_sense_is_a_value_error_that_names_it(orientation: Any, message: str) -> None:
    """Unknown presets, unknown axes, axes that are not spatial."""
    with pytest.raises(ValueError, match=message) as caught:
        resolve_orientation(orientation, "tcyx")
    assert isinstance(caught.value, InvalidOptionError)


def test_an_orientation_takes_the_term_or_its_text() -> None:
    """Spelled with keywords, as RFC-4 spells it."""
    spelled = AnatomicalOrientation(type="anatomical", value="right-to-left")
    named = AnatomicalOrientation(value=AnatomicalOrientationValues.right_to_left)
    assert spelled == named == LPS["x"]
    with pytest.raises(ValueError, match="'geographical' is not 'anatomical'"):
        AnatomicalOrientation("left-to-right", type="geographical")


def test_the_terms_of_rfc_4_come_in_pairs() -> None:
    """24 terms, each with its reverse, named as Python names them."""
    values = set(AnatomicalOrientationValues)
    assert len(values) == 24
    assert {"-to-".join(reversed(v.split("-to-"))) for v in values} == values
    assert all(v.name == v.value.replace("-", "_") for v in AnatomicalOrientationValues)


def test_nothing_makes_no_orientation() -> None:
    """So that no axis gets an empty field."""
    assert of_axes(None, "yx") is None
    assert of_axes({}, "yx") is None


def model_of(version: str) -> Any:
    from ome_zarr_models.v04.image import ImageAttrs as ImageAttrs04
    from ome_zarr_models.v05.image import ImageAttrs as ImageAttrs05
    from ome_zarr_models.v06.image import ImageAttrs as ImageAttrs06

    return {"0.4": ImageAttrs04, "0.5": ImageAttrs05, "0.6": ImageAttrs06}[version]


def written_axes(documents: dict[str, bytes], version: str) -> list[dict[str, Any]]:
    """The axes in the group's documents, once these are valid without a warning."""
    attributes = json.loads(list(documents.values())[-1])
    attributes = attributes if version == "0.4" else attributes["attributes"]["ome"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_of(version).model_validate(attributes)
    (multiscale,) = attributes["multiscales"]
    if version != "0.6":
        found: list[dict[str, Any]] = multiscale["axes"]
        return found
    (system,) = multiscale["coordinateSystems"]
    outputs = {d["coordinateTransformations"][0]["output"]["name"] for d in multiscale["datasets"]}
    assert outputs == {system["name"]}
    axes: list[dict[str, Any]] = system["axes"]
    return axes


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_orientation_is_written_whenever_it_is_there(version: str) -> None:
    """As ``orientation: {type, value}`` of the axis, and nothing where there is none."""
    info = ImageInfo(
        tuple("czyx"),
        (2, 64, 64, 64),
        "<u2",
        (1.0,) * 4,
        (0.0,) * 4,
        (None, None, "micrometer", None),
        orientations=(None, "inferior-to-superior", None, "left-to-right"),
    )
    plan = make_plan(SourcePin("array:a"), info, scale_factors=[2], ome_zarr_version=version)
    axes = written_axes(group_documents(plan), version)
    assert axes == [
        {"name": "c", "type": "channel"},
        {
            "name": "z",
            "type": "space",
            "orientation": {"type": "anatomical", "value": "inferior-to-superior"},
        },
        {"name": "y", "type": "space", "unit": "micrometer"},
        {
            "name": "x",
            "type": "space",
            "orientation": {"type": "anatomical", "value": "left-to-right"},
        },
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_a_build_carries_it_from_image_to_image(version: str, memory_filesystem: Any) -> None:
    """Built from an image in memory, and built again from what was stored."""
    image = NgffImage(np.zeros((64, 64, 64), "u1"), "xyz", axes_orientations=RAS)
    options: dict[str, Any] = {
        "scale_factors": [2],
        "method": "itkwasm_bin_shrink",
        "ome_zarr_version": version,
    }
    report = ngff_core.build_pyramid(image, "memory://rfc4/first.ome.zarr", **options)
    assert report.verified
    with open_source("memory://rfc4/first.ome.zarr") as source:
        assert terms(source.image.axes_orientations) == RAS_TERMS
    again = plan_pyramid("memory://rfc4/first.ome.zarr", "memory://rfc4/second.ome.zarr")
    assert again.plan.image.orientations == tuple(RAS_TERMS[d] for d in "zyx")
