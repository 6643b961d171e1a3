"""Olympus FluoView files by oiffile: OIB in one file, OIF with the folder ``NAME.oif.files``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.contract import (
    ImageDescription,
    Note,
    Pins,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.decoded import DecodedCache, FrameArray
from ngff_core.sources.microscopy.vendor import decimal, pins
from ngff_core.storage import LocalFiles, ObjectStore

if TYPE_CHECKING:
    from oiffile import OifFile

AXES = {
    "X": "x",
    "Y": "y",
    "Z": "z",
    "T": "t",
    "C": "c",
    "L": "lambda",
    "A": "angle",
    "P": "point",
}
"""Names of the file's axes."""

_UNITS = {
    "um": ("micrometer", Decimal(1)),
    "nm": ("micrometer", Decimal("0.001")),
    "mm": ("micrometer", Decimal(1000)),
    "ms": ("second", Decimal("0.001")),
    "s": ("second", Decimal(1)),
}
"""Units as the file writes them: the unit that is written, and how many of it they are."""


_MOST_COMPRESSED = 1000
"""Most samples' bytes for each byte of a plane's file."""


@dataclass(frozen=True, eq=False)
class _Plane:
    """The planes of an image, each a TIFF file, and what one of them is like."""

    files: Mapping[Shape, str]
    """By position on the axes before the plane's two."""
    dtype: np.dtype[Any]


def open_images(store: ObjectStore) -> SourceImages:
    """The image of the OIB or OIF file that ``store`` names.

    Raises `SourceFormatError` for a file that is not on a local disk, for one whose planes are
    not those that its settings promise, and for a damaged one.
    """
    if not isinstance(store, LocalFiles):
        raise SourceFormatError(
            f"{store.uri}: an Olympus OIB or OIF file is read from a local disk only; "
            "copy it there (an OIF with its folder NAME.oif.files)"
        )
    with ExitStack() as opened, as_format_error(f"{store.uri}: not a readable OIB or OIF file"):
        file = _open(store, opened)
        axes, shape = str(file.axes), tuple(int(n) for n in file.shape)
        planes = _planes(file, axes, shape)
        check_array(shape, planes.dtype, store.uri)
        described = _describe(file, axes, shape, planes)
        return SourceImages(
            identity=SourceIdentity(store.uri, _pins(file, store)),
            kind="oib" if file.is_oib else "oif",
            format=f"an Olympus {'OIB' if file.is_oib else 'OIF'} file",
            images=(described,),
            open_image=lambda _: _samples(file, described, planes, store.uri),
            _close=opened.pop_all().close,
        )


def _open(store: LocalFiles, opened: ExitStack) -> OifFile:
    from oiffile import OifFile

    if not store.root.exists():
        raise FileNotFoundError(store.uri)
    try:
        file = OifFile(store.root)
    except OSError as error:
        if "storage path not found" not in str(error):
            raise
        raise SourceFormatError(
            f"{store.uri}: an OIF file without its folder {store.root.name}.files, which has the "
            "samples; put it beside the file"
        ) from error
    opened.callback(file.close)
    return file


def _planes(file: OifFile, axes: str, shape: Shape) -> _Plane:
    """The TIFF file of each plane, as oiffile maps them to the settings."""
    series: Any = file.series
    if not series:
        raise ValueError("it has no planes")
    first = series[0]
    names = list(first)
    if len(axes) == 2 and len(names) == 1:
        files: dict[Shape, str] = {(): names[0]}
    elif tuple(first.dims) == tuple(axes[:-2]) and tuple(first.shape) == shape[:-2]:
        files = dict(zip((tuple(i) for i in first.indices), names, strict=True))
    else:
        raise ValueError(
            f"its {len(names)} planes cannot be told for the axes {axes} of shape {shape}"
        )
    return _Plane(files, _read(file, next(iter(files.values())), shape[-2:]).dtype)


def _read(file: OifFile, name: str, shape: Shape) -> Block:
    """The plane in one TIFF file, whose claims are checked before memory is taken."""
    from tifffile import TiffFile

    with file.open_file(name) as stream, TiffFile(stream, name=name) as tif:
        page: Any = tif.pages.first
        if page.shape != shape:
            raise ValueError(f"the plane {name} has the shape {page.shape}, and not {shape}")
        if page.nbytes > _MOST_COMPRESSED * tif.filehandle.size:
            raise ValueError(f"{name} has {tif.filehandle.size} bytes, and claims {page.nbytes}")
        return np.asarray(tif.asarray(key=0))


def _pins(file: OifFile, store: LocalFiles) -> Pins:
    """The file, for an OIF all files of its folder, and the versions of what decodes them."""
    found = dict(pins(store, "oiffile", "tifffile", "imagecodecs"))
    if not file.is_oib:
        listing = hashlib.sha256()
        for name in sorted(file.glob("*")):
            info = LocalFiles(Path(store.root.parent, name)).info("")
            state = "absent" if info is None else f"{info.size} {info.version}"
            listing.update(f"{name}\n{state}\n".encode())
        found["files"] = listing.hexdigest()
    return tuple(sorted(found.items()))


