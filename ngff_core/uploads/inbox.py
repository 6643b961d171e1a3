"""Watched prefixes: the uploads in them, and the watcher's state beside them.

The state is below ``PREFIX/.ngff-flows/``, or in another folder where the uploads' bucket is
read-only: ``state.json`` has the records of the last look, and ``parked/NAME.json`` the reason for
each upload that was given up. Removing the latter releases the upload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ngff_core.errors import StoredDataError
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
"""A zarr array, group or image has one of these at its root."""


@dataclass(frozen=True)
class Inbox:
    """A watched prefix."""

    uri: str
    names: Names
    work: Callable[[str], str]
    """From the URI of a target to `Revision.work`: a digest of all that decides its bytes but the
    upload."""
    state: str | None = None
    """URI of the watcher's state; by default ``.ngff-flows`` below the prefix."""
    marker: str | None = None
    """Name of an object that uploaders write into a folder last."""
    storage_options: StorageOptions | None = field(default=None, repr=False)

    @property
    def root(self) -> str:
        # A prefix may be a bucket, whose URI has no folder and no last part.
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
        if entry is None or _left_out(inbox, part) or tree.entry(f"{part}.build") is not None:
            return ()
        if entry["type"] != "directory" or inbox.names.is_folder_upload(part):
            if not inbox.names.wanted(part):
                return ()
            upload = _upload(inbox, tree, part, entry)
            alone = entry["type"] != "directory" and is_remote(inbox.root)
            return (replace(upload, whole=upload.whole or alone),)
    return ()


def load_records(inbox: Inbox) -> dict[str, Record]:
    """The records of the last look, by URI."""
    document = retrying(inbox.state_store.read, _STATE)
    if document is None:
        return {}
    try:
        uploads = json.loads(document)["uploads"]
        return {uri: Record.from_dict(values) for uri, values in uploads.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoredDataError(
            f"{inbox.state_store.uri}/{_STATE} cannot be read ({error}); remove it: Prefect "
            "knows all started builds, so nothing is built twice"
        ) from error


def save_records(inbox: Inbox, records: Mapping[str, Record]) -> None:
    """Store the records of this look for the next, which may run on another machine."""
    uploads = {uri: records[uri].to_dict() for uri in sorted(records)}
    document = json.dumps({"format": 1, "uploads": uploads}, indent=1)
    retrying(inbox.state_store.write, _STATE, document.encode())


def find_parked(inbox: Inbox) -> dict[str, dict[str, Any]]:
    """The documents of parked uploads, by the URI of the upload."""
    store = inbox.state_store
    found = {}
    for key in retrying(store.objects, _PARKED):
        document = retrying(store.read, key) if key.endswith(".json") else None
        if document is not None:
            parked = _parked_document(f"{store.uri}/{key}", document)
            found[parked["uri"]] = parked
    return found


def park(inbox: Inbox, decision: Decision, now: float) -> str:
    """Write the object that parks an upload; its URI."""
    job = decision.job
    document = {
        "uri": decision.upload.uri,
        "reason": decision.reason,
        "release": "upload a corrected file; or, to try this version again, remove this object "
        "or run watch-uploads with release=[uri]",
        "version": decision.upload.version,
        "attempt": job.attempt if job is not None else 0,
        "run": decision.run,
        "parked": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
    }
    key = _parked_key(decision.upload.uri)
    retrying(inbox.state_store.write, key, json.dumps(document, indent=1).encode())
    return f"{inbox.state_store.uri}/{key}"


def unpark(inbox: Inbox, uri: str) -> None:
    """Remove the object that parks an upload."""
    retrying(inbox.state_store.delete, _parked_key(uri))


def stale_parked(seen: Seen, parked: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """URIs of parked uploads that have a new version, and so may be built again."""
    versions = {upload.uri: upload.version for upload in seen.uploads}
    return [
        uri
        for uri, document in parked.items()
        if uri in versions and versions[uri] != document.get("version", versions[uri])
    ]


def _parked_key(uri: str) -> str:
    # The name is for people; the digest distinguishes uploads of the same name.
    return f"{_PARKED}/{uri.rstrip('/').rpartition('/')[2]}.{digest(uri)[:8]}.json"


def _parked_document(uri: str, document: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
        if isinstance(parsed["uri"], str):
            return dict(parsed)
    except (ValueError, TypeError, KeyError):
        pass
    raise StoredDataError(f"{uri} does not name the upload that it parks; remove it")


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
        if _left_out(inbox, path) or f"{name}.build" in entries:
            continue
        is_folder = entry["type"] == "directory"
        if is_folder and not inbox.names.is_folder_upload(path):
            yield from _walk(inbox, tree, path)
        elif inbox.names.wanted(path):
            yield path, entry


def _left_out(inbox: Inbox, path: str) -> bool:
    """Whether a path and all below it are ignored: ours, excluded, or partly written."""
    name = path.rpartition("/")[2]
    if name == STATE_FOLDER or name.endswith((".zarr.build", ".partial")):
        return True
    uri = f"{inbox.root}/{path}"
    ours = [inbox.state, _fixed_part(inbox.names.target)]
    return inbox.names.excluded(path) or any(
        place is not None and _inside(uri, place) and not _inside(inbox.root, place)
        for place in ours
    )


def _fixed_part(template: str) -> str | None:
    """The folder of all targets; None where the template does not begin with one."""
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
