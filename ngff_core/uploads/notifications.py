"""Notifications of object storage: what they look like, and which uploads they tell of.

Nothing here reads or sends; who sent a body has been made sure of before it comes here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus

from ngff_core.errors import CallerError
from ngff_core.records.build_folder import folder_of
from ngff_core.storage import canonical_uri
from ngff_core.uploads.inbox import MARKERS, STATE_FOLDER
from ngff_core.uploads.patterns import matches


class NotificationError(CallerError, ValueError):
    """A body that is no notification."""


@dataclass(frozen=True)
class Interest:
    """Which objects' news are passed on."""

    prefixes: tuple[str, ...] = ()
    """URIs below which uploads arrive; none for all."""
    folders: tuple[str, ...] = ("*.zarr",)
    """Folders that are one upload each."""
    markers: tuple[str, ...] = MARKERS
    """Objects at the root of such a folder that make it worth a look."""


def uploads_of(news: Sequence[UploadCreated], interest: Interest) -> tuple[UploadCreated, ...]:
    """The uploads that news of objects are about, each once.

    A zarr has thousands of objects: of a folder only its markers are news, or each chunk
    would have a run of the watcher.
    """
    found = {(upload.uri, upload.generation): upload for upload in _noted(news, interest)}
    return tuple(found.values())


def _noted(news: Sequence[UploadCreated], interest: Interest) -> Iterator[UploadCreated]:
    for upload in news:
        if not _below(upload.uri, interest.prefixes):
            continue
        scheme, _, path = upload.uri.partition("://")
        names = path.split("/")
        if any(name == STATE_FOLDER or name.endswith(folder_of(".zarr")) for name in names):
            continue
        folder = _folder(names, interest.folders)
        if folder is None:
            yield upload
        elif "/".join(names[folder:]) in interest.markers:
            whole = f"{scheme}://{'/'.join(names[:folder])}"
            # Without its size: it is the marker's, not the upload's.
            marked = f"{'/'.join(names[folder:])}:{upload.generation}"
            generation = marked if upload.generation else ""
            yield UploadCreated(whole, generation, None, upload.origin)


def _folder(names: Sequence[str], folders: Sequence[str]) -> int | None:
    """How many names lead to the outermost folder that is an upload."""
    for length in range(1, len(names)):
        if any(matches(names[length - 1], folder) for folder in folders):
            return length
    return None


def _below(uri: str, prefixes: Sequence[str]) -> bool:
    # Of one's own bucket an object may be named with "..": it stays an object's name.
    places = [canonical_uri(prefix).rstrip("/") + "/" for prefix in prefixes]
    return not places or canonical_uri(uri).startswith(tuple(places))


def parse_pubsub(body: bytes) -> tuple[UploadCreated, ...]:
    """A push of Pub/Sub with a notification of Google Cloud Storage.

    Of a new object there is one; any other kind of news is none.
    """
    message = _field(_document(body), "message", dict)
    attributes = _field(message, "attributes", dict)
    if attributes.get("eventType") != "OBJECT_FINALIZE":
        return ()
    bucket = _field(attributes, "bucketId", str)
    name = _field(attributes, "objectId", str)
    generation = str(attributes.get("objectGeneration", ""))
    size = _size(_object_resource(message).get("size"))
    return _object("gs", bucket, name, generation, size, "gcs")


def _object_resource(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """What Pub/Sub carries of the object itself; nothing where that is left out."""
    try:
        found = json.loads(base64.b64decode(str(message.get("data", "")), validate=True) or b"{}")
    except ValueError as error:
        raise NotificationError(f"message.data is no JSON in base64: {error}") from error
    return found if isinstance(found, dict) else {}


def parse_s3(body: bytes | str, origin: str = "s3") -> tuple[UploadCreated, ...]:
    """S3's event message (of SNS, MinIO or a webhook), or one of EventBridge."""
    document = _document(body)
    if "detail-type" in document:
        return _event_bridge(document, origin)
    if document.get("Event") == "s3:TestEvent":
        return ()
    found: list[UploadCreated] = []
    for record in _field(document, "Records", list):
        if not isinstance(record, dict):
            raise NotificationError("a record is no object; send S3's event message as it is")
        event = str(record.get("eventName", "")).removeprefix("s3:")
        if event.startswith("ObjectCreated:"):
            found += _s3_record(_field(record, "s3", dict), origin)
    return tuple(found)


def _s3_record(record: Mapping[str, Any], origin: str) -> tuple[UploadCreated, ...]:
    bucket = _field(_field(record, "bucket", dict), "name", str)
    described = _field(record, "object", dict)
    key = unquote_plus(_field(described, "key", str))
    return _object(
        "s3", bucket, key, _s3_generation(described), _size(described.get("size")), origin
    )


def _event_bridge(document: Mapping[str, Any], origin: str) -> tuple[UploadCreated, ...]:
    if document.get("detail-type") != "Object Created":
        return ()
    detail = _field(document, "detail", dict)
    bucket = _field(_field(detail, "bucket", dict), "name", str)
    described = _field(detail, "object", dict)
    # Unlike S3's own message, EventBridge does not encode the key.
    key = _field(described, "key", str)
    return _object(
        "s3", bucket, key, _s3_generation(described), _size(described.get("size")), origin
    )


def _s3_generation(described: Mapping[str, Any]) -> str:
    told = [described.get(name) for name in ("eTag", "etag", "sequencer", "versionId")]
    return "+".join(str(value) for value in told if value)


def _object(
    scheme: Literal["gs", "s3"],
    bucket: str,
    name: str,
    generation: str,
    size: int | None,
    origin: str,
) -> tuple[UploadCreated, ...]:
    if not bucket or "/" in bucket or not name.strip("/"):
        raise NotificationError(f"{bucket!r} and {name!r} name no object in a bucket")
    if name.endswith("/"):
        # What consoles put down for an empty folder.
        return ()
    return (UploadCreated(f"{scheme}://{bucket}/{name}", generation, size, origin),)


def _document(body: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"the body is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise NotificationError("the body is no JSON object")
    return found


def _field[T](document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = document.get(name)
    if not isinstance(value, kind):
        raise NotificationError(f"the notification has no {name}, or one of another type")
    return value


def _size(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class UploadCreated:
    """What a storage's notification tells of."""

    uri: str
    generation: str = ""
    size: int | None = None
    origin: str = ""
    """Who told: gcs, s3 or sns."""
