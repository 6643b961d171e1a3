"""The one door to storage: a URI or path becomes a `Store` of named bytes.

Local paths are written through a temporary name and a rename, so that a process killed
in mid-write leaves no torn object under a real name. Everything else goes through
fsspec, where a PUT is atomic by itself.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Buffer, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

import numpy as np
import zarr
from fsspec.spec import AbstractBufferedFile
from zarr.abc.store import Store as ZarrStore
from zarr.core.buffer.cpu import NDBuffer

from ngff_core.errors import InvalidOptionError, PassingError, UnlistableError
from ngff_core.memory import regions
from ngff_core.retry import retrying as retrying  # noqa: PLC0414 - every caller of a store's
from ngff_core.trouble import google_crc32c, http_status, is_refusal, kind_of
from ngff_core.trouble import is_passing as is_passing  # noqa: PLC0414 - it belongs to `retrying`
from ngff_core.write_behind import write_behind

StorageOptions = Mapping[str, Any]
"""What fsspec's filesystem of a URI is given; or that by protocol, as ``{"s3": {…}}``."""

type Content = Buffer | Callable[[Callable[[Buffer], object]], object]
"""An object's bytes, or what gives them part by part to what it is called with, each time anew."""

PARTIAL = ".partial"
"""Ending of the temporary names that local writes go through (zarr's LocalStore too)."""


DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""What a folder has where zarr's readers take it for something."""

_AT_ONCE = 16

_BEYOND_ITS_END = 416

# What S3 answers with 403 to somebody whom it does not know at all.
_UNKNOWN_CALLER = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}

_pipeline_lock = threading.Lock()

# Of the stores here fsspec's memory filesystem alone looks first and puts then.
_create_in_memory = threading.Lock()


@dataclass(frozen=True)
class ObjectInfo:
    """What a store says of an object without reading it."""

    size: int
    version: str
    """Changes whenever the object does: generation, ETag, or modification time."""
    modified: float | None = field(default=None, compare=False)
    """When it was last written, in seconds since 1970; None where the store does not tell."""
    md5: str | None = field(default=None, compare=False)
    """Of its bytes, in hexadecimal digits; None or something else where the store does not tell."""


