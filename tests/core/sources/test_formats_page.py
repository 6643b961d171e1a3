"""docs/formats.md says what is found in small files of each format, from a disk and elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

for package in (
    "SimpleITK",
    "czifile",
    "h5py",
    "hdf5plugin",
    "liffile",
    "mrcfile",
    "nd2",
    "nibabel",
    "oiffile",
    "oirfile",
    "pydicom",
    "tensorstore",
):
    pytest.importorskip(package)

from ngff_core.sources.formats import FILES, FOLDERS  # noqa: E402 - after the skips
from tests.support.format_files import CASES, OTHERS, Case  # noqa: E402
from tests.support.formats_page import Row, check, make_rows, named, page  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"

CHECKED: dict[int, Row] = {}
"""Rows of the cases that were checked in this process."""


@pytest.mark.parametrize(
    ("number", "case"),
    list(enumerate(CASES)),
    ids=[f"{case.row}, {case.variant}" for case in CASES],
)
def test_a_file_is_what_the_page_says(number: int, case: Case, tmp_path: Path, memory: str) -> None:
    """Axes, sizes, units, channels, notes and samples, near and far, by sixteen threads."""
    CHECKED[number] = check(case, tmp_path, memory)


def test_the_page_says_what_is_found(tmp_path: Path, memory: str) -> None:
    """If this fails run `make formats`, and look at what changed."""
    text = PAGE.read_text("utf-8")
    rows = make_rows(tmp_path, memory, CHECKED)
    assert page(text, rows) == text, "docs/formats.md is not what is found: run make formats"


def test_every_format_is_on_the_page() -> None:
    """A new row of the table of formats needs a case, or a word on how it is tested."""
    rows = {each.name for each in (*FILES, *FOLDERS)}
    assert rows <= named()
    assert named() - rows == set(OTHERS)
