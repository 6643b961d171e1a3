"""Source images, and the result that every build is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import ngff_core
from ngff_core.storage import open_store
from tests.buckets.images import OPTIONS, pixels, stored


@pytest.fixture(scope="session")
def local_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same samples as a zarr array, a TIFF and an ``.npy``."""
    folder = tmp_path_factory.mktemp("sources")
    zarr.create_array(folder / "image.zarr", data=pixels(), chunks=(8, 32, 32))
    tifffile.imwrite(folder / "image.tif", pixels(), tile=(32, 32), metadata={"axes": "ZYX"})
    np.save(folder / "image.npy", pixels())
    return folder


@pytest.fixture
def source_at(local_sources: Path) -> Callable[[str, str], str]:
    """Copies a source (``zarr``, ``tif``, ``npy``) to a folder or bucket, and returns its URI."""

    def put(ending: str, place: str) -> str:
        files = {
            path.relative_to(local_sources).as_posix(): path.read_bytes()
            for path in local_sources.rglob("*")
            if path.is_file()
        }
        store = open_store(place)
        for key, data in files.items():
            if key.startswith(f"image.{ending}"):
                store.write(key, data)
        return f"{place}/image.{ending}"

    return put


@pytest.fixture(scope="session")
def undisturbed(local_sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All objects of a local build that was not disturbed, by key."""
    target = tmp_path_factory.mktemp("whole") / "image.ome.zarr"
    ngff_core.build_pyramid(local_sources / "image.zarr", target, **OPTIONS)
    return stored(str(target))
