"""Files that are one image together."""

from __future__ import annotations

import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile

from ngff_core import build_pyramid, inspect_source
from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import Channel
from ngff_core.model.selection import Selection
from ngff_core.sources import joined, open_source

DATA = np.random.default_rng(3).integers(0, 999, (2, 5, 40, 48)).astype("u2")
PATTERN = "p_z{z}_c{c}.tif"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for c, name in enumerate(("DAPI", "GFP")):
        for z in range(5):
            tifffile.imwrite(tmp_path / f"p_z{z:02}_c{name}.tif", DATA[c, z])
    return tmp_path


def test_files_become_one_image(folder: Path) -> None:
    """With channels named by the files, and a note on what was joined."""
    with open_source(f"{folder}/{PATTERN}") as source:
        assert source.image.dims == ("c", "z", "y", "x")
        assert source.about.channels == (Channel("DAPI"), Channel("GFP"))
        np.testing.assert_array_equal(source.image.data[:, :, :, :], DATA)
        np.testing.assert_array_equal(source.image.data[1:, 2:4, 3:9, 5:6], DATA[1:, 2:4, 3:9, 5:6])
        assert "joined from 10 files" in str(source.about.notes[0])
        assert source.read_unit[:2] == (1, 1)


def test_files_in_a_bucket_too(folder: Path) -> None:
    """By the store's listing."""
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe_file(f"/joined/{path.name}", path.read_bytes())
    with open_source(f"memory://joined/{PATTERN}") as source:
        np.testing.assert_array_equal(source.image.data[:, :, :, :], DATA)


def test_a_folder_whose_names_tell_the_axes_is_one_image(folder: Path) -> None:
    """Numbers with a letter before them; here c has names, so the folder alone does not tell."""
    for path in folder.iterdir():
        path.rename(folder / path.name.replace("DAPI", "0").replace("GFP", "1"))
    with open_source(folder) as source:
        np.testing.assert_array_equal(source.image.data[:, :, :, :], DATA)


def test_a_pyramid_of_them_is_built_and_checked_again(folder: Path) -> None:
    """A change of one file is a change of the source."""
    report = build_pyramid(f"{folder}/{PATTERN}", f"{folder}.ome.zarr", scale={"z": 2})
    assert report.verified
    before = inspect_source(f"{folder}/{PATTERN}").pins
    tifffile.imwrite(folder / "p_z03_cGFP.tif", DATA[0, 0])
    assert inspect_source(f"{folder}/{PATTERN}").pins != before


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("p_z02_cGFP.tif", DATA[0, 0, :9], "p_z02_cGFP.tif: y 9, x 48 of uint16, but .*y 40"),
        ("p_z02_cGFP.tif", DATA[0, 0].astype("u1"), "of uint8, but"),
    ],
)
def test_files_that_differ_are_refused(
    folder: Path, name: str, data: np.ndarray, words: str
) -> None:
    """By name, before anything is built."""
    tifffile.imwrite(folder / name, data)
    with pytest.raises(SourceFormatError, match=words):
        open_source(f"{folder}/{PATTERN}")


def test_an_axis_in_names_and_files_is_refused(folder: Path) -> None:
    """Each file would be a stack along the axis that joins them."""
    for path in folder.iterdir():
        tifffile.imwrite(path, DATA[0], imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(SourceFormatError, match="has 5 positions on the axis z itself"):
        open_source(f"{folder}/{PATTERN}")


def test_a_file_of_that_very_name_is_no_pattern(tmp_path: Path) -> None:
    """Braces are letters like others."""
    np.save(tmp_path / "a_{z}.npy", DATA[0])
    with open_source(tmp_path / "a_{z}.npy") as source:
        assert source.image.data.shape == (5, 40, 48)


def test_threads_share_few_open_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen threads read any file at any time, and no more than the limit stay open."""
    monkeypatch.setattr(joined, "_OPEN", 2)
    wrong: list[tuple[int, int]] = []
    with open_source(f"{folder}/{PATTERN}", selection=Selection()) as source:

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            for c, z in rng.integers(0, (2, 5), (20, 2)).tolist():
                found = np.asarray(source.image.data[c : c + 1, z : z + 1, 0:40, 0:48])
                if not np.array_equal(found[0, 0], DATA[c, z]):
                    wrong.append((c, z))

        threads = [threading.Thread(target=read, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
