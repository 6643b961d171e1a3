"""A source that changed under the reading is noticed when the reading is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core.build.source_check import CheckedSource
from ngff_core.errors import SourceChangedError
from ngff_core.sources import Source, open_source


class Opening:
    """Opens a source, and counts what is open."""

    def __init__(self, path: Any) -> None:
        self.path, self.opened, self.closed = path, 0, 0

    def __call__(self) -> Source:
        self.opened += 1
        return replace(open_source(self.path), _close=self._close)

    def _close(self) -> None:
        self.closed += 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.zeros((4, 4), "u1"))
    return tmp_path / "a.npy"


def test_a_source_that_is_as_it_was_passes(path: Path) -> None:
    """It is opened once more, and closed again."""
    again = Opening(path)
    with open_source(path) as source:
        CheckedSource(source, again).check()
    assert (again.opened, again.closed) == (1, 1)


def test_a_source_that_changed_is_named(path: Path) -> None:
    """And what to do; the second opening is closed."""
    again = Opening(path)
    with open_source(path) as source:
        np.save(path, np.ones((4, 5), "u1"))
        with pytest.raises(SourceChangedError) as caught:
            CheckedSource(source, again).check()
    assert str(path) in str(caught.value)
    assert "changed while it was read" in str(caught.value)
    assert "overwrite" in str(caught.value)
    assert (again.opened, again.closed) == (1, 1)


def test_an_array_in_memory_is_not_opened_again() -> None:
    """It would have to be read in full, to tell whether it changed."""
    again = Opening(None)
    CheckedSource(open_source(np.zeros((4, 4), "u1")), again).check()
    assert again.opened == 0
