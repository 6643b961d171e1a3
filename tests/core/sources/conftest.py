"""Places a source can be stored at, and how its pixels are read as a pyramid build does."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from ngff_core.sources import Source


@pytest.fixture
def memory() -> Iterator[str]:
    """A prefix of fsspec's memory filesystem, removed afterwards."""
    root = f"memory://{uuid.uuid4().hex}"
    yield root
    fs = fsspec.filesystem("memory")
    if fs.exists(root):
        fs.rm(root, recursive=True)


@pytest.fixture(params=["local", "memory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> Callable[[Path], str]:
    """Takes a file or folder written locally, and gives the URI to open it by."""

    def put(path: Path) -> str:
        if request.param == "local":
            return str(path)
        fs = fsspec.filesystem("memory")
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        for file in files:
            fs.pipe_file(f"{memory}/{file.relative_to(path.parent)}", file.read_bytes())
        if path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)
        return f"{memory}/{path.name}"

    return put


@pytest.fixture
def pixels() -> Callable[[Source], np.ndarray[Any, Any]]:
    """All samples of a source."""
    return lambda source: np.asarray(
        source.image.data[tuple(slice(0, n) for n in source.image.data.shape)]
    )
