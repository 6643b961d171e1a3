"""Zeiss CZI files by czifile: each scene is an image, composed from its subblocks.

See also ``czi_mosaic`` (the samples) and ``czi_metadata`` (names, sizes, channels).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.base import Reader, as_format_error, whole_unit
from ngff_core.sources.bounded_file import open_bounded
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.decoded import DecodedCache
from ngff_core.sources.microscopy.czi_metadata import CziMetadata, Scene, read_metadata
from ngff_core.sources.microscopy.czi_mosaic import SAMPLES, Layout, MosaicArray, arrange
from ngff_core.sources.microscopy.vendor import pins, times
from ngff_core.storage import ObjectStore

if TYPE_CHECKING:
    from czifile import CziDirectoryEntryDV, CziFile, CziPixelType

AXES = {
    "X": "x",
    "Y": "y",
    "Z": "z",
    "C": "c",
    "T": "t",
    "H": "h",
    "R": "rotation",
    "I": "illumination",
    "B": "block",
    "V": "view",
}
"""Names of the file's axes. H is the phase of structured illumination, or Airyscan's detector."""

_MOST_EMPTY = 10_000
"""Most samples of an image for each one that a subblock covers. More than that is a directory
that is damaged, or scenes on a plate that the file does not keep apart."""


@dataclass(frozen=True, eq=False)
class _Image:
    """One image of the file: a scene, or the part of it with one type of pixel."""

    scene: int | None
    pixel_type: CziPixelType
    layout: Layout
    alone: bool
    """Whether it is the whole scene."""
    single: bool
    """Whether the file has no other scene."""


def open_images(store: ObjectStore) -> SourceImages:
    """The scenes of the CZI file that ``store`` names; no sample is read.

    Raises `SourceFormatError` for a truncated or damaged file, and for one without subblocks at
    full resolution.
    """
    with ExitStack() as opened, as_format_error(f"{store.uri}: not a readable CZI file"):
        file, size = _open(store, opened)
        entries = _full_resolution(file, size, store.uri)
        metadata = read_metadata(file.metadata())
        images = _images(entries)
        attachments = _attachments(file)
        described = tuple(_describe(image, metadata, attachments) for image in images)
        compressed = any(e.decode is not None for e in entries)
        identity = pins(store, "czifile", *(["imagecodecs"] if compressed else []))
        readers = _Readers(store.uri, file, size, images)
        return SourceImages(
            identity=SourceIdentity(store.uri, identity),
            kind="czi",
            format="a Zeiss CZI file",
            images=described,
            open_image=readers.open,
            _close=opened.pop_all().close,
        )


def _open(store: ObjectStore, opened: ExitStack) -> tuple[CziFile, int]:
    from czifile import CziFile

    stream = open_bounded(store, opened.enter_context(store.open("")))
    file = CziFile(cast("Any", stream), squeeze=False)
    opened.callback(file.close)
    # Without it threads share the file's position, and read each other's samples in silence.
    file.set_lock(True)
    return file, stream.size


def _full_resolution(file: CziFile, size: int, uri: str) -> tuple[CziDirectoryEntryDV, ...]:
    directory = file.header.directory_position
    if directory >= size:
        raise SourceFormatError(
            f"{uri}: a truncated CZI file: {size} bytes, but its directory is at {directory}"
        )
    entries = tuple(e for e in file.filtered_subblock_directory if e.pyramid_type == 0)
    if not entries:
        raise SourceFormatError(f"{uri}: a CZI file without subblocks at full resolution")
    if any(e.file_part for e in entries):
        raise SourceFormatError(
            f"{uri}: a CZI file that consists of several files, which is not read; "
            "save it as one file in ZEN"
        )
    last = max(e.file_position for e in entries)
    if last >= size:
        raise SourceFormatError(
            f"{uri}: a truncated CZI file: {size} bytes, but a subblock begins at {last}"
        )
    return entries


def _images(entries: Sequence[CziDirectoryEntryDV]) -> tuple[_Image, ...]:
    """Scenes in the order of their numbers, each cut by type of pixel where it has several."""
    scenes = sorted({e.scene_index for e in entries if e.scene_index >= 0})
    found = []
    each: Sequence[int | None] = scenes or (None,)
    for scene in each:
        # A subblock without a scene belongs to all of them.
        mine = [e for e in entries if scene is None or e.scene_index in (-1, scene)]
        types = dict.fromkeys(e.pixel_type for e in mine)
        for kind in types:
            layout = arrange([e for e in mine if e.pixel_type == kind])
            found.append(_Image(scene, kind, layout, len(types) == 1, len(scenes) <= 1))
    return tuple(found)


def _attachments(file: CziFile) -> tuple[str, ...]:
    """Names of the pictures that the file carries beside its images."""
    if not file.header.attachment_directory_position:
        return ()
    pictures = ("CZI", "JPG")
    return tuple(
        entry.name
        for entry in file.attachment_directory
        if entry.content_file_type.name in pictures
    )


# --- description -------------------------------------------------------------------------


def _describe(
    image: _Image, metadata: CziMetadata, attachments: tuple[str, ...]
) -> ImageDescription:
    scene = metadata.scenes.get(image.scene or 0, Scene())
    placement = _placement(image.layout, metadata)
    channels = _channels(image, metadata)
    origins = {"axes": "subblocks' dimensions"}
    if placement.scale:
        origins["scale"] = origins["units"] = "Scaling"
    if placement.translation:
        origins["translation"] = "first pixel on the grid of the file, times the size of a pixel"
    if any(channel != Channel() for channel in channels):
        origins["channels"] = "Image/Dimensions/Channels, DisplaySetting"
    return ImageDescription(
        name=_name(image, scene),
        axes=_axes(image.layout),
        shape=image.layout.shape,
        dtype=image.pixel_type.dtype.str,
        placement=placement,
        channels=channels,
        origins=origins,
        notes=_notes(image, metadata, attachments),
        metadata=_kept(image, scene),
    )


def _name(image: _Image, scene: Scene) -> str | None:
    name = scene.name
    if name is None and not image.single:
        name = f"scene {image.scene}"
    if image.alone:
        return name
    kind = image.pixel_type.name.lower()
    return f"{name}, {kind}" if name else kind


def _axes(layout: Layout) -> tuple[str, ...]:
    """The axes' names; c is the axis of channels, or of colors where there is one channel."""
    names = {**AXES, SAMPLES: "sample"}
    if SAMPLES in layout.dims and len(layout.channels) <= 1:
        names |= {SAMPLES: "c", "C": "channel"}
    return tuple(names.get(dim, dim.lower()) for dim in layout.dims)


