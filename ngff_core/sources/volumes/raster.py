"""Samples in C order behind a header, plain or deflated, in its file or in one beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ngff_core.blocks import ArrayLike
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import Reader, check_array
from ngff_core.sources.contract import Pins, Samples
from ngff_core.sources.gzip_tape import GzipTape, TapeArray
from ngff_core.sources.ranged import end_of_array, ranged_array, ranged_unit
from ngff_core.storage import ObjectInfo, ObjectStore

Packing = Literal["raw", "gzip", "zlib"]


@dataclass(frozen=True)
class Raster:
    """Where the samples of an image lie.

    Attributes
    ----------
    store
        The file.
    begin
        Bytes of the file before the samples, or before the deflated stream.
    shape, dtype
        Of the samples, slowest axis first.
    packing
        How the bytes from ``begin`` on are stored.
    skip
        Inflated bytes before the first sample.
    """

    store: ObjectStore
    begin: int
    shape: Shape
    dtype: np.dtype[Any]
    packing: Packing = "raw"
    skip: int = 0

    @property
    def length(self) -> int:
        """Bytes of all samples."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_raster(raster: Raster) -> Samples:
    """The samples, after a look at whether the file can hold as many.

    Raises `SourceFormatError` for a truncated file, and for samples that are not numbers.
    """
    uri = raster.store.uri
    check_array(raster.shape, raster.dtype, uri)
    info = info_of(raster.store)
    data: ArrayLike
    if raster.packing == "raw":
        end = end_of_array(raster.begin, raster.shape, raster.dtype)
        if info.size < end:
            raise SourceFormatError(
                f"{uri}: truncated: {info.size} bytes, but its array ends at {end}"
            )
        data = ranged_array(raster.store, raster.begin, raster.shape, raster.dtype)
        unit = ranged_unit(raster.store, raster.shape)
    else:
        tape = GzipTape(raster.store, info.size, raster.begin, raster.packing)
        tape.check_complete(raster.skip + raster.length)
        data = TapeArray(tape, raster.skip, raster.shape, raster.dtype)
        unit = data.unit()
    return Samples(Reader(data, uri, raster.shape, raster.dtype), unit)


def info_of(store: ObjectStore) -> ObjectInfo:
    """Size and version of a file that has to be there."""
    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    return info


def beside(store: ObjectStore, name: str) -> ObjectStore:
    """The file of that name in the folder of ``store``, which a header is about.

    Raises `SourceFormatError` for one that lies elsewhere, or is not there.
    """
    parts = [part for part in name.split("/") if part != "."]
    if not name or name.startswith("/") or ".." in parts or "" in parts:
        raise SourceFormatError(
            f"{store.uri}: its samples are in {name!r}, which is not below its folder; put both "
            "into one folder and correct the name in the header"
        )
    found = store.parent()
    for part in parts:
        found = found.child(part)
    if found.info("") is None:
        raise SourceFormatError(
            f"{store.uri}: the file {name}, which has its samples, is not there"
        )
    return found


def pins_of(store: ObjectStore, data: ObjectStore) -> Pins:
    """Size and version of the header's file and, if it is another one, of the samples'."""
    info = info_of(store)
    pins = [("size", str(info.size)), ("version", info.version)]
    if data.uri != store.uri:
        found = info_of(data)
        name = data.uri.rpartition("/")[2]
        pins.append((f"companion {name}", f"{found.size} {found.version}"))
    return tuple(sorted(pins))
