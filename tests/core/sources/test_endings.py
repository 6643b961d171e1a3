"""What an image without a name is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from ngff_core.sources import open_source
from ngff_core.sources.endings import name_from_uri


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/brain.npy", "brain"),
        ("s3://lab/run 1/Brain Nr. 7.OME.TIFF", "Brain Nr. 7"),
        ("/data/stack/", "stack"),
        ("/data/pA_z{z}_c{c}.tif", "pA"),
        ("/data/plate_*_z{z}.tif", "plate"),
        ("/data/z{z}.tif", "image"),
        ("memory://140292123", None),
        ("memory://140292123/cells.zarr", "cells"),
        ("", None),
        ("/", None),
    ],
)
def test_the_file_gives_the_name(uri: str, name: str | None) -> None:
    assert name_from_uri(uri) == name


def test_a_file_without_a_name_inside_is_called_like_itself(tmp_path: Path) -> None:
    np.save(tmp_path / "brain.npy", np.zeros((4, 4), "u1"))
    with open_source(tmp_path / "brain.npy") as opened:
        assert opened.image.name == "brain"


def test_what_has_no_file_is_an_image() -> None:
    store = zarr.storage.MemoryStore()
    zarr.save_array(store, np.zeros((4, 4), "u1"))
    for source in (np.zeros((4, 4), "u1"), store):
        with open_source(source) as opened:
            assert opened.image.name == "image"


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    """As file systems have them: no metadata document could hold them."""
    path = tmp_path / "caf\udce9.npy"
    np.save(path, np.zeros((4, 4), "u1"))
    with open_source(path) as opened:
        assert opened.image.name == "caf?"
