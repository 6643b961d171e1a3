"""tifffile's private parts and tables, as this package uses them.

Where a test here fails after an update of tifffile, ``ngff_core/sources/tiff/tifffile_compat.py``
is the file to change.
"""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import ngff_core
from ngff_core.sources.tiff import tifffile_compat
from ngff_core.sources.tiff.tifffile_compat import (
    declared_shape,
    is_contiguous,
    missing_decoder,
    next_page_field,
    open_tiff,
    stored_tag_codes,
)

STACK = np.arange(5 * 8 * 9, dtype="u2").reshape(5, 8, 9)


def written(folder: Path, array: Any = STACK, **options: Any) -> Path:
    """A TIFF file."""
    path = folder / "a.tif"
    tifffile.imwrite(path, array, **options)
    return path


class Reopened:
    """What tifffile opens again after it closed it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.times = 0

    def open(self) -> Any:
        self.times += 1
        return io.BytesIO(Path(self.path).read_bytes())


def test_a_file_is_opened_again_where_it_is_read_after_it_was_closed(tmp_path: Path) -> None:
    """So a set of a thousand files does not need a thousand open ones."""
    file = Reopened(written(tmp_path))
    with open_tiff(file, "a.tif") as tif:
        assert tif.filehandle.name == "a.tif"
        series = tif.series[0]
        tif.filehandle.close()
        assert file.times == 1
        store = series.aszarr(level=0, read_only=True, lock=threading.RLock())
        array = zarr.open_array(store, mode="r")
        np.testing.assert_array_equal(array[:], STACK)
        assert file.times > 1


def test_tifffile_looks_for_no_other_files(tmp_path: Path) -> None:
    """Not by path either: a file without a number of the system is none of the local disk."""
    with open_path(written(tmp_path)) as tif:
        assert tif._multifile is False
        assert not tif.filehandle.is_file


def open_path(path: Path) -> tifffile.TiffFile:
    return open_tiff(Reopened(path), path.name)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, True), ({"compression": "zlib"}, False), ({"truncate": True}, False)],
)
def test_a_series_of_one_page_entry_is_contiguous(
    tmp_path: Path, options: dict[str, Any], expected: bool
) -> None:
    """Uncompressed pages in a row are; compressed ones are not, nor a file of one page entry."""
    with open_path(written(tmp_path, **options)) as tif:
        assert is_contiguous(tif.series[0]) is expected


def test_a_single_page_is_not_contiguous(tmp_path: Path) -> None:
    """Its chain is one page long, and is checked."""
    with open_path(written(tmp_path, STACK[0])) as tif:
        assert is_contiguous(tif.series[0]) is False


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, [5, 8, 9]), ({"metadata": None}, None), ({"description": "text"}, None)],
)
def test_the_shape_that_tifffile_declares_is_read(
    tmp_path: Path, options: dict[str, Any], expected: list[int] | None
) -> None:
    """Where a file has another description, or none, there is no shape."""
    with open_path(written(tmp_path, **({"metadata": None} if options else {}) | options)) as tif:
        assert declared_shape(tif.pages.first) == expected


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_the_chain_of_pages_ends_with_zero(tmp_path: Path, options: dict[str, Any]) -> None:
    """In classic TIFF and BigTIFF, in both byte orders."""
    path = written(tmp_path, compression="zlib", **options)
    with open_path(path) as tif:
        assert len(tif.pages) == 5
        field = next_page_field(tif)
    assert field is not None
    position, offset = field
    assert offset == 0
    # A file that is cut inside the field has no value there.
    data = path.read_bytes()
    width = 8 if options.get("bigtiff") else 4
    assert int.from_bytes(data[position : position + width]) == 0
    cut = SimpleNamespace(
        pages=SimpleNamespace(next_page_offset=position),
        tiff=tif.tiff,
        filehandle=io.BytesIO(data[: position + width - 1]),
    )
    assert next_page_field(cut) == (position, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_codes_of_all_stored_tags_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    """They are those that tifffile read, where it could read all of them."""
    with open_path(written(tmp_path, **options)) as tif:
        assert stored_tag_codes(tif) == set(tif.pages.first.tags.keys())


def test_a_tag_that_tifffile_leaves_out_is_in_the_stored_codes(tmp_path: Path) -> None:
    """Here the description, whose text is beyond the end of the file."""
    path = written(tmp_path, STACK[0], description="x" * 5000, metadata=None)
    with open_path(path) as tif:
        start = tif.pages.first.tags[270].valueoffset
    data = path.read_bytes()
    moved = bytearray(data)
    (at,) = (m.start() for m in re.finditer(re.escape(start.to_bytes(4, "little")), data[:1000]))
    moved[at : at + 4] = (len(data) + 10).to_bytes(4, "little")
    path.write_bytes(moved)
    with open_path(path) as tif:
        assert 270 not in tif.pages.first.tags
        assert 270 in stored_tag_codes(tif)


def page(compression: int = 1, predictor: int = 1) -> Any:
    """What is asked of a page."""
    return SimpleNamespace(compression=compression, predictor=predictor)


def test_decoders_are_looked_up_by_code() -> None:
    """1 is no compression or predictor; 8 and 32946 are Deflate, 5 LZW, 7 JPEG."""
    assert all(missing_decoder(page(code)) is None for code in (1, 5, 7, 8, 32946))
    assert "33333" in str(missing_decoder(page(33333)))
    assert all(missing_decoder(page(8, predictor)) is None for predictor in (1, 2, 3))
    assert "77" in str(missing_decoder(page(8, 77)))
    # An image codec undoes its own predictor, so any number is accepted there.
    assert missing_decoder(page(7, 77)) is None


def test_private_parts_of_tifffile_are_used_in_one_file_only() -> None:
    """An update of tifffile can break one file only."""
    private = re.compile(r"\b(_multifile|series\._pages|TIFF\.[A-Z]+|tif\.tiff\b)")
    root = Path(ngff_core.__file__).parent
    users = {
        file.name for file in root.rglob("*.py") if private.search(file.read_text(encoding="utf-8"))
    }
    assert users == {Path(tifffile_compat.__file__).name}
