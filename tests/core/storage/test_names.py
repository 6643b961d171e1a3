"""Names from outside stay below the folder that they are put in."""

from __future__ import annotations

import os.path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngff_core.errors import UnsafeNameError
from ngff_core.storage.names import check_name, why_unsafe

PARTS = st.sampled_from(["", ".", "..", "a", "b.tif", " ", "ü"]) | st.text(max_size=5)


@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join))
@example("../a")
@example("/etc/passwd")
def test_what_is_let_through_stays_inside(path: str) -> None:
    """By the operating system's own rules."""
    if why_unsafe(path) is None:
        joined = os.path.normpath(os.path.join("/out/folder", path))
        assert joined == f"/out/folder/{path}"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a/../b", "leads out of its folder"),
        ("./a", "leads out of its folder"),
        ("/a", "begins or ends with a slash"),
        ("a//b", "two in a row"),
        ("a\nb", "cannot be printed"),
        ("x" * 256, "longer than 255 bytes"),
    ],
)
def test_what_is_refused_is_named(path: str, words: str) -> None:
    """With the reason."""
    with pytest.raises(UnsafeNameError, match=words):
        check_name(path, "upload")
