"""A source, and builds of it that nothing disturbed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.resume.harness")

from tests.resume.harness import (  # noqa: E402 - asserts in it are to explain themselves
    Builders,
    BuildUndisturbed,
    Undisturbed,
    write_tiff,
)


@pytest.fixture(scope="session")
def builders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builders]:
    """Processes that build, and die where they are told to."""
    builders = Builders(tmp_path_factory.mktemp("logs"))
    yield builders
    builders.close()


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image that is built over and over; nobody changes it."""
    return write_tiff(tmp_path_factory.mktemp("source") / "image.tif")


@pytest.fixture(scope="session")
def undisturbed(
    builders: Builders, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> BuildUndisturbed:
    """Takes a job's particulars, and gives the build of it that nothing disturbed."""
    known: dict[str, Undisturbed] = {}

    def build(**job: Any) -> Undisturbed:
        name = json.dumps(job, sort_keys=True)
        if name not in known:
            target = tmp_path_factory.mktemp("undisturbed") / "image.ome.zarr"
            known[name] = builders.undisturbed(source, target, **job)
        return known[name]

    return build
