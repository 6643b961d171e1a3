"""Builds on buckets whose requests fail in every way that the proxy supports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

import ngff_core
from ngff_core.build.report import retries_text
from ngff_core.errors import StoredDataError, TransientError
from ngff_core.plan.pyramid_plan import LevelPlan, PyramidPlan
from ngff_core.progress import Advanced, Finished
from ngff_core.pyramid.level_io import open_level
from ngff_core.records.build_folder import read_plan, target_stores
from ngff_core.sources import open_source
from ngff_core.storage import ObjectStore, open_store, retrying
from ngff_core.storage.retry import retries_by_kind
from tests.buckets.images import OPTIONS, REGIONS, assert_same, stored
from tests.servers.proxy import Fault, Proxy, proxy

WRITES = "PUT|POST"
CHUNK = "0/c/0/1/0"


@dataclass
class Place:
    """A bucket, and the proxy in front of it."""

    root: str
    options: dict[str, Any]
    between: Proxy

    @property
    def target(self) -> str:
        return f"{self.root}/image.ome.zarr"

    def build(self, source: str, **more: Any) -> ngff_core.BuildReport:
        return ngff_core.build_pyramid(
            source, self.target, **OPTIONS, storage_options=self.options, **more
        )

    def stored(self) -> dict[str, Any]:
        self.between.script()
        return stored(self.target, self.options)

    def store(self) -> ObjectStore:
        return open_store(self.root, self.options)


@pytest.fixture(scope="module")
def proxies(gcs: Any, s3: Any) -> Iterator[dict[str, Proxy]]:
    with proxy(gcs.url, seed=5) as before_gcs, proxy(s3.url, seed=5, xml=True) as before_s3:
        yield {"gs": before_gcs, "s3": before_s3}


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, gcs: Any, s3: Any, proxies: Any) -> Place:
    between = proxies[request.param]
    between.script()
    if request.param == "gs":
        options = {"endpoint_url": between.url, "token": "anon"}
        return Place(f"gs://{gcs.make_bucket()}", options, between)
    options = {"endpoint_url": between.url, "key": "test", "secret": "test"}
    return Place(f"s3://{s3.make_bucket()}", options, between)


@pytest.fixture
def source(local_sources: Any) -> str:
    return str(local_sources / "image.zarr")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of clients and our own random ones, but not those a service asks for."""
    real = asyncio.sleep

    def shortly(module: str) -> None:
        names = {name: getattr(asyncio, name) for name in dir(asyncio) if name[0] != "_"}

        async def sleep(seconds: float, *_: Any) -> None:
            await real(seconds / 200)

        monkeypatch.setattr(f"{module}.asyncio", SimpleNamespace(**names | {"sleep": sleep}))

    import aiobotocore.endpoint  # noqa: F401
    import gcsfs.retry  # noqa: F401
    import s3fs.core  # noqa: F401

    for module in ("gcsfs.retry", "aiobotocore.endpoint", "s3fs.core"):
        shortly(module)
    monkeypatch.setattr(
        "ngff_core.storage.retry.tenacity.wait_random_exponential", lambda **_: tenacity.wait_none()
    )


def test_one_request_in_twenty_fails(place, source_at, local_sources, undisturbed):
    """Faults of every kind, on source and target: one build, and the bytes show none of it."""
    place.store().write("image.npy", (local_sources / "image.npy").read_bytes())
    place.between.script(
        Fault("status", status=503, chance=0.01),
        Fault("status", status=500, chance=0.01),
        Fault("status", status=429, chance=0.01),
        Fault("reset", chance=0.01),
        Fault("truncate", method="GET", chance=0.01),
        Fault("reset upload", method=WRITES, chance=0.01),
        Fault("drop reply", method=WRITES, chance=0.02),
    )
    report = place.build(f"{place.root}/image.npy")
    assert report.verified
    deep = ngff_core.verify_pyramid(
        place.target, deep=True, workers=2, storage_options=place.options
    )
    assert deep.ok, deep.findings
    assert sum(place.between.injected.values()) >= 4
    assert_same(place.stored(), undisturbed)


@pytest.mark.parametrize("name", ["image.npy", "image.tif"])
@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_a_file_is_opened_despite_faults(place, local_sources, name, kind):
    """Its header is read in ranges, and each of them may break off."""
    place.store().write(name, (local_sources / name).read_bytes())
    place.between.script(Fault(kind, method="GET", path=rf"{name}[? ]", nth=[1, 2, 4]))
    with open_source(f"{place.root}/{name}", place.options) as opened:
        assert opened.image.data.shape
    assert sum(place.between.injected.values()) == 3, list(place.between.asked)


