"""Glob patterns for the paths of uploads, and the URIs of their pyramids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ngff_core.sources.endings import without_ending, without_fields
from ngff_core.sources.pattern import Pattern, has_fields
from ngff_core.storage.names import check_name


@dataclass(frozen=True)
class Names:
    """Which paths below a prefix are uploads, and where their pyramids go."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    folders: tuple[str, ...]
    """Glob patterns of folders that are one upload each."""
    target: str
    """A URI prefix, or a template with {path}, {folder}, {name} or {file}."""

    def is_folder_upload(self, path: str) -> bool:
        """Whether the folder at ``path`` is one upload, rather than a folder of uploads."""
        return any(matches(path, pattern) for pattern in self.folders)

    def wanted(self, path: str) -> bool:
        """Whether an upload at ``path`` is included and not excluded."""
        if self.excluded(path):
            return False
        if self.group_of(path) is not None:
            return True
        return any(matches(path, each) for each in self.include if not has_fields(each))

    def group_of(self, path: str) -> str | None:
        """The pattern of the files that ``path`` is one image with; None for one by itself.

        >>> Names(("p*_z{z}.tif",), (), (), "gs://out").group_of("run1/pA_z07.tif")
        'run1/pA_z{z}.tif'
        """
        folder, slash, name = path.rpartition("/")
        for include in self.include:
            if has_fields(include):
                whole = "/" in include
                filled = Pattern(include.strip("/")).fill(path if whole else name)
                if filled is not None:
                    return filled if whole else f"{folder}{slash}{filled}"
        return None

    def excluded(self, path: str) -> bool:
        """Whether ``path`` matches a pattern of ``exclude``."""
        return any(matches(path, pattern) for pattern in self.exclude)

    def target_of(self, path: str) -> str:
        """The URI of the pyramid for the upload at ``path``.

        >>> names = Names((), (), (), "gs://out")
        >>> names.target_of("mouse/brain.ome.tif")
        'gs://out/mouse/brain.ome.zarr'
        >>> Names((), (), (), "gs://out/{name}/{file}.ome.zarr").target_of("mouse/brain.tif")
        'gs://out/brain/brain.tif.ome.zarr'

        Raises `UnsafeNameError` for a path that would lead out of the pyramids' folder.
        """
        check_name(path, "upload")
        template = self.target
        if "{" not in template:
            template = template.rstrip("/") + "/{path}.ome.zarr"
        folder, _, file = without_fields(path).rpartition("/")
        name = without_ending(file)
        stem = f"{folder}/{name}" if folder else name
        filled = template.format(path=stem, folder=folder, name=name, file=file)
        scheme, separator, rest = filled.partition("://")
        # An empty {folder} leaves two slashes where one is meant.
        return f"{scheme}://{_one_slash(rest)}" if separator else _one_slash(filled)


def matches(path: str, pattern: str) -> bool:
    """Whether a glob matches the last name of ``path``, or all of it where it has a slash.

    ``*`` and ``?`` match within a name, ``**`` matches any number of folders.

    >>> matches("a/b/c.tif", "*.tif"), matches("a/b/c.tif", "a/*.tif")
    (True, False)
    >>> matches("a/b/c.tif", "a/**/*.tif"), matches("a/c.tif", "a/**/*.tif")
    (True, True)
    """
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    return _match(path.split("/"), pattern.strip("/").split("/"))


def _match(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return _match(names, patterns[1:]) or bool(names and _match(names[1:], patterns))
    return bool(names) and fnmatchcase(names[0], patterns[0]) and _match(names[1:], patterns[1:])


def _one_slash(path: str) -> str:
    while "//" in path:
        path = path.replace("//", "/")
    return path


def digest(value: Any) -> str:
    """A short hash of a JSON value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
