"""The private parts of other libraries exist, and behave as the code here relies on.

A new version of zarr, fsspec, gcsfs or s3fs that fails here needs a change in
`ngff_core/storage/zarr_compat.py`, `fsspec_compat.py`, `gcs.py` or `s3.py`, and nowhere else.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import gcsfs.core
import gcsfs.retry
import numpy as np
import pytest
import s3fs
import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from zarr.codecs import BytesCodec
from zarr.storage import FsspecStore, MemoryStore

import ngff_core
from ngff_core.storage import gcs, retry, zarr_compat
from ngff_core.storage.fsspec_compat import retry_ranges, sync_filesystem
from ngff_core.storage.gcs import GoogleFiles, open_google
from ngff_core.storage.s3 import AmazonFiles, open_amazon
from ngff_core.storage.transient import is_refusal
from tests.core.storage.conftest import Pauses
from tests.core.storage.failures import google_error

# one owner for each library


@pytest.mark.parametrize(
    ("private", "owners"),
    [
        (r"zarr\.core|zarr\.storage\._", {"storage/zarr_compat.py"}),
        (r"^\s*(import|from) gcsfs", {"storage/gcs.py"}),
        (r"^\s*(import|from) (s3fs|botocore|aiobotocore)", {"storage/s3.py"}),
        (r"\.cache\.fetcher|asyn_wrapper|\.storage_args", {"storage/fsspec_compat.py"}),
    ],
)
def test_only_one_file_uses_the_private_parts_of_a_library(private: str, owners: set[str]) -> None:
    root = Path(ngff_core.__file__).parent
    files = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(private, path.read_text("utf-8"), re.MULTILINE)
    }
    assert files == owners


# zarr


def test_a_wrapper_store_gives_what_it_wraps() -> None:
    inner = MemoryStore()
    assert zarr_compat.wrapped_store(zarr.storage.LoggingStore(inner)) is inner


def test_the_fused_pipeline_is_bound_when_an_array_is_opened() -> None:
    """And stays bound afterwards, when the setting is back at its default."""
    before = zarr.config.get("codec_pipeline.path")
    with zarr_compat.fused_pipeline():
        fused = zarr.create_array(MemoryStore(), shape=(4,), dtype="u1")
    plain = zarr.create_array(MemoryStore(), shape=(4,), dtype="u1")
    assert zarr.config.get("codec_pipeline.path") == before
    names = [type(array._async_array.codec_pipeline).__name__ for array in (fused, plain)]
    assert names[0] == "FusedCodecPipeline" != names[1]
    fused[:] = [1, 2, 3, 4]
    assert fused[1:3].tolist() == [2, 3]


@pytest.mark.parametrize("into", [False, True])
def test_a_region_is_read_into_memory_that_is_given(into: bool) -> None:
    """Straight into a view of it, without a copy."""
    values = np.arange(24, dtype="u2").reshape(4, 6)
    stored = zarr.create_array(MemoryStore(), data=values, chunks=(2, 3))
    box = (slice(1, 3), slice(2, 5))
    for array in (stored, values):
        target = np.zeros((2, 6), "u2")[:, ::2] if into else None
        found = zarr_compat.read_region(array, box, target)
        assert found.tolist() == values[box].tolist()
        assert target is None or found is target


@pytest.mark.parametrize("grid", [(4, 4), (3, 2), (1, 5), (2, 3, 4)])
def test_zarr_writes_the_chunks_of_a_shard_in_this_order(grid: tuple[int, ...]) -> None:
    """A shard ends with an index: offset and length of each chunk, and a checksum."""
    store = MemoryStore()
    array = zarr.create_array(
        store,
        shape=grid,
        shards=grid,
        chunks=(1,) * len(grid),
        dtype="u1",
        fill_value=0,
        compressors=None,
        serializer=BytesCodec(),
    )
    count = int(np.prod(grid))
    array[:] = np.arange(1, count + 1, dtype="u1").reshape(grid)
    shard = zarr_compat.read_object(store, "c/" + "/".join("0" * len(grid)))
    assert shard is not None
    index = np.frombuffer(shard[-16 * count - 4 : -4], "<u8").reshape(*grid, 2)
    written = sorted(np.ndindex(grid), key=lambda position: index[(*position, 0)])
    assert list(zarr_compat.shard_order(grid)) == written


def test_stores_in_memory_take_and_give_bytes() -> None:
    store = zarr_compat.memory_store({"a/b": b"12", "a/c": b"3", "d": b""})
    assert zarr_compat.read_object(store, "a/b") == b"12"
    assert zarr_compat.read_object(store, "a") is None
    assert zarr_compat.objects_of_store(store, "a") == ["a/b", "a/c"]
    assert zarr_compat.objects_of_store(store, "") == ["a/b", "a/c", "d"]
    assert sorted(zarr_compat.names_in_store(store)) == ["a", "d"]
    assert zarr_compat.run_sync(store.exists("d"))


def test_documents_are_what_zarr_would_store() -> None:
    documents = zarr_compat.documents_written(
        lambda store: zarr.create_array(store, name="a", shape=(2,), dtype="u1", zarr_format=3)
    )
    assert sorted(documents) == ["a/zarr.json", "zarr.json"]
    assert b'"node_type": "array"' in documents["a/zarr.json"]


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_zarr_takes_our_filesystems(kind: str, memory_filesystem: MemoryFileSystem) -> None:
    """Synchronous ones are wrapped, asynchronous ones made again with the same options."""
    fs = memory_filesystem if kind == "memory" else AmazonFiles(key="k", secret="s")
    for read_only in (True, False):
        store = zarr_compat.fsspec_store(fs, "lab/a", read_only=read_only)
        assert isinstance(store, FsspecStore)
        assert (store.path, store.read_only) == ("lab/a", read_only)
        assert store.fs.asynchronous
    back = sync_filesystem(store.fs)
    assert type(back) is type(fs)
    assert not getattr(back, "asynchronous", False)
    if kind == "s3":
        assert isinstance(store.fs, AmazonFiles)
        assert (back.key, back.secret) == ("k", "s")


# fsspec


class Ranged(AbstractBufferedFile):  # type: ignore[misc] # fsspec has no annotations
    """A file of which every second range breaks off."""

    fetches = 0

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.fetches += 1
        if self.fetches % 2:
            raise ConnectionResetError
        return bytes(range(start, end))


def test_ranges_of_a_file_are_retried(pauses: Pauses) -> None:
    """fsspec's buffered files fetch each range through their cache's ``fetcher``."""
    file = Ranged(AbstractFileSystem(), "a", "rb", size=100, cache_type="none")
    with pytest.raises(ConnectionResetError):
        file.read(2)
    retry_ranges(file)
    file.seek(50)
    assert file.read(3) == bytes([50, 51, 52])
    file.fetches = 0
    assert file.read(2) == bytes([53, 54])
    assert len(pauses.taken) == 1


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with (tmp_path / "a").open("rb") as file:
        retry_ranges(file)
        assert file.read() == b"x"


def test_the_wrapper_keeps_the_synchronous_filesystem(
    memory_filesystem: MemoryFileSystem,
) -> None:
    assert sync_filesystem(AsyncFileSystemWrapper(memory_filesystem)) is memory_filesystem


# gcsfs


@pytest.fixture
def google() -> GoogleFiles:
    return GoogleFiles(token="anon", skip_instance_cache=True)


def test_gcsfs_makes_each_request_in_a_method_that_can_be_unwrapped() -> None:
    """The decorator adds gcsfs's retries; below it is the plain request."""
    plain = gcs._request_once
    assert inspect.iscoroutinefunction(plain)
    assert plain is gcsfs.core.GCSFileSystem._request.__wrapped__
    assert list(inspect.signature(plain).parameters)[:3] == ["self", "method", "path"]
    assert "self._request(" in inspect.getsource(gcsfs.core.GCSFileSystem._call)