def _placement(layout: Layout, metadata: CziMetadata) -> Placement:
    axes = _axes(layout)
    scale = {name: metadata.sizes[name] for name in axes if name in metadata.sizes}
    units = dict.fromkeys(scale, "micrometer")
    if "t" in axes and metadata.step is not None:
        scale["t"], units["t"] = metadata.step, "second"
    translation = {
        name: times(scale[name], start)
        for name, start in zip(axes, layout.origin, strict=True)
        if name in scale and start
    }
    return Placement(scale, units, translation)


def _channels(image: _Image, metadata: CziMetadata) -> tuple[Channel, ...]:
    known = metadata.channels
    colors = image.pixel_type.samples
    if colors > 1:
        return (*RGB, ALPHA)[:colors] if len(image.layout.channels) <= 1 else ()
    numbers = image.layout.channels or (0,)
    return tuple(known[n] if 0 <= n < len(known) else Channel() for n in numbers)


def _notes(image: _Image, metadata: CziMetadata, attachments: tuple[str, ...]) -> tuple[Note, ...]:
    layout = image.layout
    notes = []
    missing, planes = layout.missing_planes
    if missing:
        text = f"{missing} of {planes} planes have no subblock in the file, and are written as 0"
        notes.append(Note("assumed", text))
    if any(e.is_pyramid for e in layout.entries):
        text = "subblocks stored at a lower resolution: their samples are repeated"
        notes.append(Note("converted", text))
    if metadata.shear is not None and "Z" in layout.dims:
        text = f"the shear of the z axis ({metadata.shear}): planes are written as they are stored"
        notes.append(Note("left out", text))
    if "T" in layout.dims and metadata.irregular is not None:
        low, high = metadata.irregular
        text = f"the step of time: it is not regular, {low:g} to {high:g} s"
        notes.append(Note("unknown", text))
    known = _placement(layout, metadata).scale
    if any(layout.origin[layout.dims.index(d)] for d in "YX" if d in layout.dims) and not known:
        text = "the position of the image in the file, as the size of a pixel is not known"
        notes.append(Note("left out", text))
    if attachments:
        notes.append(Note("left out", f"attached pictures: {', '.join(attachments)}"))
    return tuple(notes)


def _kept(image: _Image, scene: Scene) -> dict[str, Any]:
    start = dict(zip(_axes(image.layout), image.layout.origin, strict=True))
    kept: dict[str, Any] = {"first_pixel": {a: n for a, n in start.items() if a in ("x", "y")}}
    if image.scene is not None:
        kept["scene"] = image.scene
    if scene.well is not None:
        kept["well"] = scene.well
    return kept


# --- samples -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Readers:
    """Opens the samples of the images of one file."""

    uri: str
    file: CziFile
    size: int
    images: tuple[_Image, ...]

    def open(self, number: int) -> Samples:
        image = self.images[number]
        layout = image.layout
        self._check(layout)
        dtype = np.dtype(image.pixel_type.dtype)
        data = MosaicArray(self.file, layout, dtype, self.size, DecodedCache())
        reader = Reader(data, self.uri, layout.shape, dtype)
        return Samples(reader, whole_unit(layout.read_unit))

    def _check(self, layout: Layout) -> None:
        """Refuse what cannot be decoded, and a box that no sensible file has."""
        unknown = {str(e.compression) for e in layout.entries if e.decode is None and e.compression}
        if unknown:
            raise SourceFormatError(
                f"{self.uri}: a CZI file with the compression {', '.join(sorted(unknown))}, "
                "which cannot be decoded; save it in ZEN with another one"
            )
        if any(e.pixel_type.name == "UNKNOWN" for e in layout.entries):
            raise SourceFormatError(
                f"{self.uri}: a CZI file with a type of pixel that is not known"
            )
        resized = {
            (n, m) for e in layout.entries for n, m in zip(e.shape, e.stored_shape, strict=True)
        }
        odd = [pair for pair in resized if pair[0] % pair[1]]
        if odd:
            raise SourceFormatError(
                f"{self.uri}: a CZI file with subblocks of {odd[0][1]} samples for {odd[0][0]} "
                "pixels, which is not read; save the processed image in ZEN"
            )
        box = int(np.prod(layout.shape, dtype=object))
        if box > _MOST_EMPTY * layout.covered:
            raise SourceFormatError(
                f"{self.uri}: the image would have the shape {layout.shape}, of which its "
                f"subblocks cover {layout.covered} of {box} samples; "
                "split the scenes of the file in ZEN"
            )
