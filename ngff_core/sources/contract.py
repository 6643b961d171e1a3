"""The reader contract: what every input format says of the images in a source.

A reader opens a source and returns `SourceImages`: what each image in it is, without reading
samples, and a function that opens the samples of one. It names what the file names and nothing
else: ``sources.choose`` decides which image is meant, ``sources.naming`` what becomes of axes
without a name. What a reader leaves out, converts or cannot know, it says in a `Note`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from ngff_core.blocks import ArrayLike
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.model.orientation import AnatomicalOrientation

UNNAMED = "?"
"""Name of an axis that the file does not name. Several axes of an image may have it."""

NoteKind = Literal["assumed", "unknown", "left out", "converted", "overruled", "limited"]
Role = Literal["image", "slide label", "macro", "overview", "thumbnail", "preview"]

Pins = tuple[tuple[str, str], ...]
"""Sorted (property, value) pairs of a source that change when its content changes."""


def do_nothing() -> None:
    """The ``close`` of what holds nothing open."""


@dataclass(frozen=True)
class SourceIdentity:
    """What distinguishes a source from any other, and from itself after a change.

    Attributes
    ----------
    uri
        Absolute path or URI, or ``array:<name>`` for an array in memory.
    pins
        Size and version of every file the samples or their meaning come from (companions too),
        digests of listings and documents, and ``("reader", "czifile 2026.10.14")``: the decoder
        that turns bytes into samples, as another version may give other samples.
    """

    uri: str
    pins: Pins


@dataclass(frozen=True)
class Note:
    """A remark on how the source was read, for users of the pyramid.

    Attributes
    ----------
    kind
        ``assumed``: the source does not say, a documented default was taken.
        ``unknown``: the source does not say, and nothing was assumed.
        ``left out``: the source has it, the pyramid has not.
        ``converted``: samples or axes are not as they are stored (a palette expanded, an
        orientation applied).
        ``overruled``: the caller's value took the place of the source's.
        ``limited``: some readers cannot read or show the pyramid as it is planned.
    text
        One sentence without a full stop: what, how much of it, and the option that changes it.
    """

    kind: NoteKind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Placement:
    """Where the samples of an image lie, by axis name; axes without a known value are left out.

    Attributes
    ----------
    scale
        Distance between neighbouring samples, in ``units``; positive. Where it decides how the
        image lies, another value of the file is kept: it is refused unless the caller gives one.
    units
        UDUNITS names, such as ``micrometer``; see ``sources.units``.
    translation
        Position of the first sample's centre, in ``units``.
    orientations
        Anatomical direction in which the index of an axis grows (RFC-4).
    """

    scale: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    translation: Mapping[str, float] = field(default_factory=dict)
    orientations: Mapping[str, AnatomicalOrientation] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageDescription:
    """One image of a source, without its samples.

    Attributes
    ----------
    name
        As the file names it; None if it does not.
    axes
        One name for each axis of the samples, in their order: ``t``, ``c``, ``z``, ``y``, ``x``
        where the file says so; another lower-case word for an axis that is none of these
        (``"lambda"``, ``"h"``, ``"tile"``); `UNNAMED` where the file names nothing.
    shape, dtype
        Of the samples; dtype as numpy's text, byte order included (``"<u2"``).
    placement
        Sizes, units, positions and directions, as far as the file says.
    channels
        One for each position on the axis ``c``; empty if nothing is known of them.
    role
        ``image``, or what else the file holds it as. Only an ``image`` is ever built unasked.
    labels
        Whether the samples are numbers of objects, which must not be averaged.
    origins
        Where each value was found, for people: ``{"scale": "XResolution tag"}``. Keys: axes,
        scale, units, translation, orientations, channels, name.
    notes
        What was assumed, converted, left out or could not be known.
    metadata
        JSON values worth keeping beside the image (affine, rescale slope).
    """

    name: str | None
    axes: tuple[str, ...]
    shape: Shape
    dtype: str
    placement: Placement = Placement()
    channels: tuple[Channel, ...] = ()
    role: Role = "image"
    labels: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkCount:
    """Number of objects, chunks or shards, that the samples of a zarr array consist of.

    By zarr's definition an absent object reads as the array's fill value. One that was never
    written cannot be distinguished from one that was lost.
    """

    total: int
    absent: int


@dataclass(frozen=True)
class Samples:
    """The opened samples of one image.

    Attributes
    ----------
    data
        Lazy array with the axes of the description, in its order. Several threads read it at
        once, and any cut gives the same samples. Errors are `SourceFormatError` (``base.Reader``
        does that) or the file system's.
    read_unit
        Shape of the smallest box that storage can decode by itself, per axis of ``data``: a
        chunk; a frame with all its channels; a whole gzip stream. Longer than the array where a
        chunk reaches beyond it and is decoded as a whole.
    chunks
        Of a zarr array, if its store can be listed.
    identity
        Of what this image alone is stored in, where a source is a folder of many images; None
        where the identity of the source is that of each image.
    """

    data: ArrayLike
    read_unit: Shape
    chunks: ChunkCount | None = None
    identity: SourceIdentity | None = None


@dataclass(frozen=True)
class SourceImages:
    """An opened source and the images in it, to be closed.

    Attributes
    ----------
    identity
        What the plan of a build pins.
    kind
        The reader: ``tiff``, ``zarr``, ``czi`` and so on.
    format
        The format in words, for people: ``"OME-TIFF"``.
    images
        All images in the source, in its own order. Never empty.
    open_image
        Opens the samples of the image with that number.
    main
        Number of the image that is meant where the caller names none; None where the source
        does not tell (then one image of role ``image`` is taken, several are refused).
    """

    identity: SourceIdentity
    kind: str
    format: str
    images: tuple[ImageDescription, ...]
    open_image: Callable[[int], Samples]
    main: int | None = None
    _close: Callable[[], None] = field(default=do_nothing, repr=False, compare=False)

    def close(self) -> None:
        """Close open files. Do not read samples afterwards."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
