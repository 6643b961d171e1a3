"""NIfTI-1, NIfTI-2, Analyze 7.5 and MGH files by nibabel, compressed or not.

nibabel reads the headers; the samples are read here, in ranges, as they are stored. nibabel's
array has the index that lies fastest in the file first. Here the order is that of the file,
slowest first, so nibabel's i, j, k, t are the axes x, y, z, t by their position, whatever
direction of the body they lie along: the placement says that (see ``affine.place``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ngff_core.blocks import ArrayLike
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import ALPHA, RGB, Channel
from ngff_core.sources.affine import Geometry, place
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Placement,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.gzip_tape import GzipTape, TapeArray
from ngff_core.sources.ranged import end_of_array, ranged_array, ranged_unit
from ngff_core.storage import ObjectInfo, ObjectStore

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialHeader

_GZIP = b"\x1f\x8b"
_HEADER = 540
"""Bytes of the longest header, that of NIfTI-2."""
_MGH_OFFSET, _MGH_FIELDS, _MGH_FOOTER = 284, 90, 20
"""Bytes before the samples of an MGH file, those that mean something, and those behind them."""
_LABEL = 1002
_TIME_UNITS = {8: ("second", 1.0), 16: ("millisecond", 1.0), 24: ("microsecond", 1.0)}
_SPACE_UNITS = {1: "meter", 2: "millimeter", 3: "micrometer"}
_SPECTRAL_UNITS = (32, 40, 48)
"""Hertz, parts per million, radians per second: then the fourth axis is not time."""
_LONG_REPETITION = 100
"""Seconds between two volumes above which the unit is doubted."""


@dataclass(frozen=True)
class _File:
    """One stored file, compressed or not."""

    store: ObjectStore
    info: ObjectInfo
    tape: GzipTape | None

    def head(self, size: int) -> bytes:
        """Its first bytes, inflated; fewer if it is shorter."""
        if self.tape is not None:
            return _inflated_head(self.tape, size)
        return self.store.read_part("", 0, size) or b""


@dataclass(frozen=True)
class _Layout:
    """Where and how samples lie in a file.

    Attributes
    ----------
    axes, shape
        In the order of the file, slowest first.
    channels
        Color samples of each pixel, of which ``c`` is the axis then.
    """

    offset: int
    axes: tuple[str, ...]
    shape: Shape
    dtype: np.dtype[Any]
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True)
class _Meaning:
    """What a header says beside the layout."""

    geometry: Geometry
    origin: str
    notes: tuple[Note, ...] = ()
    labels: bool = False
    rescale: tuple[float, float] | None = None
    window: tuple[float, float] | None = None


def open_images(store: ObjectStore) -> SourceImages:
    """The image of a NIfTI, Analyze or MGH file; of a pair of files either may be given.

    Raises `SourceFormatError` for a file that is truncated, or that lacks its other half.
    """
    with as_format_error(f"{store.uri}: not a readable NIfTI, Analyze or MGH file"):
        file = _stored(store)
        if file is None:
            raise FileNotFoundError(store.uri)
        header_file, image_file = _pair(file)
        head = header_file.head(_HEADER)
        kind, header, offset = _read_header(header_file, head)
        if image_file is not header_file:
            offset = max(0, int(offset)) if kind != "an Analyze file" else 0
        layout = _layout(kind, header, offset)
        meaning = _mgh_meaning(header) if kind == "an MGH file" else _nifti_meaning(kind, header)
    return _source(kind, (header_file, image_file), layout, meaning)


# --- files -----------------------------------------------------------------------------


def _stored(store: ObjectStore) -> _File | None:
    info = store.info("")
    if info is None:
        return None
    compressed = store.read_part("", 0, 2) == _GZIP
    return _File(store, info, GzipTape(store, info.size) if compressed else None)


def _inflated_head(tape: GzipTape, size: int) -> bytes:
    """As many of the first bytes as there are: a file may be shorter than the longest header."""
    for most in (size, 352, 348):
        try:
            return bytes(tape.read(0, most))
        except SourceFormatError:
            if most == 348:
                raise
    raise AssertionError


def _pair(file: _File) -> tuple[_File, _File]:
    """The file with the header, and the one with the samples: often the same."""
    name = file.store.uri.rpartition("/")[2]
    stem, dot, compressed = name, "", ""
    if name.lower().endswith(".gz"):
        stem, dot, compressed = name[:-3], ".", name[-2:]
    base, _, ending = stem.rpartition(".")
    if ending.lower() == "hdr":
        return file, _beside(file, base, ending, ("img", "IMG"), dot + compressed)
    if ending.lower() == "img":
        return _beside(file, base, ending, ("hdr", "HDR"), dot + compressed), file
    return file, file


def _beside(file: _File, base: str, ending: str, others: tuple[str, str], suffix: str) -> _File:
    other = others[ending.isupper()]
    folder = file.store.parent()
    for each in dict.fromkeys((suffix, "", ".gz")):
        found = _stored(folder.child(f"{base}.{other}{each}"))
        if found is not None:
            return found
    raise SourceFormatError(
        f"{file.store.uri}: one of two files, and {base}.{other}{suffix} is not beside it"
    )


# --- headers ---------------------------------------------------------------------------


def _read_header(file: _File, head: bytes) -> tuple[str, SpatialHeader, int]:
    """The format in words, nibabel's header, and the bytes before the samples."""
    from nibabel.analyze import AnalyzeHeader
    from nibabel.freesurfer.mghformat import MGHHeader
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    def parsed(kind: Any, size: int) -> Any:
        if len(head) < size:
            raise SourceFormatError(f"{file.store.uri}: truncated: no complete header")
        # Without nibabel's check, which logs, repairs, and takes odd offsets for errors.
        return kind(head[:size], check=False)

    if head[344:347] in (b"n+1", b"ni1"):
        single = head[344:347] == b"n+1"
        header = parsed(Nifti1Header if single else Nifti1PairHeader, 348)
        return "a NIfTI-1 file", header, _vox_offset(header, 352 if single else 0)
    if head[4:7] in (b"n+2", b"ni2"):
        single = head[4:7] == b"n+2"
        header = parsed(Nifti2Header if single else Nifti2PairHeader, 540)
        return "a NIfTI-2 file", header, _vox_offset(header, 544 if single else 0)
    if head[:4] == b"\0\0\0\1":
        return "an MGH file", _mgh_header(file, head, MGHHeader), _MGH_OFFSET
    if 348 in (int.from_bytes(head[:4], order) for order in ("little", "big")):
        return "an Analyze file", parsed(AnalyzeHeader, 348), 0
    raise SourceFormatError(f"{file.store.uri}: not a NIfTI, Analyze or MGH header")


