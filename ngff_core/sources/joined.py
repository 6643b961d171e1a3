"""Files that are one image together: each holds the samples at one position of some axes."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.model.channels import Channel
from ngff_core.sources.base import Reader
from ngff_core.sources.choose import choose_image
from ngff_core.sources.contract import (
    UNNAMED,
    ImageDescription,
    Note,
    Samples,
    SourceIdentity,
    SourceImages,
)
from ngff_core.sources.pattern import FileGrid, Pattern, arrange
from ngff_core.storage import ObjectInfo, ObjectStore, for_each

_OPEN = 64
"""Files that are open at the same time at most."""

Open = Callable[[ObjectStore], SourceImages]


def open_joined(folder: ObjectStore, pattern: Pattern, open_file: Open) -> SourceImages:
    """The images that the files matching ``pattern`` below ``folder`` make.

    The head of every file is read once, and all files of an image must have the same axes,
    shape and dtype. Raises `SourceFormatError` for missing and for differing files, by name.
    """
    listing = folder.objects()
    grids = arrange(pattern, listing, folder.uri)
    pools = [_Files(folder, grid, open_file) for grid in grids]
    images: list[ImageDescription] = []
    try:
        images.extend(pool.describe() for pool in pools)
    except BaseException:
        for pool in pools:
            pool.close()
        raise
    uri = f"{folder.uri}/{pattern.text}"

    def open_image(number: int) -> Samples:
        pool = pools[number]
        image = images[number]
        reader = Reader(pool, uri, image.shape, np.dtype(image.dtype))
        return Samples(reader, (1,) * len(pool.grid.axes) + pool.unit)

    def close() -> None:
        for pool in pools:
            pool.close()

    return SourceImages(
        identity=SourceIdentity(uri, _pins(grids, listing, pools)),
        kind="files",
        format=f"{sum(len(grid.keys) for grid in grids)} files, {pools[0].format} and alike",
        images=tuple(images),
        open_image=open_image,
        _close=close,
    )


def _pins(
    grids: tuple[FileGrid, ...], listing: Mapping[str, ObjectInfo], pools: list[_Files]
) -> tuple[tuple[str, str], ...]:
    digest = hashlib.sha256()
    for grid in grids:
        for key in grid.keys.values():
            info = listing[key]
            digest.update(f"{key}\0{info.size}\0{info.version}\n".encode())
    readers = {pin for pool in pools for pin in pool.readers}
    return (("files", digest.hexdigest()), *sorted(readers))


@dataclass(frozen=True)
class _Member:
    """What must be the same in all files of an image."""

    axes: tuple[str, ...]
    shape: Shape
    dtype: str


class _Files:
    """The files of one image as one array; the joined axes come first.

    Files are opened when they are needed, and the ones used last stay open.
    """

    def __init__(self, folder: ObjectStore, grid: FileGrid, open_file: Open) -> None:
        self.grid = grid
        self.unit: Shape = ()
        self.format = ""
        self.readers: tuple[tuple[str, str], ...] = ()
        self._folder = folder
        self._open_file = open_file
        self._lock = threading.Lock()
        self._opened: OrderedDict[str, _Opened] = OrderedDict()
        self._keep: tuple[int, ...] = ()

    def describe(self) -> ImageDescription:
        """The image, after a look at the head of every file."""
        keys = list(self.grid.keys.values())
        with self._open(keys[0]) as first:
            image = first.images[choose_image(first, None)]
            self.format = first.format
            self.readers = tuple(p for p in first.identity.pins if p[0] == "reader")
            expected = _member(image)
            self._keep = self._kept(image, keys[0])
            samples = first.open_image(choose_image(first, None))
            self.unit = tuple(samples.read_unit[i] for i in self._keep)

        def check(key: str) -> None:
            with self._open(key) as opened:
                found = _member(opened.images[choose_image(opened, None)])
            if found != expected:
                raise SourceFormatError(
                    f"{self._folder.uri}/{key}: {_text(found)}, but {keys[0]}: {_text(expected)}; "
                    "files of one image must be alike"
                )

        for_each(self._folder, check, keys[1:])
        kept, assumed = _named(tuple(image.axes[i] for i in self._keep))
        inner = tuple(image.shape[i] for i in self._keep)
        text = f"axes {', '.join(self.grid.axes)} are joined from {len(keys)} files"
        return replace(
            image,
            name=self.grid.name or image.name,
            axes=self.grid.axes + kept,
            shape=self.grid.shape + inner,
            channels=self._channels(image),
            origins={**image.origins, "axes": f"{text}, the others from the files"},
            notes=(*image.notes, Note("converted", text), *assumed),
        )

    def _channels(self, image: ImageDescription) -> tuple[Channel, ...]:
        """Named by the files' names where they have words for channels."""
        if "c" not in self.grid.axes:
            return image.channels
        names = self.grid.values[self.grid.axes.index("c")]
        if all(name.isdecimal() for name in names):
            return ()
        return tuple(Channel(name) for name in names)

    def _kept(self, image: ImageDescription, key: str) -> tuple[int, ...]:
        """The axes of a file that stay; those that the names have must be of length 1 in it."""
        for axis, length in zip(image.axes, image.shape, strict=True):
            if axis in self.grid.axes and length > 1:
                raise SourceFormatError(
                    f"{self._folder.uri}/{key}: has {length} positions on the axis {axis} itself, "
                    f"which the pattern joins files along; leave {{{axis}}} out of it"
                )
        return tuple(i for i, axis in enumerate(image.axes) if axis not in self.grid.axes)

    def __getitem__(self, box: tuple[slice, ...]) -> Block:
        outer, inner = box[: len(self.grid.axes)], box[len(self.grid.axes) :]
        parts: Any = None
        for index in itertools.product(*(range(s.stop - s.start) for s in outer)):
            position = tuple(i + s.start for i, s in zip(index, outer, strict=True))
            part = self._read(self.grid.keys[position], inner)
            if parts is None:
                parts = np.empty((*(s.stop - s.start for s in outer), *part.shape), part.dtype)
            parts[index] = part
        return np.asarray(parts)

    def _read(self, key: str, inner: tuple[slice, ...]) -> Block:
        opened = self._take(key)
        try:
            data = opened.samples.data
            full = [slice(0, 1)] * len(data.shape)
            for axis, part in zip(self._keep, inner, strict=True):
                full[axis] = part
            dropped = tuple(i for i in range(len(full)) if i not in self._keep)
            return np.asarray(data[tuple(full)]).squeeze(axis=dropped)
        finally:
            self._give_back(opened)

    def _take(self, key: str) -> _Opened:
        with self._lock:
            found = self._opened.get(key)
            if found is None:
                source = self._open(key)
                found = _Opened(source, source.open_image(choose_image(source, None)))
                self._opened[key] = found
            self._opened.move_to_end(key)
            found.users += 1
            return found

    def _give_back(self, opened: _Opened) -> None:
        with self._lock:
            opened.users -= 1
            idle = [key for key, each in self._opened.items() if not each.users]
            for key in idle[: max(0, len(self._opened) - _OPEN)]:
                self._opened.pop(key).source.close()

    def _open(self, key: str) -> SourceImages:
        return self._open_file(self._folder.child(key))

    def close(self) -> None:
        """Close the files that are open."""
        with self._lock:
            while self._opened:
                _, opened = self._opened.popitem()
                with suppress(OSError):
                    opened.source.close()


@dataclass
class _Opened:
    """A file that is open, and how many threads read it now."""

    source: SourceImages
    samples: Samples
    users: int = 0


def _named(axes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    """The axes of a file, by the default of two where it names none of its own two."""
    if axes != (UNNAMED, UNNAMED):
        return axes, ()
    text = (
        "the files do not name their two axes, which are read as y, x; dims (--dims) says otherwise"
    )
    return ("y", "x"), (Note("assumed", text),)


def _member(image: ImageDescription) -> _Member:
    return _Member(image.axes, image.shape, image.dtype)


def _text(member: _Member) -> str:
    axes = ", ".join(f"{a} {n}" for a, n in zip(member.axes, member.shape, strict=True))
    return f"{axes} of {np.dtype(member.dtype)}"
