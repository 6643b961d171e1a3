"""Leica files by liffile: LIF, LOF, and projects in XML (XLEF, XLCF, XLIF) with other files."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.axes import AXIS_ORDER
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.bounded_file import open_bounded
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Pins,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.decoded import DecodedCache, FrameArray
from ngff_core.sources.microscopy.vendor import MICRO, decimal, pins
from ngff_core.storage import LocalFiles, ObjectStore

if TYPE_CHECKING:
    from liffile import LifFile

AXES = {
    "X": "x",
    "Y": "y",
    "Z": "z",
    "T": "t",
    "C": "c",
    "λ": "lambda",
    "Λ": "lambda_excitation",
    "A": "rotation",
    "N": "xt_slice",
    "Q": "t_slice",
    "M": "tile",
    "L": "loop",
    "?": UNNAMED,
}
"""Names of liffile's axes; λ is the wavelength of emission, M a tile that is not stitched."""

_NUMBERS = {1: "X", 2: "Y", 3: "Z", 4: "T", 5: "λ", 9: "Λ"}
"""liffile's letters of the file's DimID, of the axes that have values."""

_LUTS = {
    "red": "FF0000",
    "green": "00FF00",
    "blue": "0000FF",
    "cyan": "00FFFF",
    "magenta": "FF00FF",
    "yellow": "FFFF00",
    "gray": "FFFFFF",
    "grey": "FFFFFF",
}
"""Colors of Leica's lookup tables that have one."""

_DESCRIPTION = "./Data/Image/ImageDescription"
_XML_FILES = (".xlef", ".xlcf", ".xlif", ".xllf")


def open_images(store: ObjectStore) -> SourceImages:
    """The images of the Leica file that ``store`` names; no sample is read.

    Raises `SourceFormatError` for a damaged or truncated file, and for a project in XML that is
    not on a local disk.
    """
    what = f"{store.uri}: not a readable Leica file"
    with ExitStack() as opened, as_format_error(what), _lacking(what):
        file = _open(store, opened)
        _check_complete(file, store)
        images = [image for image in file.images if not image.is_flim]
        left_out = [image.path for image in file.images if image.is_flim]
        if not images:
            raise SourceFormatError(f"{store.uri}: a Leica file without images")
        described = tuple(_describe(image, left_out, store.uri) for image in images)
        readers = _Readers(store.uri, images, described)
        return SourceImages(
            identity=SourceIdentity(store.uri, _pins(file, store)),
            kind="lif",
            format=f"a Leica {file.type.name} file",
            images=described,
            open_image=readers.open,
            _close=opened.pop_all().close,
        )


def _open(store: ObjectStore, opened: ExitStack) -> LifFile:
    from liffile import LifFile

    name = store.uri.lower()
    if not name.endswith(_XML_FILES):
        stream = open_bounded(store, opened.enter_context(store.open("")))
        file = LifFile(cast("Any", stream), squeeze=False)
    elif isinstance(store, LocalFiles):
        file = LifFile(store.root, squeeze=False)
    else:
        raise SourceFormatError(
            f"{store.uri}: a Leica project in XML consists of many files, which are read from a "
            "local disk only; copy its folder there, or give the .lif or .lof files"
        )
    opened.callback(file.close)
    # Without it threads share the file's position, and read each other's samples in silence.
    file.set_lock(True)
    return file


def _check_complete(file: LifFile, store: ObjectStore) -> None:
    info = store.info("")
    size = info.size if info is not None else 0
    for block in file.memory_blocks.values():
        if block.offset + block.size > size and not block.frames:
            raise SourceFormatError(
                f"{store.uri}: a truncated Leica file: {size} bytes, but samples end at byte "
                f"{block.offset + block.size}"
            )


def _pins(file: LifFile, store: ObjectStore) -> Pins:
    """The file, the files that it names, and the versions of what decodes them."""
    companions = sorted(set(_companions(file)))
    decoders = ["imagecodecs", "tifffile"] if companions else []
    found = dict(pins(store, "liffile", *decoders))
    for path in companions:
        info = LocalFiles(path).info("")
        state = "absent" if info is None else f"{info.size} {info.version}"
        found[f"file {os.path.relpath(path, file.dirname)}"] = state
    return tuple(sorted(found.items()))


