"""The lease: which live process builds a target.

Leases are numbered objects made by exclusive create, so that every store that has it
decides a race by itself: ``lease/000003.json`` succeeds ``000002`` once that one was
released, ran out, or its process is known to be dead. The holder alone renews its own,
and notices a successor by looking for the next number.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType

import psutil

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, TargetBusyError
from ngff_core.progress import Listener, Message, Waiting, silent
from ngff_core.storage import ObjectStore, is_transient, retrying


@dataclass(frozen=True)
class Holder:
    """A builder, as another process may look for it."""

    token: str
    host: str
    pid: int
    started: float
    expires: float
    released: bool = False

    @property
    def machine(self) -> str:
        """The host's name, for people."""
        return self.host.partition("/")[0]

    @property
    def is_live(self) -> bool:
        """False once it was released, ran out, or is a process of this host that died."""
        if self.released or time.time() > self.expires:
            return False
        if self.host != _host():
            return True
        # The start time is reckoned from the boot time, which clock adjustments shift a
        # little; a process number that went to another process differs by more.
        return abs(_started(self.pid) - self.started) < 5


class Lease:
    """Exclusive use of a target, renewed by a thread until released.

    Use as a context manager: entering waits up to ``patience`` seconds for another
    live builder, then raises TargetBusyError. With ``likely_first`` the first lease is tried
    before the others are looked for, which is a request less where there is none.
    """

    def __init__(
        self,
        store: ObjectStore,
        listener: Listener = silent,
        patience: float = math.inf,
        *,
        likely_first: bool = False,
    ) -> None:
        self._store = store
        self._listener = listener
        self._patience = patience
        self._likely_first = likely_first
        self._number = 0
        self._lost = False
        self._renewed_at = 0.0
        self._renewing = threading.Lock()
        self._stop = threading.Event()
        self._renewer = threading.Thread()
        self._me = Holder(uuid.uuid4().hex, _host(), os.getpid(), _started(os.getpid()), 0.0)

    def __enter__(self) -> Lease:
        deadline = time.monotonic() + self._patience
        told = False
        while (holder := self._try()) is not None:
            who = f"process {holder.pid} on {holder.machine}"
            if time.monotonic() >= deadline:
                raise TargetBusyError(
                    f"{who} is building this target; wait for it to end, or stop it, "
                    "and run the same command again"
                )
            if not told:
                self._listener(Waiting(f"waiting: {who} is building this target"))
                told = True
            time.sleep(min(1.0, deadline - time.monotonic()))
        if told:
            self._listener(Message("the target is free, and this build goes on"))
        self._stop.clear()
        self._renewed_at = time.time()
        self._renewer = threading.Thread(target=self._renew, name="ngff-lease", daemon=True)
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        # A renewal under way would put a live lease over the released one.
        self._renewer.join()
        if self._lost:
            return
        try:
            self._put(replace(self._me, released=True))
        except Exception as trouble:
            # A lease that cannot be released runs out by itself.
            if not is_transient(trouble):
                raise

    @property
    def is_first(self) -> bool:
        """Whether nobody had a lease before."""
        return self._number == 1

    @property
    def succeeded(self) -> bool:
        """Whether another builder has taken the next lease."""
        return self._store.info(_key(self._number + 1)) is not None

    def check(self) -> None:
        """Raise LeaseLostError if another process has taken over.

        Cheap while renewals are on time; else it asks the store. Threads may share it.
        """
        if time.time() > self._renewed_at + config.lease_seconds / 2:
            # The renewer is late: this process was stopped, or the machine slept.
            self._renew_once()
        if self._lost:
            raise LeaseLostError(
                "another process took over this target, since this one did not renew its "
                "lease in time; this one stops"
            )

    def _try(self) -> Holder | None:
        """Take the lease, or return the live builder that has it."""
        if self._likely_first:
            self._likely_first = False
            self._number, current = 1, None
        else:
            self._number, current = _latest(self._store)
        if current is not None and current.is_live:
            return current
        self._me = replace(self._me, expires=time.time() + config.lease_seconds)
        if retrying(self._store.create, _key(self._number), _document(self._me)):
            return None
        document = retrying(self._store.read, _key(self._number))
        holder = _parse(document) if document is not None else None
        return holder if holder is not None and holder.is_live else self._try()

    def _renew(self) -> None:
        while not self._stop.wait(config.lease_seconds / 4):
            # A store in trouble may answer the next time; until then the lease runs on.
            with suppress(Exception):
                self._renew_once()

    def _renew_once(self) -> None:
        with self._renewing:
            if self._stop.is_set() or self._lost:
                return
            if self._store.info(_key(self._number + 1)) is not None:
                self._lost = True
                return
            now = time.time()
            self._put(replace(self._me, expires=now + config.lease_seconds))
            self._renewed_at = now

    def _put(self, holder: Holder) -> None:
        self._store.write(_key(self._number), _document(holder))


def current_holder(store: ObjectStore) -> Holder | None:
    """Who took the lease last, live or not; None where nobody ever did."""
    return _latest(store)[1]


def _latest(store: ObjectStore) -> tuple[int, Holder | None]:
    """The number of the next lease, and the holder of the last one."""
    number, holder = 1, None
    while (document := retrying(store.read, _key(number))) is not None:
        number, holder = number + 1, _parse(document)
    return number, holder


def _key(number: int) -> str:
    return f"lease/{number:06}.json"


def _document(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _parse(document: bytes) -> Holder:
    try:
        return Holder(**json.loads(document))
    except (ValueError, TypeError):
        # Cut short by a crash of its machine: whoever held it is no longer there.
        return Holder("", "", 0, 0.0, 0.0, released=True)


def _host() -> str:
    # Two containers may share a host name, and not their process numbers.
    try:
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        # A zombie is dead, and only waits for its parent to take note.
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0.0
        return float(process.create_time())
    except psutil.Error:
        return 0.0
