"""What the system is told of files that were written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ngff_core import build_pyramid
from ngff_core.storage.page_cache import BEHIND_BYTES, SMALLEST_BYTES, WriteBehind, write_behind


def written(behind: WriteBehind, folder: Path, name: str, nbytes: int) -> int:
    """A file of which ``behind`` is told that it has so many bytes; its inode."""
    with (folder / name).open("wb") as file:
        behind.wrote(file.fileno(), nbytes)
        return os.fstat(file.fileno()).st_ino


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_let_go_of_when_as_much_was_written_after_it(tmp_path: Path) -> None:
    """Once at once, which has the disk begin; again when the disk has had its time."""
    told: list[int] = []
    behind = WriteBehind(lambda file: told.append(os.fstat(file).st_ino))
    before, half = open_files(), BEHIND_BYTES // 2
    a, b, c, d = (written(behind, tmp_path, name, half) for name in "abcd")
    assert told == [a, b, c, a, d, b]
    behind.settle()
    assert told[6:] == [c, d]
    assert open_files() == before
    behind.settle()
    assert len(told) == 8


def test_small_files_are_left_to_the_system(tmp_path: Path) -> None:
    told: list[int] = []
    behind = WriteBehind(told.append)
    written(behind, tmp_path, "a", SMALLEST_BYTES - 1)
    behind.settle()
    assert told == []


def test_a_build_ends_with_no_file_waiting(tmp_path: Path) -> None:
    """Those of the last regions too."""
    samples = np.random.default_rng(0).integers(0, 2**16, (64, 256, 256), "u2")
    report = build_pyramid(samples, tmp_path / "a.ome.zarr", scale_factors=[2])
    assert report.levels[0].stored_bytes > SMALLEST_BYTES
    assert not write_behind.waiting
