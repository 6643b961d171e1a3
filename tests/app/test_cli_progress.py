"""Interruptions, the status of a running build, and progress on a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ngff_core.progress import Advanced, Event, Listener
from ngff_core.storage import LocalFiles
from ngff_flows.cli import main
from ngff_flows.cli.terminal import PlainLines
from tests.support.command import SMALL, Command


def interrupting(monkeypatch: pytest.MonkeyPatch, phase: str, done: int) -> None:
    """The next build is interrupted, as by Ctrl-C, after so many regions of a phase."""

    @contextmanager
    def listening() -> Iterator[Listener]:
        lines = PlainLines()

        def listener(event: Event) -> None:
            lines(event)
            if isinstance(event, Advanced) and (event.phase, event.done) == (phase, done):
                raise KeyboardInterrupt

        yield listener

    monkeypatch.setattr(main, "listening", listening)


def test_status_of_an_interrupted_build(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C status shows what is done and how to continue; the same command continues."""
    with monkeypatch.context() as patched:
        interrupting(patched, "level-1", 2)
        answer = run("build", source, target, "--no-prefect", *SMALL)
    assert answer.status == 1
    assert answer.err.splitlines()[-1] == (
        "ngff-flows: interrupted; run the same command again: it continues where it stopped"
    )
    status = run("status", target, "--json").document
    level_0, level_1 = status["levels"]
    assert (level_0["total"], level_1["done"], level_1["total"]) == (16, 2, 4)
    assert not status["finished"]
    assert status["builder"] is None
    told = run("status", target).out
    assert "run the same build command again to continue" in told
    again = run("build", source, target, "--no-prefect", *SMALL, "--json")
    assert again.status == 0
    fresh = [level["fresh"] for level in again.document["levels"]]
    assert fresh == [16 - level_0["done"], 2]
    assert run("verify", target, "--deep").status == 0


def test_status_while_the_build_is_running(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status may be asked at any time, and names the process that is at work."""
    seen: list[Any] = []
    write = LocalFiles.write

    def look(store: LocalFiles, key: str, data: bytes) -> None:
        if key == "1/c/1/1":
            seen.append(main.build_status(target))
        write(store, key, data)

    monkeypatch.setattr(LocalFiles, "write", look)
    assert run("build", source, target, "--no-prefect", *SMALL).status == 0
    [status] = seen
    assert status.builder.pid == os.getpid()
    assert status.levels[0].done == 16
    assert not status.finished


# Each region of level 1 takes its time, so that a signal comes before the build's end.
SLOW = """
import time
from ngff_core.storage import LocalFiles
from ngff_flows.cli.main import main

write = LocalFiles.write
def slowly(store, key, data):
    if key.startswith("1/"):
        time.sleep(1)
    write(store, key, data)
LocalFiles.write = slowly
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_stopped_process_leaves_what_it_did(
    run: Command, source: Path, target: Path, number: signal.Signals
) -> None:
    """Ctrl-C ends a build with status 1 and a line; SIGTERM ends it as it ends anything.
    Either way the same command finishes."""
    options = ("build", source, target, "--no-prefect", *SMALL)
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, options)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("level-1: "):
                process.send_signal(number)
                break
        rest = process.stderr.read()
    if number == signal.SIGINT:
        assert process.returncode == 1
        assert rest.splitlines()[-1].startswith(
            "ngff-flows: interrupted; run the same command again"
        )
        assert "Traceback" not in rest
    else:
        assert process.returncode == -signal.SIGTERM
        assert rest == ""
    assert not (target / "zarr.json").exists()
    again = run(*options, "--json")
    assert again.status == 0
    # level 0 was perhaps just begun; a region of level 1 takes a second
    assert again.document["levels"][0]["fresh"] <= 16
    assert again.document["levels"][1]["fresh"] <= 4


# --- what a terminal shows -------------------------------------------------------------


@contextmanager
def terminal_as_stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Standard error is a terminal; afterwards its output is in the list."""
    master, slave = os.openpty()
    told: list[bytes] = []

    def read() -> None:
        # Linux ends a terminal that nobody writes to any more with an error.
        try:
            while piece := os.read(master, 4096):
                told.append(piece)
        except OSError:
            pass

    reader = threading.Thread(target=read)
    with monkeypatch.context() as patched:
        patched.setenv("TERM", "xterm")
        patched.setenv("COLUMNS", "100")
        with open(slave, "w") as stderr:
            patched.setattr(sys, "stderr", stderr)
            reader.start()
            yield told
    reader.join()
    os.close(master)


def test_terminal_shows_bars(
    run: Command, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a terminal each phase has a bar, full at the end."""
    with terminal_as_stderr(monkeypatch) as told:
        assert run("build", source, target, "--no-prefect", *SMALL).status == 0
    text = b"".join(told).decode()
    assert "━" in text
    assert "\x1b[" in text
    assert "16/16" in text
    assert "4/4" in text


def test_elsewhere_progress_is_plain_lines(run: Command, source: Path, target: Path) -> None:
    """In a log file there are no bars and no colours, but a line where a phase begins and ends."""
    answer = run("build", source, target, "--no-prefect", *SMALL)
    lines = answer.err.splitlines()
    # both levels are written side by side
    assert [line.partition(" in ")[0] for line in lines] == [
        "level-0: 16 regions",
        "level-1: 4 regions",
        "level-0: 16 regions",
        "level-1: 4 regions",
        "verify: 2 levels",
        "verify: 2 levels",
    ]
    assert "\x1b" not in answer.err + answer.out