# --- description -------------------------------------------------------------------------


def _describe(file: OifFile, axes: str, shape: Shape, planes: _Plane) -> ImageDescription:
    names = tuple(AXES.get(axis, axis.lower()) for axis in axes)
    lengths = dict(zip(axes, shape, strict=True))
    placement = _placement(file, lengths)
    count = lengths.get("C", 1)
    channels = tuple(_channel(file, number) for number in range(count))
    notes = []
    missing = math.prod(shape[:-2]) - len(planes.files)
    if missing:
        text = f"{missing} of {math.prod(shape[:-2])} planes are not there, and are written as 0"
        notes.append(Note("assumed", text))
    others = len(file.series) - 1
    if others:
        text = f"{others} other series of pictures in the file, such as reference images"
        notes.append(Note("left out", text))
    origins = {"axes": "AxisOrder"}
    if placement.scale:
        origins["scale"] = origins["units"] = "Reference Image Parameter, Axis Parameters"
    if any(channel != Channel() for channel in channels):
        origins["channels"] = "Channel Parameters, lookup tables"
    return ImageDescription(
        name=Path(str(file.mainfile.get("File Info", {}).get("DataName") or "")).stem or None,
        axes=names,
        shape=shape,
        dtype=planes.dtype.str,
        placement=placement,
        channels=channels,
        origins=origins,
        notes=tuple(notes),
    )


def _placement(file: OifFile, lengths: Mapping[str, int]) -> Placement:
    scale, units = {}, {}
    for axis, length in lengths.items():
        found = _pixel(file, axis) if axis in "XY" else _step(file, axis, length)
        if found is not None and axis in "XYZT":
            size, unit = found
            scale[AXES[axis]], units[AXES[axis]] = float(size), unit
    return Placement(scale, units)


def _pixel(file: OifFile, axis: str) -> tuple[Decimal, str] | None:
    """Size of a pixel as the settings write it, which is the extent divided by n - 1."""
    side = {"X": "Width", "Y": "Height"}[axis]
    settings = file.mainfile.get("Reference Image Parameter", {})
    return _size(settings.get(f"{side}ConvertValue"), settings.get(f"{side}Unit"))


def _step(file: OifFile, axis: str, length: int) -> tuple[Decimal, str] | None:
    for number in range(9):
        settings = file.mainfile.get(f"Axis {number} Parameters Common", {})
        if settings.get("AxisCode") != axis:
            continue
        interval = _size(settings.get("Interval"), settings.get("UnitName"))
        first, last = decimal(settings.get("StartPosition")), decimal(settings.get("EndPosition"))
        if first is None or last is None or length < 2:
            return interval
        mean = _size(abs(last - first) / (length - 1), settings.get("UnitName"))
        # The interval of time is the pause that was asked for; the extent was measured.
        return (mean or interval) if axis == "T" else (interval or mean)
    return None


def _size(value: object, unit: object) -> tuple[Decimal, str] | None:
    size = decimal(value)
    if size is None or size <= 0 or unit not in _UNITS:
        return None
    name, factor = _UNITS[str(unit)]
    return size * factor, name


def _channel(file: OifFile, number: int) -> Channel:
    settings = file.mainfile.get(f"Channel {number + 1} Parameters", {})
    names = (settings.get("DyeName"), settings.get("CH Name"))
    name = next((str(n) for n in names if n not in (None, "", "None")), None)
    return Channel(name, _color(file, number))


def _color(file: OifFile, number: int) -> str | None:
    """The brightest color of a channel's lookup table, which has blue first."""
    from oiffile import SettingsFile

    path = file.mainfile.get("ProfileSaveInfo", {}).get(f"LutFileName{number}")
    if not path:
        return None
    name = str(path).replace("\\", "/").rpartition("/")[2]
    try:
        table = SettingsFile(file.open_file(name), name).get("ColorLUTData")
    except (OSError, ValueError):
        return None
    if table is None or len(table) == 0:
        return None
    blue, green, red = (int(n) for n in table[-1][:3])
    return f"{red:02X}{green:02X}{blue:02X}"


# --- samples -----------------------------------------------------------------------------


def _samples(file: OifFile, described: ImageDescription, planes: _Plane, uri: str) -> Samples:
    shape, dtype = described.shape, planes.dtype

    def read(position: Shape) -> Block:
        name = planes.files.get(position)
        if name is None:
            return np.zeros(shape[-2:], dtype)
        plane = _read(file, name, shape[-2:])
        if plane.dtype != dtype:
            raise ValueError(f"{name} has samples of {plane.dtype}, and others of {dtype}")
        return plane

    axes = (len(shape) - 2, len(shape) - 1)
    data = FrameArray(shape, dtype, axes, read, DecodedCache())
    return Samples(Reader(data, uri, shape, dtype), data.read_unit)
