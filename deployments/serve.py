"""Runs everything on one machine: server, worker, deployments, automations. Ctrl-C ends it.

    make serve [PORT=4300]

Its state is kept in `.prefect/` of the clone, for the next start. It also receives notifications
of uploads. Where none of the receiver's settings (NGFF_RECEIVER_…) is given, senders are
authenticated by the secret in `.prefect/receiver-secret`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

ROOT = Path(__file__).resolve().parent.parent
_HOST = "127.0.0.1"
# The first start migrates the database, which takes half a minute and more on a small machine.
_START_SECONDS = 180.0
_END_SECONDS = 15.0


def main() -> None:
    """Serve until Ctrl-C, SIGTERM, or the end of one of the processes."""
    # Ctrl-C as well: a shell that starts this in the background may make it be ignored.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, help="by default 4200, or a free one")
    serve(parser.parse_args().port)


def serve(wanted: int | None = None) -> None:
    """Serve on a port until interrupted."""
    home = Path(os.environ.get("PREFECT_HOME") or ROOT / ".prefect")
    port = _port(wanted)
    address = f"http://{_HOST}:{port}"
    os.environ.update(_environment(home, address))
    with suppress(KeyboardInterrupt), _alone(home, address), _processes() as started:
        print(f"Starting the server (its log: {home / 'server.log'})", flush=True)
        server = _start(home / "server.log", "server", "start", "--host", _HOST, "--port", port)
        started.append(server)
        _wait_until_healthy(f"{address}/api/health", server)
        # Prefect reads its settings when it is imported, so this import comes after them.
        from deployments.prepare import PREFECT_FILE, pool_of, prepare

        for line in prepare():
            print(line, flush=True)
        pool = pool_of(PREFECT_FILE)
        worker = _start(home / "worker.log", "worker", "start", "--pool", pool, "--name", "serve")
        started.append(worker)
        started.append(_receive(home))
        print(f"Ready: {address}  (Ctrl-C ends server, worker and runs)", flush=True)
        _watch(started)


def _environment(home: Path, address: str) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "DO_NOT_TRACK": "1",
        # With leases in memory a restart would end every build that has one, within four minutes.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
    }


def _port(wanted: int | None) -> str:
    """The wanted port; without one 4200, or a free port where 4200 is taken."""
    port = _first_free(*((4200, 0) if wanted is None else (wanted,)))
    if port is not None:
        return port
    sys.exit(
        f"port {wanted} is taken: end the program that listens there, give another port "
        "(make serve PORT=4300), or give none to use a free one"
    )


@contextmanager
def _alone(home: Path, address: str) -> Iterator[None]:
    """Refuse to start beside a second server on the same database: runs would start twice."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            sys.exit(f"already serving from {home}: {lock.read()}")
        lock.truncate(0)
        lock.write(address)
        lock.flush()
        yield


def _first_free(*ports: int) -> str | None:
    for port in ports:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
            return str(probe.getsockname()[1])
    return None


def _receive(home: Path) -> subprocess.Popen[bytes]:
    """Start the receiver of notifications on NGFF_RECEIVER_PORT, 8080 or a free port."""
    log, secret = home / "receiver.log", home / "receiver-secret"
    hint = ""
    given = {name for name in os.environ if name.startswith("NGFF_RECEIVER_")}
    if not given - {"NGFF_RECEIVER_PORT"}:
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(32))
        os.environ["NGFF_RECEIVER_SECRET"] = secret.read_text()
        hint = f", their secret: {secret}"
    port = os.environ.get("NGFF_RECEIVER_PORT") or _first_free(8080, 0) or "8080"
    print(f"Notifications: http://{_HOST}:{port}  (their log: {log}{hint})", flush=True)
    return _start(log, "--host", _HOST, "--port", port, module="ngff_flows.receiver")


def _start(log: Path, *arguments: str, module: str = "prefect") -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # In its own session, so that Ctrl-C does not reach it: it is ended in order instead.
            start_new_session=True,
        )


@contextmanager
def _processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A list of processes; at the end of the block each is ended, with its children, last first."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        yield started
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("Ending", flush=True)
        for process in reversed(started):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(family, _END_SECONDS)
    for member in alive:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.kill()
    process.wait()


def _wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    sys.exit("the server did not start; see its log")


def _watch(started: list[subprocess.Popen[bytes]]) -> None:
    while all(process.poll() is None for process in started):
        time.sleep(0.5)
    sys.exit("server, worker or receiver ended unexpectedly; see its log")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
