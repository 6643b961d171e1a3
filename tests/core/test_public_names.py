"""The public names: where they are imported from, and that help() describes each of them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import pytest

import ngff_core

# Presets of AnatomicalOrientation by axis, and the one instance of Config.
VALUES = {"LPS", "RAS", "config"}
FUNCTIONS = [name for name in ngff_core.__all__ if name.islower() and name not in VALUES]
CLASSES = [name for name in ngff_core.__all__ if not name.islower() and name not in VALUES]

# Its arguments are resources of an open build, which `Build.open` makes.
MADE_BY_OTHERS = {"Build"}


def sections(text: str) -> dict[str, str]:
    """The numpydoc sections of a docstring, by title; the summary by an empty title."""
    parts = re.split(r"^(\w+)\n-+\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def documented(text: str) -> dict[str, str]:
    """The description of each name in a section of parameters or attributes."""
    found: dict[str, str] = {}
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        names, _, description = entry.partition("\n")
        names = names.partition(" : ")[0]
        found.update({name.strip(): description.strip() for name in names.split(",")})
    return found


def check_names(described: dict[str, str], value: Any) -> None:
    """Each parameter of a signature has a description."""
    parameters = inspect.signature(value).parameters
    assert [name for name in parameters if not described.get(name)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_describes_parameters_results_and_examples(name: str) -> None:
    """As numpydoc has it."""
    function = getattr(ngff_core, name)
    found = sections(inspect.getdoc(function) or "")
    assert {"Parameters", "Returns", "Examples"} <= found.keys()
    assert ">>>" in found["Examples"]
    check_names(documented(found["Parameters"]), function)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_describes_what_it_is_made_of(name: str) -> None:
    """A summary of one line, its parameters or attributes, and an example."""
    cls = getattr(ngff_core, name)
    found = sections(inspect.getdoc(cls) or "")
    assert found[""].splitlines()[0].endswith((".", ":"))
    assert {"Parameters", "Attributes"} & found.keys()
    assert ">>>" in found["Examples"]
    described = {
        **documented(found.get("Parameters", "")),
        **documented(found.get("Attributes", "")),
    }
    if name not in MADE_BY_OTHERS and not issubclass(cls, str):
        check_names(described, cls)


def test_settings_are_described() -> None:
    """Each attribute of `config`."""
    found = sections(inspect.getdoc(ngff_core.config) or "")
    described = documented(found["Attributes"])
    assert [name for name in type(ngff_core.config).__annotations__ if name not in described] == []
    assert ">>>" in found["Examples"]


def test_presets_are_mappings_of_axes() -> None:
    """They have no docstring of their own that help() shows."""
    assert set(ngff_core.LPS) == set(ngff_core.RAS) == {"x", "y", "z"}


def test_public_names_stay() -> None:
    """Code that imports one of these must not break; add new names here."""
    assert set(ngff_core.__all__) == {
        "LPS",
        "RAS",
        "AnatomicalOrientation",
        "AnatomicalOrientationValues",
        "Axis",
        "Build",
        "BuildOptions",
        "BuildReport",
        "BuildStatus",
        "Dataset",
        "Identity",
        "InspectedImage",
        "Inspection",
        "Leftover",
        "LevelReport",
        "Metadata",
        "Methods",
        "Multiscales",
        "NgffImage",
        "NgffMultiscales",
        "NgffProgress",
        "NgffProgressCallback",
        "PlannedBuild",
        "Repair",
        "Scale",
        "Translation",
        "build_pyramid",
        "build_status",
        "check_build",
        "clean_build",
        "config",
        "find_targets",
        "from_ngff_zarr",
        "inspect_source",
        "plan_pyramid",
        "repair_pyramid",
        "to_multiscales",
        "to_ngff_image",
        "to_ngff_zarr",
        "verify_pyramid",
    }
    assert all(getattr(ngff_core, name) is not None for name in ngff_core.__all__)


@pytest.mark.parametrize(
    "name",
    [
        "to_multiscales",
        "to_ngff_image",
        "_cache_1d_segments",
        "_cache_2d_strips",
        "_find_optimal_chunk_size",
        "_large_image_serialization",
        "_ngff_image_scale_factors",
    ],
)
def test_names_of_the_module_to_multiscales_stay(name: str) -> None:
    """Code for ngff-zarr imports them from a module of this name."""
    assert callable(getattr(import_module("ngff_core.to_multiscales"), name))
