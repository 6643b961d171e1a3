"""Nikon ND2 files by nd2: each stage position is an image, each frame holds all channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.bounded_file import open_bounded
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.decoded import DecodedCache, FrameArray
from ngff_core.sources.microscopy.nd2_compat import frame_places
from ngff_core.sources.microscopy.vendor import pins, positive
from ngff_core.storage import ObjectStore

if TYPE_CHECKING:
    from nd2 import ND2File

_POSITIONS = "XYPosLoop"
_LOOPS = {
    "TimeLoop": "t",
    "NETimeLoop": "t",
    "ZStackLoop": "z",
    "CustomLoop": "custom",
    "SpectLoop": "lambda",
}
"""Names of the axes that an experiment loops over; each position is an image."""

_SAME = 0.01
"""Relative difference from the mean up to which steps of time count as one and the same."""


_MOST_PROMISED = 1000
"""Most frames that an experiment lists for each one that the file has. An interrupted experiment
lacks frames, but not almost all of them."""


@dataclass(frozen=True)
class _Frame:
    """Axes of what one frame holds: channels, rows, columns and color samples."""

    axes: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class _Loops:
    """The loops of an experiment, outermost first, and which of them are positions."""

    axes: tuple[str, ...]
    counts: Shape
    stage: int | None
    """Index of the loop over positions."""
    names: tuple[str | None, ...]
    """Of the positions; one without a name where there is no such loop."""

    def frame_number(self, image: int, position: Shape) -> int:
        """Number in the file of the frame at a position on the other loops."""
        index = list(position)
        if self.stage is not None:
            index.insert(self.stage, image)
        number = 0
        for i, n in zip(index, self.counts, strict=True):
            number = number * n + i
        return number

    def image_of(self, number: int) -> int | None:
        """The image that the frame of that number in the file belongs to; None if it has none."""
        if number >= math.prod(self.counts):
            return None
        inside = math.prod(self.counts[self.stage + 1 :]) if self.stage is not None else 0
        return number // inside % self.counts[self.stage] if self.stage is not None else 0

    @property
    def others(self) -> tuple[tuple[str, int], ...]:
        """Name and length of the loops that are axes of an image."""
        loops = zip(self.axes, self.counts, strict=True)
        return tuple(loop for i, loop in enumerate(loops) if i != self.stage)


def open_images(store: ObjectStore) -> SourceImages:
    """The positions of the ND2 file that ``store`` names; no sample is read.

    Raises `SourceFormatError` for a truncated or damaged file, and for lossy compression.
    """
    with ExitStack() as opened, as_format_error(f"{store.uri}: not a readable ND2 file"):
        file, size = _open(store, opened)
        _check_compression(file, store.uri)
        places = _places(file, size, store.uri)
        frame, loops = _frame(file), _loops(file)
        if math.prod(loops.counts) > _MOST_PROMISED * max(1, len(places)):
            raise SourceFormatError(
                f"{store.uri}: a damaged ND2 file: its experiment has {math.prod(loops.counts)} "
                f"frames, and {len(places)} are in the file"
            )
        described = tuple(
            _describe(file, frame, loops, image, places) for image in range(len(loops.names))
        )
        check_array(described[0].shape, np.dtype(described[0].dtype), store.uri)
        readers = _Readers(store.uri, file, frame, loops, described, frozenset(places))
        return SourceImages(
            identity=SourceIdentity(store.uri, pins(store, "nd2")),
            kind="nd2",
            format="a Nikon ND2 file",
            images=described,
            open_image=readers.open,
            _close=opened.pop_all().close,
        )


def _open(store: ObjectStore, opened: ExitStack) -> tuple[ND2File, int]:
    from nd2 import ND2File

    stream = open_bounded(store, opened.enter_context(store.open("")))
    file = ND2File(cast("Any", stream))
    opened.callback(file.close)
    return file, stream.size


def _check_compression(file: ND2File, uri: str) -> None:
    compression = file.attributes.compressionType
    if compression not in (None, "none", "lossless"):
        raise SourceFormatError(
            f"{uri}: an ND2 file with {compression} compression, which is not read; "
            "save it without compression in NIS-Elements"
        )


def _places(file: ND2File, size: int, uri: str) -> dict[int, tuple[int, int]]:
    """Where the frames lie; each is complete."""
    attributes = file.attributes
    rows, width = attributes.heightPx, attributes.widthBytes or 0
    raw = attributes.compressionType != "lossless"
    places = frame_places(file)
    last = max((start + rows * width if raw else end for start, end in places.values()), default=0)
    if last > size:
        raise SourceFormatError(
            f"{uri}: a truncated ND2 file: {size} bytes, but a frame ends at byte {last}"
        )
    return places


def _frame(file: ND2File) -> _Frame:
    attributes = file.attributes
    channels, samples = attributes.channelCount or 1, file.components_per_channel
    axes = ("c", "y", "x", "sample") if channels > 1 else ("channel", "y", "x", "c")
    shape = (channels, attributes.heightPx, attributes.widthPx or 1, samples)
    if samples > 1:
        return _Frame(axes, shape)
    return _Frame(("c", "y", "x"), shape[:3])


def _loops(file: ND2File) -> _Loops:
    experiment: list[Any] = list(file.experiment)
    axes = [_LOOPS.get(loop.type, loop.type.lower()) for loop in experiment]
    counts = [int(loop.count) for loop in experiment]
    frames = int(file.attributes.sequenceCount)
    if math.prod(counts) == 1 and frames > 1:
        # Frames without an experiment: the file does not say what they are.
        return _Loops((UNNAMED,), (frames,), None, (None,))
    stages = [i for i, loop in enumerate(experiment) if loop.type == _POSITIONS]
    if not stages:
        return _Loops(tuple(axes), tuple(counts), None, (None,))
    points = experiment[stages[0]].parameters.points
    names = tuple(
        (points[i].name if i < len(points) else None) or f"position {i}"
        for i in range(counts[stages[0]])
    )
    return _Loops(tuple(axes), tuple(counts), stages[0], names)


# --- description -------------------------------------------------------------------------


def _describe(
    file: ND2File,
    frame: _Frame,
    loops: _Loops,
    image: int,
    places: dict[int, tuple[int, int]],
) -> ImageDescription:
    axes = (*(name for name, _ in loops.others), *frame.axes)
    shape = (*(n for _, n in loops.others), *frame.shape)
    placement, notes = _placement(file, axes)
    channels = _channels(file, frame)
    stage = _stage(file, loops, image)
    if stage:
        shown = ", ".join(f"{axis} {value:g} µm" for axis, value in stage.items())
        text = f"the position of the stage ({shown}): it is kept in the metadata"
        notes.append(Note("left out", text))
    notes += _frame_notes(loops, image, places)
    if frame.axes[-1] == "c":
        text = "the samples of a color pixel are red, green and blue in this order, as nd2 has them"
        notes.append(Note("assumed", text))
    origins = {"axes": "experiment"}
    if placement.scale:
        origins["scale"] = origins["units"] = "axesCalibration, experiment"
    if channels:
        origins["channels"] = "picture planes"
    return ImageDescription(
        name=loops.names[image],
        axes=axes,
        shape=shape,
        dtype=np.dtype(file.dtype).str,
        placement=placement,
        channels=channels,
        origins=origins,
        notes=tuple(notes),
        metadata={"stage_position": stage} if stage else {},
    )


def _placement(file: ND2File, axes: Sequence[str]) -> tuple[Placement, list[Note]]:
    scale: dict[str, float] = {}
    notes = []
    metadata: Any = file.metadata
    known = metadata.channels if metadata else None
    if known:
        volume = known[0].volume
        calibrated = zip("xyz", volume.axesCalibrated, volume.axesCalibration, strict=False)
        sizes = ((axis, positive(size)) for axis, valid, size in calibrated if valid)
        scale = {axis: size for axis, size in sizes if size is not None and axis in axes}
    for loop in file.experiment:
        if loop.type == "ZStackLoop" and loop.parameters is not None:
            step = positive(loop.parameters.stepUm)
            scale |= {"z": step} if step is not None else {}
            if not loop.parameters.bottomToTop:
                text = "the direction of z: its positions fall from sample to sample"
                notes.append(Note("left out", text))
    units = dict.fromkeys(scale, "micrometer")
    seconds, irregular = _time_step(file)
    if "t" in axes and seconds is not None:
        scale["t"], units["t"] = seconds, "second"
    elif "t" in axes and irregular:
        notes.append(Note("unknown", f"the step of time: {irregular}"))
    return Placement(scale, units), notes


def _time_step(file: ND2File) -> tuple[float | None, str]:
    """Seconds between the positions on t; else why they are not known."""
    periods: list[Any] = []
    for loop in file.experiment:
        if loop.type == "TimeLoop":
            periods.append(loop.parameters)
        elif loop.type == "NETimeLoop" and loop.parameters is not None:
            periods += loop.parameters.periods
    if len(periods) != 1:
        return None, f"the experiment has {len(periods)} phases" if periods else ""
    (period,) = periods
    measured = period.periodDiff
    mean = positive(measured.avg) if measured is not None else None
    if mean is None:
        nominal = positive(period.periodMs)
        return (None if nominal is None else nominal / 1000), ""
    low, high = measured.min, measured.max
    if max(mean - low, high - mean) > _SAME * mean:
        return None, f"it is not regular, {low / 1000:g} to {high / 1000:g} s"
    return mean / 1000, ""


def _channels(file: ND2File, frame: _Frame) -> tuple[Channel, ...]:
    if frame.axes[-1] == "c":
        samples = frame.shape[-1]
        return (*RGB, ALPHA)[:samples] if samples in (3, 4) else ()
    metadata: Any = file.metadata
    known = (metadata.channels if metadata else None) or []
    if frame.axes[0] != "c" or len(known) != frame.shape[0]:
        return ()
    return tuple(
        Channel(each.channel.name or None, "{:02X}{:02X}{:02X}".format(*each.channel.color[:3]))
        for each in known
    )


def _stage(file: ND2File, loops: _Loops, image: int) -> dict[str, float]:
    """Position of the stage in micrometers, of a position that the experiment lists."""
    if loops.stage is None:
        return {}
    points: Any = file.experiment[loops.stage].parameters.points  # type: ignore[union-attr]
    if image >= len(points):
        return {}
    place = points[image].stagePositionUm
    return {"x": float(place.x), "y": float(place.y), "z": float(place.z)}


def _frame_notes(loops: _Loops, image: int, places: dict[int, tuple[int, int]]) -> list[Note]:
    """Frames that the experiment promises and the file lacks, and those beyond it."""
    notes = []
    counts = tuple(n for _, n in loops.others)
    there = sum(loops.image_of(number) == image for number in places)
    missing = math.prod(counts) - there
    if missing:
        text = f"{missing} of {math.prod(counts)} frames are not in the file, and are written as 0"
        notes.append(Note("assumed", text))
    beyond = sum(number >= math.prod(loops.counts) for number in places)
    if beyond:
        notes.append(Note("left out", f"{beyond} frames beyond those that the experiment lists"))
    return notes


# --- samples -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Readers:
    """Opens the samples of the positions of one file."""

    uri: str
    file: ND2File
    frame: _Frame
    loops: _Loops
    described: tuple[ImageDescription, ...]
    present: frozenset[int]
    """Numbers of the frames that the file has."""

    def open(self, number: int) -> Samples:
        described = self.described[number]
        dtype = np.dtype(described.dtype)
        ndim, inner = len(described.shape), len(self.frame.shape)

        def read(position: Shape) -> Block:
            at = self.loops.frame_number(number, position)
            if at not in self.present:
                return np.zeros(self.frame.shape, dtype)
            # A frame has channels, rows, columns and samples, without those of length 1.
            return np.ascontiguousarray(self.file.read_frame(at)).reshape(self.frame.shape)

        axes = tuple(range(ndim - inner, ndim))
        data = FrameArray(described.shape, dtype, axes, read, DecodedCache())
        reader = Reader(data, self.uri, described.shape, dtype)
        return Samples(reader, data.read_unit)
