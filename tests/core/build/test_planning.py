"""Planning a build: from a source and options to a plan and its cost, with nothing written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from ngff_core import BuildOptions, NgffImage, plan_pyramid
from ngff_core.build import planning
from ngff_core.build.planning import PlannedBuild, plan_opened, planned_for_cluster
from ngff_core.errors import InvalidOptionError, MemoryLimitError
from ngff_core.model.orientation import LPS
from ngff_core.model.selection import Selection
from ngff_core.sources import Source, open_source

MIB, GIB = 2**20, 2**30
IMAGE = np.zeros((64, 64, 64), "u2")
CUT: dict[str, Any] = {"scale_factors": [2, 4], "chunks": 8, "shards": 16}


def planned(target: Any = "/nowhere/a.ome.zarr", source: Any = IMAGE, **options: Any) -> Any:
    """A plan of 64³ samples in 64 regions, with memory for as many at once as one likes."""
    chosen = BuildOptions(**{**CUT, "workers": 2, "memory_limit": GIB, **options})
    return plan_pyramid(source, target, chosen)


def big_at(uri: str) -> Source:
    """512³ samples, decoded 128³ at a time; they take no memory."""
    opened = open_source(np.broadcast_to(np.zeros((), "u2"), (512, 512, 512)))
    identity = replace(opened.identity, uri=uri)
    return replace(opened, identity=identity, read_unit=(128, 128, 128))


def large(source: str = "/data/a", target: str = "/nowhere/a", **options: Any) -> PlannedBuild:
    """A plan in regions of 4 MiB."""
    chosen = BuildOptions(
        chunks=64, shards=128, scale_factors=[2, 4], workers=1, memory_limit=GIB, **options
    )
    return plan_opened(big_at(source), source, target, chosen)


def opened_at(uri: str, **changes: Any) -> Source:
    """An array that claims to lie at ``uri``: planning reads nothing of it."""
    opened = open_source(IMAGE)
    return replace(opened, identity=replace(opened.identity, uri=uri), **changes)


# ---------------------------------------------------------------- what a plan is made of


def test_a_plan_is_of_source_target_and_options(tmp_path: Path) -> None:
    """With absolute names, and the same each time."""
    np.save(tmp_path / "a.npy", IMAGE)
    found = plan_pyramid(tmp_path / "a.npy", tmp_path / "b.ome.zarr", BuildOptions(**CUT))
    assert found.source == str(tmp_path / "a.npy")
    assert found.target == str(tmp_path / "b.ome.zarr")
    assert [level.shape for level in found.plan.levels] == [(64,) * 3, (32,) * 3, (16,) * 3]
    assert found.plan.levels[0].chunks == (8, 8, 8)
    assert found.plan.levels[0].shards == (16, 16, 16)
    again = plan_pyramid(tmp_path / "a.npy", tmp_path / "b.ome.zarr", BuildOptions(**CUT))
    assert again.plan == found.plan
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_without_options_the_defaults_are_planned() -> None:
    assert plan_pyramid(IMAGE, "/nowhere/a").plan == (
        plan_pyramid(IMAGE, "/nowhere/a", BuildOptions()).plan
    )


def test_a_relative_target_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker elsewhere, or a later run from another folder, must mean the same."""
    monkeypatch.chdir(tmp_path)
    assert planned("a.ome.zarr").target == str(tmp_path / "a.ome.zarr")


@pytest.mark.parametrize(
    ("option", "value", "other"),
    [
        ("method", "itkwasm_bin_shrink", "itkwasm_gaussian"),
        ("scale_factors", [2], [3]),
        ("chunks", 16, 8),
        ("shards", 32, 16),
        ("compressor", "gzip:5", "none"),
        ("ome_zarr_version", "0.4", "0.5"),
    ],
)
def test_each_option_that_decides_bytes_is_in_the_plan(option: str, value: Any, other: Any) -> None:
    base = {"shards": None} if option == "ome_zarr_version" else {}
    one, two = (planned(**{**base, option: chosen}) for chosen in (value, other))
    assert one.plan.digest != two.plan.digest


@pytest.mark.parametrize(
    "option", [{"workers": 5}, {"memory_limit": "3GiB"}, {"cache": "always"}, {"overwrite": True}]
)
def test_no_other_option_is(option: Any) -> None:
    """A build begun on one machine is continued on any other."""
    assert planned(**option).plan.digest == planned().plan.digest


