"""A worker of a cluster, in this process: what it opens, builds, refuses and closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenacity

from ngff_core import BuildOptions, build_pyramid
from ngff_core.build import worker
from ngff_core.build.planning import plan_pyramid
from ngff_core.build.worker import (
    WorkOrder,
    WorkSource,
    build_region,
    check_versions,
    check_worker,
    close_build,
    versions,
)
from ngff_core.config import config
from ngff_core.errors import ClusterUnfitError, TransientError
from ngff_core.plan.source_cache import cache_plan
from ngff_core.pyramid.publish import create_arrays
from ngff_core.records.stored_build import StoredBuild
from ngff_core.sources import Source
from tests.support.folders import files
from tests.support.targets import Place

OPTIONS: dict[str, Any] = {"chunks": 4, "shards": 8, "scale_factors": [2, 4]}
IMAGE = np.random.default_rng(0).integers(0, 999, (32, 40)).astype("u2")
REGIONS = [20, 6, 2]


class Order:
    """A build that was begun, and the order that its workers get."""

    def __init__(self, folder: Path, *, cached: bool = False) -> None:
        self.path = folder / "in.npy"
        np.save(self.path, IMAGE)
        self.place = Place(folder)
        chosen = BuildOptions(**OPTIONS, cache="always" if cached else "never")
        self.planned = plan_pyramid(self.path, self.place.uri, chosen)
        self.plan = self.planned.plan
        self.place.beside.write("plan.json", self.plan.to_json())
        create_arrays(self.place.target, self.plan)
        source = WorkSource(str(self.path), (32, 40), cached)
        self.order = WorkOrder("token", source, str(self.place.uri), self.plan.digest, 2)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """No build stays open after its test."""
    yield
    for token in list(worker._workers):
        close_build(token)
    assert worker._workers == {}


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return Order(tmp_path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records each opening and closing of a source."""
    found: list[str] = []
    inner = worker.open_source

    def open_it(uri: Any, storage_options: Any, selection: Any) -> Source:
        found.append("open")
        return replace(inner(uri, storage_options, selection), _close=lambda: found.append("close"))

    monkeypatch.setattr(worker, "open_source", open_it)
    return found


@pytest.mark.parametrize("cached", [False, True])
def test_workers_write_the_bytes_that_one_process_writes(tmp_path: Path, cached: bool) -> None:
    """Region by region; the receipts name the objects."""
    order = Order(tmp_path, cached=cached)
    build = StoredBuild.begin(order.place.target, order.place.beside, order.plan)
    if cached:
        cache = cache_plan(order.plan, (32, 40))
        create_arrays(order.place.beside, cache)
        for region in range(cache.levels[0].regions):
            assert build_region(order.order, None, region).region == region
    for level, total in enumerate(REGIONS):
        for region in range(total):
            receipt = build_region(order.order, level, region)
            assert receipt.region == region
            assert all(
                order.place.target.info(f"{build.plan.levels[level].path}/{o.key}")
                for o in receipt.objects
            )
    build_pyramid(order.path, tmp_path / "alone.ome.zarr", **OPTIONS)
    alone = files(tmp_path / "alone.ome.zarr")
    del alone["zarr.json"]
    assert files(order.place.uri) == alone


def test_building_a_region_again_writes_the_same(order: Order) -> None:
    """A worker may die with a receipt that nobody got."""
    first = build_region(order.order, 0, 3)
    before = files(order.place.uri)
    assert build_region(order.order, 0, 3) == first
    assert files(order.place.uri) == before


def test_a_region_leaves_halo_strips_for_the_next_level(order: Order) -> None:
    """For the region that looks into it from beside; nobody looks into a corner's."""
    build_region(order.order, 0, 0)
    assert list(files(order.place.beside.root)) == ["plan.json"]
    build_region(order.order, 0, 1)
    kept = [key for key in files(order.place.beside.root) if key != "plan.json"]
    assert len(kept) == 1
    assert kept[0].startswith("halos-1/")


def test_the_source_is_opened_once_for_a_build_and_closed_with_it(
    order: Order, opened: list[str]
) -> None:
    for region in range(3):
        build_region(order.order, 0, region)
    assert opened == ["open"]
    close_build("token")
    assert opened == ["open", "close"]
    close_build("token")
    assert opened == ["open", "close"]


def test_a_worker_that_needs_no_source_opens_none(order: Order, opened: list[str]) -> None:
    """Of a pass over a stored level; closing such a build closes nothing."""
    for region in range(REGIONS[0]):
        build_region(order.order, 0, region)
    close_build("token")
    opened.clear()
    check_worker(order.order, needs_source=False)
    build_region(order.order, 1, 0)
    close_build("token")
    assert opened == []


