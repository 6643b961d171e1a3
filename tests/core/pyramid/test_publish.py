"""Publishing: until the last document is written, no reader takes the store for an image."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import ome_zarr_models
import pytest
import zarr

from ngff_core import build_pyramid
from ngff_core.plan.make import make_plan
from ngff_core.plan.pyramid_plan import ImageInfo, PyramidPlan, SourcePin
from ngff_core.pyramid.publish import (
    create_arrays,
    group_documents,
    is_published,
    publish,
    unpublish,
)
from ngff_core.storage import LocalFiles, ObjectStore, open_store

LAST = {"0.4": ".zattrs", "0.5": "zarr.json"}
every_version = pytest.mark.parametrize("version", ["0.4", "0.5"])


def plan_of(version: str) -> PyramidPlan:
    """A plan of two levels."""
    image = ImageInfo(("y", "x"), (64, 64), "<u2", (1.0, 1.0), (0.0, 0.0), (None, None))
    return make_plan(SourcePin("array:image"), image, scale_factors=[2], ome_zarr_version=version)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A local store with nothing in it."""
    return open_store(tmp_path / "image.ome.zarr")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every key written to any local store, in order."""
    keys: list[str] = []
    write = LocalFiles.write

    def record(self: LocalFiles, key: str, data: bytes) -> None:
        if self.uri.endswith(".ome.zarr"):
            keys.append(key)
        write(self, key, data)

    monkeypatch.setattr(LocalFiles, "write", record)
    return keys


def is_an_image(store: ObjectStore, version: str) -> bool:
    """Whether a reader that shares no code with us finds an image."""
    try:
        group = zarr.open_group(store.zarr(), mode="r", zarr_format=2 if version == "0.4" else 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ome_zarr_models.open_ome_zarr(group)
    except (FileNotFoundError, zarr.errors.GroupNotFoundError, RuntimeError, ValueError):
        return False
    return True


@every_version
def test_the_document_that_makes_it_an_image_is_written_last(
    version: str, tmp_path: Path, written: list[str]
) -> None:
    """After every array, every inner group and every sample."""
    samples = np.zeros((64, 64), "u2")
    build_pyramid(
        samples,
        tmp_path / "image.ome.zarr",
        scale_factors=[2],
        ome_zarr_version=version,
        method="itkwasm_bin_shrink",
    )
    assert written[-1] == LAST[version]
    assert written.count(LAST[version]) == 1
    assert set(written[:-1]) > {"0/c/0/0" if version == "0.5" else "0/0/0"}
    first_samples = next(i for i, key in enumerate(written) if key.endswith("/0/0"))
    documents = [i for i, k in enumerate(written[:-1]) if k.endswith(("zarr.json", ".zarray"))]
    assert max(documents) < first_samples


@every_version
def test_no_reader_takes_an_unfinished_store_for_an_image(version: str, store: ObjectStore) -> None:
    """Arrays, but no group document: zarr and ome-zarr-models refuse it."""
    plan = plan_of(version)
    create_arrays(store, plan)
    assert not is_published(store, plan)
    assert not is_an_image(store, version)
    for key, document in list(group_documents(plan).items())[:-1]:
        store.write(key, document)
    assert not is_published(store, plan)
    assert not is_an_image(store, version)
    publish(store, plan)
    assert is_published(store, plan)
    assert is_an_image(store, version)


@every_version
def test_unpublishing_leaves_the_arrays_and_no_image(version: str, store: ObjectStore) -> None:
    """The first step of overwriting; doing it twice is no error."""
    plan = plan_of(version)
    create_arrays(store, plan)
    arrays = set(store.objects())
    publish(store, plan)
    unpublish(store)
    unpublish(store)
    assert set(store.objects()) == arrays
    assert not is_published(store, plan)
    assert not is_an_image(store, version)


@every_version
def test_publishing_again_puts_the_same_bytes(version: str, store: ObjectStore) -> None:
    """So an interruption in between does no harm."""
    plan = plan_of(version)
    for _ in range(2):
        create_arrays(store, plan)
        publish(store, plan)
        found = {key: store.read(key) for key in store.objects()}
        assert found == {key: store.read(key) for key in found}
    assert is_published(store, plan)


def test_another_plans_document_is_not_ours(store: ObjectStore) -> None:
    """An image is there, but not the one of this plan."""
    publish(store, plan_of("0.5"))
    image = ImageInfo(("y", "x"), (64, 65), "<u2", (1.0, 2.0), (0.0, 0.0), (None, None))
    assert not is_published(store, make_plan(SourcePin("array:image"), image, scale_factors=[2]))
