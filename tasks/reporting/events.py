"""Prefect events, which automations can use as triggers.

| event | resource | meaning |
|---|---|---|
| ``ngff.upload.created`` | the upload | storage notified of a new object |
| ``ngff.pyramid.completed`` | the pyramid; related: its source | the pyramid is published |
| ``ngff.pyramid.failed`` | the pyramid; related: its source | a run failed, and why |
| ``ngff.pyramid.damaged`` | the pyramid | an audit found it damaged |

A build never fails because an event could not be sent.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from prefect.events import emit_event

from ngff_core import BuildReport
from ngff_core.storage import absolute_uri, public_uri
from ngff_core.uploads.notifications import UploadCreated

UPLOAD_CREATED = "ngff.upload.created"
PYRAMID_COMPLETED = "ngff.pyramid.completed"
PYRAMID_FAILED = "ngff.pyramid.failed"

_REASON_LENGTH = 1000
_NAMESPACE = uuid.UUID("6d0f7d55-4c3e-5b1c-9d6c-0f0a4a1b7c11")

logger = logging.getLogger(__name__)


def upload_event(upload: UploadCreated) -> dict[str, Any]:
    """The event ``ngff.upload.created`` as Prefect's API takes it.

    Its id is computed from the object and its generation: where storage delivers one notification
    twice within minutes, Prefect sees one event.
    """
    name = f"{upload.uri}@{upload.generation}"
    return {
        "id": str(uuid.uuid5(_NAMESPACE, name) if upload.generation else uuid.uuid4()),
        "event": UPLOAD_CREATED,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {
            "prefect.resource.id": upload.uri,
            "prefect.resource.name": upload.uri.rstrip("/").rpartition("/")[2],
            "ngff.source": upload.uri,
            "ngff.generation": upload.generation,
        },
        "payload": {
            "generation": upload.generation,
            "size": upload.size,
            "origin": upload.origin,
        },
    }


def emit_completed(report: BuildReport) -> None:
    """Emit ``ngff.pyramid.completed``."""
    checked = report.verification
    payload = {
        "digest": report.plan_digest,
        "levels": [list(level.shape) for level in report.levels],
        "seconds": round(report.seconds, 3),
        "stored_bytes": report.stored_bytes,
        "regions_written": report.fresh,
        "verified": report.verified,
        "findings": len(checked.findings) if checked is not None else None,
    }
    _emit(PYRAMID_COMPLETED, report.source, report.target, payload)


def emit_failed(source: str, target: str, error: BaseException, seconds: float) -> None:
    """Emit ``ngff.pyramid.failed``."""
    payload = {
        "error": type(error).__name__,
        "reason": str(error)[:_REASON_LENGTH],
        "seconds": round(seconds, 3),
    }
    source, target = (public_uri(absolute_uri(uri)) for uri in (source, target))
    _emit(PYRAMID_FAILED, source, target, payload)


def _emit(event: str, source: str, target: str, payload: Mapping[str, Any]) -> None:
    try:
        emit_event(
            event,
            resource={
                "prefect.resource.id": target,
                "prefect.resource.name": target.rstrip("/").rpartition("/")[2],
                "ngff.target": target,
                "ngff.source": source,
            },
            related=[{"prefect.resource.id": source, "prefect.resource.role": "source"}],
            payload=dict(payload),
        )
    except Exception as error:  # noqa: BLE001 - no failed event may fail the build
        logger.warning("the event %s could not be emitted: %s", event, error)
