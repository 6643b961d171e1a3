"""Builds on every kind of storage give what local ones give, byte for byte."""

from __future__ import annotations

import json
import threading
from typing import Any

import fsspec.config
import pytest

import ngff_core
from ngff_core.build import planning
from ngff_core.errors import SourceChangedError, TargetExistsError
from ngff_core.plan.projection import project
from ngff_core.progress import Advanced
from ngff_core.storage import open_store
from tests.buckets.images import OPTIONS, REGIONS, assert_same, keys, stored
from tests.servers.places import PLACES, UNLISTED, fsspec_config

MIXES = [
    ("gs", "s3", "zarr"),
    ("s3", "local", "zarr"),
    ("local", "gs", "zarr"),
    ("s3", "gs", "tif"),
    ("gs", "local", "tif"),
]


# Each test runs on one kind of bucket that refuses to list; the other kind has its own test.
@pytest.fixture(params=[*PLACES, UNLISTED[0]])
def place_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(place_kind: str, places: Any) -> str:
    return places(place_kind)


@pytest.fixture
def source(local_sources: Any) -> str:
    return str(local_sources / "image.zarr")


def stopping_at(done: int) -> Any:
    """A listener that interrupts level 0 after ``done`` regions."""

    def listen(event: Any) -> None:
        if isinstance(event, Advanced) and event.phase == "level-0" and event.done == done:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize("ending", ["zarr", "tif"])
def test_a_build_from_a_bucket_to_the_same_bucket(
    place_kind, place, source_at, undisturbed, ending
):
    """Source and target are in one folder: built and verified, and the status is right."""
    target = f"{place}/image.ome.zarr"
    report = ngff_core.build_pyramid(source_at(ending, place), target, **OPTIONS)
    assert report.verified
    assert report.fresh == sum(REGIONS)
    assert report.verification.listed == ("unlisted" not in place_kind)
    assert_same(stored(target), undisturbed)
    assert ngff_core.verify_pyramid(target).ok
    deep = ngff_core.verify_pyramid(target, deep=True, workers=2)
    assert deep.ok, deep.findings
    status = ngff_core.build_status(target)
    assert status.published
    assert [level.done for level in status.levels] == REGIONS
    assert status.builder is None


@pytest.mark.parametrize("kind", UNLISTED)
def test_a_bucket_that_refuses_to_list(places, kind, source, undisturbed, monkeypatch):
    """Interrupting, refusing, replacing, verifying and repairing all work by names."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)
    target = f"{places(kind)}/image.ome.zarr"
    other = {**OPTIONS, "shards": 16}
    with pytest.raises(KeyboardInterrupt):
        ngff_core.build_pyramid(source, target, **other, progress=stopping_at(4))
    with pytest.raises(TargetExistsError, match="shards"):
        ngff_core.build_pyramid(source, target, **OPTIONS)
    ngff_core.build_pyramid(source, target, **OPTIONS, overwrite=True)
    assert_same(stored(target), undisturbed)
    deleted = "0/c/0/2/1"
    open_store(target).delete(deleted)
    found = ngff_core.verify_pyramid(target)
    assert [(f.key, f.what) for f in found.findings] == [(deleted, "missing")]
    assert not found.listed
    assert ngff_core.repair_pyramid(target).ok
    assert_same(stored(target), undisturbed)


@pytest.mark.parametrize("streamed_again", [False, True])
def test_levels_are_read_back_with_halo_strips(
    place, source, tmp_path, monkeypatch, streamed_again
):
    """After an interruption too; no strip is left, whether or not the rest is streamed."""
    options = {"chunks": 8, "shards": 16, "scale_factors": [2, 4], "workers": 2}
    ngff_core.build_pyramid(source, tmp_path / "whole.ome.zarr", **options)
    target = f"{place}/image.ome.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(
            planning,
            "project",
            lambda *given, **named: project(*given, **named | {"stream": False}),
        )
        with pytest.raises(KeyboardInterrupt):
            ngff_core.build_pyramid(source, target, **options, progress=stopping_at(20))
        assert [k for k in keys(f"{target}.build") if k.startswith("halos-1/")]
        if not streamed_again:
            ngff_core.build_pyramid(source, target, **options)
    assert ngff_core.build_pyramid(source, target, **options).verified
    assert_same(stored(target), stored(str(tmp_path / "whole.ome.zarr")))
    assert not [k for k in keys(f"{target}.build") if k.startswith("halos")]


@pytest.mark.parametrize(("origin", "goal", "ending"), MIXES)
def test_a_build_from_one_storage_to_another(places, source_at, undisturbed, origin, goal, ending):
    """Source and target each have their own credentials."""
    target = f"{places(goal)}/out/image.ome.zarr"
    source = source_at(ending, f"{places(origin)}/in")
    assert ngff_core.build_pyramid(source, target, **OPTIONS).verified
    assert_same(stored(target), undisturbed)


def test_through_a_cache(place, source_at, undisturbed):
    """The cache is beside the target, and is deleted afterwards."""
    target = f"{place}/image.ome.zarr"
    report = ngff_core.build_pyramid(source_at("tif", place), target, **OPTIONS, cache="always")
    assert report.cached
    assert_same(stored(target), undisturbed)
    beside = {key.partition("/")[0] for key in keys(f"{target}.build")}
    assert beside == {"plan.json", "windows.json", "lease", "ledger"}


def test_an_interrupted_build_continues(place, source, undisturbed, monkeypatch):
    """There is no readable image before the end. The next run does the rest, and no more."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)
    target = f"{place}/image.ome.zarr"
    with pytest.raises(KeyboardInterrupt):
        ngff_core.build_pyramid(source, target, **OPTIONS, progress=stopping_at(4))
    status = ngff_core.build_status(target)
    assert not status.published
    assert status.builder is None
    assert open_store(target).read("zarr.json") is None
    done = [level.done for level in status.levels]
    # on remote storage more regions are in flight, and those are counted too
    assert done[0] >= 4
    assert sum(done) < sum(REGIONS)
    report = ngff_core.build_pyramid(source, target, **OPTIONS)
    assert [level.fresh for level in report.levels] == [
        n - d for n, d in zip(REGIONS, done, strict=True)
    ]
    assert_same(stored(target), undisturbed)
    assert ngff_core.build_pyramid(source, target, **OPTIONS).fresh == 0


