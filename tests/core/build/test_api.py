"""The public calls: each argument arrives, and the phases come in their order."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core import BuildOptions, build_pyramid, check_build
from ngff_core.build import api
from ngff_core.build.api import run_build
from ngff_core.errors import InvalidOptionError, TargetExistsError
from ngff_core.progress import silent
from tests.support.folders import files
from tests.support.targets import IMAGE, OPTIONS

VALUES: dict[str, Any] = {
    "series": "second",
    "dims": "yx",
    "pick": {"h": 3},
    "scale": {"x": 0.5},
    "units": "micrometer",
    "channel_names": ["DAPI"],
    "channel_colors": ["blue"],
    "method": "itkwasm_bin_shrink",
    "scale_factors": [3],
    "chunks": 5,
    "shards": 10,
    "compressor": "none",
    "ome_zarr_version": "0.4",
    "level_paths": "named",
    "checksums": False,
    "workers": 3,
    "memory_limit": "2GiB",
    "cache": "always",
    "overwrite": True,
    "dask_address": "tcp://10.0.0.1:8786",
    "dask_workers": 7,
}


class Phases:
    """A build that notes what is called."""

    def __init__(self, cache_needed: bool) -> None:
        self.cache_needed, self.called = cache_needed, list[str]()
        self.plan = type("Plan", (), {"levels": [type("Level", (), {"index": k}) for k in (0, 1)]})
        self.given: Any = None

    def open(self, *given: Any, **named: Any) -> Phases:
        self.given = (given, named)
        return self

    def __enter__(self) -> Phases:
        return self

    def __exit__(self, *_: object) -> None:
        self.called.append("close")

    def __getattr__(self, name: str) -> Any:
        def phase(*given: Any) -> str:
            self.called.append(" ".join([name, *map(str, given)]))
            return name

        return phase


@pytest.mark.parametrize("cache_needed", [True, False])
def test_the_phases_of_a_build_come_in_order(
    monkeypatch: pytest.MonkeyPatch, cache_needed: bool
) -> None:
    """The report is made while all is open; what was opened is closed last."""
    phases = Phases(cache_needed)
    monkeypatch.setattr(api, "Build", phases)
    assert run_build("a", "b", BuildOptions()) == "report"
    cache = ["write_cache"] if cache_needed else []
    levels = ["write_level 0", "write_level 1"]
    assert phases.called == [*cache, *levels, "publish", "verify", "clean", "report", "close"]
    assert phases.given == (
        ("a", "b", BuildOptions()),
        {"storage_options": None, "listener": silent},
    )


@pytest.mark.parametrize("name", VALUES)
def test_each_option_of_the_call_arrives(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Under its own name, and no other."""
    phases = Phases(cache_needed=False)
    monkeypatch.setattr(api, "Build", phases)
    build_pyramid("a", "b", **{name: VALUES[name]})
    ((source, target, options), named) = phases.given
    assert (source, target) == ("a", "b")
    assert options == BuildOptions(**{name: VALUES[name]})
    assert named == {"storage_options": None, "listener": silent}


def test_storage_options_and_progress_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    phases, heard = Phases(cache_needed=False), list[Any]()
    monkeypatch.setattr(api, "Build", phases)
    build_pyramid("a", "b", storage_options={"key": "k"}, progress=heard.append)
    assert phases.given[1] == {"storage_options": {"key": "k"}, "listener": heard.append}


def test_the_call_has_the_options_with_their_defaults() -> None:
    """Those of `BuildOptions`, in its order."""
    parameters = inspect.signature(build_pyramid).parameters
    found = {name: p.default for name, p in parameters.items() if name in VALUES}
    assert found == {field.name: field.default for field in fields(BuildOptions)}
    assert list(found) == [field.name for field in fields(BuildOptions)]


def test_a_check_says_what_a_build_would_do(tmp_path: Path) -> None:
    """And writes nothing."""
    found = check_build(IMAGE, tmp_path / "a.ome.zarr", BuildOptions(**OPTIONS))
    assert not list(tmp_path.iterdir())
    report = build_pyramid(IMAGE, tmp_path / "a.ome.zarr", **OPTIONS)
    assert found.plan.digest == report.plan_digest
    assert [level.regions for level in found.plan.levels] == [r.regions for r in report.levels]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_check_refuses_a_target_that_the_build_would_refuse(
    tmp_path: Path, overwrite: bool
) -> None:
    build_pyramid(IMAGE, tmp_path / "a.ome.zarr", **OPTIONS)
    before = files(tmp_path)
    other = BuildOptions(**{**OPTIONS, "chunks": 16}, overwrite=overwrite)
    if overwrite:
        check_build(IMAGE, tmp_path / "a.ome.zarr", other)
    else:
        with pytest.raises(TargetExistsError, match="chunks"):
            check_build(IMAGE, tmp_path / "a.ome.zarr", other)
    assert files(tmp_path) == before


def test_a_check_refuses_options_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="chunks"):
        check_build(IMAGE, tmp_path / "a", BuildOptions(chunks=-1))


def test_a_check_without_options_is_of_the_defaults(tmp_path: Path) -> None:
    image = np.zeros((300, 300), "u1")
    found = check_build(image, tmp_path / "a")
    assert found.plan == check_build(image, tmp_path / "a", BuildOptions()).plan