def test_each_run_of_a_build_is_opened_for_itself(order: Order, opened: list[str]) -> None:
    for token in ("a", "b", "a"):
        check_worker(replace(order.order, token=token), needs_source=True)
    assert opened == ["open", "open"]


def test_builds_of_drivers_that_were_killed_are_dropped(order: Order, opened: list[str]) -> None:
    """Four are kept; the oldest goes, and is not closed: a thread may still work on it."""
    for number in range(6):
        check_worker(replace(order.order, token=str(number)), needs_source=True)
    assert list(worker._workers) == ["2", "3", "4", "5"]
    assert opened == ["open"] * 6


def test_no_more_regions_are_in_memory_at_once_than_allowed(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads the worker has."""
    at_once, most, lock, gate = 0, 0, threading.Lock(), threading.Event()
    inner = worker.store_region

    def store(*given: Any) -> Any:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        gate.wait(0.02)
        with lock:
            at_once -= 1
        return inner(*given)

    monkeypatch.setattr(worker, "store_region", store)
    threads = [
        threading.Thread(target=build_region, args=(order.order, 0, region)) for region in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == order.order.at_once == 2


def test_memory_goes_back_when_a_build_is_closed(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was open or not."""
    calls: list[int] = []
    monkeypatch.setattr(worker, "release_memory", lambda: calls.append(1))
    check_worker(order.order, needs_source=False)
    assert calls == []
    close_build("token")
    close_build("other")
    assert calls == [1, 1]
    assert worker._workers == {}


def test_a_region_that_is_given_up_is_named(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(config, "region_retries", 2)

    def slow(*given: Any) -> Any:
        raise TimeoutError("slow")

    check_worker(order.order, needs_source=True)
    monkeypatch.setattr("ngff_core.storage.local.LocalFiles.write", slow)
    with pytest.raises(TransientError, match=r"building region 7 of 0 at .*a\.ome\.z"):
        build_region(order.order, 0, 7)


# ---------------------------------------------------------------- unfit workers


def test_a_worker_with_other_versions_is_refused(order: Order) -> None:
    """Its bytes could differ; nothing is opened."""
    older = replace(order.order, versions={**versions(), "numpy": "1.0", "zarr": "2.0"})
    with pytest.raises(ClusterUnfitError) as caught:
        check_worker(older, needs_source=False)
    assert "instead of 1.0" in str(caught.value)
    assert "instead of 2.0" in str(caught.value)
    assert "numba" not in str(caught.value)
    assert worker._workers == {}


@pytest.mark.parametrize(
    ("wanted", "found", "named"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, None),
        ({"a": "1"}, {"a": "2"}, "a 2 instead of 1"),
        ({"a": "1", "b": "1"}, {"a": "1"}, "here has b none instead of 1,"),
        ({}, {"a": "1"}, None),
    ],
)
def test_versions_are_compared_by_name(wanted: Any, found: Any, named: str | None) -> None:
    """Of what the driver has; more may be installed."""
    if named is None:
        check_versions(wanted, found, "here")
    else:
        with pytest.raises(ClusterUnfitError, match=named):
            check_versions(wanted, found, "here")


def test_the_versions_are_of_what_decides_bytes() -> None:
    """A distribution that is not installed has none."""
    found = versions()
    assert list(found) == list(worker.DECISIVE)
    assert found["numpy"] == np.__version__
    assert worker._version("no-such-distribution") == "none"


def test_a_worker_that_sees_no_plan_is_refused(order: Order) -> None:
    order.place.beside.delete("plan.json")
    with pytest.raises(ClusterUnfitError, match=r"finds no plan at .*plan\.json"):
        check_worker(order.order, needs_source=False)


def test_a_worker_that_sees_another_plan_is_refused(order: Order) -> None:
    """Such as that of a folder of the same name on a disk of its own."""
    with pytest.raises(ClusterUnfitError, match="finds another plan"):
        check_worker(replace(order.order, digest="0" * 64), needs_source=False)


def test_a_worker_that_cannot_read_the_source_is_refused(order: Order) -> None:
    order.path.unlink()
    check_worker(order.order, needs_source=False)
    with pytest.raises(ClusterUnfitError, match="cannot read the source"):
        check_worker(order.order, needs_source=True)


def test_a_worker_that_sees_another_source_is_refused(order: Order, opened: list[str]) -> None:
    """And closes it."""
    np.save(order.path, IMAGE[:-1])
    with pytest.raises(ClusterUnfitError, match="sees another"):
        build_region(order.order, 0, 0)
    assert opened == ["open", "close"]


def test_secrets_are_not_in_the_text_of_an_order(order: Order) -> None:
    """dask logs the arguments of failed tasks."""
    secret = replace(order.order, storage_options={"key": "abc", "secret": "hidden"})
    assert "hidden" not in repr(secret)
    assert "abc" not in str(secret)
