"""A threaded HTTP server on a free loopback port, which leaves no thread behind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class Loopback(ThreadingHTTPServer):
    """Answers each connection in a thread of its own, until `closing`."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.ending = threading.Event()
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in mid-answer are no news."""

    def close(self) -> None:
        """End the server and every connection, idle ones of clients' pools too."""
        self.ending.set()
        self.shutdown()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


@contextmanager
def serving[S: Loopback](server: S) -> Iterator[S]:
    """``server``, answering in the background."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name=type(server).__name__)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open; reads whole bodies, in one piece or in chunks.

    ``Expect: 100-continue`` is answered at once: clients wait for it with their body.
    """

    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet: apart, each answer would wait 40 ms for an ACK.
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""

    @property
    def parts(self) -> list[str]:
        """The path, cut at its slashes and only then unquoted: names hold quoted slashes."""
        return [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
