"""What a TIFF page says of its samples as colors: palettes, alpha, channels; and what is up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.contract import Note
from ngff_core.sources.tiff.axes import SAMPLES
from ngff_core.sources.tiff.views import Expand, Form, JoinChannels, Orient, Step

if TYPE_CHECKING:
    from tifffile import TiffPage

_COLOR_MAP, _ORIENTATION = 320, 274
"""TIFF tags."""

_MIN_IS_WHITE, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 2, 3, 5, 6
"""Values of the PhotometricInterpretation tag."""

_APERIO_YCBCR = 33003
"""Aperio's compression by JPEG 2000 of components that its decoder does not turn into colors."""

_DECODED_TO_RGB = frozenset((6, 7, 34892, 33007, 34925, 50001, 50002))
"""Compressions whose decoders give colors, in whatever form they store them."""

_LUMA = (Channel("luma"), Channel("blue difference"), Channel("red difference"))
_INK = (Channel("cyan"), Channel("magenta"), Channel("yellow"), Channel("black"))

_OTHER_COLORS = {8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*", 32844: "LogL", 32845: "LogLuv"}

_OWN_MODEL = frozenset(("ome", "imagej"))
"""Kinds whose own metadata say how many channels there are: a color table is for show only."""

_OWN_ORIENTATION = frozenset(
    (
        "ome",
        "svs",
        "mikroscan",
        "motic",
        "trestle",
        "huron",
        "scn",
        "qpi",
        "ndpi",
        "bif",
        "avs",
        "philips",
        "indica",
        "geotiff",
    )
)
"""Kinds whose own metadata say what is up, and whose readers leave the tag alone."""


@dataclass(frozen=True)
class Colors:
    """How the samples of an image are given, and what is known of its channels.

    Attributes
    ----------
    steps
        From the stored samples to those that are given.
    channels
        One for each sample of a pixel; empty if nothing is known.
    notes
        What is converted or kept as it is stored.
    origin
        Where the channels come from; empty if nothing is known.
    """

    steps: tuple[Step, ...]
    channels: tuple[Channel, ...] = ()
    notes: tuple[Note, ...] = ()
    origin: str = ""


def read_colors(page: TiffPage, kind: str, form: Form) -> Colors:
    """What the page of an image of a ``kind`` says of its colors and orientation."""
    palette, named, notes = _palette(page, kind)
    channels, origin, more = ((), "", ()) if named else _channels(page, form)
    turned, turning = _orientation(page, kind, form)
    if named:
        channels, origin = named, "the color table"
    steps = (*palette, JoinChannels(), *turned)
    return Colors(steps, channels, (*notes, *more, *turning), origin)


# --- palettes --------------------------------------------------------------------------


def _palette(
    page: TiffPage, kind: str
) -> tuple[tuple[Step, ...], tuple[Channel, ...], tuple[Note, ...]]:
    """The step that expands a palette, the channels of its colors, and what to say of it."""
    table = color_table(page)
    if table is None or page.samplesperpixel != 1:
        return (), (), ()
    if _is_ramp(table):
        return (), (), ()
    shade = _shade(table)
    if shade is not None:
        return (), (Channel(color=shade),), ()
    count = len(table)
    if kind in _OWN_MODEL:
        text = (
            f"the table of {count} colors that the samples are shown with; they are kept as stored"
        )
        return (), (), (Note("left out", text),)
    values = _in_table_type(table)
    if _is_grey(table):
        text = f"the samples are indices into a palette of {count} shades of grey, which are given"
        return (Expand(np.ascontiguousarray(values[:, 0])),), (), (Note("converted", text),)
    text = (
        f"the samples are indices into a palette of {count} colors, which are given as the "
        f"channels red, green and blue of {values.dtype}"
    )
    return (Expand(values),), RGB, (Note("converted", text),)


def color_table(page: TiffPage) -> Block | None:
    """The color table of a page, a row for each index; None for a page that has no palette."""
    if page.photometric != _PALETTE:
        return None
    stored: Any = page.tags.valueof(_COLOR_MAP)
    if stored is None:
        return None
    values = np.asarray(stored, "u2")
    return values.reshape(3, -1).T


def _is_grey(table: Block) -> bool:
    return bool((table == table[:, :1]).all())


def _steps_to_white(table: Block) -> Block:
    """The ramp from black to white with as many entries, in a table's 16 bits."""
    top = max(1, len(table) - 1)
    return np.arange(len(table)) * 65535 // top


def _is_ramp(table: Block) -> bool:
    """Whether each index is its own shade of grey, so that indices are intensities."""
    return _is_grey(table) and _follows_ramp(table[:, 0])


def _follows_ramp(column: Block) -> bool:
    column = column.astype(int)
    if (column == np.arange(len(column))).all():
        return True
    # Writers round differently, some fill only the upper 8 of the 16 bits, and Leica's tables end
    # at 254 of 255.
    return bool((abs(column - _steps_to_white(column)) <= 2 * 257).all())


def _shade(table: Block) -> str | None:
    """The one color that the indices are intensities of, such as pure red; None otherwise."""
    on = [bool(table[:, i].any()) for i in range(3)]
    if not any(on) or all(on):
        return None
    if not all(_follows_ramp(table[:, i]) for i in range(3) if on[i]):
        return None
    return "".join("FF" if each else "00" for each in on)


def _in_table_type(table: Block) -> Block:
    """The table with 8 bits where its values are values of 8 bits, else with 16."""
    if (table % 257 == 0).all():
        return (table // 257).astype("u1")
    # Old writers put values of 8 bits where 16 belong.
    return table.astype("u1") if table.max() < 256 else table


# --- channels --------------------------------------------------------------------------


def _channels(page: TiffPage, form: Form) -> tuple[tuple[Channel, ...], str, tuple[Note, ...]]:
    """What the samples of a pixel are, where that came from, and what to say of it."""
    photometric, notes = page.photometric, []
    if photometric == _MIN_IS_WHITE:
        text = (
            "that the file shows low values as white (MinIsWhite): the samples are kept as stored, "
            "so light and dark are exchanged"
        )
        notes.append(Note("left out", text))
    elif photometric in _OTHER_COLORS:
        text = f"the conversion of {_OTHER_COLORS[photometric]} to red, green and blue"
        notes.append(Note("left out", f"{text}: the samples are kept as stored"))
    samples = form.shape[form.axes.index(SAMPLES)] if SAMPLES in form.axes else 1
    extra = tuple(int(each) for each in page.extrasamples or ())
    colors = _colors(page, samples - len(extra))
    if colors is _LUMA:
        text = "the conversion of YCbCr to red, green and blue: the samples are kept as stored"
        notes.append(Note("left out", text))
    if samples == 1 or not (colors or any(each in _ALPHA for each in extra)):
        return (), "", tuple(notes)
    colors = colors or (Channel(),) * (samples - len(extra))
    named = (*colors, *(ALPHA if each in _ALPHA else Channel() for each in extra))
    origin = ", ".join(["PhotometricInterpretation", *(_ALPHA[e] for e in extra if e in _ALPHA)])
    return (named, origin, tuple(notes)) if len(named) == samples else ((), "", tuple(notes))


_ALPHA = {1: "alpha that colors are multiplied by (associated)", 2: "alpha (not associated)"}
"""Values of the ExtraSamples tag."""


def _colors(page: TiffPage, samples: int) -> tuple[Channel, ...]:
    """The colors of a pixel without its extra samples; empty if they have no names."""
    photometric, compression = page.photometric, page.compression
    if samples == 3 and compression == _APERIO_YCBCR:
        return _LUMA
    if samples == 3 and photometric == _RGB:
        return RGB
    if samples == 3 and photometric == _YCBCR:
        return RGB if compression in _DECODED_TO_RGB else _LUMA
    if samples == 4 and photometric == _CMYK:
        return _INK
    return ()


# --- orientation -----------------------------------------------------------------------


def _orientation(
    page: TiffPage, kind: str, form: Form
) -> tuple[tuple[Orient, ...], tuple[Note, ...]]:
    value: Any = page.tags.valueof(_ORIENTATION, 1)
    if not isinstance(value, int) or not 2 <= value <= 8:
        return (), ()
    if kind in _OWN_ORIENTATION or not {"y", "x"} <= set(form.axes):
        text = f"the Orientation tag, {int(value)}: the samples are kept as stored"
        return (), (Note("left out", text),)
    step = Orient(int(value))
    words = ["with y and x exchanged"] if step.swaps else []
    words += [f"with {' and '.join(step.reverses)} reversed"] if step.reverses else []
    text = (
        f"the Orientation tag, {int(value)}, is applied: the image is given {' and '.join(words)}"
    )
    return (step,), (Note("converted", text),)
