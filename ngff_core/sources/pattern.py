"""Patterns: which files belong together, by their names, and where each has its place.

``plate_*_z{z}_c{c}.tif`` names files of one image for each text that ``*`` stands for. A field
in braces is an axis; its text is a number, or any text for channels. This module only computes;
``joined`` opens the files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import AXIS_ORDER

_FIELD = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SPECIAL = re.compile(r"(\{[a-z][a-z0-9_]*\}|\*\*/|\*|\?)")
_DIGITS = re.compile(r"(\d+)")
_SHOWN = 5
"""Missing files that a message names at most."""


def has_fields(text: str) -> bool:
    """Whether a source's text is a pattern: it has at least one axis in braces.

    >>> has_fields("a_z{z}.tif"), has_fields("a_*.tif"), has_fields("a{1}.tif")
    (True, False, False)
    """
    return _FIELD.search(text) is not None


def split_pattern(text: str) -> tuple[str, str]:
    """The folder without wildcards in which a pattern begins, and the rest of the pattern.

    >>> split_pattern("gs://lab/run1/p*/z{z}.tif"), split_pattern("z{z}.tif")
    (('gs://lab/run1', 'p*/z{z}.tif'), ('.', 'z{z}.tif'))
    """
    first = _SPECIAL.search(text)
    slash = text.rfind("/", 0, first.start() if first else len(text))
    if slash < 0:
        return ".", text
    return text[:slash] or "/", text[slash + 1 :]


@dataclass(frozen=True)
class Pattern:
    """A pattern below a folder.

    Attributes
    ----------
    text
        As the caller wrote it, relative to the folder.
    """

    text: str

    def __post_init__(self) -> None:
        names = _FIELD.findall(self.text)
        unknown = [name for name in names if name not in AXIS_ORDER]
        if unknown:
            raise InvalidOptionError(
                f"source: {{{unknown[0]}}} in the pattern {self.text!r} is not an axis; fields are "
                "{t}, {c}, {z}, {y} and {x}, and * stands for the rest of a name"
            )
        if len(set(names)) != len(names):
            raise InvalidOptionError(f"source: the pattern {self.text!r} has one axis twice")

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes in the names, in t, c, z, y, x order."""
        return tuple(sorted(_FIELD.findall(self.text), key=AXIS_ORDER.index))

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        parts = []
        for part in _SPECIAL.split(self.text):
            if field := _FIELD.fullmatch(part):
                digits = "" if field[1] == "c" else r"\d+"
                parts.append(f"(?P<{field[1]}>{digits or '[^/]+?'})")
            elif part == "**/":
                parts.append("((?:[^/]+/)*)")
            elif part in ("*", "?"):
                parts.append("([^/]*?)" if part == "*" else "([^/])")
            else:
                parts.append(re.escape(part))
        return re.compile("".join(parts))

    def match(self, key: str) -> tuple[str, tuple[str, ...]] | None:
        """The text of the wildcards, and that of each axis in `axes`; None for other names.

        >>> Pattern("p*_z{z}_c{c}.tif").match("pA_z003_cDAPI.tif")
        ('A', ('DAPI', '003'))
        """
        found = self._compiled.fullmatch(key)
        if found is None:
            return None
        fields = set(self._compiled.groupindex.values())
        wild = [text for n, text in enumerate(found.groups(), 1) if n not in fields]
        return "_".join(text.strip("/") for text in wild), tuple(found[axis] for axis in self.axes)

    def fill(self, key: str) -> str | None:
        """The pattern with the wildcards' texts of ``key`` in their place; None for other names.

        >>> Pattern("p*_z{z}_c{c}.tif").fill("pA_z003_cDAPI.tif")
        'pA_z{z}_c{c}.tif'
        """
        found = self._compiled.fullmatch(key)
        if found is None:
            return None
        fields = set(self._compiled.groupindex.values())
        wild = iter([text for n, text in enumerate(found.groups(), 1) if n not in fields])
        parts = _SPECIAL.split(self.text)
        return "".join(next(wild) if part in ("**/", "*", "?") else part for part in parts)