def _companions(file: LifFile) -> Iterator[Path]:
    for child in file.children:
        yield Path(child.filepath)
        yield from _companions(child)
    for block in file.memory_blocks.values():
        for frame in block.frames:
            yield Path(file.dirname, frame.file.replace("\\", "/"))


# --- description -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """One axis as the XML describes it: position of the first sample, and step, in ``unit``."""

    length: int
    origin: Decimal | None
    step: Decimal | None
    unit: str
    stride: int


def _describe(image: Any, left_out: Sequence[str], uri: str) -> ImageDescription:
    with as_format_error(f"{uri}: the image {image.path!r} cannot be read"):
        sizes, dtype = dict(image.sizes), np.dtype(image.dtype)
        axes = _names(sizes)
        check_array(tuple(sizes.values()), dtype, uri)
        placement, notes = _placement(_read_axes(image), axes)
    channels = _channels(image, sizes)
    origins = {"axes": "DimensionDescription", "name": "Element"}
    if placement.scale:
        origins["scale"] = origins["units"] = "DimensionDescription: Length"
    if placement.translation:
        origins["translation"] = "DimensionDescription: Origin"
    if any(channel != Channel() for channel in channels):
        origins["channels"] = "ChannelDescription"
    stage = _stage(image)
    if stage:
        shown = ", ".join(f"{axis} {value:g} µm" for axis, value in stage.items())
        text = f"the position of the stage ({shown}): it is kept in the metadata"
        notes.append(Note("left out", text))
    if left_out:
        text = f"photons of lifetime images: {', '.join(map(repr, left_out))}"
        notes.append(Note("left out", text))
    return ImageDescription(
        name=image.path,
        axes=axes,
        shape=tuple(sizes.values()),
        dtype=dtype.str,
        placement=placement,
        channels=channels,
        origins=origins,
        notes=tuple(notes),
        metadata=_kept(image, stage),
    )


def _names(sizes: dict[str, int]) -> tuple[str, ...]:
    """The axes' names; c is the axis of channels, or of colors where there is one channel."""
    names = {**AXES, "S": "sample" if sizes.get("C", 1) > 1 else "c"}
    if "S" in sizes:
        names["C"] = "c" if sizes.get("C", 1) > 1 else "channel"
    return tuple(names.get(dim, dim.lower()) for dim in sizes)


def _read_axes(image: Any) -> dict[str, _Axis]:
    """Axes that have values, by liffile's letter."""
    found = {}
    for each in image.xml_element.findall(f"{_DESCRIPTION}/Dimensions/DimensionDescription"):
        letter = _NUMBERS.get(int(each.get("DimID")))
        if letter is None:
            continue
        length, count = decimal(each.get("Length")), int(each.get("NumberOfElements"))
        # Length is the distance between the centres of the first and the last sample.
        step = length / (count - 1) if length is not None and count > 1 else None
        found[letter] = _Axis(
            count,
            decimal(each.get("Origin")),
            step,
            each.get("Unit", ""),
            int(each.get("BytesInc")),
        )
    return found


def _placement(found: dict[str, _Axis], axes: tuple[str, ...]) -> tuple[Placement, list[Note]]:
    scale, units, translation, notes = {}, {}, {}, []
    for letter, axis in found.items():
        name = AXES[letter]
        factor, unit = {"m": (MICRO, "micrometer"), "s": (Decimal(1), "second")}.get(
            axis.unit, (Decimal(1), None)
        )
        if name not in axes or name not in AXIS_ORDER or not axis.step:
            continue
        scale[name] = _plain(abs(axis.step) * factor)
        if unit is not None:
            units[name] = unit
        if axis.step < 0:
            text = f"the direction of {name}: its positions fall from sample to sample"
            notes.append(Note("left out", text))
        # LAS X writes noise such as 1.4e-20 m for none.
        elif axis.origin is not None and abs(axis.origin) > axis.step / 10**6:
            translation[name] = _plain(axis.origin * factor)
    return Placement(scale, units, translation), notes


def _kept(image: Any, stage: dict[str, float]) -> dict[str, Any]:
    """Where the stage was, and what the positions on a spectral axis mean, in nanometers."""
    kept: dict[str, Any] = {"stage_position": stage} if stage else {}
    for letter, axis in _read_axes(image).items():
        if letter in "λΛ" and axis.step is not None and axis.origin is not None:
            first, step = (_plain(value * MICRO * 1000) for value in (axis.origin, axis.step))
            kept[AXES[letter]] = {"first": first, "step": step, "unit": "nanometer"}
    return kept


