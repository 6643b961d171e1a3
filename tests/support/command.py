"""The command `ngff-flows` in tests: its answers, and small builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Level 0 has 16 regions, level 1 has 4.
SMALL = ("--scale-factors", "2,", "--chunks", "16", "--shards", "16", "--workers", "1")


@dataclass
class Answer:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that standard output is."""
        return json.loads(self.out)


Command = Callable[..., Answer]


def through_prefect(folder: Path, *arguments: object) -> Answer:
    """The installed command with a run page, in a process of its own."""
    from prefect.settings import PREFECT_API_URL

    done = subprocess.run(
        [Path(sys.executable).with_name("ngff-flows"), *map(str, arguments)],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def assert_refused(answer: Answer, words: str) -> None:
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err.startswith("ngff-flows: ")
    assert words in answer.err
    assert len(answer.err.splitlines()) <= 2
    assert "Traceback" not in answer.err
