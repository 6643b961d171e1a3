"""The lease: one live builder at a time, and a dead one is no obstacle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, TargetBusyError
from ngff_core.progress import Event, Message
from ngff_core.records.lease import Holder, Lease, current_holder
from ngff_core.storage import ObjectStore, open_store

FOREVER = 60.0
"""Where a test waits for a thread, this is only there to end it if it hangs."""


def put(store: ObjectStore, number: int, holder: Holder) -> None:
    """A lease as another process wrote it."""
    store.write(f"lease/{number:06}.json", json.dumps(asdict(holder)).encode())


def elsewhere(expires_in: float = 3600.0) -> Holder:
    """A builder on another machine."""
    return Holder("token", "other-host/4026531836", 12, 1000.0, time.time() + expires_in)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a thread does."""
    end = time.monotonic() + FOREVER
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def test_who_enters_holds_the_lease_and_leaving_releases_it(store: ObjectStore) -> None:
    """The holder can be looked up, with his process and host."""
    assert current_holder(store) is None
    with Lease(store) as lease:
        holder = current_holder(store)
        assert holder is not None
        assert holder.is_live
        assert holder.pid == os.getpid()
        lease.check()
    holder = current_holder(store)
    assert holder is not None
    assert holder.released
    assert not holder.is_live


def test_a_live_builder_is_not_disturbed(store: ObjectStore) -> None:
    """Who has no patience is told who is at work, and what to do."""
    with Lease(store):
        with pytest.raises(TargetBusyError) as caught, Lease(store, patience=0.0):
            pytest.fail("two builders at once")
        message = str(caught.value)
        assert f"process {os.getpid()} on " in message
        assert "run the same command again" in message
        holder = current_holder(store)
        assert holder is not None
        assert holder.is_live


def test_who_waits_gets_it_when_it_is_released(store: ObjectStore) -> None:
    """And says once that it waits, and once that it goes on."""
    events: list[Event] = []
    told = threading.Event()

    def listen(event: Event) -> None:
        events.append(event)
        told.set()

    first = Lease(store).__enter__()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(Lease(store, listen).__enter__)
        assert told.wait(FOREVER)
        assert not waiting.done()
        first.__exit__(None, None, None)
        second = waiting.result(timeout=FOREVER)
    second.check()
    second.__exit__(None, None, None)
    assert len(events) == 2
    assert isinstance(events[0], Message)
    assert events[0].text.startswith("waiting: process ")


@pytest.mark.parametrize("likely_first", [False, True])
@pytest.mark.parametrize("reason", ["released", "expired", "dead", "another process by now"])
def test_a_lease_that_nobody_holds_is_taken_at_once(
    store: ObjectStore, reason: str, likely_first: bool
) -> None:
    """Released, run out, or of a process of this machine that is gone."""
    with Lease(store):
        mine = current_holder(store)
    assert mine is not None
    live = replace(mine, released=False, token="another")
    left = {
        "released": replace(elsewhere(), released=True),
        "expired": elsewhere(expires_in=-1.0),
        "dead": replace(live, pid=gone_pid()),
        "another process by now": replace(live, started=live.started - 3600),
    }[reason]
    put(store, 2, left)
    with Lease(store, patience=0.0, likely_first=likely_first) as lease:
        lease.check()
        assert not lease.is_first
        assert list(store.objects("lease"))[-1] == "lease/000003.json"


def gone_pid() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_lease_of_another_machine_counts_until_it_runs_out(store: ObjectStore) -> None:
    """Nobody can see from here whether that process lives."""
    put(store, 1, elsewhere())
    with pytest.raises(TargetBusyError, match="process 12 on other-host is"):
        Lease(store, patience=0.0).__enter__()


HOLD = """
import sys, time
from ngff_core.records.lease import Lease
from ngff_core.storage import open_store
with Lease(open_store(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[tuple[ObjectStore, subprocess.Popen[str]]]:
    """A real process that holds the lease of a local target."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "image.build")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield open_store(tmp_path / "image.build"), process
        process.kill()


def test_a_killed_builder_is_succeeded_at_once(
    builder: tuple[ObjectStore, subprocess.Popen[str]],
) -> None:
    """Without waiting for its lease to run out; a live one is left alone."""
    store, process = builder
    with pytest.raises(TargetBusyError, match=f"process {process.pid} on "):
        Lease(store, patience=0.0).__enter__()
    process.kill()
    process.wait()
    with Lease(store, patience=0.0) as lease:
        lease.check()


def test_a_holder_renews_his_lease_while_he_works(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a long build is not taken for dead."""
    monkeypatch.setattr(config, "lease_seconds", 0.4)
    with Lease(store):
        first = current_holder(store)
        assert first is not None

        def renewed() -> bool:
            now = current_holder(store)
            return now is not None and now.expires > first.expires

        until(renewed)
        now = current_holder(store)
        assert now is not None
        assert now.token == first.token


def test_a_holder_who_was_taken_for_dead_notices(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He stops, and leaves his successor's lease as it is."""
    monkeypatch.setattr(config, "lease_seconds", 0.2)
    lease = Lease(store).__enter__()
    successor = elsewhere()
    put(store, 2, successor)

    def lost() -> bool:
        try:
            lease.check()
        except LeaseLostError:
            return True
        return False

    until(lost)
    with pytest.raises(LeaseLostError, match="another process took over"):
        lease.check()
    lease.__exit__(None, None, None)
    assert current_holder(store) == successor


def test_trouble_while_renewing_does_not_end_the_build(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may answer the next time; until then the lease runs on."""
    monkeypatch.setattr(config, "lease_seconds", 0.2)
    tries = []
    write = store.write

    def flaky(key: str, data: bytes) -> None:
        tries.append(key)
        if len(tries) < 3:
            raise ConnectionResetError
        write(key, data)

    with Lease(store) as lease:
        monkeypatch.setattr(store, "write", flaky)
        until(lambda: len(tries) >= 3)
        lease.check()


def test_trouble_while_releasing_does_not_hide_the_result(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that cannot be released runs out by itself."""

    def down(key: str, data: bytes) -> None:
        raise ConnectionResetError

    with Lease(store):
        monkeypatch.setattr(store, "write", down)


@pytest.mark.parametrize("likely_first", [False, True])
def test_of_many_that_want_it_one_has_it_at_a_time(store: ObjectStore, likely_first: bool) -> None:
    """Eight threads, each a builder: no two of them are ever inside together."""
    inside, most = [], []

    def build(me: int) -> None:
        with Lease(store, likely_first=likely_first):
            inside.append(me)
            most.append(len(inside))
            inside.remove(me)

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(build, range(3)))
    assert most == [1] * 3


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"3", b'{"token": "x"}', b"\xff"])
def test_a_damaged_lease_is_of_nobody_alive(store: ObjectStore, document: bytes) -> None:
    """Cut short by its machine's crash; the next builder gets a lease of its own."""
    store.write("lease/000001.json", document)
    with Lease(store, patience=0.0):
        assert store.read("lease/000002.json") is not None
        assert store.read("lease/000001.json") == document


def test_a_holder_that_slept_notices_at_its_next_check(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its renewing thread need not have woken first: the clock says that it is late."""
    with Lease(store) as lease:
        store.write("lease/000002.json", b"{}")
        lease.check()
        monkeypatch.setattr(lease, "_renewed_at", time.time() - config.lease_seconds)
        with pytest.raises(LeaseLostError, match="took over"):
            lease.check()


def test_a_holder_is_named_without_the_number_of_his_namespace() -> None:
    """People know hosts by their names."""
    assert elsewhere().machine == "other-host"