def test_another_plan_is_refused_unless_it_overwrites(place, source, undisturbed):
    """A target with other options stays as it is without ``overwrite``."""
    target = f"{place}/image.ome.zarr"
    other = {**OPTIONS, "chunks": 32}
    ngff_core.build_pyramid(source, target, **other)
    before = stored(target)
    with pytest.raises(TargetExistsError, match="chunks"):
        ngff_core.build_pyramid(source, target, **OPTIONS)
    assert_same(stored(target), before)
    ngff_core.build_pyramid(source, target, **OPTIONS, overwrite=True)
    assert_same(stored(target), undisturbed)


def test_a_foreign_target_is_not_touched(place_kind, place, source):
    """Objects that no build of ours wrote are not deleted.

    In a bucket that refuses to list, documents that zarr would open are found by name, and
    overwriting is refused too.
    """
    target = f"{place}/image.ome.zarr"
    unlisted = "unlisted" in place_kind
    foreign = ".zattrs" if unlisted else "notes.txt"
    open_store(target).write(foreign, b"{}")
    with pytest.raises(TargetExistsError, match="not built by"):
        ngff_core.build_pyramid(source, target, **OPTIONS)
    if unlisted:
        with pytest.raises(TargetExistsError, match="cannot be listed"):
            ngff_core.build_pyramid(source, target, **OPTIONS, overwrite=True)
    assert keys(target) == [foreign]


def test_a_changed_source_is_noticed(place, source_at):
    """By its generation, its ETag, or its size and time."""
    source, target = source_at("npy", place), f"{place}/image.ome.zarr"
    with pytest.raises(KeyboardInterrupt):
        ngff_core.build_pyramid(source, target, **OPTIONS, progress=stopping_at(2))
    data = open_store(source).read("")
    assert data is not None
    open_store(place).write("image.npy", data[:-2] + bytes([1, 2]))
    with pytest.raises(SourceChangedError):
        ngff_core.build_pyramid(source, target, **OPTIONS)


def test_damage_is_found(place, source, undisturbed):
    """A missing object by looking it up, changed bytes of the same size by reading them."""
    target = f"{place}/image.ome.zarr"
    ngff_core.build_pyramid(source, target, **OPTIONS)
    store, key = open_store(target), "0/c/0/1/0"
    good = undisturbed[key]
    store.write(key, good[:-1] + bytes([good[-1] ^ 1]))
    assert ngff_core.verify_pyramid(target).ok
    assert [f.key for f in ngff_core.verify_pyramid(target, deep=True).findings] == [key]
    store.delete(key)
    assert [(f.key, f.what) for f in ngff_core.verify_pyramid(target).findings] == [
        (key, "missing")
    ]


def test_two_builders_of_one_target(place, source, undisturbed):
    """One waits for the other, and finds nothing left to do."""
    target = f"{place}/image.ome.zarr"
    fresh: list[int] = []

    def build() -> None:
        fresh.append(ngff_core.build_pyramid(source, target, **OPTIONS).fresh)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fresh) == [0, sum(REGIONS)]
    assert_same(stored(target), undisturbed)


def options_for(kind: str, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A target's URI, and the ``storage_options`` to reach it."""
    server = request.getfixturevalue("gcs" if kind == "gs" else "s3")
    if kind == "gs":
        options: dict[str, Any] = {"endpoint_url": server.url, "token": "anon"}
    else:
        options = {"endpoint_url": server.url, "key": "test", "secret": "test"}
    return f"{kind}://{server.make_bucket()}/image.ome.zarr", options


@pytest.mark.parametrize("kind", ["gs", "s3"])
def test_credentials_by_storage_options(request, kind, source, undisturbed):
    """They are given to each call, and end up in no stored document."""
    target, options = options_for(kind, request)
    report = ngff_core.build_pyramid(source, target, **OPTIONS, storage_options=options)
    assert report.verified
    assert ngff_core.build_status(target, storage_options=options).published
    assert ngff_core.verify_pyramid(target, deep=True, storage_options=options).ok
    assert_same(stored(target, options), undisturbed)
    texts = json.dumps(stored(target, options), default=repr)
    assert options["endpoint_url"] not in texts


def test_credentials_by_fsspec_configuration(gcs, s3, source_at, undisturbed, monkeypatch):
    """From ``~/.config/fsspec``, or from ``FSSPEC_*`` variables."""
    for protocol, options in fsspec_config(gcs.url, s3.url).items():
        monkeypatch.setitem(fsspec.config.conf, protocol, options)
    source = source_at("zarr", f"gs://{gcs.make_bucket()}")
    target = f"s3://{s3.make_bucket()}/image.ome.zarr"
    assert ngff_core.build_pyramid(source, target, **OPTIONS).verified
    assert_same(stored(target), undisturbed)


def test_an_absent_chunk_in_a_bucket_that_refuses_to_list_is_an_error(places, source_at):
    """It might exist and be unreadable, so it never counts as background."""
    place = places("s3 unlisted")
    source = source_at("zarr", place)
    open_store(source).delete("c/0/1/1")
    with pytest.raises(PermissionError):
        ngff_core.build_pyramid(source, f"{place}/image.ome.zarr", **OPTIONS)
