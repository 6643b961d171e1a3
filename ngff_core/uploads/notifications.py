"""Parses notifications of object storage, and finds the uploads that they are about.

Pure; the sender of a body is authenticated before it comes here.
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
    """The body is not a notification."""


@dataclass(frozen=True)
class Interest:
    """Which notified objects are passed on."""

    prefixes: tuple[str, ...] = ()
    """URIs below which uploads arrive; empty for all."""
    folders: tuple[str, ...] = ("*.zarr",)
    """Glob patterns of folders that are one upload each."""
    markers: tuple[str, ...] = MARKERS
    """Objects at the root of such a folder whose arrival is passed on."""


def uploads_of(objects: Sequence[UploadCreated], interest: Interest) -> tuple[UploadCreated, ...]:
    """The uploads to which new objects belong, each once.

    A zarr has thousands of objects. Of a folder only its markers are passed on; otherwise each
    chunk would start a run of the watcher.
    """
    uploads = {
        (upload.uri, upload.generation): upload for upload in _of_interest(objects, interest)
    }
    return tuple(uploads.values())


def _of_interest(objects: Sequence[UploadCreated], interest: Interest) -> Iterator[UploadCreated]:
    for upload in objects:
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
            uri = f"{scheme}://{'/'.join(names[:folder])}"
            # Without the size, which is the marker's and not the upload's.
            marked = f"{'/'.join(names[folder:])}:{upload.generation}"
            generation = marked if upload.generation else ""
            yield UploadCreated(uri, generation, None, upload.origin)


def _folder(names: Sequence[str], folders: Sequence[str]) -> int | None:
    """Number of names up to the outermost folder that is an upload; None where there is none."""
    for length in range(1, len(names)):
        if any(matches(names[length - 1], folder) for folder in folders):
            return length
    return None


def _below(uri: str, prefixes: Sequence[str]) -> bool:
    # In a bucket ".." is part of an object's name, and leads to no other folder.
    folders = [canonical_uri(prefix).rstrip("/") + "/" for prefix in prefixes]
    return not folders or canonical_uri(uri).startswith(tuple(folders))


def parse_pubsub(body: bytes) -> tuple[UploadCreated, ...]:
    """The new object in a Pub/Sub push of Google Cloud Storage; nothing for other events."""
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
    """The object's metadata in a Pub/Sub message; empty where the message has none."""
    try:
        data = message.get("data", "")
        text = base64.b64decode(data if isinstance(data, str) else "", validate=True)
        found = json.loads(text or b"{}")
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"message.data is not JSON in base64: {error}") from error
    return found if isinstance(found, dict) else {}


def parse_s3(body: bytes | str, origin: str = "s3") -> tuple[UploadCreated, ...]:
    """The new objects in an event message of S3 (SNS, MinIO, webhooks) or of EventBridge."""
    document = _document(body)
    if "detail-type" in document:
        return _event_bridge(document, origin)
    if document.get("Event") == "s3:TestEvent":
        return ()
    found: list[UploadCreated] = []
    for record in _field(document, "Records", list):
        if not isinstance(record, dict):
            raise NotificationError(
                "a record is not a JSON object; forward S3's event message unchanged"
            )
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
    values = [described.get(name) for name in ("eTag", "etag", "sequencer", "versionId")]
    return "+".join(str(value) for value in values if value)


def _object(
    scheme: Literal["gs", "s3"],
    bucket: str,
    name: str,
    generation: str,
    size: int | None,
    origin: str,
) -> tuple[UploadCreated, ...]:
    if not bucket or "/" in bucket or not name.strip("/"):
        raise NotificationError(f"bucket {bucket!r} and name {name!r} do not name an object")
    if name.endswith("/"):
        # Storage consoles create such objects for empty folders.
        return ()
    return (UploadCreated(f"{scheme}://{bucket}/{name}", generation, size, origin),)


def _document(body: bytes | str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise NotificationError("the body is not a JSON object")
    return found


def _field[T](document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = document.get(name)
    if not isinstance(value, kind):
        raise NotificationError(f"the notification has no {name!r} of type {kind.__name__}")
    return value


def _size(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):  # JSON has 1e999, which is infinite
        return None


@dataclass(frozen=True)
class UploadCreated:
    """A new object, as storage notified of it."""

    uri: str
    generation: str = ""
    size: int | None = None
    origin: str = ""
    """The service that notified: gcs, s3 or sns."""
