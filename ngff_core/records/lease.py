"""The lease: which live process builds a target.

Leases are numbered objects, each made by an exclusive create, so the store itself decides which
of several processes gets a lease: ``lease/000003.json`` succeeds ``000002`` after that one was
released, has expired, or its process is known to be dead. Only the holder renews its own lease;
it finds out about a successor by looking for the next number.
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

import msgspec
import psutil

from ngff_core.config import config
from ngff_core.errors import LeaseLostError, TargetBusyError
from ngff_core.progress import Listener, Message, Waiting, silent
from ngff_core.records.build_folder import lease_key
from ngff_core.storage import ObjectStore, is_transient, retrying

type _FirstSeen = dict[tuple[int, str], float]
"""When this process first saw a lease that it cannot read, by its number and version."""


@dataclass(frozen=True)
class Holder:
    """A builder, as its lease describes it to other processes.

    ``host`` names the machine and its process namespace, ``pid`` the process; ``started`` is
    when that process started, ``expires`` when the lease ends unless it is renewed: both in
    seconds since 1970.
    """

    token: str
    host: str
    pid: int
    started: float
    expires: float
    released: bool = False

    @property
    def machine(self) -> str:
        """The host's name, for messages."""
        return self.host.partition("/")[0]

    @property
    def is_live(self) -> bool:
        """False once it was released, has expired, or is a dead process of this host."""
        if self.released or time.time() > self.expires:
            return False
        if self.host != _host():
            return True
        # The start time is computed from the boot time, which clock adjustments shift a
        # little; where another process has the number now, it differs by more.
        return abs(_started(self.pid) - self.started) < 5

    def __str__(self) -> str:
        """``process 12 on host``, or that the lease does not say."""
        if not self.host:
            return "a process whose lease this version of ngff-flows cannot read"
        return f"process {self.pid} on {self.machine}"


class Lease:
    """Exclusive use of a target, renewed by a thread until it is released.

    A context manager: entering waits up to ``patience`` seconds for another live builder, then
    raises TargetBusyError. ``store`` is the build folder; ``listener`` gets a message when the
    waiting begins and ends. With ``likely_first`` the first lease is tried before others are
    looked for, which saves a request where there is none.
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
        self._unreadable: _FirstSeen = {}
        self._me = Holder(uuid.uuid4().hex, _host(), os.getpid(), _started(os.getpid()), 0.0)

    def __enter__(self) -> Lease:
        deadline = time.monotonic() + self._patience
        waited = False
        while (holder := self._try()) is not None:
            if time.monotonic() >= deadline:
                raise TargetBusyError(
                    f"{holder} is building this target; wait for it to end, or stop it, "
                    "and run the same command again"
                )
            if not waited:
                self._listener(Waiting(f"waiting: {holder} is building this target"))
                waited = True
            time.sleep(max(0.0, min(1.0, deadline - time.monotonic())))
        if waited:
            self._listener(Message("the target is free, and this build continues"))
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
        # A renewal still under way would write a live lease over the released one.
        self._renewer.join()
        if self._lost:
            return
        try:
            self._put(replace(self._me, released=True))
        except Exception as failure:
            # A lease that cannot be released expires by itself.
            if not is_transient(failure):
                raise

    @property
    def is_first(self) -> bool:
        """Whether no builder had a lease before."""
        return self._number == 1

    @property
    def succeeded(self) -> bool:
        """Whether another builder has taken the next lease."""
        return self._store.info(lease_key(self._number + 1)) is not None

    def check(self) -> None:
        """Raise LeaseLostError if another process has taken over.

        While renewals are on time this takes no request; else it asks the store. Threads may
        call it.
        """
        if time.time() > self._renewed_at + config.lease_seconds / 2:
            # The renewer is late: this process was stopped, or the machine slept.
            self._renew_once()
        if self._lost:
            raise LeaseLostError(
                "another process took over this target, because this one did not renew its "
                "lease in time; this one stops"
            )

    def _try(self) -> Holder | None:
        """Take the lease, or return the live builder that has it."""
        if self._likely_first:
            self._likely_first = False
            self._number, current = 1, None
        else:
            self._number, current = _latest(self._store, self._unreadable)
        if current is not None and current.is_live:
            return current
        self._me = replace(self._me, expires=time.time() + config.lease_seconds)
        if retrying(self._store.create, lease_key(self._number), _document(self._me)):
            return None
        holder = _read(self._store, self._number, self._unreadable)
        return holder if holder is not None and holder.is_live else self._try()

    def _renew(self) -> None:
        while not self._stop.wait(config.lease_seconds / 4):
            # A store that fails may answer the next time; until then the lease stays valid.
            with suppress(Exception):
                self._renew_once()

    def _renew_once(self) -> None:
        with self._renewing:
            if self._stop.is_set() or self._lost:
                return
            if self._store.info(lease_key(self._number + 1)) is not None:
                self._lost = True
                return
            now = time.time()
            self._put(replace(self._me, expires=now + config.lease_seconds))
            self._renewed_at = now

    def _put(self, holder: Holder) -> None:
        self._store.write(lease_key(self._number), _document(holder))


def current_holder(store: ObjectStore) -> Holder | None:
    """The builder that took the last lease, live or not; None where there never was a lease."""
    return _latest(store, {})[1]


def _latest(store: ObjectStore, unreadable: _FirstSeen) -> tuple[int, Holder | None]:
    """The number of the next lease, and the holder of the last one."""
    number, last = 1, None
    while (document := retrying(store.read, lease_key(number))) is not None:
        number, last = number + 1, document
    if last is None:
        return number, None
    return number, _parse(last) or _assumed(store, number - 1, unreadable)


def _read(store: ObjectStore, number: int, unreadable: _FirstSeen) -> Holder | None:
    """The holder of one lease; None where there is no such lease."""
    document = retrying(store.read, lease_key(number))
    if document is None:
        return None
    return _parse(document) or _assumed(store, number, unreadable)


def _document(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _parse(document: bytes) -> Holder | None:
    """The holder that a lease describes; None where this version cannot read it.

    A newer version may write more fields: they are ignored.
    """
    try:
        return msgspec.json.decode(document, type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _assumed(store: ObjectStore, number: int, unreadable: _FirstSeen) -> Holder | None:
    """The holder of a lease that cannot be read: live until the lease is older than a lease lasts.

    A newer version may have written it, whose process is at work; or a machine that crashed.
    Where the store does not say when the lease was written, it counts from when this process
    first saw it.
    """
    info = retrying(store.info, lease_key(number))
    if info is None:
        return None
    written = info.modified
    if written is None:
        written = unreadable.setdefault((number, info.version), time.time())
    return Holder("", "", 0, 0.0, written + config.lease_seconds)


def _host() -> str:
    # Two containers may share a host name, but not their process numbers.
    try:
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        # A zombie is dead, and only waits for its parent to read its exit status.
        if process.status() == psutil.STATUS_ZOMBIE:
            return 0.0
        return float(process.create_time())
    except psutil.Error:
        return 0.0
