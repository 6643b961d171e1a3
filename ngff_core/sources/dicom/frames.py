"""Frames of DICOM files as numpy arrays: found in the file, decoded, brought to gray or RGB."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError, TransientError
from ngff_core.geometry import Shape
from ngff_core.sources.codestreams import check_claimed
from ngff_core.sources.contract import Note
from ngff_core.sources.dicom.headers import Instance, inflated_content
from ngff_core.storage import LocalFiles

_UID = "1.2.840.10008.1.2"
_NATIVE = {_UID, f"{_UID}.1", f"{_UID}.1.99", f"{_UID}.2", f"{_UID}.1.98"}
_JPEG = {f"{_UID}.4.{n}" for n in (50, 51, 57, 70)}
_JPEG_LS = {f"{_UID}.4.{n}" for n in (80, 81)}
_JPEG_2000 = {f"{_UID}.4.{n}" for n in (90, 91, 92, 93, 201, 202, 203)}
_RLE = {f"{_UID}.5"}
_MOST_RATIO = 1032
"""Deflate makes no more out of a byte than this."""
_ITEM = b"\xfe\xff\x00\xe0"
"""Tag of an item, as it is written."""
_BEGINS_IMAGE = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
"""What a JPEG or JPEG-LS image, a JPEG 2000 codestream and a JPEG 2000 file begin with."""
_HEAD = max(map(len, _BEGINS_IMAGE))
_JFIF = re.compile(rb"\xff\xd8\xff\xe0..JFIF\0", re.DOTALL)
"""A JPEG of that kind is YCbCr, whatever the header says."""
_ADOBE = b"\xff\xee\x00\x0eAdobe"

_GRAY = ("MONOCHROME1", "MONOCHROME2")
_RGB = ("RGB", "YBR_ICT", "YBR_RCT")
"""JPEG 2000 undoes its own color transforms."""
_YBR = ("YBR_FULL", "YBR_FULL_422")
_FLOATS = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of one file, all of one shape and dtype; several threads read at once.

    Attributes
    ----------
    shape
        ``(rows, columns)`` of gray frames, ``(rows, columns, 3)`` of those in color.
    dtype
        Of the samples after masking and expanding.
    notes
        What is converted.
    """

    instance: Instance
    shape: Shape
    dtype: np.dtype[Any]
    notes: tuple[Note, ...] = ()
    _opening: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, instance: Instance) -> Frames:
        """What the header says; nothing is decoded. Raises `SourceFormatError` if not readable."""
        check_syntax(instance)
        _check_count(instance)
        rows, columns = instance.count("Rows"), instance.count("Columns")
        if instance.element.keyword in _FLOATS:
            return cls(
                instance,
                (rows, columns),
                np.dtype(_order(instance) + _FLOATS[instance.element.keyword]),
            )
        kind = _photometric(instance)
        dtype = _stored_dtype(instance)
        if kind == "PALETTE COLOR":
            bits = int(instance.get("RedPaletteColorLookupTableDescriptor")[2])
            text = "colors of a palette are expanded to red, green and blue"
            note = (Note("converted", text),)
            return cls(instance, (rows, columns, 3), np.dtype("u1" if bits <= 8 else "u2"), note)
        if kind in _GRAY:
            return cls(instance, (rows, columns), dtype, _gray_notes(kind))
        notes: tuple[Note, ...] = ()
        if kind in _YBR:
            notes = (Note("converted", f"{kind} samples are read as red, green and blue"),)
            dtype = np.dtype("u1")
        return cls(instance, (rows, columns, 3), dtype, notes)

    def read(self, number: int) -> Block:
        """One frame, decoded."""
        data = self._encoded(number)
        if self.instance.element.keyword in _FLOATS:
            return np.frombuffer(data, self.dtype).reshape(self.shape)
        samples = self._decoded(data, number)
        return self._in_color(samples).astype(self.dtype, copy=False)

    def check(self) -> None:
        """Refuse a file that ends before its last frame."""
        instance = self.instance
        if self.is_encapsulated:
            self._range(instance.frames - 1)
            return
        needed = math.ceil(instance.frames * self._bits / 8)
        length = instance.element.length or 0
        end = instance.element.offset + needed
        size = len(self._content) if instance.deflated else instance.info.size
        if length < needed or size < end:
            there = min(length, max(0, size - instance.element.offset))
            raise SourceFormatError(
                f"{instance.store.uri}: truncated: {there} of the {needed} bytes of its samples"
            )

    # --- bytes of a frame --------------------------------------------------------------

    @property
    def is_encapsulated(self) -> bool:
        """Whether frames are compressed, each by itself."""
        return self.instance.syntax not in _NATIVE

    @cached_property
    def _bits(self) -> int:
        """Bits of an uncompressed frame."""
        i = self.instance
        per_sample = i.count("BitsAllocated")
        if i.element.keyword in _FLOATS:
            per_sample = self.dtype.itemsize * 8
        samples = i.count("SamplesPerPixel", 1)
        if _photometric(i) == "YBR_FULL_422" and not self.is_encapsulated:
            samples = 2
        return self.shape[0] * self.shape[1] * samples * per_sample

    def _encoded(self, number: int) -> bytes:
        if self.is_encapsulated:
            start, stop = self._range(number)
            return _contents(self._part(start, stop - start), self.instance.store.uri)
        if self._bits % 8 == 0 and self.instance.count("BitsAllocated", 8) != 1:
            size = self._bits // 8
            start = self.instance.element.offset + number * size
            # Swapped words of 16 bits: an odd frame begins in the middle of one.
            if self._swapped:
                return self._swapped_part(start, size)
            return self._part(start, size)
        first = number * self._bits
        start, stop = first // 8, -(-(first + self._bits) // 8)
        return self._part(self.instance.element.offset + start, stop - start)

    @property
    def _swapped(self) -> bool:
        """Whether samples of 8 bits lie in words of 16, the second one first."""
        i = self.instance
        return i.big_endian and i.element.vr == "OW" and i.count("BitsAllocated") <= 8

    def _swapped_part(self, start: int, size: int) -> bytes:
        offset = start - self.instance.element.offset
        first = offset - offset % 2
        length = size + (offset - first)
        data = self._part(self.instance.element.offset + first, length + length % 2)
        words = np.frombuffer(data, "u2").byteswap().tobytes()
        return words[offset - first : offset - first + size]

    def _part(self, start: int, size: int) -> bytes:
        instance = self.instance
        data = self._content[start : start + size] if instance.deflated else None
        if data is None:
            data = instance.store.read_part("", start, size) or b""
        if len(data) < size:
            message = f"{instance.store.uri}: truncated: {len(data)} of {size} bytes read"
            kind = SourceFormatError if isinstance(instance.store, LocalFiles) else TransientError
            raise kind(message)
        return data

    @cached_property
    def _content(self) -> bytes:
        """All of a deflated file, which cannot be read in parts."""
        with self._opening:
            data = self.instance.store.read("") or b""
            return inflated_content(data, self.instance.store.uri)

    def _range(self, number: int) -> tuple[int, int]:
        """Where the items of a frame begin and end."""
        if number >= len(self._ranges):
            raise SourceFormatError(
                f"{self.instance.store.uri}: truncated: {len(self._ranges)} of "
                f"{self.instance.frames} frames are complete"
            )
        return self._ranges[number]

    @cached_property
    def _ranges(self) -> list[tuple[int, int]]:
        with self._opening:
            return _find_ranges(self.instance)

    # --- samples of a frame ------------------------------------------------------------

    def _decoded(self, data: bytes, number: int) -> Block:
        """Samples as they are encoded: ``(rows, columns)`` or ``(rows, columns, samples)``."""
        i = self.instance
        rows, columns, samples = *self.shape[:2], i.count("SamplesPerPixel", 1)
        shape = (rows, columns) if samples == 1 else (rows, columns, samples)
        if not self.is_encapsulated:
            return self._native(data, number, shape)
        stored = _container(i)
        if i.syntax in _RLE:
            found = _rle(data, stored, (samples, rows, columns))
        else:
            check_claimed(data, math.prod(shape))
            found = _decoder(i)(data)
            if found.ndim == 3 and found.shape[0] == samples and found.shape != shape:
                found = np.moveaxis(found, 0, -1)
        if found.size != math.prod(shape):
            raise ValueError(f"a frame of shape {found.shape}, but the header says {shape}")
        return _masked(i, found.reshape(shape))

    def _native(self, data: bytes, number: int, shape: Shape) -> Block:
        i = self.instance
        if i.count("BitsAllocated") == 1:
            skipped = number * self._bits % 8
            swapped = np.frombuffer(data, "u1")
            bits = np.unpackbits(swapped, bitorder="little")[skipped:]
            return bits[: math.prod(shape)].reshape(shape)
        found = np.frombuffer(data, _container(i))
        if _photometric(i) == "YBR_FULL_422":
            return _full_chroma(found, shape)
        if len(shape) == 3 and i.count("PlanarConfiguration") == 1:
            return found.reshape(shape[2], *shape[:2]).transpose(1, 2, 0)
        return _masked(i, found.reshape(shape))

    def _in_color(self, samples: Block) -> Block:
        i = self.instance
        kind = _photometric(i)
        if kind == "PALETTE COLOR":
            return _expanded(i, samples)
        if kind in _YBR and i.syntax not in _JPEG:
            from pydicom.pixels.processing import convert_color_space

            return convert_color_space(samples, "YBR_FULL", "RGB")
        return samples


