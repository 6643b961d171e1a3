"""HDF5 files by h5py: opening them, and datasets whose samples lie in the file itself.

A stranger's file may point to others, by links, by virtual datasets and by external storage.
HDF5 follows them without a word, so nothing here opens an object by a path before each link of
that path is known to be a plain one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ngff_core.blocks import Block
from ngff_core.errors import NgffError, SourceFormatError
from ngff_core.geometry import Shape
from ngff_core.sources.base import as_format_error, whole_unit
from ngff_core.sources.contract import Pins
from ngff_core.sources.ranged import ranged_unit
from ngff_core.storage import LocalFiles, ObjectInfo, ObjectStore, is_transient


@dataclass(frozen=True)
class H5File:
    """An opened HDF5 file. h5py's own lock lets one thread at a time into it.

    Attributes
    ----------
    store, info
        The file as it is stored.
    root
        Its root group.
    close
        Closes it.
    """

    store: ObjectStore
    info: ObjectInfo
    root: Any
    close: Callable[[], None]

    @property
    def uri(self) -> str:
        return self.store.uri

    @property
    def pins(self) -> Pins:
        """Size and version of the file, and the library that decodes it."""
        import h5py
        import hdf5plugin

        reader = f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}"
        plugins = f"hdf5plugin {hdf5plugin.version}"
        return (
            ("reader", f"{reader}, {plugins}"),
            ("size", str(self.info.size)),
            ("version", self.info.version),
        )


def open_h5(store: ObjectStore) -> H5File:
    """Open the HDF5 file that ``store`` names, by its path on a local disk.

    Raises `SourceFormatError` for a truncated or damaged file.
    """
    import h5py
    import hdf5plugin  # noqa: F401 - registers its filters

    info = store.info("")
    if info is None:
        raise FileNotFoundError(store.uri)
    with ExitStack() as opened, h5_errors(f"{store.uri}: not a readable HDF5 file"):
        local = isinstance(store, LocalFiles)
        place = store.root if isinstance(store, LocalFiles) else store.open("")
        if not local:
            opened.callback(place.close)  # type: ignore[union-attr]
        file = opened.enter_context(h5py.File(place, "r"))
        return H5File(store, info, file["/"], opened.pop_all().close)


@contextmanager
def h5_errors(what: str) -> Iterator[None]:
    """As `as_format_error`, also for HDF5's own errors, which h5py raises as OSError.

    Those that the file system caused have its number.
    """
    with as_format_error(what):
        try:
            yield
        except OSError as error:
            if isinstance(error, NgffError) or error.errno is not None or is_transient(error):
                raise
            raise SourceFormatError(f"{what}: {error}") from error


def plain_object(file: H5File, path: str) -> Any:
    """The object at a path of plain links; None where there is none.

    Raises `SourceFormatError` where a link on the way leads to another file.
    """
    import h5py

    found = file.root
    for name in path.strip("/").split("/"):
        if not isinstance(found, h5py.Group):
            return None
        link = found.get(name, getlink=True) if name in found.keys() else None  # noqa: SIM118
        if isinstance(link, h5py.ExternalLink):
            raise SourceFormatError(
                f"{file.uri}: {path} lies in another file, {link.filename}, to which "
                "links are not followed; give that file"
            )
        if not isinstance(link, h5py.HardLink):
            return None
        found = found[name]
    return found


def elsewhere(file: H5File, dataset: Any) -> str | None:
    """Where the samples of a dataset lie, if not in the file itself.

    Its shape is not asked for: HDF5 may open other files to tell it.
    """
    if dataset.is_virtual:
        names = {source.file_name for source in dataset.virtual_sources()}
        inside = names <= {"."} and all(
            _is_plain(file, source.dset_name) for source in dataset.virtual_sources()
        )
        return None if inside else f"a virtual dataset of {', '.join(sorted(names))}"
    if dataset.external:
        names = {str(name) for name, *_ in dataset.external}
        return f"stored in {', '.join(sorted(names))}"
    return None


def _is_plain(file: H5File, path: str) -> bool:
    """Whether a virtual dataset's source is a dataset with samples in the file itself."""
    import h5py

    try:
        found = plain_object(file, path)
    except SourceFormatError:
        return False
    return isinstance(found, h5py.Dataset) and not found.is_virtual and not found.external


