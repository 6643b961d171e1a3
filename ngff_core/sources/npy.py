"""Files written by ``numpy.save``, read in ranges of bytes."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import Reader, as_format_error, check_array
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.ranged import end_of_array, ranged_array, ranged_unit
from ngff_core.storage import ObjectInfo, ObjectStore

_MAX_HEADER = 1 << 16
"""Largest header in bytes. numpy's limit is 10 000; a plain dtype needs a few hundred."""


@dataclass(frozen=True)
class _Header:
    """Where the samples of a .npy file begin, and their layout."""

    offset: int
    """Bytes before the first sample."""
    shape: Shape
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def end(self) -> int:
        """Bytes of a complete file."""
        return end_of_array(self.offset, self.shape, self.dtype)


def open_images(store: ObjectStore) -> SourceImages:
    """The array in the .npy file that ``store`` names; only its header is read.

    Raises `SourceFormatError` for a truncated file, and for samples that are not numbers.
    """
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    header = _read_header(store)
    check_array(header.shape, header.dtype, store.uri)
    if info.size < header.end:
        raise SourceFormatError(
            f"{store.uri}: truncated: {info.size} bytes, but its array ends at {header.end}"
        )
    data = ranged_array(store, header.offset, header.shape, header.dtype, header.fortran)
    reader = Reader(data, store.uri, header.shape, header.dtype)
    unit = ranged_unit(store, header.shape, header.fortran)
    image = ImageDescription(
        name=None,
        axes=(UNNAMED,) * len(header.shape),
        shape=header.shape,
        dtype=header.dtype.str,
    )
    return SourceImages(
        identity=_identity(store, info),
        kind="npy",
        format="a NumPy file",
        images=(image,),
        open_image=lambda _: Samples(reader, unit),
    )


def _read_header(store: ObjectStore) -> _Header:
    with as_format_error(f"{store.uri}: not a readable .npy header"), store.open("") as file:
        start = file.read(12)
        major = start[6]
        # The header's length has two bytes in version 1, four in later versions.
        width = 2 if major == 1 else 4
        length = int.from_bytes(start[8 : 8 + width], "little")
        if major > 3 or length > _MAX_HEADER:
            raise ValueError(f"version {major} with a header of {length} bytes")
        file.seek(8 + width)
        text = file.read(length)
        if len(text) < length:
            raise ValueError(f"truncated: {len(text)} bytes of a header of {length}")
        return _parse_header(text.decode("utf-8" if major == 3 else "latin1"), 8 + width + length)


def _parse_header(text: str, offset: int) -> _Header:
    content = ast.literal_eval(text.strip())
    shape = tuple(int(n) for n in content["shape"])
    dtype = np.lib.format.descr_to_dtype(content["descr"])
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return _Header(offset, shape, dtype, bool(content["fortran_order"]))


def _identity(store: ObjectStore, info: ObjectInfo) -> SourceIdentity:
    return SourceIdentity(store.uri, (("size", str(info.size)), ("version", info.version)))