def test_the_image_is_described_with_scale_units_and_place() -> None:
    image = NgffImage(
        np.zeros((2, 40, 50), ">u2"),
        dims=("c", "y", "x"),
        scale={"c": 1.0, "y": 0.5, "x": 0.25},
        translation={"c": 0.0, "y": 3.0, "x": -4.0},
        axes_units={"y": "micrometer", "x": "nanometer"},
        name="cells",
    )
    found = planned(source=image, shards=None).plan.image
    assert found.dims == ("c", "y", "x")
    assert found.shape == (2, 40, 50)
    assert found.dtype == "<u2"
    assert found.scale == (1.0, 0.5, 0.25)
    assert found.translation == (0.0, 3.0, -4.0)
    assert found.units == (None, "micrometer", "nanometer")
    assert (found.name, found.orientations) == ("cells", ())


def test_orientations_are_named_for_the_axes_that_have_one() -> None:
    image = NgffImage(
        np.zeros((2, 8, 8, 8), "u1"), dims=("c", "z", "y", "x"), axes_orientations=LPS
    )
    found = planned(source=image, scale_factors=[2], chunks=4, shards=None).plan.image
    assert found.orientations == (
        None,
        "inferior-to-superior",
        "anterior-to-posterior",
        "right-to-left",
    )


def test_sizes_by_position_are_in_the_order_of_the_callers_axes() -> None:
    """The plan's axes are in the order of OME-Zarr: t, c, z, y, x."""
    image = NgffImage(np.zeros((40, 50, 3), "u2"), dims=("x", "y", "c"))
    found = planned(source=image, chunks=(16, 32, 1), shards=(32, 32, 3), scale_factors=[2])
    assert found.plan.image.dims == ("c", "y", "x")
    assert found.plan.levels[0].chunks == (1, 32, 16)
    assert found.plan.levels[0].shards == (3, 32, 32)


def test_sizes_by_position_are_by_the_usual_axes_of_a_plain_array() -> None:
    found = planned(chunks=[4, 8, 16], shards=(8, 16, 32)).plan.levels[0]
    assert (found.chunks, found.shards) == ((4, 8, 16), (8, 16, 32))


def test_sizes_by_position_are_by_the_files_axes(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(32, 64), chunks=(32, 64), dtype="u1")
    found = planned(source=tmp_path / "a.zarr", chunks=(16, 32), shards=None, scale_factors=[2])
    assert found.plan.levels[0].chunks == (16, 32)


def test_too_few_sizes_by_position_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="chunks"):
        planned(chunks=(8, 8))


def test_a_source_that_is_decoded_many_times_over_gets_a_cache(tmp_path: Path) -> None:
    """A slice at a time, of which each region needs a part: `auto` decides by that."""
    zarr.create_array(tmp_path / "a.zarr", shape=(64, 64, 64), chunks=(1, 64, 64), dtype="u2")
    zarr.create_array(tmp_path / "b.zarr", shape=(64, 64, 64), chunks=(16, 16, 16), dtype="u2")
    slices, blocks = tmp_path / "a.zarr", tmp_path / "b.zarr"
    assert planned(source=slices).cached
    assert not planned(source=blocks).cached
    assert not planned(source=slices, cache="never").cached
    assert planned(source=blocks, cache="always").cached
    phases = planned(source=slices).projection.phases
    assert [phase.phase for phase in phases] == ["cache", "level-0", "level-1", "level-2"]