def check_filters(dataset: Any, uri: str) -> None:
    """Raise `SourceFormatError` for a dataset in a compression that cannot be decoded."""
    import h5py

    properties = dataset.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            text = name.decode("utf-8", "replace") or "without a name"
            raise SourceFormatError(
                f"{uri}: {dataset.name} is compressed with filter {code} ({text}), which "
                "hdf5plugin does not have; h5repack can write it with another one"
            )


def unit_of(dataset: Any, store: ObjectStore) -> Shape:
    """What HDF5 decodes at once: a chunk, or what `ranged_unit` says where there are none."""
    chunks = dataset.chunks
    return whole_unit(chunks) if chunks else ranged_unit(store, dataset.shape)


@dataclass(frozen=True, eq=False)
class H5Array:
    """The samples of one dataset, all of them or those of a smaller shape from its start on."""

    dataset: Any
    uri: str

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        with h5_errors(f"{self.uri}: cannot decode {self.dataset.name}"):
            return np.asarray(self.dataset[key])


@dataclass(frozen=True, eq=False)
class StackedDatasets:
    """Datasets of one kind, stacked along outer axes.

    Each is opened for one read only: an open dataset keeps a cache of chunks, and there may be
    one for each time and channel.

    Attributes
    ----------
    file
        Where they lie.
    paths
        Path of the dataset by its position on the outer axes; one that is missing reads as 0.
    stored
        Type of the samples as they are stored.
    dtype
        Type that they are, of the same size.
    """

    file: H5File
    paths: Mapping[Shape, str]
    stored: np.dtype[Any]
    dtype: np.dtype[Any]

    def __getitem__(self, key: tuple[slice, ...]) -> Block:
        outer = len(next(iter(self.paths)))
        result = np.zeros(tuple(s.stop - s.start for s in key), self.dtype)
        for position in itertools.product(*(range(s.start, s.stop) for s in key[:outer])):
            path = self.paths.get(position)
            if path is not None:
                index = tuple(i - s.start for i, s in zip(position, key, strict=False))
                result[index] = self._part(path, key[outer:])
        return result

    def _part(self, path: str, key: tuple[slice, ...]) -> Block:
        with h5_errors(f"{self.file.uri}: cannot decode {path}"):
            dataset = stored_dataset(self.file, path)
            fits = all(s.stop <= n for s, n in zip(key, dataset.shape, strict=True))
            if dataset.dtype != self.stored or not fits:
                raise SourceFormatError(
                    f"{self.file.uri}: {path} ({dataset.dtype}, {dataset.shape}) is not like the "
                    "first dataset of its image; choose its path with series (--series)"
                )
            return np.asarray(dataset[key]).view(self.dtype)


def stored_dataset(file: H5File, path: str) -> Any:
    """The dataset at a path of plain links, whose samples lie in the file itself."""
    import h5py

    found = plain_object(file, path)
    if not isinstance(found, h5py.Dataset):
        raise SourceFormatError(f"{file.uri}: there is no dataset {path}")
    away = elsewhere(file, found)
    if away is not None:
        raise SourceFormatError(
            f"{file.uri}: {path} is {away}; samples in other files are not read"
        )
    check_filters(found, file.uri)
    return found


def attribute_values(holder: Any, name: str) -> list[Any]:
    """The values of an attribute; none if it is not there, or of a type that numpy has not."""
    try:
        value = holder.attrs.get(name)
    except TypeError:
        return []
    return [] if value is None else list(np.ravel(np.asarray(value)).tolist())


def as_text(value: Any) -> str:
    """The text in a value of an attribute; empty for what is no text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