class Store(ABC):
    """Named bytes under one prefix. Keys are relative, with ``/`` between their parts."""

    uri: str
    """Absolute path or URI of the prefix, without credentials."""

    at_once = 1
    """Requests of one kind to have under way together: more where each of them takes time."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is no such object."""

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        """Bytes of the object from ``start`` on: fewer than ``size`` where it ends before.

        None where there is no such object.
        """
        whole = self.read(key)
        return None if whole is None else whole[start : start + size]

    @abstractmethod
    def write(self, key: str, data: Content) -> None:
        """Put the object, whole or not at all, over whatever was there."""

    @abstractmethod
    def create(self, key: str, data: Buffer) -> bool:
        """Put the object only if there is none; False where there was one."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; an absent one is no error."""

    @abstractmethod
    def delete_tree(self, prefix: str = "") -> None:
        """Remove every object below ``prefix``."""

    @abstractmethod
    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """Every object below ``prefix`` by key (relative to the store), in key order.

        Raises UnlistableError where the store does not list, or not to us.
        """

    def entries(self) -> dict[str, bool]:
        """Names right below the prefix, in order, and whether each is a folder."""
        parts = [key.partition("/") for key in self.objects()]
        return {name: bool(slash) for name, slash, _ in parts}

    @abstractmethod
    def info(self, key: str) -> ObjectInfo | None:
        """Size and version of one object, or None where there is no such object."""

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """The object as a seekable binary file, for formats read in place."""

    @abstractmethod
    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        """The same prefix as zarr sees it."""

    @abstractmethod
    def child(self, name: str) -> Store:
        """The store of a longer prefix."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing at all is stored here."""

    def sweep(self, prefix: str = "") -> None:  # noqa: B027 - most stores have nothing to sweep
        """Remove what killed processes left of unfinished writes below ``prefix``."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


class LocalFiles(Store):
    """A folder of the local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        try:
            with (self.root / key).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, key: str, data: Content) -> None:
        with self._temporary(key, data) as temporary:
            temporary.replace(self.root / key)

    def create(self, key: str, data: Buffer) -> bool:
        with self._temporary(key, data) as temporary:
            try:
                # A link fails where the name exists, and appears with its whole content.
                os.link(temporary, self.root / key)
            except FileExistsError:
                return False
            temporary.unlink()
            return True

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            (self.root / key).unlink()

    def delete_tree(self, prefix: str = "") -> None:
        path = self.root / prefix
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, onexc=_unless_gone)
        else:
            path.unlink(missing_ok=True)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        found = {}
        for folder, _, names in os.walk(self.root / prefix):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    found[path.relative_to(self.root).as_posix()] = _local_info(path)
        return dict(sorted(found.items()))

    def entries(self) -> dict[str, bool]:
        if not self.root.is_dir():
            return {}
        with os.scandir(self.root) as found:
            # A link may lead back to where it stands.
            return dict(sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found))

    def info(self, key: str) -> ObjectInfo | None:
        path = self.root / key
        return _local_info(path) if path.is_file() else None

    def open(self, key: str) -> BinaryIO:
        return (self.root / key).open("rb")

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        return zarr.storage.LocalStore(self.root, read_only=read_only)

    def child(self, name: str) -> LocalFiles:
        return LocalFiles(self.root / name)

    def is_empty(self) -> bool:
        return not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir()))

    def sweep(self, prefix: str = "") -> None:
        for key in self.objects(prefix):
            if key.endswith(PARTIAL):
                self.delete(key)

    @contextmanager
    def _temporary(self, key: str, data: Content) -> Iterator[Path]:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            write_file(temporary, data)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, data: Content) -> None:
    """Write a file whole, and have it leave the page cache if it is large."""
    with path.open("wb") as file:
        if callable(data):
            data(file.write)
        else:
            file.write(data)
        file.flush()
        write_behind.wrote(file.fileno(), file.tell())


def whole(data: Content) -> Buffer:
    """An object's bytes in one piece."""
    if not callable(data):
        return data
    buffer = io.BytesIO()
    data(buffer.write)
    return buffer.getvalue()


