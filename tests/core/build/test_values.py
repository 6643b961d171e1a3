"""Values of the build that several threads, or runs, share: none of them changes."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import pytest

import ngff_core.build

CHANGE = {"RegionAssembly"}
"""What the driver's thread fills, and no other reads."""


def public_dataclasses() -> list[type]:
    """Those that modules of the package define under a public name."""
    modules = (
        importlib.import_module(f"ngff_core.build.{found.name}")
        for found in pkgutil.iter_modules(ngff_core.build.__path__)
    )
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and name not in CHANGE
    ]


@pytest.mark.parametrize("value", public_dataclasses(), ids=lambda value: value.__name__)
def test_a_value_of_the_build_is_frozen(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