@dataclass(frozen=True)
class FileGrid:
    """The files of one image, each at its position on the axes that the names have.

    Attributes
    ----------
    name
        The text of the pattern's wildcards.
    axes
        Names of the joined axes.
    values
        For each of them the texts in the names, in order.
    keys
        Key of the file at each position.
    """

    name: str
    axes: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    keys: Mapping[Shape, str]

    @property
    def shape(self) -> Shape:
        """Number of positions on each joined axis."""
        return tuple(len(values) for values in self.values)


def arrange(pattern: Pattern, keys: Iterable[str], uri: str) -> tuple[FileGrid, ...]:
    """The images that a pattern finds among ``keys``, by name.

    Raises `SourceFormatError` where no file matches, where a position has no file, or where the
    numbers of an axis leave a gap; it names what is missing.
    """
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for key in keys:
        match = pattern.match(key)
        if match is not None:
            found.setdefault(match[0], {})[match[1]] = key
    if not found:
        raise SourceFormatError(f"{uri}: no file matches {pattern.text}")
    return tuple(_grid(pattern, name, files, uri) for name, files in sorted(found.items()))


def _grid(pattern: Pattern, name: str, files: Mapping[tuple[str, ...], str], uri: str) -> FileGrid:
    columns = zip(*files, strict=True)
    values = tuple(_ordered(set(column)) for column in columns)
    for axis, texts in zip(pattern.axes, values, strict=True):
        if axis != "c":
            _check_steps(axis, texts, f"{uri}/{pattern.text}")
    missing = [texts for texts in product(*values) if texts not in files]
    if missing:
        shown = "; ".join(
            ", ".join(f"{axis}={text}" for axis, text in zip(pattern.axes, texts, strict=True))
            for texts in missing[:_SHOWN]
        )
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        of = f" of {name}" if name else ""
        raise SourceFormatError(
            f"{uri}/{pattern.text}: {len(missing)} of {len(files) + len(missing)} files{of} are "
            f"missing: {shown}{more}"
        )
    positions = product(*(range(len(texts)) for texts in values))
    keys = {
        position: files[tuple(texts[i] for texts, i in zip(values, position, strict=True))]
        for position in positions
    }
    return FileGrid(name, pattern.axes, values, keys)


def _ordered(texts: Iterable[str]) -> tuple[str, ...]:
    """Numbers by their value, other texts as people sort them (``ch2`` before ``ch10``)."""

    def key(text: str) -> list[tuple[int, int, str]]:
        parts = _DIGITS.split(text)
        return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]

    return tuple(sorted(texts, key=lambda text: (key(text), text)))


def _check_steps(axis: str, texts: Sequence[str], what: str) -> None:
    """Refuse numbers of unequal steps: a file of each position between is missing."""
    numbers = [int(text) for text in texts]
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    if 0 in steps:
        twice = texts[steps.index(0)]
        raise SourceFormatError(f"{what}: two spellings of the number {axis}={int(twice)}")
    if len(set(steps)) <= 1:
        return
    least = min(steps)
    gap = next(i for i, step in enumerate(steps) if step != least)
    raise SourceFormatError(
        f"{what}: no file has {axis}={numbers[gap] + least}, between {axis}={texts[gap]} and "
        f"{axis}={texts[gap + 1]}; add it, or take the files out that lie beyond the gap"
    )


_WORDS = {"t": "t", "c": "c", "ch": "c", "z": "z"}


def guess_pattern(names: Sequence[str]) -> str | None:
    """The pattern that all ``names`` follow, where their letters tell which number is an axis.

    None where they differ in more than numbers, or a number that differs has no letter.

    >>> guess_pattern(["a_z01_c1.tif", "a_z02_c1.tif", "a_z01_c2.tif", "a_z02_c2.tif"])
    'a_z{z}_c{c}.tif'
    >>> guess_pattern(["img001.tif", "img002.tif"]) is None
    True
    """
    pieces = [_DIGITS.split(name) for name in names]
    if len(names) < 2 or len({tuple(piece[::2]) for piece in pieces}) != 1:
        return None
    parts = list(pieces[0])
    for index in range(1, len(parts), 2):
        if len({piece[index] for piece in pieces}) == 1:
            continue
        word = re.split(r"[^A-Za-z]", parts[index - 1])[-1].lower()
        axis = _WORDS.get(word)
        if axis is None or f"{{{axis}}}" in parts:
            return None
        parts[index] = f"{{{axis}}}"
    return "".join(parts)
