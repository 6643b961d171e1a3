"""Prefixes of fsspec's filesystems, where a PUT is atomic by itself."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Buffer, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO, cast
from urllib.parse import quote

import zarr
from fsspec.spec import AbstractBufferedFile
from zarr.abc.store import Store as ZarrStore

from ngff_core.errors import InvalidOptionError, TransientError, UnlistableError
from ngff_core.storage.base import (
    Content,
    ObjectInfo,
    ObjectStore,
    StorageOptions,
    google_crc32c,
    whole,
)
from ngff_core.storage.requests import look_up
from ngff_core.storage.retry import retrying
from ngff_core.storage.transient import http_status, is_refusal, is_transient, kind_of

DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
"""What a folder has where zarr's readers take it for something."""

_BEYOND_ITS_END = 416

# What S3 answers with 403 to somebody whom it does not know at all.
_UNKNOWN_CALLER = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}

# Of the stores here fsspec's memory filesystem alone looks first and puts then.
_create_in_memory = threading.Lock()


class Bucket(ObjectStore):
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
        except Exception as error:
            # gcsfs's own type is no OSError, and s3fs's keeps the status in its cause.
            found = {http_status(e) for e in (error, error.__cause__) if e is not None}
            if _BEYOND_ITS_END in found:
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
        except TransientError:
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
            raise TransientError(f"{self.uri}/{key} arrived damaged")

    @contextmanager
    def _telling(self, key: str, done: str) -> Iterator[None]:
        """Say of a client's error what it was about, in one of our types."""
        where = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except (TransientError, FileNotFoundError, FileExistsError, IsADirectoryError):
            raise
        except Exception as error:
            told = f"{where} could not be {done}: {_short(error)}"
            if is_refusal(error):
                raise PermissionError(told) from error
            if is_transient(error):
                raise TransientError(told) from error
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


def options_of(scheme: str, options: StorageOptions) -> dict[str, Any]:
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


def open_bucket(scheme: str, uri: str, options: dict[str, Any]) -> Bucket:
    """The bucket at a URI; what keeps a client from signing in is an error of ours."""
    import fsspec

    try:
        if scheme in ("gs", "gcs"):
            from ngff_core.storage.gcs import GoogleFiles

            fs, root = GoogleFiles(**options), GoogleFiles._strip_protocol(uri)
        elif scheme == "s3":
            from ngff_core.storage.s3 import AmazonFiles

            fs, root = AmazonFiles(**options), AmazonFiles._strip_protocol(uri)
        else:
            fs, root = fsspec.core.url_to_fs(uri, **options)
    except Exception as error:  # noqa: BLE001 - clients raise whatever signing in raises
        # Without its cause: what failed to sign in may tell with what.
        told = f"{uri}: {_without_values(str(error), options)}"
        if isinstance(error, ValueError | ImportError | TypeError):
            raise InvalidOptionError(told) from None
        if is_transient(error):
            raise TransientError(told) from None
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