def test_the_source_is_closed_after_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the plan is refused."""
    closed: list[int] = []

    def open_it(source: Any, storage_options: Any, selection: Any) -> Source:
        assert (storage_options, selection) == ({"key": "k"}, Selection())
        return replace(open_source(source), _close=lambda: closed.append(1))

    monkeypatch.setattr(planning, "open_source", open_it)
    plan_pyramid(IMAGE, "/nowhere/a", storage_options={"key": "k"})
    assert closed == [1]
    with pytest.raises(InvalidOptionError):
        plan_pyramid(IMAGE, "/nowhere/a", BuildOptions(chunks=-1), storage_options={"key": "k"})
    assert closed == [1, 1]


def test_the_plan_and_its_cost_are_json_values() -> None:
    """What a program is given that asks for a plan."""
    found = planned()
    values = json.loads(json.dumps(found.to_dict()))
    cost = found.projection
    assert values["source"] == found.source
    assert values["target"] == "/nowhere/a.ome.zarr"
    assert values["digest"] == found.plan.digest
    assert values["plan"]["method"] == found.plan.method
    assert len(values["plan"]["levels"]) == 3
    assert values["cached"] is False
    assert [phase["phase"] for phase in values["phases"]] == ["level-0", "level-1", "level-2"]
    numbers = {
        name: values[name]
        for name in ("objects", "requests", "bytes_read", "bytes_written", "in_flight")
    }
    assert numbers == {
        "objects": 64 + 8 + 1,
        "requests": 64 + 8 + 1 + 64,
        "bytes_read": 64**3 * 2,
        "bytes_written": (64**3 + 32**3 + 16**3) * 2,
        "in_flight": 2,
    }
    assert values["peak_bytes"] == cost.peak_bytes <= GIB
    assert values["memory_limit"] == GIB


# ---------------------------------------------------------------- requests in flight


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    ("source", "target", "for_each_worker"),
    [
        ("/data/a.zarr", "/nowhere/b", 1),
        ("/data/a.zarr", "gs://bucket/b", 4),
        ("s3://bucket/a.zarr", "/nowhere/b", 4),
        ("s3://bucket/a.zarr", "gs://bucket/b", 4),
        ("https://host/a.zarr", "/nowhere/b", 4),
        ("memory://a.zarr", "memory://b", 1),
        ("file:///data/a.zarr", "/nowhere/b", 1),
    ],
)
def test_four_regions_a_worker_are_in_flight_where_bytes_go_over_a_network(
    source: str, target: str, for_each_worker: int, workers: int
) -> None:
    """One is computed while the others are on their way; a local disk keeps up by itself."""
    options = BuildOptions(**CUT, workers=workers, memory_limit=4 * GIB)
    found = plan_opened(opened_at(source), source, target, options)
    assert found.projection.in_flight == workers * for_each_worker


def test_memory_bounds_the_regions_in_flight_on_a_network_too() -> None:
    big = np.broadcast_to(np.zeros((), "u2"), (256, 256, 256))
    options = BuildOptions(chunks=64, shards=128, workers=8, memory_limit="256MiB")
    found = plan_opened(open_source(big), big, "gs://bucket/b", options).projection
    assert 1 <= found.in_flight < 32
    assert found.peak_bytes <= found.memory_limit == 256 * 2**20


def test_bodies_of_requests_count_where_the_target_is_remote() -> None:
    """Beside a region's samples an encoded object, the request that it is copied into, and the
    connection's part of it, copied once more: four times its 4 MiB."""
    here, there = (large(target=uri).projection for uri in ("/nowhere/a", "gs://bucket/a"))
    assert here.phases[0].region_bytes == (4 + 4) * MIB
    assert there.phases[0].region_bytes == (4 + 4 * 4) * MIB
    assert [phase.bytes_written for phase in here.phases] == [
        phase.bytes_written for phase in there.phases
    ]


def test_bodies_of_replies_count_where_the_source_is_remote() -> None:
    """Beside a region's samples what is decoded, the parts of the body, and what these are
    joined to: three times its 4 MiB."""
    here, there = (large(source=uri).projection for uri in ("/data/a", "s3://bucket/a"))
    assert here.phases[0].region_bytes == (4 + 4) * MIB
    assert there.phases[0].region_bytes == (4 + 3 * 4) * MIB


def test_a_cache_is_remote_where_the_target_is() -> None:
    """It lies beside it. Its chunks are of 64 MiB here."""
    here, there = (
        large("s3://bucket/a", uri, cache="always").projection.phases
        for uri in ("/nowhere/a", "gs://bucket/b")
    )
    assert here[1].region_bytes == (4 + 64) * MIB
    assert there[1].region_bytes == (4 + 3 * 64) * MIB
    assert large("/data/a", cache="always").projection.phases[1] == here[1]


def test_too_little_memory_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MemoryLimitError, match="memory_limit"):
        planned(tmp_path / "a", memory_limit=1)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- clusters


@pytest.mark.parametrize("target", ["/nowhere/b", "gs://bucket/b"])
def test_on_a_cluster_each_process_has_what_it_was_asked_for(target: str) -> None:
    """Regions are sent to processes of their own, so nothing is streamed from memory."""
    first = planned(target)
    opened = open_source(IMAGE)
    found = planned_for_cluster(first, opened, workers=5, memory_limit=3 * GIB)
    assert found.projection.in_flight == 5
    assert found.projection.memory_limit == 3 * GIB
    assert first.projection.streamed == (1, 2)
    assert found.projection.streamed == ()
    assert (found.source, found.target, found.plan) == (first.source, first.target, first.plan)
    assert found.cached == first.cached


