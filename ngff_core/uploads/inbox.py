"""Upload prefixes: what lies there, and what watchers remember beside it.

Below ``PREFIX/.ngff-flows/`` (or another place, where uploads' buckets are read-only)
stand ``state.json``, what the last look saw, and ``parked/NAME.json``, one for each upload
that was given up, with the reason. Removing the latter releases the upload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ngff_core.errors import StoredDataError
from ngff_core.records.build_folder import folder_of
from ngff_core.storage import (
    LocalFiles,
    ObjectStore,
    StorageOptions,
    absolute_uri,
    canonical_uri,
    is_remote,
    open_store,
    retrying,
)
from ngff_core.uploads.decisions import Decision, Record, Seen, Upload
from ngff_core.uploads.patterns import Names, digest

STATE_FOLDER = ".ngff-flows"
_STATE = "state.json"
_PARKED = "parked"

MARKERS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""One of them lies at the root of a folder that is a zarr array, group or image."""


@dataclass(frozen=True)
class Inbox:
    """A prefix that is watched."""

    uri: str
    names: Names
    work: Callable[[str], str]
    """What, besides the upload, decides the pyramid at a target."""
    state: str | None = None
    marker: str | None = None
    """An object that the uploader puts into a folder last."""
    storage_options: StorageOptions | None = field(default=None, repr=False)

    @property
    def root(self) -> str:
        # A bucket's own URI has no last part that could be told from its folder.
        return (
            self.uri.rstrip("/")
            if "://" in self.uri.removeprefix("file://")
            else absolute_uri(self.uri)
        )

    @property
    def state_store(self) -> ObjectStore:
        return open_store(self.state or f"{self.root}/{STATE_FOLDER}", self.storage_options)

    @property
    def store(self) -> ObjectStore:
        return open_store(self.root, self.storage_options)

    def holds(self, uri: str) -> bool:
        """Whether ``uri`` lies below the prefix."""
        return _inside(uri, self.root)


def find_uploads(inbox: Inbox) -> tuple[Upload, ...]:
    """All uploads below the prefix, by one listing of each folder in it."""
    tree = _Tree(inbox.store)
    found = [_upload(inbox, tree, path, entry) for path, entry in _walk(inbox, tree, "")]
    return tuple(sorted(found, key=lambda upload: upload.path))


def find_upload(inbox: Inbox, uri: str) -> tuple[Upload, ...]:
    """The one upload that ``uri`` is, or is a part of; none where it is no upload.

    It was notified of, so an object of a bucket is whole: it appears with all its bytes.
    """
    path = canonical_uri(uri)[len(canonical_uri(inbox.root)) :].strip("/")
    tree = _Tree(inbox.store)
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        part = "/".join(parts[:length])
        entry = tree.entry(part)
        if entry is None or _left_out(inbox, part) or tree.entry(folder_of(part)) is not None:
            return ()
        if entry["type"] != "directory" or inbox.names.is_folder_upload(part):
            if not inbox.names.wanted(part):
                return ()
            upload = _upload(inbox, tree, part, entry)
            alone = entry["type"] != "directory" and is_remote(inbox.root)
            return (replace(upload, whole=upload.whole or alone),)
    return ()