def _mgh_header(file: _File, head: bytes, kind: Any) -> Any:
    """With the footer, which holds the repetition time, only where there are several frames."""
    start = head[:_MGH_FIELDS].ljust(_MGH_FIELDS, b"\0")
    header = kind(start + bytes(_MGH_FOOTER), check=False)
    shape = tuple(int(n) for n in header["dims"])
    if shape[3] < 2:
        return header
    end = end_of_array(_MGH_OFFSET, shape, header.get_data_dtype())
    if file.tape is not None:
        file.tape.check_complete(end)
        footer = _tail(file.tape, end, _MGH_FOOTER)
    else:
        footer = file.store.read_part("", end, _MGH_FOOTER) or b""
    return kind(start + footer.ljust(_MGH_FOOTER, b"\0"), check=False)


def _tail(tape: GzipTape, start: int, size: int) -> bytes:
    """Bytes behind the samples; the format does not ask for them."""
    try:
        return bytes(tape.read(start, size))
    except SourceFormatError:
        return b""


def _vox_offset(header: Any, default: int) -> int:
    """nibabel takes 0 in a single file for the end of the header; so do we."""
    value = float(header["vox_offset"])
    return int(value) if math.isfinite(value) and value > 0 else default


def _layout(kind: str, header: Any, offset: int) -> _Layout:
    dtype = np.dtype(header.get_data_dtype())
    if kind == "an MGH file":
        dims = tuple(int(n) for n in header["dims"])
        axes = _mgh_axes(header)[: 4 if dims[3] > 1 else 3]
    else:
        dims = tuple(int(n) for n in header["dim"][1 : 1 + int(header["dim"][0])])
        axes = _nifti_axes(kind, header)[: len(dims)]
    shape = dims[: len(axes)]
    # Axes of length 1 behind the third only separate the vector from the space.
    kept = [i for i in range(len(axes)) if i < 3 or shape[i] != 1]
    names = tuple(axes[i] for i in reversed(kept))
    shape = tuple(shape[i] for i in reversed(kept))
    if dtype.names is not None:
        count = len(dtype.names)
        channels = RGB if count == 3 else (*RGB, ALPHA)
        return _Layout(offset, (*names, "c"), (*shape, count), np.dtype("u1"), channels)
    return _Layout(offset, names, shape, dtype)