class Bucket(Store):
    """A prefix of any fsspec filesystem."""

    at_once = 8

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        self.uri = uri.rstrip("/")
        protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
        self._scheme = next((p for p in ("gs", "s3", "memory") if p in protocols), "")
        # s3fs would first ask for the size, and a checksum is of whole objects only.
        self._in_one_piece = {"max_concurrency": 1} if self._scheme == "s3" else {}
        self._unlistable = "http" in protocols
        self._listed = False

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else self.root

    def read(self, key: str) -> bytes | None:
        return self._unless_hidden(partial(self._get, key))

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        try:
            return self._unless_hidden(partial(self._get, key, start=start, end=start + size))
        except OSError as error:
            if http_status(error.__cause__ or error) == _BEYOND_ITS_END:
                return b""
            raise

    def _unless_hidden(self, get: Callable[[], bytes | None]) -> bytes | None:
        try:
            return get()
        except PermissionError as error:
            if self._hidden(error):
                return None
            raise

    def _get(self, key: str, **span: int) -> bytes | None:
        try:
            with self._telling(key, "read"):
                data = self.fs.cat_file(self._path(key), **self._in_one_piece, **span)
                return cast(bytes, data)
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, key: str, data: Content) -> None:
        data = bytes(whole(data))
        with self._telling(key, "written"):
            self._compare(key, data, self.fs.pipe_file(self._path(key), data))

    def create(self, key: str, data: Buffer) -> bool:
        data = bytes(data)
        turn = _create_in_memory if self._scheme == "memory" else nullcontext()
        try:
            with turn, self._telling(key, "created"):
                reply = self.fs.pipe_file(self._path(key), data, mode="create")
        except FileExistsError:
            # Where the reply to our own create was lost, the retry meets our own bytes. It
            # exists, so a refusal to read it does not mean that it does not.
            return self._get(key) == data
        try:
            with self._telling(key, "created"):
                self._compare(key, data, reply)
        except PassingError:
            # The object is ours, and damaged: creating it again would only meet it.
            retrying(self.write, key, data)
        return True

    def _compare(self, key: str, data: bytes, reply: Any) -> None:
        """Hold what the service stored against what it was sent."""
        if self._scheme == "gs":
            # The reply to an upload in several requests is but where it went.
            told = reply if isinstance(reply, Mapping) else self._fresh_info(key)
            found = told.get("crc32c")
            same = found is None or found == google_crc32c(data)
        elif self._scheme == "s3" and isinstance(reply, Mapping):
            same = _s3_has(data, reply)
        else:
            same = True
        if not same:
            raise PassingError(f"{self.uri}/{key} arrived damaged")

    @contextmanager
    def _telling(self, key: str, done: str) -> Iterator[None]:
        """Say of a client's error what it was about, in one of our types."""
        where = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except (PassingError, FileNotFoundError, FileExistsError, IsADirectoryError):
            raise
        except Exception as error:
            told = f"{where} could not be {done}: {_short(error)}"
            if is_refusal(error):
                raise PermissionError(told) from error
            if is_passing(error):
                raise PassingError(told) from error
            raise

    def _hidden(self, error: PermissionError) -> bool:
        """Whether a refusal may be all that is told of what does not exist.

        S3 and Google answer so to who may read objects and not list them. Who may not read
        either is told so when creating what exists.
        """
        return not _is_stranger(error) and not self._lists()

    def _lists(self) -> bool:
        """Whether the store lists its objects; asked once, and only after a refusal."""
        if not self._listed and not self._unlistable:
            with suppress(UnlistableError), self._listing(""):
                self.fs.invalidate_cache()
                with suppress(FileNotFoundError):
                    self.fs.ls(self.root)
        return not self._unlistable

    @contextmanager
    def _listing(self, prefix: str) -> Iterator[None]:
        """Say of a refusal to list that it is one, and ask no second time."""
        where = f"{self.uri}/{prefix}" if prefix else self.uri
        if self._unlistable:
            raise UnlistableError(f"{where} cannot be listed")
        try:
            with self._telling(prefix, "listed"):
                yield
        except (PermissionError, NotImplementedError) as error:
            if isinstance(error, PermissionError) and _is_stranger(error):
                raise
            self._unlistable = True
            told = str(error) or f"{where} cannot be listed"
            raise UnlistableError(told) from error
        self._listed = True

    def delete(self, key: str) -> None:
        try:
            with suppress(FileNotFoundError), self._telling(key, "deleted"):
                self.fs.rm_file(self._path(key))
        except PermissionError as error:
            if not self._hidden(error) or self.info(key) is not None:
                raise

    def delete_tree(self, prefix: str = "") -> None:
        paths = [self._path(key) for key in self.objects(prefix)]
        # In bulk, but for names that a filesystem would take for patterns of others.
        plain = [path for path in paths if not _looks_like_a_pattern(path)]
        odd = [path for path in paths if _looks_like_a_pattern(path)]
        with self._telling(prefix, "deleted"):
            if plain:
                # Where the reply was lost, or another process was quicker, they are gone.
                with suppress(FileNotFoundError):
                    self.fs.rm(plain)
            for path in odd:
                with suppress(FileNotFoundError):
                    self.fs.rm_file(path)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        # A filesystem remembers listings, and other processes write to the same prefix.
        self.fs.invalidate_cache()
        # fsspec's own walk leaves out what it may not list, and says nothing.
        told = {} if self._scheme in ("gs", "s3") else {"on_error": _unless_absent}
        with self._listing(prefix):
            listing = self.fs.find(self._path(prefix), detail=True, **told)
        skip = len(self.root.lstrip("/")) + 1
        found = {path.lstrip("/")[skip:]: _fsspec_info(info) for path, info in listing.items()}
        return dict(sorted(found.items()))

    def entries(self) -> dict[str, bool]:
        self.fs.invalidate_cache()
        try:
            with self._listing(""):
                found = self.fs.ls(self.root, detail=True)
        except FileNotFoundError:
            return {}
        paths = {e["name"].strip("/"): e["type"] == "directory" for e in found}
        # Some consoles put an empty object where they make a folder.
        paths.pop(self.root.strip("/"), None)
        return {path.rpartition("/")[2]: is_folder for path, is_folder in sorted(paths.items())}

    def info(self, key: str) -> ObjectInfo | None:
        try:
            with self._telling(key, "found"):
                found = self._fresh_info(key)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            # Where there is no such object, clients look for a folder by listing.
            if self._hidden(error):
                return None
            raise
        return _fsspec_info(found) if found["type"] == "file" else None

    def _fresh_info(self, key: str) -> Mapping[str, Any]:
        self.fs.invalidate_cache()
        return cast(Mapping[str, Any], self.fs.info(self._path(key)))

    def open(self, key: str) -> BinaryIO:
        if self._scheme == "memory":
            # It would hand every caller one and the same file object.
            return io.BytesIO(self.fs.cat_file(self._path(key)))
        file = self.fs.open(self._path(key), "rb")
        if isinstance(file, AbstractBufferedFile):
            # s3fs tries a range again that is refused, and none that breaks off.
            file.cache.fetcher = partial(retrying, file.cache.fetcher)
        return cast(BinaryIO, file)

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        return zarr.storage.FsspecStore(
            zarr.storage._fsspec._make_async(self.fs), read_only=read_only, path=self.root
        )

    def is_empty(self) -> bool:
        self.fs.invalidate_cache()
        try:
            with self._telling("", "found"):
                return not self.fs.exists(self.root)
        except PermissionError as error:
            if not self._hidden(error):
                raise
            return not look_up(self, ("", *DOCUMENTS))

    def child(self, name: str) -> Bucket:
        return Bucket(self.fs, self._path(name), f"{self.uri}/{name}")


