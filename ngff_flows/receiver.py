"""A small web server that turns notifications of object storage into Prefect events.

::

    NGFF_RECEIVER_SECRET=… PREFECT_API_URL=… python -m ngff_flows.receiver --port 8080

| POST | from | authenticated by |
|---|---|---|
| ``/gcs`` | Google Pub/Sub push | the token of a service account, for an audience |
| ``/gcs/SECRET`` | the same | the secret |
| ``/sns`` | Amazon SNS; confirms subscriptions of its topics | Amazon's signature |
| ``/s3/SECRET`` | S3 messages of MinIO, EventBridge, any webhook | the secret |

Status 204: passed on, or not about an upload of ours. 400: not a notification. 401: the sender is
not authenticated. 408: the body came too slowly. 413: too large. 503: Prefect did not accept the
event, or too many notifications come at once; senders try again.

Where the path or a header authenticates the sender, the body of a stranger is never read. Only the
signature of SNS is in the body, which has to come soon and be small.

An event starts no build itself. It triggers `watch-uploads` for its upload, which asks for a build
under an idempotency key: an automation cannot give such a key, and notifications can arrive twice.
An upload whose notification is lost is found by the watcher's next regular run.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import httpx
import typer
from fastapi import FastAPI, Request, Response
from google.auth import exceptions as google_errors

from ngff_core.errors import InvalidOptionError
from ngff_core.uploads import authentication
from ngff_core.uploads.authentication import CachedFetch, Fetch, NotAuthenticError
from ngff_core.uploads.notifications import (
    Interest,
    NotificationError,
    UploadCreated,
    parse_pubsub,
    parse_s3,
    uploads_of,
)
from tasks.reporting.events import upload_event

logger = logging.getLogger(__name__)

Publish = Callable[[list[dict[str, Any]]], Awaitable[None]]
"""Sends events to Prefect; returns once Prefect has stored them."""

_VARIABLE = "NGFF_RECEIVER_"
_SHORTEST_SECRET = 24
_PUBLISH_SECONDS = 8.0
_BODY_SECONDS = 10.0
"""Time for a body to arrive; a notification is a few kilobytes."""
_BODIES = 16
"""Bodies that are held at the same time; more senders are asked to come again."""
_FETCH_SECONDS = 5.0


@dataclass(frozen=True)
class Receiver:
    """How the receiver authenticates senders, and which notifications it passes on."""

    secret: str | None = field(default=None, repr=False)
    audience: str | None = None
    email: str | None = None
    topics: tuple[str, ...] = ()
    interest: Interest = field(default_factory=Interest)
    max_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if self.secret is not None and len(self.secret) < _SHORTEST_SECRET:
            raise InvalidOptionError(
                f"{_VARIABLE}SECRET is shorter than {_SHORTEST_SECRET} characters; make one with "
                "`openssl rand -hex 24`"
            )
        if (self.audience is None) != (self.email is None):
            raise InvalidOptionError(
                f"set both {_VARIABLE}PUBSUB_AUDIENCE and {_VARIABLE}PUBSUB_EMAIL, or neither: "
                "anybody can get a token of Google for an audience"
            )
        if self.secret is None and self.audience is None and not self.topics:
            raise InvalidOptionError(
                f"no sender could be authenticated: set {_VARIABLE}SECRET, {_VARIABLE}SNS_TOPICS, "
                f"or {_VARIABLE}PUBSUB_AUDIENCE with {_VARIABLE}PUBSUB_EMAIL"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Receiver:
        """The settings in the variables ``NGFF_RECEIVER_…``; lists are separated by commas."""

        def text(name: str) -> str | None:
            return environment.get(_VARIABLE + name, "").strip() or None

        def listed(name: str, default: Sequence[str] = ()) -> tuple[str, ...]:
            parts = tuple(part.strip() for part in (text(name) or "").split(",") if part.strip())
            return parts or tuple(default)

        plain = Interest()
        return cls(
            secret=text("SECRET"),
            audience=text("PUBSUB_AUDIENCE"),
            email=text("PUBSUB_EMAIL"),
            topics=listed("SNS_TOPICS"),
            interest=Interest(
                prefixes=listed("PREFIXES"),
                folders=listed("FOLDERS", plain.folders),
                markers=listed("MARKERS", plain.markers),
            ),
            max_bytes=int(text("MAX_BYTES") or cls.max_bytes),
        )


class _TooLargeError(Exception):
    """The body is larger than any notification."""


class _TooSlowError(Exception):
    """The body did not arrive in time."""


class _TooManyError(Exception):
    """As many bodies as may be are held already."""


@dataclass
class _Bodies:
    """Counts the bodies that are held; all requests run in one thread."""

    held: int = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Hold one more; raises _TooManyError where that is one too many."""
        if self.held >= _BODIES:
            raise _TooManyError
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