@pytest.mark.parametrize("status", [401, 403])
def test_missing_permission_is_reported_at_once(place, source, status):
    """With the object's name. 401 may also be about a token that has just been renewed, so that
    one is retried a few times."""
    place.between.script(Fault("status", method=WRITES, path="image.ome.zarr", status=status))
    began = time.monotonic()
    with pytest.raises(PermissionError, match=r"image\.ome\.zarr.* could not be "):
        place.build(source)
    assert time.monotonic() - began < 5
    assert sum(place.between.injected.values()) == {401: 4, 403: 1}[status]


def test_an_expired_token_is_tried_again(place, source, undisturbed):
    """Twice refused, the third attempt succeeds with another token."""
    place.between.script(Fault("status", path="0/c/0/1/0", nth=[1, 2], status=401))
    report = place.build(source)
    assert report.levels[0].retries == {"401": 2}
    assert_same(place.stored(), undisturbed)


def test_retries_are_reported_by_kind_and_level(place, source):
    """And none where there were none, as for a build that was complete already."""
    place.between.script(
        Fault("status", method=WRITES, path="0/c/0/1/0", nth=[1, 2], status=503),
        Fault("status", method=WRITES, path="0/c/0/1/1", nth=[1], status=429),
        Fault("status", method=WRITES, path="1/c/", nth=[1], status=500),
        Fault("status", method=WRITES, path="plan.json", nth=[1], status=503),
    )
    advanced: list[Any] = []
    report = place.build(source, progress=advanced.append)
    assert [level.retries for level in report.levels] == [{"429": 1, "503": 2}, {"500": 1}]
    assert report.retries_beside == {"503": 1}
    assert report.retries == {"429": 1, "500": 1, "503": 3}
    assert retries_text(report.retries) == "5 (503: 3, 429: 1, 500: 1)"
    assert {e.phase: e.retries for e in advanced if isinstance(e, Finished)} == {
        "level-0": 3,
        "level-1": 1,
        "verify": 0,
    }
    assert place.build(source).retries == {}


def test_a_region_has_a_budget(place, source, undisturbed, monkeypatch):
    """Of retries, whichever request needs them. Then the error names the region."""
    monkeypatch.setattr(ngff_core.config, "region_retries", 3)
    place.between.script(Fault("status", method=WRITES, path=CHUNK, status=503))
    message = rf"{CHUNK} could not be written: 503 .*; storing region \d of 0 at .*3 retries"
    with pytest.raises(TransientError, match=message + r".*503: 3.*run the same command again"):
        place.build(source)
    assert place.between.injected == {"503": 4}
    place.between.script()
    assert place.build(source).verified
    assert_same(place.stored(), undisturbed)


def test_the_budget_is_of_seconds_too(place, source, monkeypatch):
    """Seconds while a request of the region fails; time without failures does not count."""
    monkeypatch.setattr(ngff_core.config, "region_seconds", 0.0)
    place.between.script(Fault("status", method=WRITES, path=CHUNK, nth=[1], status=503))
    with pytest.raises(TransientError, match="0 retries in 0 s"):
        place.build(source)


def test_listings_alone_may_be_refused(place, source, undisturbed):
    """Everything works by names, if absent objects are answered with 404."""
    place.between.script(Fault("status", method="GET", path=r"\?(.*&)?prefix=", status=403))
    assert place.build(source).verified
    assert place.between.injected["403"]
    assert_same(place.stored(), undisturbed)


def test_after_an_outage_the_same_command_continues(place, source, undisturbed):
    """One that outlasts all retries: the error names the object, and finished work is kept."""
    key = "1/c/0/1/0"
    place.between.script(Fault("status", method=WRITES, path=key, status=503))
    with pytest.raises(TransientError, match=rf"{key} could not be written: 503"):
        place.build(source)
    place.between.script()
    status = ngff_core.build_status(place.target, storage_options=place.options)
    assert not status.published
    report = place.build(source)
    assert report.fresh == sum(REGIONS) - sum(level.done for level in status.levels)
    assert_same(place.stored(), undisturbed)


