"""The proxy does what its script says, and counts it."""

from __future__ import annotations

import http.client
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from tests.servers.loopback import Handler, Loopback, serving
from tests.servers.proxy import Fault, Proxy, proxy

BODY = bytes(range(256)) * 40


class Echo(Handler):
    """Keeps what was put, and gives it back."""

    kept: ClassVar[bytes] = BODY
    heard: ClassVar[Counter[str]] = Counter()

    def do_any(self) -> None:
        Echo.heard[self.command] += 1
        if body := self.body():
            Echo.kept = body
        self.answer(200, Echo.kept, {"X-Path": self.path})

    do_GET = do_PUT = do_HEAD = do_any  # noqa: N815


@pytest.fixture(scope="module")
def between() -> Iterator[Proxy]:
    with serving(Loopback(Echo)) as echo, proxy(echo.url, seed=3) as between:
        yield between


@pytest.fixture(autouse=True)
def fresh(between: Proxy) -> None:
    Echo.kept = BODY
    Echo.heard = Counter()
    between.script()


def ask(
    between: Proxy, method: str = "GET", path: str = "/a", body: bytes | None = None, **more: Any
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(between.url).netloc, timeout=5, **more)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def test_without_a_script_everything_passes(between):
    """Bodies both ways, paths with quoted slashes, and the length that HEAD tells."""
    assert ask(between)[:2] == (200, BODY)
    assert ask(between, path="/a%2Fb?c=d%20e")[2]["X-Path"] == "/a%2Fb?c=d%20e"
    assert ask(between, "PUT", body=b"new\r")[:2] == (200, b"new\r")
    assert ask(between, "HEAD")[2]["Content-Length"] == "4"
    assert between.injected == {}
    assert between.seen == {"GET": 2, "PUT": 1, "HEAD": 1}


def test_a_client_that_waits_to_be_told_to_go_on_is_told(between):
    """``Expect: 100-continue``, as botocore asks before each upload."""
    with socket.create_connection(between.server_address[:2], timeout=5) as raw:
        raw.sendall(b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert b"100 Continue" in raw.recv(100)
        raw.sendall(b"abc")
        assert b"200" in raw.recv(1000)
    assert Echo.kept == b"abc"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_status_is_answered_in_the_servers_place(between, status):
    """The second request to /b alone; the server never hears of it."""
    between.script(Fault("status", path="/b", nth=[2], status=status, retry_after="7"))
    found = [ask(between, path=path) for path in ("/a", "/b", "/b", "/b")]
    assert [code for code, _, _ in found] == [200, 200, status, 200]
    assert found[2][2]["Retry-After"] == "7"
    assert between.injected == {str(status): 1}
    assert Echo.heard["GET"] == 3


@pytest.mark.parametrize("kind", ["reset", "reset upload"])
def test_a_reset_ends_the_connection_before_the_server_hears(between, kind):
    """At once, or with half of a body read."""
    between.script(Fault(kind, method="PUT"))
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(between, "PUT", body=b"x" * 10**6)
    assert Echo.heard["PUT"] == 0
    assert between.injected == {kind: 1}


def test_a_dropped_reply_leaves_what_was_done(between):
    between.script(Fault("drop reply", method="PUT"))
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(between, "PUT", body=b"done")
    assert Echo.kept == b"done"


def test_a_truncated_answer_is_short_of_what_it_promised(between):
    between.script(Fault("truncate"))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(between)


@pytest.mark.parametrize("kind", ["flip upload", "flip download"])
def test_one_bit_is_changed(between, kind):
    """On the way there, what is stored; on the way back, what is answered."""
    between.script(Fault(kind, method="PUT"))
    _, found, _ = ask(between, "PUT", body=BODY)
    wrong = [(a ^ b) for a, b in zip(found, BODY, strict=True) if a != b]
    assert len(wrong) == 1
    assert wrong[0].bit_count() == 1
    assert (Echo.kept == BODY) is (kind == "flip download")


def test_latency_and_stalls_take_their_time(between):
    """A stall ends in a broken connection, or in the client's own timeout."""
    between.script(Fault("delay", path="/a", seconds=0.2), Fault("stall", seconds=0.2))
    began = time.monotonic()
    assert ask(between)[0] == 200
    assert time.monotonic() - began >= 0.2
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(between, path="/stalled")


def test_a_new_script_ends_delays(between):
    """What was held is answered, as if it had never been."""
    between.script(Fault("delay", seconds=600))
    with ThreadPoolExecutor() as executor:
        held = executor.submit(ask, between)
        while not between.injected["delay"]:
            time.sleep(0.01)
        between.script()
        assert held.result()[:2] == (200, BODY)


def test_chances_follow_the_seed(between):
    """About as many as the chance says; the same seed strikes the same ones."""
    fault = Fault("status", chance=0.2)

    def struck(seed: int) -> list[int]:
        with proxy(between.url, seed) as seeded:
            seeded.script(fault)
            found = [ask(seeded)[0] for _ in range(50)]
            assert seeded.injected["503"] == found.count(503)
            return found

    assert struck(1) == struck(1) != struck(2)
    assert 2 <= struck(1).count(503) <= 20


def test_many_at_once_are_counted_right(between):
    """Threads share the script: the tenth is struck once."""
    between.script(Fault("status", nth=[10]))
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda _: ask(between)[0], range(40)))
    assert found.count(503) == between.injected["503"] == 1
    assert between.seen["GET"] == 40
