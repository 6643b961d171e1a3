"""A build in a process of its own, which can be told to die at an exact operation.

Run as a script it reads jobs from standard input, a JSON document a line, and runs each
in a fork of its own: imports are paid once, and every build has a fresh process, with
its own number, that SIGKILL ends like any other.

Only operations that change the store are counted, and those of the lease's renewal are
not: it renews by the clock. With one worker their order is the same in every run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# What a build imports on its way is imported before the fork. None of it starts a thread.
import ome_zarr_models.v04.image
import ome_zarr_models.v05.image  # noqa: F401
import pydantic  # noqa: F401
import tifffile.zarr  # noqa: F401

import ngff_core
from ngff_core.errors import NgffError
from ngff_core.kernels.methods import warm
from ngff_core.plan import layout, source_cache
from ngff_core.progress import Advanced, Message
from ngff_core.storage import LocalFiles, as_buffer, local

OPERATIONS = ("write", "create", "delete", "delete_tree")
PIECE_BYTES = 2**17
"""Pieces of the cache pass: small, so that the test image has several."""


def run(job: dict[str, Any]) -> int:
    """Build what ``job`` says; the exit code."""
    # Counted before anything else happens: a patched shutil must not miss a removal.
    log = os.open(job["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    _count_operations(log, job.get("die"))
    source_cache._REGION_BYTES = PIECE_BYTES
    layout.BLOCK_BYTES = job.get("block_bytes", layout.BLOCK_BYTES)
    ngff_core.config.receipt_seconds = job["receipt_seconds"]
    result: dict[str, Any]
    try:
        report = ngff_core.build_pyramid(
            job["source"], job["target"], progress=_listener(job), **job["options"]
        )
        result = {
            "fresh": report.fresh,
            "fresh_by_level": [level.fresh for level in report.levels],
            "verified": report.verified,
        }
        if job.get("deep"):
            found = ngff_core.verify_pyramid(job["target"], deep=True, workers=1)
            result["findings"] = [dataclasses.asdict(finding) for finding in found.findings]
    except (NgffError, OSError) as error:
        result = {"error": type(error).__name__, "message": str(error)}
    _note(log, {"result": result})
    return 0 if "error" not in result else 1


def _listener(job: dict[str, Any]) -> Callable[[Any], None]:
    log = os.open(job["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    gate = job.get("gate")

    def listen(event: Any) -> None:
        if isinstance(event, Message):
            _note(log, {"message": event.text})
        if gate and isinstance(event, Advanced) and event.phase == "level-0" and event.done == 3:
            Path(gate, "reached").touch()
            while not Path(gate, "open").exists():
                time.sleep(0.01)

    return listen


def _note(log: int, row: dict[str, Any]) -> None:
    os.write(log, (json.dumps(row) + "\n").encode())


def _count_operations(log: int, die: dict[str, Any] | None) -> None:
    """Log each operation, and die at the one whose number ``die`` names."""
    counter = itertools.count()
    for name in OPERATIONS:
        _count(name, getattr(LocalFiles, name), log=log, counter=counter, die=die)


def _count(
    name: str, real: Callable[..., Any], *, log: int, counter: Any, die: dict[str, Any] | None
) -> None:
    def operation(self: LocalFiles, key: str = "", *rest: Any) -> Any:
        if threading.current_thread().name == "ngff-lease":
            return real(self, key, *rest)
        n = next(counter)
        where = "beside" if self.uri.endswith(".build") else "target"
        _note(log, {"op": f"{name} {where}:{key}"})
        if die is None or die["n"] != n:
            return real(self, key, *rest)
        if die["how"] == "before":
            _die()
        _DEATHS.get(die["how"], lambda path: None)(self.root / key)
        real(self, key, *rest)
        if die["how"] == "after":
            _die()
        raise AssertionError(f"{name} {key}: there was no moment {die['how']!r} to die at")

    setattr(LocalFiles, name, operation)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


def _die_torn(path: Path) -> None:
    """Half of the bytes are in the file that the operation writes to."""
    real = local.write_file

    def write_half(path: Path, data: Any) -> None:
        found = bytes(as_buffer(data))
        real(path, found[: len(found) // 2])
        _die()

    local.write_file = write_half


def _die_unnamed(path: Path) -> None:
    """All bytes are in the temporary file, which has not got its real name yet."""
    Path.replace = lambda *args: _die()  # type: ignore[method-assign]
    os.link = lambda *args, **options: _die()


def _die_twice_named(path: Path) -> None:
    """The object has its real name, and its temporary one still."""
    Path.unlink = lambda *args, **options: _die()  # type: ignore[method-assign]


def _die_half(path: Path) -> None:
    """Half of a tree's files are removed."""
    left = itertools.count(sum(len(names) for *_, names in os.walk(path)) // 2, -1)
    real = os.unlink

    def unlink(*args: Any, **options: Any) -> None:
        if next(left) <= 0:
            _die()
        real(*args, **options)

    os.unlink = unlink
    shutil.os.unlink = unlink


_DEATHS: dict[str, Callable[[Path], None]] = {
    "torn": _die_torn,
    "unnamed": _die_unnamed,
    "twice named": _die_twice_named,
    "half": _die_half,
}


def serve() -> None:
    """Fork for every job of standard input; say how and after how long each ended."""
    # Numba and the machine code too: loading them costs as much as all else that a build does.
    warm(["itkwasm_bin_shrink", "itkwasm_gaussian", "itkwasm_label_image"], ["uint16"])
    assert threading.active_count() == 1, "a fork with threads would not be a fresh process"
    for line in sys.stdin:
        job = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _run_and_exit(job)
        if job.get("kill_after") is not None:
            time.sleep(job["kill_after"])
            # Not waited for yet, so the number is still this child's.
            os.kill(pid, signal.SIGKILL)
        # Unburied, it stays a zombie for as long as this process lives.
        flags = os.WEXITED | (os.WNOWAIT if job.get("unburied") else 0)
        ended = os.waitid(os.P_PID, pid, flags)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        answer = {"pid": pid, "code": code, "seconds": time.monotonic() - began}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _run_and_exit(job: dict[str, Any]) -> NoReturn:
    code = 99
    try:
        code = run(job)
    except BaseException:  # noqa: BLE001 - nothing may reach the parent's loop
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
