"""All images of a source, each with a target of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ngff_core.errors import SourceFormatError
from ngff_core.sources import open_images
from ngff_core.storage import StorageOptions, absolute_uri

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 120
"""Characters of a name that are kept, so that endings fit into what file systems allow."""


@dataclass(frozen=True)
class SeriesTarget:
    """One image of a source and where its pyramid goes.

    Attributes
    ----------
    series
        Number of the image in the source.
    target
        Path or URI of the pyramid.
    """

    series: int
    target: str


def series_targets(
    source: Any, folder: str, storage_options: StorageOptions | None = None
) -> tuple[SeriesTarget, ...]:
    """A target below ``folder`` for each image of ``source`` whose role is ``image``.

    Names are the images' own, with characters replaced that URLs or file systems do not take,
    and with the number where two would be the same or a name lacks. Raises `SourceFormatError`
    for a source without such images.
    """
    with open_images(source, storage_options) as opened:
        found = [
            (number, image.name)
            for number, image in enumerate(opened.images)
            if image.role == "image"
        ]
        if not found:
            raise SourceFormatError(
                f"{opened.identity.uri}: holds no image that is meant to be built"
            )
    root = absolute_uri(folder).rstrip("/")
    names = safe_names([name for _, name in found], [number for number, _ in found])
    return tuple(
        SeriesTarget(number, f"{root}/{name}.ome.zarr")
        for (number, _), name in zip(found, names, strict=True)
    )


def safe_names(names: Sequence[str | None], numbers: Sequence[int]) -> list[str]:
    """Different names that every file system and URL takes.

    >>> safe_names(["Field #1", "Field #1", None, "../x"], [0, 1, 2, 3])
    ['Field_1_0', 'Field_1_1', 'image_2', 'x']
    """
    plain = [_UNSAFE.sub("_", name or "").strip("._-")[:_LONGEST] for name in names]
    folded = [name.casefold() for name in plain]
    found = [
        name if name and folded.count(name.casefold()) == 1 else f"{name or 'image'}_{number}"
        for name, number in zip(plain, numbers, strict=True)
    ]
    if len({name.casefold() for name in found}) == len(found):
        return found
    # An image may be called what the number made of another.
    return [f"{number}_{name}" for name, number in zip(found, numbers, strict=True)]