def open_store(uri: str | os.PathLike[str], storage_options: StorageOptions | None = None) -> Store:
    """The store at a local path or an fsspec URI; nothing is read or written."""
    text = os.fspath(uri)
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("", "file"):
        path = text.removeprefix("file://")
        return LocalFiles(Path(path).expanduser().absolute())
    check_uri(text)
    return _open_bucket(scheme, text, _options_of(scheme, storage_options or {}))


def check_uri(uri: str) -> None:
    """Raise InvalidOptionError for a URI that holds credentials.

    Plans, logs and run pages show URIs. The message has the URI without them.
    """
    if uri != public_uri(uri):
        raise InvalidOptionError(
            f"{public_uri(uri)}: a URI with a user, a password or a query would be shown in "
            "plans, reports and logs; give credentials by storage options"
        )


def public_uri(uri: str) -> str:
    """A URI without user and password, and one of the web without its query.

    >>> public_uri("https://me:pw@images.org/a.npy?signature=5"), public_uri("s3://lab/what?.npy")
    ('https://images.org/a.npy', 's3://lab/what?.npy')
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return uri
    place, slash, path = rest.partition("/")
    if scheme in ("http", "https"):
        path = path.partition("?")[0].partition("#")[0]
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def _options_of(scheme: str, options: StorageOptions) -> dict[str, Any]:
    """Those for a protocol, where options are given by protocol."""
    from fsspec.registry import known_implementations

    by_protocol = all(
        name in known_implementations and isinstance(value, Mapping)
        for name, value in options.items()
    )
    if not by_protocol:
        return dict(options)
    same = ("gs", "gcs") if scheme in ("gs", "gcs") else (scheme,)
    return {k: v for name in same for k, v in dict(options.get(name, {})).items()}


def look_up(store: Store, keys: Iterable[str]) -> dict[str, ObjectInfo]:
    """Those of the objects that are there, asked for one by one, some at once."""
    keys = list(keys)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ngff-look") as executor:
        infos = executor.map(lambda key: retrying(store.info, key), keys)
        return {key: info for key, info in zip(keys, infos, strict=True) if info is not None}


def delete_below(store: Store, prefix: str, known: Callable[[], Iterable[str]]) -> None:
    """Remove every object below ``prefix``; where the store cannot list, those ``known``."""
    try:
        retrying(store.delete_tree, prefix)
    except UnlistableError:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ngff-delete") as executor:
            for _ in executor.map(lambda key: retrying(store.delete, key), known()):
                pass


def split_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """The URI of the folder that holds ``uri``, and the last part of its name.

    A bucket is in no folder.

    >>> split_uri("gs://lab/brain.ome.zarr"), split_uri("gs://lab/")
    (('gs://lab', 'brain.ome.zarr'), ('gs://lab', ''))
    """
    text = os.fspath(uri).rstrip("/")
    if is_bucket(text):
        return text, ""
    if "://" in text and not text.startswith("file://"):
        head, _, name = text.rpartition("/")
        return head, name
    path = Path(text.removeprefix("file://")).expanduser().absolute()
    return str(path.parent), path.name


def absolute_uri(uri: str | os.PathLike[str]) -> str:
    """The URI with a local path made absolute, as plans and reports name it.

    >>> absolute_uri("gs://lab/"), absolute_uri("gs://lab/brain.ome.zarr/")
    ('gs://lab', 'gs://lab/brain.ome.zarr')
    """
    head, name = split_uri(uri)
    return f"{head}/{name}".rstrip("/") if "://" in head else str(PurePosixPath(head) / name)


def is_bucket(uri: str) -> bool:
    """Whether a URI names a bucket and nothing in it.

    >>> is_bucket("gs://lab/"), is_bucket("gs://lab/in"), is_bucket("/data")
    (True, False, False)
    """
    scheme, separator, path = uri.partition("://")
    return bool(separator) and scheme != "file" and "/" not in path.rstrip("/")


def canonical_uri(uri: str) -> str:
    """The same text for every spelling of one place: links, ``..`` and slashes resolved."""
    scheme, separator, path = uri.partition("://")
    if separator and scheme != "file":
        parts = [part for part in path.split("/") if part]
        return f"{'gs' if scheme == 'gcs' else scheme}://{'/'.join(parts)}"
    return os.path.realpath(path if separator else uri)


def is_remote(uri: str) -> bool:
    """Whether bytes go over a network to what lies there.

    >>> is_remote("gs://images/brain.ome.zarr"), is_remote("/data/brain.ome.zarr")
    (True, False)
    """
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme not in ("file", "memory", "local")


def for_each[T, R](store: Store, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``work`` on each of ``items``, side by side as far as the store is far away; in order."""
    if store.at_once == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(store.at_once, thread_name_prefix="ngff-requests") as executor:
        # Threads have a context of their own, and retries are counted by the caller's.
        futures = [executor.submit(copy_context().run, work, item) for item in items]
        return [future.result() for future in futures]