def test_a_create_whose_reply_is_lost_counts_as_ours(place, source, undisturbed, monkeypatch):
    """Plan, lease and receipts were created, though the client did not learn of it."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)
    names = ("plan.json", "lease/000001", "ledger/0/segments/000000")
    place.between.script(*(Fault("drop reply", method=WRITES, path=n, nth=[1]) for n in names))
    assert place.build(source).verified
    assert place.between.injected == {"drop reply": 3}
    assert_same(place.stored(), undisturbed)


def interrupt_before_level_1(place: Place, source: str, monkeypatch: Any) -> None:
    """Leave a build with level 0 stored, and level 1 not."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)

    def listen(event: Any) -> None:
        if isinstance(event, Advanced) and event.phase == "level-0" and event.done == REGIONS[0]:
            raise KeyboardInterrupt

    place.between.script(Fault("status", method=WRITES, path="1/c/", status=503))
    with pytest.raises((KeyboardInterrupt, TransientError)):
        place.build(source, progress=listen)
    place.between.script()


def test_a_404_of_our_own_chunk_is_never_background(place, source, undisturbed, monkeypatch):
    """Answered once, the chunk is read again; answered always, it is damage."""
    interrupt_before_level_1(place, source, monkeypatch)
    read = {"method": "GET|HEAD", "path": "0/c/"}
    place.between.script(Fault("status", status=404, **read))
    with pytest.raises(StoredDataError, match="level below cannot be read"):
        place.build(source)
    place.between.script(Fault("status", status=404, nth=[1, 4], **read))
    assert place.build(source).verified
    assert place.between.injected == {"404": 2}
    assert_same(place.stored(), undisturbed)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_flipped_bit_on_the_way_there(place, source, undisturbed, nth):
    """The stored bytes are compared with those that were sent."""
    place.between.script(Fault("flip upload", method=WRITES, path="0/c/", nth=[nth]))
    assert place.build(source).verified
    assert place.between.injected == {"flip upload": 1}
    assert_same(place.stored(), undisturbed)


def test_a_flipped_bit_in_what_is_created(place, source, undisturbed, monkeypatch):
    """It is written again: another create would only find the damaged object."""
    monkeypatch.setattr(ngff_core.config, "receipt_seconds", 0.0)
    path = "ledger/0/segments/000000"
    place.between.script(Fault("flip upload", method=WRITES, path=path, nth=[1]))
    assert place.build(source).verified
    assert_same(place.stored(), undisturbed)


def test_a_flipped_bit_on_the_way_back(place, local_sources):
    """Complete objects are compared with the checksum that comes with them."""
    data = (local_sources / "image.npy").read_bytes()
    place.store().write("image.npy", data)
    place.between.script(Fault("flip download", method="GET", path="image.npy", nth=[1]))
    assert retrying(place.store().read, "image.npy") == data
    assert place.between.injected == {"flip download": 1}


def test_retry_after_is_heeded_and_counted(place):
    """A service that asks for a pause of one second gets it."""
    place.store().write("key", b"x")
    before = retries_by_kind()
    place.between.script(
        Fault("status", method="GET", path="key", nth=[1], status=429, retry_after="1")
    )
    began = time.monotonic()
    assert retrying(place.store().read, "key") == b"x"
    assert place.between.injected == {"429": 1}
    assert time.monotonic() - began >= 1
    assert (retries_by_kind() - before)["429"] == 1


def test_a_stalled_connection_is_given_up(gcs, proxies):
    """After the timeout, and the request is retried."""
    import aiohttp

    between = proxies["gs"]
    options = {
        "endpoint_url": between.url,
        "token": "anon",
        "requests_timeout": aiohttp.ClientTimeout(total=None, sock_read=0.3),
    }
    store = open_store(f"gs://{gcs.make_bucket()}", options)
    store.write("key", b"x")
    between.script(Fault("stall", path="key", nth=[1], seconds=20))
    began = time.monotonic()
    assert store.read("key") == b"x"
    assert 0.3 <= time.monotonic() - began < 10


def test_a_flipped_bit_in_a_part_of_a_shard(place, source):
    """Services send no checksum for a part. The chunk's own checksum shows the damage."""
    assert place.build(source).verified
    array = open_level(open_store(place.target, place.options), *plan_and_level(place))
    part = (slice(0, 16), slice(32, 48), slice(0, 16))
    undisturbed = array[part]
    path = "0/c/0/1/0"
    place.between.script(Fault("flip download", method="GET", path=path))
    with pytest.raises(ValueError, match=r"[Cc]hecksum"):
        array[part]
    place.between.script()
    assert (array[part] == undisturbed).all()


def plan_and_level(place: Place) -> tuple[PyramidPlan, LevelPlan]:
    plan = read_plan(*target_stores(place.target, place.options))
    return plan, plan.levels[0]