def make_app(
    receiver: Receiver, publish: Publish | None = None, fetch: Fetch | None = None
) -> FastAPI:
    """The receiver as an ASGI application.

    By default it publishes to Prefect and fetches over HTTP; tests replace both.
    """
    get = fetch or _fetch
    endpoints = _Endpoints(receiver, publish, get, CachedFetch(get))
    # No documentation pages: they would show strangers what runs here.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=endpoints.lifespan)
    for path, check, taken in (
        ("/gcs", endpoints.check_token, endpoints.gcs),
        ("/gcs/{secret}", endpoints.check_secret, endpoints.gcs),
        ("/sns", endpoints.check_later, endpoints.sns),
        ("/s3/{secret}", endpoints.check_secret, endpoints.s3),
    ):
        app.add_api_route(path, partial(_answer, endpoints, check, taken), methods=["POST"])
    app.add_api_route("/health", _health, methods=["GET"])
    return app


@dataclass
class _Endpoints:
    """One method for each kind of notification: authenticate the sender, parse the body."""

    receiver: Receiver
    publish: Publish | None
    fetch: Fetch
    certificates: Fetch
    bodies: _Bodies = field(default_factory=_Bodies)

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Keep one connection to Prefect open while the receiver runs."""
        if self.publish is not None:
            yield
            return
        async with prefect_publisher() as self.publish:
            yield
        self.publish = None

    async def check_token(self, request: Request) -> None:
        """Raise NotAuthenticError unless Google signed the token in the header."""
        receiver = self.receiver
        if receiver.audience is None or receiver.email is None:
            raise NotAuthenticError("this receiver is not set up for tokens of Google")
        header = request.headers.get("authorization")
        await asyncio.to_thread(
            authentication.check_google_token,
            header,
            receiver.audience,
            receiver.email,
            self.certificates,
        )

    async def check_secret(self, request: Request) -> None:
        """Raise NotAuthenticError unless the path has the secret."""
        authentication.check_secret(request.path_params["secret"], self.receiver.secret)

    async def check_later(self, request: Request) -> None:
        """Nothing to check before the body, which has the signature."""

    async def gcs(self, body: bytes) -> tuple[UploadCreated, ...]:
        return parse_pubsub(body)

    async def s3(self, body: bytes) -> tuple[UploadCreated, ...]:
        return parse_s3(body)

    async def sns(self, body: bytes) -> tuple[UploadCreated, ...]:
        message = await asyncio.to_thread(
            authentication.check_sns, body, self.receiver.topics, self.certificates
        )
        if message["Type"] == "SubscriptionConfirmation":
            await asyncio.to_thread(self.fetch, authentication.confirmation_url(message))
            logger.info("confirmed the subscription to %s", message["TopicArn"])
        if message["Type"] != "Notification":
            return ()
        return parse_s3(message.get("Message", ""), "sns")

    async def pass_on(self, objects: tuple[UploadCreated, ...]) -> None:
        """Send an event to Prefect for each upload that the new objects belong to."""
        uploads = uploads_of(objects, self.receiver.interest)
        if not uploads:
            return
        if self.publish is None:
            raise RuntimeError(
                "the application has not been started: its lifespan opens the client"
            )
        async with asyncio.timeout(_PUBLISH_SECONDS):
            await self.publish([upload_event(upload) for upload in uploads])
        for upload in uploads:
            logger.info("passed on: %s %s", upload.uri, upload.generation)


Check = Callable[[Request], Awaitable[None]]
Taken = Callable[[bytes], Awaitable[tuple[UploadCreated, ...]]]


async def _answer(endpoints: _Endpoints, check: Check, taken: Taken, request: Request) -> Response:
    """Answer with the status that makes the sender stop, give up, or try again."""
    try:
        await check(request)
        with endpoints.bodies.one_more():
            body = await _read(request, endpoints.receiver.max_bytes)
            await endpoints.pass_on(await taken(body))
    except _TooLargeError:
        return Response(status_code=413)
    except _TooSlowError:
        return Response(status_code=408, headers={"connection": "close"})
    except _TooManyError:
        return Response(status_code=503, headers={"retry-after": "1"})
    except NotAuthenticError as error:
        logger.warning("refused: %s", error)
        return Response(status_code=401)
    except (RecursionError, OverflowError):
        # Values nested too deeply or beyond all numbers, in a field that should be plain.
        return Response("no notification looks so", status_code=400, media_type="text/plain")
    except NotificationError as error:
        logger.warning("not understood: %s", error)
        return Response(str(error), status_code=400, media_type="text/plain")
    except (OSError, httpx.HTTPError, google_errors.TransportError) as error:
        logger.error("not passed on, the sender will try again: %r", error)
        return Response(status_code=503)
    return Response(status_code=204)


async def _read(request: Request, limit: int) -> bytes:
    """The body; reading stops at the first chunk beyond the limit, and when its time is over."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _TooLargeError
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _TooLargeError
                parts.append(part)
    except TimeoutError:
        raise _TooSlowError from None
    return b"".join(parts)


