"""Fixtures of the command line's tests: the command, a source and a target."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from ngff_flows.cli import main
from tests.support.command import Answer, Command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `ngff-flows` with arguments, in this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ngff-flows", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main.main()
        return Answer(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Prefect nor the core may begin any work."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the work was begun")

    monkeypatch.setattr(main, "run_flow", refuse)
    monkeypatch.setattr(main, "run_build", refuse)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    samples = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    np.save(tmp_path / "image.npy", samples)
    return tmp_path / "image.npy"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.ome.zarr"
