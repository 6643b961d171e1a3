"""Two flow runs at the same time in one process: each has its own credentials and listener."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from prefect import flow, task

from ngff_core.progress import Event, Message
from tasks.credentials import credentials_of_run, storage_options
from tasks.reporting.progress import RunLog, listener_of_run

pytestmark = pytest.mark.usefixtures("prefect_server")


class TwoRuns:
    """A flow that two threads run together, waiting for each other inside their tasks."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Event]] = {"one": [], "two": []}
        self.inside = Barrier(2)

    def run(self, name: str, *, submit: bool) -> list[Any]:
        """The storage options that the run's tasks saw."""

        @task
        def use(step: int) -> Any:
            self.inside.wait(30)
            log = RunLog(logging.getLogger("test"))
            # The engine's threads report progress too, and have no context of a run.
            with ThreadPoolExecutor(1) as engine:
                engine.submit(log, Message(f"{name} {step}")).result()
            options = storage_options(None)
            self.inside.wait(30)
            return options

        @flow(name=f"of-{name}")
        def steps() -> list[Any]:
            if submit:
                return [use.submit(step).result() for step in range(2)]
            return [use(step) for step in range(2)]

        with (
            credentials_of_run({"key": name}),
            listener_of_run(self.heard[name].append),
        ):
            return steps()


@pytest.mark.parametrize("submit", [False, True], ids=["called", "submitted"])
def test_runs_side_by_side_share_nothing(submit: bool) -> None:
    """Tasks that are called, and tasks that are submitted to other threads."""
    both = TwoRuns()
    with ThreadPoolExecutor(2) as executor:
        runs = {n: executor.submit(both.run, n, submit=submit) for n in ("one", "two")}
        seen = {name: run.result(60) for name, run in runs.items()}
    assert seen == {name: [{"key": name}] * 2 for name in ("one", "two")}
    assert both.heard == {
        name: [Message(f"{name} 0"), Message(f"{name} 1")] for name in ("one", "two")
    }
    assert storage_options(None) is None


def test_a_run_inside_another_keeps_what_the_outer_one_has() -> None:
    """The inner credentials end with the inner run."""
    with credentials_of_run({"key": "outer"}):
        with credentials_of_run({"key": "inner"}):
            assert storage_options(None) == {"key": "inner"}
        assert storage_options(None) == {"key": "outer"}
