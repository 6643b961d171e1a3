"""Real sample files, which lie beside the repository and are not part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[3] / "shared/samples"


def sample(name: str) -> Path:
    """The sample file of that name; the test is skipped where the files are not there."""
    path = Path(os.environ.get("NGFF_SAMPLES", _BESIDE)) / name
    if not path.exists():
        pytest.skip(f"{name}: the sample files are not there")
    return path
