"""The receiver: which senders it accepts, what it passes on, and its answers."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth import crypt, jwt
from hypothesis import given
from hypothesis import strategies as st
from prefect.client.orchestration import get_client

from ngff_core.errors import InvalidOptionError
from ngff_core.uploads.authentication import CachedFetch, signed_text
from ngff_core.uploads.notifications import (
    Interest,
    NotificationError,
    UploadCreated,
    parse_pubsub,
    parse_s3,
    uploads_of,
)
from ngff_flows import receiver as receiver_module
from ngff_flows.receiver import Receiver, make_app, prefect_publisher
from tasks.reporting.events import upload_event

SECRET = "a-secret-of-two-dozen-characters"
AUDIENCE = "https://receiver.example/gcs"
EMAIL = "pusher@project.iam.gserviceaccount.com"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:uploads"
CERTIFICATE_URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem"
GOOGLE_URL = "https://www.googleapis.com/oauth2/v1/certs"

RECEIVER = Receiver(secret=SECRET, audience=AUDIENCE, email=EMAIL, topics=(TOPIC,))


def make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def certificate(key: rsa.RSAPrivateKey) -> bytes:
    """A certificate that vouches for itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


KEY, OTHER_KEY = make_key(), make_key()


class Outside:
    """Prefect and the web, as the receiver sees them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.fetched: list[str] = []
        self.down: Exception | None = None
        self.web = {
            CERTIFICATE_URL: certificate(KEY),
            GOOGLE_URL: json.dumps({"key-1": certificate(KEY).decode()}).encode(),
        }

    async def publish(self, events: list[dict[str, Any]]) -> None:
        if self.down is not None:
            raise self.down
        self.events += events

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if url not in self.web:
            raise OSError(f"{url} cannot be reached")
        return self.web[url]

    @property
    def uris(self) -> list[str]:
        return [event["resource"]["prefect.resource.id"] for event in self.events]


@pytest.fixture
def outside() -> Outside:
    return Outside()


def post(
    outside: Outside,
    path: str,
    body: Any,
    receiver: Receiver = RECEIVER,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """The answer to a POST, through the whole application."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    app = make_app(receiver, outside.publish, outside.fetch)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return await client.post(path, content=content, headers=headers)

    return asyncio.run(ask())


def pubsub(name: str = "scans/a.tif", event: str = "OBJECT_FINALIZE", **more: str) -> Any:
    data = base64.b64encode(json.dumps({"size": "12"}).encode()).decode()
    attributes = {
        "eventType": event,
        "bucketId": "in",
        "objectId": name,
        "objectGeneration": "1700000000000001",
    }
    return {"message": {"attributes": attributes, "data": data, **more}, "subscription": "s"}


def s3(key: str = "scans/a.tif", event: str = "ObjectCreated:Put") -> Any:
    described = {"key": key, "size": 12, "eTag": "abc", "sequencer": "0055"}
    return {
        "Records": [{"eventName": event, "s3": {"bucket": {"name": "in"}, "object": described}}]
    }


def token(key: rsa.RSAPrivateKey = KEY, **claims: Any) -> dict[str, str]:
    """The header of a push with a token of Google, or with a forged one."""
    now = int(time.time())
    payload = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "email": EMAIL,
        "email_verified": True,
        "iat": now - 5,
        "exp": now + 600,
    }
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signer = crypt.RSASigner.from_string(pem, "key-1")
    return {"Authorization": f"Bearer {jwt.encode(signer, payload | claims).decode()}"}


def sns(
    message: Any = None, *, key: rsa.RSAPrivateKey = KEY, version: str = "2", **given: str
) -> dict[str, str]:
    """A message of SNS, signed as Amazon signs."""
    told = {
        "Type": "Notification",
        "MessageId": "1",
        "TopicArn": TOPIC,
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "Message": json.dumps(message if message is not None else s3()),
        "SigningCertURL": CERTIFICATE_URL,
        "SignatureVersion": version,
        **given,
    }
    kind = hashes.SHA256() if version == "2" else hashes.SHA1()
    signature = key.sign(signed_text(told), padding.PKCS1v15(), kind)
    return {"Signature": base64.b64encode(signature).decode(), **told}


