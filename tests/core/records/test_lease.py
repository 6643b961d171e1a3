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

import psutil
import pytest

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, TargetBusyError
from ngff_core.progress import Event, Message
from ngff_core.records.lease import Holder, Lease, current_holder
from ngff_core.storage import ObjectInfo, ObjectStore, open_store

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


def test_entering_takes_the_lease_and_leaving_releases_it(store: ObjectStore) -> None:
    """The holder can be looked up, with its process and host."""
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
    """Without patience the error says which process builds, and what to do."""
    with Lease(store):
        with pytest.raises(TargetBusyError) as caught, Lease(store, patience=0.0):
            pytest.fail("two builders at once")
        message = str(caught.value)
        assert f"process {os.getpid()} on " in message
        assert "run the same command again" in message
        holder = current_holder(store)
        assert holder is not None
        assert holder.is_live


def test_a_waiting_builder_gets_the_lease_when_it_is_released(store: ObjectStore) -> None:
    """It says once that it waits, and once that it continues."""
    events: list[Event] = []
    heard = threading.Event()

    def listen(event: Event) -> None:
        events.append(event)
        heard.set()

    first = Lease(store).__enter__()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(Lease(store, listen).__enter__)
        assert heard.wait(FOREVER)
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
def test_a_lease_without_a_live_holder_is_taken_at_once(
    store: ObjectStore, reason: str, likely_first: bool
) -> None:
    """Released, expired, or of a dead process of this machine."""
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


def test_a_lease_of_another_machine_counts_until_it_expires(store: ObjectStore) -> None:
    """Whether that process lives cannot be seen from here."""
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
    """Without waiting for its lease to expire; a live one is left alone."""
    store, process = builder
    with pytest.raises(TargetBusyError, match=f"process {process.pid} on "):
        Lease(store, patience=0.0).__enter__()
    process.kill()
    process.wait()
    with Lease(store, patience=0.0) as lease:
        lease.check()