def test_gcsfs_hands_our_timeout_and_middleware_to_aiohttp(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options of the caller win, or are added to."""

    async def own(request: Any, handler: Any) -> Any:
        return await handler(request)

    given: dict[str, Any] = {"middlewares": (own,), "trust_env": True}
    session = sent_by(GoogleFiles(token="anon", asynchronous=True), monkeypatch)
    assert session["client"] == {"middlewares": (gcs._inspect_response,)}
    assert session["timeout"].sock_read == 60
    assert session["timeout"].sock_connect == 10
    assert session["timeout"].total is None
    session = sent_by(
        GoogleFiles(token="anon", asynchronous=True, session_kwargs=given, requests_timeout=5),
        monkeypatch,
    )
    middlewares = (own, gcs._inspect_response)
    assert session["client"] == {"middlewares": middlewares, "trust_env": True}
    assert session["timeout"] == 5
    assert given["middlewares"] == (own,)


def sent_by(google: GoogleFiles, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What gcsfs gives to aiohttp's client, and then for a request."""
    sent: dict[str, Any] = {}

    class Session:
        closed = True

        def request(self, **options: Any) -> Any:
            sent.update(options)
            raise PermissionError

    async def get_client(**options: Any) -> Session:
        sent["client"] = options
        return Session()

    async def send() -> None:
        with pytest.raises(PermissionError):
            await google._request("GET", "b/lab")

    monkeypatch.setattr(gcsfs.core, "get_client", get_client)
    asyncio.run(send())
    return sent


def test_gcsfs_requests_are_retried_by_us_alone(
    google: GoogleFiles, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause of an earlier response is forgotten before the next request."""
    errors = [google_error(503), google_error(503)]
    calls: list[tuple[Any, ...]] = []

    async def once(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        if errors:
            raise errors.pop()
        return "answer"

    monkeypatch.setattr(gcs, "_request_once", once)
    retry.request_pause(50.0)
    assert asyncio.run(google._request("GET", "b/{}/o", "lab", alt="media")) == "answer"
    assert calls == [((google, "GET", "b/{}/o", "lab"), {"alt": "media"})] * 3
    assert pauses.taken == [0.5, 1.0]


def test_gcsfs_says_forbidden_without_a_type() -> None:
    """Its 403 is an OSError without errno whose message begins so; 404 and 412 have types."""
    with pytest.raises(OSError, match=r"^Forbidden") as caught:
        gcsfs.retry.validate_response(403, b"", "lab/key")
    assert is_refusal(caught.value)
    with pytest.raises(FileNotFoundError):
        gcsfs.retry.validate_response(404, b"", "lab/key")
    with pytest.raises(FileExistsError):
        gcsfs.retry.validate_response(412, b"", "lab/key")
    with pytest.raises(gcsfs.retry.HttpError) as other:
        gcsfs.retry.validate_response(503, b"", "lab/key")
    assert other.value.code == 503


def test_google_uris_become_paths() -> None:
    fs, root = open_google("gs://lab/a/b", {"token": "anon"})
    assert (type(fs), root) == (GoogleFiles, "lab/a/b")


# s3fs


@pytest.fixture
def amazon() -> AmazonFiles:
    return AmazonFiles(key="k", secret="s", skip_instance_cache=True)


def test_the_methods_of_s3fs_that_we_wrap_are_there() -> None:
    """With the arguments that we pass; its own retries read ``retries`` of the filesystem."""
    plain = s3fs.S3FileSystem
    assert inspect.iscoroutinefunction(plain._call_s3)
    assert inspect.iscoroutinefunction(plain._cat_file)
    assert "max_concurrency" in inspect.signature(plain._cat_file).parameters
    for method in (plain._call_s3, plain._cat_file):
        assert "retries=self.retries" in inspect.getsource(method)
    assert AmazonFiles.retries == 1 < plain.retries


def test_botocore_makes_one_attempt(amazon: AmazonFiles) -> None:
    """Unless the caller asks for its retries."""
    assert amazon._prepare_config_kwargs()["retries"] == {"total_max_attempts": 1}
    own = {"retries": {"mode": "adaptive"}, "connect_timeout": 3}
    other = AmazonFiles(key="k", secret="s", config_kwargs=own, skip_instance_cache=True)
    prepared = other._prepare_config_kwargs()
    assert prepared["retries"] == {"mode": "adaptive"}
    assert prepared["connect_timeout"] == 3


def test_s3_requests_are_retried_by_us(
    amazon: AmazonFiles, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that breaks off too; the request inside it is not retried a second time."""
    calls: list[Any] = []

    async def call(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append((method, args, kwargs))
        raise ConnectionResetError

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
    with pytest.raises(ConnectionResetError):
        asyncio.run(amazon._call_s3("head_object", 1, Key="k"))
    assert calls == [("head_object", (1,), {"Key": "k"})] * 8
    calls.clear()
    with pytest.raises(ConnectionResetError):
        asyncio.run(amazon._cat_file("lab/key"))
    assert [method for method, _, _ in calls] == ["get_object"] * 8


def test_s3_objects_are_read_in_one_request(
    amazon: AmazonFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def cat(self: Any, path: str, *args: Any, **kwargs: Any) -> bytes:
        seen.append((path, args, kwargs))
        return b""

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", cat)
    asyncio.run(amazon._cat_file("lab/key", start=1))
    asyncio.run(amazon._cat_file("lab/key", None, max_concurrency=4))
    assert seen == [
        ("lab/key", (), {"start": 1, "max_concurrency": 1}),
        ("lab/key", (None,), {"max_concurrency": 4}),
    ]


def test_amazon_uris_become_paths() -> None:
    fs, root = open_amazon("s3://lab/a/b", {"key": "k", "secret": "s"})
    assert (type(fs), root) == (AmazonFiles, "lab/a/b")
