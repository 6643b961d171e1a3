"""Olympus and Evident OIR files by oirfile, plane by plane."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.bounded_file import BoundedFile, open_bounded
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.decoded import DecodedCache, FrameArray
from ngff_core.sources.microscopy.oirfile_compat import OirPlane, planes
from ngff_core.sources.microscopy.vendor import pins, regular_step
from ngff_core.storage import ObjectStore

if TYPE_CHECKING:
    from oirfile import OirFile

AXES = {"T": "t", "L": "lambda", "Z": "z", "C": "c", "S": "c", "Y": "y", "X": "x"}
"""Names of oirfile's axes; S are the samples of a color image."""


_SIZE_AT = 32
"""Byte of the header where the size of the file stands."""


@dataclass(frozen=True, eq=False)
class _Planes:
    """Reads planes from the file, one thread at a time."""

    stream: BoundedFile
    places: Mapping[Shape, OirPlane]
    shape: Shape
    dtype: np.dtype[Any]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, position: Shape) -> Block:
        plane = self.places.get(position)
        if plane is None:
            return np.zeros(self.shape, self.dtype)
        data = b"".join(self._bytes(start, count) for start, count in plane.parts)
        return np.frombuffer(data, self.dtype).reshape(self.shape)

    def _bytes(self, start: int, count: int) -> bytes:
        with self.lock:
            self.stream.seek(start)
            data = self.stream.read(count)
        if len(data) != count:
            raise EOFError(f"truncated: {len(data)} of {count} bytes read at {start}")
        return data


def open_images(store: ObjectStore) -> SourceImages:
    """The image of the OIR file that ``store`` names; no sample is read.

    Raises `SourceFormatError` for a truncated or damaged file, and for one whose samples go on in
    other files.
    """
    with ExitStack() as opened, as_format_error(f"{store.uri}: not a readable OIR file"):
        file, stream = _open(store, opened)
        _check_alone(store)
        _check_size(stream, store.uri)
        if not file.sizes:
            raise SourceFormatError(f"{store.uri}: an OIR file without an image")
        shape, dtype = tuple(file.shape), np.dtype(file.dtype)
        check_array(shape, dtype, store.uri)
        places = {plane.position: plane for plane in planes(file)}
        _check_complete(places, shape, dtype, stream.size, store.uri)
        described = _describe(file, places)
        source = _Planes(stream, places, shape[-2:], dtype)

        def samples(_number: int) -> Samples:
            axes = (len(shape) - 2, len(shape) - 1)
            data = FrameArray(shape, dtype, axes, source.read, DecodedCache())
            return Samples(Reader(data, store.uri, shape, dtype), data.read_unit)

        return SourceImages(
            identity=SourceIdentity(store.uri, pins(store, "oirfile")),
            kind="oir",
            format="an Olympus OIR file",
            images=(described,),
            open_image=samples,
            _close=opened.pop_all().close,
        )


def _open(store: ObjectStore, opened: ExitStack) -> tuple[OirFile, BoundedFile]:
    from oirfile import OirFile

    stream = open_bounded(store, opened.enter_context(store.open("")))
    file = OirFile(cast("Any", stream), squeeze=False, multifile=False)
    opened.callback(file.close)
    return file, stream


def _check_alone(store: ObjectStore) -> None:
    """Refuse a large acquisition, whose planes go on in ``NAME_00001`` and so on."""
    name = store.uri.rpartition("/")[2]
    second = f"{name.rpartition('.')[0]}_00001"
    if store.parent().info(second) is not None:
        raise SourceFormatError(
            f"{store.uri}: an OIR file whose planes go on in {second}, which is not read; "
            "bioformats2raw reads them together"
        )


def _check_size(stream: BoundedFile, uri: str) -> None:
    """Compare the size that the header says: oirfile leaves out the planes that are cut off."""
    stream.seek(_SIZE_AT)
    declared = int.from_bytes(stream.read(8), "little")
    if declared > stream.size:
        raise SourceFormatError(
            f"{uri}: a truncated OIR file: {stream.size} of the {declared} bytes of its header"
        )


def _check_complete(
    places: Mapping[Shape, OirPlane], shape: Shape, dtype: np.dtype[Any], size: int, uri: str
) -> None:
    expected = math.prod(shape[-2:]) * dtype.itemsize
    last = max(start + count for plane in places.values() for start, count in plane.parts)
    if last > size:
        raise SourceFormatError(
            f"{uri}: a truncated OIR file: {size} bytes, but a plane ends at byte {last}"
        )
    for plane in places.values():
        there = sum(count for _, count in plane.parts)
        if there != expected:
            raise SourceFormatError(
                f"{uri}: a damaged OIR file: the plane {plane.position} has {there} bytes, "
                f"and not {expected}"
            )


def _describe(file: OirFile, places: Mapping[Shape, OirPlane]) -> ImageDescription:
    shape = tuple(file.shape)
    placement, notes = _placement(file)
    channels = _channels(file)
    total = math.prod(shape[:-2])
    if len(places) < total:
        text = f"{total - len(places)} of {total} planes are not there, and are written as 0"
        notes.append(Note("assumed", text))
    if file.reference is not None:
        notes.append(Note("left out", "a reference image in the file"))
    origins = {"axes": "planes' identifiers"}
    if placement.scale:
        origins["scale"] = origins["units"] = "lsmimage, frame properties"
    if any(channel != Channel() for channel in channels):
        origins["channels"] = "lsmimage"
    return ImageDescription(
        name=None,
        axes=tuple(AXES.get(dim, dim.lower()) for dim in file.dims),
        shape=shape,
        dtype=np.dtype(file.dtype).str,
        placement=placement,
        channels=channels,
        origins=origins,
        notes=tuple(notes),
    )


def _placement(file: OirFile) -> tuple[Placement, list[Note]]:
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    notes = []
    coords, sizes = file.coords, file.sizes
    for dim, unit in (
        ("T", "second"),
        ("Z", "micrometer"),
        ("Y", "micrometer"),
        ("X", "micrometer"),
    ):
        positions = [float(value) for value in coords.get(dim, ())]
        if len(positions) != sizes.get(dim) or len(positions) < 2:
            continue
        name, step = AXES[dim], regular_step(positions)
        if step is not None:
            scale[name], units[name] = step, unit
        else:
            notes.append(Note("unknown", f"the step along {name}: its positions are not regular"))
        if dim == "Z" and positions[0]:
            where = f"where z begins ({positions[0]:g} µm or the other end)"
            notes.append(Note("left out", f"{where}, as its direction is not known"))
    return Placement(scale, units), notes


def _channels(file: OirFile) -> tuple[Channel, ...]:
    count = file.sizes.get("S", 0)
    if count:
        return (*RGB, ALPHA)[:count] if count in (3, 4) else ()
    known = {channel.name for channel in file.channels}
    names = [str(name) for name in file.coords.get("C", ())]
    # A channel that the settings do not name is called by its identifier there.
    return tuple(Channel(name if name and name in known else None) for name in names)
