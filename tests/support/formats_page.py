"""docs/formats.md, made of what was found in a small file of each format."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngff_core.errors import CallerError
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.model.selection import Selection
from ngff_core.plan.options import BuildOptions
from ngff_core.sources import Source, open_source
from ngff_core.sources.contract import Placement, Samples
from ngff_core.sources.formats import FILES, FOLDERS, HEAD, Format
from ngff_core.sources.inspection import Inspection, inspect_source
from tests.support.format_files import CASES, OTHERS, Array, Case
from tests.support.readers import hammer, to_memory

START, END = "<!-- tables: made by scripts/draw_formats.py -->", "<!-- end of tables -->"

READS = 48
NONE = "–"


@dataclass(frozen=True)
class Row:
    """A row of the table; each field is a column."""

    format: str
    variant: str
    extra: str
    image: str
    axes: str
    size: str
    channels: str
    direction: str
    store: str
    threads: str
    notes: str


HEADINGS = (
    "format",
    "variant",
    "extra",
    "image",
    "axes as stored",
    "size and unit",
    "channels",
    "direction",
    "from",
    "threads",
    "left out, assumed, refused",
)


@dataclass(frozen=True)
class Untested:
    """What is read without a file that the tests of this page make: its row, what is read, why."""

    format: str
    variant: str
    read: str
    tested: str


_TAGS = "its tags, in files made by the tests; not tested with a real file"
_SLIDE = "its tags and pages, in files made by the tests; not tested with a real file"

UNTESTED = (
    Untested(
        "a Nikon ND2 file",
        "positions, time, z, channels",
        "positions as images; sizes, names and colors of channels; a frame is read with all of "
        "them; missing frames are 0, and noted",
        "one real file, beside another reader; nothing writes ND2",
    ),
    Untested("a TIFF file", "Hamamatsu NDPI slide", "the scan; size from its tags", _TAGS),
    Untested("a TIFF file", "Leica SCN slide", "one scan, or a choice; size", _SLIDE),
    Untested("a TIFF file", "Philips TIFF slide", "the scan; size by level", _TAGS),
    Untested("a TIFF file", "Huron TIFF slide", "the scan; size", _TAGS),
    Untested("a TIFF file", "Zeiss LSM", "axes, sizes, colors of channels", _TAGS),
    Untested("a TIFF file", "MetaMorph STK, MetaSeries", "sizes, wavelengths, positions", _TAGS),
    Untested("a TIFF file", "Olympus FluoView", "axes, sizes", _TAGS),
    Untested("a TIFF file", "Olympus SIS", "the data instead of their preview; size", _TAGS),
    Untested("a TIFF file", "ScanImage", "times, channels, sizes", _TAGS),
    Untested(
        "a TIFF file", "Zeiss SEM, FEI and Thermo, TVIPS, JEOL, Digital Micrograph", "size", _TAGS
    ),
    Untested("a TIFF file", "Hamamatsu streak camera", "no size: axes are no space", _TAGS),
    Untested("a TIFF file", "GeoTIFF", "size and position in meters", _TAGS),
    Untested(
        "a DICOM file",
        "segmentation, palette, JPEG in YBR, 12 bits",
        "labels; red, green and blue",
        "real files, beside pydicom's own decoders and ITK",
    ),
    Untested(
        "a DICOM file", "MPEG and HEVC", "refused by the name of the codec", "files of the tests"
    ),
)


# --- what is found in a file ---------------------------------------------------------------


def recognise(path: Path) -> str:
    """The row of ``FILES`` or ``FOLDERS`` that opens it, or which of `OTHERS` it is."""
    if path.is_dir() and any(
        (path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")
    ):
        return OTHERS[1] if path.name.endswith(".ome.zarr") else OTHERS[0]
    if path.is_dir():
        names = "\n".join(entry.name for entry in path.iterdir()).encode()
        return next((f.name for f in FOLDERS if f.matches(names, path.name)), OTHERS[2])
    if not path.exists():
        return OTHERS[2]
    with path.open("rb") as file:
        head = file.read(HEAD)
    return next(f.name for f in FILES if f.matches(head, path.name))


def check(case: Case, folder: Path, memory: str) -> Row:
    """Open a case from a disk and from memory, compare all that is known, and give its row."""
    path, expected = case.make(folder)
    assert recognise(path) == case.row
    _check_choice(case, path)
    far = f"{to_memory(folder, memory)}/{path.relative_to(folder)}"
    with open_source(path, selection=_selection(case)) as source:
        row = _checked(case, source, expected, inspect_source(path))
    if case.choice.local is not None:
        with pytest.raises(CallerError, match=case.choice.local), _opened(far, case) as source:
            source.image.data[tuple(slice(0, n) for n in source.image.data.shape)]
        return row
    with _opened(far, case) as source:
        assert _checked(case, source, expected, inspect_source(far)) == row
    return row


def _selection(case: Case) -> Selection:
    return BuildOptions(**case.choice.options).selection


def _opened(where: str, case: Case) -> Source:
    return open_source(where, selection=_selection(case))


def _check_choice(case: Case, path: Path) -> None:
    """That nothing is taken unasked where something must be chosen."""
    if case.choice.refused is None:
        assert not case.choice.options
        return
    with pytest.raises(CallerError) as error:
        open_source(path)
    assert case.choice.refused in str(error.value)
    assert "\n" not in str(error.value)


def _checked(case: Case, source: Source, expected: Array, found: Inspection) -> Row:
    described, meaning = source.about.described, case.meaning
    placement = described.placement
    data = source.image.data
    assert described in [image.description for image in found.images]
    assert described.axes == tuple(meaning.axes.split())
    assert data.shape == expected.shape
    assert data.dtype == expected.dtype == np.dtype(described.dtype)
    assert placement.scale == pytest.approx(meaning.scale, rel=1e-5)
    assert placement.units == meaning.all_units
    assert placement.translation == pytest.approx(meaning.translation, rel=1e-5)
    assert tuple(channel.name for channel in described.channels) == meaning.channels
    assert _direction(placement) == (meaning.orientations or NONE)
    notes = [
        str(n) for n in source.about.notes if not n.text.startswith("the size of a sample along")
    ]
    assert len(notes) == len(case.notes), notes
    assert all(note.startswith(start) for note, start in zip(notes, case.notes, strict=True)), notes
    whole = np.asarray(data[tuple(slice(0, n) for n in data.shape)])
    np.testing.assert_array_equal(whole, expected)
    hammer(Samples(data, _unit(source)), expected, reads=READS)
    return Row(
        format=_title(case.row),
        variant=case.variant,
        extra=_extra(case.row),
        image=_image(found),
        axes=_axes(case),
        size=_size(placement),
        channels=_channels(described.channels),
        direction=_direction(placement),
        store="a local disk only" if case.choice.local else "any store",
        threads="16",
        notes=_notes(case),
    )


def _unit(source: Source) -> Shape:
    unit = source.read_unit
    assert len(unit) == len(source.image.data.shape)
    assert all(1 <= u <= n for u, n in zip(unit, source.image.data.shape, strict=True))
    return unit


# --- cells ---------------------------------------------------------------------------------


def _title(name: str) -> str:
    """A name as a heading has it: ``"a TIFF file"`` is ``"TIFF file"``."""
    return name.split(" ", 1)[1]


def _row(name: str) -> Format | None:
    return next((each for each in (*FILES, *FOLDERS) if each.name == name), None)


def _extra(name: str) -> str:
    row = _row(name)
    return NONE if row is None or row.extra is None else f"`{row.extra}`"


def _image(found: Inspection) -> str:
    if len(found.images) == 1:
        return "the only one"
    if found.default is None:
        return "asks which"
    roles = [each.description.role for each in found.images if each.number != found.default]
    return f"the scan; not its {', '.join(roles)}"


def _axes(case: Case) -> str:
    """The file's names, and what must be said of them."""
    options = case.choice.options
    said = [f"refused without `--dims {options['dims']}`"] if "dims" in options else []
    said += [f"refused without `--pick {a}={n}`" for a, n in options.get("pick", {}).items()]
    return ": ".join([case.meaning.axes, *said])


