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

from ngff_core.errors import SourceFormatError, StoredDataError, UnsafeNameError
from ngff_core.records.build_folder import folder_of
from ngff_core.sources.pattern import Pattern, arrange
from ngff_core.storage import (
    Entry,
    LocalFiles,
    ObjectInfo,
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
    """All uploads below the prefix; each folder is listed once."""
    store = inbox.store
    found: list[Upload] = []
    groups: dict[str, dict[str, Entry]] = {}
    for path, entry in _walk(inbox, store, ""):
        group = None if entry.is_folder else inbox.names.group_of(path)
        if group is None:
            found.append(_upload(inbox, store, path, entry))
        else:
            groups.setdefault(group, {})[path] = entry
    found += [_group_upload(inbox, store, group, files) for group, files in groups.items()]
    return tuple(sorted(found, key=lambda upload: upload.path))


def find_upload(inbox: Inbox, uri: str) -> tuple[Upload, ...]:
    """The upload at ``uri``, or the one that ``uri`` is a part of; empty where there is none.

    For uploads that storage notified of: an object in a bucket is complete, since it appears with
    all its bytes.
    """
    path = canonical_uri(uri)[len(canonical_uri(inbox.root)) :].strip("/")
    store = inbox.store
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        part = "/".join(parts[:length])
        entry = retrying(store.entry, part)
        if entry is None or _left_out(inbox, part) or retrying(store.entry, folder_of(part)):
            return ()
        if not entry.is_folder or inbox.names.is_folder_upload(part):
            if not inbox.names.wanted(part):
                return ()
            group = None if entry.is_folder else inbox.names.group_of(part)
            if group is not None:
                return tuple(each for each in find_uploads(inbox) if each.path == group)
            upload = _upload(inbox, store, part, entry)
            alone = not entry.is_folder and is_remote(inbox.root)
            return (replace(upload, complete=upload.complete or alone),)
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


def _walk(inbox: Inbox, store: ObjectStore, folder: str) -> Iterator[tuple[str, Entry]]:
    """Paths and entries of uploads; folders that are one upload, or ours, are not listed."""
    entries = retrying(store.folder, folder)
    for name, entry in entries.items():
        path = f"{folder}/{name}" if folder else name
        # A folder with a build folder beside it was built here, not uploaded.
        if _left_out(inbox, path) or folder_of(name) in entries:
            continue
        if entry.is_folder and not inbox.names.is_folder_upload(path):
            yield from _walk(inbox, store, path)
        elif inbox.names.wanted(path):
            yield path, entry


def _left_out(inbox: Inbox, path: str) -> bool:
    """Whether a path and all below it are ignored: ours, excluded, or partly written."""
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
    """The folder of all targets; None where the template does not begin with one."""
    head, brace, _ = template.partition("{")
    folder = head.rpartition("/")[0] if brace else head.rstrip("/")
    return folder if folder and not folder.endswith((":", "/")) else None


def _inside(uri: str, folder: str) -> bool:
    place = canonical_uri(folder).rstrip("/")
    return (canonical_uri(uri) + "/").startswith(place + "/")


def _upload(inbox: Inbox, store: ObjectStore, path: str, entry: Entry) -> Upload:
    upload = _named(inbox, store, path)
    if not entry.is_folder:
        return replace(upload, version=_version(entry))
    return _folder_upload(inbox, store, upload)


def _named(inbox: Inbox, store: ObjectStore, path: str) -> Upload:
    """An upload with its target; one whose name leads elsewhere has none, and is refused."""
    try:
        target = inbox.names.target_of(path)
    except UnsafeNameError as error:
        return Upload(f"{store.uri}/{path}", path, "", "", refused=str(error))
    return Upload(f"{store.uri}/{path}", path, target, "", inbox.work(target))


def _folder_upload(inbox: Inbox, store: ObjectStore, upload: Upload) -> Upload:
    if inbox.marker is not None:
        # One request instead of a listing: uploaders write the marker last.
        marker = retrying(store.entry, f"{upload.path}/{inbox.marker}")
        if marker is None:
            return replace(upload, version="unmarked", lacks=f"{inbox.marker} is not there yet")
        return replace(upload, version=_version(marker), complete=True)
    listing = retrying(store.child(upload.path).objects)
    if isinstance(store, LocalFiles) and (link := store.link_out_of(upload.path)) is not None:
        refused = f"upload: the link {link} in it leads out of it; upload what it points to instead"
        upload = replace(upload, refused=refused)
    version = digest([(key, _version(info)) for key, info in listing.items()])
    lacks = "" if any(m in listing for m in MARKERS) else f"none of {', '.join(MARKERS)} is there"
    return replace(upload, version=f"listing:{version}", lacks=lacks)


def _group_upload(
    inbox: Inbox, store: ObjectStore, group: str, files: Mapping[str, Entry]
) -> Upload:
    """Files that are one image; their pattern is the source that a build reads."""
    upload = _named(inbox, store, group)
    lacks = ""
    try:
        arrange(Pattern(group), files, store.uri)
    except SourceFormatError as error:
        lacks = str(error)
    version = digest([(path, _version(entry)) for path, entry in sorted(files.items())])
    return replace(upload, version=f"files:{version}", lacks=lacks)


def _version(info: ObjectInfo) -> str:
    """Changes with every upload of an object: generation, or ETag or time and size.

    An ETag alone would not change where the same bytes are uploaded again.
    """
    kind, _, value = info.version.partition(":")
    if kind == "generation":
        return info.version
    etag = [value.strip('"')] if kind in ("ETag", "etag") else []
    time = [f"{info.modified:.6f}"] if info.modified is not None else []
    return f"{'+'.join([*etag, *time]) or None}+{info.size}".replace("@", "")
