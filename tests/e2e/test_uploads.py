"""Uploads that become pyramids: a real watcher, server, worker and bucket."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr

import ngff_core
from ngff_core.storage import open_store
from tests.e2e.conftest import FIVE, IN, OUT, SCHEDULED
from tests.e2e.site import until

if TYPE_CHECKING:
    from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

# Without the name of an upload it looks at all, and unlike the scheduled one several at once may.
ON_NOTIFICATION = "watch-uploads/on-notification"
BUILD = "build-pyramid/on-upload"


def pixels(seed: int, length: int = 96) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 999, (length, length)).astype("u2")


def npy(image: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


def tiff(image: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, tile=(32, 32), metadata={"axes": "YX"})
    return file.getvalue()


class Uploads:
    """A folder of the bucket where uploads arrive, which the site watches."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.uri, self.out = f"{IN}/{name}", f"{OUT}/{name}"

    def put(self, name: str, data: bytes) -> None:
        open_store(self.uri).write(name, data)

    def put_folder(self, name: str, image: np.ndarray[Any, Any]) -> None:
        memory: dict[str, Any] = {}
        zarr.create_array(memory, data=image, chunks=(32, 32))
        for key, value in memory.items():
            self.put(f"{name}/{key}", value.to_bytes())

    def look(self, times: int = 1) -> None:
        """Look as the schedule does, so many times at once."""
        runs = [self.site.run(ON_NOTIFICATION) for _ in range(times)]
        for run in runs:
            self.site.finish(run)

    @property
    def runs(self) -> Counter[tuple[str, str]]:
        """How many builds of each upload there are, by their state."""
        prefix = f"{self.uri}/"
        found = [(str(r.parameters["source"]), str(r.state_name)) for r in self.site.runs(BUILD)]
        return Counter((s.removeprefix(prefix), n) for s, n in found if s.startswith(prefix))

    def look_until_settled(self) -> None:
        """Look until a look has nothing left to start or to wait for."""
        for _ in range(12):
            before = self.runs
            self.look()
            for run in self.site.runs(BUILD):
                self.site.end_of(run.id)
            if self.runs == before and not self.waiting:
                return
        raise AssertionError(f"still not settled: {self.runs}\n{self.site.logs}")

    @property
    def waiting(self) -> list[str]:
        """The uploads of which the last look said that they wait."""
        return [row["upload"] for row in self.site.table("uploads") if row["what"] == "wait"]

    @property
    def parked(self) -> dict[str, Any]:
        """What the parked objects say, by the name of the upload."""
        store = open_store(f"{self.uri}/.ngff-flows")
        documents = (store.read(key) for key in store.objects("parked"))
        told = [json.loads(document) for document in documents if document is not None]
        return {one["uri"].removeprefix(f"{self.uri}/"): one for one in told}

    def built(self, name: str) -> np.ndarray[Any, Any]:
        """Level 0 of an upload's pyramid, checked against its ledger to the byte."""
        target = f"{self.out}/{name}.ome.zarr"
        assert ngff_core.verify_pyramid(target, deep=True).ok
        return np.asarray(ngff_core.from_ngff_zarr(target).images[0].data)


def test_five_uploads(site: Site) -> None:
    """Each version of each good upload is built once; the corrupt one is parked with its
    reason after its attempts, and built once it is repaired."""
    uploads = Uploads(site, FIVE)
    whole = npy(pixels(3, 128))
    uploads.put("first.npy", npy(pixels(1)))
    uploads.put("mouse/changed.tif", tiff(pixels(2)))
    uploads.put("growing.npy", whole[: len(whole) // 2])
    uploads.put("corrupt.tif", tiff(pixels(4))[:300])
    uploads.put_folder("folder.zarr", pixels(5))
    uploads.look()
    assert uploads.runs == {}, "nothing is known to be still by one look"

    uploads.put("growing.npy", whole)
    uploads.look()
    uploads.look(times=2)
    uploads.look_until_settled()
    good = ("first.npy", "mouse/changed.tif", "growing.npy", "folder.zarr")
    expected = Counter({(name, "Completed"): 1 for name in good} | {("corrupt.tif", "Failed"): 2})
    assert uploads.runs == expected
    ((name, told),) = uploads.parked.items()
    assert name == "corrupt.tif"
    assert told["reason"].startswith("2 attempts failed, the last with: truncated: 300 bytes")

    uploads.put("mouse/changed.tif", tiff(pixels(6)))
    uploads.put("corrupt.tif", tiff(pixels(7)))
    uploads.look_until_settled()
    expected += Counter([("mouse/changed.tif", "Completed"), ("corrupt.tif", "Completed")])
    assert uploads.runs == expected
    assert uploads.parked == {}
    for name, image in {
        "first": pixels(1),
        "mouse/changed": pixels(6),
        "growing": pixels(3, 128),
        "folder": pixels(5),
        "corrupt": pixels(7),
    }.items():
        np.testing.assert_array_equal(uploads.built(name), image)


def test_schedule_looks_by_itself(site: Site) -> None:
    """Once somebody makes it active; here each ten seconds, in place of each minute."""
    uploads = Uploads(site, SCHEDULED)
    uploads.put("later.npy", npy(pixels(8)))
    with site.schedule("watch-uploads/every-minute", seconds=10):
        until("the upload is built", lambda: uploads.runs[("later.npy", "Completed")])
    assert uploads.runs == {("later.npy", "Completed"): 1}
    np.testing.assert_array_equal(uploads.built("later"), pixels(8))
