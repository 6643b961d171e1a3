"""Local folders: links, temporary files, and large files that leave the page cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ngff_core.storage import PARTIAL, LocalFiles, local
from ngff_core.storage.base import Entry, as_buffer


@pytest.fixture
def store(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "store")


def test_a_link_is_listed_as_an_object(store: LocalFiles, tmp_path: Path) -> None:
    """With size and time of its destination: a link to a folder might lead back up."""
    (tmp_path / "file").write_bytes(b"123")
    os.utime(tmp_path / "file", (5, 5))
    store.root.mkdir()
    (store.root / "link").symlink_to(tmp_path / "file")
    (store.root / "up").symlink_to(tmp_path)
    (store.root / "broken").symlink_to(tmp_path / "nothing")
    found = store.folder()
    assert list(found) == ["link", "up"]
    assert not any(entry.is_folder for entry in found.values())
    assert (found["link"].size, found["link"].modified) == (3, 5.0)
    assert store.entry("link") == found["link"]
    assert list(store.objects()) == ["link"]


def test_deleting_a_link_leaves_its_destination(store: LocalFiles, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "key").write_bytes(b"x")
    store.root.mkdir()
    (store.root / "link").symlink_to(tmp_path / "data")
    store.delete_tree("link")
    assert not (store.root / "link").exists()
    assert (tmp_path / "data" / "key").exists()
    store.write("file", b"x")
    store.delete_tree("file")
    assert store.objects() == {}


def test_a_tree_that_another_process_deletes_too_is_no_error(
    store: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other errors are raised."""
    store.write("a/b", b"x")
    real = os.unlink

    def failing(error: Exception) -> Callable[..., None]:
        def unlink(*args: Any, **kwargs: Any) -> None:
            if isinstance(error, FileNotFoundError):
                real(*args, **kwargs)
            raise error

        return unlink

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing(PermissionError(errno.EACCES, "not yours")))
        with pytest.raises(PermissionError, match="not yours"):
            store.delete_tree()
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing(FileNotFoundError(errno.ENOENT, "gone")))
        store.delete_tree()
    assert store.is_empty()


def test_temporary_names_say_so_and_are_unique(
    store: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the object, so that the rename is atomic."""
    names: list[Path] = []
    real = local.write_file

    def write_file(path: Path, data: Any) -> None:
        names.append(path)
        real(path, data)

    monkeypatch.setattr(local, "write_file", write_file)
    store.write("a/key", b"1")
    store.write("a/key", b"2")
    assert not store.create("a/key", b"3")
    assert len(set(names)) == 3
    for path in names:
        assert path.parent == store.root / "a"
        assert path.name.startswith("key.")
        assert path.name.endswith(PARTIAL)
    assert [path.name for path in (store.root / "a").iterdir()] == ["key"]


def test_an_object_may_be_written_in_parts(store: LocalFiles) -> None:
    """By a function that is given `write`; in one buffer where a client needs all at once."""

    def parts(write: Callable[[Any], object]) -> None:
        for part in (b"ab", bytearray(b"c"), memoryview(b"d")):
            write(part)

    store.write("key", parts)
    assert store.read("key") == b"abcd"
    assert as_buffer(parts) == b"abcd"
    assert as_buffer(b"abcd") == b"abcd"


def test_a_written_file_is_registered_with_its_size(
    store: LocalFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that large ones leave the page cache; all bytes are with the system by then."""
    seen: list[tuple[int, int]] = []

    def wrote(file: int, nbytes: int) -> None:
        seen.append((os.fstat(file).st_size, nbytes))

    monkeypatch.setattr(local.write_behind, "wrote", wrote)
    store.write("key", bytes(1000))
    store.write("parts", lambda write: write(bytes(10)) and write(bytes(7)))
    assert seen == [(1000, 1000), (17, 17)]


def test_a_file_is_empty_as_a_store_only_if_it_is_absent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert not LocalFiles(tmp_path / "file").is_empty()
    assert LocalFiles(tmp_path / "none").is_empty()
    assert LocalFiles(tmp_path / "file").folder() == {}
    assert LocalFiles(tmp_path / "file").entry("") == LocalFiles(tmp_path).folder()["file"]
    assert LocalFiles(tmp_path).entry("") == Entry.of_folder()
    assert LocalFiles(tmp_path).entry("file/below") is None


def test_a_range_of_nothing_is_nothing(tmp_path: Path) -> None:
    """Of a folder, too, and below a file."""
    (tmp_path / "file").write_bytes(b"123")
    store = LocalFiles(tmp_path)
    assert store.read_part("file", 1, 5) == b"23"
    for key in ("", "none", "file/below"):
        assert store.read_part(key, 0, 1) is None
    store.delete("file/below")
    store.delete("none")