def _nifti_axes(kind: str, header: Any) -> tuple[str, ...]:
    if kind == "an Analyze file":
        return ("x", "y", "z", "t", UNNAMED, UNNAMED, UNNAMED)
    time = "frequency" if int(header["xyzt_units"]) & 0x38 in _SPECTRAL_UNITS else "t"
    return ("x", "y", "z", time, "vector", "dim6", "dim7")


def _mgh_axes(header: Any) -> tuple[str, ...]:
    """Frames are volumes of a time series where the header has a repetition time."""
    return ("x", "y", "z", "t" if _tr(header) else UNNAMED)


# --- meaning ---------------------------------------------------------------------------


def _nifti_meaning(kind: str, header: Any) -> _Meaning:
    if kind == "an Analyze file":
        return _analyze_meaning(header)
    geometry, origin = _nifti_geometry(header)
    rescale = _rescale(float(header["scl_slope"]), float(header["scl_inter"]))
    time, notes = _time(header)
    placement = geometry.placement
    placement = replace(
        placement,
        scale={**placement.scale, **time.scale},
        units={**placement.units, **time.units},
        translation={**placement.translation, **time.translation},
    )
    return _Meaning(
        geometry=replace(geometry, placement=placement),
        origin=origin,
        notes=notes,
        labels=int(header["intent_code"]) == _LABEL,
        rescale=rescale,
        window=_window(float(header["cal_min"]), float(header["cal_max"]), rescale),
    )


def _nifti_geometry(header: Any) -> tuple[Geometry, str]:
    """By sform, else by qform, else by the sizes alone, and which it was."""
    code = int(header["xyzt_units"]) & 0x07
    unit = _SPACE_UNITS.get(code)
    notes = () if unit else (Note("unknown", "the unit of the sizes: the file names none"),)
    axes = ("x", "y", "z")
    if int(header["sform_code"]) > 0:
        geometry, origin = place(np.asarray(header.get_sform(), float), axes, unit), "sform"
    elif int(header["qform_code"]) > 0:
        geometry, origin = place(np.asarray(header.get_qform(), float), axes, unit), "qform"
    else:
        geometry, origin = _sizes_only(header["pixdim"][1:4], unit), "pixdim"
    return replace(geometry, notes=(*geometry.notes, *notes)), origin


def _sizes_only(sizes: Any, unit: str | None) -> Geometry:
    known = {
        axis: float(f"{float(size):.7g}")
        for axis, size in zip("xyz", sizes, strict=False)
        if math.isfinite(size) and size > 0
    }
    note = Note("unknown", "positions and directions in the body: the file holds sizes only")
    return Geometry(Placement(known, dict.fromkeys(known, unit) if unit else {}), (note,))


def _time(header: Any) -> tuple[Placement, tuple[Note, ...]]:
    if int(header["dim"][0]) < 4 or int(header["dim"][4]) < 2:
        return Placement(), ()
    step, start = float(header["pixdim"][4]), float(header["toffset"])
    code = int(header["xyzt_units"]) & 0x38
    if code in _SPECTRAL_UNITS or not (math.isfinite(step) and step > 0):
        return Placement(), ()
    unit = _TIME_UNITS.get(code, (None, 1.0))[0]
    notes: tuple[Note, ...] = ()
    if unit is None:
        notes = (Note("unknown", "the unit of time: the file names none"),)
    elif unit == "second" and step > _LONG_REPETITION:
        text = (
            f"the file says {step:g} seconds between two volumes, which is kept; they are probably "
            "milliseconds (--units t=millisecond)"
        )
        notes = (Note("assumed", text),)
    units = {"t": unit} if unit else {}
    moved = {"t": start} if math.isfinite(start) else {}
    return Placement({"t": float(f"{step:.7g}")}, units, moved), notes


def _analyze_meaning(header: Any) -> _Meaning:
    """Analyze 7.5 holds sizes; programs disagree on whether x grows to the left or right."""
    geometry = _sizes_only(header["pixdim"][1:4], "millimeter")
    note = Note("assumed", "the unit of the sizes is millimeter, as it is in Analyze files")
    # Bytes that SPM writes a scale factor to; the format itself has none.
    slope = float(np.frombuffer(header.binaryblock[112:116], header.endianness + "f4")[0])
    rescale = _rescale(slope, 0.0)
    return _Meaning(geometry, "pixdim", (note,), rescale=rescale)


def _mgh_meaning(header: Any) -> _Meaning:
    if int(header["goodRASFlag"]) > 0:
        geometry = place(np.asarray(header.get_affine(), float), ("x", "y", "z"), "millimeter")
    else:
        geometry = _sizes_only(header["delta"], "millimeter")
    tr = _tr(header)
    if tr:
        placement = geometry.placement
        placement = replace(
            placement,
            scale={**placement.scale, "t": tr},
            units={**placement.units, "t": "millisecond"},
        )
        geometry = replace(geometry, placement=placement)
    return _Meaning(geometry, "header")