def _size(placement: Placement) -> str:
    units: dict[str, list[str]] = {}
    for axis, size in placement.scale.items():
        if axis != "c":
            units.setdefault(placement.units.get(axis, "without a unit"), []).append(axis)
        assert size > 0
    parts = [f"{', '.join(sorted(a, key='tzyx'.index))}: {unit}" for unit, a in units.items()]
    if any(placement.translation.values()):
        parts.append("position")
    return "; ".join(sorted(parts)) or NONE


def _channels(channels: Iterable[Channel]) -> str:
    found = tuple(channels)
    if [channel.name for channel in found] == ["red", "green", "blue"]:
        return "red, green, blue"
    known = {
        "names": any(channel.name for channel in found),
        "colors": any(channel.color for channel in found),
        "windows": any(channel.window for channel in found),
    }
    return ", ".join(what for what, is_known in known.items() if is_known) or NONE


def _direction(placement: Placement) -> str:
    """Where x, y and z lead, a letter for each: L is the left side of the body."""
    sides = [placement.orientations.get(axis) for axis in "xyz"]
    letters = (side.value.value.rpartition("-to-")[2][0].upper() for side in sides if side)
    return "".join(letters) or NONE


def _notes(case: Case) -> str:
    said = [note for note in case.notes if not note.startswith("left out: the other")]
    if case.choice.local is not None:
        said.append("refused: another store")
    return "; ".join(said) or NONE


# --- the page ------------------------------------------------------------------------------


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(headings)
    lines = [head, tuple("---" for _ in head), *map(tuple, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def not_read() -> list[Format]:
    """Rows of the table of formats that nothing reads."""
    return [each for each in (*FILES, *FOLDERS) if each.module is None]


def render(rows: Iterable[Row]) -> str:
    """The tables."""
    assert len(HEADINGS) == len(fields(Row))
    untested = (
        (_title(each.format), each.variant, _extra(each.format), each.read, each.tested)
        for each in UNTESTED
    )
    return inspect.cleandoc(
        """
        ## What is read of each

        {read}

        ## What else is read

        {untested}

        ## What is not read

        {unread}
        """
    ).format(
        read=_table(HEADINGS, map(astuple, rows)),
        untested=_table(("format", "variant", "extra", "what is read", "tested with"), untested),
        unread=_table(
            ("format", "what to do"), ((_title(each.name), each.remedy) for each in not_read())
        ),
    )


def page(old: str, rows: Iterable[Row]) -> str:
    """The page with its tables replaced by those of today."""
    before, rest = old.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n\n{render(rows)}\n\n{END}{after}"


def make_rows(folder: Path, memory: str, known: Mapping[int, Row] | None = None) -> list[Row]:
    """The row of every case, in their order; ``known`` are those that were checked already."""
    found: list[Row] = []
    for number, case in enumerate(CASES):
        if known is not None and number in known:
            found.append(known[number])
            continue
        place = folder / str(number)
        place.mkdir()
        found.append(check(case, place, f"{memory}/{number}"))
    return found


def named() -> set[str]:
    """Names of all formats on the page."""
    rows: list[Any] = [*(case.row for case in CASES), *(each.format for each in UNTESTED)]
    return {*rows, *(each.name for each in not_read())}