@pytest.mark.parametrize("cache", ["always", "never"])
@pytest.mark.parametrize("source", ["/data/a", "s3://bucket/a"])
@pytest.mark.parametrize("target", ["/nowhere/a", "gs://bucket/b"])
def test_on_a_cluster_regions_take_the_memory_that_they_take_here(
    source: str, target: str, cache: Any
) -> None:
    """Bodies of requests and the cache count alike."""
    here = large(source, target, cache=cache)
    there = planned_for_cluster(here, big_at(source), workers=1, memory_limit=GIB)
    names = ["level-0", "level-1", "level-2"]
    assert [p.phase for p in there.projection.phases] == ["cache"] * here.cached + names
    for one, other in zip(here.projection.phases, there.projection.phases, strict=True):
        assert one.region_bytes == other.region_bytes or one.phase in names[1:]


@pytest.mark.parametrize("option", [{"dask_workers": 2}, {"dask_address": "tcp://10.0.0.1:8786"}])
def test_a_plan_for_a_cluster_streams_nothing(tmp_path: Path, option: Any) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    assert planned(source=tmp_path / "a.npy", **option).projection.streamed == ()


def test_an_array_of_this_process_is_no_source_for_a_cluster() -> None:
    """It cannot be sent to workers as a name."""
    with pytest.raises(InvalidOptionError, match=r"source: array:.*object of this process"):
        planned(dask_workers=2)


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [
        ("memory://a.zarr", "/nowhere/b", "source: memory://a.zarr"),
        ("/data/a.zarr", "memory://b", "target: memory://b"),
    ],
)
def test_the_memory_of_this_process_is_no_place_for_a_cluster(
    source: str, target: str, named: str
) -> None:
    options = BuildOptions(**CUT, dask_address="tcp://10.0.0.1:8786", memory_limit=GIB)
    with pytest.raises(InvalidOptionError, match=named):
        plan_opened(opened_at(source), source, target, options)


def test_threads_of_this_process_share_its_memory() -> None:
    """Such as dask's own for tests, of an address ``inproc://``."""
    options = BuildOptions(**CUT, dask_address="inproc://10.0.0.1/1/1", memory_limit=GIB)
    source = "memory://a.zarr"
    assert plan_opened(opened_at(source), source, "memory://b", options).source == source


def test_a_cluster_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    monkeypatch.setattr(planning, "find_spec", lambda name: None)
    with pytest.raises(InvalidOptionError, match=r"ngff-flows\[cluster\]"):
        planned(source=tmp_path / "a.npy", dask_workers=2)
    assert planned(source=tmp_path / "a.npy").source == str(tmp_path / "a.npy")


def test_planning_does_not_import_the_cluster() -> None:
    """That costs a second, which a build without one does not pay."""
    assert "distributed" not in vars(sys.modules[planning.__name__])


# ---------------------------------------------------------------- source and target apart


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/data/a.zarr", "/data/a.zarr"),
        ("/data/a.zarr", "/data/a.zarr/inner.ome.zarr"),
        ("/data/a.zarr/0", "/data/a.zarr"),
        ("/data/a.zarr.build", "/data/a.zarr"),
        ("/data/a.zarr.build/cache", "/data/a.zarr"),
        ("gs://bucket/a", "gcs://bucket/a/"),
        ("s3://bucket/x/../a", "s3://bucket/x/../a"),
        ("/data/a.zarr/../a.zarr", "/data/a.zarr"),
    ],
)
def test_a_target_that_touches_the_source_is_refused(source: str, target: str) -> None:
    """Writing it, or removing what is there, would harm what is read."""
    with pytest.raises(InvalidOptionError, match="overlap"):
        plan_opened(opened_at(source), source, target, BuildOptions(**CUT))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/data/a.zarr", "/data/a.zarr2"),
        ("/data/a.zarr2", "/data/a.zarr"),
        ("/data/a.zarr", "/data/a.ome.zarr"),
        ("gs://bucket/a", "s3://bucket/a"),
        ("array:a", "array:a"),
    ],
)
def test_names_that_merely_begin_alike_are_apart(source: str, target: str) -> None:
    found = plan_opened(opened_at(source), source, target, BuildOptions(**CUT))
    assert isinstance(found, PlannedBuild)