def _tr(header: Any) -> float:
    """Milliseconds between two frames; 0 where the header does not say."""
    value = float(header["tr"]) if int(header["dims"][3]) > 1 else 0.0
    return float(f"{value:.7g}") if math.isfinite(value) and value > 0 else 0.0


def _rescale(slope: float, intercept: float) -> tuple[float, float] | None:
    """The linear scale of the samples; None where there is none, which 0 means too."""
    if not math.isfinite(slope) or slope == 0:
        return None
    intercept = intercept if math.isfinite(intercept) else 0.0
    return None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)


def _window(
    low: float, high: float, rescale: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The range to show, in stored numbers; the header has it in scaled ones."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return None
    slope, intercept = rescale or (1.0, 0.0)
    first, second = sorted(((low - intercept) / slope, (high - intercept) / slope))
    return first, second


# --- the image -------------------------------------------------------------------------


def _source(
    kind: str, files: tuple[_File, _File], layout: _Layout, meaning: _Meaning
) -> SourceImages:
    header_file, file = files
    uri = header_file.store.uri
    if any(n < 0 for n in layout.shape):
        raise SourceFormatError(f"{uri}: an array of shape {layout.shape}")
    check_array(layout.shape, layout.dtype, uri)
    data, unit = _samples(file, layout)
    reader = Reader(data, file.store.uri, layout.shape, layout.dtype)
    return SourceImages(
        identity=SourceIdentity(uri, _pins(files)),
        kind="nifti",
        format=kind,
        images=(_describe(layout, meaning),),
        open_image=lambda _number: Samples(reader, unit),
    )


def _samples(file: _File, layout: _Layout) -> tuple[ArrayLike, Shape]:
    end = end_of_array(layout.offset, layout.shape, layout.dtype)
    if file.tape is not None:
        file.tape.check_complete(end)
        array = TapeArray(file.tape, layout.offset, layout.shape, layout.dtype)
        return array, array.unit()
    if file.info.size < end:
        raise SourceFormatError(
            f"{file.store.uri}: truncated: {file.info.size} bytes, but its array ends at {end}"
        )
    data = ranged_array(file.store, layout.offset, layout.shape, layout.dtype)
    return data, ranged_unit(file.store, layout.shape)


def _describe(layout: _Layout, meaning: _Meaning) -> ImageDescription:
    placement = meaning.geometry.placement
    metadata, notes = dict(meaning.geometry.metadata), [*meaning.geometry.notes, *meaning.notes]
    if meaning.rescale is not None:
        slope, intercept = meaning.rescale
        metadata["rescale"] = {"slope": slope, "intercept": intercept}
        notes.append(rescale_note(slope, intercept))
    channels = layout.channels
    if not channels and meaning.window is not None:
        channels = (Channel(window=meaning.window),)
    return ImageDescription(
        name=None,
        axes=layout.axes,
        shape=layout.shape,
        dtype=layout.dtype.str,
        placement=_only(placement, layout.axes),
        channels=channels,
        labels=meaning.labels,
        origins=dict.fromkeys(("scale", "translation", "orientations"), meaning.origin),
        notes=tuple(notes),
        metadata=metadata,
    )


def rescale_note(slope: float, intercept: float) -> Note:
    """That samples are kept as they are stored, and how to get the numbers they stand for."""
    text = (
        f"samples are as stored; the numbers they stand for are {slope:g} * sample "
        f"{intercept:+g} (rescale in the metadata)"
    )
    return Note("left out", text)


def _only(placement: Placement, axes: tuple[str, ...]) -> Placement:
    def kept[T](values: Mapping[str, T]) -> dict[str, T]:
        return {axis: value for axis, value in values.items() if axis in axes}

    return Placement(
        kept(placement.scale),
        kept(placement.units),
        kept(placement.translation),
        kept(placement.orientations),
    )


def _pins(files: tuple[_File, _File]) -> tuple[tuple[str, str], ...]:
    header, samples = files
    pins = [
        ("reader", f"nibabel {version('nibabel')}"),
        ("size", str(header.info.size)),
        ("version", header.info.version),
    ]
    if samples is not header:
        name = samples.store.uri.rpartition("/")[2]
        pins.append((f"file {name}", f"{samples.info.size} {samples.info.version}"))
    return tuple(sorted(pins))