def _plain(value: Decimal) -> float:
    return float(f"{value:.15g}")


def _stage(image: Any) -> dict[str, float]:
    """Position of the stage in micrometers, if the file has one for the image."""
    scan = image.tilescan
    if scan is None or len(scan) != 1:
        return {}
    tile = scan[0]
    return {axis: _plain(Decimal(repr(float(tile[f"pos_{axis}"]))) * MICRO) for axis in "xyz"}


def _channels(image: Any, sizes: dict[str, int]) -> tuple[Channel, ...]:
    if sizes.get("S", 1) > 1:
        return (*RGB, ALPHA)[: sizes["S"]] if sizes.get("C", 1) == 1 and sizes["S"] <= 4 else ()
    elements = image.xml_element.findall(f"{_DESCRIPTION}/Channels/ChannelDescription")
    elements = sorted(elements, key=lambda each: int(each.get("BytesInc")))
    if len(elements) != sizes.get("C", 1):
        return ()
    names = [str(name) for name in image.coords.get("C", ())]
    names = names if len(names) == len(elements) else [""] * len(elements)
    return tuple(
        Channel(_own_name(name) or _dye(each), _LUTS.get(str(each.get("LUTName")).lower()))
        for name, each in zip(names, elements, strict=True)
    )


def _own_name(name: str) -> str | None:
    """A channel's name, unless liffile made it up (``Ch0``)."""
    return None if re.fullmatch(r"(Ch\d+)?", name) else name


def _dye(channel: Any) -> str | None:
    for each in channel.findall("ChannelProperty"):
        if each.findtext("Key") == "DyeName":
            return (each.findtext("Value") or "").removeprefix("Leica/") or None
    return None


@contextmanager
def _lacking(what: str) -> Iterator[None]:
    """A file that a project names and that is not there: liffile's error names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceFormatError(f"{what}: {error}") from error


# --- samples -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Readers:
    """Opens the samples of the images of one file.

    One thread at a time reads: a project's files are opened by liffile as they are needed, each
    with a lock of its own that nobody sets.
    """

    uri: str
    images: Sequence[Any]
    described: tuple[ImageDescription, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, number: int) -> Samples:
        image, described = self.images[number], self.described[number]
        what = f"{self.uri}: the image {described.name!r} cannot be read"
        with as_format_error(what), _lacking(what):
            _check_size(image)
            letters = tuple(image.sizes)
            frame = tuple(letters.index(dim) for dim in image.frames.frame_sizes)
            if _has_padded_rows(image):
                # liffile's frames would be skewed; its whole image is right.
                frame = tuple(range(len(letters)))
        outer = [dim for i, dim in enumerate(letters) if i not in frame]
        read = self._frames(image, outer) if outer else self._whole(image)
        dtype = np.dtype(described.dtype)
        data = FrameArray(described.shape, dtype, frame, read, DecodedCache())
        reader = Reader(data, self.uri, described.shape, dtype)
        return Samples(reader, data.read_unit)

    def _whole(self, image: Any) -> Callable[[Shape], Block]:
        def read(_position: Shape) -> Block:
            with self.lock:
                return np.asarray(image.asarray())

        return read

    def _frames(self, image: Any, outer: Sequence[str]) -> Callable[[Shape], Block]:
        def read(position: Shape) -> Block:
            with self.lock:
                return np.asarray(image.frame(**dict(zip(outer, position, strict=True))))

        return read


def _check_size(image: Any) -> None:
    """Compare what an image claims with the bytes that are there, before memory is taken."""
    block = image.memory_block
    samples = int(np.prod(tuple(image.sizes.values()), dtype=object))
    needed = samples * np.dtype(image.dtype).itemsize
    if not block.frames and block.size < needed:
        raise ValueError(f"its samples are {needed} bytes, but {block.size} are in the file")


def _has_padded_rows(image: Any) -> bool:
    """Whether rows of color pixels are followed by bytes that are none."""
    found = _read_axes(image)
    row, pixel = found.get("Y"), found.get("X")
    if "S" not in image.sizes or row is None or pixel is None:
        return False
    return row.stride > pixel.stride and bool(row.stride % (pixel.stride * pixel.length))