def both[A, B](store: Store, first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Two looks at a store, side by side where it is far away."""
    works: tuple[Callable[[], Any], ...] = (first, second)
    found = for_each(store, lambda work: work(), works)
    return found[0], found[1]


@contextmanager
def fused_pipeline() -> Iterator[None]:
    """Arrays opened or created inside use zarr's fused codec pipeline.

    It is the fastest that is well kept. A 32 MiB region of 128³ chunks (zstd 3) takes it
    47 ms on one core, of which zstd's own work is all but a few; the default pipeline takes
    1.8 times as long with two threads, the one of `zarrs` 1.6 times, and tears local files
    when killed. An array binds its pipeline when it is opened, so the setting is the
    process's for that moment only.
    """
    with (
        _pipeline_lock,
        zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}),
    ):
        yield


def read_region(
    array: Any, box: tuple[slice, ...], into: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """A box inside an array; of a zarr array in memory that is used again afterwards.

    A zarr array's is read ``into`` what is given, which may be a view.
    """
    if not isinstance(array, zarr.Array):
        return np.asarray(array[box])
    samples = into
    if samples is None:
        samples = regions.array(tuple(s.stop - s.start for s in box), np.dtype(array.dtype))
    array.get_basic_selection(box, out=NDBuffer.from_numpy_array(samples))
    return samples


def _is_stranger(error: BaseException) -> bool:
    """Whether a service refused since it does not know who asks."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        if isinstance(response, Mapping):
            return response.get("Error", {}).get("Code") in _UNKNOWN_CALLER
        if http_status(cause) == 401:
            return True
        cause = cause.__cause__
    return False


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _short(error: BaseException) -> str:
    text = next((line for line in str(error).splitlines() if line), "")
    return f"{kind_of(error)} ({text})" if text else kind_of(error)


def _s3_has(data: bytes, reply: Mapping[str, Any]) -> bool:
    """Whether S3's reply to a PUT tells of these bytes, as far as it tells anything."""
    if any(name.startswith("Checksum") for name in reply):
        # botocore sent the checksum along, and S3 refuses what does not fit.
        return True
    etag = str(reply.get("ETag", "")).strip('"')
    # An ETag is an MD5 in the plain case; of what is encrypted by a key it is another thing.
    if len(etag) != 32 or reply.get("ServerSideEncryption") not in (None, "AES256"):
        return True
    return etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _looks_like_a_pattern(path: str) -> bool:
    return any(character in path for character in "*?[]")


def _open_bucket(scheme: str, uri: str, options: dict[str, Any]) -> Bucket:
    import fsspec

    try:
        if scheme in ("gs", "gcs"):
            from ngff_core.gcs import GoogleFiles

            fs, root = GoogleFiles(**options), GoogleFiles._strip_protocol(uri)
        elif scheme == "s3":
            from ngff_core.s3 import AmazonFiles

            fs, root = AmazonFiles(**options), AmazonFiles._strip_protocol(uri)
        else:
            fs, root = fsspec.core.url_to_fs(uri, **options)
    except Exception as error:  # noqa: BLE001 - clients raise whatever signing in raises
        # Without its cause: what failed to sign in may tell with what.
        told = f"{uri}: {_without_values(str(error), options)}"
        if isinstance(error, ValueError | ImportError | TypeError):
            raise InvalidOptionError(told) from None
        if is_passing(error):
            raise PassingError(told) from None
        raise PermissionError(told) from None
    return Bucket(fs, root, uri)


def _without_values(text: str, options: Any) -> str:
    """``text`` without any text that ``options`` hold, however deep."""
    if isinstance(options, Mapping):
        for value in options.values():
            text = _without_values(text, value)
    elif isinstance(options, list | tuple):
        for value in options:
            text = _without_values(text, value)
    elif isinstance(options, str) and options:
        for spelled in (options, quote(options), quote(options, safe=""), repr(options)[1:-1]):
            text = text.replace(spelled, "***")
    return text


def _unless_gone(_function: object, _path: object, error: BaseException) -> None:
    # Two processes may remove the same tree, such as a finished build's cache.
    if not isinstance(error, FileNotFoundError):
        raise error


def _local_info(path: Path) -> ObjectInfo:
    stat = path.stat()
    return ObjectInfo(stat.st_size, f"mtime:{stat.st_mtime_ns}", stat.st_mtime)


def _fsspec_info(info: Mapping[str, Any]) -> ObjectInfo:
    for name in ("generation", "ETag", "etag", "mtime", "created", "LastModified"):
        value = info.get(name)
        if isinstance(value, datetime):
            # fsspec's memory filesystem has a time in `info`, and its seconds in `find`.
            value = value.timestamp()
        if value is not None:
            version = f"{name}:{value}"
            return ObjectInfo(int(info["size"] or 0), version, _modified(info), _md5(info))
    return ObjectInfo(int(info["size"] or 0), "unknown", _modified(info), _md5(info))


def _md5(info: Mapping[str, Any]) -> str | None:
    google = info.get("md5Hash")
    if isinstance(google, str):
        return base64.b64decode(google).hex()
    # Of what was uploaded in parts, or is encrypted by a key, it is another thing.
    etag = info.get("ETag")
    return etag.strip('"') if isinstance(etag, str) else None


def _modified(info: Mapping[str, Any]) -> float | None:
    for name in ("mtime", "LastModified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            # fsspec's memory filesystem has times in UTC without saying so.
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None
