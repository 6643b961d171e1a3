"""Which image of a source is read, by the caller's choice or by what the source says."""

from __future__ import annotations

from collections.abc import Sequence

from ngff_core.errors import InvalidOptionError, SourceFormatError
from ngff_core.model.selection import ALL
from ngff_core.sources.contract import ImageDescription, Note, SourceImages

_SHOWN = 10
"""Images that a message names at most."""


def choose_image(source: SourceImages, series: int | str | None) -> int:
    """The number of the image that is read.

    By default the one that the source says is meant, else the only one whose role is ``image``.
    Raises `SourceFormatError` where that leaves several or none, and `InvalidOptionError` for a
    ``series`` that is not there; both list the images.
    """
    if series == ALL:
        raise InvalidOptionError("series: one pyramid is of one image; give its number or its name")
    if series is not None:
        return _named(source, series)
    if source.main is not None:
        return source.main
    candidates = [i for i, image in enumerate(source.images) if image.role == "image"]
    if len(candidates) == 1:
        return candidates[0]
    what = f"{len(candidates)} images" if candidates else "no image that is meant to be built"
    raise SourceFormatError(
        f"{source.identity.uri}: holds {what}; choose one with series (--series on the command "
        f"line), or all: {list_images(source.images)}"
    )


def _named(source: SourceImages, series: int | str) -> int:
    number = _as_number(series)
    if number is not None and 0 <= number < len(source.images):
        return number
    found = [i for i, image in enumerate(source.images) if image.name == series]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} images are called {series!r}" if found else f"there is no {series!r}"
    raise InvalidOptionError(
        f"series: {what} in {source.identity.uri}; it holds {list_images(source.images)}"
    )


def _as_number(series: int | str) -> int | None:
    if isinstance(series, str):
        return int(series) if series.isascii() and series.isdecimal() else None
    return int(series)


def list_images(images: Sequence[ImageDescription]) -> str:
    """Some images in one line, each with its number, name, axes and shape."""
    shown = [show_image(number, image) for number, image in enumerate(images[:_SHOWN])]
    more = [f"and {len(images) - _SHOWN} more"] if len(images) > _SHOWN else []
    return "; ".join(shown + more)


def show_image(number: int, image: ImageDescription) -> str:
    """One image in a few words.

    >>> show_image(1, ImageDescription("Pos1", ("c", "y", "x"), (2, 64, 80), "<u2"))
    "1 'Pos1' (c 2, y 64, x 80)"
    """
    name = f" {image.name!r}" if image.name else ""
    role = "" if image.role == "image" else f", a {image.role}"
    lengths = ", ".join(f"{a} {n}" for a, n in zip(image.axes, image.shape, strict=True))
    return f"{number}{name} ({lengths}{role})"


def note_others(source: SourceImages, chosen: int) -> tuple[Note, ...]:
    """That the other images of the source are left out; nothing where there is only one."""
    others = [
        show_image(number, image) for number, image in enumerate(source.images) if number != chosen
    ]
    if not others:
        return ()
    more = f"; and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    what = "the other image" if len(others) == 1 else f"the other {len(others)} images"
    return (Note("left out", f"{what} of the source: {'; '.join(others[:_SHOWN])}{more}"),)
