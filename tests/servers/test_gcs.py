"""The emulator answers Google's own client and gcsfs as Google does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from gcsfs.core import GCSFileSystem

from tests.servers.gcs import GcsServer, gcs_server

ENDS = [b"", b"x", b"ends in\r", b"ends in\n", b"\r\n--==0==--", b"\r\n\r\n", bytes(range(256))]


@pytest.fixture(scope="module")
def server() -> Iterator[GcsServer]:
    """Gives four names of a listing at a time."""
    before = set(threading.enumerate())
    with gcs_server(page=4) as server:
        yield server
    assert not [t for t in set(threading.enumerate()) - before if "GcsServer" in t.name]


@pytest.fixture
def bucket(server: GcsServer) -> str:
    return server.make_bucket()


@pytest.fixture
def fs(server: GcsServer) -> GCSFileSystem:
    return GCSFileSystem(endpoint_url=server.url, token="anon", skip_instance_cache=True)


@pytest.fixture
def google(server: GcsServer) -> Iterator[Any]:
    """google-cloud-storage's client."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="test",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.url},
    )
    yield client
    client.close()


@pytest.mark.parametrize("data", ENDS, ids=repr)
def test_bytes_are_exact_for_googles_client(google, bucket, data):
    """Its multipart upload sends checksums, and its download compares them."""
    blob = google.bucket(bucket).blob("a/b c")
    blob.upload_from_string(data, checksum="crc32c")
    assert google.bucket(bucket).blob("a/b c").download_as_bytes() == data
    assert blob.size == len(data)


@pytest.mark.parametrize("data", ENDS, ids=repr)
def test_bytes_are_exact_for_gcsfs(fs, bucket, data):
    """Which ends the lines of its multipart upload in another way."""
    reply = fs.pipe_file(f"{bucket}/a/b c", data)
    assert fs.cat_file(f"{bucket}/a/b c") == data
    assert fs.info(f"{bucket}/a/b c")["crc32c"] == reply["crc32c"]


def test_resumable_uploads_arrive_whole(google, fs, bucket):
    """In several pieces, by either client; a condition holds at the end."""
    data = bytes(range(256)) * 3000 + b"\r"
    blob = google.bucket(bucket).blob("big", chunk_size=2**18)
    with blob.open("wb") as file:
        file.write(data)
    assert blob.download_as_bytes() == data
    fs.pipe_file(f"{bucket}/piped", data, chunksize=2**18)
    assert fs.cat_file(f"{bucket}/piped") == data
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{bucket}/piped", data, chunksize=2**18, mode="create")
    with fs.open(f"{bucket}/written", "wb", block_size=2**18) as file:
        file.write(data)
    assert fs.cat_file(f"{bucket}/written") == data


def test_ranges_are_cut_out(google, fs, bucket):
    """From either end; beyond the end there is nothing."""
    fs.pipe_file(f"{bucket}/key", b"0123456789")
    assert fs.cat_file(f"{bucket}/key", 2, 5) == b"234"
    assert fs.cat_file(f"{bucket}/key", -3, None) == b"789"
    assert fs.cat_file(f"{bucket}/key", 8, 99) == b"89"
    assert google.bucket(bucket).blob("key").download_as_bytes(start=2, end=4) == b"234"
    with fs.open(f"{bucket}/key") as file:
        file.seek(7)
        assert file.read() == b"789"


def test_creating_is_exclusive(google, fs, bucket):
    """Of eight that create at once one wins; generation 0 means there is nothing."""
    from google.api_core.exceptions import PreconditionFailed

    def create(me: int) -> bool:
        try:
            fs.pipe_file(f"{bucket}/lease", b"%d" % me, mode="create")
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as executor:
        won = list(executor.map(create, range(8)))
    assert won.count(True) == 1
    assert fs.cat_file(f"{bucket}/lease") == b"%d" % won.index(True)
    blob = google.bucket(bucket).blob("lease")
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string(b"again", if_generation_match=0)
    blob.reload()
    blob.upload_from_string(b"again", if_generation_match=blob.generation)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=1)
    blob.delete()
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{bucket}/lease")


