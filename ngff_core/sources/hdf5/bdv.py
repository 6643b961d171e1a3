"""BigDataViewer's HDF5 files: groups ``tTTTTT/sSS/LEVEL/cells``; each setup is an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ngff_core.errors import SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import Reader, check_array
from ngff_core.sources.contract import Note, Samples, SourceIdentity, SourceImages
from ngff_core.sources.hdf5.bdv_xml import BdvXml, SetupImage, describe_setups, numbered, xml_beside
from ngff_core.sources.hdf5.files import (
    H5File,
    StackedDatasets,
    plain_object,
    stored_dataset,
    unit_of,
)

_TIME, _SETUP = "t", "s"

_UNSIGNED = Note(
    "converted", "samples typed int16 are read as uint16, which BigDataViewer means by that type"
)


def is_bdv(file: H5File) -> bool:
    """Whether the root group is of BigDataViewer: times, setups and the setups' resolutions."""
    names = list(file.root)
    setups = numbered(names, _SETUP)
    return bool(numbered(names, _TIME)) and any(
        plain_object(file, f"{name}/resolutions") is not None for name in setups.values()
    )


def open_bdv(file: H5File, xml: BdvXml | None = None) -> SourceImages:
    """Level 0 of each setup; ``xml`` if the caller has it, else the one beside the file."""
    xml = xml or xml_beside(file.store)
    views = _views(file)
    if not views:
        raise SourceFormatError(f"{file.uri}: a BigDataViewer file without images")
    times = tuple(sorted({time for paths in views.values() for time in paths}))
    stacks = [_stack(file, number, views[number], times) for number in sorted(views)]
    images = describe_setups([image for image, _ in stacks], xml)

    def open_image(number: int) -> Samples:
        image, data = stacks[number]
        first = stored_dataset(file, next(iter(data.paths.values())))
        reader = Reader(data, file.uri, image.shape, np.dtype(image.dtype))
        return Samples(reader, (1, *unit_of(first, file.store)))

    return SourceImages(
        identity=SourceIdentity(file.uri, tuple(sorted((*file.pins, *xml.pins)))),
        kind="bdv",
        format="a BigDataViewer HDF5 file",
        images=images,
        open_image=open_image,
        main=0 if len(images) == 1 else None,
        _close=file.close,
    )


def _views(file: H5File) -> dict[int, dict[int, str]]:
    """Path of the group of each setup and time that is there."""
    views: dict[int, dict[int, str]] = {}
    for time, name in numbered(list(file.root), _TIME).items():
        for setup, part in numbered(list(plain_object(file, name)), _SETUP).items():
            views.setdefault(setup, {})[time] = f"/{name}/{part}/0/cells"
    return views


def _stack(
    file: H5File, number: int, paths: Mapping[int, str], times: tuple[int, ...]
) -> tuple[SetupImage, StackedDatasets]:
    first = stored_dataset(file, next(iter(paths.values())))
    stored = np.dtype(first.dtype.str)
    check_array(first.shape, stored, file.uri)
    if first.ndim != 3:
        raise SourceFormatError(f"{file.uri}: {first.name} has {first.ndim} axes instead of 3")
    dtype = stored
    notes: tuple[Note, ...] = ()
    if stored.kind == "i" and stored.itemsize == 2:
        dtype, notes = np.dtype(stored.str.replace("i", "u")), (_UNSIGNED,)
    by_position: dict[Shape, str] = {
        (i,): paths[time] for i, time in enumerate(times) if time in paths
    }
    image = SetupImage(
        number=number,
        times=times,
        missing=tuple(time for time in times if time not in paths),
        shape=(len(times), *first.shape),
        dtype=dtype.str,
        notes=notes,
    )
    return image, StackedDatasets(file, by_position, stored, dtype)