def subscription(url: str) -> dict[str, str]:
    return sns(Type="SubscriptionConfirmation", Token="t", SubscribeURL=url)


# ── Google ───────────────────────────────────────────────────────────────────────────


def test_push_with_a_token_becomes_an_event(outside: Outside) -> None:
    """The event says which object, which generation of it, and its size."""
    assert post(outside, "/gcs", pubsub(), headers=token()).status_code == 204
    (event,) = outside.events
    assert event["event"] == "ngff.upload.created"
    assert event["resource"] == {
        "prefect.resource.id": "gs://in/scans/a.tif",
        "prefect.resource.name": "a.tif",
        "ngff.source": "gs://in/scans/a.tif",
        "ngff.generation": "1700000000000001",
    }
    assert event["payload"] == {"generation": "1700000000000001", "size": 12, "origin": "gcs"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Basic {SECRET}"},
        token(OTHER_KEY),
        token(aud="https://other.example"),
        token(iss="https://accounts.example.com"),
        token(email="somebody@project.iam.gserviceaccount.com"),
        token(email_verified=False),
        token(iat=int(time.time()) - 4000, exp=int(time.time()) - 400),
    ],
    ids=[
        "none",
        "empty",
        "nonsense",
        "another scheme",
        "another key",
        "another audience",
        "another issuer",
        "another account",
        "unverified",
        "expired",
    ],
)
def test_push_without_a_right_token_is_refused(outside: Outside, headers: dict[str, str]) -> None:
    answer = post(outside, "/gcs", pubsub(), headers=headers)
    assert (answer.status_code, answer.content, outside.events) == (401, b"", [])


def test_push_is_refused_where_no_token_is_expected(outside: Outside) -> None:
    answer = post(outside, "/gcs", pubsub(), Receiver(secret=SECRET), headers=token())
    assert answer.status_code == 401


def test_unreachable_certificates_are_not_the_senders_fault(outside: Outside) -> None:
    """503: the sender tries again, instead of taking it for refused."""
    outside.web.clear()
    assert post(outside, "/gcs", pubsub(), headers=token()).status_code == 503


# ── the secret ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("path", "body"), [("/gcs", pubsub()), ("/s3", s3())])
def test_secret_in_the_path_vouches(outside: Outside, path: str, body: Any) -> None:
    assert post(outside, f"{path}/{SECRET}", body).status_code == 204
    assert outside.uris == [f"{'gs' if path == '/gcs' else 's3'}://in/scans/a.tif"]


@pytest.mark.parametrize("secret", ["wrong", SECRET[:-1], SECRET.upper(), "%C3%A9"])
def test_another_secret_does_not(outside: Outside, secret: str) -> None:
    for path in ("/gcs", "/s3"):
        assert post(outside, f"{path}/{secret}", s3()).status_code == 401
    assert outside.events == []


def test_no_secret_is_not_the_empty_one(outside: Outside) -> None:
    receiver = Receiver(topics=(TOPIC,))
    assert post(outside, "/s3/None", s3(), receiver).status_code == 401
    assert post(outside, "/s3/", s3(), receiver).status_code == 404


# ── Amazon ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["1", "2"])
def test_signed_message_becomes_an_event(outside: Outside, version: str) -> None:
    told = sns(version=version, Subject="Amazon S3 Notification")
    assert post(outside, "/sns", told).status_code == 204
    assert outside.uris == ["s3://in/scans/a.tif"]
    assert outside.events[0]["payload"]["origin"] == "sns"


OTHER_TOPIC = TOPIC.replace("uploads", "others")


