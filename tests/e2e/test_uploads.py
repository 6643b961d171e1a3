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
from ngff_core.store import open_store
from tests.e2e.conftest import IN, OUT

if TYPE_CHECKING:
    from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

LOOK = "watch-uploads/every-minute"
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


def put(name: str, data: bytes) -> None:
    open_store(IN).write(name, data)


def put_folder(name: str, image: np.ndarray[Any, Any]) -> None:
    memory: dict[str, Any] = {}
    zarr.create_array(memory, data=image, chunks=(32, 32))
    for key, value in memory.items():
        put(f"{name}/{key}", value.to_bytes())


def parked() -> dict[str, Any]:
    """What the parked objects say, by the name of the upload."""
    store = open_store(f"{IN}/.ngff-flows")
    documents = (store.read(key) for key in store.objects("parked"))
    told = [json.loads(document) for document in documents if document is not None]
    return {one["uri"].removeprefix(f"{IN}/"): one for one in told}


def look(site: Site) -> None:
    site.finish(site.run(LOOK))


def runs(site: Site) -> Counter[tuple[str, str]]:
    """How many builds of each upload there are, by their state."""
    return Counter(
        (str(run.parameters["source"]).removeprefix(f"{IN}/"), str(run.state_name))
        for run in site.runs(BUILD)
    )


def look_until_settled(site: Site) -> None:
    """Look as a schedule does, until a look has nothing left to start or to wait for."""
    for _ in range(12):
        before = runs(site)
        look(site)
        for run in site.runs(BUILD):
            site.end_of(run.id)
        if runs(site) == before and not waiting(site):
            return
    raise AssertionError(f"still not settled: {runs(site)}")


def waiting(site: Site) -> list[str]:
    """The uploads of which the last look said that they wait."""
    return [row["upload"] for row in site.table("uploads") if row["what"] == "wait"]


def built(name: str) -> np.ndarray[Any, Any]:
    """Level 0 of an upload's pyramid, held against its ledger to the byte."""
    target = f"{OUT}/{name}.ome.zarr"
    assert ngff_core.verify_pyramid(target, deep=True).ok
    return np.asarray(ngff_core.from_ngff_zarr(target).images[0].data)


def test_five_uploads(site: Site) -> None:
    """Each version of each good upload is built once; the corrupt one is parked with its
    reason after its attempts, and built once it is mended."""
    whole = npy(pixels(3, 128))
    put("first.npy", npy(pixels(1)))
    put("mouse/changed.tif", tiff(pixels(2)))
    put("growing.npy", whole[: len(whole) // 2])
    put("corrupt.tif", tiff(pixels(4))[:300])
    put_folder("folder.zarr", pixels(5))
    look(site)
    assert runs(site) == {}, "nothing is known to be still by one look"

    put("growing.npy", whole)
    look(site)
    # Two at once, as where a notification comes while the schedule looks.
    both = [site.run(LOOK), site.run("watch-uploads/on-notification")]
    for run in both:
        site.finish(run)
    look_until_settled(site)
    once = [(name, "Completed") for name in ("first.npy", "growing.npy", "folder.zarr")]
    expected = Counter(
        [*once, ("mouse/changed.tif", "Completed"), *[("corrupt.tif", "Failed")] * 2]
    )
    assert runs(site) == expected

    (name,) = parked()
    assert name == "corrupt.tif"
    print(parked())

    put("mouse/changed.tif", tiff(pixels(6)))
    put("corrupt.tif", tiff(pixels(7)))
    look_until_settled(site)
    expected += Counter([("mouse/changed.tif", "Completed"), ("corrupt.tif", "Completed")])
    assert runs(site) == expected
    assert parked() == {}
    for name, image in {
        "first": pixels(1),
        "mouse/changed": pixels(6),
        "growing": pixels(3, 128),
        "folder": pixels(5),
        "corrupt": pixels(7),
    }.items():
        np.testing.assert_array_equal(built(name), image)