async def _health() -> Response:
    return Response(status_code=204)


@asynccontextmanager
async def prefect_publisher() -> AsyncIterator[Publish]:
    """A function that sends events to Prefect and fails where they do not arrive.

    `prefect.events.emit_event` only queues: a lost event would be reported to the sender as
    accepted, and would not be sent again.
    """
    from prefect.client.orchestration import get_client

    async with get_client() as client:

        async def publish(events: list[dict[str, Any]]) -> None:
            answer = await client.request("POST", "/events", json=events)
            answer.raise_for_status()

        yield publish


def _fetch(url: str) -> bytes:
    # No redirects: only this host was checked.
    answer = httpx.get(url, timeout=_FETCH_SECONDS, follow_redirects=False)
    answer.raise_for_status()
    if answer.is_redirect:
        raise OSError(f"{url} redirects to another address")
    return answer.content


def main(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0)] = 8080,
) -> None:
    """Receive notifications of object storage and send them to Prefect as events.

    Settings are environment variables: NGFF_RECEIVER_SECRET, _PUBSUB_AUDIENCE, _PUBSUB_EMAIL,
    _SNS_TOPICS, _PREFIXES, _FOLDERS, _MARKERS, _MAX_BYTES (see docs/settings.md), and
    PREFECT_API_URL.
    """
    import uvicorn

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # One line for each notification is enough.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        receiver = Receiver.from_environment()
        if not os.environ.get("PREFECT_API_URL"):
            raise InvalidOptionError(
                "set PREFECT_API_URL to the address of the Prefect server that takes the events"
            )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    # No access log: it would contain the secret.
    uvicorn.run(make_app(receiver), host=host, port=port, access_log=False)


if __name__ == "__main__":
    typer.run(main)