@pytest.mark.parametrize(
    "told",
    [
        sns(key=OTHER_KEY),
        sns() | {"Message": json.dumps(s3("b.tif"))},
        sns() | {"Signature": "@"},
        sns() | {"SignatureVersion": "3"},
        sns(TopicArn=OTHER_TOPIC),
        sns(SigningCertURL="https://sns.eu-central-1.amazonaws.com.evil.example/a.pem"),
        sns(SigningCertURL="https://evil.example/sns.eu-central-1.amazonaws.com/a.pem"),
        sns(SigningCertURL="https://sns.eu-central-1.amazonaws.com@evil.example/a.pem"),
        sns(SigningCertURL="https://sns.eu-central-1.amazonaws.com:8443/a.pem"),
        sns(SigningCertURL="http://sns.eu-central-1.amazonaws.com/a.pem"),
        sns(SigningCertURL="https://sns.us-east-1.amazonaws.com/a.pem"),
        sns(SigningCertURL="https://sns.eu-central-1.amazonaws.com/?a.pem"),
        sns(SigningCertURL=f"{CERTIFICATE_URL}?again.pem"),
        sns(SigningCertURL="https://[sns.eu-central-1.amazonaws.com/a.pem"),
    ],
)
def test_message_that_amazon_did_not_sign_is_refused(
    outside: Outside, told: dict[str, str]
) -> None:
    """No address in an unauthenticated message is fetched."""
    assert post(outside, "/sns", told).status_code == 401
    assert outside.events == []
    assert set(outside.fetched) <= {CERTIFICATE_URL}


CONFIRM = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"


def test_subscription_of_our_topic_is_confirmed(outside: Outside) -> None:
    outside.web[CONFIRM] = b"<ok/>"
    assert post(outside, "/sns", subscription(CONFIRM)).status_code == 204
    assert outside.fetched == [CERTIFICATE_URL, CONFIRM]
    assert outside.events == []


@pytest.mark.parametrize(
    "told",
    [
        subscription("https://evil.example/?Action=ConfirmSubscription"),
        subscription(CONFIRM) | {"TopicArn": OTHER_TOPIC},
        subscription(CONFIRM) | {"Token": "other"},
    ],
)
def test_no_other_subscription_is(outside: Outside, told: dict[str, str]) -> None:
    outside.web[CONFIRM] = b"<ok/>"
    assert post(outside, "/sns", told).status_code == 401
    assert CONFIRM not in outside.fetched


def test_certificate_is_fetched_once_an_hour() -> None:
    """No sender makes us ask Amazon or Google at will."""
    outside, now = Outside(), [0.0]
    kept = CachedFetch(outside.fetch, lambda: now[0])
    for now[0] in (0.0, 3599.0, 3600.0):
        kept(CERTIFICATE_URL)
    assert len(outside.fetched) == 2


# ── any sender ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        {"Records": 3},
        {"Records": [3]},
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {}}]},
    ],
)
def test_what_is_no_notification_is_said_so(outside: Outside, body: Any) -> None:
    """The answer is 400, and only a sender that was authenticated gets it."""
    assert post(outside, f"/s3/{SECRET}", body).status_code == 400
    assert post(outside, f"/gcs/{SECRET}", body).status_code == 400
    assert outside.events == []


def test_large_body_is_not_read(outside: Outside) -> None:
    """Nobody fills the memory, not even who knows the secret."""
    receiver = Receiver(secret=SECRET, max_bytes=100)
    assert post(outside, f"/s3/{SECRET}", b"x" * 101, receiver).status_code == 413
    assert (
        post(outside, "/sns", b"x" * 101, Receiver(topics=(TOPIC,), max_bytes=100)).status_code
        == 413
    )


