"""A proxy on loopback that stands before a server, and does to requests what networks do.

A `Fault` says what happens to which requests: the n-th whose method and path match, or
each with some probability, drawn from a seeded generator. `Proxy.injected` counts them by
kind, `Proxy.seen` counts all requests by method, and `Proxy.asked` lists them.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from tests.servers.loopback import Handler, Loopback, serving

Kind = Literal[
    "status",  # answer `status`, with `retry_after`; the server never hears of it
    "reset",  # close the connection before the request is passed on
    "reset upload",  # the same, with half of the body read
    "stall",  # say nothing for `seconds`, then close
    "truncate",  # send half of the answer's body, then close
    "drop reply",  # pass the request on, and close instead of answering
    "flip upload",  # change a bit of the request's body
    "flip download",  # change a bit of the answer's body
    "delay",  # answer after `seconds`, or at the next script
]


@dataclass
class Fault:
    """One row of the script."""

    kind: Kind
    method: str = ""
    """A regular expression that the whole method matches; empty is any."""
    path: str = ""
    """A regular expression found in the unquoted path and query, or where a body begins."""
    nth: Sequence[int] = ()
    """Which of the matching requests, from 1 on; empty is all."""
    chance: float = 1.0
    status: int = 503
    retry_after: str | None = None
    seconds: float = 0.0
    met: int = field(default=0, init=False)

    def meets(self, method: str, path: str, rng: random.Random) -> bool:
        """Whether this request is struck; requests that match are counted."""
        if self.method and not re.fullmatch(self.method, method):
            return False
        if not re.search(self.path, path):
            return False
        self.met += 1
        return (not self.nth or self.met in self.nth) and rng.random() < self.chance

    @property
    def name(self) -> str:
        return str(self.status) if self.kind == "status" else self.kind


_HEAD = 200

# Headers that belong to one connection, or that the proxy sets itself.
_OF_CONNECTIONS = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


class _Through(Handler):
    """Passes requests on to the server behind."""

    server: Proxy

    def do_any(self) -> None:
        length = 0 if self.chunked else int(self.headers.get("Content-Length") or 0)
        self.head = self.rfile.read(min(_HEAD, length))
        # Google's uploads name their object there.
        what = f"{unquote(self.path)} {self.head.decode(errors='replace')}"
        fault = self.server.fault_for(self.command, what)
        match fault:
            case None:
                self.answer(*self.ask(self.body()))
            case Fault(kind="status", status=status):
                self.body()
                self.answer(status, *self.refusal(fault))
            case Fault(kind="reset"):
                self.body()
                self.reset()
            case Fault(kind="reset upload"):
                self.rfile.read(max(0, length // 2 - len(self.head)))
                self.reset()
            case Fault(kind="stall", seconds=seconds):
                self.body()
                self.server.ending.wait(seconds)
                self.reset()
            case Fault(kind="delay", seconds=seconds):
                self.server.hold(seconds)
                self.answer(*self.ask(self.body()))
            case Fault(kind="drop reply"):
                self.ask(self.body())
                self.reset()
            case Fault(kind="flip upload"):
                self.answer(*self.ask(_flipped(self.body())))
            case Fault(kind="flip download"):
                status, body, headers = self.ask(self.body())
                self.answer(status, _flipped(body), headers)
            case Fault(kind="truncate"):
                status, body, headers = self.ask(self.body())
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.reset()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_any  # noqa: N815

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("Transfer-Encoding", "")

    def body(self) -> bytes:
        if self.chunked:
            return super().body()
        rest = int(self.headers.get("Content-Length") or 0) - len(self.head)
        return self.head + self.rfile.read(rest)

    def refusal(self, fault: Fault) -> tuple[bytes, dict[str, str]]:
        """A body as the service behind would word it, and the headers."""
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        code = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown", 500: "InternalError"}
        if self.server.xml:
            name = code.get(fault.status, str(fault.status))
            body = f"<Error><Code>{name}</Code><Message>injected</Message></Error>"
            return body.encode(), headers | {"Content-Type": "application/xml"}
        # Google's words for a token that it does not take, or no longer.
        message = "Invalid Credentials" if fault.status == 401 else "injected"
        body = f'{{"error": {{"code": {fault.status}, "message": "{message}"}}}}'
        return body.encode(), headers | {"Content-Type": "application/json"}

    def ask(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """The server's answer, in a connection of its own."""
        there = urlsplit(self.server.behind)
        connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _OF_CONNECTIONS}
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or self.command in ("POST", "PUT", "PATCH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            found = {k: v for k, v in answer.getheaders() if k.lower() not in _OF_CONNECTIONS}
            data = answer.read()
            if self.command == "HEAD":
                # Of an answer without a body its length is news too.
                self.head_length = answer.getheader("Content-Length")
            return answer.status, data, found
        finally:
            connection.close()

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        length = getattr(self, "head_length", None)
        if self.command == "HEAD" and length is not None:
            self.send_response(status)
            for name, value in ((headers or {}) | {"Content-Length": length}).items():
                self.send_header(name, value)
            self.end_headers()
            del self.head_length
        else:
            super().answer(status, body, headers)

    def reset(self) -> None:
        """End the connection at once, as a broken one does."""
        self.close_connection = True
        with suppress(OSError):
            # Closing with a linger of 0 sends a reset instead of a farewell.
            now = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)


def _flipped(body: bytes) -> bytes:
    """One bit changed, past the middle: bodies begin with what is not the object's bytes."""
    if not body:
        return body
    at = len(body) * 2 // 3
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


class Proxy(Loopback):
    """Stands before ``behind``; ``xml`` if refusals are to be worded as S3 words them."""

    def __init__(self, behind: str, seed: int = 0, *, xml: bool = False) -> None:
        self.behind = behind
        self.xml = xml
        self.seen: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.asked: list[str] = []
        self._faults: list[Fault] = []
        self._rng = random.Random(seed)
        self._turn = threading.Lock()
        self._released = threading.Event()
        super().__init__(_Through)

    def script(self, *faults: Fault) -> None:
        """From now on these faults happen, and counting starts at zero. The first that meets a
        request strikes it."""
        with self._turn:
            self._faults = list(faults)
            self.injected.clear()
            self.seen.clear()
            self.asked.clear()
            self._released.set()
            self._released = threading.Event()

    def hold(self, seconds: float) -> None:
        """Wait so long, or until the script changes."""
        with self._turn:
            released = self._released
        released.wait(seconds)

    def close(self) -> None:
        self.script()
        super().close()

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._turn:
            self.seen[method] += 1
            self.asked.append(f"{method} {path}")
            struck = [fault for fault in self._faults if fault.meets(method, path, self._rng)]
            if struck:
                self.injected[struck[0].name] += 1
            return struck[0] if struck else None


@contextmanager
def proxy(behind: str, seed: int = 0, **options: Any) -> Iterator[Proxy]:
    """A running proxy before the server at ``behind``, ended afterwards."""
    with serving(Proxy(behind, seed, **options)) as server:
        yield server
