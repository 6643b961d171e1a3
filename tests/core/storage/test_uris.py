"""URIs and paths: split, made absolute, compared, and shown without credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngff_core.errors import InvalidOptionError
from ngff_core.storage import (
    absolute_uri,
    canonical_uri,
    check_uri,
    is_bucket,
    is_remote,
    open_store,
    public_uri,
    split_uri,
)


@pytest.mark.parametrize(
    ("uri", "head", "name"),
    [
        ("gs://bucket/folder/a.zarr", "gs://bucket/folder", "a.zarr"),
        ("s3://bucket/a.zarr/", "s3://bucket", "a.zarr"),
        ("memory://x/y", "memory://x", "y"),
        ("/data/folder/a.zarr", "/data/folder", "a.zarr"),
        ("/data/folder/a.zarr/", "/data/folder", "a.zarr"),
        ("file:///data/a.zarr", "/data", "a.zarr"),
    ],
)
def test_a_uri_splits_into_its_folder_and_name(uri: str, head: str, name: str) -> None:
    """A slash at the end says nothing."""
    assert split_uri(uri) == (head, name)
    assert absolute_uri(uri) == f"{head}/{name}"


@pytest.mark.parametrize("uri", ["gs://bucket", "gs://bucket/", "memory://place"])
def test_a_bare_bucket_stays_what_it_is(uri: str) -> None:
    """It is in no folder, and its scheme is none either."""
    assert absolute_uri(uri) == uri.rstrip("/")
    assert split_uri(uri) == (uri.rstrip("/"), "")


def test_a_local_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written, so that a plan names the same place from any folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = str(tmp_path / "a.zarr")
    for text in ("a.zarr", "./a.zarr", "a.zarr/", Path("a.zarr"), expected, f"file://{expected}"):
        assert absolute_uri(text) == expected
    assert absolute_uri("~/a.zarr") == "/home/somebody/a.zarr"
    assert open_store("a.zarr").uri == expected


@pytest.mark.parametrize("uri", ["file:///data/", "file://bucket"])
def test_a_file_uri_is_a_path_and_no_bucket(uri: str) -> None:
    assert not is_bucket(uri)
    assert "://" not in absolute_uri(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/a.zarr", "s3://bucket/a.zarr"),
        ("https://me@images.org/a.npy?token=5#x", "https://images.org/a.npy"),
        ("http://images.org/a.npy#token", "http://images.org/a.npy"),
        ("ftp://me:pw@images.org", "ftp://images.org"),
    ],
)
def test_credentials_in_a_uri_are_neither_shown_nor_accepted(uri: str, shown: str) -> None:
    """The error has the URI without them, and says how to give them."""
    assert public_uri(uri) == shown
    with pytest.raises(InvalidOptionError, match="storage options") as caught:
        check_uri(uri)
    assert str(caught.value).startswith(f"{shown}: ")
    with pytest.raises(InvalidOptionError):
        open_store(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "gs://lab/what?.npy",
        "s3://lab/me@home.zarr",
        "https://images.org/a.npy",
        "/data/me@home?.zarr",
        "file:///data/me@home?.zarr",
        "a b#c.zarr",
    ],
)
def test_a_uri_without_credentials_stays_as_it_is(uri: str) -> None:
    """An object's name may contain any of these characters."""
    assert public_uri(uri) == uri
    check_uri(uri)


def test_spellings_of_one_location_compare_equal(tmp_path: Path) -> None:
    """Links are resolved, so that two targets in one folder are found to be the same."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    real = str(tmp_path.resolve() / "real" / "a.zarr")
    for spelled in ("link/a.zarr", "real/../real//a.zarr", "real/a.zarr/"):
        assert canonical_uri(f"{tmp_path}/{spelled}") == real
        assert canonical_uri(f"file://{tmp_path}/{spelled}") == real
    assert canonical_uri("gcs://lab//a/") == canonical_uri("gs://lab/a") == "gs://lab/a"
    assert canonical_uri("s3://lab/a") == "s3://lab/a"


@pytest.mark.parametrize(
    ("uri", "remote"),
    [
        ("gs://b/a", True),
        ("s3://b/a", True),
        ("https://b/a", True),
        ("memory://b/a", False),
        ("local://b/a", False),
        ("file:///b/a", False),
        ("/b/a", False),
        ("a", False),
    ],
)
def test_buckets_are_remote_and_files_are_not(uri: str, remote: bool) -> None:
    assert is_remote(uri) is remote