def check_syntax(instance: Instance) -> None:
    """Refuse a compression or kind of samples that is not read, by its name."""
    from pydicom.uid import UID

    known = _NATIVE | _JPEG | _JPEG_LS | _JPEG_2000 | _RLE
    if instance.syntax not in known:
        raise SourceFormatError(
            f"{instance.store.uri}: its samples are compressed as {UID(instance.syntax).name}, "
            "which is not read; dcmtk or GDCM can decompress some of these"
        )
    if instance.element.keyword in _FLOATS:
        return
    if _photometric(instance) not in (*_GRAY, *_RGB, *_YBR, "PALETTE COLOR"):
        raise SourceFormatError(
            f"{instance.store.uri}: the photometric interpretation {_photometric(instance)!r} "
            "is not read; only gray, RGB, YBR_FULL and palettes are"
        )
    samples = instance.count("SamplesPerPixel", 1)
    gray = _photometric(instance) in (*_GRAY, "PALETTE COLOR")
    if samples != (1 if gray else 3):
        raise SourceFormatError(
            f"{instance.store.uri}: {samples} samples of each pixel do not fit "
            f"{_photometric(instance)}"
        )
    if instance.count("BitsAllocated") not in (1, 8, 16, 32, 64):
        raise SourceFormatError(
            f"{instance.store.uri}: samples of {instance.count('BitsAllocated')} bits are not read"
        )


