"""What works where only the base of the package is installed, without the extra `flows`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_COMMAND = """
import sys
# as if they were not installed
sys.modules.update(dict.fromkeys(["prefect", "fastapi", "uvicorn", "httpx", "sqlalchemy"]))
from importlib import util
find_spec = util.find_spec
util.find_spec = lambda name, *rest: None if name == "prefect" else find_spec(name, *rest)
from ngff_flows.cli.main import main
main()
"""


def ngff_flows(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command `ngff-flows` in a process that has no Prefect."""
    command = [sys.executable, "-c", _COMMAND, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small image."""
    np.save(tmp_path / "image.npy", np.arange(512 * 300, dtype="u2").reshape(512, 300))
    return tmp_path


def test_a_pyramid_is_built_and_checked_without_prefect(folder: Path) -> None:
    """`build --no-prefect`, `plan`, `status` and `verify` do not import it."""
    for command in (
        ("plan", "image.npy", "image.ome.zarr"),
        ("build", "image.npy", "image.ome.zarr", "--no-prefect"),
        ("status", "image.ome.zarr"),
        ("verify", "image.ome.zarr", "--deep"),
    ):
        done = ngff_flows(folder, *command)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ((), "--no-prefect"),
        (("--storage-block", "secret/lab"), "--storage-options"),
    ],
)
def test_what_needs_prefect_says_how_to_install_it(
    options: tuple[str, ...], way_out: str, folder: Path
) -> None:
    """One line, with the extra to install and the option to use instead; exit status 2."""
    done = ngff_flows(folder, "build", "image.npy", "image.ome.zarr", *options)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "ngff-flows[flows]" in line
    assert way_out in line
    assert not (folder / "image.ome.zarr").exists()
