"""One image of a TIFF file: its description, and its samples once they are opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import Channel
from ngff_core.sources.base import Reader, check_array, whole_unit
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Role,
    Samples,
)
from ngff_core.sources.ome_zarr.nodes import open_fused
from ngff_core.sources.tiff.colors import Colors, read_colors
from ngff_core.sources.tiff.meaning import UNFIT, Meaning, filled
from ngff_core.sources.tiff.ome import ome_meaning
from ngff_core.sources.tiff.ome_xml import read_image
from ngff_core.sources.tiff.sizes import read_meaning
from ngff_core.sources.tiff.tifffile_compat import check_pictures
from ngff_core.sources.tiff.views import (
    Form,
    JoinChannels,
    Orient,
    Squeeze,
    final_form,
    final_view,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

    from ngff_core.sources.tiff.files import TiffSource


@dataclass(frozen=True)
class OmeReference:
    """Where an image is described in OME-XML.

    Attributes
    ----------
    root
        The root element of the document, which may be in another file.
    number
        Of the Image element.
    element
        The Image element itself.
    """

    root: Any
    number: int
    element: Any


@dataclass(frozen=True)
class Stored:
    """The pages of an image, and what its axes are called.

    Attributes
    ----------
    series
        All pages, in files that are there.
    axes
        Of the series; the samples of a pixel are an axis of their own.
    """

    series: TiffPageSeries
    axes: tuple[str, ...]

    @property
    def form(self) -> Form:
        """Axes, shape and dtype as they are stored."""
        shape = tuple(int(n) for n in self.series.shape)
        return Form(self.axes, shape, np.dtype(self.series.dtype))


@dataclass(frozen=True)
class Details:
    """What the metadata of a file say of an image, beside its form.

    Attributes
    ----------
    name, role, notes, origins
        As in the reader contract.
    channels
        One for each channel; empty if only the tags of the pages say what they are.
    ome
        Of an OME-TIFF.
    """

    name: str | None = None
    role: Role = "image"
    notes: tuple[Note, ...] = ()
    channels: tuple[Channel, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    ome: OmeReference | None = None


@dataclass(frozen=True)
class TiffImage:
    """One image as it is stored.

    Attributes
    ----------
    form
        Of the stored samples, as far as is known before its files are opened.
    kind
        tifffile's word for the layout, or one of this package.
    open_pages
        Finds all pages, and checks that they are there. Called once for each opening.
    page
        A page with the tags of the image; None if its files are not opened yet.
    series
        For readers of metadata: the image's series, or one of ``page`` alone.
    details
        Its name, role and channels.
    """

    form: Form
    kind: str
    open_pages: Callable[[], Stored]
    page: TiffPage | None = None
    series: TiffPageSeries | None = None
    details: Details = Details()

    @property
    def colors(self) -> Colors:
        """Channels and notes by the tags of the image's page, and the steps to what is given."""
        if self.page is None:
            colors = Colors((JoinChannels(),))
        else:
            colors = read_colors(self.page, self.kind, self.form)
        return (
            replace(colors, steps=(*colors.steps, Squeeze())) if self.kind in _COMPOSED else colors
        )


_COMPOSED = frozenset(("ome", "mmstack", "ndtiff"))
"""Kinds whose metadata give lengths for all of t, c and z, also for those that are 1."""


def ome_image_index(image: TiffImage) -> int | None:
    """Number of the Image element of OME-XML that the samples are of; None without OME-XML."""
    return None if image.details.ome is None else image.details.ome.number


def describe(image: TiffImage, tif: TiffFile, uri: str) -> ImageDescription:
    """The image for the reader contract; no sample is read."""
    colors = image.colors
    form = final_form(image.form, colors.steps)
    check_array(form.shape, form.dtype, uri)
    count = form.shape[form.axes.index("c")] if "c" in form.axes else 1
    meaning = _meaning(image, tif, count)
    details = image.details
    channels, origin = _channels((details.channels, meaning.channels, colors.channels), count), {}
    if channels and not (details.channels or meaning.channels):
        origin = {"channels": colors.origin}
    return ImageDescription(
        name=details.name or meaning.name,
        axes=form.axes,
        shape=form.shape,
        dtype=form.dtype.str,
        placement=_turned(meaning.placement, colors),
        channels=channels,
        role=details.role,
        origins={**meaning.origins, **origin, **details.origins},
        notes=(
            *details.notes,
            *_notes(meaning, len(details.channels) == count),
            *colors.notes,
        ),
        metadata=meaning.metadata,
    )


def _notes(meaning: Meaning, named: bool) -> list[Note]:
    """The notes of the tags. They count channels in tifffile's view of the pages, which may have
    no axis c where an index gives one: that names do not fit is not true then."""
    return [note for note in meaning.notes if not (named and note.text.startswith(UNFIT))]


def _channels(sources: Sequence[tuple[Channel, ...]], count: int) -> tuple[Channel, ...]:
    """What is known of the channels, the first source that says something of one before others.

    A source counts only where it speaks of all channels there are.
    """
    found: tuple[Channel, ...] = ()
    for channels in sources:
        if len(channels) == count:
            found = filled(found, channels)
    return found


def _meaning(image: TiffImage, tif: TiffFile, channels: int) -> Meaning:
    if image.details.ome is not None:
        return ome_meaning(read_image(image.details.ome.element), channels)
    return Meaning() if image.series is None else read_meaning(tif, image.series, None)


def _turned(placement: Placement, colors: Colors) -> Placement:
    """Sizes and positions of an image that is turned: what was y's is x's."""
    for step in colors.steps:
        if not isinstance(step, Orient):
            continue
        # Where the first sample lies after axes were reversed depends on the image's length.
        translation = {
            axis: value
            for axis, value in _swapped(placement.translation, step).items()
            if axis not in step.reverses
        }
        placement = Placement(
            _swapped(placement.scale, step),
            _swapped(placement.units, step),
            translation,
            placement.orientations,
        )
    return placement


def _swapped[T](values: Mapping[str, T], step: Orient) -> dict[str, T]:
    other = {"y": "x", "x": "y"} if step.swaps else {}
    return {other.get(axis, axis): value for axis, value in values.items()}


def open_samples(image: TiffImage, source: TiffSource) -> Samples:
    """The samples of an image, behind the steps that its tags ask for.

    Raises `SourceFormatError` where the files are not what the description said.
    """
    steps = image.colors.steps
    with source.lock:
        stored = image.open_pages()
        check_pictures(stored.series.keyframe)
        # One lock for all images: their pages may lie in one file, which has one position.
        store = stored.series.aszarr(level=0, read_only=True, lock=source.lock)
        array = open_fused(store, 3)
    said, found = final_form(image.form, steps), final_form(stored.form, steps)
    if said != found:
        raise SourceFormatError(
            f"{source.uri}: the pages are {_show(found)}, where the metadata say {_show(said)}"
        )
    unit = whole_unit(array.chunks)
    data, unit = final_view(stored.form, array, unit, steps)
    return Samples(Reader(data, source.uri, found.shape, found.dtype), unit)


def _show(form: Form) -> str:
    lengths = ", ".join(f"{a} {n}" for a, n in zip(form.axes, form.shape, strict=True))
    return f"{lengths} of {form.dtype}"
