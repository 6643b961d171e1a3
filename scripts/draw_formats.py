"""Write the tables of docs/formats.md, from small files that are made, opened and compared.

    python -m scripts.draw_formats

A test does the same and compares; nothing is written where a file is not what is known of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.formats_page import make_rows, page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        rows = make_rows(Path(folder), "memory://formats")
    PAGE.write_text(page(PAGE.read_text("utf-8"), rows), "utf-8")