def load_records(inbox: Inbox) -> dict[str, Record]:
    """What the last look remembered, by URI."""
    document = retrying(inbox.state_store.read, _STATE)
    if document is None:
        return {}
    try:
        uploads = json.loads(document)["uploads"]
        return {uri: Record.from_dict(values) for uri, values in uploads.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoredDataError(
            f"{inbox.state_store.uri}/{_STATE} cannot be read ({error}); remove it: what was "
            "started is known to Prefect, and nothing is built twice"
        ) from error


def save_records(inbox: Inbox, records: Mapping[str, Record]) -> None:
    """Put down what this look knows, for the next one, wherever that runs."""
    uploads = {uri: records[uri].to_dict() for uri in sorted(records)}
    document = json.dumps({"format": 1, "uploads": uploads}, indent=1)
    retrying(inbox.state_store.write, _STATE, document.encode())


def find_parked(inbox: Inbox) -> dict[str, dict[str, Any]]:
    """The parked uploads by URI, with what their objects say."""
    store = inbox.state_store
    found = {}
    for key in retrying(store.objects, _PARKED):
        document = retrying(store.read, key) if key.endswith(".json") else None
        if document is not None:
            told = _parked_document(f"{store.uri}/{key}", document)
            found[told["uri"]] = told
    return found


def park(inbox: Inbox, decision: Decision, now: float) -> str:
    """Leave the object that keeps an upload parked; its URI."""
    job = decision.job
    told = {
        "uri": decision.upload.uri,
        "reason": decision.reason,
        "release": "upload it again, mended; or, to have this version tried again, remove this "
        "object or run watch-uploads with release=[uri]",
        "version": decision.upload.version,
        "attempt": job.attempt if job is not None else 0,
        "run": decision.run,
        "parked": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    }
    key = _parked_key(decision.upload.uri)
    retrying(inbox.state_store.write, key, json.dumps(told, indent=1).encode())
    return f"{inbox.state_store.uri}/{key}"


def unpark(inbox: Inbox, uri: str) -> None:
    """Remove the object that keeps an upload parked."""
    retrying(inbox.state_store.delete, _parked_key(uri))


def stale_parked(seen: Seen, parked: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Parked URIs whose upload has another version now, so that nothing speaks against it."""
    versions = {upload.uri: upload.version for upload in seen.uploads}
    return [
        uri
        for uri, told in parked.items()
        if uri in versions and versions[uri] != told.get("version", versions[uri])
    ]


def _parked_key(uri: str) -> str:
    # People look for the name, and two uploads of one name are told apart by the digest.
    return f"{_PARKED}/{uri.rstrip('/').rpartition('/')[2]}.{digest(uri)[:8]}.json"


def _parked_document(uri: str, document: bytes) -> dict[str, Any]:
    try:
        told = json.loads(document)
        if isinstance(told["uri"], str):
            return dict(told)
    except (ValueError, TypeError, KeyError):
        pass
    raise StoredDataError(f"{uri} does not say which upload it parks; remove it")


class _Tree:
    """The folders of a store, local or not, as fsspec lists them."""

    def __init__(self, store: ObjectStore) -> None:
        if isinstance(store, LocalFiles):
            import fsspec

            self.fs, self.root = fsspec.filesystem("file"), str(store.root)
        else:
            self.fs, self.root = store.fs, store.root  # type: ignore[attr-defined]
        self.uri = store.uri
        # A filesystem remembers listings, and uploads come from elsewhere.
        self.fs.invalidate_cache()

    def entries(self, folder: str) -> dict[str, dict[str, Any]]:
        """What lies in a folder, by name."""
        path = self._path(folder)
        try:
            listed = retrying(self.fs.ls, path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        own = path.strip("/")
        named = {entry["name"].strip("/"): entry for entry in listed}
        return {full.rpartition("/")[2]: e for full, e in sorted(named.items()) if full != own}

    def entry(self, path: str) -> dict[str, Any] | None:
        """One object or folder."""
        try:
            return dict(retrying(self.fs.info, self._path(path)))
        except FileNotFoundError:
            return None

    def below(self, folder: str) -> dict[str, dict[str, Any]]:
        """Every object below a folder, by its path in it."""
        path = self._path(folder)
        found = retrying(self.fs.find, path, detail=True)
        skip = len(path.strip("/")) + 1
        return {name.lstrip("/")[skip:]: entry for name, entry in sorted(found.items())}

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def _walk(inbox: Inbox, tree: _Tree, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Uploads, not looking into folders that are one, nor into our own."""
    entries = tree.entries(folder)
    for name, entry in entries.items():
        path = f"{folder}/{name}" if folder else name
        # What has plan and ledger beside it was built here, not uploaded.
        if _left_out(inbox, path) or folder_of(name) in entries:
            continue
        is_folder = entry["type"] == "directory"
        if is_folder and not inbox.names.is_folder_upload(path):
            yield from _walk(inbox, tree, path)
        elif inbox.names.wanted(path):
            yield path, entry


def _left_out(inbox: Inbox, path: str) -> bool:
    """Whether nothing at or below a path is an upload: our own, excluded, or half-written."""
    name = path.rpartition("/")[2]
    if name == STATE_FOLDER or name.endswith((folder_of(".zarr"), ".partial")):
        return True
    uri = f"{inbox.root}/{path}"
    ours = [inbox.state, _fixed_part(inbox.names.target)]
    return inbox.names.excluded(path) or any(
        place is not None and _inside(uri, place) and not _inside(inbox.root, place)
        for place in ours
    )


def _fixed_part(template: str) -> str | None:
    """The folder in which all targets lie, where a template names one."""
    head, brace, _ = template.partition("{")
    folder = head.rpartition("/")[0] if brace else head.rstrip("/")
    return folder if folder and not folder.endswith((":", "/")) else None


def _inside(uri: str, folder: str) -> bool:
    place = canonical_uri(folder).rstrip("/")
    return (canonical_uri(uri) + "/").startswith(place + "/")


def _upload(inbox: Inbox, tree: _Tree, path: str, entry: Mapping[str, Any]) -> Upload:
    target = inbox.names.target_of(path)
    upload = Upload(f"{tree.uri}/{path}", path, target, "", inbox.work(target))
    if entry["type"] != "directory":
        return replace(upload, version=_version(entry), size=int(entry["size"] or 0))
    return _folder_upload(inbox, tree, upload)


def _folder_upload(inbox: Inbox, tree: _Tree, upload: Upload) -> Upload:
    if inbox.marker is not None:
        # One request instead of a listing: who names a marker promises to put it last.
        marker = tree.entry(f"{upload.path}/{inbox.marker}")
        if marker is None:
            return replace(upload, version="unmarked", lacks=f"{inbox.marker} is not there yet")
        return replace(upload, version=_version(marker), whole=True)
    listing = tree.below(upload.path)
    sizes = [int(entry["size"] or 0) for entry in listing.values()]
    version = digest([(key, _version(entry)) for key, entry in listing.items()])
    lacks = "" if any(m in listing for m in MARKERS) else f"none of {', '.join(MARKERS)} is there"
    return replace(
        upload, version=f"listing:{version}", size=sum(sizes), objects=len(sizes), lacks=lacks
    )


def _version(entry: Mapping[str, Any]) -> str:
    """What changes with every change of an object: generation, or ETag or time and size."""
    if entry.get("generation") is not None:
        return f"generation:{entry['generation']}"
    # A local file's "created" changes with its permissions: only where nothing else is told.
    told = [entry.get(name) for name in ("ETag", "etag", "LastModified", "mtime")]
    texts = [_text(value) for value in told if value is not None] or [_text(entry.get("created"))]
    return f"{'+'.join(texts)}+{entry['size']}".replace("@", "")


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        value = value.timestamp()
    return f"{value:.6f}" if isinstance(value, float) else str(value).strip('"')
