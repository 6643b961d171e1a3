"""S3 over HTTP by moto, in threads of this process."""

from __future__ import annotations

import base64
import io
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers import policies

CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

BAD_DIGEST = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>BadDigest</Code><Message>The CRC32 you specified did not match the calculated
checksum.</Message></Error>"""


DENIED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"""


class Strict:
    """What S3 does, and moto does not.

    Bodies that are not what their ``x-amz-checksum-crc32`` says are refused, and of
    several that create one object at once one wins. Who may not list a bucket hears of
    absent objects that access is denied.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self._turn = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        bucket, _, key = environ["PATH_INFO"].strip("/").partition("/")
        if environ["REQUEST_METHOD"] in ("GET", "HEAD") and not policies.may_list(bucket):
            return self._guarded(environ, start_response, lists=not key)
        if environ["REQUEST_METHOD"] != "PUT":
            return self.app(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        found = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        if environ.get("HTTP_X_AMZ_CHECKSUM_CRC32", found) != found:
            start_response("400 Bad Request", [("Content-Type", "application/xml")])
            return [BAD_DIGEST]
        with self._turn:
            return self.app(environ, start_response)

    def _guarded(
        self, environ: dict[str, Any], start_response: Any, *, lists: bool
    ) -> Iterable[bytes]:
        told: list[Any] = []
        answer = [] if lists else self.app(environ, lambda *given: told.extend(given))
        if lists or told[0].startswith("404"):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [DENIED]
        start_response(*told)
        return answer


class S3Server:
    """moto's server; ``url`` is what clients call ``endpoint_url``."""

    def __init__(self, url: str) -> None:
        import boto3

        self.url = url
        self.client: Any = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", **CREDENTIALS
        )

    def make_bucket(self) -> str:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running emulator, ended afterwards."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        def log_request(self, *args: Any) -> None:
            """Tests are quiet."""

    # moto's own ThreadedMotoServer leaves its socket open; and its dispatcher looks through
    # the folder of its 170 services for each request, which is half of the time of a PUT.
    app = Strict(create_backend_app("s3"))
    moto = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=moto.serve_forever, args=(0.05,), name="S3Server")
    thread.start()
    server = S3Server(f"http://127.0.0.1:{moto.server_port}")
    try:
        yield server
    finally:
        server.client.close()
        moto.shutdown()
        moto.server_close()
        thread.join()