def stream(outside: Outside, path: str, body: AsyncIterator[bytes]) -> int:
    """The status of the answer to a body that comes in parts."""
    app = make_app(RECEIVER, outside.publish, outside.fetch)

    async def ask() -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            return (await client.post(path, content=body)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("path", ["/s3/wrong", "/gcs/wrong", "/gcs"])
def test_body_of_a_stranger_is_never_read(outside: Outside, path: str) -> None:
    """The answer is there before the first byte is."""
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    assert stream(outside, path, body()) == 401
    assert read == []


def test_slow_body_is_given_up(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends a byte now and then holds nothing for long."""
    monkeypatch.setattr(receiver_module, "_BODY_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    assert stream(outside, f"/s3/{SECRET}", body()) == 408


def test_few_bodies_are_held_at_once(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next sender is asked to come again, and is taken when there is room."""
    monkeypatch.setattr(receiver_module, "_BODIES", 1)
    app = make_app(RECEIVER, outside.publish, outside.fetch)

    async def ask() -> list[int]:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            begun.set()
            await go.wait()
            yield json.dumps(s3()).encode()

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            first = asyncio.create_task(client.post(f"/s3/{SECRET}", content=slow()))
            await begun.wait()
            second = await client.post(f"/s3/{SECRET}", json=s3())
            go.set()
            done = await first
            third = await client.post(f"/s3/{SECRET}", json=s3())
        return [second.status_code, done.status_code, third.status_code]

    assert asyncio.run(ask()) == [503, 204, 204]


def test_numbers_beyond_all_bounds_are_no_surprise(outside: Outside) -> None:
    """JSON allows them; a size that is none is left out, and the event is passed on."""
    data = base64.b64encode(b'{"size": 1e999}').decode()
    body = pubsub()
    body["message"]["data"] = data
    assert post(outside, f"/gcs/{SECRET}", body).status_code == 204
    text = json.dumps(s3()).replace('"key"', '"size": 1e999, "key"')
    assert post(outside, f"/s3/{SECRET}", text.encode()).status_code == 204
    nested = base64.b64encode(b"[" * 100_000).decode()
    body["message"]["data"] = nested
    assert post(outside, f"/gcs/{SECRET}", body).status_code == 400
    assert len(outside.uris) == 2


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), TimeoutError(), OSError()])
def test_event_that_prefect_did_not_take_is_sent_again(outside: Outside, error: Exception) -> None:
    outside.down = error
    assert post(outside, f"/s3/{SECRET}", s3()).status_code == 503


def test_stranger_finds_no_description(outside: Outside) -> None:
    app = make_app(RECEIVER, outside.publish, outside.fetch)

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            paths = ("/health", "/", "/docs", "/openapi.json", "/gcs")
            return [(await client.get(path)).status_code for path in paths]

    assert asyncio.run(statuses()) == [204, 404, 404, 404, 405]


# ── the content of notifications ──────────────────────────────────────────────────────────


def parse(document: Any, how: Callable[[bytes], tuple[UploadCreated, ...]]) -> list[str]:
    return [upload.uri for upload in how(json.dumps(document).encode())]


def test_only_new_objects_are_news() -> None:
    assert parse(pubsub(event="OBJECT_DELETE"), parse_pubsub) == []
    assert parse(s3(event="ObjectRemoved:Delete"), parse_s3) == []
    assert parse(s3(event="s3:ObjectCreated:CompleteMultipartUpload"), parse_s3) != []
    assert parse({"Service": "Amazon S3", "Event": "s3:TestEvent"}, parse_s3) == []
    assert parse(pubsub("folder/"), parse_pubsub) == []


def test_names_are_decoded_as_their_sender_encoded_them() -> None:
    """S3 encodes keys in its own message, and EventBridge does not."""
    assert parse(s3("my+scan%281%29.tif"), parse_s3) == ["s3://in/my scan(1).tif"]
    detail = {"bucket": {"name": "in"}, "object": {"key": "a+b.tif", "size": 1, "etag": "x"}}
    bridge = {"detail-type": "Object Created", "detail": detail}
    assert parse(bridge, parse_s3) == ["s3://in/a+b.tif"]
    assert parse(bridge | {"detail-type": "Object Deleted"}, parse_s3) == []


def test_push_without_the_objects_resource_is_enough() -> None:
    """Pub/Sub can be configured without it; the attributes name the object."""
    assert parse(pubsub(data=""), parse_pubsub) == ["gs://in/scans/a.tif"]
    with pytest.raises(NotificationError):
        parse(pubsub(data="@"), parse_pubsub)


def news(*uris: str) -> list[UploadCreated]:
    return [UploadCreated(uri, "1", 5) for uri in uris]


def test_folder_is_news_by_its_markers() -> None:
    """Only markers are passed on, so thousands of chunks do not start thousands of runs."""
    found = uploads_of(
        news("gs://in/x.zarr/zarr.json", "gs://in/x.zarr/0/zarr.json", "gs://in/x.zarr/0/c/0/0"),
        Interest(),
    )
    assert [upload.uri for upload in found] == ["gs://in/x.zarr"]
    assert found[0].size is None
    marked = Interest(markers=("_SUCCESS",))
    assert uploads_of(news("gs://in/x.zarr/zarr.json"), marked) == ()
    assert uploads_of(news("gs://in/x.zarr/_SUCCESS"), marked) != ()