def test_a_holder_renews_its_lease_while_it_works(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a long build is not taken for dead."""
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


def test_a_holder_that_was_taken_for_dead_notices(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops, and leaves the lease of its successor as it is."""
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


def test_a_renewal_that_fails_does_not_end_the_build(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may answer the next time; until then the lease stays valid."""
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


def test_a_transient_error_while_releasing_is_not_raised(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that cannot be released expires by itself."""
    refused = []

    def down(key: str, data: bytes) -> None:
        refused.append(key)
        raise ConnectionResetError

    with Lease(store):
        monkeypatch.setattr(store, "write", down)
    assert refused


@pytest.mark.parametrize("likely_first", [False, True])
def test_one_of_many_builders_has_the_lease_at_a_time(
    store: ObjectStore, likely_first: bool
) -> None:
    """Three threads, each a builder: no two of them are ever inside together."""
    inside, most = [], []

    def build(me: int) -> None:
        with Lease(store, likely_first=likely_first):
            inside.append(me)
            most.append(len(inside))
            inside.remove(me)

    with ThreadPoolExecutor(3) as executor:
        list(executor.map(build, range(3)))
    assert most == [1] * 3


UNREADABLE = [b"", b"{", b"[]", b"3", b'{"token": "x"}', b"\xff", b'{"version": 2, "builder": "x"}']


@pytest.mark.parametrize("likely_first", [False, True])
def test_a_lease_with_unknown_fields_is_a_live_lease(
    store: ObjectStore, likely_first: bool
) -> None:
    """A newer version wrote it: its fields that are known count, and the others are ignored."""
    newer = asdict(elsewhere()) | {"queue": "gpu", "version": 2}
    store.write("lease/000001.json", json.dumps(newer).encode())
    holder = current_holder(store)
    assert holder is not None
    assert (holder.is_live, holder.pid, holder.machine) == (True, 12, "other-host")
    with pytest.raises(TargetBusyError, match="process 12 on other-host is building this target"):
        Lease(store, patience=0.0, likely_first=likely_first).__enter__()
    assert list(store.objects("lease")) == ["lease/000001.json"]


def test_a_lease_with_unknown_fields_ends_as_any_other(store: ObjectStore) -> None:
    """Released or expired, it is no obstacle."""
    for number, ended in enumerate(
        (replace(elsewhere(), released=True), elsewhere(expires_in=-1.0)), 1
    ):
        newer = asdict(ended) | {"queue": "gpu"}
        store.write(f"lease/{number:06}.json", json.dumps(newer).encode())
    with Lease(store, patience=0.0):
        assert list(store.objects("lease"))[-1] == "lease/000003.json"


@pytest.mark.parametrize("likely_first", [False, True])
@pytest.mark.parametrize("document", UNREADABLE)
def test_a_lease_that_cannot_be_read_is_a_live_lease(
    store: ObjectStore, document: bytes, likely_first: bool
) -> None:
    """Its builder may be of a newer version and at work, so nobody builds beside it."""
    store.write("lease/000001.json", document)
    holder = current_holder(store)
    assert holder is not None
    assert holder.is_live
    with pytest.raises(TargetBusyError, match=r"a process whose lease .* cannot read is building"):
        Lease(store, patience=0.0, likely_first=likely_first).__enter__()
    assert list(store.objects("lease")) == ["lease/000001.json"]


@pytest.mark.parametrize("dated", [True, False])
def test_an_unreadable_lease_ends_when_it_is_older_than_a_lease_lasts(
    store: ObjectStore, dated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that the store gives, or else from when it was first seen."""
    store.write("lease/000001.json", b"{")
    written = now = time.time()
    monkeypatch.setattr("ngff_core.records.lease.time.time", lambda: now)
    monkeypatch.setattr("ngff_core.records.lease.time.sleep", lambda _: None)
    info = store.info("lease/000001.json")
    assert info is not None
    undated = replace(info, modified=written if dated else None)
    real = store.info
    monkeypatch.setattr(store, "info", lambda key: undated if "01.json" in key else real(key))
    lease = Lease(store, patience=0.0)
    now = written + config.lease_seconds - 1
    with pytest.raises(TargetBusyError):
        lease.__enter__()
    now = written + 2 * config.lease_seconds
    with lease:
        assert not lease.is_first
    assert store.read("lease/000001.json") == b"{"
    assert store.read("lease/000002.json") is not None


def test_an_unreadable_lease_that_is_renewed_stays_live(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time its builder writes it, it lasts as long again."""
    now = time.time()
    infos = {"lease/000001.json": ObjectInfo(1, "a")}
    monkeypatch.setattr("ngff_core.records.lease.time.time", lambda: now)
    monkeypatch.setattr(store, "info", infos.get)
    store.write("lease/000001.json", b"{")
    lease = Lease(store, patience=0.0)
    with pytest.raises(TargetBusyError):
        lease.__enter__()
    now += 2 * config.lease_seconds
    infos["lease/000001.json"] = ObjectInfo(1, "b")
    with pytest.raises(TargetBusyError):
        lease.__enter__()


def test_a_lease_that_was_removed_meanwhile_is_no_obstacle(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading it and asking for its age: its builder removed the target."""
    store.write("lease/000001.json", b"{")
    monkeypatch.setattr(store, "info", lambda key: None)
    assert current_holder(store) is None


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


def test_a_holder_is_named_without_the_number_of_its_namespace() -> None:
    """People know hosts by their names."""
    assert elsewhere().machine == "other-host"


def test_a_process_that_has_the_number_of_a_dead_one_is_another(store: ObjectStore) -> None:
    """Start times that differ by 5 seconds or more are of two processes; clocks shift by less."""
    with Lease(store):
        mine = current_holder(store)
    assert mine is not None
    live = replace(mine, released=False, expires=time.time() + 60)
    assert replace(live, started=live.started + 4.5).is_live
    assert replace(live, started=live.started - 4.5).is_live
    assert not replace(live, started=live.started + 5.5).is_live
    assert not replace(live, started=live.started - 5.5).is_live


def test_a_lease_lasts_as_long_as_configured(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From when it was taken, and from each renewal."""
    now = time.time()
    monkeypatch.setattr("ngff_core.records.lease.time.time", lambda: now)
    with Lease(store) as lease:
        holder = current_holder(store)
        assert holder is not None
        assert holder.expires == now + config.lease_seconds
        now += config.lease_seconds / 2 + 1
        lease.check()
        holder = current_holder(store)
        assert holder is not None
        assert holder.expires == now + config.lease_seconds


def test_a_check_takes_no_request_while_renewals_are_on_time(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made before and after each write of a build."""
    with Lease(store) as lease:
        for name in ("read", "write", "info", "create"):
            monkeypatch.setattr(store, name, None)
        lease.check()
        monkeypatch.undo()


def test_only_the_first_builder_of_a_target_is_first(store: ObjectStore) -> None:
    """And a holder sees whether it was succeeded."""
    with Lease(store, likely_first=True) as first:
        assert first.is_first
        assert not first.succeeded
    with Lease(store, likely_first=True) as second:
        assert not second.is_first
        assert first.succeeded
        assert not second.succeeded


def test_a_released_lease_stops_its_thread(store: ObjectStore) -> None:
    """No renewal comes after the release."""
    with Lease(store):
        assert [t for t in threading.enumerate() if t.name == "ngff-lease"]
    assert not [t for t in threading.enumerate() if t.name == "ngff-lease"]


def test_an_error_that_is_not_transient_while_releasing_is_raised(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake must not pass in silence."""

    def broken(key: str, data: bytes) -> None:
        raise TypeError("broken")

    lease = Lease(store).__enter__()
    monkeypatch.setattr(store, "write", broken)
    with pytest.raises(TypeError, match="broken"):
        lease.__exit__(None, None, None)


def test_a_holder_that_lost_its_lease_or_stopped_does_not_renew_it(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late renewal would write over what came after."""
    lease = Lease(store)
    with lease:
        put(store, 2, elsewhere())
        monkeypatch.setattr(lease, "_renewed_at", 0.0)
        with pytest.raises(LeaseLostError):
            lease.check()
        before = store.read("lease/000001.json")
        store.delete("lease/000002.json")
        with pytest.raises(LeaseLostError):
            lease.check()
        assert store.read("lease/000001.json") == before
    with Lease(store) as other:
        pass
    released = current_holder(store)
    monkeypatch.setattr(other, "_renewed_at", 0.0)
    other.check()
    assert current_holder(store) == released


def test_an_unfinished_wait_lasts_until_the_patience_ends(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking once a second, the last time when it ends; the message comes once."""
    put(store, 1, elsewhere())
    now, slept = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    monkeypatch.setattr("ngff_core.records.lease.time.monotonic", lambda: now)
    monkeypatch.setattr("ngff_core.records.lease.time.sleep", sleep)
    events: list[Event] = []
    with pytest.raises(TargetBusyError):
        Lease(store, events.append, patience=2.5).__enter__()
    assert slept == [1.0, 1.0, 0.5]
    assert len(events) == 1


def test_a_check_asks_once_half_a_lease_has_passed_without_renewal(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before: renewals come each quarter of a lease."""
    now = time.time()
    monkeypatch.setattr("ngff_core.records.lease.time.time", lambda: now)
    with Lease(store) as lease:
        put(store, 2, elsewhere())
        now += config.lease_seconds / 2 - 1
        lease.check()
        now += 2
        with pytest.raises(LeaseLostError):
            lease.check()


def test_a_zombie_is_dead(store: ObjectStore) -> None:
    """Its parent has not read its exit status yet, so its number is still taken."""
    with Lease(store):
        mine = current_holder(store)
    assert mine is not None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        child = psutil.Process(process.pid)
        holder = replace(mine, released=False, pid=process.pid, started=child.create_time())
        assert holder.is_live
        process.kill()
        until(lambda: child.status() == psutil.STATUS_ZOMBIE)
        assert not holder.is_live


def test_a_lease_can_be_taken_again(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the next lease, and renewed as the first was."""
    lease = Lease(store)
    with lease:
        assert lease.is_first
    with lease:
        assert not lease.is_first
        first = current_holder(store)
        monkeypatch.setattr(lease, "_renewed_at", 0.0)
        lease.check()
        now = current_holder(store)
        assert first is not None
        assert now is not None
        assert now.expires > first.expires