def _check_count(instance: Instance) -> None:
    """Refuse more frames than a file of this size can hold, before a table of them is made."""
    if instance.syntax not in _NATIVE:
        # An item and its header.
        smallest = 8.0
    else:
        samples = instance.count("Rows") * instance.count("Columns")
        bits = instance.count("BitsAllocated", 32)
        smallest = samples * bits / 8 / (_MOST_RATIO if instance.deflated else 1)
    if instance.frames > 1 and instance.frames * smallest > instance.info.size:
        raise SourceFormatError(
            f"{instance.store.uri}: truncated: {instance.info.size} bytes cannot hold the "
            f"{instance.frames} frames that its header asks for"
        )


def _photometric(instance: Instance) -> str:
    return str(instance.get("PhotometricInterpretation", "MONOCHROME2")).strip()


def _gray_notes(kind: str) -> tuple[Note, ...]:
    if kind != "MONOCHROME1":
        return ()
    text = "samples are as stored: lower ones are meant to be shown brighter (MONOCHROME1)"
    return (Note("left out", text),)


def _order(instance: Instance) -> str:
    return ">" if instance.big_endian else "<"


def _container(instance: Instance) -> np.dtype[Any]:
    """The dtype of the words that hold samples."""
    signed = instance.count("PixelRepresentation") == 1
    size = max(1, instance.count("BitsAllocated") // 8)
    return np.dtype(f"{_order(instance)}{'i' if signed else 'u'}{size}")


def _stored_dtype(instance: Instance) -> np.dtype[Any]:
    if instance.count("BitsAllocated") == 1:
        return np.dtype("u1")
    return _container(instance)


def _masked(instance: Instance, samples: Block) -> Block:
    """Only the bits that the header says are stored: old files keep overlays in the others."""
    container = _container(instance)
    allocated = container.itemsize * 8
    stored = instance.count("BitsStored", allocated)
    high = instance.count("HighBit", stored - 1)
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        raise ValueError(f"{stored} bits stored, the highest in bit {high} of {allocated}")
    if samples.dtype.kind not in "iu":
        raise ValueError(f"samples of type {samples.dtype}")
    if stored == allocated:
        return samples.astype(container, copy=False)
    # A shift to the left drops the bits above, one to the right fills in the sign.
    up = allocated - 1 - high if instance.syntax in _NATIVE else allocated - stored
    native = container.newbyteorder("=")
    shifted: Block = np.left_shift(samples.astype(native), native.type(up))
    shifted >>= native.type(allocated - stored)
    return shifted.astype(container, copy=False)


def _full_chroma(samples: Block, shape: Shape) -> Block:
    """Y0, Y1, Cb, Cr of each two pixels as three samples of each."""
    rows, columns, _ = shape
    pairs = samples.reshape(rows, columns // 2, 4)
    result = np.empty((rows, columns // 2, 2, 3), samples.dtype)
    result[..., 0] = pairs[..., :2]
    result[..., 1:] = pairs[..., None, 2:]
    return result.reshape(shape)


def _expanded(instance: Instance, samples: Block) -> Block:
    from pydicom.pixels.processing import apply_color_lut

    return apply_color_lut(np.ascontiguousarray(samples), instance.header)[..., :3]


def _rle(data: bytes, container: np.dtype[Any], shape: Shape) -> Block:
    import imagecodecs

    little = container.newbyteorder("<")
    flat = np.frombuffer(imagecodecs.dicomrle_decode(data, little), little)
    return np.moveaxis(flat.reshape(shape), 0, -1)


def _decoder(instance: Instance) -> Callable[[bytes], Block]:
    import imagecodecs

    if instance.syntax in _JPEG_2000:
        return imagecodecs.jpeg2k_decode
    if instance.syntax in _JPEG_LS:
        return imagecodecs.jpegls_decode
    if _photometric(instance) in _GRAY or instance.count("SamplesPerPixel", 1) == 1:
        return imagecodecs.jpeg_decode
    return lambda data: _color_jpeg(data, _photometric(instance))


def _color_jpeg(data: bytes, kind: str) -> Block:
    """A color JPEG as RGB. Its own markers say what it holds, else the header does."""
    import imagecodecs

    at = data.find(_ADOBE, 0, 1 << 12)
    if _JFIF.match(data):
        is_rgb = False
    else:
        is_rgb = data[at + 15] == 0 if at >= 0 and len(data) > at + 15 else kind == "RGB"
    source = "RGB" if is_rgb else "YCBCR"
    found: Block = imagecodecs.jpeg_decode(data, colorspace=source, outcolorspace="RGB")
    return found


# --- where the frames of an encapsulated element lie -----------------------------------


def _find_ranges(instance: Instance) -> list[tuple[int, int]]:
    """For each frame where its first item begins and its last one ends, by a table or by walking.

    Fewer than there are frames in a truncated file.
    """
    store, size = instance.store, instance.info.size
    item = store.read_part("", instance.element.offset, 8) or b""
    length = int.from_bytes(item[4:8], "little")
    begin = instance.element.offset + 8 + length
    if item[:4] != _ITEM or begin > size:
        raise SourceFormatError(f"{store.uri}: truncated, or its samples have no offset table")
    count = instance.frames
    table = _table(instance, length)
    if len(table) == count and count > 1:
        starts = [begin + offset for offset in table]
        ends = [*starts[1:], size]
        with store.open("") as file:
            last = _walk(file, starts[-1], size)
        is_complete = bool(last.items) and not last.is_cut
        return list(zip(starts, ends, strict=True))[: count if is_complete else count - 1]
    with store.open("") as file:
        walked = _walk(file, begin, size)
    return _frames_of(walked, count, store.uri)


def _frames_of(walked: _Walked, count: int, uri: str) -> list[tuple[int, int]]:
    """Which items make up each frame, where no table says so."""
    items = walked.items
    if count == 1:
        # A decoder may make up the samples of items that are not there.
        return [] if walked.is_cut or not items else [(items[0][0], items[-1][1])]
    if len(items) <= count:
        return items
    first = [number for number, head in enumerate(walked.heads) if head.startswith(_BEGINS_IMAGE)]
    if len(first) != count or first[0] != 0:
        raise SourceFormatError(
            f"{uri}: {len(items)} fragments of {count} frames, and nothing that says which "
            "belong together"
        )
    last = [number - 1 for number in (*first[1:], len(items))]
    frames = [(items[a][0], items[b][1]) for a, b in zip(first, last, strict=True)]
    return frames[: count - 1 if walked.is_cut else count]


def _table(instance: Instance, length: int) -> list[int]:
    """Offsets of the frames, by the extended table or the basic one; often there is none."""
    extended = instance.get("ExtendedOffsetTable")
    if extended is not None:
        return [int(n) for n in np.frombuffer(extended, "<u8")]
    if length != 4 * instance.frames:
        return []
    data = instance.store.read_part("", instance.element.offset + 8, length) or b""
    return [int(n) for n in np.frombuffer(data, "<u4")]


@dataclass(frozen=True)
class _Walked:
    """The items of an encapsulated element, up to its delimiter or the end of the file.

    Attributes
    ----------
    items
        Where each complete one begins and ends.
    heads
        The first bytes of what is in each.
    is_cut
        Whether the file ends within another one.
    """

    items: list[tuple[int, int]]
    heads: list[bytes]
    is_cut: bool


def _walk(file: Any, start: int, size: int) -> _Walked:
    items: list[tuple[int, int]] = []
    heads: list[bytes] = []
    while True:
        file.seek(start)
        item = file.read(8 + _HEAD)
        end = start + 8 + int.from_bytes(item[4:8], "little")
        if item[:4] != _ITEM or end > size:
            return _Walked(items, heads, is_cut=item[:4] == _ITEM)
        items.append((start, end))
        heads.append(item[8:])
        start = end


def _contents(items: bytes, uri: str) -> bytes:
    """What is in the items, without their headers and what follows them."""
    parts, at = [], 0
    while items[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(items[at + 4 : at + 8], "little")
        parts.append(items[at + 8 : end])
        at = end
    if not parts or at > len(items):
        raise SourceFormatError(f"{uri}: damaged: a frame does not lie where its table says")
    return b"".join(parts)