def test_generations_grow(fs, bucket):
    """Each write makes a new generation, with its own size, checksums and time."""
    found = []
    for data in (b"one", b"two"):
        fs.pipe_file(f"{bucket}/key", data)
        fs.invalidate_cache()
        found.append(fs.info(f"{bucket}/key"))
    assert int(found[0]["generation"]) < int(found[1]["generation"])
    assert found[0]["etag"] != found[1]["etag"]
    assert {"md5Hash", "crc32c", "metageneration", "updated", "timeCreated"} <= set(found[0])


def test_listings_come_in_pages(server, google, fs, bucket):
    """Every name once and in order, with or without a delimiter."""
    names = [f"a/{i:02}/{j}" for i in range(7) for j in range(3)] + ["b", "ä/ü"]
    for name in names:
        fs.pipe_file(f"{bucket}/{name}", b"x")
    listed = list(google.list_blobs(bucket))
    assert [blob.name for blob in listed] == sorted(names)
    under = google.list_blobs(bucket, prefix="a/", delimiter="/")
    assert [blob.name for blob in under] == []
    assert under.prefixes == {f"a/{i:02}/" for i in range(7)}
    fs.invalidate_cache()
    assert sorted(fs.find(bucket)) == sorted(f"{bucket}/{name}" for name in names)
    assert fs.ls(f"{bucket}/a") == [f"{bucket}/a/{i:02}" for i in range(7)]
    first = requests.get(f"{server.url}/storage/v1/b/{bucket}/o", timeout=10).json()
    assert len(first["items"]) == 4
    assert "nextPageToken" in first


def test_deleting_copying_and_composing(google, fs, bucket):
    """One by one, in a batch, and by copying what is there."""
    for name in "abcde":
        fs.pipe_file(f"{bucket}/{name}", name.encode())
    place = google.bucket(bucket)
    place.rename_blob(place.blob("a"), "z")
    place.copy_blob(place.blob("b"), place, "y")
    place.blob("all").compose([place.blob("y"), place.blob("z")])
    assert place.blob("all").download_as_bytes() == b"ba"
    fs.cp_file(f"{bucket}/c", f"{bucket}/x")
    with google.batch():
        place.blob("d").delete()
        place.blob("e").delete()
    fs.rm([f"{bucket}/b", f"{bucket}/c"])
    assert [blob.name for blob in google.list_blobs(bucket)] == ["all", "x", "y", "z"]
    with pytest.raises(FileNotFoundError):
        fs.rm_file(f"{bucket}/nothing")


def test_gcsfs_deletes_in_batches(fs, bucket, monkeypatch):
    """As it does on Google's own servers."""
    monkeypatch.setattr(type(fs), "on_google", True)
    for name in "abc":
        fs.pipe_file(f"{bucket}/{name} d", b"x")
    fs.rm([f"{bucket}/{name} d" for name in "ab"])
    fs.invalidate_cache()
    assert fs.find(bucket) == [f"{bucket}/c d"]


def test_wrong_checksums_are_refused(server, google, bucket):
    """An upload that says what its bytes must be is held to it."""
    answer = requests.post(
        f"{server.url}/upload/storage/v1/b/{bucket}/o?uploadType=multipart",
        data='--x\r\nA: b\r\n\r\n{"name": "k", "crc32c": "AAAAAA=="}\r\n'
        "--x\r\nA: b\r\n\r\nbytes\r\n--x--",
        headers={"Content-Type": "multipart/related; boundary=x"},
        timeout=10,
    )
    assert answer.status_code == 400
    assert list(google.list_blobs(bucket)) == []


def test_buckets_are_made_and_missed(google, fs, bucket):
    """A bucket that is not there is a 404, not an empty one."""
    from google.api_core.exceptions import Conflict, NotFound

    made = google.create_bucket("made-by-google")
    assert made.name in [found.name for found in google.list_buckets()]
    with pytest.raises(Conflict):
        google.create_bucket("made-by-google")
    made.delete()
    with pytest.raises(NotFound):
        list(google.list_blobs("made-by-google"))
    with pytest.raises(FileNotFoundError):
        fs.pipe_file("made-by-google/key", b"x")