def test_news_of_elsewhere_or_of_our_own_are_left_out() -> None:
    interest = Interest(prefixes=("gs://in/scans/",))
    uris = ("gs://in/scans/a.tif", "gs://in/scans2/a.tif", "gs://other/scans/a.tif")
    assert [upload.uri for upload in uploads_of(news(*uris), interest)] == [uris[0]]
    own = ("gs://in/.ngff-flows/state.json", "gs://in/a.ome.zarr.build/plan.json")
    assert uploads_of(news(*own), Interest()) == ()


def test_object_told_of_twice_is_one_event() -> None:
    """Both have the same id, by which Prefect recognises a repeated event."""
    first, again = (upload_event(upload)["id"] for upload in news("gs://in/a.tif") * 2)
    assert first == again
    other = upload_event(UploadCreated("gs://in/a.tif", "2"))["id"]
    assert other != first
    assert len(uploads_of(news("gs://in/a.tif", "gs://in/a.tif"), Interest())) == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Records", "s3", "object", "bucket", "key", "name", "eventName", "detail-type",
                 "detail", "message", "attributes", "data", "eventType", "bucketId", "objectId"]
            ),
            inner | st.sampled_from(["ObjectCreated:Put", "Object Created", "OBJECT_FINALIZE"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(anything | st.binary(max_size=30))
def test_no_body_is_a_surprise(document: Any) -> None:
    """A parser gives uploads or says what is wrong, whatever it is given."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    for parser in (parse_pubsub, parse_s3):
        with suppress(NotificationError):
            assert all(isinstance(upload, UploadCreated) for upload in parser(body))


# ── settings ─────────────────────────────────────────────────────────────────────────


def test_settings_come_from_the_environment() -> None:
    told = {
        "NGFF_RECEIVER_SECRET": SECRET,
        "NGFF_RECEIVER_SNS_TOPICS": f"{TOPIC}, {OTHER_TOPIC}",
        "NGFF_RECEIVER_PREFIXES": "gs://in/scans",
        "NGFF_RECEIVER_MAX_BYTES": "1000",
    }
    receiver = Receiver.from_environment(told)
    assert receiver.topics == (TOPIC, OTHER_TOPIC)
    assert receiver.interest == Interest(prefixes=("gs://in/scans",))
    assert receiver.max_bytes == 1000
    assert SECRET not in repr(receiver)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "no sender could be authenticated: set NGFF_RECEIVER_SECRET"),
        ({"SECRET": "short"}, "shorter than 24"),
        ({"PUBSUB_AUDIENCE": AUDIENCE}, "set both"),
    ],
)
def test_settings_that_are_not_safe_are_refused(told: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        Receiver.from_environment({f"NGFF_RECEIVER_{name}": v for name, v in told.items()})


# ── a real Prefect ───────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("prefect_server")
def test_event_arrives_at_prefect_once() -> None:
    """Posted twice, as storage delivers it, the server has one event."""
    name = f"{time.time_ns()}.tif"

    async def deliver() -> list[dict[str, Any]]:
        async with prefect_publisher() as publish, get_client() as client:
            app = make_app(RECEIVER, publish, Outside().fetch)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://r") as sender:
                for _ in range(2):
                    answer = await sender.post(f"/s3/{SECRET}", json=s3(name))
                    assert answer.status_code == 204
            await events_of(client, f"s3://in/{name}")
            await asyncio.sleep(1)
            return await events_of(client, f"s3://in/{name}")

    (event,) = asyncio.run(deliver())
    assert event["event"] == "ngff.upload.created"
    assert event["resource"]["ngff.source"] == f"s3://in/{name}"


async def events_of(client: Any, uri: str) -> list[dict[str, Any]]:
    """The server's events of a resource; they reach its database a little later."""
    wanted = {"filter": {"resource": {"id": [uri]}}}
    found: list[dict[str, Any]] = []
    for _ in range(100):
        answer = await client.request("POST", "/events/filter", json=wanted)
        found = answer.json()["events"]
        if found:
            break
        await asyncio.sleep(0.1)
    return found
