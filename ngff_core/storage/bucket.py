"""Prefixes of fsspec filesystems, where each PUT is atomic by itself."""

from __future__ import annotations

import io
import threading
from collections.abc import Buffer, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, BinaryIO, cast

from zarr.abc.store import Store as ZarrStore

from ngff_core.errors import TransientError, UnlistableError
from ngff_core.storage.base import Content, Entry, ObjectInfo, ObjectStore, as_buffer
from ngff_core.storage.checksums import google_stored, s3_stored
from ngff_core.storage.fsspec_compat import entry_of, info_of, retry_ranges, scheme_of
from ngff_core.storage.requests import look_up
from ngff_core.storage.retry import retrying
from ngff_core.storage.transient import (
    http_status,
    is_refusal,
    is_transient,
    is_unknown_caller,
    kind_of,
)
from ngff_core.storage.zarr_compat import fsspec_store

DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""Metadata documents: a folder with one of them is an array or a group to zarr's readers."""

_RANGE_NOT_SATISFIABLE = 416

# fsspec's memory filesystem is the only one here that checks and then writes, in two steps.
_create_in_memory = threading.Lock()


class Bucket(ObjectStore):
    """A prefix of any fsspec filesystem."""

    at_once = 8

    def __init__(self, fs: Any, root: str, uri: str) -> None:
        self._fs = fs
        self.root = root.rstrip("/")
        self.uri = uri.rstrip("/")
        self._scheme = scheme_of(fs)
        # s3fs would ask for the size first, and checksums are of complete objects only.
        self._in_one_request = {"max_concurrency": 1} if self._scheme == "s3" else {}
        self._unlistable = self._scheme == "http"
        self._listed = False

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}" if key else self.root

    def read(self, key: str) -> bytes | None:
        return self._unless_hidden(partial(self._get, key))

    def read_part(self, key: str, start: int, size: int) -> bytes | None:
        try:
            return self._unless_hidden(partial(self._get, key, start=start, end=start + size))
        except Exception as error:
            # gcsfs's own type is no OSError, and s3fs's has the status in its cause.
            statuses = {http_status(e) for e in (error, error.__cause__) if e is not None}
            if _RANGE_NOT_SATISFIABLE in statuses:
                return b""
            raise

    def _unless_hidden(self, get: Callable[[], bytes | None]) -> bytes | None:
        try:
            return get()
        except PermissionError as error:
            if self._may_be_absent(error):
                return None
            raise

    def _get(self, key: str, **span: int) -> bytes | None:
        try:
            with self._naming(key, "read"):
                data = self._fs.cat_file(self._path(key), **self._in_one_request, **span)
                return cast(bytes, data)
        except (FileNotFoundError, IsADirectoryError):
            return None

    def write(self, key: str, data: Content) -> None:
        data = bytes(as_buffer(data))
        with self._naming(key, "written"):
            self._check_stored(key, data, self._fs.pipe_file(self._path(key), data))

    def create(self, key: str, data: Buffer) -> bool:
        data = bytes(data)
        lock = _create_in_memory if self._scheme == "memory" else nullcontext()
        try:
            with lock, self._naming(key, "created"):
                reply = self._fs.pipe_file(self._path(key), data, mode="create")
        except FileExistsError:
            # If the reply to our own create was lost, the retry finds our own bytes. The
            # object exists, so a refusal to read it does not mean that it is absent.
            return self._get(key) == data
        try:
            with self._naming(key, "created"):
                self._check_stored(key, data, reply)
        except TransientError:
            # The object is ours and damaged: another create would only find it.
            retrying(self.write, key, data)
        return True

    def _check_stored(self, key: str, data: bytes, reply: Any) -> None:
        """Raise TransientError if the service stored other bytes than it was sent."""
        same = True
        if self._scheme == "gs":
            # The reply to an upload in several requests says only where it went.
            same = google_stored(
                data, reply if isinstance(reply, Mapping) else self._fresh_info(key)
            )
        elif self._scheme == "s3" and isinstance(reply, Mapping):
            same = s3_stored(data, reply)
        if not same:
            raise TransientError(f"{self.uri}/{key} was damaged on its way to the service")

    @contextmanager
    def _naming(self, key: str, done: str) -> Iterator[None]:
        """Turn a client's error into one of our types that names the object."""
        where = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except (TransientError, FileNotFoundError, FileExistsError, IsADirectoryError):
            raise
        except Exception as error:
            message = f"{where} could not be {done}: {_short(error)}"
            if is_refusal(error):
                raise PermissionError(message) from error
            if is_transient(error):
                raise TransientError(message) from error
            raise

    def _may_be_absent(self, error: PermissionError) -> bool:
        """Whether a refusal may mean only that the object does not exist.

        S3 and Google answer 403 instead of 404 to a caller that may read objects and not
        list them. A caller that may not read either gets a refusal when it creates an object
        that exists.
        """
        return not is_unknown_caller(error) and not self._lists()

    def _lists(self) -> bool:
        """Whether the store allows listing. Asked once, and only after a refusal."""
        if not self._listed and not self._unlistable:
            with suppress(UnlistableError), self._listing(""):
                self._fs.invalidate_cache()
                with suppress(FileNotFoundError):
                    self._fs.ls(self.root)
        return not self._unlistable

    @contextmanager
    def _listing(self, prefix: str) -> Iterator[None]:
        """Raise UnlistableError where listing is refused, and do not ask a second time."""
        where = f"{self.uri}/{prefix}" if prefix else self.uri
        if self._unlistable:
            raise UnlistableError(f"{where} cannot be listed")
        try:
            with self._naming(prefix, "listed"):
                yield
        except (PermissionError, NotImplementedError) as error:
            if isinstance(error, PermissionError) and is_unknown_caller(error):
                raise
            self._unlistable = True
            raise UnlistableError(str(error) or f"{where} cannot be listed") from error
        self._listed = True

    def delete(self, key: str) -> None:
        try:
            with suppress(FileNotFoundError), self._naming(key, "deleted"):
                self._fs.rm_file(self._path(key))
        except PermissionError as error:
            if not self._may_be_absent(error) or self.info(key) is not None:
                raise

    def delete_tree(self, prefix: str = "") -> None:
        paths = [self._path(key) for key in self.objects(prefix)]
        # In bulk, except names that a filesystem would take for patterns of other names.
        plain = [path for path in paths if not _looks_like_a_pattern(path)]
        odd = [path for path in paths if _looks_like_a_pattern(path)]
        with self._naming(prefix, "deleted"):
            if plain:
                # Absent where the reply was lost, or another process was quicker.
                with suppress(FileNotFoundError):
                    self._fs.rm(plain)
            for path in odd:
                with suppress(FileNotFoundError):
                    self._fs.rm_file(path)

    def objects(self, prefix: str = "") -> dict[str, ObjectInfo]:
        # A filesystem caches listings, and other processes write to the same prefix.
        self._fs.invalidate_cache()
        # fsspec's own walk silently leaves out folders that it may not list.
        options = {} if self._scheme in ("gs", "s3") else {"on_error": _unless_absent}
        with self._listing(prefix):
            listing = self._fs.find(self._path(prefix), detail=True, **options)
        root = self.root.lstrip("/")
        skip = len(root) + 1 if root else 0
        found = {path.lstrip("/")[skip:]: info_of(info) for path, info in listing.items()}
        return dict(sorted(found.items()))

    def folder(self, prefix: str = "") -> dict[str, Entry]:
        self._fs.invalidate_cache()
        path = self._path(prefix)
        try:
            with self._listing(prefix):
                listing = self._fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        found = {info["name"].strip("/"): entry_of(info) for info in listing}
        # Some consoles put an empty object where they make a folder.
        found.pop(path.strip("/"), None)
        return {full.rpartition("/")[2]: entry for full, entry in sorted(found.items())}

    def entry(self, key: str) -> Entry | None:
        info = self._described(key)
        return None if info is None else entry_of(info)

    def info(self, key: str) -> ObjectInfo | None:
        info = self._described(key)
        return None if info is None or info["type"] != "file" else info_of(info)

    def _described(self, key: str) -> Mapping[str, Any] | None:
        """fsspec's dictionary of an object or a folder; None if there is neither."""
        try:
            with self._naming(key, "looked up"):
                return self._fresh_info(key)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            # If there is no such object, clients look for a folder by listing.
            if self._may_be_absent(error):
                return None
            raise

    def _fresh_info(self, key: str) -> Mapping[str, Any]:
        self._fs.invalidate_cache()
        return cast(Mapping[str, Any], self._fs.info(self._path(key)))

    def open(self, key: str) -> BinaryIO:
        if self._scheme == "memory":
            # This filesystem would give every caller one and the same file object.
            return io.BytesIO(self._fs.cat_file(self._path(key)))
        file = self._fs.open(self._path(key), "rb")
        retry_ranges(file)
        return cast(BinaryIO, file)

    def zarr(self, *, read_only: bool = True) -> ZarrStore:
        return fsspec_store(self._fs, self.root, read_only=read_only)

    def is_empty(self) -> bool:
        self._fs.invalidate_cache()
        try:
            with self._naming("", "looked up"):
                return not self._fs.exists(self.root)
        except PermissionError as error:
            if not self._may_be_absent(error):
                raise
            return not look_up(self, ("", *DOCUMENTS))

    def child(self, name: str) -> Bucket:
        return Bucket(self._fs, self._path(name), f"{self.uri}/{name}")

    def sibling(self, suffix: str) -> Bucket:
        return Bucket(self._fs, f"{self.root}{suffix}", f"{self.uri}{suffix}")

    def parent(self) -> Bucket:
        root, slash, name = self.root.rpartition("/")
        if not slash:
            return self
        return Bucket(self._fs, root, self.uri.removesuffix(f"/{name}"))


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _short(error: BaseException) -> str:
    """Status or type of an error, with the first line of its message."""
    text = next((line for line in str(error).splitlines() if line), "")
    return f"{kind_of(error)} ({text})" if text else kind_of(error)


def _looks_like_a_pattern(path: str) -> bool:
    return any(character in path for character in "*?[]")
