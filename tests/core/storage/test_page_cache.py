"""Written files are released from the page cache, in order and each once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ngff_core import build_pyramid
from ngff_core.storage.page_cache import BEHIND_BYTES, SMALLEST_BYTES, WriteBehind, write_behind


def written(behind: WriteBehind, folder: Path, name: str, nbytes: int) -> int:
    """Register a file as one of this many bytes, and return its inode."""
    with (folder / name).open("wb") as file:
        behind.wrote(file.fileno(), nbytes)
        return os.fstat(file.fileno()).st_ino


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_released_when_enough_was_written_after_it(tmp_path: Path) -> None:
    """Advised at once, which starts the writing; advised again when the disk has had time."""
    advised: list[int] = []
    behind = WriteBehind(lambda file: advised.append(os.fstat(file).st_ino))
    before, half = open_files(), BEHIND_BYTES // 2
    a, b, c, d = (written(behind, tmp_path, name, half) for name in "abcd")
    assert advised == [a, b, c, a, d, b]
    assert behind.waiting == 2
    behind.settle()
    assert advised[6:] == [c, d]
    assert open_files() == before
    assert behind.waiting == 0
    behind.settle()
    assert len(advised) == 8


def test_only_large_files_are_released(tmp_path: Path) -> None:
    """The system handles many small ones better by itself."""
    advised: list[int] = []
    behind = WriteBehind(advised.append)
    written(behind, tmp_path, "a", SMALLEST_BYTES - 1)
    behind.settle()
    assert advised == []
    written(behind, tmp_path, "b", SMALLEST_BYTES)
    assert (len(advised), behind.waiting) == (1, 1)
    behind.settle()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")
def test_the_system_is_advised_for_the_complete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that does not support it is no error."""
    write_behind.settle()
    seen: list[tuple[int, ...]] = []

    def advise(*arguments: int) -> None:
        seen.append(arguments)
        raise OSError

    monkeypatch.setattr(os, "posix_fadvise", advise)
    with (tmp_path / "a").open("wb") as file:
        write_behind.wrote(file.fileno(), SMALLEST_BYTES)
        assert seen[0] == (file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        write_behind.settle()
    assert len(seen) == 2


def test_a_build_ends_with_no_file_waiting(tmp_path: Path) -> None:
    """The files of its last regions are released too."""
    samples = np.random.default_rng(0).integers(0, 2**16, (64, 256, 256), "u2")
    report = build_pyramid(samples, tmp_path / "a.ome.zarr", scale_factors=[2])
    assert report.levels[0].stored_bytes > SMALLEST_BYTES
    assert not write_behind.waiting
