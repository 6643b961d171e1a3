"""The number of requests of a build, exactly: each of them costs time and money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ngff_core
from ngff_core.storage import open_store
from tests.buckets.images import OPTIONS, REGIONS
from tests.servers.proxy import Proxy, proxy

LEVELS = len(REGIONS)
SOURCE_CHUNKS = 3 * 3 * 3


@dataclass
class Place:
    """A bucket, and the proxy in front of it."""

    root: str
    options: dict[str, Any]
    between: Proxy

    def put(self, folder: Path) -> str:
        """Copy the image in ``folder`` to the bucket, and return its URI."""
        store = open_store(f"{self.root}/{folder.name}", self.options)
        for path in folder.rglob("*"):
            if path.is_file():
                store.write(path.relative_to(folder).as_posix(), path.read_bytes())
        return store.uri

    def build(self, source: str) -> tuple[ngff_core.BuildReport, list[str]]:
        """Build, and return the report and the requests that were made."""
        self.between.script()
        target = f"{self.root}/image.ome.zarr"
        report = ngff_core.build_pyramid(source, target, **OPTIONS, storage_options=self.options)
        return report, list(self.between.asked)


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, gcs: Any, s3: Any) -> Iterator[Place]:
    server, secrets = {
        "gs": (gcs, {"token": "anon"}),
        "s3": (s3, {"key": "test", "secret": "test"}),
    }[request.param]
    with proxy(server.url, xml=request.param == "s3") as between:
        options = {"endpoint_url": between.url} | secrets
        yield Place(f"{request.param}://{server.make_bucket()}", options, between)


def of_chunks(asked: list[str], method: str, name: str) -> int:
    chunks = [request for request in asked if f"{name}/" in request and "/c/" in request]
    return sum(request.startswith(method) for request in chunks)


def test_a_region_is_read_and_written_once(place, local_sources):
    """One GET for each chunk of the source, one PUT for each shard; nothing is read back."""
    source = place.put(local_sources / "image.zarr")
    report, asked = place.build(source)
    assert report.fresh == sum(REGIONS)
    assert of_chunks(asked, "GET", "image.zarr") == SOURCE_CHUNKS
    assert of_chunks(asked, "HEAD", "image.zarr") == 0
    assert of_chunks(asked, "P", "image.ome.zarr") == sum(REGIONS)
    assert of_chunks(asked, "GET", "image.ome.zarr") == 0
    # plan, lease, arrays, ledgers, listings, metadata, verification
    assert len(asked) - SOURCE_CHUNKS - sum(REGIONS) <= 25 + 10 * LEVELS


def test_a_finished_build_is_recognized_in_few_requests(place, local_sources):
    """When the same command runs again: at most two for each level, and five more."""
    source = place.put(local_sources / "image.zarr")
    place.build(source)
    report, asked = place.build(source)
    assert report.fresh == 0
    assert report.verified
    assert len(asked) <= 2 * LEVELS + 5, asked


def test_resuming_before_publishing_takes_few_requests(place, local_sources):
    """Everything is written but the group document: two for each level, and some for the
    lease, for look-ups that are repeated, and for publishing."""
    source = str(local_sources / "image.zarr")
    place.build(source)
    open_store(f"{place.root}/image.ome.zarr", place.options).delete("zarr.json")
    report, asked = place.build(source)
    assert report.fresh == 0
    assert report.verified
    assert len(asked) <= 2 * LEVELS + 14, asked
